"""Name episodes of a dataset in a few words: '3', '5-9', 'last', 'all'."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from stable_crl_ros.data.dataset import Dataset
from stable_crl_ros.data.episode import Episode

ALL, LAST = 'all', 'last'


class SelectionError(ValueError):
    """Words that name no episodes of this dataset."""


def select(words: Sequence[str], known: Iterable[int], where: str | Path) -> list[int]:
    """
    Return the episodes that some words name.

    :param words: numbers, ranges such as '5-9', 'last' or 'all'.
    :param known: numbers that may be named.
    :param where: the dataset, for the refusal.
    :returns: numbers, sorted, each once.
    :raises SelectionError: when a word makes no sense or names none of `known`.
    """
    known = sorted(known)
    chosen = {number for word in words for number in _numbers(word, known, where)}
    return sorted(chosen)


def _numbers(word: str, known: list[int], where: str | Path) -> list[int]:
    first, dash, last = word.partition('-')
    if word == ALL:
        found = known
    elif word == LAST:
        found = known[-1:]
    elif first.isdecimal() and (last.isdecimal() if dash else not last):
        low, high = int(first), int(last or first)
        found = [number for number in known if low <= number <= high]
    else:
        raise SelectionError(f'{word!r} names no episode; give a number, a range such as 5-9, '
                             f'{LAST!r} or {ALL!r}')
    if not found:
        raise SelectionError(f'{where}: no episode {word} to choose; there are '
                             f'{describe(known) or "none"}')
    return found


def describe(numbers: Sequence[int]) -> str:
    """Return numbers in few words, such as '0-4, 7'."""
    parts: list[list[int]] = []
    for number in sorted(numbers):
        if parts and number == parts[-1][-1] + 1:
            parts[-1][1:] = [number]
        else:
            parts.append([number])
    return ', '.join('-'.join(map(str, part)) for part in parts)


def open_one(path: str | Path, word: str = LAST) -> Episode:
    """
    Open one episode, discarded or not.

    :param path: a dataset, or the directory of an episode.
    :param word: which one of a dataset: a number or 'last'.
    :raises SelectionError: when there is none, or the word names several.
    """
    if Path(path).suffix == '.zarr':
        return Episode(path)
    dataset = Dataset(path)
    known = dataset.ids
    if word != LAST:
        known = known + discarded_ids(dataset)
    found = select([word], known, path)
    if len(found) > 1:
        raise SelectionError(f'{word!r} names {len(found)} episodes; give the number of one')
    return dataset[found[0]]


def discarded_ids(dataset: Dataset) -> list[int]:
    """Return the numbers of the discarded episodes."""
    return [entry['episode_id'] for entry in getattr(dataset, 'discarded', [])]
