"""What the arm's topics carry: commands, states, and one control step as labelled numbers."""

from geometry_msgs.msg import PoseStamped, TwistStamped
import numpy as np
from sensor_msgs.msg import JointState
from stable_crl_ros.data.schema import checkpoint_number
from stable_crl_ros.message_reading import (
    AppliedAction,
    decode_applied_action,
    decode_command,
    decode_ee_pose,
    decode_joint_states,
    decode_tick,
    FINGERS,
    LABELS,
    MessageError,
    NANO,
    PolicyTick,
    TICK_LABELS,
)
from stable_crl_ros.nodes.conversions import to_stamp
from stable_crl_ros.robot.arm import ArmState
from stable_crl_ros.robot.gripper import finger_position
from stable_crl_ros.robot.kinematics import forward_kinematics, JOINT_NAMES
from stable_crl_ros.robot.poses import pose_to_xyz_quaternion
from std_msgs.msg import Float64MultiArray, MultiArrayDimension, MultiArrayLayout

__all__ = [  # what reads messages needs no ROS; the nodes find both directions here
    'AppliedAction', 'decode_applied_action', 'decode_command', 'decode_ee_pose',
    'decode_joint_states', 'decode_tick', 'encode_applied_action', 'encode_command',
    'encode_ee_pose', 'encode_joint_states', 'encode_tick', 'FINGERS', 'FRAME', 'LABELS',
    'MessageError', 'PolicyTick', 'TICK_LABELS',
]
FRAME = 'base_link'


def encode_applied_action(step: AppliedAction) -> Float64MultiArray:
    """Write one step; the layout's label names every number in order."""
    stamps = [part for stamp in (step.capture_ns, step.receive_ns, step.applied_ns)
              for part in divmod(stamp, NANO)]
    return _labelled(LABELS, [*step.applied, *step.commanded, step.mode, step.flags, *stamps])


def encode_tick(tick: PolicyTick) -> Float64MultiArray:
    """Write one control step of the policy; the layout's label names every number in order."""
    return _labelled(TICK_LABELS, [
        *divmod(tick.capture_ns, NANO), checkpoint_number(tick.checkpoint), tick.value,
        tick.steps_to_go, tick.at_goal, tick.done, tick.image_age_s, tick.inference_s,
        tick.latency_s, tick.lateness_s, *tick.action])


def _labelled(labels: tuple[str, ...], numbers: list) -> Float64MultiArray:
    size = len(labels)
    layout = MultiArrayLayout(
        dim=[MultiArrayDimension(label=','.join(labels), size=size, stride=size)])
    return Float64MultiArray(layout=layout, data=[float(number) for number in numbers])


def encode_command(delta: np.ndarray, period_s: float, stamp_ns: int) -> TwistStamped:
    """
    Write the motion of one control step as a velocity in base_link.

    :param delta: (6,) m, rad about the fixed axes of base_link, per control period.
    :param period_s: control period, s.
    :param stamp_ns: capture time of the image that the command was computed from.
    """
    message = TwistStamped()
    message.header.stamp, message.header.frame_id = to_stamp(stamp_ns), FRAME
    linear, angular = message.twist.linear, message.twist.angular
    linear.x, linear.y, linear.z, angular.x, angular.y, angular.z = (
        float(value) / period_s for value in delta)
    return message


def encode_joint_states(state: ArmState) -> JointState:
    """Write joint angles (rad) and both finger positions (m) of one reading."""
    finger, unknown = float(finger_position(state.gripper)), [float('nan')] * 2
    message = JointState(name=[*JOINT_NAMES, *FINGERS],
                         position=[*state.joint_positions.tolist(), finger, -finger],
                         velocity=[*state.joint_velocities.tolist(), *unknown],
                         effort=[*state.joint_efforts.tolist(), *unknown])
    message.header.stamp, message.header.frame_id = to_stamp(state.stamp_ns), FRAME
    return message


def encode_ee_pose(state: ArmState) -> PoseStamped:
    """Write the measured pose of the gripper (ee_gripper_link) in base_link."""
    message = PoseStamped()
    message.header.stamp, message.header.frame_id = to_stamp(state.stamp_ns), FRAME
    position, turn = message.pose.position, message.pose.orientation
    (position.x, position.y, position.z, turn.x, turn.y, turn.z, turn.w) = \
        pose_to_xyz_quaternion(forward_kinematics(state.joint_positions)).tolist()
    return message
