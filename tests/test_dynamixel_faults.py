"""Servos that fail, restart, lose power or their cable: the arm holds, and says what is wrong."""

import os
import signal
import subprocess
import sys
import threading
import time

from dynamixel_stack import (
    bus_and_arm,
    connected,
    drive,
    joints,
    LONGEST_S,
    read,
    STILL,
    until,
    until_fault,
)
import numpy as np
import pytest
from stable_crl_ros.robot.arm import ArmError
from stable_crl_ros.robot.controller import ArmController, ControlSettings
from stable_crl_ros.robot.dynamixel_table import SERVOS
from stable_crl_ros.robot.kinematics import JOINT_NAMES, START
from stable_crl_ros.robot.safety import ArmLimits
from stable_crl_ros.robot.servo import Servo
from stable_crl_ros.servo_bus import start
from waiting import wait_for

POSE = dict(zip(JOINT_NAMES, START.tolist(), strict=True))
DRIVER = """
import sys, time
from stable_crl_ros.robot.arm import ArmError
from stable_crl_ros.robot.dynamixel import DynamixelArm
arm = DynamixelArm(sys.argv[1], cycle_s=0.1, watchdog_s=float(sys.argv[2]))
arm.connect()
target = None
while True:
    try:
        state = arm.read()
    except ArmError:
        continue
    if target is None:
        target = state.joint_positions
        print('driving', flush=True)
    target = target + 0.002
    arm.write(target, 1.0)
    time.sleep(0.01)
"""


@pytest.fixture(scope='module')
def shared():
    with bus_and_arm(POSE) as both:
        yield both


@pytest.fixture
def pair(shared):
    yield shared
    if shared[1].faults():
        shared[1].clear_faults()


def torque(bus):
    return [number for number in SERVOS if bus.servo(number)['Torque_Enable']]


def test_an_overload_latches_and_names_joint_servo_and_bits(pair):
    bus, arm = pair
    bus.inject('hardware_error', 9, bits=0x20)
    (fault,) = until_fault(arm)
    assert (fault.joint, fault.servo, fault.bits, fault.cure) == ('gripper', 9, 0x20, 'reboot')
    assert str(fault) == 'gripper (servo 9) reports overload (hardware error 0x20, torque off)'
    read(arm)
    with pytest.raises(ArmError, match='not sent: gripper'):
        arm.write(START, 1.0)
    assert arm.faults() == [fault]


def test_clearing_an_overload_restarts_that_servo_alone_and_the_arm_holds(pair):
    bus, arm = pair
    before = joints(bus)
    bus.inject('hardware_error', 7, bits=0x24)
    until_fault(arm)
    assert arm.clear_faults().startswith('restarted wrist_angle (servo 7) (overheating and over')
    assert arm.faults() == []
    assert torque(bus) == list(SERVOS)
    assert bus.servo(7)['Hardware_Error_Status'] == 0
    np.testing.assert_allclose(np.delete(joints(bus), 4), np.delete(before, 4), atol=STILL)
    drive(arm, read(arm).joint_positions + 0.05, 0.3)


def test_restarting_a_servo_that_takes_its_joints_torque_needs_a_person(pair):
    bus, arm = pair
    before = joints(bus)
    bus.inject('hardware_error', 4, bits=0x20)  # its shadow still holds the elbow
    until_fault(arm)
    with pytest.raises(ArmError, match=r'elbow \(servo 4\).* hold the arm by hand, then'):
        arm.clear_faults()
    np.testing.assert_allclose(joints(bus), before, atol=STILL)
    assert 5 in torque(bus)
    assert 'restarted elbow (servo 4) (overload)' in arm.clear_faults()
    assert torque(bus) == list(SERVOS)


