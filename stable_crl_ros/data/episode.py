"""One episode: written step by step to a journal, read back as a Zarr group."""

import hashlib
import json
from pathlib import Path
import time
from typing import TYPE_CHECKING

import numpy as np
from stable_crl_ros.data.journal import JournalError, JournalWriter
from stable_crl_ros.data.schema import (
    Action,
    EpisodeMeta,
    FORMAT_VERSION,
    GOAL_IMAGE,
    IMAGES,
    Observation,
    RESERVED_ATTRIBUTES,
    SchemaError,
    software_versions,
)
from stable_crl_ros.data.seal import seal, SealError
from stable_crl_ros.images import check_rgb
import zarr

if TYPE_CHECKING:
    from stable_crl_ros.data.dataset import Dataset


class EpisodeError(RuntimeError):
    """An episode that cannot be written or read."""


class EpisodeWriter:
    """
    Record one episode: every step goes to a journal, `finish` seals it into a Zarr group.

    What `add_step` returned from survives the death of the process; `Dataset.recover` seals
    what a crash cut off. Used as a context manager, an episode left without `finish` is sealed
    as interrupted.

    :param dataset: where the episode belongs.
    :param meta: what is known at the start.
    :param episode_id: one that `dataset.reserve_ids` gave; left out, the next free one.
    :param sync_every: force the journal to disk after so many steps; 0 never (see journal).
    :raises EpisodeError: when the episode exists or the journal cannot be written.
    """

    def __init__(self, dataset: 'Dataset', meta: EpisodeMeta | None = None,
                 episode_id: int | None = None, sync_every: int = 5) -> None:
        meta = meta or EpisodeMeta()
        header = _header(meta)
        self.episode_id = dataset.reserve_id() if episode_id is None else int(episode_id)
        self.path = dataset.episode_path(self.episode_id)
        self.steps = 0
        self._shapes: dict[str, tuple] | None = None
        if self.path.exists():
            raise EpisodeError(f'{self.path} exists; reserve another episode id')
        header['episode_id'] = self.episode_id
        try:
            self._journal = JournalWriter(
                dataset.journal_path(self.episode_id), header, sync_every)
        except JournalError as error:
            if episode_id is None:
                dataset.release_ids([self.episode_id])
            raise EpisodeError(str(error)) from error

    def __enter__(self) -> 'EpisodeWriter':
        return self

    def __exit__(self, *_) -> None:
        if not self.closed and self.steps:
            self.finish(interrupted=True)
        elif not self.closed:
            self.discard()

    @property
    def closed(self) -> bool:
        """Tell whether the episode was finished, discarded or given up."""
        return self._journal.closed

    def add_step(self, observation: Observation, action: Action) -> None:
        """
        Record one control step.

        :raises SchemaError: when it does not fit the format; nothing is recorded then.
        :raises EpisodeError: when the disk refuses; every earlier step is kept.
        """
        record = self._checked(observation)
        record.update(action.to_record())
        self._append({'kind': 'step', **record})
        self.steps += 1

    def finish(self, final_observation: Observation | None = None,
               success: bool | None = None, *, interrupted: bool = False, dropped: int = 0,
               late: int = 0, attributes: dict | None = None) -> Path:
        """
        Seal the episode.

        :param final_observation: what was seen after the last action. Left out, the last step
            has no outcome: its observation becomes the final one and its action is kept in the
            attribute 'unfinished_step'.
        :param success: None when nobody judged.
        :param dropped: steps lost before they reached the writer.
        :param late: control ticks that came late.
        :param attributes: plain values that replace or extend those of the start.
        :returns: the sealed group's directory.
        :raises EpisodeError: when there is nothing to seal or the disk refuses; the journal
            keeps what was recorded and `Dataset.recover` seals it later.
        """
        record = {'kind': 'end', 'success': None if success is None else bool(success),
                  'interrupted': bool(interrupted), 'dropped': int(dropped), 'late': int(late),
                  'attributes': _checked_attributes(attributes or {})}
        if final_observation is not None:
            record.update(self._checked(final_observation))
        elif not self.steps:
            self.discard()
            raise EpisodeError(f'{self.path.name}: no step was recorded, nothing to save')
        try:
            self._journal.append(record)
            self._journal.sync()
            seal(self._journal.path, self.path)
            self._journal.path.unlink()
        except (JournalError, SealError, OSError) as error:
            raise EpisodeError(f'{error}; the recording is kept in {self._journal.path}; '
                               f'fix the cause, then recover the dataset') from error
        finally:
            self._journal.close()
        return self.path

    def discard(self) -> None:
        """Throw the recording away."""
        self._journal.path.unlink(missing_ok=True)
        self._journal.close()

    def _checked(self, observation: Observation) -> dict[str, np.ndarray]:
        record = observation.to_record()
        shapes = {name: value.shape for name, value in record.items() if name.startswith(IMAGES)}
        if self._shapes is not None and shapes != self._shapes:
            raise SchemaError(f'{self.path.name}: images {shapes} differ from those of the '
                              f'first step, {self._shapes}')
        self._shapes = shapes
        return record

    def _append(self, record: dict) -> None:
        try:
            self._journal.append(record)
        except JournalError as error:
            raise EpisodeError(str(error)) from error


