"""Read ROS messages without ROS: any object with a message's fields will do."""

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from stable_crl_ros.actions import ACTION_DIM, ACTION_NAMES
from stable_crl_ros.data.schema import checkpoint_id, Mode
from stable_crl_ros.images import decode_image
from stable_crl_ros.robot.arm import ArmState
from stable_crl_ros.robot.gripper import opening_from_finger
from stable_crl_ros.robot.kinematics import JOINT_NAMES
from stable_crl_ros.robot.safety import REFUSED, StepFlag

FINGERS = ('left_finger', 'right_finger')  # as the vendor's robot description names them

STAMPS = ('capture', 'receive', 'applied')
# A float64 holds no nanosecond stamp of this century, so seconds and nanoseconds travel apart.
LABELS = (
    *(f'applied.{name}' for name in ACTION_NAMES),
    *(f'commanded.{name}' for name in ACTION_NAMES),
    'mode', 'flags',
    *(f'{stamp}.{part}' for stamp in STAMPS for part in ('sec', 'nanosec')),
)
TICK_LABELS = (
    'capture.sec', 'capture.nanosec', 'checkpoint', 'value', 'steps_to_go', 'at_goal', 'done',
    'image_age', 'inference', 'latency', 'lateness', *(f'action.{name}' for name in ACTION_NAMES),
)
NANO = 1_000_000_000

# 8UC3 names no colour order; OpenCV programs, which publish it, mean BGR.
CHANNELS = {'rgb8': 3, 'bgr8': 3, '8UC3': 3, 'mono8': 1}
_TO_RGB = {'bgr8': cv2.COLOR_BGR2RGB, '8UC3': cv2.COLOR_BGR2RGB, 'mono8': cv2.COLOR_GRAY2RGB}
_COMPRESSED = ('jpeg', 'jpg', 'png')


class ConversionError(ValueError):
    """A message that is no usable image."""


class MessageError(ValueError):
    """A message that does not carry what its topic promises."""


