"""Verify episodes: against their checksums and the format, then for what is implausible."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from stable_crl_ros.data.attributes import are_intact
from stable_crl_ros.data.dataset import Dataset
from stable_crl_ros.data.episode import Episode, EpisodeError
from stable_crl_ros.data.findings import ERROR, Finding, WARNING
from stable_crl_ros.data.plausible_images import check_images, look_at
from stable_crl_ros.data.plausible_motion import check_motion
from stable_crl_ros.data.schema import (
    AGES,
    IMAGE_CRCS,
    IMAGE_OFFSETS,
    IMAGES,
    STATE_FIELDS,
    STATE_STREAMS,
    STEP_FIELDS,
)
from stable_crl_ros.data.selection import describe

HEALTHY_JOURNALS = ('recording', 'reserved')


def verify_episode(path: str | Path, integrity_only: bool = False) -> list[Finding]:
    """
    Read a whole episode and check it.

    :param integrity_only: look for damage, not for what is implausible.
    :returns: what is wrong; empty when all is well.
    """
    try:
        episode = Episode(path)
        found, arrays = _check_integrity(episode)
        if not integrity_only and not found:
            found = check_motion(arrays, episode.attrs)
            for camera in episode.cameras:
                found += check_images(camera, look_at(episode.frames(camera)), arrays,
                                      episode.attrs['control_rate'])
    except EpisodeError as error:
        found = [Finding('damaged', str(error))]
    return [replace(finding, episode=Path(path).name) for finding in found]


def verify_dataset(path: str | Path, integrity_only: bool = False,
                   progress: Callable[[int, int], None] | None = None) -> list[Finding]:
    """
    Verify every episode of a dataset, and name what is not sealed.

    :param integrity_only: look for damage, not for what is implausible.
    :param progress: called with the episodes done and their total.
    :returns: what is wrong; empty when all is well.
    :raises DatasetError: when it is no dataset.
    """
    dataset = Dataset(path)
    found, ids = [], dataset.ids
    for done, number in enumerate(ids, 1):
        found += verify_episode(dataset.episode_path(number), integrity_only)
        if progress:
            progress(done, len(ids))
    found += [Finding('unsealed', item.message, episode=item.path.name)
              for item in dataset.unsealed() if item.state not in HEALTHY_JOURNALS]
    found += [Finding('damaged', 'a journal with damage before its end; what could be read of it '
                      'is sealed', WARNING, episode=item.name)
              for item in sorted(dataset.path.glob('*.journal.damaged'))]
    return found if integrity_only or dataset.broken else found + _check_together(dataset)


def errors(findings: list[Finding]) -> list[Finding]:
    """Return the errors among them, without the warnings."""
    return [finding for finding in findings if finding.severity == ERROR]


def _check_integrity(episode: Episode) -> tuple[list[Finding], dict[str, np.ndarray]]:
    expected = _expected(episode)
    found = [Finding('missing', f'lacks {name}')
             for name in sorted(set(expected) - set(episode.names))]
    if not are_intact(episode.attrs):
        found.append(Finding('attributes', 'what zarr.json says of it is damaged, or was edited '
                             'by hand; look at it and write it anew: stable-crl episodes label'))
    arrays = {}
    for name in sorted(set(episode.names) - _image_names(episode)):
        try:
            arrays[name] = episode[name]
        except EpisodeError as error:
            found.append(Finding('checksum', str(error)))
            continue
        layout = (arrays[name].shape, arrays[name].dtype.name)
        if layout != expected.get(name, layout):
            found.append(Finding('format', f'{name} is {layout}, must be {expected[name]}'))
    for camera in episode.cameras:
        if f'{IMAGES}/{camera}' in episode.names:
            found += _check_frames(episode, camera)
    return found, arrays


def _image_names(episode: Episode) -> set[str]:
    return {f'{IMAGES}/{camera}' for camera in episode.cameras}


def _check_frames(episode: Episode, camera: str) -> list[Finding]:
    """Check every image of a camera, each by itself, as far as the format allows."""
    try:
        damaged = episode.damaged_images(camera)
    except EpisodeError as error:
        return [Finding('checksum', str(error))]
    return [Finding('checksum', f'camera {camera}: {why}; restore the episode from a copy, or '
                    'discard it', steps=None if row is None else (row, row))
            for row, why in damaged]


def _expected(episode: Episode) -> dict[str, tuple[tuple[int, ...], str] | None]:
    """Return name -> (shape, dtype) of the arrays an episode must have."""
    steps = episode.steps
    expected = {field.name: ((steps + 1, *field.shape), field.dtype) for field in STATE_FIELDS}
    expected |= {field.name: ((steps, *field.shape), field.dtype) for field in STEP_FIELDS
                 if field.absent is None or field.name in episode.names}
    expected |= dict.fromkeys(_image_names(episode))  # each image is checked by itself
    if episode.attrs['format_version'] > 1:
        for camera in episode.cameras:
            expected[f'{IMAGE_OFFSETS}/{camera}'] = ((steps + 2,), 'int64')
            expected[f'{IMAGE_CRCS}/{camera}'] = ((steps + 1,), 'uint32')
        for stream in (*episode.cameras, *STATE_STREAMS):
            expected[f'{AGES}/{stream}'] = ((steps,), 'int64')
    return expected


def _check_together(dataset: Dataset) -> list[Finding]:
    """Find episodes that are there twice, or do not fit the others."""
    entries, found = dataset.index(), []
    first: dict[str, str] = {}
    for entry in entries:
        twin = first.setdefault(entry['checksum'], entry['name'])
        if twin != entry['name']:
            found.append(Finding('duplicate', f'holds the same as {twin}', WARNING,
                                 episode=entry['name']))
    return found + _check_alike(dataset.path.name, entries)


def _check_alike(name: str, entries: list[dict]) -> list[Finding]:
    """Find what keeps episodes from being trained on together."""
    rates: dict[float, list[int]] = {}
    for entry in entries:
        rates.setdefault(entry['control_rate'], []).append(entry['episode_id'])
    found = []
    if len(rates) > 1:
        told = '; '.join(f'{rate:g} Hz: episodes {describe(numbers)}'
                         for rate, numbers in sorted(rates.items()))
        found.append(f'the control rates differ, training takes one ({told})')
    if entries and not set.intersection(*(set(entry['cameras']) for entry in entries)):
        found.append('no camera is in all episodes, training takes one')
    return [Finding('mixed', what, WARNING, episode=name) for what in found]
