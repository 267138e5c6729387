"""One writing process per dataset: a lock that says who holds it and dies with its holder."""

from dataclasses import dataclass
import fcntl
import json
import os
from pathlib import Path
import shlex
import socket
import sys
import threading
import time
import weakref

LOCK = '.lock'


class LockError(RuntimeError):
    """A dataset that another process writes, or that cannot be locked."""


@dataclass
class _Held:
    file: int
    count: int


_held: dict[tuple[int, int], _Held] = {}  # by device and inode: a process locks a file once
_guard = threading.RLock()  # a garbage collection may give back in the middle of anything


class DatasetLock:
    """
    The right to write a dataset; all of one process share it, the kernel ends it with them.

    :param path: the dataset's directory.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        self._release: weakref.finalize | None = None

    @property
    def held(self) -> bool:
        """Tell whether this object holds the lock."""
        return self._release is not None and self._release.alive

    def __enter__(self) -> 'DatasetLock':
        self.acquire()
        return self

    def __exit__(self, *_) -> None:
        self.release()

    def acquire(self) -> None:
        """
        Take the lock without waiting; once more does nothing.

        :raises LockError: when another process holds it, named with its host and command.
        :raises OSError: when the directory is not writable.
        """
        if self.held:
            return
        file = os.open(self.path / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        status = os.fstat(file)
        key = (status.st_dev, status.st_ino)
        with _guard:
            if key in _held:
                os.close(file)
                _held[key].count += 1
            else:
                _take(file, self.path)
                _held[key] = _Held(file, 1)
        # Also when whoever recorded was forgotten in mid-episode.
        self._release = weakref.finalize(self, _give_back, key)

    def release(self) -> None:
        """Give the lock back; without it, nothing happens."""
        if self._release is not None:
            self._release()


def _give_back(key: tuple[int, int]) -> None:
    with _guard:
        held = _held[key]
        held.count -= 1
        if not held.count:
            del _held[key]
            # Closing, unlike unlocking, takes nothing from a forked child that goes on.
            os.close(held.file)


def _take(file: int, path: Path) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        holder = _holder(file)
        os.close(file)
        raise LockError(f'{path} is being written by {holder}; let it end, or give another '
                        f'dataset and merge them later') from error
    except OSError as error:
        os.close(file)
        raise LockError(f'{path}: the file system cannot lock files ({error.strerror}); keep '
                        f'the dataset on a local disk') from error
    about = {'process': os.getpid(), 'host': socket.gethostname(),
             'command': shlex.join(sys.argv) or sys.executable, 'since': time.time()}
    os.ftruncate(file, 0)
    os.pwrite(file, json.dumps(about).encode(), 0)


def _holder(file: int) -> str:
    try:
        about = json.loads(os.pread(file, 1 << 16, 0))
        since = time.strftime('%Y-%m-%d %H:%M:%S', time.localtime(about['since']))
        return (f'process {about["process"]} on {about["host"]} since {since} '
                f'({about["command"]})')
    except (OSError, ValueError, KeyError, TypeError):
        return 'another process'  # that has not yet said who it is
