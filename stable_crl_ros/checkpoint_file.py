"""Look at a checkpoint file without reading its weights: milliseconds, whatever it is."""

from collections.abc import Mapping
from dataclasses import dataclass
import errno
import json
import os
from pathlib import Path
import stat
from typing import BinaryIO

LARGEST_BYTES = 2_000_000_000  # no network of this package comes near
LARGEST_HEADER_BYTES = 1_000_000  # parsing more would be felt at control rate
START_BYTES = 9
PICKLES = (b'PK', b'\x80\x02', b'\x80\x04', b'\x80\x05')  # as torch.save begins
SHOWN = 8  # checkpoints that a refusal names


class CheckpointError(ValueError):
    """A checkpoint that must not be used, or cannot be written."""


@dataclass(frozen=True)
class Header:
    """
    What a .safetensors file says of itself.

    :param shapes: of its tensors, by name.
    :param metadata: as it is encoded there.
    """

    shapes: Mapping[str, tuple[int, ...]]
    metadata: Mapping[str, str]


def read_header(path: Path) -> Header:
    """
    Read what stands before the weights, and check that all of them are there.

    Whatever the path names, this neither waits for it nor runs anything in it.

    :raises CheckpointError: when it is missing, no regular file, not readable, too large, a
        pickle, cut off, or of another kind.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError) as error:
        raise CheckpointError(_unopened(path, error)) from error
    try:
        status = os.fstat(descriptor)
        _check_kind(path, status)
        with open(descriptor, 'rb', closefd=False) as file:
            start = file.read(START_BYTES)
            _check_pickle(path, start)
            return _read(file, start, status.st_size)
    except CheckpointError:
        raise
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise CheckpointError(f'{path}: not a whole .safetensors file ({error}); copy or train it '
                              'again') from error
    finally:
        os.close(descriptor)


def _unopened(path: Path, error: OSError | ValueError) -> str:
    if isinstance(error, ValueError):  # a null character
        return f'{str(path)!r}: cannot be a path ({error})'
    if error.errno == errno.ENOENT:
        return f'{path}: no such file{_neighbours(path.parent)}'
    if error.errno == errno.ELOOP:
        return f'{path}: is a symbolic link that leads back to itself; name the file'
    return f'{path}: cannot be read ({error.strerror})'


def _check_kind(path: Path, status: os.stat_result) -> None:
    if stat.S_ISDIR(status.st_mode):
        raise CheckpointError(f'{path}: is a directory; name the .safetensors file in it'
                              + _neighbours(path))
    if not stat.S_ISREG(status.st_mode):
        raise CheckpointError(f'{path}: is no regular file; name a .safetensors file')
    if status.st_size > LARGEST_BYTES:
        raise CheckpointError(f'{path}: {status.st_size / 1e9:.1f} GB, but no checkpoint of this '
                              f'package is larger than {LARGEST_BYTES / 1e9:g} GB')


def _check_pickle(path: Path, start: bytes) -> None:
    # A safetensors header's length may begin with the same bytes; its ninth is always a brace.
    if start[:2] in PICKLES and start[8:] != b'{':
        raise CheckpointError(f'{path}: is a pickle (torch.save), which may run code when it is '
                              'opened; only .safetensors files of this package are read')


def _read(file: BinaryIO, start: bytes, total: int) -> Header:
    size = int.from_bytes(start[:8], 'little')
    if len(start) < START_BYTES or size > total - 8:
        raise ValueError('it ends before its weights begin')
    if size > LARGEST_HEADER_BYTES:
        raise ValueError(f'its header has {size} bytes, {LARGEST_HEADER_BYTES} at most are read')
    return _parse(start[8:] + file.read(size - 1), total - 8 - size)


def _parse(text: bytes, body: int) -> Header:
    entries = json.loads(text)
    metadata = entries.pop('__metadata__', {})
    if not all(isinstance(value, str) for value in metadata.values()):
        raise ValueError('its metadata are not texts')
    if not all(isinstance(size, int) and size >= 0
               for entry in entries.values() for size in entry['shape']):
        raise ValueError('its shapes are none')
    places = sorted(entry['data_offsets'] for entry in entries.values())
    end = 0
    for begin, after in places:
        if begin != end or after < begin:
            raise ValueError('its weights overlap or have gaps')
        end = after
    if end != body:
        raise ValueError(f'{body} bytes of weights are there, {end} should be')
    return Header({name: tuple(entry['shape']) for name, entry in entries.items()}, metadata)


def _neighbours(folder: Path) -> str:
    names = sorted(p.name for p in folder.glob('*.safetensors'))[-SHOWN:] \
        if folder.is_dir() else []
    return f'; checkpoints in {folder.absolute()}: {", ".join(names) or "none"}'
