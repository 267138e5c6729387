"""Flat, memory-mapped arrays built once from datasets; what training reads."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
import fcntl
import hashlib
import json
import os
from pathlib import Path
import shutil
from typing import BinaryIO

import numpy as np
from stable_crl_ros.actions import ACTION_DIM
from stable_crl_ros.data.dataset import Dataset
from stable_crl_ros.data.episode import Episode
from stable_crl_ros.durable import sync_tree, write_atomic
from stable_crl_ros.images import ImageSpec

CACHE_VERSION = 1
STATE_NAMES = ('joint_positions', 'gripper', 'ee_pose')  # columns of `states`, in this order
STATE_DIM = 14


class CacheError(RuntimeError):
    """A cache that cannot be built or used."""


@dataclass(frozen=True)
class CachedEpisode:
    """Where an episode of the cache comes from."""

    dataset: int  # position in the list of datasets
    id: int
    steps: int
    task: str
    success: bool | None


@dataclass(frozen=True)
class TrainingCache:
    """
    Transitions of one or more datasets; N transitions, F frames.

    Transition i leads from frame `frames[i]` to frame `frames[i] + 1` of the same episode.

    :param path: the directory.
    :param image_spec: what the frames were resized with.
    :param fingerprint: of the datasets, image size and camera.
    :param episodes: every episode, in the order of their frames.
    :param observations: uint8 RGB, shape (F, height, width, 3), mapped.
    :param states: float32, shape (F, 14), columns as in `STATE_NAMES`; NaN: not recorded.
    :param actions: float32, shape (N, 7), physical units.
    :param frames: int64, shape (N,), index of the frame the action was taken at.
    :param starts: int64, shape (N,), first frame of the transition's episode.
    :param ends: int64, shape (N,), last frame of the transition's episode, inclusive.
    :param episode: int64, shape (N,), position in `episodes`.
    """

    path: Path
    image_spec: ImageSpec
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
                   description['fingerprint'], episodes,
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
        held_out = np.isin(self.episode, [self._position(item) for item in validation])
        if held_out.all() or not held_out.any():
            raise CacheError(f'{self.path}: {held_out.sum()} of {len(self)} transitions would be '
                             f'for validation; leave some on both sides')
        return self._select(~held_out), self._select(held_out)

    def head(self, transitions: int) -> 'TrainingCache':
        """
        Keep the first episodes, as many as fit whole into so many transitions.

        :raises CacheError: when the first episode is longer than that.
        """
        ends = np.cumsum([episode.steps for episode in self.episodes])
        kept = int(np.searchsorted(ends, transitions, side='right'))
        if not kept:
            raise CacheError(f'{self.path}: its first episode alone has {ends[0]} transitions, '
                             f'more than {transitions}; ask for more')
        return replace(self._select(self.episode < kept), episodes=self.episodes[:kept])

    def _select(self, chosen: np.ndarray) -> 'TrainingCache':
        names = ('actions', 'frames', 'starts', 'ends', 'episode')
        return replace(self, **{name: getattr(self, name)[chosen] for name in names})

    def _position(self, item: int | tuple[int, int]) -> int:
        matches = [position for position, episode in enumerate(self.episodes)
                   if item in (episode.id, (episode.dataset, episode.id))]
        if len(matches) != 1:
            known = sorted({episode.id for episode in self.episodes})
            raise CacheError(
                f'{self.path}: episode {item} is {"ambiguous" if matches else "unknown"}; give '
                f'one of {known}, or (dataset position, number) with several datasets')
        return matches[0]


def build_cache(datasets: str | Path | Dataset | Sequence[str | Path | Dataset],
                image_spec: ImageSpec, camera: str | None = None,
                out_dir: str | Path | None = None,
                progress: Callable[[int, int], None] | None = None) -> TrainingCache:
    """
    Return the cache of some datasets, built unless an up-to-date one is there.

    Other processes may ask for the same cache at the same time: one builds, the others wait.

    :param datasets: one or more, concatenated in this order.
    :param image_spec: every frame is resized with it.
    :param camera: may be left out when the episodes have one camera.
    :param out_dir: where caches are kept; left out, `.cache` in the first dataset.
    :param progress: called with the episodes done and their total.
    :raises CacheError: when there are no transitions, the camera is unknown, or the disk refuses.
    """
    if isinstance(datasets, str | Path | Dataset):
        datasets = [datasets]
    opened = [item if isinstance(item, Dataset) else Dataset(item) for item in datasets]
    if not opened:
        raise CacheError('no dataset given; name at least one')
    camera = _choose_camera(opened, camera)
    root = Path(out_dir) if out_dir is not None else opened[0].path / '.cache'
    path = root / _name(opened, image_spec, camera)
    fingerprint = _fingerprint(opened, image_spec, camera)
    try:
        root.mkdir(parents=True, exist_ok=True)
        with open(path.with_name(f'{path.name}.lock'), 'w') as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            if not _is_current(path, fingerprint):
                _build(path, opened, image_spec, camera, fingerprint, progress)
    except OSError as error:
        raise CacheError(f'{root}: the training cache cannot be written '
                         f'({error.strerror or error}); free space, or give another out_dir') \
            from error
    return TrainingCache.open(path)


def _choose_camera(datasets: list[Dataset], camera: str | None) -> str:
    entries = [(dataset, entry) for dataset in datasets for entry in dataset.index()
               if entry['steps']]
    if not entries:
        raise CacheError(f'no transitions in {[str(item.path) for item in datasets]}; record or '
                         f'collect episodes first')
    common = set.intersection(*(set(entry['cameras']) for _, entry in entries))
    if camera is None and len(common) == 1:
        return common.pop()
    if camera is None and common:
        raise CacheError(f'{datasets[0].path}: several cameras; choose one of {sorted(common)}')
    for dataset, entry in entries:
        if camera not in entry['cameras']:
            raise CacheError(f'{dataset.path}/{entry["name"]}: no camera {camera!r}; it has '
                             f'{sorted(entry["cameras"])}, all episodes share {sorted(common)}')
    return camera


def _name(datasets: list[Dataset], spec: ImageSpec, camera: str) -> str:
    paths = '\n'.join(str(dataset.path.resolve()) for dataset in datasets)
    return (f'{camera}-{spec.height}x{spec.width}-{spec.interpolation}-'
            f'{hashlib.sha256(paths.encode()).hexdigest()[:8]}')


def _fingerprint(datasets: list[Dataset], spec: ImageSpec, camera: str) -> str:
    parts = [dataset.fingerprint() for dataset in datasets]
    text = json.dumps([CACHE_VERSION, parts, spec.to_dict(), camera])
    return hashlib.sha256(text.encode()).hexdigest()


def _read_description(path: Path) -> dict:
    description = json.loads((path / 'cache.json').read_bytes())
    if description['version'] != CACHE_VERSION:
        raise ValueError(f'version {description["version"]}, not {CACHE_VERSION}')
    return description


def _is_current(path: Path, fingerprint: str) -> bool:
    try:
        return TrainingCache.open(path).fingerprint == fingerprint
    except CacheError:
        return False


def _build(path: Path, datasets: list[Dataset], spec: ImageSpec, camera: str, fingerprint: str,
           progress: Callable[[int, int], None] | None) -> None:
    sources = [(position, episode) for position, dataset in enumerate(datasets)
               for episode in dataset.episodes if episode.steps]
    temporary = path.with_name(f'.building-{path.name}')
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    try:
        _write_arrays(temporary, [episode for _, episode in sources], spec, camera, progress)
        episodes = [{'dataset': position, 'id': episode.id, 'steps': episode.steps,
                     'task': episode.attrs['task'], 'success': episode.attrs['success']}
                    for position, episode in sources]
        write_atomic(temporary / 'cache.json', json.dumps({
            'version': CACHE_VERSION, 'fingerprint': fingerprint, 'camera': camera,
            'image_spec': spec.to_dict(), 'episodes': episodes}).encode())
        sync_tree(temporary)
        # Trainers that still map the old files keep them; the names are free.
        shutil.rmtree(path, ignore_errors=True)
        os.rename(temporary, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _write_arrays(path: Path, episodes: list[Episode], spec: ImageSpec, camera: str,
                  progress: Callable[[int, int], None] | None) -> None:
    transitions = sum(episode.steps for episode in episodes)
    frames = transitions + len(episodes)
    # Plain writes: a full disk is an error here, but would kill a process that writes a map.
    with (_npy(path / 'observations.npy', 'u1', (frames, *spec.shape)) as observations,
          _npy(path / 'states.npy', 'f4', (frames, STATE_DIM)) as states,
          _npy(path / 'actions.npy', 'f4', (transitions, ACTION_DIM)) as actions):
        for done, episode in enumerate(episodes, 1):
            for image in episode.images(camera):
                observations.write(spec.resize(image))
            rows = [episode[name].reshape(episode.steps + 1, -1) for name in STATE_NAMES]
            states.write(np.concatenate(rows, 1, dtype=np.float32).tobytes())
            actions.write(episode['action'].tobytes())
            if progress:
                progress(done, len(episodes))


def _npy(path: Path, dtype: str, shape: tuple[int, ...]) -> BinaryIO:
    """Open a file that holds the header of an array whose bytes are written next."""
    file = open(path, 'wb')  # noqa: SIM115 the caller closes it
    np.lib.format.write_array_header_1_0(
        file, {'descr': np.dtype(dtype).str, 'fortran_order': False, 'shape': shape})
    return file
