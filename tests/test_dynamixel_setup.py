"""Connecting to the servo bus: port, lock, latency, the right arm, its configuration, units."""

from contextlib import suppress
import math
import os
import re
import subprocess
import sys

from dynamixel_stack import bus_and_arm, connected, joints, LONGEST_S
import numpy as np
import pytest
from stable_crl_ros.robot.arm import ArmError
from stable_crl_ros.robot.dynamixel import DynamixelArm
from stable_crl_ros.robot.dynamixel_bus import BusError, ServoBus
from stable_crl_ros.robot.dynamixel_port import (
    check_latency,
    find_port,
    PortError,
    stable_name,
    UDEV_RULE,
)
from stable_crl_ros.robot.dynamixel_setup import check_models, WrongArmError
from stable_crl_ros.robot.dynamixel_table import (
    effort,
    error_names,
    expected,
    JOINTS,
    Register,
    SERVOS,
    to_radians,
    to_ticks,
    VELOCITY_UNIT,
)
from stable_crl_ros.robot.kinematics import JOINT_LOWER, JOINT_NAMES, JOINT_UPPER, START
from stable_crl_ros.servo_bus import start
from stable_crl_ros.servo_bus.table import MODELS

POSE = dict(zip(JOINT_NAMES, START.tolist(), strict=True))
OPEN_AND_WAIT = """
import sys
from stable_crl_ros.robot.dynamixel_bus import ServoBus
bus = ServoBus(sys.argv[1])
bus.open()
print('open', flush=True)
sys.stdin.read()
"""
BABBLE = """
import os
master, slave = os.openpty()
print(os.ttyname(slave), flush=True)
while True:
    os.write(master, os.urandom(64))
"""
MODEL_OF = {number: servo.model for number, servo in SERVOS.items()}


@pytest.fixture(scope='module')
def bus():
    with start(pose=POSE, timed=False) as emulated:
        yield emulated


# The table.


@pytest.mark.parametrize('model', ['XM430-W350', 'XL430-W250'])
def test_both_ends_of_the_bus_have_the_registers_at_the_same_place(model):
    theirs = MODELS[model].registers
    for register in Register:
        name = register.label.rsplit(' ', 1)[0].replace(' ', '_')
        if name == 'Present_Current' and not MODELS[model].has_current:
            name = 'Present_Load'
        if name not in theirs:
            assert (model, register) == ('XL430-W250', Register.CURRENT_LIMIT)
            continue
        assert (theirs[name].address, theirs[name].size) == (register.address, register.size), name


def test_position_limits_of_the_servos_are_the_joints():
    for number, low, high in zip(JOINTS, JOINT_LOWER, JOINT_UPPER, strict=True):
        assert to_radians(SERVOS[number].low) == pytest.approx(low, abs=0.002)
        assert to_radians(SERVOS[number].high) == pytest.approx(high, abs=0.002)


def test_units_are_the_manuals():
    assert to_radians(2048) == 0.0
    assert to_radians(2048 + 1024) == pytest.approx(math.pi / 2)
    assert to_ticks(-math.pi / 2) == 1024
    assert pytest.approx(3.14, abs=0.01) == 131 * VELOCITY_UNIT  # Interbotix' velocity limit
    assert effort(SERVOS[1], 100) == pytest.approx(269.0)  # mA
    assert effort(SERVOS[8], 500) == pytest.approx(50.0)  # %


def test_hardware_errors_are_named():
    assert error_names(0x21) == 'input voltage and overload'
    assert error_names(0x42) == 'unknown bits 0x42'


def test_no_goal_ever_needs_byte_stuffing_which_the_sdk_leaves_out_when_sending():
    for number, servo in SERVOS.items():
        for goal in (servo.low, servo.high):
            assert b'\xff\xff\xfd' not in bytes([number, *goal.to_bytes(4, 'little')])


# The port.


def test_a_port_that_is_not_there_is_refused():
    with pytest.raises(PortError, match='/dev/ttyNONE does not exist'):
        find_port('/dev/ttyNONE')


def test_a_device_is_named_by_its_serial_number(tmp_path):
    device = tmp_path / 'ttyUSB7'
    device.touch()
    folder = tmp_path / 'by-id'
    folder.mkdir()
    assert stable_name(str(device), str(folder)) == str(device)
    (folder / 'usb-FTDI_FT9').symlink_to(device)
    assert stable_name(str(device), str(folder)) == str(folder / 'usb-FTDI_FT9')


