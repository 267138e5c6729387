"""The arm's parameter file, read by the commands that move the arm without ROS."""

import numpy as np
import pytest
from stable_crl_ros.graph import share
from stable_crl_ros.robot.arm import ArmError
from stable_crl_ros.robot.arm_file import read_arm_file
from stable_crl_ros.robot.kinematics import SLEEP, START
from stable_crl_ros.robot.limits import ArmLimits


@pytest.fixture
def read(tmp_path):
    def write(text):
        path = tmp_path / 'arm.yaml'
        path.write_text(text)
        return read_arm_file(path)

    return write


def parameters(lines, section='/**/arm'):
    indented = ''.join(f'    {line}\n' for line in lines.splitlines())
    return f'{section}:\n  ros__parameters:\n{indented}'


def test_the_shipped_file_says_what_the_arm_does_without_one():
    found = read_arm_file(share('config') / 'arm.yaml')
    assert found.limits == ArmLimits(max_joint_velocity=3.14159)  # five digits of pi
    np.testing.assert_allclose(found.home, START, atol=1e-4)
    np.testing.assert_allclose(found.sleep, SLEEP, atol=1e-4)
    assert found.speed == 0.5


def test_what_a_file_leaves_out_keeps_its_default(read):
    found = read(parameters('limits:\n  table_height: 0.01'))
    assert found.limits == ArmLimits(table_height=0.01)
    np.testing.assert_array_equal(found.home, START)
    assert read('').limits == ArmLimits()


def test_a_file_with_nothing_of_an_arm_changes_nothing(read):
    assert read(parameters('rate: 30.0', '/**/camera')).limits == ArmLimits()


@pytest.mark.parametrize('section', ['/**', 'arm', '/arm', '/widowx/arm', '/**/arm'])
def test_the_arm_is_found_by_whatever_name_the_node_answers_to(read, section):
    found = read(parameters('limits.max_tilt: 0.3\nhoming_speed: 0.2', section))
    assert found.limits.max_tilt == 0.3
    assert found.speed == 0.2


def test_a_later_section_overrides_an_earlier_one_limit_by_limit(read):
    found = read(parameters('limits: {max_tilt: 0.3, clearance: 0.01}', '/**')
                 + parameters('limits: {max_tilt: 0.4}'))
    assert found.limits == ArmLimits(max_tilt=0.4, clearance=0.01)


@pytest.mark.parametrize('text, said', [
    (parameters('limits: {table: 0.1}'), r"unknown arm limits \['table'\]"),
    (parameters('limits: {max_tilt: steep}'), "max_tilt must be a number, got 'steep'"),
    (parameters('limits: 3'), 'limits must be names and values, got 3'),
    (parameters('home_joints: [0.0, 1.0]'), 'a pose is 6 joint angles'),
    (parameters('home_joints: [0, 0, 0, 0, 90, 0]'), 'wrist_angle goes from'),
    (parameters('home_joints: [0, 0, 0, .nan, 0, 0]'), 'forearm_roll goes from'),
    (parameters('sleep_joints: folded'), 'sleep_joints'),
    (parameters('homing_speed: 9.0'), 'the speed must be 0.05 to 1.5 rad/s, got 9.0'),
    ('/**/arm: {}', 'no ros__parameters below /\\*\\*/arm'),
    ('- arm', 'no parameters of nodes'),
    ('arm: [', 'flow node'),
])
def test_a_file_that_makes_no_sense_is_refused_by_name(read, text, said):
    with pytest.raises(ArmError, match=said) as refused:
        read(text)
    assert 'arm.yaml: ' in str(refused.value)


def test_a_file_that_cannot_be_read_is_refused(tmp_path):
    with pytest.raises(ArmError, match='No such file'):
        read_arm_file(tmp_path / 'none.yaml')
    (tmp_path / 'binary').write_bytes(b'\xff\xfe\x00')
    with pytest.raises(ArmError, match='binary: '):
        read_arm_file(tmp_path / 'binary')
