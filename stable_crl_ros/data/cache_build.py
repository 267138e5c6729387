"""Build the cache that training reads, or find it: resumable, where the disk allows it."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
import errno
import fcntl
import hashlib
import json
import math
import os
from pathlib import Path
import shutil

import numpy as np
from stable_crl_ros.data.cache import (
    CACHE_VERSION,
    CachedEpisode,
    CacheError,
    STATE_NAMES,
    TrainingCache,
)
from stable_crl_ros.data.cache_writer import CacheWriter, Rows, WrittenRows
from stable_crl_ros.data.dataset import Dataset
from stable_crl_ros.data.episode import Episode
from stable_crl_ros.data.schema import NO_ACTIONS
from stable_crl_ros.data.union import DatasetUnion, open_datasets
from stable_crl_ros.durable import sync_tree, write_atomic
from stable_crl_ros.images import ImageSpec
from tqdm import tqdm

BAR_DELAY_S = 0.5  # what is done sooner needs no bar
NO_RIGHT = (errno.EROFS, errno.EACCES, errno.EPERM)
NO_SPACE = (errno.ENOSPC, errno.EDQUOT)
Progress = Callable[[int, int], None]


def build_cache(datasets: str | Path | Dataset | Sequence[str | Path | Dataset],
                image_spec: ImageSpec, camera: str | None = None,
                out_dir: str | Path | None = None,
                progress: Progress | None = None) -> TrainingCache:
    """
    Return the cache of some datasets, built unless an up-to-date one is there.

    Interrupted at any moment, the next call goes on after the episodes already written; of an
    older cache, the episodes that are still wanted are copied. Other processes may ask for the
    same cache at the same time: one builds, the others wait.

    :param datasets: one or more, concatenated in this order.
    :param image_spec: every frame is resized with it.
    :param camera: may be left out when the episodes have one camera.
    :param out_dir: where caches are kept; left out, `.cache` in the first dataset, or the
        user's cache folder where that is read-only.
    :param progress: called with the frames done and their total; left out, a bar on a terminal.
    :raises CacheError: when there are no transitions, the camera is unknown, or the disk refuses.
    """
    if isinstance(datasets, Sequence) and not isinstance(datasets, str) and not datasets:
        raise CacheError('no dataset given; name at least one')
    wanted = _Wanted(open_datasets(datasets), image_spec, camera)
    places = [Path(out_dir)] if out_dir is not None else _usual_places(wanted)
    path = next((place / wanted.name for place in places
                 if wanted.is_current(place / wanted.name)), None)
    if path is None:
        path = _build_somewhere(wanted, places, progress)
    return wanted.label(TrainingCache.open(path))


def can_be_learned(entry: Mapping) -> bool:
    """Say whether an entry of a dataset's index has actions that led somewhere."""
    return entry['steps'] > 0 and entry['actions'] != NO_ACTIONS


class _Wanted:
    """What a cache must hold, and how it is called."""

    def __init__(self, union: DatasetUnion, spec: ImageSpec, camera: str | None) -> None:
        self.spec = spec
        self.datasets = union.datasets
        self.entries = [entry for entry in union.index() if can_be_learned(entry)]
        self.camera = _choose_camera(union, self.entries, camera)
        self.plan = [(entry['checksum'], entry['steps']) for entry in self.entries]
        self.settings = {'version': CACHE_VERSION, 'camera': self.camera,
                         'image_spec': spec.to_dict()}
        identities = '\n'.join(map(_identity, self.datasets))
        self.name = (f'{self.camera}-{spec.height}x{spec.width}-{spec.interpolation}-'
                     f'{hashlib.sha256(identities.encode()).hexdigest()[:8]}')
        parts = [dataset.fingerprint() for dataset in self.datasets]
        text = json.dumps([CACHE_VERSION, parts, spec.to_dict(), self.camera])
        self.fingerprint = hashlib.sha256(text.encode()).hexdigest()
        self.episodes = [{'dataset': entry['dataset'], 'id': entry['episode_id'],
                          **{name: entry[name]
                             for name in ('steps', 'task', 'success', 'checksum')},
                          'gaps': entry['gaps'] or []}
                         for entry in self.entries]

    @property
    def description(self) -> dict:
        return {**self.settings, 'fingerprint': self.fingerprint, 'episodes': self.episodes}

    def is_current(self, path: Path) -> bool:
        try:
            return TrainingCache.open(path).fingerprint == self.fingerprint
        except CacheError:
            return False

    def label(self, cache: TrainingCache) -> TrainingCache:
        """Give a cache the labels of today: they change without a frame changing."""
        return cache.labelled(
            tuple(CachedEpisode(**item) for item in self.episodes)).without_gaps()

    def rows(self, entry: dict, older: WrittenRows) -> Rows:
        kept = older.find(entry['checksum'], entry['steps'])
        if kept is not None:
            return kept
        episode = Episode(entry['path'])
        states = [episode[name].reshape(episode.steps + 1, -1) for name in STATE_NAMES]
        return Rows(map(self.spec.resize, episode.frames(self.camera)),
                    np.concatenate(states, 1, dtype=np.float32), episode['action'])


