"""What the episode logger hears: images, arm states, goal, checkpoint, kept until needed."""

from collections import deque
from collections.abc import Callable
from functools import partial
import json

from geometry_msgs.msg import PoseStamped
import numpy as np
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CompressedImage, Image, JointState
from stable_crl_ros.actions import ActionScale
from stable_crl_ros.data.alignment import Alignment, Sample
from stable_crl_ros.data.codecs import Encoded
from stable_crl_ros.data.schema import CHECKPOINT_DIGITS, SchemaError, STATE_STREAMS
from stable_crl_ros.images import ImageSpec, JPEG_START
from stable_crl_ros.nodes.common import LATCHED, param, StartupError
from stable_crl_ros.nodes.conversions import message_to_image, to_nanoseconds
from stable_crl_ros.nodes.messages import decode_ee_pose, decode_joint_states, MessageError
from stable_crl_ros.robot.control_steps import INTERRUPTIONS
from std_msgs.msg import String

# Reliable, unlike the policy's, and with room for a second in which this process does not run.
RELIABLE_IMAGES = QoSProfile(depth=30, reliability=ReliabilityPolicy.RELIABLE)
EVERY_MODE = QoSProfile(depth=20, reliability=LATCHED.reliability, durability=LATCHED.durability)
MOST_INTERRUPTIONS = 100
STATE_AGE_NS = 1_000_000_000
HISTORY_S = 0.5  # how long images are kept beyond max_image_age


