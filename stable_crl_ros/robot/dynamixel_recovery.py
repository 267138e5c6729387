"""Guided restart of servos in fault, one after the other, without letting a joint fall."""

import contextlib
import time

from stable_crl_ros.robot.arm import ArmError
from stable_crl_ros.robot.dynamixel_bus import ServoBus, SilentError
from stable_crl_ros.robot.dynamixel_setup import status
from stable_crl_ros.robot.dynamixel_table import (
    CONFIGURATION,
    error_names,
    GRIPPER,
    Register,
    Servo,
    SERVOS,
    SHADOWS,
    to_radians,
    VOLTAGE_UNIT,
)
from stable_crl_ros.robot.kinematics import JOINT_NAMES, SLEEP

REBOOT_S = 3.0  # until a servo must be back; they take a fraction of a second
_VOLTAGE_BIT, _HEAT_BIT = 0x01, 0x04
_COOL = 10  # degC below the limit before a servo is started again
_AT_REST = 0.25  # rad from the sleep pose: the arm lies on its rest
_CARRYING = ('shoulder', 'elbow', 'wrist_angle')


class UnsupportedError(ArmError):
    """A restart would let the arm fall; somebody must hold it first."""


def restart_faulty(bus: ServoBus, supported: bool) -> list[str]:
    """
    Restart every servo that reports a hardware error.

    :param supported: whether a person says the arm is held.
    :returns: what was done, one phrase per servo.
    :raises UnsupportedError: when that would take away the torque that holds a joint.
    :raises ArmError: when the cause lasts, saying what to do.
    """
    done = []
    for number, servo in SERVOS.items():
        values = status(bus, number)
        bits = values[Register.HARDWARE_ERROR_STATUS]
        if not bits:
            continue
        _check_cause(bus, servo, values)
        if not supported and _would_fall(bus, number) and not at_rest(bus):
            raise UnsupportedError(
                f'{servo} reports {error_names(bits)}; restarting it takes the torque off its '
                'joint and the arm would fall there')
        _restart(bus, number)
        done.append(f'restarted {servo} ({error_names(bits)})')
    return done


def at_rest(bus: ServoBus) -> bool:
    """Say whether the arm lies folded on its rest, where nothing falls."""
    for name, angle in zip(JOINT_NAMES, SLEEP, strict=True):
        if name in _CARRYING:
            number = next(n for n, servo in SERVOS.items() if servo.name == name)
            ticks = bus.get(number, Register.PRESENT_POSITION)
            if abs(to_radians(ticks) - angle) > _AT_REST:
                return False
    return True


def _would_fall(bus: ServoBus, number: int) -> bool:
    servo = SERVOS[number]
    if servo.name.removesuffix('_shadow') not in _CARRYING:
        return False
    # An instruction to a leader reaches its shadow too, by the secondary id: both restart.
    lost = {number, SHADOWS.get(number, number)}
    pair = {number, SHADOWS.get(number, number), servo.leader or number}
    torque = {n for n in pair if bus.get(n, Register.TORQUE_ENABLE)}
    return bool(torque & lost) and not torque - lost


def _check_cause(bus: ServoBus, servo: Servo, values: dict[Register, int]) -> None:
    limits = CONFIGURATION.decode(bus.read(servo.number, CONFIGURATION).data)
    bits = values[Register.HARDWARE_ERROR_STATUS]
    heat, hottest = values[Register.PRESENT_TEMPERATURE], limits[Register.TEMPERATURE_LIMIT]
    if bits & _HEAT_BIT and heat > hottest - _COOL:
        raise ArmError(f'{servo} is at {heat} degC: let it cool below {hottest - _COOL} degC, '
                       'then clear the fault again')
    supply = values[Register.PRESENT_INPUT_VOLTAGE]
    low, high = limits[Register.MIN_VOLTAGE_LIMIT], limits[Register.MAX_VOLTAGE_LIMIT]
    if bits & _VOLTAGE_BIT and not low <= supply <= high:
        raise ArmError(
            f'{servo} has {supply * VOLTAGE_UNIT:.1f} V, not {low * VOLTAGE_UNIT:.1f} to '
            f'{high * VOLTAGE_UNIT:.1f} V: check the 12 V supply and the plugs, then clear the '
            'fault again')


def _restart(bus: ServoBus, number: int) -> None:
    members = {number, SHADOWS.get(number, number)}
    with contextlib.suppress(SilentError):  # its answer may be lost: what counts is its return
        bus.reboot(number)
    until = time.monotonic() + REBOOT_S
    for member in members:
        while bus.ping(member, tries=1) is None:
            if time.monotonic() > until:
                raise ArmError(f'{SERVOS[member]} did not come back within {REBOOT_S:.0f} s of '
                               'its restart: switch the power of the arm off and on (hold it)')
    bits = status(bus, number)[Register.HARDWARE_ERROR_STATUS]
    if bits:
        part = 'its gripper' if number == GRIPPER else 'the servo'
        raise ArmError(f'{SERVOS[number]} still reports {error_names(bits)} after a restart: '
                       f'free the joint, check {part} and the supply, and clear the fault again')