def test_a_supply_out_of_range_is_a_fault_until_it_is_mended(pair):
    bus, arm = pair
    bus.inject('voltage', 1, volts=8.9)
    (fault,) = until_fault(arm)
    assert str(fault) == ('waist (servo 1) reports input voltage (hardware error 0x01, torque on)')
    with pytest.raises(ArmError, match=r'has 8\.9 V, not 9\.5 to 16\.0 V: check the 12 V supply'):
        arm.clear_faults()
    assert torque(bus) == list(SERVOS)
    bus.inject('voltage', 1, volts=12.0)
    arm.clear_faults()
    assert arm.faults() == []


def test_a_hot_servo_must_cool_down_first(pair):
    bus, arm = pair
    bus.inject('temperature', 6, celsius=85)
    until_fault(arm)
    bus.inject('temperature', 6, celsius=75)
    with pytest.raises(ArmError, match='at 75 degC: let it cool below 70 degC'):
        arm.clear_faults()
    for _ in range(2 * len(SERVOS)):  # the others are as they were
        read(arm)
    assert [fault.servo for fault in arm.faults()] == [6]
    bus.inject('temperature', 6, celsius=60)
    arm.clear_faults()
    assert arm.faults() == []


def test_a_restart_whose_answer_is_lost_is_a_restart(pair):
    bus, arm = pair
    bus.inject('hardware_error', 9, bits=0x20)
    until_fault(arm)
    reboot = arm._bus.reboot

    def lose_its_answer(number):
        bus.inject('drop', number, count=1)
        reboot(number)
    arm._bus.reboot = lose_its_answer
    try:
        assert 'restarted gripper (servo 9)' in arm.clear_faults()
    finally:
        del arm._bus.reboot
    assert torque(bus) == list(SERVOS)


def test_an_arm_in_error_at_the_start_is_left_alone_until_cleared():
    with start(pose=POSE, timed=False) as bus:
        bus.inject('hardware_error', 8, bits=0x20)
        with connected(bus) as arm:
            for _ in range(2 * len(SERVOS)):
                read(arm)
            assert [fault.servo for fault in arm.faults()] == [8]
            assert torque(bus) == []
            arm.clear_faults()
            assert torque(bus) == list(SERVOS)


@pytest.mark.parametrize('number', [1, 3])
def test_a_dead_servo_is_named_and_the_others_are_still_heard(pair, number):
    bus, arm = pair
    bus.inject('dead', number)
    faults = until_fault(arm)
    assert [fault.servo for fault in faults] == [number]
    assert f'{SERVOS[number]} does not answer: check its cables' in str(faults[0])
    assert faults[0].cure == ''
    with pytest.raises(ArmError, match=f'servo {number}.* does not answer'):
        arm.clear_faults()
    bus.inject('alive', number)
    time.sleep(0.35)
    arm.clear_faults()
    assert torque(bus) == list(SERVOS)


def test_the_arm_is_taken_over_although_one_servo_cycle_is_lost(pair):
    bus, arm = pair
    servo = Servo(arm, ArmController(ArmLimits(), ControlSettings()), threading.Lock())
    bus.inject('drop', 1, count=2)  # the answer and that to the second question
    servo.begin()
    bus.inject('drop', 1)
    with pytest.raises(ArmError, match='no answer within this servo cycle from waist'):
        servo.begin()
    bus.clear()


def test_a_restart_in_the_middle_of_a_motion_is_noticed_and_mended_without_a_jerk():
    with bus_and_arm(POSE, watchdog_s=LONGEST_S) as (bus, arm):
        drive(arm, START + 0.2, 0.15)
        bus.inject('reboot', 6)
        faults = until_fault(arm)
        assert faults[0].servo == 6
        until(lambda: any('lost its torque' in str(fault) for fault in arm.faults()), arm)
        before = joints(bus)
        arm.clear_faults()
        np.testing.assert_allclose(joints(bus), before, atol=STILL)
        assert torque(bus) == list(SERVOS)
        assert bus.servo(6)['Bus_Watchdog'] == bus.servo(1)['Bus_Watchdog'] > 0


