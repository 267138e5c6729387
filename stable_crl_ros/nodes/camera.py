"""Publish a camera: device, stream, video or folder, each image with its capture time."""

from collections.abc import Callable
import sys
import threading
import time
import traceback

import cv2
import numpy as np
from rclpy.node import Node
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from stable_crl_ros.cameras import (
    CameraEndedError,
    CameraError,
    open_source,
    PacedSource,
    Source,
)
from stable_crl_ros.nodes.common import (
    declare_priority,
    Diagnostics,
    ERROR,
    IMAGE_OUT,
    OK,
    param,
    spin_node,
    WARN,
)
from stable_crl_ros.nodes.conversions import image_to_compressed, image_to_message, to_stamp
from stable_crl_ros.nodes.process import RCLError
from stable_crl_ros.scheduling import CAMERA

SIM_RATE = 10.0  # Hz
BACK_OFF_S = (0.5, 8.0)  # first and longest pause before a camera is opened again
SILENCE_S = 2.0


class CameraNode(Node):
    """
    Read images in a thread of its own and publish each at once.

    An absent camera is refused at the start; one that fails later is opened again, with growing
    pauses, for as long as the node runs.

    :param source: a source that answers at once (a simulated camera), paced here and never
        closed here; None opens what the parameter `source` names.
    :raises stable_crl_ros.cameras.CameraError: when it cannot be opened.
    """

    def __init__(self, source=None, **kwargs) -> None:
        super().__init__('camera', enable_logger_service=True, **kwargs)
        self._open = self._declare(source)
        self._images = self.create_publisher(Image, 'image_raw', IMAGE_OUT)
        self._compressed = self.create_publisher(
            CompressedImage, 'image_raw/compressed', IMAGE_OUT)
        self._info = self.create_publisher(CameraInfo, 'camera_info', IMAGE_OUT)
        self._frames, self._reported_frames, self._reconnects = 0, 0, 0
        self._size, self._newest_s = '', time.monotonic()
        self._error, self._ended = '', ''
        self._stopping = threading.Event()
        try:
            self._source: Source | None = self._open()
        except CameraError:
            self.destroy_node()
            raise
        self.get_logger().info(f'camera: {self._source.description}')
        Diagnostics(self, self._source.description).add('camera', self._diagnose)
        self._thread = threading.Thread(target=self._run, name='capture', daemon=True)
        self._thread.start()

    def _declare(self, injected) -> Callable[[], Source]:
        name = param(self, 'source', '', 'Device path or number, stream address, video file or '
                     'image folder', read_only=True)
        framerate = param(self, 'framerate', 0.0, "Images per second (Hz); 0 for the source's own",
                          low=0.0, high=240.0, read_only=True)
        self._frame_id = param(self, 'frame_id', 'camera_optical_frame',
                               'Coordinate frame of the images', read_only=True)
        width, height = (param(self, side, default, f'{side} asked of a device (pixels); 0 for '
                               'its own', low=0, high=8192, read_only=True)
                         for side, default in (('width', 640), ('height', 480)))
        declare_priority(self, CAMERA)
        loop = param(self, 'loop', True, 'Start a video or a folder again at its end',
                     read_only=True)
        if injected is not None:
            return lambda: PacedSource(injected, framerate or SIM_RATE)
        return lambda: open_source(name, framerate, width, height, loop)

    def destroy_node(self) -> None:
        """Stop capturing, then destroy the node."""
        self._stopping.set()
        if getattr(self, '_thread', None) is not None:
            source = self._source
            if source is not None:
                source.close()
            self._thread.join(timeout=5.0)
        super().destroy_node()

    def _run(self) -> None:
        try:
            while not self._stopping.is_set() and self._capture():
                self._reconnect()
        except RCLError:
            if self.context.ok():
                raise
        except Exception:  # a dead thread must not look like a quiet camera
            self._error = traceback.format_exc()
            self.get_logger().fatal(self._error)

    def _capture(self) -> bool:
        # Publishes until the source fails; True when opening it again may help.
        source = self._source
        try:
            while not self._stopping.is_set():
                stamp_ns, image = source.read()
                self._publish(stamp_ns, image)
        except CameraEndedError as error:
            self._ended = str(error)
            self.get_logger().info(f'{error}; nothing more to publish')
        except (CameraError, cv2.error) as error:
            if self._stopping.is_set():
                return False
            self._error = str(error)
            self.get_logger().error(self._error)
            return source.live
        return False

    def _reconnect(self) -> None:
        pause_s, longest_s = BACK_OFF_S
        self._source.close()
        self._source = None  # a device can be opened once only
        while not self._stopping.wait(pause_s):
            try:
                self._source = self._open()
            except (CameraError, cv2.error) as error:
                self._error = str(error)
                pause_s = min(2.0 * pause_s, longest_s)
                self.get_logger().error(f'{error}; next try in {pause_s:g} s')
                continue
            self._reconnects += 1
            self.get_logger().info(f'opened again: {self._source.description}')
            return

    def _publish(self, stamp_ns: int, image: np.ndarray) -> None:
        height, width = image.shape[:2]
        self._images.publish(image_to_message(image, stamp_ns, self._frame_id))
        info = CameraInfo(height=height, width=width)  # K is zero: not calibrated
        info.header.stamp, info.header.frame_id = to_stamp(stamp_ns), self._frame_id
        self._info.publish(info)
        if self._compressed.get_subscription_count() > 0:
            self._compressed.publish(image_to_compressed(image, stamp_ns, self._frame_id))
        self._frames += 1
        self._size, self._newest_s, self._error = f'{width}x{height}', time.monotonic(), ''

    def _diagnose(self) -> tuple[bytes, str, dict]:
        silent_s = time.monotonic() - self._newest_s
        rate, self._reported_frames = self._frames - self._reported_frames, self._frames
        values = {'frames': self._frames, 'rate_hz': rate, 'size': self._size,
                  'silent_s': f'{silent_s:.2f}', 'reconnects': self._reconnects}
        if self._error:
            return ERROR, self._error, values
        if self._ended:
            return WARN, self._ended, values
        if silent_s > SILENCE_S:
            return ERROR, f'no image for {silent_s:.1f} s', values
        return OK, f'{rate} images in the last second', values


def main(args: list[str] | None = None) -> int:
    """Run the node until Ctrl-C."""
    return spin_node(CameraNode, args)


if __name__ == '__main__':
    sys.exit(main())
