"""Read the images of an episode of format 1: one compressed array per camera."""

from collections.abc import Iterator
import hashlib

import numpy as np
from stable_crl_ros.data.codecs import Encoded, ImageCodec
from stable_crl_ros.data.frames import FrameError
import zarr


class ArrayReader:
    """
    Offer the images of a format 1 array as `FrameReader` offers those of format 2.

    :param array: uint8, shape (N, H, W, 3).
    :param checksum: sha256 of its bytes.
    """

    def __init__(self, array: zarr.Array, checksum: str) -> None:
        self._array, self._checksum = array, checksum
        self._cached: tuple[int, np.ndarray] | None = None  # a chunk is many images

    def __len__(self) -> int:
        return self._array.shape[0]

    def image(self, row: int) -> np.ndarray:
        """Read one image; damage in its chunk is noticed, in others not."""
        number, within = divmod(row, self._array.chunks[0])
        if self._cached is None or self._cached[0] != number:
            self._cached = number, self._chunk(number)
        return self._cached[1][within]

    def images(self) -> Iterator[np.ndarray]:
        """Read one image after another; the end is reached only if the checksum is right."""
        digest = hashlib.sha256()
        for number in range(-(-len(self) // self._array.chunks[0])):
            rows = self._chunk(number)
            digest.update(rows)
            yield from rows
        if digest.hexdigest() != self._checksum:
            raise FrameError('the images differ from their checksum')

    def encoded(self, row: int) -> Encoded:
        """Encode one image, losslessly."""
        image = self.image(row)
        return Encoded(ImageCodec().encode(image), image.shape, str(ImageCodec()))

    def damage(self) -> list[tuple[int | None, str]]:
        """Return what is damaged; which image it is cannot be told."""
        try:
            for _ in self.images():
                pass
        except FrameError as error:
            return [(None, str(error))]
        return []

    def check_end(self) -> None:
        """Find nothing: a format 1 array has no index of its own."""

    def _chunk(self, number: int) -> np.ndarray:
        file = self._array.store.root / self._array.path / 'c' / str(number) / '0/0/0'
        start = number * self._array.chunks[0]
        try:
            if not file.exists():  # Zarr would make up zeros
                raise FrameError(f'the file {file} is missing')
            return np.ascontiguousarray(self._array[start:start + self._array.chunks[0]])
        except (OSError, ValueError, RuntimeError) as error:
            raise FrameError(str(error)) from error