class EpisodeInput:
    """
    Subscribe to everything an observation is made of.

    Declares the parameters `cameras`, `image_topics`, `image_size` and `max_image_age`.

    When the clock is stepped back, everything is forgotten: what was stamped before would be
    taken for what is seen now.

    :param node: who subscribes.
    :param timed: puts a clock around a callback.
    :param on_clock_step: called just before everything is forgotten.
    :raises StartupError: for parameters that contradict each other.
    """

    def __init__(self, node: Node, timed: Callable[[Callable], Callable],
                 on_clock_step: Callable[[], None] = lambda: None) -> None:
        self._node, self._timed, self._on_clock_step = node, timed, on_clock_step
        self._now_ns = 0
        self.goal: Image | None = None
        self.checkpoint = ''
        self.arm_mode = ''
        # When the arm said that nobody may steer it, ns, and what it was then.
        self.interruptions: deque[tuple[int, str]] = deque(maxlen=MOST_INTERRUPTIONS)
        self.keeps_jpeg = False  # the dataset stores a JPEG as it comes
        self.scales: dict[str, str] = {}  # JSON of the action scale, by checkpoint
        self.sha256s: dict[str, str] = {}  # of every checkpoint heard of, by their first digits
        self.bad_messages = 0
        self.cameras = list(param(node, 'cameras', ['over_shoulder'],
                                  "Camera names, the policy's first", read_only=True))
        self._topics = list(param(
            node, 'image_topics', ['image_raw'], 'Their topics, in this order; one that ends in '
            '/compressed is read compressed', read_only=True))
        self.spec = _image_spec(param(
            node, 'image_size', '', 'HEIGHTxWIDTH to store (pixels), such as 240x320; empty for '
            'full size', read_only=True))
        self.max_image_age_s = param(
            node, 'max_image_age', 0.5, 'A step with an older image counts as dropped (s)',
            low=0.01, high=10.0, read_only=True)
        if len(set(self.cameras)) != len(self._topics) or len(self.cameras) != len(self._topics) \
                or set(self.cameras) & set(STATE_STREAMS):
            raise StartupError(f'cameras {self.cameras} and image_topics {self._topics}: give '
                               'each camera a name of its own and one topic, and call none '
                               f'{" or ".join(STATE_STREAMS)}')
        self.alignment = Alignment(self.cameras, self._decode,
                                   history_s=self.max_image_age_s + HISTORY_S)
        self._subscribe()

    def _subscribe(self) -> None:
        create = self._node.create_subscription
        for camera, topic in zip(self.cameras, self._topics, strict=True):
            kind = CompressedImage if topic.endswith('/compressed') else Image
            create(kind, topic, self._timed(partial(self._on_image, camera)), RELIABLE_IMAGES)
        create(JointState, 'joint_states', self._timed(self._on_joints), 50)
        create(PoseStamped, 'ee_pose', self._timed(self._on_pose), 50)
        create(Image, 'goal/image', self._on_goal, LATCHED)
        create(String, 'mode', self._on_mode, EVERY_MODE)
        create(String, 'policy/checkpoint_id', self._on_checkpoint, LATCHED)
        create(String, 'policy/action_scale', self._on_action_scale, LATCHED)

    @property
    def goal_id(self) -> str:
        """Name of the goal in force, '' when there is none."""
        return '' if self.goal is None else self.goal.header.frame_id

    def goal_image(self) -> np.ndarray | None:
        """Return the goal in force, uint8 RGB (H, W, 3)."""
        return None if self.goal is None else message_to_image(self.goal, 'goal/image')

    @property
    def in_force(self) -> dict[str, str]:
        """What a step is taken under, for `Recording.note`; '' where nobody said."""
        return {'goals': self.goal_id, 'checkpoints': self.checkpoint, 'modes': self.arm_mode,
                'scales': self.scales.get(self.checkpoint, '')}

    def known(self) -> dict:
        """Return what `EpisodeMeta` takes of goal, checkpoint and images."""
        return {'goal_id': self.goal_id, 'goal_image': self.goal_image(),
                'checkpoint': self.checkpoint, 'action_scale': self.action_scale,
                'image_spec': None if self.spec is None else self.spec.to_dict()}

    @property
    def action_scale(self) -> dict | None:
        """How the checkpoint in force scales its actions; None when nobody said."""
        return json.loads(self.scales.get(self.checkpoint, 'null'))

    def missing(self) -> list[str]:
        """Say what an episode needs and nobody sends; empty when all is there."""
        now_ns, resolve = self._node.get_clock().now().nanoseconds, self._node.resolve_topic_name
        missing = []
        for camera, topic in zip(self.cameras, self._topics, strict=True):
            newest = self.alignment.images[camera].newest
            if newest is None or now_ns - newest.stamp_ns > self.max_image_age_s * 1e9:
                missing.append(f'no fresh image on {resolve(topic)}')
        newest = self.alignment.states.newest
        if newest is None or now_ns - newest.stamp_ns > STATE_AGE_NS:
            missing.append(f'no fresh state on {resolve("joint_states")}')
        if not self._node.count_publishers('applied_action'):
            missing.append(f'no arm on {resolve("applied_action")}')
        return missing

    def _decode(self, camera: str, message: Image | CompressedImage) -> np.ndarray | Encoded:
        # In the thread that writes: decoding may take longer than a callback should.
        try:
            image = message_to_image(message, f'image of {camera}')
            if self.spec is not None:
                return self.spec.resize(image)
            data = bytes(message.data) if isinstance(message, CompressedImage) else b''
            return Encoded(data, image.shape) if self.keeps_jpeg and data[:2] == JPEG_START \
                else image
        except ValueError as error:
            raise SchemaError(str(error), camera) from error

    def _sample(self, message, content, nbytes: int = 0) -> Sample:
        before_ns, self._now_ns = self._now_ns, self._node.get_clock().now().nanoseconds
        if self._now_ns < before_ns:
            self._node.get_logger().warning(
                f'the clock was stepped back by {(before_ns - self._now_ns) * 1e-9:.3f} s; what '
                'was seen before is forgotten')
            self._on_clock_step()
            self.alignment.clear()
        return Sample(to_nanoseconds(message.header.stamp), self._now_ns, content, nbytes)

    def _on_image(self, camera: str, message: Image | CompressedImage) -> None:
        self.alignment.images[camera].add(self._sample(message, message, len(message.data)))

    def _on_joints(self, message: JointState) -> None:
        try:
            state = decode_joint_states(message)
        except MessageError as error:
            self.bad_messages += 1
            self._node.get_logger().error(str(error), throttle_duration_sec=2.0)
            return
        self.alignment.states.add(self._sample(message, state))

    def _on_pose(self, message: PoseStamped) -> None:
        self.alignment.poses.add(self._sample(message, decode_ee_pose(message)))

    def _on_goal(self, message: Image) -> None:
        self.goal = message

    def _on_mode(self, message: String, info: dict) -> None:
        self.arm_mode = message.data
        if message.data in INTERRUPTIONS:
            self.interruptions.append((info['source_timestamp'], INTERRUPTIONS[message.data]))

    def _on_checkpoint(self, message: String) -> None:
        self.checkpoint = message.data
        self.sha256s[message.data[:CHECKPOINT_DIGITS]] = message.data

    def _on_action_scale(self, message: String) -> None:
        try:
            scale = json.loads(message.data)
            checkpoint = str(scale.pop('checkpoint'))
            self.scales[checkpoint] = json.dumps(ActionScale.from_dict(scale).to_dict())
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            self.bad_messages += 1
            self._node.get_logger().error(f'policy/action_scale: {error}',
                                          throttle_duration_sec=2.0)


def _image_spec(size: str) -> ImageSpec | None:
    if not size:
        return None
    height, _, width = size.lower().partition('x')
    if not (height.isdigit() and width.isdigit()):
        raise StartupError(f'image_size is {size!r}; write HEIGHTxWIDTH, such as 240x320')
    return ImageSpec(int(height), int(width))