@pytest.mark.parametrize(('value', 'fine'), [('16', False), ('2', False), ('1', True)])
def test_a_slow_latency_timer_is_refused_with_the_command_that_mends_it(tmp_path, value, fine):
    folder = tmp_path / 'bus/usb-serial/devices/ttyUSB0'
    folder.mkdir(parents=True)
    (folder / 'latency_timer').write_text(value + '\n')
    if fine:
        check_latency('/dev/ttyUSB0', str(tmp_path))
        return
    with pytest.raises(PortError, match=f'is {value} ms') as refusal:
        check_latency('/dev/ttyUSB0', str(tmp_path))
    assert f'echo 1 | sudo tee {folder}/latency_timer' in str(refusal.value)
    assert UDEV_RULE in str(refusal.value)


def test_a_port_without_a_latency_timer_is_fine(tmp_path):
    check_latency('/dev/pts/0', str(tmp_path))


def test_a_second_process_is_refused_and_told_who_holds_the_port(bus):
    holder = subprocess.Popen([sys.executable, '-c', OPEN_AND_WAIT, bus.port],
                              stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout.readline() == 'open\n'
        with pytest.raises(PortError, match='is held by') as refusal:
            DynamixelArm(bus.port).connect()
        assert re.findall(r'\(process (\d+)\)', str(refusal.value)) == [str(holder.pid)]
    finally:
        holder.communicate('')
    ServoBus(bus.port).open()


def test_a_second_driver_in_the_same_process_is_refused(bus):
    first = ServoBus(bus.port)
    first.open()
    with pytest.raises(PortError, match='is held by this very process'):
        ServoBus(bus.port).open()
    first.close()


def test_something_that_is_no_servo_bus_is_refused_in_time():
    master, slave = os.openpty()
    try:
        with pytest.raises(ArmError, match='no servo answers on'):
            DynamixelArm(os.ttyname(slave)).connect()
    finally:
        os.close(master)
        os.close(slave)


def test_a_line_that_babbles_is_not_listened_to_for_ever():
    babbler = subprocess.Popen([sys.executable, '-c', BABBLE], stdout=subprocess.PIPE, text=True)
    port = ServoBus(babbler.stdout.readline().strip())
    try:
        port.open()
        assert port.ping(1, tries=2) is None
    finally:
        port.close()
        babbler.kill()
        babbler.communicate()


# The arm.


@pytest.mark.parametrize(('change', 'message'), [
    ({8: 1020}, r'wrist_rotate \(servo 8\) is an XM430-W350 \(model 1020\), expected XL430-W250'),
    ({2: 350}, r'shoulder \(servo 2\) is an unknown servo \(model 350\)'),
    ({5: None}, r'elbow_shadow \(servo 5\) does not answer'),
    ({9: None}, r'gripper \(servo 9\) does not answer'),
    ({10: 1060}, r'servo 10 \(XL430-W250 \(model 1060\)\) does not belong to this arm'),
])
def test_an_arm_with_other_servos_is_refused_by_name(change, message):
    models = {number: model for number, model in (MODEL_OF | change).items() if model}
    with pytest.raises(WrongArmError, match=message):
        check_models(models, 'the port')


def test_an_arm_with_five_joints_is_refused_by_name():
    with start(model='wx250', timed=False) as bus, \
            pytest.raises(WrongArmError, match=r'WidowX 250 with 5 joints \(8 servos'):
        DynamixelArm(bus.port).connect()


def test_a_wrong_servo_and_a_missing_one_are_found_on_the_bus(bus):
    bus.inject('model', 9, number=1070)
    with pytest.raises(WrongArmError, match=r'gripper \(servo 9\) is an XC430-W150'):
        DynamixelArm(bus.port).connect()
    bus.inject('model', 9, number=1060)
    bus.inject('dead', 7)
    with pytest.raises(WrongArmError, match=r'wrist_angle \(servo 7\) does not answer'):
        DynamixelArm(bus.port).connect()
    bus.inject('alive', 7)
    assert not any(bus.servo(number)['Torque_Enable'] for number in SERVOS)


# The configuration.


def test_differences_are_listed_and_nothing_is_changed_without_the_option():
    with start(timed=False) as bus:
        bus.poke(9, 'Operating_Mode', 16)
        bus.poke(3, 'Secondary_ID', 255)
        bus.poke(6, 'Return_Delay_Time', 250)
        bus.poke(1, 'Position_P_Gain', 400)
        with pytest.raises(ArmError) as refusal:
            DynamixelArm(bus.port).connect()
        for line in ('4 registers differ',
                     'gripper (servo 9): Operating Mode (11) is 16, expected 3',
                     'shoulder_shadow (servo 3): Secondary ID (12) is 255, expected 2',
                     'forearm_roll (servo 6): Return Delay Time (9) is 250, expected 0',
                     'waist (servo 1): Position P Gain (84) is 400, expected 800',
                     'torque-off', 'write_configuration'):
            assert line in str(refusal.value)
        assert bus.servo(9)['Operating_Mode'] == 16
        with connected(bus, write_configuration=True) as arm:
            assert arm.faults() == []
        assert bus.servo(9)['Operating_Mode'] == 3
        assert bus.servo(3)['Secondary_ID'] == 2


def test_the_configuration_is_not_written_while_torque_holds_the_arm():
    with bus_and_arm(POSE) as (bus, arm):
        arm.close()
        bus.poke(6, 'Velocity_Limit', 200)
        bus.poke(1, 'Position_P_Gain', 400)
        with pytest.raises(ArmError, match=r'torque is on in forearm_roll \(servo 6\), which'):
            DynamixelArm(bus.port, write_configuration=True).connect()
        assert bus.servo(1)['Position_P_Gain'] == 400, 'all or nothing'
        np.testing.assert_allclose(joints(bus), START, atol=0.01)


def test_a_firmware_without_time_profiles_is_refused(bus):
    bus.poke(4, 'Firmware_Version', 41)
    with pytest.raises(ArmError, match=r'elbow \(servo 4\) has firmware 41.* update it'):
        DynamixelArm(bus.port).connect()
    bus.poke(4, 'Firmware_Version', 45)


def test_motors_of_one_joint_that_disagree_get_no_torque(bus):
    bus.poke(5, 'Homing_Offset', 120)
    with pytest.raises(ArmError, match=r'elbow \(servo 4\) and elbow_shadow .* disagree by 1'):
        DynamixelArm(bus.port).connect()
    assert not any(bus.servo(number)['Torque_Enable'] for number in SERVOS)
    bus.poke(5, 'Homing_Offset', 0)


def test_an_arm_far_outside_its_limits_gets_no_torque():
    with start(pose={'shoulder': -2.1}, timed=False) as bus:
        with pytest.raises(ArmError, match=r'shoulder \(servo 2\) stands at .* outside'):
            DynamixelArm(bus.port).connect()
        assert not any(bus.servo(number)['Torque_Enable'] for number in SERVOS)


def test_a_servo_that_does_not_confirm_is_told_to_before_the_rest_is_written():
    with start(timed=False) as bus:
        bus.poke(1, 'PWM_Limit', 800)
        bus.poke(1, 'Status_Return_Level', 1)
        with connected(bus, write_configuration=True):
            assert bus.servo(1)['PWM_Limit'] == 885


def test_an_instruction_that_came_damaged_is_sent_again(bus):
    port = ServoBus(bus.port)
    port.open()
    for exchange, result in ((lambda: port.ping(6), 1020),
                             (lambda: port.get(6, Register.TEMPERATURE_LIMIT), 80),
                             (lambda: port.set(6, Register.PROFILE_VELOCITY, 77), None)):
        bus.inject('garble', 6, count=2)
        assert exchange() == result
    assert bus.servo(6)['Profile_Velocity'] == 77
    bus.inject('garble', 6, count=3)
    with pytest.raises(BusError, match=r'forearm_roll .*got a broken packet: Profile Velocity'):
        port.set(6, Register.PROFILE_VELOCITY, 78)
    bus.inject('garble', 6, count=3)
    assert port.ping(6) is None
    port.close()


def test_a_late_answer_to_another_question_is_not_this_ones(bus):
    port = ServoBus(bus.port)
    port.open()
    bus.inject('delay', 6, count=1, seconds=0.16)  # longer than anybody waits for it
    with suppress(BusError):
        port.get(6, Register.TEMPERATURE_LIMIT)
    assert port.get(6, Register.MODEL_NUMBER) == 1020
    port.close()


def test_closing_disarms_every_watchdog_although_one_servo_refuses():
    with bus_and_arm(POSE, watchdog_s=LONGEST_S) as (bus, arm):
        bus.inject('garble', 1, count=3)
        arm.close()
        armed = [number for number in SERVOS if bus.servo(number)['Bus_Watchdog']]
        assert armed == [1]


def test_a_servo_that_refuses_says_why(bus):
    port = ServoBus(bus.port)
    port.open()
    with pytest.raises(BusError, match=r'elbow .*beyond its limit: Goal Position \(116\) = 4000'):
        port.set(4, Register.GOAL_POSITION, 4000)
    with pytest.raises(BusError, match=r'elbow .*read-only: Realtime Tick \(120\) = 1'):
        port.set(4, Register.REALTIME_TICK, 1)
    port.close()


def test_what_is_expected_lies_within_its_own_range():
    for servo in SERVOS.values():
        for register, wanted in expected(servo).items():
            assert wanted.low <= wanted.value <= wanted.high, register
