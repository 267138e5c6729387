"""The arm's messages: what is written is read back, what is malformed is refused."""

from dataclasses import replace
import time

import numpy as np
import pytest

pytest.importorskip('rclpy')

from geometry_msgs.msg import TwistStamped
from rclpy.serialization import deserialize_message, serialize_message
from sensor_msgs.msg import JointState
from stable_crl_ros.data.schema import Mode
from stable_crl_ros.nodes.conversions import to_nanoseconds
from stable_crl_ros.nodes.messages import (
    AppliedAction,
    decode_applied_action,
    decode_command,
    decode_ee_pose,
    decode_joint_states,
    decode_tick,
    encode_applied_action,
    encode_command,
    encode_ee_pose,
    encode_joint_states,
    encode_tick,
    LABELS,
    MessageError,
    PolicyTick,
)
from stable_crl_ros.robot.arm import ArmState
from stable_crl_ros.robot.kinematics import forward_kinematics, START
from stable_crl_ros.robot.poses import pose_from_xyz_quaternion
from stable_crl_ros.robot.safety import StepFlag
from std_msgs.msg import Float64MultiArray


def step(**changes):
    now = time.time_ns()
    values = {
        'applied': np.array([0.01, -0.02, 0.03, 0.1, -0.2, 0.05, 1.0]),
        'commanded': np.array([0.09, -0.02, 0.03, 0.1, -0.2, 0.05, 1.2]),
        'mode': Mode.TELEOP,
        'flags': StepFlag.TRANSLATION_CLIPPED | StepFlag.TOO_SOON,
        'capture_ns': now - 150_000_001, 'receive_ns': now - 3, 'applied_ns': now,
    }
    return AppliedAction(**{**values, **changes})


def over_the_wire(message):
    return deserialize_message(serialize_message(message), type(message))


def test_an_applied_action_survives_the_wire_to_the_nanosecond():
    sent = step()
    read = decode_applied_action(over_the_wire(encode_applied_action(sent)))
    np.testing.assert_array_equal(read.applied, sent.applied)
    np.testing.assert_array_equal(read.commanded, sent.commanded)
    assert (read.mode, read.flags) == (sent.mode, sent.flags)
    assert (read.capture_ns, read.receive_ns, read.applied_ns) == \
        (sent.capture_ns, sent.receive_ns, sent.applied_ns)


def test_a_command_that_was_not_a_number_is_told_as_it_was():
    commanded = np.array([np.nan, 0, 0, 0, 0, np.inf, 0])
    read = decode_applied_action(encode_applied_action(step(commanded=commanded)))
    np.testing.assert_array_equal(read.commanded, commanded)


def test_the_layout_names_every_number():
    message = encode_applied_action(step())
    labels = message.layout.dim[0].label.split(',')
    assert dict(zip(labels, message.data, strict=True))['commanded.gripper'] == 1.2
    assert message.layout.dim[0].size == len(message.data)


def tick(**changes):
    values = {'capture_ns': time.time_ns(), 'action': np.array([.01, 0, -.02, 0, .1, 0, 1.0]),
              'checkpoint': '00e1ffffffff', 'value': -3.5, 'steps_to_go': 12.0, 'at_goal': 0.25,
              'done': True, 'image_age_s': 0.02, 'inference_s': 0.004,
              'latency_s': 0.03, 'lateness_s': -0.0001}
    return PolicyTick(**{**values, **changes})


def test_a_tick_of_the_policy_survives_the_wire():
    sent = tick()
    read = decode_tick(over_the_wire(encode_tick(sent)))
    np.testing.assert_array_equal(read.action, sent.action)
    assert replace(read, action=None) == replace(sent, action=None)


def test_what_is_not_known_at_a_tick_is_not_made_up():
    read = decode_tick(encode_tick(PolicyTick(5, np.zeros(7), '0' * 12)))
    assert np.isnan([read.value, read.steps_to_go, read.at_goal, read.lateness_s]).all()
    assert not read.done and read.checkpoint == ''


