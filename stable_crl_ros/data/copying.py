"""Copy an episode, or a part of one, to a dataset without encoding its images anew."""

from dataclasses import fields

import numpy as np
from stable_crl_ros.data.attributes import EpisodeError
from stable_crl_ros.data.dataset import Dataset
from stable_crl_ros.data.description import read_description
from stable_crl_ros.data.episode import Episode, EpisodeWriter
from stable_crl_ros.data.schema import (
    Action,
    AGES,
    EpisodeMeta,
    Mode,
    Observation,
    RESERVED_ATTRIBUTES,
    STAMP_FIELDS,
    STATE_FIELDS,
    STATE_STREAMS,
    STEP_FIELDS,
)

CHANGES = ('checkpoints', 'goals')  # attributes that list [step, name in force from it on]
GAPS = 'gaps'  # attribute that lists the steps before which others were dropped
COPIED_FROM = 'copied_from'


def copy_episode(episode: Episode, dataset: Dataset, *, rows: slice = slice(None),
                 attributes: dict | None = None) -> int:
    """
    Write an episode, or some steps of one, as a new episode of a dataset.

    Stamps, labels and their history stay, and so do the images' bytes where the dataset stores
    the same kind of image; what is measured over the steps is measured anew. Counts of dropped
    and late steps stay those of the whole recording. The attribute 'copied_from' names the
    dataset, the episode, its checksum and the rows.

    :param rows: steps to copy, without a stride; all when left out.
    :param attributes: plain values that replace or extend those of the episode.
    :returns: the new episode's number.
    :raises EpisodeError: when no step is left, the episode is damaged, or the disk refuses.
    :raises DatasetError: when another process writes the dataset.
    """
    start, stop, stride = rows.indices(episode.steps)
    if stride != 1 or start >= stop:
        raise EpisodeError(f'{episode.path}: rows {start} to {stop} leave no step; it has steps '
                           f'0 to {episode.steps - 1}')
    source = _Source(episode)
    given = {**_shifted(episode.attrs, start, stop), **(attributes or {}),
             COPIED_FROM: {'dataset': read_description(episode.path.parent)[0],
                           'episode': episode.id, 'rows': [start, stop],
                           'checksum': episode.attrs['checksum']}}
    attrs = episode.attrs
    writer = EpisodeWriter(dataset, _meta(episode), sync_every=0,
                           kept=_kept(attrs, stop == episode.steps))
    try:
        for row in range(start, stop):
            writer.add_step(source.observation(row), source.action(row))
        writer.finish(source.observation(stop), attrs['success'],
                      interrupted=attrs['interrupted'], dropped=attrs['dropped'],
                      late=attrs['late'], drops=attrs['drops'], ended_why=attrs['ended_why'],
                      attributes=given)
    except BaseException:
        if not writer.closed:
            writer.discard()  # half a copy is of no use
        raise
    return writer.episode_id


class _Source:
    """Gives an episode's rows as they were recorded."""

    def __init__(self, episode: Episode) -> None:
        self._episode = episode
        self._streams = (*episode.cameras, *STATE_STREAMS)
        names = [field.name for field in (*STATE_FIELDS, *STEP_FIELDS)]
        names += [name for name in episode.names if name.startswith(f'{AGES}/')]
        self._arrays: dict[str, np.ndarray] = {name: episode[name] for name in names}

    def observation(self, row: int) -> Observation:
        final = row == self._episode.steps
        stamps = {name: self._episode.attrs[f'final_{name}'] if final
                  else int(self._arrays[name][row]) for name in STAMP_FIELDS}
        return Observation(
            {camera: self._episode.encoded(camera, row) for camera in self._episode.cameras},
            **{field.name: self._arrays[field.name][row] for field in STATE_FIELDS},
            **stamps, ages={} if final else self._ages(row))

    def action(self, row: int) -> Action:
        values = {field.name: self._arrays[field.name][row] for field in STEP_FIELDS
                  if field.name not in STAMP_FIELDS}
        return Action(**{**values, 'mode': Mode(int(values['mode']))})

    def _ages(self, row: int) -> dict[str, int]:
        ages = {stream: self._arrays.get(f'{AGES}/{stream}') for stream in self._streams}
        return {stream: int(values[row]) for stream, values in ages.items()
                if values is not None}


def _meta(episode: Episode) -> EpisodeMeta:
    attrs = episode.attrs
    known = {field.name for field in fields(EpisodeMeta)} - {'goal_image', 'extra'}
    return EpisodeMeta(
        **{name: attrs[name] for name in known if name in attrs}, goal_image=episode.goal_image,
        extra={name: value for name, value in attrs.items()
               if name not in known | RESERVED_ATTRIBUTES})


def _kept(attributes: dict, to_the_end: bool) -> dict:
    """Return what of the format itself a copy takes over."""
    names = ['created_ns', 'versions', 'label_history']
    names += ['unfinished_step', 'lost_bytes'] if to_the_end else []
    return {name: attributes[name] for name in names}


def _shifted(attributes: dict, start: int, stop: int) -> dict:
    """Return the attributes that count steps, counted from the copy's first one."""
    shifted = {}
    for name in CHANGES:
        if name in attributes:
            shifted[name] = _changes_within(attributes[name], start, stop)
    if GAPS in attributes:
        # One just before `stop` lies between the copy's last step and its last observation.
        shifted[GAPS] = [step - start for step in attributes[GAPS] if start < step <= stop]
    return shifted


def _changes_within(changes: list, start: int, stop: int) -> list:
    before = [[0, name] for step, name in changes if step <= start]
    return before[-1:] + [[step - start, name] for step, name in changes if start < step < stop]