def _choose_camera(union: DatasetUnion, entries: list[dict], camera: str | None) -> str:
    first = union.datasets[0].path
    if not entries:
        raise CacheError(f'no transitions in {[str(item.path) for item in union.datasets]}; '
                         f'record or collect episodes first (videos have no actions to learn)')
    common = set.intersection(*(set(entry['cameras']) for entry in entries))
    if camera is None and len(common) == 1:
        return common.pop()
    if camera is None and common:
        raise CacheError(f'{first}: several cameras; choose one of {sorted(common)}')
    for entry in entries:
        if camera not in entry['cameras']:
            raise CacheError(f'{entry["path"]}: no camera {camera!r}; it has '
                             f'{sorted(entry["cameras"])}, all episodes share {sorted(common)}')
    return camera


def _identity(dataset: Dataset) -> str:
    """Return what stays the same when a dataset is moved or grows."""
    own = getattr(dataset, 'id', '')
    return own or next((entry['checksum'] for entry in dataset.index()), '')


def _usual_places(wanted: _Wanted) -> list[Path]:
    user = os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache'
    return [wanted.datasets[0].path / '.cache', Path(user) / 'stable_crl_ros']


def _build_somewhere(wanted: _Wanted, places: list[Path], progress: Progress | None) -> Path:
    """Build in the first place that may be written."""
    refusals = []
    for place in places:
        try:
            place.mkdir(parents=True, exist_ok=True)
            with open(place / f'{wanted.name}.lock', 'w') as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                if not wanted.is_current(place / wanted.name):
                    _build(place / wanted.name, wanted, progress)
            return place / wanted.name
        except OSError as error:
            refusals.append(f'{place} ({error.strerror or error})')
            if error.errno not in NO_RIGHT:
                break
    raise CacheError(f'the training cache cannot be written: {", ".join(refusals)}; free space, '
                     f'or give another out_dir')


def _build(path: Path, wanted: _Wanted, progress: Progress | None) -> None:
    temporary = path.with_name(f'.building-{path.name}')
    older = WrittenRows(path, wanted.settings, wanted.spec.shape)
    try:
        with CacheWriter(temporary, wanted.settings, wanted.plan, wanted.spec.shape) as writer:
            _check_space(path.parent, writer.missing_bytes)
            with _shown(progress) as show:
                _write(writer, wanted, older, show)
        write_atomic(temporary / 'cache.json', json.dumps(wanted.description).encode())
        sync_tree(temporary)
        # Trainers that still map the old files keep them; the names are free.
        shutil.rmtree(path, ignore_errors=True)
        os.rename(temporary, path)
    except OSError as error:
        if error.errno in NO_SPACE:  # a recording may need what little is left
            shutil.rmtree(temporary, ignore_errors=True)
        raise


def _write(writer: CacheWriter, wanted: _Wanted, older: WrittenRows, show: Progress) -> None:
    total = sum(entry['steps'] + 1 for entry in wanted.entries)
    frame_bytes = math.prod(wanted.spec.shape)

    def counted(blocks: Iterable[np.ndarray], before: int) -> Iterator[np.ndarray]:
        size = 0
        for block in blocks:
            yield block
            size += block.nbytes
            show(before + size // frame_bytes, total)

    show(writer.frames_done, total)
    for entry in wanted.entries[writer.done:]:
        rows = wanted.rows(entry, older)
        writer.add(replace(rows, frames=counted(rows.frames, writer.frames_done)))


def _check_space(place: Path, needed: int) -> None:
    free = shutil.disk_usage(place).free
    if needed > free:
        raise OSError(errno.ENOSPC, f'it needs {needed / 1e9:.2f} GB more, {free / 1e9:.2f} GB '
                                    f'are free')


@contextmanager
def _shown(progress: Progress | None) -> Iterator[Progress]:
    """Give what is called with the frames done and their total."""
    if progress is not None:
        yield progress
        return
    with tqdm(unit='frame', unit_scale=True, desc='reading data', disable=None, leave=False,
              delay=BAR_DELAY_S) as bar:
        def show(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)
        yield show
