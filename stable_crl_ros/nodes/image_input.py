"""The newest camera image a node has received, and whether it may be used."""

from collections.abc import Callable

import numpy as np
from rclpy.node import Node
from sensor_msgs.msg import CompressedImage, Image
from stable_crl_ros.nodes.common import IMAGE_IN, param
from stable_crl_ros.nodes.conversions import (
    IMAGE_BACKENDS,
    image_reader,
    IMAGE_TRANSPORTS,
    to_nanoseconds,
)
from stable_crl_ros.robot.controller import FUTURE_TOLERANCE_S


class ImageInput:
    """
    Subscribe to a camera and keep the newest image by stamp.

    An image from further in the future than the arm lets a command be is dropped: the arm would
    refuse what is computed from it.

    Declares the parameters `image_transport` and `image_backend` of its node.

    :param node: who subscribes.
    :param topic: of the raw images; compressed ones are on `<topic>/compressed`.
    :raises stable_crl_ros.nodes.conversions.ConversionError: when the backend is not usable.
    """

    def __init__(self, node: Node, topic: str = 'image_raw') -> None:
        transport = param(node, 'image_transport', 'raw', 'Which images to subscribe to',
                          read_only=True, choices=IMAGE_TRANSPORTS)
        backend = param(node, 'image_backend', 'numpy',
                        'Who converts images; auto takes cv_bridge where it works',
                        read_only=True, choices=IMAGE_BACKENDS)
        self._read: Callable[..., np.ndarray] = image_reader(backend)
        self._node = node
        self._message: Image | CompressedImage | None = None
        kind = Image if transport == 'raw' else CompressedImage
        self.topic = node.resolve_topic_name(
            topic if transport == 'raw' else f'{topic}/compressed')
        self.received, self.future = 0, 0
        node.create_subscription(kind, self.topic, self._on_image, IMAGE_IN)

    @property
    def stamp_ns(self) -> int:
        """Capture time of the newest image, ns; 0 before the first."""
        return to_nanoseconds(self._message.header.stamp) if self._message else 0

    @property
    def frame_id(self) -> str:
        """The camera's coordinate frame, '' before the first image."""
        return self._message.header.frame_id if self._message else ''

    def age_s(self) -> float:
        """Return how long ago the newest image was captured, s."""
        return (self._node.get_clock().now().nanoseconds - self.stamp_ns) * 1e-9

    def problem(self, max_age_s: float) -> str:
        """Say why the newest image must not be used, '' when it may be."""
        if self._message is None and self.future:
            return (f'images on {self.topic} are stamped in the future; synchronise the clocks of '
                    'camera and robot machine')
        if self._message is None:
            return f'no image on {self.topic} yet; check that the camera node runs'
        if self.stamp_ns == 0:
            return f'images on {self.topic} carry no stamp; set it to the capture time'
        age_s = self.age_s()
        if age_s > max_age_s:
            return (f'the newest image on {self.topic} is {age_s:.2f} s old; max_image_age is '
                    f'{max_age_s:.2f} s')
        if age_s < -FUTURE_TOLERANCE_S:
            return f'the image on {self.topic} is stamped {-age_s:.2f} s in the future'
        return ''

    def image(self) -> np.ndarray:
        """
        Decode the newest image.

        :returns: uint8 RGB, shape (H, W, 3).
        :raises ValueError: `ConversionError` or `ImageError`, naming the topic.
        """
        return self._read(self._message, self.topic)

    def _on_image(self, message: Image | CompressedImage) -> None:
        self.received += 1
        stamp_ns = to_nanoseconds(message.header.stamp)
        horizon_ns = self._node.get_clock().now().nanoseconds + int(FUTURE_TOLERANCE_S * 1e9)
        if stamp_ns > horizon_ns:  # kept, it would hide every right one until its time comes
            self.future += 1
            self._node.get_logger().warning(
                f'dropped an image on {self.topic} stamped '
                f'{(stamp_ns - horizon_ns) * 1e-9 + FUTURE_TOLERANCE_S:.2f} s in the future',
                throttle_duration_sec=5.0)
        elif stamp_ns >= self.stamp_ns or self.stamp_ns > horizon_ns:
            self._message = message
