"""Start an emulated bus: here in a thread, or as a process that can be killed."""

from pathlib import Path
import shutil
import socket
import subprocess
import sys
import tempfile

from stable_crl_ros.servo_bus.arms import arm_servos, BusError, IdealArm, ServoArm
from stable_crl_ros.servo_bus.bus import Bus
from stable_crl_ros.servo_bus.control import BusHandle, BusRequests
from stable_crl_ros.servo_bus.line import Line, LineThread
from stable_crl_ros.servo_bus.shared import share

_START_S = 20.0


class EmulatedBus(BusHandle):
    """
    The servos of an arm on a pseudo-terminal, served by a thread of this process.

    :param arm: what they turn; None for `IdealArm` in `pose`.
    :param model: 'wx250s' or 'wx250'.
    :param pose: joint name -> rad at the beginning, of the ideal arm.
    :param link: path of a symbolic link that leads to the port; '' for none.
    :param control: path of a socket for requests of other processes; '' for none.
    :param timed: let answers take their time on the wire.
    :param seed: of faults left to chance.
    :raises BusError: for a model or a joint there is not.
    """

    def __init__(self, arm: ServoArm | None = None, *, model: str = 'wx250s',
                 pose: dict[str, float] | None = None, link: str = '', control: str = '',
                 timed: bool = True, seed: int = 0) -> None:
        specs = arm_servos(model)
        bus = Bus(specs, arm or IdealArm(specs, pose or {}), timed=timed, seed=seed)
        line = Line(bus, link)
        self._control = Path(control) if control else None
        server = None
        if self._control is not None:
            server = socket.socket(socket.AF_UNIX)
            server.bind(control)
            server.listen()
        inside, outside = socket.socketpair()
        self.bus = bus
        self._thread = LineThread(line, server, BusRequests(bus, line).serve, [inside])
        super().__init__(outside)

    def __enter__(self) -> 'EmulatedBus':
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def wait(self) -> None:
        """Wait until it is closed."""
        self._thread.wait()

    def close(self) -> None:
        """Stop serving; the port is gone. Calling it twice is harmless."""
        self._thread.close()
        self.disconnect()
        if self._control is not None:
            self._control.unlink(missing_ok=True)


class BusProcess(BusHandle):
    """
    An emulated bus in a process of its own; see `start`.

    :param process: which prints the port when it serves.
    :param control: its socket, in a folder of its own.
    """

    def __init__(self, process: subprocess.Popen, control: Path) -> None:
        self.process, self._folder = process, control.parent
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(_START_S)
        try:
            if not process.stdout.readline():  # the port, once it serves
                raise ConnectionError
            connection.connect(str(control))
        except OSError:
            connection.close()
            process.stdin.close()  # its end, if it lives
            shutil.rmtree(self._folder, ignore_errors=True)
            raise BusError(
                f'the emulated bus did not start; it returned {process.wait()}') from None
        super().__init__(connection)

    def __enter__(self) -> 'BusProcess':
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the process. Calling it twice is harmless."""
        self.disconnect()
        self.process.terminate()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()
        shutil.rmtree(self._folder, ignore_errors=True)


def start(arm: ServoArm | None = None, *, model: str = 'wx250s',
          pose: dict[str, float] | None = None, link: str = '', timed: bool = True,
          seed: int = 0) -> BusProcess:
    """
    Start an emulated bus as a process and wait until it serves; it ends with this process.

    :param arm: of this process, which the servos turn; None for `IdealArm` in `pose`.
    :param pose: joint name -> rad at the beginning.
    :raises BusError: when it does not start; it says why on stderr.
    """
    control = Path(tempfile.mkdtemp(prefix='servo_bus_')) / 'control'
    options = ['--model', model, '--control', str(control), '--seed', str(seed), '--until-eof']
    if arm is not None:
        shared = control.with_name('arm')
        follow = share(arm, arm_servos(model), shared)
        options += ['--shared-arm', str(shared)]
    options += ['--pose', ','.join(f'{joint}={angle}' for joint, angle in (pose or {}).items())]
    options += ['--link', link] if link else []
    options += [] if timed else ['--untimed']
    process = subprocess.Popen([sys.executable, '-m', 'stable_crl_ros.servo_bus', *options],
                               stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                               start_new_session=True)  # Ctrl-C is for its owner, which ends it
    bus = BusProcess(process, control)
    if arm is not None:
        follow()
    return bus
