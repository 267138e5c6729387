"""The encoded images of one camera of an episode: written as a Zarr shard, read one by one."""

from collections.abc import Iterator
import hashlib
import os
from pathlib import Path
import zlib

import numpy as np
from stable_crl_ros.data.codecs import CodecError, Encoded, ImageCodec, LOSSLESS, ZARR_CODECS
from stable_crl_ros.data.schema import IMAGE_CRCS, IMAGE_OFFSETS, IMAGES
from stable_crl_ros.data.zarr_files import (
    chunk_file,
    shard_index,
    shard_index_bytes,
    sharding,
    write_array,
    write_metadata,
)

JPEG_CHUNK_BYTES = 1 << 20  # of a file of JPEGs, a Zarr reader reads so much at once


class FrameError(RuntimeError):
    """An encoded image that is missing or damaged."""


class FrameWriter:
    """
    Append encoded images to a shard.

    :param group: the episode's directory.
    :param size: (H, W) of every image.
    """

    def __init__(self, group: Path, camera: str, codec: ImageCodec,
                 size: tuple[int, int]) -> None:
        self._group, self._camera, self._codec, self._size = group, camera, codec, tuple(size)
        self._path = group / IMAGES / camera
        self._offsets, self._crcs = [0], []
        self._digest = hashlib.sha256()
        file = shard_file(self._path, codec)
        file.parent.mkdir(parents=True)
        self._file = open(file, 'wb')  # noqa: SIM115 `close` closes it

    def add(self, data: bytes | memoryview) -> None:
        """Append one encoded image."""
        self._file.write(data)
        self._offsets.append(self._offsets[-1] + len(data))
        self._crcs.append(zlib.crc32(data))
        self._digest.update(data)

    def close(self) -> None:
        """Close the file; without `finish` it is no shard."""
        self._file.close()

    def finish(self) -> dict[str, str]:
        """
        Complete the shard and what belongs to it.

        :returns: checksum (sha256) by array name; that of the images is of the encoded ones.
        """
        offsets = np.array(self._offsets, np.int64)
        self._file.write(shard_tail(self._codec, offsets))
        self.close()
        self._write_metadata(offsets)
        tables = {
            f'{IMAGE_OFFSETS}/{self._camera}': (offsets, 'byte each encoded image begins at'),
            f'{IMAGE_CRCS}/{self._camera}': (np.array(self._crcs, np.uint32),
                                             'crc32 of each encoded image')}
        checksums = {f'{IMAGES}/{self._camera}': self._digest.hexdigest()}
        for name, (values, meaning) in tables.items():
            write_array(self._group / name, values, meaning)
            checksums[name] = hashlib.sha256(values).hexdigest()
        return checksums

    def _write_metadata(self, offsets: np.ndarray) -> None:
        attributes = {'meaning': 'RGB', 'image_codec': str(self._codec)}
        if self._codec.kind == LOSSLESS:
            shape = (len(self._crcs), *self._size, 3)
            codecs = sharding((1, *shape[1:]), ZARR_CODECS)
            write_metadata(self._path, shape, np.uint8, shape, codecs, attributes)
            return
        attributes['meaning'] = (f'JPEG files one after another; file t is the bytes from '
                                 f'{IMAGE_OFFSETS}[t] to {IMAGE_OFFSETS}[t + 1]')
        total = int(offsets[-1])
        chunk = _jpeg_chunk(total)
        write_metadata(self._path, (total,), np.uint8, (-(-total // chunk) * chunk,),
                       sharding((chunk,), [{'name': 'bytes'}]), attributes)


class FrameReader:
    """
    Read encoded images, each checked against its checksum.

    :param path: the directory of the camera's array.
    :param offsets: int64, shape (N + 1,), and `crcs`: uint32, shape (N,): as stored beside it.
        Without `crcs`, lossless images are checked by the codec's own checksum.
    """

    def __init__(self, path: Path, codec: ImageCodec, size: tuple[int, int],
                 offsets: np.ndarray, crcs: np.ndarray | None) -> None:
        self._file_path = shard_file(path, codec)
        self._codec, self._size = codec, tuple(size)
        self._offsets, self._crcs = offsets, crcs

    def __len__(self) -> int:
        return len(self._offsets) - 1

    def encoded(self, row: int) -> Encoded:
        """
        Read one image without decoding it.

        :raises FrameError: when it is damaged.
        """
        return next(self._read(range(row, row + 1)))

    def image(self, row: int) -> np.ndarray:
        """
        Read one image, uint8 RGB.

        :raises FrameError: when it is damaged.
        """
        return self._decoded(row, self.encoded(row))

    def images(self) -> Iterator[np.ndarray]:
        """
        Read the images one after another.

        :raises FrameError: at the first damaged one.
        """
        for row, encoded in enumerate(self._read(range(len(self)))):
            yield self._decoded(row, encoded)

    def damage(self) -> list[tuple[int | None, str]]:
        """Return what is damaged: the image's number and why; None is the end of the file."""
        found: list[tuple[int | None, str]] = []
        for row in range(len(self)):
            try:
                self.image(row)
            except FrameError as error:
                found.append((row, str(error)))
        try:
            self.check_end()
        except FrameError as error:
            found.append((None, str(error)))
        return found

    def check_end(self) -> None:
        """
        Check what other Zarr readers find the images by.

        :raises FrameError: when it is damaged; the images can be read nevertheless.
        """
        try:
            with open(self._file_path, 'rb') as file:
                file.seek(int(self._offsets[-1]))
                if file.read() != shard_tail(self._codec, self._offsets):
                    raise FrameError('the index at the end of the file is damaged')
        except OSError as error:
            raise FrameError(f'the images cannot be read ({error.strerror})') from error

    def _is_sound(self, row: int, data: bytes) -> bool:
        return self._crcs is None or zlib.crc32(data) == self._crcs[row]

    def _decoded(self, row: int, encoded: Encoded) -> np.ndarray:
        try:
            return self._codec.decode(encoded.data, self._size)
        except CodecError as error:
            raise FrameError(f'image {row}: {error}') from error

    def _read(self, rows: range) -> Iterator[Encoded]:
        try:
            with open(self._file_path, 'rb') as file:
                for row in rows:
                    start, end = int(self._offsets[row]), int(self._offsets[row + 1])
                    file.seek(start)
                    data = file.read(end - start)
                    if len(data) < end - start or not self._is_sound(row, data):
                        raise FrameError(f'image {row} differs from its checksum')
                    yield Encoded(data, (*self._size, 3), str(self._codec))
        except OSError as error:
            raise FrameError(f'the images cannot be read ({error.strerror})') from error


def shard_file(path: Path, codec: ImageCodec) -> Path:
    """Return the file that holds a camera's images, one behind another from its beginning."""
    return chunk_file(path, 4 if codec.kind == LOSSLESS else 1)


def find_offsets(path: Path, codec: ImageCodec, count: int) -> np.ndarray:
    """
    Return where lossless images begin from what other Zarr readers find them by.

    :param path: the directory of the camera's array.
    :raises FrameError: when that is damaged.
    """
    try:
        with open(shard_file(path, codec), 'rb') as file:
            file.seek(-shard_index_bytes(count), os.SEEK_END)
            data = file.read()
    except OSError as error:
        raise FrameError(f'the images cannot be read ({error.strerror})') from error
    pairs = np.frombuffer(data[:-4], '<u8').reshape(count, 2).astype(np.int64)
    offsets = np.append(pairs[:, 0], pairs[-1].sum())
    if shard_index(offsets) != data:
        raise FrameError('the index at the end of the file is damaged')
    return offsets


def shard_tail(codec: ImageCodec, offsets: np.ndarray) -> bytes:
    """Return what follows the images in their file, so that it is a Zarr shard."""
    if codec.kind == LOSSLESS:
        return shard_index(offsets)
    total = int(offsets[-1])
    chunk = _jpeg_chunk(total)
    borders = np.arange(0, total + chunk, chunk, np.int64)
    return bytes(int(borders[-1]) - total) + shard_index(borders)


def _jpeg_chunk(total: int) -> int:
    return min(total, JPEG_CHUNK_BYTES)
