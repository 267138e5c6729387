"""The arrays of a training cache on their way to disk: episode by episode, resumable."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
import io
import json
from pathlib import Path
import shutil
from typing import BinaryIO
import zlib

import numpy as np
from stable_crl_ros.actions import ACTION_DIM
from stable_crl_ros.data.cache import STATE_DIM

LOG = 'episodes.log'
BLOCK_BYTES = 1 << 22  # read at once


@dataclass(frozen=True)
class Rows:
    """
    What a cache holds of one episode of T steps.

    :param frames: blocks of frames, uint8, (any number, height, width, 3); T + 1 in all.
    :param states: float32, shape (T + 1, 14).
    :param actions: float32, shape (T, 7).
    """

    frames: Iterable[np.ndarray]
    states: np.ndarray
    actions: np.ndarray


@dataclass(frozen=True)
class _Column:
    """One array file: a header of fixed length, then rows."""

    name: str
    dtype: str
    row: tuple[int, ...]
    extra: int  # rows an episode has beyond its steps

    @property
    def row_bytes(self) -> int:
        return int(np.prod(self.row)) * np.dtype(self.dtype).itemsize

    def span(self, steps: int, episodes: int) -> int:
        """Return the bytes of so many steps in so many episodes."""
        return self.row_bytes * (steps + self.extra * episodes)

    def header(self, steps: int, episodes: int) -> bytes:
        file = io.BytesIO()
        # NumPy leaves room for the number of rows to grow: the length does not depend on it.
        np.lib.format.write_array_header_1_0(file, {
            'descr': np.dtype(self.dtype).str, 'fortran_order': False,
            'shape': (steps + self.extra * episodes, *self.row)})
        return file.getvalue()


def _columns(shape: tuple[int, int, int]) -> tuple[_Column, ...]:
    return (_Column('observations', 'u1', shape, 1), _Column('states', 'f4', (STATE_DIM,), 1),
            _Column('actions', 'f4', (ACTION_DIM,), 0))


@dataclass(frozen=True)
class _Entry:
    """A line of the log: an episode that was written as a whole, and where it begins."""

    checksum: str
    steps: int
    crc: str
    first: tuple[int, int]  # steps and episodes before it


class WrittenRows:
    """
    Rows found in a directory: of a finished cache, or of one whose building was cut off.

    :param path: the directory; nothing is found where there is none.
    :param settings: what the frames depend on; rows written with others are not found.
    :param shape: (height, width, 3) of a frame.
    """

    def __init__(self, path: Path, settings: dict, shape: tuple[int, int, int]) -> None:
        self.path = path
        self._shape = shape
        self._columns = _columns(shape)
        lines = []
        with suppress(FileNotFoundError):
            lines = (path / LOG).read_bytes().splitlines(keepends=True)
        known = bool(lines) and lines[0] == _heading(settings)
        self._entries = list(_parse(lines[1:])) if known else []
        self._newest = {entry.checksum: entry for entry in self._entries}

    def count(self, plan: Sequence[tuple[str, int]]) -> int:
        """Return how many episodes of a plan are there from the first one on, all whole."""
        for number, (entry, planned) in enumerate(zip(self._entries, plan, strict=False)):
            if (entry.checksum, entry.steps) != planned or not self._is_whole(entry):
                return number
        return min(len(self._entries), len(plan))

    def find(self, checksum: str, steps: int) -> Rows | None:
        """Return the rows of an episode, None when they are not there or damaged."""
        entry = self._newest.get(checksum)
        if entry is None or entry.steps != steps or not self._is_whole(entry):
            return None
        frames, states, actions = self._columns
        return Rows((np.frombuffer(block, np.uint8) for block in self._read(frames, entry)),
                    *(np.frombuffer(b''.join(self._read(column, entry)), column.dtype)
                      for column in (states, actions)))

    def _is_whole(self, entry: _Entry) -> bool:
        crc = 0
        with suppress(OSError):
            for column in self._columns:
                for block in self._read(column, entry):
                    crc = zlib.crc32(block, crc)
            return f'{crc:08x}' == entry.crc
        return False

    def _read(self, column: _Column, entry: _Entry) -> Iterator[bytes]:
        left = column.span(entry.steps, 1)
        with open(self.path / f'{column.name}.npy', 'rb') as file:
            file.seek(len(column.header(0, 0)) + column.span(*entry.first))
            while left and (block := file.read(min(left, BLOCK_BYTES))):
                left -= len(block)
                yield block


def _heading(settings: dict) -> bytes:
    return json.dumps(settings, sort_keys=True).encode() + b'\n'


def _parse(lines: Iterable[bytes]) -> Iterator[_Entry]:
    """Read the lines of a log up to the first that is not whole."""
    steps = 0
    for number, line in enumerate(lines):
        words = line.split()
        if len(words) != 3 or not line.endswith(b'\n') or not words[1].isdigit():
            return
        checksum, crc = words[0].decode(), words[2].decode()
        yield _Entry(checksum, int(words[1]), crc, (steps, number))
        steps += int(words[1])


class CacheWriter:
    """
    Write the arrays of a cache; whatever process goes on, they end byte by byte the same.

    Every finished episode is a line of a log, with a checksum of its rows. Another process
    keeps the episodes whose line and rows are whole, also after a power cut; no episode ever
    has to wait for the disk.

    :param path: the directory being built; made when it is not there.
    :param settings: what the frames depend on.
    :param plan: (checksum, steps) of every episode, in order.
    :param shape: (height, width, 3) of a frame.
    """

    def __init__(self, path: Path, settings: dict, plan: Sequence[tuple[str, int]],
                 shape: tuple[int, int, int]) -> None:
        self.path = path
        self.done = WrittenRows(path, settings, shape).count(plan)
        self._plan = plan
        self._columns = _columns(shape)
        if not self.done:
            shutil.rmtree(path, ignore_errors=True)
            path.mkdir()
        self._log = self._open_log(settings)
        self._files = [self._open(column) for column in self._columns]

    def __enter__(self) -> 'CacheWriter':
        return self

    def __exit__(self, *_) -> None:
        for file in (*self._files, self._log):
            file.close()

    @property
    def frames_done(self) -> int:
        """Frames that need not be written any more."""
        return sum(steps + 1 for _, steps in self._plan[:self.done])

    @property
    def missing_bytes(self) -> int:
        """Bytes that are still to be written."""
        left = [steps for _, steps in self._plan[self.done:]]
        return sum(column.span(sum(left), len(left)) for column in self._columns)

    def add(self, rows: Rows) -> None:
        """
        Write the next episode.

        :raises ValueError: when the rows are not as many as planned.
        :raises OSError: when the disk refuses.
        """
        checksum, steps = self._plan[self.done]
        crc = 0
        sources = (rows.frames, [rows.states], [rows.actions])
        for column, file, blocks in zip(self._columns, self._files, sources, strict=True):
            size = 0
            for block in blocks:
                data = np.ascontiguousarray(block).reshape(-1).view(np.uint8)
                file.write(data)
                crc = zlib.crc32(data, crc)
                size += data.nbytes
            if size != column.span(steps, 1):
                raise ValueError(f'{size} bytes of {column.name} for {steps} steps, not '
                                 f'{column.span(steps, 1)}')
            file.flush()
        self._log.write(f'{checksum} {steps} {crc:08x}\n'.encode())
        self._log.flush()
        self.done += 1

    def _open_log(self, settings: dict) -> BinaryIO:
        path = self.path / LOG
        if not self.done:
            path.write_bytes(_heading(settings))
        lines = path.read_bytes().splitlines(keepends=True)[:self.done + 1]
        file = open(path, 'r+b')  # noqa: SIM115 closed with the writer
        file.truncate(len(b''.join(lines)))
        file.seek(0, io.SEEK_END)
        return file

    def _open(self, column: _Column) -> BinaryIO:
        """Open a file behind the rows that are done; what follows them is cut off."""
        path = self.path / f'{column.name}.npy'
        path.touch()
        steps = [steps for _, steps in self._plan]
        # Plain writes: a full disk is an error here, but would kill a process that writes a map.
        file = open(path, 'r+b')  # noqa: SIM115 closed with the writer
        file.write(column.header(sum(steps), len(steps)))
        file.seek(column.span(sum(steps[:self.done]), self.done), io.SEEK_CUR)
        file.truncate()
        return file
