"""The attributes of a sealed episode: read, checked, and replaced as a whole."""

from collections.abc import Callable, Mapping
import fcntl
import hashlib
import json
import os
from pathlib import Path

from stable_crl_ros.data.schema import (
    ATTRIBUTES_CHECKSUM,
    FORMAT_VERSION,
    RESERVED_ATTRIBUTES,
    SchemaError,
    VERSION_1_ATTRIBUTES,
)
from stable_crl_ros.durable import write_atomic

FILE = 'zarr.json'


class EpisodeError(RuntimeError):
    """An episode that cannot be written or read."""


def checked_attributes(attributes: Mapping[str, object]) -> dict:
    """
    Return what may become an episode's attributes.

    :raises SchemaError: for a name of the format, or a value JSON cannot hold.
    """
    taken = sorted(set(attributes) & RESERVED_ATTRIBUTES)
    if taken:
        raise SchemaError(f'attributes {taken} are names of the format; rename them')
    try:
        json.dumps(attributes, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise SchemaError(f'attributes must be plain JSON values: {error}') from error
    return dict(attributes)


def with_checksum(attributes: Mapping[str, object]) -> dict:
    """Return attributes with the sha256 over all the others, by which damage is noticed."""
    plain = {name: each for name, each in attributes.items() if name != ATTRIBUTES_CHECKSUM}
    text = json.dumps(plain, sort_keys=True, allow_nan=False)
    return {**plain, ATTRIBUTES_CHECKSUM: hashlib.sha256(text.encode()).hexdigest()}


def are_intact(attributes: Mapping[str, object]) -> bool:
    """Say whether attributes match their checksum, if they have one: older episodes do not."""
    return ATTRIBUTES_CHECKSUM not in attributes or with_checksum(attributes) == attributes


def read_attributes(path: Path) -> dict:
    """
    Read an episode's attributes; those an older format lacks get their defaults.

    :param path: the group's directory.
    :raises EpisodeError: when it is no episode, damaged, or of a newer format.
    """
    attributes = _read_metadata(path)['attributes']
    version = attributes['format_version']
    if version > FORMAT_VERSION:
        raise EpisodeError(f'{path}: format {version} is newer than {FORMAT_VERSION}, the '
                           f'newest this version reads; update stable_crl_ros')
    return attributes if version > 1 else {**VERSION_1_ATTRIBUTES, **attributes}


def change_attributes(path: Path,
                      change: Callable[[dict], Mapping[str, object] | None]) -> dict:
    """
    Replace some of an episode's attributes: readers see all the old ones or all the new ones.

    Processes that do so at the same time come one after the other. What was edited by hand before
    is accepted: it gets a new checksum.

    :param change: is given the attributes and returns the new ones, None to leave all.
    :returns: the attributes that are stored then.
    :raises EpisodeError: when the episode is damaged or the disk refuses.
    """
    try:
        directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise EpisodeError(f'{path}: no episode here ({error.strerror})') from error
    try:
        fcntl.flock(directory, fcntl.LOCK_EX)
        metadata = _read_metadata(path)
        known = read_attributes(path)
        attributes = change(known)
        if attributes is None and are_intact(known):
            return known
        metadata['attributes'] = with_checksum(known if attributes is None else attributes)
        write_atomic(path / FILE, json.dumps(metadata, indent=1, allow_nan=False).encode())
        return metadata['attributes']
    except OSError as error:
        raise EpisodeError(f'{path}: cannot be written ({error.strerror}); its attributes are '
                           f'what they were') from error
    finally:
        os.close(directory)


def _read_metadata(path: Path) -> dict:
    try:
        metadata = json.loads((path / FILE).read_bytes())
        if (metadata['zarr_format'], metadata['node_type']) != (3, 'group'):
            raise ValueError('no Zarr v3 group')
        for name in ('format_version', 'checksums', 'cameras', 'steps', 'episode_id'):
            metadata['attributes'][name]
        return metadata
    except FileNotFoundError as error:
        raise EpisodeError(f'{path}: no episode here (no {FILE})') from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise EpisodeError(f'{path}: {FILE} is not that of an episode ({error!r})') from error
