"""An arm in another process than its servos: drives and measurements in shared memory."""

from collections.abc import Callable
import mmap
from pathlib import Path
import struct

from stable_crl_ros.servo_bus.arms import ServoArm
from stable_crl_ros.servo_bus.servo import Drive, Feel, ServoSpec

PERIOD_S = 0.01  # between two looks at each other
_DRIVE = struct.Struct('<3d')  # torque, angle, strength
_JOINT = struct.Struct('<4d')  # angle, velocity, load, jammed


class _Memory:
    """One file of numbers; each is written whole, and the next look mends what was mixed."""

    def __init__(self, servos: tuple[ServoSpec, ...], path: Path) -> None:
        self._servos = [spec.servo for spec in servos]
        self._joints = list(dict.fromkeys(spec.joint for spec in servos))
        self._begin = len(servos) * _DRIVE.size
        size = self._begin + len(self._joints) * _JOINT.size
        with path.open('r+b' if path.exists() else 'w+b') as file:
            file.truncate(size)
            self._memory = mmap.mmap(file.fileno(), size)

    def drives(self) -> dict[int, Drive]:
        """Return what the motors are told."""
        values = _DRIVE.iter_unpack(self._memory[:self._begin])
        return {servo: Drive(bool(torque), angle, strength) for servo, (torque, angle, strength)
                in zip(self._servos, values, strict=True)}

    def tell(self, drives: dict[int, Drive]) -> None:
        """Write what the motors are told."""
        for index, servo in enumerate(self._servos):
            _DRIVE.pack_into(self._memory, index * _DRIVE.size, *drives[servo])

    def felt(self) -> dict[str, tuple[Feel, bool]]:
        """Return what the servos measure, and whether the joint is to be blocked."""
        values = _JOINT.iter_unpack(self._memory[self._begin:])
        return {joint: (Feel(*feel), bool(jammed)) for joint, (*feel, jammed)
                in zip(self._joints, values, strict=True)}

    def measure(self, felt: dict[str, Feel]) -> None:
        """Write what the servos measure."""
        for index, joint in enumerate(self._joints):
            feel = felt[joint]
            struct.pack_into('<3d', self._memory, self._begin + index * _JOINT.size,
                             feel.angle, feel.velocity, feel.load or 0.0)

    def jam(self, joint: str, jammed: bool) -> None:
        """Write that a joint is to be blocked, or freed."""
        at = self._begin + self._joints.index(joint) * _JOINT.size + struct.calcsize('<3d')
        struct.pack_into('<d', self._memory, at, float(jammed))


class RemoteArm:
    """
    `ServoArm` on the servos' side.

    :param path: of the file that the arm's side has made.
    """

    period_s = PERIOD_S

    def __init__(self, servos: tuple[ServoSpec, ...], path: str) -> None:
        self._memory = _Memory(servos, Path(path))
        self._drives: Callable[[float], dict[int, Drive]] | None = None

    def attach(self, drives: Callable[[float], dict[int, Drive]]) -> None:
        """Take the function that says what the motors are told at a monotonic time."""
        self._drives = drives

    def feel(self, now: float) -> dict[str, Feel]:
        """Tell what the motors are told now, and return what the servos measure."""
        if self._drives is not None:
            self._memory.tell(self._drives(now))
        return {joint: feel for joint, (feel, _) in self._memory.felt().items()}

    def jam(self, joint: str, jammed: bool) -> None:
        """Block a joint, or free it."""
        self._memory.jam(joint, jammed)


def share(arm: ServoArm, servos: tuple[ServoSpec, ...], path: Path) -> Callable[[], None]:
    """
    Make the file for an arm of this process.

    :returns: what lets the arm follow the servos, once they are there.
    """
    memory = _Memory(servos, path)
    memory.measure(arm.feel(0.0))

    def follow(now: float) -> dict[int, Drive]:
        felt = arm.feel(now)
        memory.measure(felt)
        for joint, (_, jammed) in memory.felt().items():
            arm.jam(joint, jammed)
        return memory.drives()
    return lambda: arm.attach(follow)
