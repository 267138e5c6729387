"""Trim, merge and split: episodes copied into new ones, nothing recorded is changed."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from stable_crl_ros.data.copying import COPIED_FROM, copy_episode
from stable_crl_ros.data.dataset import Dataset
from stable_crl_ros.data.episode import Episode
from stable_crl_ros.data.labels import checked_name, discard

STILL_M, STILL_RAD, STILL_GRIPPER = 0.002, 0.02, 0.02  # less in a step is no motion
Progress = Callable[[int, int], None]


class EditError(ValueError):
    """An edit that makes no sense for these episodes."""


@dataclass(frozen=True)
class Copy:
    """
    One episode that was copied, or would be.

    :param first: first step of the source that is in the copy; `last` is the last one.
    :param number: of the copy in the target; None: not made, in a dry run.
    :param already: it had been copied before; `number` is that copy's.
    """

    source: str
    episode: int
    first: int
    last: int
    number: int | None = None
    already: bool = False

    def to_dict(self) -> dict:
        """Return plain values for JSON."""
        return asdict(self)


def trim(dataset: Dataset, episode_id: int, keep: tuple[int, int], by: str,
         dry_run: bool = False) -> Copy:
    """
    Copy a stretch of an episode to a new one, and discard the long one; `restore` undoes that.

    :param keep: first and last step to keep, inclusive.
    :param by: who says so.
    :raises EditError: for steps that are not in the episode, or all that are.
    :raises stable_crl_ros.data.labels.LabelError: when nobody says so.
    """
    episode, (first, last), by = dataset[episode_id], keep, checked_name(by)
    if not 0 <= first <= last < episode.steps:
        raise EditError(f'{episode.path}: cannot keep steps {first}-{last} of 0-'
                        f'{episode.steps - 1}')
    if last - first + 1 == episode.steps:
        raise EditError(f'{episode.path}: steps {first}-{last} are all of it; nothing to trim')
    number = None
    if not dry_run:
        with dataset.lock():
            number = copy_episode(episode, dataset, rows=slice(first, last + 1))
            discard(dataset, episode_id, by, f'trimmed: steps {first}-{last} are episode {number}')
    return Copy(str(dataset.path), episode_id, first, last, number)


def moving_steps(episode: Episode, margin: int = 2) -> tuple[int, int]:
    """
    Find the stretch without the standstill at the beginning and the end.

    :param margin: steps of standstill to keep on either side.
    :returns: first and last step, inclusive.
    :raises EditError: when the arm never moves, or for a negative margin.
    """
    if margin < 0:
        raise EditError(f'a margin of {margin} steps would cut motion off; give 0 or more')
    action, gripper = episode['action'], episode['action'][:, 6]
    moving = np.abs(action[:, :3]).max(1) > STILL_M
    moving |= np.abs(action[:, 3:6]).max(1) > STILL_RAD
    moving[1:] |= np.abs(np.diff(gripper)) > STILL_GRIPPER
    places, measured = episode['ee_pose'][:, :3], episode['gripper']
    moving |= np.linalg.norm(np.diff(places, axis=0), axis=1) > STILL_M
    moving |= np.abs(np.diff(measured)) > STILL_GRIPPER
    steps = np.flatnonzero(moving)
    if not len(steps):
        raise EditError(f'{episode.path}: the arm never moves; discard the episode instead')
    return max(0, int(steps[0]) - margin), min(episode.steps - 1, int(steps[-1]) + margin)


def merge(sources: Sequence[tuple[Dataset, Iterable[int]]], target: Dataset | None,
          progress: Progress | None = None, dry_run: bool = False) -> list[Copy]:
    """
    Copy episodes of some datasets into another; what it holds already is left out.

    An interrupted merge goes on when it is repeated. Episodes without a step, as a crash in the
    first one leaves them, are passed over.

    :param sources: datasets, and which of their episodes.
    :param target: None: a new one, in a dry run.
    :param dry_run: only say what would be copied.
    :param progress: called with the episodes done and their total.
    """
    wanted = [(dataset, number) for dataset, numbers in sources for number in numbers]
    if dry_run or target is None:
        return list(_copies(wanted, target, None, progress))
    with target.lock():
        return list(_copies(wanted, target, target, progress))


def open_target(path: str | Path, sources: Sequence[Dataset], image_codec: str | None = None,
                dry_run: bool = False) -> Dataset | None:
    """
    Open the dataset to copy to, making it where it is not there.

    :param image_codec: of a new one; None: that of the first source.
    :param dry_run: make none.
    :returns: None where there is none, in a dry run.
    :raises EditError: when it is one of the sources.
    :raises DatasetError: when it cannot be written, or has another codec than is asked for.
    """
    path = Path(path)
    if path.resolve() in [source.path.resolve() for source in sources]:
        raise EditError(f'{path} is one of the sources; copy into another dataset')
    if path.is_dir() and any(path.iterdir()):
        return Dataset(path, image_codec=image_codec)
    if dry_run:
        return None
    return Dataset(path, create=True, image_codec=image_codec or str(sources[0].codec))


def _copies(wanted: Sequence[tuple[Dataset, int]], looked_at: Dataset | None,
            target: Dataset | None, progress: Progress | None) -> Iterator[Copy]:
    known = {} if looked_at is None else _copied_before(looked_at)
    for done, (dataset, number) in enumerate(wanted, 1):
        episode = dataset[number]
        if episode.steps:
            before = copied = known.get((dataset.id, number, episode.attrs['checksum'],
                                         0, episode.steps))
            if target is not None and before is None:
                copied = copy_episode(episode, target)
            yield Copy(str(dataset.path), number, 0, episode.steps - 1, copied,
                       before is not None)
        if progress:
            progress(done, len(wanted))


def _copied_before(target: Dataset) -> dict[tuple, int]:
    """Return what a dataset holds copies of, discarded ones included: somebody decided that."""
    numbers = [*target.ids, *(entry['episode_id'] for entry in target.discarded)]
    origins = {number: target[number].attrs.get(COPIED_FROM) for number in numbers}
    return {(origin['dataset'], origin['episode'], origin['checksum'], *origin['rows']): number
            for number, origin in origins.items() if origin}
