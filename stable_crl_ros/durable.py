"""Files that survive a crash: written aside, forced to disk, then renamed."""

from collections.abc import Callable
from contextlib import suppress
import os
from pathlib import Path
import threading


def sync_directory(path: Path) -> None:
    """Force a directory's entries to disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_tree(path: Path) -> None:
    """Force every file and directory below `path` to disk."""
    for directory, _, names in os.walk(path):
        for name in names:
            _sync_file(os.path.join(directory, name))
        sync_directory(Path(directory))


def replace_atomically(path: Path, write: Callable[[Path], object], new: bool = False) -> None:
    """
    Replace a file as a whole: readers see the old one or the new one, also after a crash.

    :param write: called with a temporary path beside it.
    :param new: refuse to replace a file that is there.
    :raises FileExistsError: when it is there, and `new`.
    :raises OSError: naming the file, when it cannot be written.
    """
    temporary = path.with_name(f'.{path.name}.{os.getpid()}.{threading.get_ident()}.tmp')
    try:
        write(temporary)
        _sync_file(temporary)
        # Unlike a rename, a link fails when another got there first.
        (os.link if new else os.replace)(temporary, path)
    except OSError as error:
        if error.filename != str(temporary):
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        with suppress(OSError):  # beside a file that is no folder there is nothing
            temporary.unlink(missing_ok=True)
    sync_directory(path.parent)


def write_atomic(path: Path, data: bytes, new: bool = False) -> None:
    """Write a file with `replace_atomically`."""
    replace_atomically(path, lambda temporary: temporary.write_bytes(data), new)


def _sync_file(path: str | Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
