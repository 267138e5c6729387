"""Which episodes are for training and which for validation: drawn once, kept in a file."""

from collections import Counter
from collections.abc import Mapping, Sequence
import json
import os
from pathlib import Path

import numpy as np
from stable_crl_ros.data.dataset import Dataset
from stable_crl_ros.data.selection import describe
from stable_crl_ros.durable import write_atomic

TRAINING, VALIDATION = 'training', 'validation'
KIND = 'split of episodes'


class SplitError(ValueError):
    """A split that cannot be made, or a file that is none."""


def split_episodes(datasets: Sequence[Dataset], fraction: float, seed: int) -> dict:
    """
    Draw whole episodes for validation, from every task its share.

    :param fraction: of the episodes, between 0 and 1.
    :returns: plain values; `write_split` puts them into a file.
    :raises SplitError: when one of the parts would be empty.
    """
    entries = [(position, entry['episode_id'], entry['task'])
               for position, dataset in enumerate(datasets) for entry in dataset.index()]
    if seed < 0:
        raise SplitError(f'seed {seed}: give 0 or more')
    count = round(fraction * len(entries)) if 0.0 < fraction < 1.0 else 0
    if not 0 < count < len(entries):
        raise SplitError(f'a fraction of {fraction} of {len(entries)} episodes leaves '
                         f'{count} for validation; there must be some on both sides')
    chosen = _draw(entries, count, np.random.default_rng([seed, len(entries)]))
    return {'kind': KIND, 'fraction': fraction, 'seed': seed, 'datasets': [
        {'path': str(dataset.path), 'id': dataset.id, **{
            part: [number for place, number, _ in entries if place == position
                   and ((place, number) in chosen) == (part == VALIDATION)]
            for part in (TRAINING, VALIDATION)}}
        for position, dataset in enumerate(datasets)]}


def _draw(entries: Sequence[tuple[int, int, str]], count: int,
          rng: np.random.Generator) -> set[tuple[int, int]]:
    """Draw so many, as evenly over the tasks as whole episodes allow."""
    shuffled = [entries[index] for index in rng.permutation(len(entries))]
    sizes = Counter(task for _, _, task in entries)
    seen = dict.fromkeys(sizes, 0)
    ranked = []
    for position, number, task in shuffled:
        seen[task] += 1
        # The first of each task at the same rank, the second at the same later one, ...
        ranked.append(((seen[task] - 0.5) / sizes[task], len(ranked), (position, number)))
    return {key for _, _, key in sorted(ranked)[:count]}


def summarise(split: Mapping) -> str:
    """Return how many episodes are on which side, for people."""
    return '\n'.join(f'{item["path"]}: {len(item[TRAINING])} for training, '
                     f'{len(item[VALIDATION])} for validation ({describe(item[VALIDATION])})'
                     for item in split['datasets'])


def write_split(split: Mapping, path: str | Path) -> None:
    """Write a split beside or away from its datasets; it finds them by paths from there."""
    path = Path(path)
    datasets = [{**item, 'path': os.path.relpath(Path(item['path']).resolve(),
                                                 path.resolve().parent)}
                for item in split['datasets']]
    write_atomic(path, json.dumps({**split, 'datasets': datasets}, indent=1).encode())


def read_validation(path: str | Path, datasets: Sequence[str | Path],
                    ) -> list[tuple[int, int]]:
    """
    Return which episodes a split keeps for validation.

    A dataset is known by its identity, so it may have been moved; else by its path.

    :param datasets: those that are trained on, in this order.
    :returns: (position of the dataset, number of the episode); discarded ones are left out.
    :raises SplitError: when it is no split, or knows nothing of a dataset.
    """
    path, found = Path(path), []
    try:
        split = json.loads(path.read_bytes())
        if split['kind'] != KIND:
            raise KeyError('kind')
        known = [(item['id'], (path.resolve().parent / item['path']).resolve(),
                  [int(number) for number in item[VALIDATION]]) for item in split['datasets']]
    except (ValueError, KeyError, TypeError) as error:
        raise SplitError(f'{path}: not a split ({error!r}); make one with `stable-crl episodes '
                         f'split`') from error
    for position, place in enumerate(datasets):
        dataset = Dataset(place)
        numbers = next((numbers for identity, where, numbers in known
                        if (identity or None) == dataset.id
                        or where == dataset.path.resolve()), None)
        if numbers is None:
            raise SplitError(f'{path} knows nothing of {place}; it splits '
                             f'{[str(where) for _, where, _ in known]}')
        present = set(dataset.ids)
        found += [(position, number) for number in numbers if number in present]
    return found
