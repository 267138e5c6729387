"""Record scripted demonstrations in the simulator, in parallel, as a dataset of episodes."""

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
import math
from pathlib import Path

import numpy as np
from stable_crl_ros.data.dataset import Dataset
from stable_crl_ros.images import ImageSpec
from stable_crl_ros.parallel import spread
from stable_crl_ros.sim.demonstrators import make_demonstrator
from stable_crl_ros.sim.env import WidowXEnv
from stable_crl_ros.sim.recording import record_episode, Script
from stable_crl_ros.sim.tasks import task_named

SHARE = 10  # episodes a worker records before it reports
DEFAULT_NOISE = (0.1, 0.25, 0.4)


class CollectError(ValueError):
    """Demonstrations that cannot be recorded as asked."""


@dataclass(frozen=True)
class Demonstration:
    """
    One episode to record.

    :param index: number within the collection; with the collection's seed it fixes everything.
    """

    task: str
    index: int
    episode_id: int


@dataclass(frozen=True)
class Settings:
    """What all episodes of a collection share."""

    path: Path
    seed: int
    noise: tuple[float, ...] = DEFAULT_NOISE
    image_spec: ImageSpec | None = field(default_factory=ImageSpec)


def collect(
    path: str | Path, episodes: dict[str, int], seed: int = 0, workers: int = 2,
    noise: Sequence[float] = DEFAULT_NOISE, image_spec: ImageSpec | None = ImageSpec(),  # noqa: B008
    progress: Callable[[int, int], None] = lambda done, successes: None,
) -> Dataset:
    """
    Record scripted demonstrations; failed ones are kept, with success false.

    :param path: directory of the dataset; new episodes are added to what it holds.
    :param episodes: task -> number of episodes.
    :param seed: the same seed, tasks and numbers give the same episodes, whatever `workers`.
    :param noise: each episode draws one of these strengths (see `Demonstrator`).
    :param image_spec: images are stored as the learner sees them; None stores full size.
    :param progress: called with how many episodes were just recorded, and succeeded.
    :raises CollectError: for no or unknown tasks, or counts that make no sense.
    """
    plan = _plan(episodes)
    if workers < 1 or seed < 0 or not noise or not all(0.0 <= one < math.inf for one in noise):
        raise CollectError(f'collecting needs workers >= 1, seed >= 0 and noise >= 0; got '
                           f'{workers}, {seed} and {tuple(noise)}')
    dataset = Dataset(path, create=True)
    with dataset.lock():  # for the workers, who record under the numbers reserved here
        ids = dataset.reserve_ids(len(plan))
        work = [Demonstration(task, index, episode_id)
                for index, (task, episode_id) in enumerate(zip(plan, ids, strict=True))]
        shares = [work[i:i + SHARE] for i in range(0, len(work), SHARE)]
        settings = Settings(Path(path), seed, tuple(noise), image_spec)
        try:
            calls = [(settings, share) for share in shares]
            with closing(spread(record_share, calls, workers)) as done:
                for share, successes in zip(shares, done, strict=True):
                    progress(len(share), successes)
        finally:
            dataset.release_ids(ids)
    return dataset


def _plan(episodes: dict[str, int]) -> list[str]:
    """Interleave the tasks, so that a cut-off collection still holds all of them."""
    for name, count in episodes.items():
        task_named(name)
        if count < 0:
            raise CollectError(f'{count} episodes of {name}: give 0 or more')
    total = max(episodes.values(), default=0)
    if total == 0:
        raise CollectError('no episodes asked for; give a number per task')
    return [name for turn in range(total) for name, count in episodes.items() if turn < count]


def record_share(settings: Settings, share: list[Demonstration]) -> int:
    """Record some episodes in this process; return how many succeeded."""
    dataset = Dataset(settings.path)
    with closing(WidowXEnv(share[0].task)) as env:
        return sum(record_episode(dataset, env, _script(settings, item), item.episode_id,
                                  settings.image_spec) for item in share)


def _script(settings: Settings, item: Demonstration) -> Script:
    rng = np.random.default_rng([settings.seed, item.index])
    task = task_named(item.task)
    start = task.sample_start(rng)
    goal = task.sample_goal(rng, start)
    noise = float(rng.choice(settings.noise))
    return Script(
        item.task, start, goal, make_demonstrator(task, goal, rng, noise), task.max_steps,
        seed=int(rng.integers(2**31)),
        attributes={'seed': settings.seed, 'seed_index': item.index, 'noise': noise})
