"""What a run trains on and what it holds out: datasets, control rate, action scale."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from stable_crl_ros.actions import ActionScale, BRIDGE_HIGH, BRIDGE_LOW
from stable_crl_ros.crl.config import AgentConfig
from stable_crl_ros.crl.run_folder import TrainError
from stable_crl_ros.data.cache import TrainingCache
from stable_crl_ros.data.cache_build import build_cache, can_be_learned
from stable_crl_ros.data.dataset import Dataset

# A dimension that hardly moves must not be blown up: 1 % of half of Bridge's box.
SMALLEST_STD = 0.005 * (np.asarray(BRIDGE_HIGH) - np.asarray(BRIDGE_LOW))


def learned_entries(dataset_paths: Sequence[str | Path]) -> list[dict]:
    """Return what the indices of datasets say of the episodes to learn from."""
    return [entry for path in dataset_paths for entry in Dataset(path).index()
            if can_be_learned(entry)]


def find_control_rate(entries: Sequence[Mapping]) -> float:
    """
    Return the rate (Hz) at which episodes were recorded: that of one action.

    :param entries: from `learned_entries`.
    :raises TrainError: when there are several: the same action is another speed at each.
    """
    rates = {entry['control_rate'] for entry in entries}
    if len(rates) != 1:
        raise TrainError(f'the episodes were recorded at different control rates: '
                         f'{sorted(rates)} Hz; train on those of one rate')
    return float(rates.pop())


def make_scale(config: AgentConfig, actions: np.ndarray) -> ActionScale:
    """
    Make the action scale that a configuration asks for.

    :param actions: physical, shape (N, 7), of the training data.
    """
    if config.action_scale == 'bounds':
        return ActionScale.from_bounds()
    if config.action_scale == 'bridge':
        return ActionScale.from_statistics()
    mean, std = actions.mean(0, dtype=float), actions.std(0, dtype=float)
    return ActionScale.from_statistics(mean.tolist(), np.maximum(std, SMALLEST_STD).tolist())


def show_build(dataset_paths: Sequence[str | Path], config: AgentConfig, camera: str | None,
               cache_dir: str | Path | None, progress: bool) -> TrainingCache:
    """Build the cache of the datasets, with a bar where there is a terminal to show it."""
    return build_cache(list(dataset_paths), config.image_spec, camera, cache_dir,
                       None if progress else _show_nothing)


def describe_enlarging(entries: Sequence[Mapping], cache: TrainingCache) -> str | None:
    """
    Say so where pictures were stored smaller than the network takes them.

    :param entries: from `learned_entries`, of the episodes of the cache.
    """
    wanted = cache.image_spec
    smaller = {(height, width) for height, width in (
        entry['cameras'][cache.camera] for entry in entries)
        if height < wanted.height or width < wanted.width}
    if not smaller:
        return None
    stored = ', '.join(f'{width}x{height}' for height, width in sorted(smaller))
    return (f'pictures stored at {stored} are enlarged to {wanted.width}x{wanted.height}, which '
            'adds nothing to them; record them larger, or choose a smaller image_size')


def _show_nothing(done: int, total: int) -> None:
    pass


def split(cache: TrainingCache, episodes: Sequence | None, fraction: float,
          seed: int) -> tuple[TrainingCache, TrainingCache | None]:
    """
    Hold episodes out for validation.

    :param episodes: their numbers; None draws a `fraction` of them with `seed`.
    :returns: the training and the validation part, None where that is empty.
    :raises TrainError: for a fraction outside 0 .. 1.
    """
    if episodes is None:
        if not 0.0 <= fraction < 1.0:
            raise TrainError(f'validation_fraction must lie in 0 .. 1 (excluded), got {fraction}')
        known = [(episode.dataset, episode.id) for episode in cache.episodes]
        count = int(round(fraction * len(known)))
        drawn = np.random.default_rng([seed, len(known)]).permutation(len(known))[:count]
        episodes = [known[index] for index in drawn]
    return cache.split(episodes) if len(episodes) else (cache, None)


def name_episodes(part: TrainingCache | None) -> list[list[int]]:
    """
    Name the episodes of a part of the data.

    :param part: None for no part.
    :returns: position of the dataset and episode number of each, in order.
    """
    if part is None:
        return []
    found = [part.episodes[position] for position in np.unique(part.episode)]
    return sorted([episode.dataset, episode.id] for episode in found)
