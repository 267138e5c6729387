"""What a person at the bench asks of the servo bus: who is there, is all well, let go."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
import threading
import time

import numpy as np
from stable_crl_ros.robot.arbiter import ArmMode
from stable_crl_ros.robot.arm import ArmError
from stable_crl_ros.robot.controller import ArmController, ControlSettings
from stable_crl_ros.robot.dynamixel import DynamixelArm
from stable_crl_ros.robot.dynamixel_bus import ServoBus
from stable_crl_ros.robot.dynamixel_cycle import describe
from stable_crl_ros.robot.dynamixel_port import find_port
from stable_crl_ros.robot.dynamixel_setup import (
    check_models,
    differences,
    PAIR_TOLERANCE,
    scan,
    status,
    torque_off,
    WrongArmError,
)
from stable_crl_ros.robot.dynamixel_table import (
    error_names,
    JOINTS,
    MODEL_NAMES,
    Register,
    SERVOS,
    SHADOWS,
    to_radians,
)
from stable_crl_ros.robot.kinematics import SLEEP
from stable_crl_ros.robot.limits import ArmLimits
from stable_crl_ros.robot.servo import Servo

BAUD_RATES = (1_000_000, 57_600, 115_200, 2_000_000, 3_000_000, 4_000_000)  # 57600: a new servo
REST_TOLERANCE = 0.2  # rad, 11 deg: the rest leaves some play
_CYCLE_S, _SETTLE_S = 0.02, 0.5


@dataclass
class Finding:
    """
    What was found on a bus.

    :param port: which.
    :param baud_rate: at which servos answered, bit/s.
    :param servos: id -> what it is.
    :param problems: one sentence each; empty when all is well.
    :param values: measured things, by name.
    """

    port: str
    baud_rate: int
    servos: dict[int, str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    values: dict[str, str] = field(default_factory=dict)


@contextmanager
def opened(port: str, baud_rate: int) -> Iterator[ServoBus]:
    """
    Open the bus of an arm, whatever is on it.

    :raises PortError: when there is none, or another process holds it.
    """
    bus = ServoBus(find_port(port), baud_rate)
    bus.open()
    try:
        yield bus
    finally:
        bus.close()


def probe(port: str, baud_rate: int) -> Finding:
    """Look for servos, at the other usual rates too when none answers; change nothing."""
    for rate in dict.fromkeys((baud_rate, *BAUD_RATES)):
        with opened(port, rate) as bus:
            models = scan(bus)
            finding = Finding(bus.port, rate, {
                number: f'{_joint(number)}: {MODEL_NAMES.get(model, "unknown")} (model {model}), '
                        f'firmware {bus.get(number, Register.FIRMWARE_VERSION)}'
                for number, model in models.items()})
            if models:
                break
    if models and rate != baud_rate:
        finding.problems.append(f'the servos answer at {rate} bit/s, not {baud_rate}: set Baud '
                                'Rate (8) to 3 with DYNAMIXEL Wizard 2.0')
    try:
        check_models(models, finding.port)
    except WrongArmError as error:
        finding.problems.append(str(error))
    return finding


def _joint(number: int) -> str:
    return SERVOS[number].name if number in SERVOS else '?'


def check(bus: ServoBus) -> Finding:
    """Compare arm and configuration with what is expected, and ask for errors."""
    check_models(models := scan(bus), bus.port)
    finding = Finding(bus.port, bus.baud_rate,
                      {number: f'{SERVOS[number].name}: {MODEL_NAMES[model]}'
                       for number, model in models.items()})
    finding.problems += map(str, differences(bus))
    for number, servo in SERVOS.items():
        values = status(bus, number)
        finding.values |= describe(servo, values)
        if bits := values[Register.HARDWARE_ERROR_STATUS]:
            finding.problems.append(f'{servo} reports {error_names(bits)}; the node mends it with '
                                    '~/clear_faults')
    return finding


def calibrate(bus: ServoBus, write: bool) -> Finding:
    """
    Check the horns of an arm that lies on its rest, and measure its shadow servos.

    The encoders are absolute and the horns have one place, so a joint needs no offset of its
    own: one that is off is mounted wrongly, and hiding that would move all limits with it. Only
    the second motor of a joint gets a Homing Offset, or the two would work against each other.

    :param write: set the shadows' offsets; else only tell.
    :raises ArmError: while torque is on.
    """
    check_models(scan(bus), bus.port)
    if held := [str(servo) for number, servo in SERVOS.items()
                if bus.get(number, Register.TORQUE_ENABLE)]:
        raise ArmError(f'torque is on in {", ".join(held)}: lay the arm on its rest (`stable-crl '
                       'arm sleep`), then `stable-crl arm torque-off`')
    finding = Finding(bus.port, bus.baud_rate)
    for number, angle in zip(JOINTS, SLEEP, strict=True):
        ticks = bus.get(number, Register.PRESENT_POSITION)
        apart = to_radians(ticks) - angle
        finding.values[SERVOS[number].name] = f'{np.degrees(apart):+.1f} deg from its rest'
        if abs(apart) > REST_TOLERANCE:
            finding.problems.append(
                f'{SERVOS[number]} is {np.degrees(apart):+.1f} deg from the sleep pose: lay the '
                'arm onto its rest; if it is there, the horn is mounted wrongly: turn it back')
    for leader, shadow in SHADOWS.items():
        _align(bus, leader, shadow, write, finding)
    return finding


def _align(bus: ServoBus, leader: int, shadow: int, write: bool, finding: Finding) -> None:
    def apart() -> int:
        return (bus.get(leader, Register.PRESENT_POSITION)
                - bus.get(shadow, Register.PRESENT_POSITION))

    before, offset = apart(), bus.get(shadow, Register.HOMING_OFFSET)
    # Drivers in the field disagree on the offset's sign in reverse mode: what helps is right.
    for sign in ((1, -1) if write and before else ()):
        bus.set(shadow, Register.HOMING_OFFSET, offset + sign * before)
        if abs(apart()) <= 2:
            break
    else:
        if write and before:
            bus.set(shadow, Register.HOMING_OFFSET, offset)
    after, name = apart(), SERVOS[shadow].name
    finding.values[name] = (f'{after:+d} ticks from its leader, Homing Offset (20) '
                            f'{bus.get(shadow, Register.HOMING_OFFSET)}')
    if abs(after) > PAIR_TOLERANCE:
        finding.problems.append(
            f'{SERVOS[leader]} and {SERVOS[shadow]} differ by {abs(after)} ticks: '
            + ('a horn is mounted wrongly' if write else '`--write` sets the Homing Offset'))


def go_to(arm: DynamixelArm, joints: np.ndarray, speed: float,
          limits: ArmLimits) -> float:
    """
    Move a connected arm slowly to a pose, along the path the arm node would take.

    :param joints: (6,) rad.
    :param speed: of the fastest joint, rad/s.
    :param limits: what the way must keep clear of.
    :returns: largest distance of a joint from its goal at the end, rad.
    :raises ArmError: when the arm has a fault, or one latches on the way; it holds then.
    """
    controller = ArmController(limits, ControlSettings(
        servo_period_s=_CYCLE_S, homing_speed=speed))
    servo = Servo(arm, controller, threading.Lock())
    servo.begin()
    controller.move_to(joints, time.monotonic())
    settled_at = due = time.monotonic()
    while controller.mode is ArmMode.RESETTING or time.monotonic() < settled_at:
        servo.cycle()
        if controller.mode is ArmMode.FAULT:
            raise ArmError('; '.join(servo.faults) or 'too many servo cycles were lost')
        if controller.mode is ArmMode.RESETTING:
            settled_at = time.monotonic() + _SETTLE_S
        due += _CYCLE_S
        time.sleep(max(0.0, due - time.monotonic()))
    if controller.mode is ArmMode.PAUSED:
        raise ArmError(f'{controller.arbiter.reason} The arm holds where it is')
    return float(np.abs(controller.state.joint_positions - joints).max())


def let_go(bus: ServoBus) -> list[str]:
    """Switch torque off, of whatever servos answer; return what failed."""
    models = scan(bus, SERVOS)
    return torque_off(bus, models) + [f'{servo} does not answer' for number, servo
                                      in SERVOS.items() if number not in models]
