"""The nine servos of a WidowX 250s: registers, what they should hold, and what ticks mean."""

from dataclasses import dataclass
import enum
import functools
import math
from typing import NamedTuple

from stable_crl_ros.robot.kinematics import JOINT_NAMES

# Units of the X series, ROBOTIS e-manual, pages XM430-W350 and XL430-W250.
TICKS_PER_TURN, CENTRE = 4096, 2048
RADIANS_PER_TICK = math.tau / TICKS_PER_TURN
VELOCITY_UNIT = 0.229 * math.tau / 60.0  # rad/s
CURRENT_UNIT = 2.69  # mA
LOAD_UNIT = 0.1  # % of the most the motor gives; servos without a current sensor
VOLTAGE_UNIT = 0.1  # V
WATCHDOG_UNIT = 0.02  # s
TICK_PERIOD = 32_768  # ms, Realtime Tick starts again

EEPROM_END = 64  # locked while torque is on, kept without power
WATCHDOG_TRIPPED = 255  # -1: the goal registers take nothing until 0 is written
FIRST_FIRMWARE = 42  # time-based profiles; the bus watchdog came with 38
XM430, XL430 = 1020, 1060  # Model Number
MODEL_NAMES = {XM430: 'XM430-W350', XL430: 'XL430-W250', 1070: 'XC430-W150', 1120: 'XM540-W270',
               1190: 'XL330-M077', 1200: 'XL330-M288'}
ERROR_NAMES = {0x01: 'input voltage', 0x04: 'overheating', 0x08: 'motor encoder',
               0x10: 'electrical shock', 0x20: 'overload'}
_SPELLED = {'ID': 'ID', 'PWM': 'PWM'}


class Place(NamedTuple):
    """Where a register is: first address, bytes (low byte first), whether it has a sign."""

    address: int
    size: int
    signed: bool = False


class Register(Place, enum.Enum):
    """The registers used, named as in the e-manual."""

    MODEL_NUMBER = Place(0, 2)
    FIRMWARE_VERSION = Place(6, 1)
    BAUD_RATE = Place(8, 1)
    RETURN_DELAY_TIME = Place(9, 1)
    DRIVE_MODE = Place(10, 1)
    OPERATING_MODE = Place(11, 1)
    SECONDARY_ID = Place(12, 1)
    HOMING_OFFSET = Place(20, 4, True)
    TEMPERATURE_LIMIT = Place(31, 1)
    MAX_VOLTAGE_LIMIT = Place(32, 2)
    MIN_VOLTAGE_LIMIT = Place(34, 2)
    PWM_LIMIT = Place(36, 2)
    CURRENT_LIMIT = Place(38, 2)
    VELOCITY_LIMIT = Place(44, 4)
    MAX_POSITION_LIMIT = Place(48, 4)
    MIN_POSITION_LIMIT = Place(52, 4)
    STARTUP_CONFIGURATION = Place(60, 1)
    SHUTDOWN = Place(63, 1)
    TORQUE_ENABLE = Place(64, 1)
    STATUS_RETURN_LEVEL = Place(68, 1)
    HARDWARE_ERROR_STATUS = Place(70, 1)
    VELOCITY_I_GAIN = Place(76, 2)
    VELOCITY_P_GAIN = Place(78, 2)
    POSITION_D_GAIN = Place(80, 2)
    POSITION_I_GAIN = Place(82, 2)
    POSITION_P_GAIN = Place(84, 2)
    FEEDFORWARD_2ND_GAIN = Place(88, 2)
    FEEDFORWARD_1ST_GAIN = Place(90, 2)
    BUS_WATCHDOG = Place(98, 1)
    GOAL_PWM = Place(100, 2, True)
    PROFILE_ACCELERATION = Place(108, 4)
    PROFILE_VELOCITY = Place(112, 4)
    GOAL_POSITION = Place(116, 4, True)
    REALTIME_TICK = Place(120, 2)
    PRESENT_CURRENT = Place(126, 2, True)  # the load on servos without a current sensor
    PRESENT_VELOCITY = Place(128, 4, True)
    PRESENT_POSITION = Place(132, 4, True)
    PRESENT_INPUT_VOLTAGE = Place(144, 2)
    PRESENT_TEMPERATURE = Place(146, 1)

    @property
    def label(self) -> str:
        """The e-manual's name and address, such as `Drive Mode (10)`."""
        words = [_SPELLED.get(word, word.capitalize()) for word in self.name.split('_')]
        return f'{" ".join(words)} ({self.address})'

    @property
    def is_eeprom(self) -> bool:
        """Say whether it is kept without power, and locked while torque is on."""
        return self.address < EEPROM_END


class Block(NamedTuple):
    """Neighbouring registers that are read at once."""

    address: int
    size: int

    def decode(self, data: bytes) -> dict[Register, int]:
        """Return the values of all registers inside."""
        return {register: int.from_bytes(data[start:end], 'little', signed=register.signed)
                for register, start, end in _layout(self)}


@functools.cache
def _layout(block: Block) -> list[tuple[Register, int, int]]:
    first, last = block.address, block.address + block.size
    return [(register, register.address - first, register.address - first + register.size)
            for register in Register
            if register.address >= first and register.address + register.size <= last]


CONFIGURATION = Block(0, EEPROM_END)
# From Realtime Tick on: the tick proves that a reading is new, and betrays a reboot at once.
STATE = Block(120, 16)
STATUS = Block(64, 83)  # torque, error, gains, watchdog, goals, voltage, temperature


