"""The index of a dataset: what the episodes say of themselves, so that none need be opened."""

import json
from pathlib import Path
import zlib

from stable_crl_ros.data.attributes import EpisodeError, read_attributes
from stable_crl_ros.data.description import newer
from stable_crl_ros.data.schema import FORMAT_VERSION
from stable_crl_ros.durable import write_atomic

INDEX = 'index.json'
SUMMARY = ('episode_id', 'steps', 'task', 'instruction', 'success', 'interrupted', 'operator',
           'source', 'tags', 'control_rate', 'created_ns', 'cameras', 'dropped', 'degraded',
           'discarded', 'actions', 'gaps', 'checksum')  # attributes the index repeats


def read_index(path: Path) -> dict[str, dict]:
    """
    Return the entries as they were written, by the name of the episode's directory.

    :param path: the dataset's directory.
    :returns: nothing where the index is absent or damaged; it is rebuilt from the episodes.
    :raises DatasetError: when it is of a newer format.
    """
    try:
        index = json.loads((path / INDEX).read_bytes())
        version, entries = index['format_version'], index['episodes']
        if version > FORMAT_VERSION:
            raise newer(path, version)
        if index['crc32'] != _crc32(entries):
            return {}
        return {entry['name']: entry for entry in entries}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def write_index(path: Path, entries: list[dict]) -> None:
    """Replace the index."""
    index = {'format_version': FORMAT_VERSION, 'crc32': _crc32(entries), 'episodes': entries}
    write_atomic(path / INDEX, json.dumps(index, indent=1).encode())


def episode_entry(path: Path, known: dict) -> dict:
    """
    Return the entry of one episode, or why it cannot be read.

    :param known: its entry in the index, empty when it has none.
    """
    try:
        found = (path / 'zarr.json').stat()
        # The size as well: a file replaced twice within a tick of the clock keeps its time.
        state = {'modified_ns': found.st_mtime_ns, 'metadata_bytes': found.st_size}
        if state.items() <= known.items() and known.keys() >= set(SUMMARY):
            return known
        attributes = read_attributes(path)
    except (OSError, EpisodeError) as error:
        return {'name': path.name, 'error': str(error)}
    return {'name': path.name, **state, **{name: attributes.get(name) for name in SUMMARY}}


def _crc32(entries: list[dict]) -> int:
    return zlib.crc32(json.dumps(entries, sort_keys=True).encode())
