"""`stable-crl arm` on an emulated servo bus, as a person at the bench would use it."""

import io
import json
import sys
import time

from dynamixel_stack import joints
import numpy as np
import pytest
from stable_crl_ros.cli import main
from stable_crl_ros.robot.dynamixel_bus import ServoBus
from stable_crl_ros.robot.dynamixel_port import UDEV_RULE
from stable_crl_ros.robot.dynamixel_table import SERVOS
from stable_crl_ros.robot.kinematics import SLEEP, START
from stable_crl_ros.servo_bus import start


@pytest.fixture(scope='module')
def bus():
    with start(timed=False) as emulated:
        yield emulated


@pytest.fixture
def arm(bus, capsys):
    def run(verb, *options):
        status = main(['arm', verb, '--port', bus.port, *options])
        return status, *capsys.readouterr()

    return run


def revive(bus, number):
    bus.inject('alive', number)
    time.sleep(0.35)  # a servo is deaf while it starts


def move(arm, *words):
    """Run a command; again where a machine that stood still let the servos stop by themselves."""
    for _ in range(5):
        status, text, told = arm(*words)
        if 'stopped by themselves' not in text + told:
            break
    return status, text, told


def torque(bus):
    return [number for number in SERVOS if bus.servo(number)['Torque_Enable']]


def test_probe_lists_the_servos_and_prints_the_udev_rule(bus, arm):
    status, text, _ = arm('probe')
    assert status == 0
    for line in ('1 waist: XM430-W350 (model 1020), firmware 45',
                 '9 gripper: XL430-W250 (model 1060), firmware 45', 'a complete WidowX 250s',
                 UDEV_RULE):
        assert line in text
    assert torque(bus) == []


def test_probe_answers_machines_and_says_no_by_its_status(bus, arm):
    bus.inject('dead', 9)
    status, text, _ = arm('probe', '--json')
    revive(bus, 9)
    finding = json.loads(text)
    assert status == 1
    assert list(finding['servos']) == [str(number) for number in range(1, 9)]
    assert 'gripper (servo 9) does not answer' in finding['problems'][0]


def test_check_finds_what_differs_and_writes_it_only_when_told(bus, arm):
    status, text, _ = arm('check')
    assert (status, 'configured as a WidowX 250s, no errors' in text) == (0, True)
    bus.poke(9, 'Operating_Mode', 16)
    status, text, _ = arm('check')
    assert status == 1
    assert 'problem: gripper (servo 9): Operating Mode (11) is 16, expected 3' in text
    assert bus.servo(9)['Operating_Mode'] == 16
    status, _, told = arm('check', '--write')
    assert (status, told) == (0, 'wrote 1 registers\n')
    assert bus.servo(9)['Operating_Mode'] == 3


def test_check_writes_nothing_into_another_arm(bus, arm):
    bus.inject('model', 2, number=1120)  # a ViperX 300s has the same ids
    bus.poke(2, 'Min_Position_Limit', 700)
    status, _, told = arm('check', '--write')
    assert (status, bus.servo(2)['Min_Position_Limit']) == (2, 700)
    assert 'shoulder (servo 2) is an XM540-W270' in told
    bus.inject('model', 2, number=1020)
    bus.poke(2, 'Min_Position_Limit', 819)


def test_check_writes_nothing_at_another_baud_rate(bus, arm):
    for number in SERVOS:
        bus.poke(number, 'Baud_Rate', 1)
    bus.poke(9, 'PWM_Limit', 800)
    status, _, told = arm('check', '--write', '--baud-rate', '57600')
    assert (status, bus.servo(1)['Baud_Rate'], bus.servo(9)['PWM_Limit']) == (2, 1, 800)
    assert 'gripper (servo 9) is not 3: set it with DYNAMIXEL Wizard' in told
    for number in SERVOS:
        bus.poke(number, 'Baud_Rate', 3)
    bus.poke(9, 'PWM_Limit', 885)


def test_check_reports_hardware_errors(bus, arm):
    bus.inject('hardware_error', 8, bits=0x20)
    status, text, _ = arm('check')
    revive(bus, 8)
    assert status == 1
    assert 'wrist_rotate (servo 8) reports overload' in text


def test_calibrate_accepts_an_arm_on_its_rest(arm):
    status, text, _ = arm('calibrate')
    assert status == 0
    assert 'all horns are where they belong' in text
    assert 'elbow: -0.0 deg from its rest' in text


@pytest.mark.parametrize('offset', [90, -90])
def test_calibrate_makes_the_two_motors_of_a_joint_agree(bus, arm, offset):
    bus.poke(3, 'Homing_Offset', offset)
    status, text, _ = arm('calibrate')
    assert status == 1
    assert 'differ by 90 ticks: `--write` sets the Homing Offset' in text
    status, _, _ = arm('calibrate', '--write')
    assert status == 0
    assert bus.servo(3)['Present_Position'] == bus.servo(2)['Present_Position']


