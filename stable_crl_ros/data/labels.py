"""Labels of sealed episodes: success, task, words about it; discarded, restored, deleted."""

from collections.abc import Mapping, Sequence
import getpass
import os
from pathlib import Path
import shutil
import socket
import time
from types import EllipsisType

from stable_crl_ros.data.attributes import change_attributes
from stable_crl_ros.data.dataset import Dataset, DatasetError
from stable_crl_ros.data.numbering import retire
from stable_crl_ros.durable import sync_directory

DELETING = '.deleting-'


class LabelError(ValueError):
    """A label that makes no sense, or comes from nobody."""


def relabel(dataset: Dataset, episode_id: int, by: str, *,
            success: bool | None | EllipsisType = ..., task: str | EllipsisType = ...,
            operator: str | EllipsisType = ..., notes: str | EllipsisType = ...,
            instruction: str | EllipsisType = ...,
            tags: Sequence[str] | EllipsisType = ...) -> dict:
    """
    Change labels of an episode, all at once or not at all; what is left out stays.

    What they were, who changed them and when is kept in the attribute 'label_history'.

    :param by: who says so.
    :param success: None: unknown.
    :returns: the episode's attributes.
    :raises LabelError: for a label of the wrong type, or nobody's.
    :raises EpisodeError: when the episode is damaged or the disk refuses.
    :raises DatasetError: when there is no such episode.
    """
    labels = {'success': success, 'task': task, 'operator': operator, 'notes': notes,
              'instruction': instruction, 'tags': tags}
    return _change(dataset, episode_id, by, checked_labels(
        {name: value for name, value in labels.items() if value is not ...}))


def checked_labels(labels: Mapping[str, object]) -> dict:
    """
    Return labels as they are stored.

    :param labels: as `relabel` takes them.
    :raises LabelError: for one of the wrong type.
    """
    given = dict(labels)
    if 'tags' in given:
        given['tags'] = _checked_tags(given['tags'])
    if not isinstance(given.get('success'), bool | None):
        raise LabelError(f'success {given["success"]!r}: give True, False or None')
    for name in given.keys() - {'success', 'tags'}:
        if not isinstance(given[name], str):
            raise LabelError(f'{name} must be text, got {given[name]!r}')
    return given


def checked_name(by: str | None) -> str:
    """
    Return the name of who labels.

    :param by: None for who is logged in.
    :raises LabelError: for an empty one, or where nobody knows who is logged in.
    """
    if by is None:
        try:
            return getpass.getuser()
        except (KeyError, OSError) as error:  # a container may run a user it does not know
            raise LabelError(f'user {os.getuid()} has no name on this machine; say who it '
                             'is') from error
    if not by.strip():
        raise LabelError('a label needs a name: say who gives it')
    return by


def discard(dataset: Dataset, episode_id: int, by: str, why: str = '') -> dict:
    """
    Leave an episode out of everything that reads the dataset; `restore` brings it back.

    :returns: the episode's attributes; raises as `relabel`.
    """
    return _change(dataset, episode_id, by,
                   {'discarded': {'when_ns': time.time_ns(), 'by': by, 'why': why}})


def restore(dataset: Dataset, episode_id: int, by: str) -> dict:
    """
    Bring a discarded episode back.

    :returns: the episode's attributes; raises as `relabel`.
    """
    return _change(dataset, episode_id, by, {'discarded': None})


def compact(dataset: Dataset, dry_run: bool = False) -> list[dict]:
    """
    Delete the discarded episodes for good; no later one is given their numbers.

    :param dry_run: only say which.
    :returns: what `Dataset.discarded` said of each, with its size on disk as 'bytes'.
    :raises DatasetError: when another process writes the dataset, or the disk refuses.
    """
    found = [{**entry, 'bytes': _size(dataset.path / entry['name'])}
             for entry in dataset.discarded]
    if dry_run:
        return found
    with dataset.lock():
        try:
            if found:
                retire(dataset.path, max(entry['episode_id'] for entry in found))
            for entry in found:
                # Renamed first: an episode half deleted would look like a damaged one.
                os.rename(dataset.path / entry['name'],
                          dataset.path / f'{DELETING}{entry["name"]}')
            sync_directory(dataset.path)
            for leftover in dataset.path.glob(f'{DELETING}*'):
                shutil.rmtree(leftover)
        except OSError as error:
            raise DatasetError(f'{dataset.path}: a discarded episode cannot be deleted '
                               f'({error.strerror or error}); fix the cause and compact '
                               f'again') from error
        _ = dataset.ids  # the index, without them; a damaged episode is another matter
    return found


def _change(dataset: Dataset, episode_id: int, by: str, labels: dict) -> dict:
    by, path = checked_name(by), dataset[episode_id].path

    def change(attributes: dict) -> dict | None:
        changed = {name: [attributes.get(name), value] for name, value in labels.items()
                   if attributes.get(name) != value}
        if not changed:
            return None
        entry = {'when_ns': time.time_ns(), 'by': by, 'host': socket.gethostname(),
                 'changed': changed}
        history = [*attributes.get('label_history', []), entry]
        return {**attributes, **labels, 'label_history': history}

    return change_attributes(path, change)


def _checked_tags(tags: Sequence[str]) -> list[str]:
    if isinstance(tags, str) or not all(isinstance(tag, str) and tag.strip() for tag in tags):
        raise LabelError(f'tags must be a list of words, got {tags!r}')
    return list(dict.fromkeys(tags))


def _size(path: Path) -> int:
    return sum(file.stat().st_size for file in path.rglob('*') if file.is_file())
