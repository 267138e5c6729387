"""Between messages and arrays: images (raw and compressed, to and from RGB) and stamps."""

import array
from collections.abc import Callable
import functools
import subprocess
import sys

from builtin_interfaces.msg import Time
import numpy as np
from sensor_msgs.msg import CompressedImage, Image
from stable_crl_ros.images import check_rgb, encode_image
from stable_crl_ros.message_reading import (
    check_compressed,
    check_raw,
    ConversionError,
    message_to_image,
    to_nanoseconds,
)

__all__ = [  # what reads messages needs no ROS; the nodes find both directions here
    'ConversionError', 'cv_bridge_problem', 'IMAGE_BACKENDS', 'IMAGE_TRANSPORTS',
    'image_reader', 'image_to_compressed', 'image_to_message', 'message_to_image',
    'to_nanoseconds', 'to_stamp',
]
IMAGE_BACKENDS = ('numpy', 'cv_bridge', 'auto')
IMAGE_TRANSPORTS = ('raw', 'compressed')

_CV_BRIDGE_PROBE = """
import numpy as np
from cv_bridge import CvBridge
from sensor_msgs.msg import Image
message = Image(height=2, width=1, encoding='bgr8', step=3, data=bytes([1, 2, 3, 4, 5, 6]))
image = CvBridge().imgmsg_to_cv2(message, 'rgb8')
assert np.array_equal(image, [[[3, 2, 1]], [[6, 5, 4]]])
"""


def to_stamp(stamp_ns: int) -> Time:
    """Turn nanoseconds of the system clock into a message stamp."""
    seconds, nanoseconds = divmod(int(stamp_ns), 10 ** 9)
    return Time(sec=seconds, nanosec=nanoseconds)


def image_to_message(image: np.ndarray, stamp_ns: int, frame_id: str = '') -> Image:
    """
    Wrap an RGB image.

    :param image: uint8 RGB, shape (H, W, 3).
    :param stamp_ns: capture time, nanoseconds of the system clock.
    :raises stable_crl_ros.images.ImageError: when it is no RGB image.
    """
    check_rgb(image)
    message = Image(height=image.shape[0], width=image.shape[1], encoding='rgb8',
                    step=image.shape[1] * 3)
    _set_header(message, stamp_ns, frame_id)
    data = array.array('B')
    data.frombytes(np.ascontiguousarray(image).data)  # any other type is copied per pixel
    message.data = data
    return message


def image_to_compressed(image: np.ndarray, stamp_ns: int, frame_id: str = '') -> CompressedImage:
    """
    Wrap an RGB image as JPEG.

    :param image: uint8 RGB, shape (H, W, 3).
    :param stamp_ns: capture time, nanoseconds of the system clock.
    """
    message = CompressedImage(format='rgb8; jpeg compressed bgr8')
    _set_header(message, stamp_ns, frame_id)
    message.data = array.array('B', encode_image(image, '.jpg'))
    return message


def _set_header(message: Image | CompressedImage, stamp_ns: int, frame_id: str) -> None:
    message.header.stamp = to_stamp(stamp_ns)
    message.header.frame_id = frame_id


def image_reader(backend: str = 'numpy') -> Callable[..., np.ndarray]:
    """
    Choose who converts incoming images.

    :param backend: 'numpy' (ours), 'cv_bridge', or 'auto' (cv_bridge where it works).
    :returns: a function like `message_to_image`.
    :raises ConversionError: for another backend, or when cv_bridge is asked for and unusable.
    """
    if backend not in IMAGE_BACKENDS:
        raise ConversionError(f'unknown image_backend {backend!r}; choose one of '
                              f'{", ".join(IMAGE_BACKENDS)}')
    if backend == 'numpy':
        return message_to_image
    problem = cv_bridge_problem()
    if not problem:
        return _cv_bridge_reader()
    if backend == 'auto':
        return message_to_image
    raise ConversionError(f'cv_bridge is not usable here ({problem}); set image_backend to numpy')


@functools.cache
def cv_bridge_problem() -> str:
    """
    Say why cv_bridge cannot be used, '' when it can.

    Tried in another process: built for NumPy 1 it crashes the interpreter under NumPy 2.
    """
    probe = subprocess.run([sys.executable, '-c', _CV_BRIDGE_PROBE], capture_output=True,
                           text=True, timeout=60.0)
    if probe.returncode == 0:
        return ''
    return (probe.stderr.strip().splitlines() or [f'it crashes, exit {probe.returncode}'])[-1]


def _cv_bridge_reader() -> Callable[..., np.ndarray]:
    from cv_bridge import CvBridge
    bridge = CvBridge()

    def read(message: Image | CompressedImage, what: str = 'image') -> np.ndarray:
        if isinstance(message, CompressedImage):
            check_compressed(message, what)
            return bridge.compressed_imgmsg_to_cv2(message, 'rgb8')
        check_raw(message, what)
        if message.encoding == '8UC3':  # cv_bridge refuses to convert what names no colours
            return message_to_image(message, what)
        return bridge.imgmsg_to_cv2(message, 'rgb8')
    return read