def test_calibrate_names_a_joint_that_is_off(bus, arm):
    bus.poke(4, 'Homing_Offset', 341)
    bus.poke(5, 'Homing_Offset', 341)
    status, text, _ = arm('calibrate')
    bus.poke(4, 'Homing_Offset', 0)
    bus.poke(5, 'Homing_Offset', 0)
    assert status == 1
    assert 'problem: elbow (servo 4) is +29.9 deg from the sleep pose' in text


def test_the_arm_moves_home_holds_is_folded_and_let_go(bus, arm, monkeypatch):
    status, text, told = move(arm, 'home', '--speed', '1.5')
    assert status == 0, told
    assert text.startswith('at home, to 0.00')
    np.testing.assert_allclose(joints(bus), START, atol=0.005)
    assert torque(bus) == list(SERVOS)
    status, _, told = arm('calibrate')
    assert status == 2
    assert 'torque is on in waist (servo 1), ' in told

    monkeypatch.setattr(sys, 'stdin', io.StringIO('no\n'))
    status, _, told = arm('torque-off')
    assert status == 1
    assert 'will FALL unless' in told
    assert torque(bus) == list(SERVOS)

    status, text, told = move(arm, 'sleep', '--speed', '1.5', '--json')
    assert status == 0, told
    assert json.loads(text)['pose'] == 'sleep'
    np.testing.assert_allclose(joints(bus), SLEEP, atol=0.005)
    monkeypatch.setattr(sys, 'stdin', io.StringIO('yes\n'))
    status, text, _ = arm('torque-off')
    assert status == 0
    assert 'torque is off' in text
    assert torque(bus) == []


def test_the_arm_goes_where_its_file_says_within_the_files_limits(bus, arm, tmp_path):
    high = START + [0.0, -0.2, 0.0, 0.0, 0.0, 0.0]
    file = tmp_path / 'arm.yaml'
    file.write_text('/**/arm: {ros__parameters: {homing_speed: 1.5, home_joints: '
                    f'{high.tolist()}}}}}')
    status, _, told = move(arm, 'home', '--config', str(file))
    assert status == 0, told
    np.testing.assert_allclose(joints(bus), high, atol=0.005)
    file.write_text('/**/arm: {ros__parameters: {homing_speed: 1.5, limits: {table_height: 0.1, '
                    'workspace_high: [0.4, 0.2, 0.3]}}}')
    status, _, told = move(arm, 'sleep', '--config', str(file))
    assert status == 2
    assert 'below the table' in told
    status, _, told = move(arm, 'sleep', '--speed', '1.5')
    assert status == 0, told


def test_an_arm_with_something_in_its_way_holds_where_it_is_and_says_so(bus, arm):
    bus.inject('jam', 2)
    status, _, told = move(arm, 'home')
    shoulder, held = bus.servo(2), torque(bus)
    bus.inject('free', 2)
    move(arm, 'sleep', '--speed', '1.5')
    arm('torque-off', '--yes')
    assert status == 2
    assert 'shoulder is 0.4' in told and 'The arm holds where it is' in told
    assert abs(shoulder['Goal_Position'] - shoulder['Present_Position']) < 10
    assert held == list(SERVOS)


def test_torque_off_lets_go_of_the_others_when_a_servo_is_dead(bus, arm):
    bus.poke(1, 'Torque_Enable', 1)
    bus.inject('dead', 6)
    status, text, _ = arm('torque-off', '--yes')
    revive(bus, 6)
    assert status == 1
    assert text == 'forearm_roll (servo 6) does not answer\n'
    assert torque(bus) == []


def test_a_port_that_somebody_holds_is_refused(bus, arm):
    holder = ServoBus(bus.port)
    holder.open()
    status, _, told = arm('torque-off', '--yes')
    holder.close()
    assert status == 2
    assert 'is held by this very process' in told


@pytest.mark.parametrize(('words', 'message'), [
    (['probe', '--port', '/dev/ttyNONE'], '/dev/ttyNONE does not exist'),
    (['home', '--port', '/dev/null', '--baud-rate', '12345'], '12345 bit/s is no rate')])
def test_refusals_say_why(capsys, words, message):
    assert main(['arm', *words]) == 2
    assert message in capsys.readouterr().err


def test_speeds_that_are_none_are_refused(capsys, bus):
    assert main(['arm', 'home', '--port', bus.port, '--speed', '9']) == 2
    assert '0.05 to 1.5 rad/s' in capsys.readouterr().err
    assert torque(bus) == []