@pytest.mark.parametrize(('spoil', 'reason'), [
    (lambda message: message.data.pop(), 'holds 17 numbers'),
    (lambda message: setattr(message.layout, 'dim', []), 'run a policy node of this version'),
    (lambda message: message.data.__setitem__(2, 0.5), 'whole numbers')])
def test_a_malformed_tick_is_refused(spoil, reason):
    message = encode_tick(tick())
    spoil(message)
    with pytest.raises(MessageError, match=reason):
        decode_tick(message)


def without(message, count):
    message.data = message.data[:-count]
    return message


def with_number(message, label, number):
    message.data[LABELS.index(label)] = number
    return message


@pytest.mark.parametrize(('spoil', 'reason'), [
    (lambda m: Float64MultiArray(data=m.data), 'labelled'),
    (lambda m: without(m, 1), 'holds 21 numbers'),
    (lambda m: with_number(m, 'applied.dx', float('nan')), 'not finite'),
    (lambda m: with_number(m, 'mode', 9.0), 'mode 9'),
    (lambda m: with_number(m, 'mode', 0.5), 'whole numbers'),
    (lambda m: with_number(m, 'flags', -1.0), 'whole numbers'),
    (lambda m: with_number(m, 'capture.sec', float('nan')), 'whole numbers'),
])
def test_a_malformed_applied_action_is_refused(spoil, reason):
    with pytest.raises(MessageError, match=reason):
        decode_applied_action(spoil(encode_applied_action(step())))


def state(gripper=0.25):
    return ArmState(time.time_ns(), np.array(START), np.arange(6.0), -np.arange(6.0), gripper)


def test_a_command_survives_the_wire_as_a_velocity_in_base_link():
    delta, stamp_ns = np.array([0.01, -0.02, 0.03, 0.1, -0.2, 0.25]), 1_700_000_000_123_456_789
    message = deserialize_message(
        serialize_message(encode_command(delta, 0.2, stamp_ns)), TwistStamped)
    assert message.header.frame_id == 'base_link'
    assert to_nanoseconds(message.header.stamp) == stamp_ns
    assert message.twist.linear.x == pytest.approx(0.05)  # m/s
    assert message.twist.angular.z == pytest.approx(1.25)  # rad/s
    np.testing.assert_allclose(decode_command(message, 0.2), delta)


def test_joint_states_carry_radians_and_finger_metres():
    sent = state()
    message = over_the_wire(encode_joint_states(sent))
    assert message.position[6] == pytest.approx(0.015 + 0.25 * 0.022)
    assert message.position[7] == -message.position[6]
    read = decode_joint_states(message)
    assert read.stamp_ns == sent.stamp_ns
    assert read.gripper == pytest.approx(0.25)
    np.testing.assert_array_equal(read.joint_positions, sent.joint_positions)
    np.testing.assert_array_equal(read.joint_velocities, sent.joint_velocities)
    np.testing.assert_array_equal(read.joint_efforts, sent.joint_efforts)


def test_joint_states_are_read_by_name_not_by_place():
    message = encode_joint_states(state())
    turned = JointState(header=message.header, name=message.name[::-1],
                        position=message.position[::-1])
    read = decode_joint_states(turned)
    np.testing.assert_array_equal(read.joint_positions, START)
    assert np.isnan(read.joint_velocities).all()


def test_joint_states_of_another_robot_are_refused_by_name():
    with pytest.raises(MessageError, match='elbow'):
        decode_joint_states(JointState(name=['waist'], position=[0.0]))


def test_ee_pose_is_the_forward_kinematics_of_the_measured_joints():
    values = decode_ee_pose(over_the_wire(encode_ee_pose(state())))
    np.testing.assert_allclose(pose_from_xyz_quaternion(values), forward_kinematics(START),
                               atol=1e-12)
