"""What the arm's topics carry: commands, states, and one control step as labelled numbers."""

from dataclasses import dataclass

from geometry_msgs.msg import PoseStamped, TwistStamped
import numpy as np
from sensor_msgs.msg import JointState
from stable_crl_ros.actions import ACTION_DIM, ACTION_NAMES
from stable_crl_ros.data.schema import Mode
from stable_crl_ros.nodes.conversions import to_nanoseconds, to_stamp
from stable_crl_ros.robot.arm import ArmState
from stable_crl_ros.robot.kinematics import (
    finger_position,
    forward_kinematics,
    JOINT_NAMES,
    opening_from_finger,
)
from stable_crl_ros.robot.poses import pose_to_xyz_quaternion
from stable_crl_ros.robot.safety import REFUSED, StepFlag
from std_msgs.msg import Float64MultiArray, MultiArrayDimension, MultiArrayLayout

FRAME = 'base_link'
FINGERS = ('left_finger', 'right_finger')  # as the vendor's robot description names them

STAMPS = ('capture', 'receive', 'applied')
# A float64 holds no nanosecond stamp of this century, so seconds and nanoseconds travel apart.
LABELS = (
    *(f'applied.{name}' for name in ACTION_NAMES),
    *(f'commanded.{name}' for name in ACTION_NAMES),
    'mode', 'flags',
    *(f'{stamp}.{part}' for stamp in STAMPS for part in ('sec', 'nanosec')),
)
_NANO = 1_000_000_000


class MessageError(ValueError):
    """A message that does not carry what its topic promises."""


@dataclass(frozen=True)
class AppliedAction:
    """
    One command as the arm dealt with it, accepted or refused.

    :param applied: the action really executed after every clip, shape (7,), metres, radians about
        the fixed axes of base_link, gripper 0..1; no motion when the command was refused.
    :param commanded: the action asked for, same units; holds NaN when NaN was asked for.
    :param mode: whose command it was; IDLE when the arm was stopped or homing.
    :param flags: what was clipped, or why it was refused.
    :param capture_ns: stamp of the command: capture time of the image it was computed from.
    :param receive_ns: when the arm received it.
    :param applied_ns: when the arm began to execute it, or refused it.
    """

    applied: np.ndarray
    commanded: np.ndarray
    mode: Mode
    flags: StepFlag
    capture_ns: int
    receive_ns: int
    applied_ns: int

    @property
    def refused(self) -> bool:
        """Say whether nothing was applied."""
        return bool(self.flags & REFUSED)


def encode_applied_action(step: AppliedAction) -> Float64MultiArray:
    """Write one step; the layout's label names every number in order."""
    stamps = [part for stamp in (step.capture_ns, step.receive_ns, step.applied_ns)
              for part in divmod(stamp, _NANO)]
    numbers = [*step.applied, *step.commanded, step.mode, step.flags, *stamps]
    size = len(LABELS)
    layout = MultiArrayLayout(
        dim=[MultiArrayDimension(label=','.join(LABELS), size=size, stride=size)])
    return Float64MultiArray(layout=layout, data=[float(number) for number in numbers])


def decode_applied_action(message: Float64MultiArray) -> AppliedAction:
    """
    Read what `encode_applied_action` wrote.

    :raises MessageError: for other labels, another count, or a number that cannot be.
    """
    labels = ','.join(dimension.label for dimension in message.layout.dim)
    if labels != ','.join(LABELS):
        raise MessageError(f'applied_action is labelled {labels[:80]!r}, not {LABELS[0]!r} ... '
                           f'{LABELS[-1]!r}; run an arm node of this version')
    numbers = np.array(message.data, float)
    if numbers.shape != (len(LABELS),):
        raise MessageError(f'applied_action holds {numbers.size} numbers, not {len(LABELS)}')
    if not np.isfinite(numbers[:ACTION_DIM]).all():
        raise MessageError(f'applied_action is not finite: {numbers[:ACTION_DIM].tolist()}')
    mode, flags, *stamps = _whole_numbers(numbers[2 * ACTION_DIM:])
    if mode not in tuple(Mode):
        raise MessageError(f'applied_action has mode {mode}; known: {[int(m) for m in Mode]}')
    capture, receive, applied = (
        sec * _NANO + nanosec for sec, nanosec in zip(stamps[::2], stamps[1::2], strict=True))
    return AppliedAction(numbers[:ACTION_DIM], numbers[ACTION_DIM:2 * ACTION_DIM],
                         Mode(mode), StepFlag(flags), capture, receive, applied)


def _whole_numbers(numbers: np.ndarray) -> list[int]:
    if not np.isfinite(numbers).all() or (numbers != np.floor(numbers)).any() or \
            (numbers < 0).any():
        raise MessageError(f'applied_action: mode, flags and stamps must be whole numbers >= 0, '
                           f'got {numbers.tolist()}')
    return [int(number) for number in numbers]


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


def decode_command(message: TwistStamped, period_s: float) -> np.ndarray:
    """Return the (6,) delta that `encode_command` wrote; it may hold NaN."""
    linear, angular = message.twist.linear, message.twist.angular
    return period_s * np.array([linear.x, linear.y, linear.z, angular.x, angular.y, angular.z])


def encode_joint_states(state: ArmState) -> JointState:
    """Write joint angles (rad) and both finger positions (m) of one reading."""
    finger, unknown = float(finger_position(state.gripper)), [float('nan')] * 2
    message = JointState(name=[*JOINT_NAMES, *FINGERS],
                         position=[*state.joint_positions.tolist(), finger, -finger],
                         velocity=[*state.joint_velocities.tolist(), *unknown],
                         effort=[*state.joint_efforts.tolist(), *unknown])
    message.header.stamp, message.header.frame_id = to_stamp(state.stamp_ns), FRAME
    return message


def decode_joint_states(message: JointState) -> ArmState:
    """
    Read `joint_states`, of this arm node or of the vendor's driver, in any order of joints.

    :raises MessageError: when a joint or the left finger is not in it.
    """
    index = {name: number for number, name in enumerate(message.name)}
    missing = [name for name in (*JOINT_NAMES, FINGERS[0]) if name not in index]
    if missing or len(message.position) != len(index):
        raise MessageError(f'joint_states lacks {missing}; it has {list(message.name)} and '
                           f'{len(message.position)} positions')
    order = [index[name] for name in JOINT_NAMES]
    values = [np.array(numbers)[order] if len(numbers) == len(index) else np.full(6, np.nan)
              for numbers in (message.position, message.velocity, message.effort)]
    opening = opening_from_finger(message.position[index[FINGERS[0]]])
    return ArmState(to_nanoseconds(message.header.stamp), *values, float(opening))


def encode_ee_pose(state: ArmState) -> PoseStamped:
    """Write the measured pose of the gripper (ee_gripper_link) in base_link."""
    message = PoseStamped()
    message.header.stamp, message.header.frame_id = to_stamp(state.stamp_ns), FRAME
    position, turn = message.pose.position, message.pose.orientation
    (position.x, position.y, position.z, turn.x, turn.y, turn.z, turn.w) = \
        pose_to_xyz_quaternion(forward_kinematics(state.joint_positions)).tolist()
    return message


def decode_ee_pose(message: PoseStamped) -> np.ndarray:
    """Return x, y, z (m) and quaternion x, y, z, w, shape (7,)."""
    position, turn = message.pose.position, message.pose.orientation
    return np.array([position.x, position.y, position.z, turn.x, turn.y, turn.z, turn.w])
