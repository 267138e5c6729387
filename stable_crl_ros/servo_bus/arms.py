"""Which servos the WidowX arms have, and an arm without physics that they turn."""

from collections.abc import Callable
import math
from typing import Protocol

from stable_crl_ros.robot.gripper import horn_angle
from stable_crl_ros.robot.kinematics import JOINT_NAMES, SLEEP
from stable_crl_ros.servo_bus.servo import Drive, Feel, ServoSpec
from stable_crl_ros.servo_bus.table import MODELS, REVERSE, TIME_PROFILE

GRIPPER = 'gripper'
_TIME_CONSTANT = 0.015  # s, of a motor's position control
_SLICE = 0.008  # s, integrated at once
_LONGEST = 2.0  # s of motion worked out when nobody has asked for longer
_REST = 1e-6  # rad
_FALL = 1.0  # rad/s, of a joint without torque that gravity turns
_STOPS = {'shoulder': 1.98, 'elbow': 1.60, 'wrist_angle': 2.14}  # rad, where a fall ends
_FOLDED = {'shoulder': -1.80, 'elbow': 1.55, 'wrist_angle': 0.8}  # leaning back, on its rest


class BusError(ValueError):
    """The emulated bus cannot be had like that."""


def _servo(number: int, model: str, joint: str, ticks: tuple[int, int], reverse: bool = False,
           **settings: int) -> ServoSpec:
    low, high = ticks
    return ServoSpec(number, MODELS[model], joint, reverse, {
        'Baud_Rate': 3, 'Return_Delay_Time': 0, 'Velocity_Limit': 131,
        'Drive_Mode': TIME_PROFILE | (REVERSE if reverse else 0),
        'Min_Position_Limit': low, 'Max_Position_Limit': high, **settings})


_BASE = (
    _servo(1, 'XM430-W350', 'waist', (0, 4095)),
    _servo(2, 'XM430-W350', 'shoulder', (819, 3345)),
    _servo(3, 'XM430-W350', 'shoulder', (819, 3345), reverse=True, Secondary_ID=2),
    _servo(4, 'XM430-W350', 'elbow', (648, 3094)),
    _servo(5, 'XM430-W350', 'elbow', (648, 3094), reverse=True, Secondary_ID=4),
)
ARMS = {
    'wx250s': (
        *_BASE,
        _servo(6, 'XM430-W350', 'forearm_roll', (0, 4095)),
        _servo(7, 'XM430-W350', 'wrist_angle', (910, 3447), reverse=True),
        _servo(8, 'XL430-W250', 'wrist_rotate', (0, 4095)),
        _servo(9, 'XL430-W250', GRIPPER, (0, 4095)),
    ),
    'wx250': (
        *_BASE,
        _servo(6, 'XM430-W350', 'wrist_angle', (910, 3447), reverse=True),
        _servo(7, 'XL430-W250', 'wrist_rotate', (0, 4095)),
        _servo(8, 'XL430-W250', GRIPPER, (0, 4095)),
    ),
}


def arm_servos(model: str) -> tuple[ServoSpec, ...]:
    """
    Return the servos of an arm, set up as its maker and this package want them.

    :raises BusError: for a model there is none of.
    """
    if model not in ARMS:
        raise BusError(f'no arm named {model!r}; there are {", ".join(ARMS)}')
    return ARMS[model]


class ServoArm(Protocol):
    """
    What the servos turn.

    :param period_s: how often it wants to be asked even when the host is silent, s; None for
        never.
    """

    period_s: float | None

    def attach(self, drives: Callable[[float], dict[int, Drive]]) -> None:
        """Take the function that says what the motors are told at a monotonic time."""

    def feel(self, now: float) -> dict[str, Feel]:
        """Return angle and velocity of every joint, by name, at a monotonic time."""

    def jam(self, joint: str, jammed: bool) -> None:
        """Block a joint, or free it."""


class IdealArm:
    """
    Joints that follow their motors with a short lag and finite speed, and fall without torque.

    Two motors on one joint share it. Time is worked out when somebody asks. Until a joint first
    has torque, it stays where it was put.

    :param servos: what turns the joints.
    :param pose: joint name -> rad at the beginning; what is missing stands as at `SLEEP`, open.
    """

    period_s = None

    def __init__(self, servos: tuple[ServoSpec, ...], pose: dict[str, float]) -> None:
        rest = {**dict(zip(JOINT_NAMES, SLEEP.tolist(), strict=True)), GRIPPER: horn_angle(1.0)}
        self._motors: dict[str, list[int]] = {}
        for spec in servos:
            self._motors.setdefault(spec.joint, []).append(spec.servo)
        if unknown := pose.keys() - self._motors.keys():
            raise BusError(f'no joint {sorted(unknown)}; there are {", ".join(self._motors)}')
        self._speed = {spec.joint: spec.model.speed for spec in servos}
        self._angle = {joint: float(pose.get(joint, rest.get(joint, 0.0)))
                       for joint in self._motors}
        self._supported = set(self._motors)  # somebody holds each until it first has torque
        self._velocity = dict.fromkeys(self._motors, 0.0)
        self._jammed: set[str] = set()
        self._drives: Callable[[float], dict[int, Drive]] | None = None
        self._now = -math.inf

    def attach(self, drives: Callable[[float], dict[int, Drive]]) -> None:
        """Take the function that says what the motors are told at a monotonic time."""
        self._drives = drives

    def jam(self, joint: str, jammed: bool) -> None:
        """Block a joint, or free it."""
        (self._jammed.add if jammed else self._jammed.discard)(joint)

    def feel(self, now: float) -> dict[str, Feel]:
        """Return angle and velocity of every joint, by name, at a monotonic time."""
        if self._drives is not None:
            begin = max(self._now, now - _LONGEST)
            slices = math.ceil((now - begin) / _SLICE)
            for index in range(slices):
                step = (now - begin) / slices
                drives = self._drives(begin + (index + 1) * step)
                # What stands, and is told the same at the end, has stood all the time.
                if not self._advance(drives, step) and drives == self._drives(now):
                    break
        self._now = max(self._now, now)
        return {joint: Feel(angle, self._velocity[joint]) for joint, angle in self._angle.items()}

    def _advance(self, drives: dict[int, Drive], seconds: float) -> bool:
        """Let time pass; False when nothing moved."""
        reach = 1.0 - math.exp(-seconds / _TIME_CONSTANT)
        for joint, motors in self._motors.items():
            pulls = [drives[motor] for motor in motors if drives[motor].torque]
            weight = sum(pull.strength for pull in pulls)
            at = self._angle[joint]
            if pulls:
                self._supported.discard(joint)
            if joint in self._jammed:
                move = 0.0
            elif weight > 0.0:
                goal = sum(pull.angle * pull.strength for pull in pulls) / weight
                most = self._speed[joint] * seconds
                move = min(max((goal - at) * reach, -most), most)
            else:
                move = self._fall(joint, at, seconds)
            self._angle[joint] = at + move
            self._velocity[joint] = move / seconds if abs(move) > _REST else 0.0
        return any(self._velocity.values())

    def _fall(self, joint: str, at: float, seconds: float) -> float:
        ends = _FOLDED if self._angle.get('shoulder', 0.0) < 0.0 else _STOPS
        if joint not in ends or joint in self._supported:
            return 0.0
        return min(max(ends[joint] - at, -_FALL * seconds), _FALL * seconds)
