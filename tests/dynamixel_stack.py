"""An emulated servo bus and the driver on it, and servo cycles at their pace."""

from contextlib import contextmanager, suppress
import time

import numpy as np
from stable_crl_ros.robot.arm import ArmError
from stable_crl_ros.robot.dynamixel import DynamixelArm
from stable_crl_ros.robot.kinematics import JOINT_NAMES
from stable_crl_ros.servo_bus import start

PATIENT_S = 0.1  # a servo cycle that a busy test machine keeps
LONGEST_S = 2.5  # watchdog of the tests that need one: a machine that stands still trips it
STILL = 0.02  # rad; less is no motion


@contextmanager
def connected(bus, **options):
    """Yield a connected driver with patient cycles, whose servos wait for them for ever."""
    arm = DynamixelArm(options.pop('port', None) or bus.port,
                       **{'cycle_s': PATIENT_S, 'watchdog_s': 0.0, **options})
    arm.connect()
    try:
        yield arm
    finally:
        arm.close()


@contextmanager
def bus_and_arm(pose=None, link='', **options):
    """Yield an emulated bus in a process of its own, and a connected driver."""
    with start(pose=pose, link=link, timed=False) as bus, \
            connected(bus, port=link, **options) as arm:
        yield bus, arm


def joints(bus):
    """Return where the six joints really are, rad."""
    where = bus.joints()
    return np.array([where[name] for name in JOINT_NAMES])


def read(arm, cycles=20):
    """Read until a cycle is not lost."""
    for _ in range(cycles):
        try:
            return arm.read()
        except ArmError as error:
            lost = error
    raise lost


def drive(arm, goal, seconds, gripper=1.0, period_s=0.03):
    """
    Send one setpoint at servo rate, as the node does: a lost cycle is no reason to stop.

    :param seconds: that a machine would need for the cycles which did not stand still.
    """
    for _ in range(round(seconds / period_s)):
        began = time.monotonic()
        read(arm)
        arm.write(goal, gripper)
        time.sleep(max(0.0, began + period_s - time.monotonic()))


def until(happened, arm, seconds=20.0):
    """Run servo cycles until something has happened; the lost ones too."""
    end = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < end, f'not within {seconds} s; faults: {arm.faults()}'
        with suppress(ArmError):
            arm.read()
        time.sleep(0.01)


def until_fault(arm):
    """Run servo cycles until a fault latches, and return all."""
    until(arm.faults, arm)
    return arm.faults()
