"""The monitor node over DDS: what its picture shows, and that nobody looking costs nothing."""

from itertools import count

import numpy as np
import pytest

pytest.importorskip('rclpy')

from sensor_msgs.msg import Image
from stable_crl_ros.data.schema import Mode
from stable_crl_ros.nodes.common import IMAGE_OUT, LATCHED
from stable_crl_ros.nodes.conversions import image_to_message, message_to_image, to_nanoseconds
from stable_crl_ros.nodes.messages import (
    AppliedAction,
    encode_applied_action,
    encode_tick,
    PolicyTick,
)
from stable_crl_ros.nodes.monitor import MonitorNode
from stable_crl_ros.robot.safety import StepFlag
from std_msgs.msg import Float64MultiArray

RED, BLUE = (200, 0, 0), (0, 0, 200)
ACTION = np.array([0.03, 0, 0, 0, 0, 0, 1.0])
NUMBERS = count()


class Stage:
    """A monitor with everything it listens to."""

    def __init__(self, ros):
        self.ros = ros
        # A namespace of its own: a stray camera or viewer elsewhere must not count.
        namespace = f'/stage_{next(NUMBERS)}'
        self.node = ros.add(MonitorNode(
            context=ros.context, namespace=namespace,
            parameter_overrides=ros.parameters(rate=10.0, window=4.0)))
        self.probe = ros.node(namespace=namespace)
        publisher = self.probe.create_publisher
        self.camera = publisher(Image, 'image_raw', IMAGE_OUT)
        self.goals = publisher(Image, 'goal/image', LATCHED)
        self.ticks = publisher(Float64MultiArray, 'policy/tick', 50)
        self.applied = publisher(Float64MultiArray, 'applied_action', 50)
        self.pictures = []
        ros.spin_until(lambda: self.ticks.get_subscription_count()
                       and self.applied.get_subscription_count())

    def look(self):
        """Begin to watch the picture, as an image viewer does."""
        return self.probe.create_subscription(Image, 'policy/debug_image', self.pictures.append,
                                              10)

    def step(self, stamp_ns, at_goal=0.2, done=False):
        """Let the policy command one step and the arm apply it."""
        taken = self.node._live.taken
        self.ticks.publish(encode_tick(PolicyTick(
            stamp_ns, ACTION, 'abcdef123456', 1.0, 17.0, at_goal, done, 0.03, 0.004, 0.01, 0.0)))
        self.ros.spin_until(lambda: self.node._live.tick
                            and self.node._live.tick.capture_ns == stamp_ns)
        self.applied.publish(encode_applied_action(AppliedAction(
            ACTION, ACTION, Mode.POLICY, StepFlag(0), stamp_ns, stamp_ns, stamp_ns)))
        self.ros.spin_until(lambda: self.node._live.taken > taken)

    def picture(self, colour=RED):
        """Show the camera's image until a picture of it comes; returns that."""
        self.pictures.clear()
        stamp_ns = self.probe.get_clock().now().nanoseconds
        image = image_to_message(np.full((60, 80, 3), colour, np.uint8), stamp_ns, 'camera')
        timer = self.probe.create_timer(0.05, lambda: self.camera.publish(image))
        self.ros.spin_until(lambda: self.pictures, what='a picture')
        self.probe.destroy_timer(timer)
        assert to_nanoseconds(self.pictures[-1].header.stamp) == stamp_ns
        return message_to_image(self.pictures[-1])


def share(picture, colour):
    return (np.abs(picture.astype(int) - colour).max(2) < 6).mean()


def test_the_picture_shows_camera_goal_and_curves(ros):
    stage = Stage(ros)
    stage.goals.publish(image_to_message(np.full((60, 80, 3), BLUE, np.uint8), 0, 'sea.png'))
    ros.spin_until(lambda: stage.node._goal_name == 'sea.png')
    for number in range(6):
        stage.step(10 ** 18 + number)
    stage.look()
    picture = stage.picture()
    assert picture.dtype == np.uint8 and picture.shape[1] >= 800
    assert share(picture, RED) > 0.1 and share(picture, BLUE) > 0.1
    track = stage.node._live.track()
    assert track.panels[-2:] == ['to go', 'at goal']
    np.testing.assert_allclose(track.at_goal, 0.2)
    assert (track.mode == Mode.POLICY).all()


def test_words_say_mode_goal_checkpoint_progress_and_done(ros):
    stage = Stage(ros)
    stage.step(10 ** 18)
    title, facts, _ = stage.node._live.title('sea.png', acting=True)
    assert title == 'policy   goal sea.png'
    assert 'checkpoint abcdef123456' in facts and '17 steps to go' in facts
    assert 'at the goal with 20 %' in facts
    stage.step(10 ** 18 + 1, 0.9, done=True)
    assert stage.node._live.title('sea.png', acting=True)[0].endswith('DONE')
    assert stage.node._live.track().done.tolist() == [False, True]
    assert stage.node._live.title('sea.png', acting=False)[1] == 'the policy is silent'


def test_what_was_said_of_the_goal_before_is_not_shown_for_another(ros):
    stage = Stage(ros)
    for name in ('sea.png', 'shore.png'):
        stage.goals.publish(image_to_message(np.full((60, 80, 3), BLUE, np.uint8), 0, name))
        ros.spin_until(lambda: stage.node._goal_name == name)  # noqa: B023 called at once
        headline, facts, _ = stage.node._live.title(name, acting=True)
        assert 'DONE' not in headline and facts == 'the policy is silent'
        stage.step(10 ** 18, 0.9, done=True)
        assert stage.node._live.title(name, acting=True)[0].endswith('DONE')


def test_only_the_last_seconds_are_kept(ros):
    stage = Stage(ros)
    for number in range(25):
        stage.step(10 ** 18 + number)
    track = stage.node._live.track()
    assert len(track.action) == 20  # 4 s at 5 Hz
    assert track.first == 5


def test_nobody_looking_means_no_picture_and_no_camera(ros):
    stage = Stage(ros)
    ros.spin_for(0.3)
    assert stage.camera.get_subscription_count() == 0
    viewer = stage.look()
    stage.picture()  # without goal or step, too
    assert stage.camera.get_subscription_count() == 1
    stage.probe.destroy_subscription(viewer)
    ros.spin_until(lambda: stage.camera.get_subscription_count() == 0)
