"""Keep other processes out of a folder, for as long as this one lives."""

import fcntl
from pathlib import Path
from typing import TextIO


def lock_file(path: Path) -> TextIO:
    """
    Lock a file until what is returned is closed, or the process ends, however that ends.

    :param path: made when it is not there.
    :raises BlockingIOError: when another process has locked it.
    :raises OSError: when it cannot be made or locked.
    """
    lock = open(path, 'w')  # noqa: SIM115 held as long as the lock
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        lock.close()
        raise
    return lock
