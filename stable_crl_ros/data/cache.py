"""Flat, memory-mapped arrays of the transitions of datasets; what training reads."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
import hashlib
import json
from pathlib import Path

import numpy as np
from stable_crl_ros.images import ImageSpec

CACHE_VERSION = 1
STATE_NAMES = ('joint_positions', 'gripper', 'ee_pose')  # columns of `states`, in this order
STATE_DIM = 14


class CacheError(RuntimeError):
    """A cache that cannot be built or used."""


@dataclass(frozen=True)
class CachedEpisode:
    """
    Where an episode of the cache comes from.

    :param gaps: steps just before which others were lost.
    :param checksum: of the recording, '' where an older cache was opened by itself.
    """

    dataset: int  # position in the list of datasets
    id: int
    steps: int
    task: str
    success: bool | None
    gaps: Sequence[int] = ()
    checksum: str = ''


@dataclass(frozen=True)
class TrainingCache:
    """
    Transitions of one or more datasets; N transitions, F frames.

    Transition i leads from frame `frames[i]` to frame `frames[i] + 1` of the same episode.

    :param path: the directory.
    :param image_spec: what the frames were resized with.
    :param camera: whose images the frames are.
    :param fingerprint: of the datasets, image size and camera.
    :param episodes: every episode, in the order of their frames.
    :param observations: uint8 RGB, shape (F, height, width, 3), mapped.
    :param states: float32, shape (F, 14), columns as in `STATE_NAMES`; NaN: not recorded.
    :param actions: float32, shape (N, 7), physical units.
    :param frames: int64, shape (N,), index of the frame the action was taken at.
    :param starts: int64, shape (N,), first frame of the transition's episode, or of the part of
        it between gaps.
    :param ends: int64, shape (N,), last frame of that, inclusive.
    :param episode: int64, shape (N,), position in `episodes`.
    """

    path: Path
    image_spec: ImageSpec
    camera: str
    fingerprint: str
    episodes: tuple[CachedEpisode, ...]
    observations: np.ndarray
    states: np.ndarray
    actions: np.ndarray
    frames: np.ndarray
    starts: np.ndarray
    ends: np.ndarray
    episode: np.ndarray

    @classmethod
    def open(cls, path: str | Path) -> 'TrainingCache':
        """
        Map a cache that `build_cache` wrote.

        :raises CacheError: when it is missing, incomplete or of another version.
        """
        path = Path(path)
        try:
            description = _read_description(path)
            episodes = tuple(CachedEpisode(**item) for item in description['episodes'])
            arrays = {name: np.load(path / f'{name}.npy', mmap_mode='r')
                      for name in ('observations', 'states', 'actions')}
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise CacheError(f'{path}: not a usable training cache ({error}); build it again') \
                from error
        steps = np.array([episode.steps for episode in episodes], np.int64)
        episode = np.repeat(np.arange(len(steps)), steps)
        starts = (np.cumsum(steps + 1) - (steps + 1))[episode]
        # Every episode before this one has one frame more than it has transitions.
        frames = np.arange(len(episode)) + episode
        return cls(path, ImageSpec.from_dict(description['image_spec']),
                   description['camera'], description['fingerprint'], episodes,
                   # A plain view: indexing a memmap costs more than indexing an array.
                   np.asarray(arrays['observations']), np.asarray(arrays['states']),
                   np.array(arrays['actions']), frames, starts, starts + steps[episode], episode)

    def __len__(self) -> int:
        return len(self.frames)

    def images(self, frames: np.ndarray) -> np.ndarray:
        """
        Gather frames.

        :param frames: int, shape (B,).
        :returns: uint8 RGB, shape (B, height, width, 3), contiguous, a copy.
        """
        return np.take(self.observations, frames, axis=0, mode='clip')

    def split(self, validation: Iterable[int | tuple[int, int]],
              ) -> tuple['TrainingCache', 'TrainingCache']:
        """
        Separate whole episodes for validation.

        :param validation: episode numbers, or (position of the dataset, episode number) where
            several datasets share a number.
        :returns: the training and the validation part; they share the frames.
        :raises CacheError: for an unknown or ambiguous episode, or when a part is empty.
        """
        held_out = np.isin(self.episode, self._positions(validation))
        if held_out.all() or not held_out.any():
            raise CacheError(f'{self.path}: {held_out.sum()} of {len(self)} transitions would be '
                             f'for validation; leave some on both sides')
        return self._select(~held_out), self._select(held_out)

    def head(self, transitions: int) -> 'TrainingCache':
        """
        Keep the first episodes, as many as fit whole into so many transitions.

        What follows them counts no longer: the fingerprint is theirs, and stays when the dataset
        grows.

        :raises CacheError: when the first episode is longer than that.
        """
        ends = np.cumsum([episode.steps for episode in self.episodes])
        kept = int(np.searchsorted(ends, transitions, side='right'))
        if not kept:
            raise CacheError(f'{self.path}: its first episode alone has {ends[0]} transitions, '
                             f'more than {transitions}; ask for more')
        episodes = self.episodes[:kept]
        text = json.dumps([CACHE_VERSION, self.image_spec.to_dict(), self.camera,
                           [(item.dataset, item.id, item.steps, item.checksum)
                            for item in episodes]])
        return replace(self._select(self.episode < kept), episodes=episodes,
                       fingerprint=hashlib.sha256(text.encode()).hexdigest())

    def labelled(self, episodes: tuple[CachedEpisode, ...]) -> 'TrainingCache':
        """Replace what is said about the episodes, which stay the same."""
        return replace(self, episodes=episodes)

    def without_gaps(self) -> 'TrainingCache':
        """
        Leave out what leads over lost steps, and end every episode before them.

        What was seen after a gap is not the outcome of the action before it alone, and no goal
        of that.
        """
        crossing = np.zeros(len(self), bool)
        starts, ends = self.starts.copy(), self.ends.copy()
        for position, episode in enumerate(self.episodes):
            if not episode.gaps:
                continue
            rows = np.arange(*np.searchsorted(self.episode, [position, position + 1]))
            for gap in episode.gaps:
                after = self.frames[rows[0]] + gap  # frame
                crossing[rows] |= self.frames[rows] == after - 1
                later = self.frames[rows] >= after
                starts[rows[later]] = np.maximum(starts[rows[later]], after)
                ends[rows[~later]] = np.minimum(ends[rows[~later]], after - 1)
        return replace(self, starts=starts, ends=ends)._select(~crossing)

    def _select(self, chosen: np.ndarray) -> 'TrainingCache':
        names = ('actions', 'frames', 'starts', 'ends', 'episode')
        return replace(self, **{name: getattr(self, name)[chosen] for name in names})

    def _positions(self, items: Iterable[int | tuple[int, int]]) -> list[int]:
        places: dict[int | tuple[int, int], list[int]] = {}
        for position, episode in enumerate(self.episodes):
            for name in (episode.id, (episode.dataset, episode.id)):
                places.setdefault(name, []).append(position)
        found = []
        for item in items:
            matches = places.get(item, [])
            if len(matches) != 1:
                raise CacheError(f'{self.path}: {self._describe_choice(item, bool(matches))}')
            found += matches
        return found

    def _describe_choice(self, item: int | tuple[int, int], known: bool) -> str:
        if not known:
            numbers = sorted({episode.id for episode in self.episodes})
            return f'episode {item} is unknown; give one of {numbers}'
        return (f'several datasets have an episode {item}; hold out a split of all (`stable-crl '
                'episodes split`, then `train --validation FILE`), or give (position of the '
                'dataset, number) in Python')


def _read_description(path: Path) -> dict:
    description = json.loads((path / 'cache.json').read_bytes())
    if description['version'] != CACHE_VERSION:
        raise ValueError(f'version {description["version"]}, not {CACHE_VERSION}')
    return description