def _header(meta: EpisodeMeta) -> dict:
    header = {'format_version': FORMAT_VERSION, 'created_ns': time.time_ns(),
              'versions': software_versions(),
              'attributes': _checked_attributes(meta.to_attributes())}
    if meta.goal_image is not None:
        check_rgb(meta.goal_image, 'goal image')
        header[GOAL_IMAGE] = meta.goal_image
    return header


def _checked_attributes(attributes: dict) -> dict:
    taken = sorted(set(attributes) & RESERVED_ATTRIBUTES)
    if taken:
        raise SchemaError(f'attributes {taken} are names of the format; rename them')
    try:
        json.dumps(attributes, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise SchemaError(f'attributes must be plain JSON values: {error}') from error
    return attributes


class Episode:
    """
    A sealed episode; arrays are read when asked for and checked against their checksums.

    `episode['action']` is (steps, 7), `episode['ee_pose']` (steps + 1, 7); every name, type and
    unit is in `schema.STATE_FIELDS` and `schema.STEP_FIELDS`.

    :param path: the group's directory.
    :raises EpisodeError: when it is no episode, damaged, or of a newer format.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.attrs = _read_attributes(self.path)
        self._group: zarr.Group | None = None

    @property
    def id(self) -> int:
        """Number of the episode in its dataset."""
        return self.attrs['episode_id']

    @property
    def steps(self) -> int:
        """Number of actions; there is one observation more."""
        return self.attrs['steps']

    @property
    def cameras(self) -> list[str]:
        """Names of the cameras, sorted."""
        return sorted(self.attrs['cameras'])

    @property
    def names(self) -> list[str]:
        """Names of the arrays."""
        return sorted(self.attrs['checksums'])

    def array(self, name: str) -> zarr.Array:
        """
        Return an array without reading it.

        :raises EpisodeError: when the episode has none of that name.
        """
        if name not in self.attrs['checksums']:
            raise EpisodeError(f'{self.path}: no array {name!r}; it has {self.names}')
        try:
            if self._group is None:
                self._group = zarr.open_group(self.path, mode='r')
            return self._group[name]
        except (OSError, ValueError, KeyError) as error:
            raise EpisodeError(f'{self.path}: {name} is damaged ({error}); restore it from a '
                               f'copy or move the episode away') from error

    def __getitem__(self, name: str) -> np.ndarray:
        array = self.array(name)
        try:
            values = array[...]
        except (OSError, ValueError, RuntimeError) as error:
            raise EpisodeError(f'{self.path}: {name} is damaged ({error}); restore it from a '
                               f'copy or move the episode away') from error
        values = np.asarray(values)
        # A missing chunk reads as zeros without any error: only the checksum notices.
        if hashlib.sha256(np.ascontiguousarray(values)).hexdigest() \
                != self.attrs['checksums'][name]:
            raise EpisodeError(f'{self.path}: {name} differs from its checksum; restore it '
                               f'from a copy or move the episode away')
        return values

    def images(self, camera: str | None = None) -> np.ndarray:
        """
        Read all images of a camera.

        :param camera: may be left out when there is one only.
        :returns: uint8 RGB, shape (steps + 1, H, W, 3).
        :raises EpisodeError: for an unknown camera, or none named where there are several.
        """
        if camera is None and len(self.cameras) == 1:
            camera = self.cameras[0]
        if camera not in self.cameras:
            raise EpisodeError(f'{self.path}: no camera {camera!r}; choose one of {self.cameras}')
        return self[f'{IMAGES}/{camera}']

    @property
    def goal_image(self) -> np.ndarray | None:
        """The goal image, uint8 RGB (H, W, 3), None where none was stored."""
        return self[GOAL_IMAGE] if GOAL_IMAGE in self.attrs['checksums'] else None


def _read_attributes(path: Path) -> dict:
    try:
        attributes = json.loads((path / 'zarr.json').read_bytes())['attributes']
        version, _ = attributes['format_version'], attributes['checksums']
    except FileNotFoundError as error:
        raise EpisodeError(f'{path}: no episode here (no zarr.json)') from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise EpisodeError(f'{path}: zarr.json is not that of an episode ({error!r})') from error
    if version > FORMAT_VERSION:
        raise EpisodeError(f'{path}: format {version} is newer than {FORMAT_VERSION}, the '
                           f'newest this version reads; update stable_crl_ros')
    return attributes


def read_episode(path: str | Path) -> Episode:
    """Open a sealed episode; see `Episode`."""
    return Episode(path)
