"""Export as diffusion_policy's replay buffer: Zarr v2, `data/*` and `meta/episode_ends`."""

from collections.abc import Callable
from pathlib import Path

from numcodecs import Blosc
import numpy as np
from stable_crl_ros.data.episode import Episode
from stable_crl_ros.exchange.parts import Part
from stable_crl_ros.exchange.recording import ExchangeError
from stable_crl_ros.exchange.selection import instruction, labels, Selection
import zarr

CHUNK_BYTES = 1 << 20  # of images; a whole number of them


def write(folder: Path, selection: Selection, name: str,
          progress: Callable[[int, int], None]) -> list[str]:
    """
    Write the buffer.

    Every array below `data` has one row per frame of all episodes, one after the other; an
    array named like a camera holds its images, uint8 RGB (N, H, W, 3).

    :returns: what its user should know.
    """
    taken = {column.name for column in selection.columns} & set(selection.cameras)
    if taken:
        raise ExchangeError(f'cameras {sorted(taken)} are named like other arrays; leave them '
                            f'out with --camera')
    ends = np.cumsum([selection.rows(episode) for episode in selection.episodes])
    # Mode 'w' would make the folder anew, and lose the lock that the exporter holds on it.
    root = zarr.open_group(folder, mode='a', zarr_format=2)
    data, meta = root.create_group('data'), root.create_group('meta')
    _create(meta, 'episode_ends', ends.shape, 'int64', ends.shape)[:] = ends
    meta.attrs['episodes'] = [{**labels(episode), 'instruction': instruction(episode)}
                              for episode in selection.episodes]
    meta.attrs['columns'] = {column.name: list(column.names) for column in selection.columns}
    arrays = {column.name: _create(data, column.name, (int(ends[-1]), *column.shape),
                                   column.dtype, (int(ends[-1]), *column.shape))
              for column in selection.columns}
    numbers = {column.name: [] for column in selection.columns}
    images = {camera: _Appender(data, camera, int(ends[-1]), size)
              for camera, size in selection.cameras.items()}
    for done, episode in enumerate(selection.episodes, 1):
        for column, values in selection.arrays(episode).items():
            numbers[column].append(values)
        _write_images(selection, episode, images)
        progress(done, len(selection.episodes))
    for column, array in arrays.items():
        array[:] = np.concatenate(numbers[column])
    for appender in images.values():
        appender.flush()
    return []


def _write_images(selection: Selection, episode: Episode | Part,
                  images: dict[str, '_Appender']) -> None:
    for camera, appender in images.items():
        for row in range(selection.rows(episode)):
            appender.add(selection.image(episode, camera, row))


class _Appender:
    """Fills an array of images chunk by chunk, so that none is written twice."""

    def __init__(self, group: zarr.Group, name: str, count: int, size: tuple[int, int]) -> None:
        self._rows = max(1, min(count, CHUNK_BYTES // (size[0] * size[1] * 3)))
        self._array = _create(group, name, (count, *size, 3), 'uint8', (self._rows, *size, 3))
        self._waiting: list[np.ndarray] = []
        self._start = 0

    def add(self, image: np.ndarray) -> None:
        self._waiting.append(image)
        if len(self._waiting) == self._rows:
            self.flush()

    def flush(self) -> None:
        if self._waiting:
            end = self._start + len(self._waiting)
            self._array[self._start:end] = np.stack(self._waiting)
            self._start, self._waiting = end, []


def _create(group: zarr.Group, name: str, shape: tuple, dtype: str, chunks: tuple) -> zarr.Array:
    return group.create_array(
        name, shape=shape, dtype=dtype, chunks=tuple(max(1, size) for size in chunks),
        compressors=[Blosc('zstd', clevel=3, shuffle=Blosc.BITSHUFFLE)], fill_value=0)
