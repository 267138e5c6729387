"""ImageSpec: decode, channel order and resize, the one definition for training and robot."""

from array import array
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import numpy as np

MOST_SIDE = 8192  # pixels, of a square
MOST_PIXELS = MOST_SIDE ** 2  # a picture of 1 kB may claim a thousand times as many
JPEG_START = b'\xff\xd8'
JPEG_SIZE_MARKERS = {bytes([code]) for code in range(0xC0, 0xD0) if code not in (0xC4, 0xC8, 0xCC)}
LANCZOS3 = 'lanczos3'  # Pillow's, over as many pixels as one of the result covers
OPENCV = {'area': cv2.INTER_AREA, 'linear': cv2.INTER_LINEAR}
INTERPOLATIONS = (*OPENCV, LANCZOS3)


class ImageError(ValueError):
    """An image, or a description of one, that must not be used."""


@dataclass(frozen=True)
class ImageSpec:
    """
    What the network sees: uint8 RGB of one size, squashed (never cropped) from the camera's.

    BridgeData squashes 640x480 the same way, so the aspect ratio is not kept.

    :param height: rows, pixels.
    :param width: columns, pixels.
    :param interpolation: one of `INTERPOLATIONS`. 'area' averages when it shrinks; 'lanczos3' is
        what BridgeData V2 was shrunk with (`Image.LANCZOS` of Pillow; OpenCV's would alias).
    :raises ImageError: for a size below 8 pixels or an unknown interpolation.
    """

    height: int = 48
    width: int = 48
    interpolation: str = 'area'

    def __post_init__(self) -> None:
        for field in ('height', 'width'):
            value = getattr(self, field)
            if not isinstance(value, int) or not 8 <= value <= 4096:
                raise ImageError(f'image {field} must be a whole number, 8 to 4096; got {value!r}')
        if self.interpolation not in INTERPOLATIONS:
            raise ImageError(f'unknown interpolation {self.interpolation!r}; '
                             f'choose one of {", ".join(INTERPOLATIONS)}')

    @property
    def shape(self) -> tuple[int, int, int]:
        """Rows, columns, channels of what `resize` returns."""
        return self.height, self.width, 3

    def resize(self, image: np.ndarray) -> np.ndarray:
        """
        Bring a camera frame to the network's size.

        :param image: uint8 RGB, shape (H, W, 3).
        :returns: uint8 RGB, shape `self.shape`, contiguous; the same array if it fits already.
        :raises ImageError: for another dtype, rank or number of channels.
        """
        check_rgb(image)
        if image.shape == self.shape:
            return np.ascontiguousarray(image)
        if self.interpolation == LANCZOS3:
            from PIL import Image  # 16 ms at the start of every process, for one preset
            return np.array(Image.fromarray(image).resize(
                (self.width, self.height), Image.Resampling.LANCZOS))
        return cv2.resize(image, (self.width, self.height),
                          interpolation=OPENCV[self.interpolation])

    def to_dict(self) -> dict:
        """Return plain values, as stored in checkpoints, datasets and goals."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict) -> 'ImageSpec':
        """
        Read what `to_dict` wrote.

        :raises ImageError: when a key is missing, unknown or wrong.
        """
        known = {'height', 'width', 'interpolation'}
        if set(values) != known:
            raise ImageError(f'image spec needs exactly {sorted(known)}, got {sorted(values)}')
        return cls(**values)


def check_rgb(image: np.ndarray, what: str = 'image') -> None:
    """
    Refuse anything but a uint8 RGB image.

    :param what: how the error names the image.
    :raises ImageError: for another type, dtype, rank, or number of channels.
    """
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8:
        found = image.dtype if isinstance(image, np.ndarray) else type(image).__name__
        raise ImageError(f'{what} must be a uint8 array, got {found}')
    if image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        raise ImageError(f'{what} must be (height, width, 3) RGB, got shape {image.shape}')


def decode_image(data: bytes | array | np.ndarray, what: str = 'image',
                 upright: bool = False) -> np.ndarray:
    """
    Decode PNG, JPEG or another file format OpenCV reads.

    :param data: the file's bytes; also as messages hold them.
    :param what: how the error names the image (a path, a topic).
    :param upright: turn a JPEG as its EXIF data say, which phones store sideways.
    :returns: uint8 RGB, shape (H, W, 3). Grey becomes three equal channels; an alpha channel that
        is opaque everywhere is left out.
    :raises ImageError: when the bytes are no image, are of more than `MOST_PIXELS`, have an alpha
        channel or are not 8 bit.
    """
    data = bytes(data)
    width, height = _claimed_size(data)
    if width * height > MOST_PIXELS:
        raise ImageError(f'{what}: {width} x {height} pixels are more than {MOST_SIDE} x '
                         f'{MOST_SIDE}; save it smaller')
    buffer = np.frombuffer(data, np.uint8)
    # Only this flag heeds EXIF. It would hide an alpha channel or 16 bit, which no JPEG has.
    turned = upright and data[:2] == JPEG_START
    flags = cv2.IMREAD_COLOR if turned else cv2.IMREAD_UNCHANGED
    try:
        image = cv2.imdecode(buffer, flags) if buffer.size else None
    except cv2.error as error:  # more pixels than OpenCV reads
        raise ImageError(f'{what}: cannot be decoded ({error.err})') from error
    if image is None:
        raise ImageError(f'{what}: not a readable image; save it as an 8 bit PNG or JPEG')
    if image.dtype != np.uint8:
        raise ImageError(f'{what}: {image.dtype} pixels; save it with 8 bits per channel')
    if image.ndim == 2:
        return cv2.cvtColor(image, cv2.COLOR_GRAY2RGB)
    if image.shape[2] == 4 and (image[:, :, 3] == 255).all():
        return cv2.cvtColor(image, cv2.COLOR_BGRA2RGB)
    if image.shape[2] != 3:
        raise ImageError(f'{what}: {image.shape[2]} channels; save it as RGB without alpha')
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def _claimed_size(data: bytes) -> tuple[int, int]:
    """Return width and height as the header of a PNG or JPEG says; 0, 0 where it says none."""
    if data[:8] == b'\x89PNG\r\n\x1a\n':
        return int.from_bytes(data[16:20], 'big'), int.from_bytes(data[20:24], 'big')
    place = 2
    while data[:2] == JPEG_START and data[place:place + 1] == b'\xff':
        marker, length = data[place + 1:place + 2], data[place + 2:place + 4]
        if marker in JPEG_SIZE_MARKERS:
            return (int.from_bytes(data[place + 7:place + 9], 'big'),
                    int.from_bytes(data[place + 5:place + 7], 'big'))
        place += 2 + int.from_bytes(length, 'big')
    return 0, 0


def read_image(path: str | Path) -> np.ndarray:
    """
    Read an image file as RGB, upright where it is a JPEG that says how it was taken.

    :returns: uint8 RGB, shape (H, W, 3).
    :raises ImageError: when the file is missing, unreadable or no RGB image.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise ImageError(f'{path}: cannot be read ({error.strerror})') from error
    return decode_image(data, str(path), upright=True)


def encode_image(image: np.ndarray, extension: str = '.png') -> bytes:
    """
    Encode an RGB image.

    :param image: uint8 RGB, shape (H, W, 3).
    :param extension: '.png' (lossless) or '.jpg' (quality 95).
    :raises ImageError: when it is no RGB image or OpenCV cannot encode it.
    """
    check_rgb(image)
    done, data = cv2.imencode(extension, cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    if not done:
        raise ImageError(f'cannot encode a {image.shape} image as {extension}')
    return data.tobytes()


def write_image(path: str | Path, image: np.ndarray) -> None:
    """Write an RGB image; the file's extension names the format."""
    Path(path).write_bytes(encode_image(image, Path(path).suffix))