def test_after_a_power_cycle_the_arm_is_taken_up_where_it_lies():
    with bus_and_arm() as (bus, arm):  # folded: it would fall onto the table otherwise
        before = joints(bus)
        bus.inject('power_cycle')
        until_fault(arm)
        until(lambda: 'lost power' in '; '.join(map(str, arm.faults())), arm)
        assert torque(bus) == []
        arm.clear_faults()
        np.testing.assert_allclose(joints(bus), before, atol=STILL)
        assert torque(bus) == list(SERVOS)


def test_a_silence_stops_the_servos_and_going_on_needs_a_word_from_a_person():
    with bus_and_arm(POSE, watchdog_s=LONGEST_S) as (bus, arm):
        time.sleep(LONGEST_S + 0.2)
        (fault,) = until_fault(arm)
        assert 'stopped by themselves and hold' in str(fault)
        assert fault.cure == 'reboot'
        before = joints(bus)
        arm.clear_faults()
        np.testing.assert_allclose(joints(bus), before, atol=STILL)
        registers = bus.servo(2)
        assert registers['Profile_Velocity'] > 0, 'the watchdog left 0, which is full speed'
        assert registers['Bus_Watchdog'] == 125  # of 20 ms
        goal = START + 0.05
        drive(arm, goal, 0.5)
        np.testing.assert_allclose(joints(bus), goal, atol=0.003)


def test_when_the_driver_is_killed_the_arm_halts_and_holds():
    with start(pose=POSE, timed=False) as bus:
        driver = subprocess.Popen([sys.executable, '-c', DRIVER, bus.port, str(LONGEST_S)],
                                  stdout=subprocess.PIPE, text=True)
        assert driver.stdout.readline() == 'driving\n'
        wait_for(lambda: (joints(bus) > START + 0.03).all())
        os.kill(driver.pid, signal.SIGKILL)
        driver.wait()
        driver.stdout.close()
        wait_for(lambda: bus.servo(1)['Bus_Watchdog'] == 255)
        halted = joints(bus)
        time.sleep(0.3)
        np.testing.assert_allclose(joints(bus), halted, atol=1e-4)
        assert torque(bus) == list(SERVOS)
        assert {bus.servo(number)['Bus_Watchdog'] for number in SERVOS} == {255}
        with connected(bus) as arm:
            np.testing.assert_allclose(joints(bus), halted, atol=STILL)
            drive(arm, START, 0.6)
            np.testing.assert_allclose(joints(bus), START, atol=0.003)


def test_a_pulled_cable_is_a_fault_and_the_arm_is_found_again_by_its_name(tmp_path):
    link = str(tmp_path / 'ttyDXL')
    with bus_and_arm(POSE, link=link) as (bus, arm):
        before = joints(bus)
        bus.inject('unplug')
        (fault,) = until_fault(arm)
        assert f'{link} is gone' in str(fault)
        assert 'the servos hold by themselves' in str(fault)
        began = time.monotonic()
        for _ in range(200):
            with pytest.raises(ArmError):
                arm.read()
        assert time.monotonic() - began < 15.0, 'a missing port must not be waited for'
        with pytest.raises(ArmError, match='does not exist|cannot be opened'):
            arm.clear_faults()
        bus.inject('plug')
        assert arm.clear_faults().startswith(f'opened {link} again')
        np.testing.assert_allclose(joints(bus), before, atol=STILL)
        goal = START + 0.05
        drive(arm, goal, 0.5)
        np.testing.assert_allclose(joints(bus), goal, atol=0.003)


def test_closing_after_the_cable_was_pulled_does_not_wait():
    with bus_and_arm(POSE) as (bus, arm):
        counts = arm._bus.counts
        bus.inject('unplug')
        before = counts['timeouts']
        arm.close()
        assert counts['timeouts'] == before


def test_clearing_a_healthy_arm_does_nothing(pair):
    bus, arm = pair
    began = time.monotonic()
    assert arm.clear_faults() == 'nothing to clear'
    assert bus.goals(began) == []
