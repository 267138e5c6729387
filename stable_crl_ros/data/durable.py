"""Files that survive a crash: written aside, forced to disk, then renamed."""

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
            descriptor = os.open(os.path.join(directory, name), os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        sync_directory(Path(directory))


def write_atomic(path: Path, data: bytes) -> None:
    """Replace a file as a whole: readers see the old bytes or the new ones."""
    temporary = path.with_name(f'.{path.name}.{os.getpid()}.{threading.get_ident()}')
    try:
        with open(temporary, 'wb') as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    sync_directory(path.parent)
