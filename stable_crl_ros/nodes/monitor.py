"""Draw what the policy sees, wants and does as one picture, for any image viewer."""

import os
import sys
import time

import numpy as np
from rclpy.node import Node
from rclpy.subscription import Subscription
from sensor_msgs.msg import Image
from stable_crl_ros.live_track import LiveTrack
from stable_crl_ros.nodes.common import (
    IMAGE_IN,
    IMAGE_OUT,
    LATCHED,
    param,
    spin_node,
    steady_clock,
)
from stable_crl_ros.nodes.conversions import image_to_message, message_to_image, to_nanoseconds
from stable_crl_ros.nodes.messages import decode_applied_action, decode_tick, MessageError
from std_msgs.msg import Float64MultiArray

NICENESS = 10  # drawing gives way to whatever controls the arm
SILENT_S = 1.0  # since its last tick: the policy is not acting


class MonitorNode(Node):
    """
    Publish `policy/debug_image` while somebody subscribes to it, in a process of its own.

    Observation, goal, the motion and progress of the last seconds, the action as bars, mode,
    checkpoint and whether the goal is reached; drawn as `stable-crl episodes view --video` does.
    The camera is listened to only while somebody looks.
    """

    def __init__(self, **kwargs) -> None:
        super().__init__('monitor', enable_logger_service=True, **kwargs)
        rate = param(self, 'rate', 2.0, 'Pictures per second at most (Hz)', low=0.1, high=10.0,
                     read_only=True)
        self._control_rate = param(self, 'control_rate', 5.0, 'Control steps per second (Hz)',
                                   low=0.5, high=50.0, read_only=True)
        window = param(self, 'window', 20.0, 'How much of the past is shown (s)', low=1.0,
                       high=600.0, read_only=True)
        self._height = param(self, 'height', 240, 'Of the two pictures (pixels)', low=48,
                             high=1080, read_only=True)
        self._live = LiveTrack(max(2, round(window * self._control_rate)))
        self._goal: np.ndarray | None = None
        self._goal_name, self._heard_s = '', -np.inf
        self._camera: Subscription | None = None
        self._image: Image | None = None
        self._out = self.create_publisher(Image, 'policy/debug_image', IMAGE_OUT)
        self.create_subscription(Image, 'goal/image', self._on_goal, LATCHED)
        self.create_subscription(Float64MultiArray, 'policy/tick', self._on_tick, 50)
        self.create_subscription(Float64MultiArray, 'applied_action', self._on_applied, 50)
        self.create_timer(1.0 / rate, self._draw, clock=steady_clock())

    def _on_goal(self, message: Image) -> None:
        try:
            self._goal = message_to_image(message, 'goal/image').copy()
        except ValueError as error:
            self.get_logger().error(f'goal refused: {error}', throttle_duration_sec=2.0)
            return
        self._goal_name = message.header.frame_id
        self._live.tick = None  # it was of the goal before, and so was what it said of that

    def _on_tick(self, message: Float64MultiArray) -> None:
        try:
            self._live.add_tick(decode_tick(message))
        except MessageError as error:
            self.get_logger().error(str(error), throttle_duration_sec=2.0)
            return
        self._heard_s = time.monotonic()

    def _on_applied(self, message: Float64MultiArray) -> None:
        try:
            self._live.add_step(decode_applied_action(message))
        except MessageError as error:
            self.get_logger().error(str(error), throttle_duration_sec=2.0)

    def _on_image(self, message: Image) -> None:
        self._image = message

    def _draw(self) -> None:
        if not self._out.get_subscription_count():
            if self._camera is not None:
                self.destroy_subscription(self._camera)
                self._camera = self._image = None
            return
        if self._camera is None:
            self._camera = self.create_subscription(Image, 'image_raw', self._on_image, IMAGE_IN)
        if self._image is None:
            return
        message, self._image = self._image, None  # each is drawn once
        try:
            image = message_to_image(message, 'image_raw')
        except ValueError as error:
            self.get_logger().error(str(error), throttle_duration_sec=2.0)
            return
        title = self._live.title(self._goal_name, time.monotonic() - self._heard_s < SILENT_S)
        picture = self._live.draw(image, self._goal, title, self._control_rate, self._height)
        self._out.publish(image_to_message(picture, to_nanoseconds(message.header.stamp),
                                           message.header.frame_id))


def main(args: list[str] | None = None) -> int:
    """Run the node until Ctrl-C."""
    os.nice(NICENESS)
    return spin_node(MonitorNode, args)


if __name__ == '__main__':
    sys.exit(main())