@dataclass(frozen=True)
class AppliedAction:
    """
    One command as the arm dealt with it, accepted or refused.

    :param applied: the action really executed after every clip, shape (7,), metres, radians about
        the fixed axes of base_link, gripper 0..1; no motion when the command was refused.
    :param commanded: the action asked for, same units; holds NaN when NaN was asked for.
    :param mode: whose command it was; IDLE when the arm listened to nobody.
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


@dataclass(frozen=True)
class PolicyTick:
    """
    One control step as the policy computed it; every one is a command that was sent.

    :param capture_ns: capture time of the image that it acted on; the command's stamp.
    :param action: as it was sent, shape (7,), metres, radians about the fixed axes of base_link,
        gripper 0..1.
    :param checkpoint: first 12 hexadecimal digits of the sha256 of the checkpoint that acted.
    :param value: the critic's own number; NaN where the learner has no critic.
    :param steps_to_go: expected number of steps to the goal; NaN: not known.
    :param at_goal: probability of being at the goal, 0..1; NaN: not known.
    :param done: the goal counts as reached.
    :param image_age_s: age of the image when the computation began, s.
    :param inference_s: how long it took from the message to the action, s.
    :param latency_s: from the capture of the image until the command was published, s.
    :param lateness_s: how much later than its phase the tick began, s.
    """

    capture_ns: int
    action: np.ndarray
    checkpoint: str
    value: float = float('nan')
    steps_to_go: float = float('nan')
    at_goal: float = float('nan')
    done: bool = False
    image_age_s: float = float('nan')
    inference_s: float = float('nan')
    latency_s: float = float('nan')
    lateness_s: float = float('nan')


def to_nanoseconds(stamp: Any) -> int:
    """Turn a message stamp into nanoseconds of the system clock."""
    return stamp.sec * 10 ** 9 + stamp.nanosec


def message_to_image(message: Any, what: str = 'image') -> np.ndarray:
    """
    Read a raw or compressed image message.

    :param message: rgb8, bgr8, 8UC3 (taken as BGR) or mono8; or JPEG or PNG.
    :param what: how the error names the image (its topic).
    :returns: uint8 RGB, shape (H, W, 3); for rgb8 a view of the message's own memory.
    :raises ConversionError: for another encoding or a message that contradicts itself.
    :raises stable_crl_ros.images.ImageError: when compressed bytes cannot be decoded.
    """
    if hasattr(message, 'format'):  # only the compressed one has
        check_compressed(message, what)
        return decode_image(message.data, what)
    check_raw(message, what)
    channels = CHANNELS[message.encoding]
    rows = np.frombuffer(message.data, np.uint8).reshape(message.height, message.step)
    image = rows[:, :message.width * channels].reshape(message.height, message.width, channels)
    if message.encoding == 'rgb8':
        return image
    return cv2.cvtColor(np.ascontiguousarray(image), _TO_RGB[message.encoding])


def check_compressed(message: Any, what: str) -> None:
    """
    Refuse a sensor_msgs/CompressedImage that is not JPEG or PNG.

    :raises ConversionError: naming its format.
    """
    words = message.format.lower().replace(';', ' ').split()
    if not any(word in _COMPRESSED for word in words):
        raise ConversionError(f'{what}: compressed format {message.format!r} is not supported; '
                              'publish jpeg or png')


def check_raw(message: Any, what: str) -> None:
    """
    Refuse a sensor_msgs/Image of another encoding, or one that contradicts itself.

    :raises ConversionError: saying what is wrong with it.
    """
    if message.encoding not in CHANNELS:
        raise ConversionError(f'{what}: encoding {message.encoding!r} is not supported; publish '
                              f'one of {", ".join(CHANNELS)}')
    if message.width == 0 or message.height == 0:
        raise ConversionError(f'{what}: the image is empty ({message.width}x{message.height})')
    row = message.width * CHANNELS[message.encoding]
    if message.step < row:
        raise ConversionError(f'{what}: step {message.step} is too short for a row of {row} bytes '
                              f'({message.width} pixels {message.encoding})')
    if len(message.data) != message.step * message.height:
        raise ConversionError(f'{what}: {len(message.data)} bytes of data, but {message.height} '
                              f'rows of {message.step} bytes need {message.step * message.height}')


def decode_applied_action(message: Any) -> AppliedAction:
    """
    Read what `encode_applied_action` wrote.

    :raises MessageError: for other labels, another count, or a number that cannot be.
    """
    numbers = _labelled(message, LABELS, 'applied_action', 'an arm')
    if not np.isfinite(numbers[:ACTION_DIM]).all():
        raise MessageError(f'applied_action is not finite: {numbers[:ACTION_DIM].tolist()}')
    mode, flags, *stamps = _whole_numbers(
        numbers[2 * ACTION_DIM:], 'applied_action: mode, flags and stamps')
    if mode not in tuple(Mode):
        raise MessageError(f'applied_action has mode {mode}; known: {[int(m) for m in Mode]}')
    capture, receive, applied = (
        sec * NANO + nanosec for sec, nanosec in zip(stamps[::2], stamps[1::2], strict=True))
    return AppliedAction(numbers[:ACTION_DIM], numbers[ACTION_DIM:2 * ACTION_DIM],
                         Mode(mode), StepFlag(flags), capture, receive, applied)


def decode_tick(message: Any) -> PolicyTick:
    """
    Read what `encode_tick` wrote.

    :raises MessageError: for other labels, another count, or a number that cannot be.
    """
    numbers = _labelled(message, TICK_LABELS, 'policy/tick', 'a policy')
    sec, nanosec, checkpoint = _whole_numbers(numbers[:3], 'policy/tick: stamp and checkpoint')
    value, steps_to_go, at_goal, done, *durations = numbers[3:11].tolist()
    return PolicyTick(sec * NANO + nanosec, numbers[11:], checkpoint_id(checkpoint), value,
                      steps_to_go, at_goal, done == 1.0, *durations)


def _labelled(message: Any, labels: tuple[str, ...], topic: str, sender: str) -> np.ndarray:
    """Return the numbers of a message whose layout must carry these labels."""
    found = ','.join(dimension.label for dimension in message.layout.dim)
    if found != ','.join(labels):
        raise MessageError(f'{topic} is labelled {found[:80]!r}, not {labels[0]!r} ... '
                           f'{labels[-1]!r}; run {sender} node of this version')
    numbers = np.array(message.data, float)
    if numbers.shape != (len(labels),):
        raise MessageError(f'{topic} holds {numbers.size} numbers, not {len(labels)}')
    return numbers


def _whole_numbers(numbers: np.ndarray, what: str) -> list[int]:
    if not np.isfinite(numbers).all() or (numbers != np.floor(numbers)).any() or \
            (numbers < 0).any():
        raise MessageError(f'{what} must be whole numbers >= 0, got {numbers.tolist()}')
    return [int(number) for number in numbers]


def decode_command(message: Any, period_s: float) -> np.ndarray:
    """Return the (6,) delta that `encode_command` wrote; it may hold NaN."""
    linear, angular = message.twist.linear, message.twist.angular
    return period_s * np.array([linear.x, linear.y, linear.z, angular.x, angular.y, angular.z])


def decode_joint_states(message: Any) -> ArmState:
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


def decode_ee_pose(message: Any) -> np.ndarray:
    """Return x, y, z (m) and quaternion x, y, z, w, shape (7,)."""
    position, turn = message.pose.position, message.pose.orientation
    return np.array([position.x, position.y, position.z, turn.x, turn.y, turn.z, turn.w])
