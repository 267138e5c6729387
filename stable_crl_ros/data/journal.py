"""Append-only journal of an episode being recorded: length-prefixed, checksummed records."""

from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
import fcntl
import json
import math
import os
from pathlib import Path
import struct
import time
import zlib

import numpy as np
from stable_crl_ros.durable import sync_directory

MAGIC = b'SCRLJNL1'
PREFIX = struct.Struct('<II')  # payload length, crc32 of that length and the payload
INDEX = struct.Struct('<I')  # length of the JSON part of a payload
MAX_RECORD = 1 << 30  # bytes; a longer length is damage, not a record


class JournalError(RuntimeError):
    """A journal that cannot be written or read."""


def encode_record(record: Mapping[str, object]) -> bytes:
    """
    Encode one record.

    :param record: name -> array (kept bit by bit) or a value JSON can hold.
    """
    arrays, values, parts = [], {}, []
    for name, value in record.items():
        if isinstance(value, np.ndarray | np.generic):
            value = np.asarray(value)
            arrays.append([name, value.dtype.str, value.shape])
            parts.append(value.tobytes())
        else:
            values[name] = value
    index = json.dumps({'arrays': arrays, 'values': values}).encode()
    payload = b''.join([INDEX.pack(len(index)), index, *parts])
    length = struct.pack('<I', len(payload))
    return PREFIX.pack(len(payload), zlib.crc32(payload, zlib.crc32(length))) + payload


def decode_payload(payload: memoryview) -> dict[str, object]:
    """
    Decode what `encode_record` packed; arrays are read-only views of `payload`.

    :raises ValueError: when it is no such record.
    """
    size, = INDEX.unpack_from(payload)
    offset = INDEX.size + size
    index = json.loads(bytes(payload[INDEX.size:offset]))
    record = dict(index['values'])
    for name, dtype, shape in index['arrays']:
        array = np.frombuffer(payload, dtype, math.prod(shape), offset).reshape(shape)
        record[name] = array
        offset += array.nbytes
    return record


class JournalWriter:
    """
    Append records to a new journal; whatever `append` returned from survives `kill -9`.

    The writer holds a lock on the file, which the kernel drops when the process dies: that is
    how a journal being recorded is told from one that was cut off.

    :param path: the file; it must be absent or empty (a reservation).
    :param header: the first record.
    :param sync_every: force the file to disk after so many records, in a thread of its own: a
        busy disk takes its time, and what waits for it would be lost in a crash. 0 leaves it to
        the kernel (then a power cut, unlike a crash of the process, may lose the last seconds).
    :raises JournalError: when the file holds something, is in use, or cannot be written.
    """

    def __init__(self, path: Path, header: Mapping[str, object], sync_every: int = 5) -> None:
        self.path = Path(path)
        self.size = 0  # bytes of complete records
        self._sync_every = sync_every
        self._unsynced = 0
        self._listed = False  # the directory's entry is on disk
        self._forcing = ThreadPoolExecutor(1, 'journal to disk')
        self._forced: Future | None = None
        self._file = _open_locked(self.path)
        try:
            self._write(MAGIC + encode_record(header))
            if sync_every:
                self._force_soon()
        except JournalError:
            self.close()
            raise

    @property
    def closed(self) -> bool:
        """Tell whether `close` was called."""
        return self._file < 0

    def append(self, record: Mapping[str, object]) -> None:
        """
        Write one record.

        :raises JournalError: when the disk refuses this record, or to be forced to keep earlier
            ones; the journal then ends with its last complete record, and later calls try again.
        """
        if self._forced is not None and self._forced.done():
            self._wait_until_forced()
        self._write(encode_record(record))
        self._unsynced += 1
        # While the disk is at it, the next record asks again.
        if self._sync_every and self._unsynced >= self._sync_every and self._forced is None:
            self._force_soon()

    def sync(self) -> None:
        """
        Force everything written so far to disk, and wait for it.

        :raises JournalError: when the disk refuses.
        """
        self._wait_until_forced()
        self._force()
        self._unsynced = 0

    def close(self) -> None:
        """Drop the lock; the file stays."""
        if not self.closed:
            self._forcing.shutdown()
            os.close(self._file)
            self._file = -1

    def _force_soon(self) -> None:
        self._unsynced = 0
        self._forced = self._forcing.submit(self._force)

    def _force(self) -> None:
        try:
            os.fsync(self._file)
            if not self._listed:
                sync_directory(self.path.parent)
                self._listed = True
        except OSError as error:
            raise JournalError(f'{self.path}: cannot be forced to disk ({error.strerror})') \
                from error

    def _wait_until_forced(self) -> None:
        forced, self._forced = self._forced, None
        if forced is not None:
            forced.result()

    def _write(self, data: bytes) -> None:
        if self.closed:
            raise JournalError(f'{self.path}: the journal is closed')
        offset, end = self.size, self.size + len(data)
        try:
            while offset < end:
                offset += os.pwrite(self._file, memoryview(data)[offset - self.size:], offset)
        except OSError as error:
            with suppress(OSError):  # the next record overwrites what cannot be cut off
                os.ftruncate(self._file, self.size)
            raise JournalError(
                f'{self.path}: cannot be written ({error.strerror}); what was recorded before '
                f'is kept; free space or fix the disk, then repair the dataset') from error
        self.size += len(data)


def _open_locked(path: Path) -> int:
    try:
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise JournalError(f'{path}: cannot be created ({error.strerror})') from error
    if not _lock_soon(file):
        os.close(file)
        raise JournalError(f'{path}: is being recorded by another process')
    if os.fstat(file).st_size:
        os.close(file)
        raise JournalError(f'{path}: already holds a recording; repair the dataset')
    return file


def lock(file: int) -> bool:
    """
    Take the writer's lock on an open journal without waiting.

    :returns: False when a living process holds it.
    :raises JournalError: when the file system has no locks.
    """
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        raise JournalError(f'the file system cannot lock files ({error.strerror}); keep the '
                           f'dataset on a local disk') from error
    return True


def _lock_soon(file: int) -> bool:
    # Somebody who lists the dataset holds the lock of an empty journal for an instant.
    for _ in range(10):
        if lock(file):
            return True
        time.sleep(0.02)
    return False