@dataclass(frozen=True)
class Servo:
    """
    One servo of the arm, as built by Interbotix (`interbotix_xsarm_control/config/wx250s.yaml`).

    :param number: its id on the bus.
    :param name: the joint it moves, with `_shadow` for the second motor of a joint.
    :param model: Model Number.
    :param low: smallest goal, ticks.
    :param high: largest goal, ticks.
    :param reverse: whether it is mounted mirrored.
    :param leader: id of the servo that it copies, or 0.
    """

    number: int
    name: str
    model: int = XM430
    low: int = 0
    high: int = 4095
    reverse: bool = False
    leader: int = 0

    def __str__(self) -> str:
        return f'{self.name} (servo {self.number})'


SERVOS = {servo.number: servo for servo in (
    Servo(1, 'waist'),
    Servo(2, 'shoulder', low=819, high=3345),
    Servo(3, 'shoulder_shadow', low=819, high=3345, reverse=True, leader=2),
    Servo(4, 'elbow', low=648, high=3094),
    Servo(5, 'elbow_shadow', low=648, high=3094, reverse=True, leader=4),
    Servo(6, 'forearm_roll'),
    Servo(7, 'wrist_angle', low=910, high=3447, reverse=True),
    Servo(8, 'wrist_rotate', XL430),
    Servo(9, 'gripper', XL430),
)}
GRIPPER = 9
JOINTS = tuple(next(n for n, servo in SERVOS.items() if servo.name == name)
               for name in JOINT_NAMES)
SHADOWS = {servo.leader: number for number, servo in SERVOS.items() if servo.leader}
LEADERS = tuple(number for number, servo in SERVOS.items() if not servo.leader)


class Expected(NamedTuple):
    """What a register should hold: between `low` and `high`; `value` is written otherwise."""

    value: int
    low: int
    high: int


_GAINS = {  # initial values in the e-manual; Interbotix leaves them
    XM430: {Register.VELOCITY_I_GAIN: 1920, Register.VELOCITY_P_GAIN: 100,
            Register.POSITION_D_GAIN: 0, Register.POSITION_P_GAIN: 800},
    XL430: {Register.VELOCITY_I_GAIN: 1000, Register.VELOCITY_P_GAIN: 100,
            Register.POSITION_D_GAIN: 4000, Register.POSITION_P_GAIN: 640},
}
_TIME_PROFILE, _POSITION_MODE, _NO_SECOND_ID = 0x04, 3, 255
_SHUTDOWN = 0x34  # electrical shock, overload, overheating: the e-manual's initial value
_HOMING_RANGE = 1024  # ticks; more is ignored in position mode


def expected(servo: Servo) -> dict[Register, Expected]:
    """
    Return what the registers of a servo should hold.

    Interbotix' table, position mode and time-based profiles for all, and the e-manual's initial
    values for the rest. A shadow's Homing Offset is the difference of its horn from its
    leader's, which `stable-crl arm calibrate` and Interbotix' driver measure; any other servo
    has none, as firmware before 2023 moves on after a watchdog stop with one (DynamixelSDK #584).
    """
    homing = _HOMING_RANGE if servo.leader else 0
    heat = 80 if servo.model == XM430 else 72  # degC
    ranges = {Register.HOMING_OFFSET: Expected(0, -homing, homing),
              Register.SECONDARY_ID: Expected(servo.leader or _NO_SECOND_ID,
                                              servo.leader or 253, servo.leader or 255),
              Register.TEMPERATURE_LIMIT: Expected(heat, 50, heat)}
    if servo.model == XM430:
        ranges[Register.CURRENT_LIMIT] = Expected(1193, 600, 1193)
    exact = {
        Register.BAUD_RATE: 3, Register.RETURN_DELAY_TIME: 0,
        Register.DRIVE_MODE: _TIME_PROFILE | servo.reverse,
        Register.OPERATING_MODE: _POSITION_MODE, Register.PWM_LIMIT: 885,
        Register.VELOCITY_LIMIT: 131, Register.MAX_POSITION_LIMIT: servo.high,
        Register.MIN_POSITION_LIMIT: servo.low, Register.STARTUP_CONFIGURATION: 0,
        Register.SHUTDOWN: _SHUTDOWN, Register.STATUS_RETURN_LEVEL: 2,
        **_GAINS[servo.model], Register.POSITION_I_GAIN: 0,
        Register.FEEDFORWARD_1ST_GAIN: 0, Register.FEEDFORWARD_2ND_GAIN: 0}
    return ranges | {register: Expected(value, value, value)
                     for register, value in exact.items()}


def to_radians(ticks: int) -> float:
    """Turn a position into an angle; drive modes have made all signs the joint's own."""
    return (ticks - CENTRE) * RADIANS_PER_TICK


def to_ticks(angle: float) -> int:
    """Turn an angle (rad) into the nearest position."""
    return round(angle / RADIANS_PER_TICK) + CENTRE


def profile_times(cycle_s: float) -> tuple[int, int]:
    """
    Return a time-based profile with which goals are followed: a late one finds the arm moving.

    :param cycle_s: time between two goals, s.
    :returns: acceleration time and total time of every move, ms.
    """
    total = max(2, round(2000 * cycle_s))
    return total // 4, total


def effort(servo: Servo, raw: int) -> float:
    """Return mA for an XM430, % of its greatest load for an XL430, which cannot measure it."""
    return raw * (CURRENT_UNIT if servo.model == XM430 else LOAD_UNIT)


def error_names(bits: int) -> str:
    """Name the bits of Hardware Error Status."""
    known = [name for bit, name in ERROR_NAMES.items() if bits & bit]
    unknown = bits & ~sum(ERROR_NAMES)
    return ' and '.join(known + ([f'unknown bits 0x{unknown:02x}'] if unknown else []))
