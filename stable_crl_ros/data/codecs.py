"""How an episode's images become bytes, losslessly or as JPEG, and come back."""

from dataclasses import dataclass

import cv2
from numcodecs.zstd import Zstd
import numpy as np
from stable_crl_ros.images import check_rgb, decode_image, ImageError

LOSSLESS = 'lossless'
JPEG = 'jpeg'
ZSTD_LEVEL = 1

# What `_pack` does, as the codecs any Zarr reader applies backwards: the difference to the
# neighbouring number (the other colours of the pixel), then planes, then the difference to the
# neighbouring pixel. The content checksum of zstd makes every reader notice damage.
ZARR_CODECS = (
    {'name': 'numcodecs.delta', 'configuration': {'dtype': '|u1'}},
    {'name': 'transpose', 'configuration': {'order': [0, 3, 1, 2]}},
    {'name': 'numcodecs.delta', 'configuration': {'dtype': '|u1'}},
    {'name': 'bytes'},
    {'name': 'zstd', 'configuration': {'level': ZSTD_LEVEL, 'checksum': True}},
)


class CodecError(ValueError):
    """An image codec that does not exist, or bytes it cannot decode."""


@dataclass(frozen=True)
class ImageCodec:
    """
    One way to store images; make it with `parse`.

    :param kind: 'lossless' or 'jpeg'.
    :param quality: of a JPEG, 1 to 100; 0 where it is unknown or means nothing.
    """

    kind: str = LOSSLESS
    quality: int = 0

    @classmethod
    def parse(cls, text: str) -> 'ImageCodec':
        """
        Read 'lossless' or 'jpeg:QUALITY'; 'jpeg' alone is a JPEG of unknown quality.

        :raises CodecError: for anything else.
        """
        kind, _, quality = str(text).partition(':')
        if text in (LOSSLESS, JPEG):
            return cls(kind)
        if kind == JPEG and quality.isdecimal() and 1 <= int(quality) <= 100:
            return cls(JPEG, int(quality))
        raise CodecError(f"unknown image codec {text!r}; give 'lossless', or 'jpeg:QUALITY' with "
                         f"a quality from 1 to 100, for example 'jpeg:95'")

    def __str__(self) -> str:
        return f'{self.kind}:{self.quality}' if self.quality else self.kind

    def encode(self, image: np.ndarray) -> bytes:
        """
        Encode one image.

        :param image: uint8 RGB, shape (H, W, 3).
        :raises ImageError: when it is no RGB image, or is too small or too large for the codec.
        """
        check_rgb(image)
        if self.kind == LOSSLESS:
            return _pack(image)
        if not self.quality:
            raise CodecError("a JPEG needs a quality to be encoded with: give 'jpeg:95'")
        try:
            done, data = cv2.imencode('.jpg', cv2.cvtColor(image, cv2.COLOR_RGB2BGR),
                                      [cv2.IMWRITE_JPEG_QUALITY, self.quality])
        except cv2.error as error:
            raise ImageError(f'a {image.shape} image is no JPEG ({error.err})') from error
        if not done:
            raise ImageError(f'a {image.shape} image cannot be encoded as JPEG')
        return data.tobytes()

    def decode(self, data: bytes, size: tuple[int, int]) -> np.ndarray:
        """
        Decode one image.

        :param size: its (H, W).
        :returns: uint8 RGB, shape (H, W, 3).
        :raises CodecError: when the bytes are no such image.
        """
        try:
            image = _unpack(data, size) if self.kind == LOSSLESS else decode_image(data)
        except (ImageError, RuntimeError, ValueError) as error:
            raise CodecError(f'not a {self.kind} image of {size[1]}x{size[0]}: {error}') \
                from error
        if image.shape != (*size, 3):
            raise CodecError(f'the image is {image.shape[1]}x{image.shape[0]}, not '
                             f'{size[1]}x{size[0]}')
        return image

    def takes(self, encoded: 'Encoded') -> bool:
        """Tell whether a dataset with this codec stores those bytes as they are."""
        return ImageCodec.parse(encoded.codec).kind == self.kind


@dataclass(frozen=True)
class Encoded:
    """
    An image that is encoded already; it may stand for an array in `Observation.images`.

    A dataset of the same kind of codec stores it as it is; others decode it and encode it anew.

    :param data: the bytes; whoever makes one answers for their being such an image.
    :param shape: (H, W, 3).
    :param codec: as `ImageCodec.parse` reads it; 'jpeg' where the quality is unknown.
    """

    data: bytes
    shape: tuple[int, int, int]
    codec: str = JPEG

    def decode(self) -> np.ndarray:
        """
        Return the image, uint8 RGB.

        :raises CodecError: when the bytes are no such image.
        """
        return ImageCodec.parse(self.codec).decode(self.data, self.shape[:2])


def _pack(image: np.ndarray) -> bytes:
    height, width = image.shape[:2]
    if min(height, width) < 2:  # Zarr's delta codec flattens such a one in another order
        raise ImageError(f'image of {width}x{height} pixels: give at least 2x2')
    colours = _differences(np.ascontiguousarray(image).reshape(-1)).reshape(image.shape)
    planes = np.concatenate([plane.reshape(-1) for plane in cv2.split(colours)])
    return Zstd(ZSTD_LEVEL, checksum=True).encode(_differences(planes))


def _unpack(data: bytes, size: tuple[int, int]) -> np.ndarray:
    packed = np.frombuffer(Zstd().decode(data), np.uint8)
    planes = np.add.accumulate(packed, dtype=np.uint8).reshape(3, *size)
    colours = cv2.merge(tuple(planes)).reshape(-1)
    return np.add.accumulate(colours, dtype=np.uint8).reshape(*size, 3)


def _differences(values: np.ndarray) -> np.ndarray:
    """Return each number less the one before it, modulo 256; shape (N,)."""
    differences = np.empty_like(values)
    differences[0] = values[0]
    np.subtract(values[1:], values[:-1], out=differences[1:])
    return differences
