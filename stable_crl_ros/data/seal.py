"""Turn a journal into a sealed Zarr v3 group: all of it or nothing."""

from collections import defaultdict
from contextlib import closing, ExitStack, suppress
import hashlib
from itertools import chain
import json
import os
from pathlib import Path
import shutil

import numpy as np
from stable_crl_ros.data.attributes import with_checksum
from stable_crl_ros.data.codecs import ImageCodec, JPEG, LOSSLESS
from stable_crl_ros.data.frames import FrameWriter
from stable_crl_ros.data.health import health
from stable_crl_ros.data.journal import JournalError
from stable_crl_ros.data.journal_reader import JournalReader
from stable_crl_ros.data.schema import (
    age_field,
    AGES,
    EpisodeMeta,
    Field,
    FORMAT_VERSION,
    GOAL_IMAGE,
    IMAGE_CRCS,
    IMAGE_OFFSETS,
    IMAGES,
    STAMP_FIELDS,
    STATE_FIELDS,
    STATE_STREAMS,
    STEP_FIELDS,
)
from stable_crl_ros.data.zarr_files import write_array, write_group
from stable_crl_ros.durable import sync_directory, sync_tree

PREFIX = f'{IMAGES}/'
DAMAGED = 'damaged on disk'  # among the reasons of drops


class SealError(RuntimeError):
    """A journal that cannot be sealed."""


def seal(journal_path: Path, target: Path) -> dict:
    """
    Write the group beside its place, force it to disk, and rename it into place.

    The caller holds the journal's lock. The journal stays; remove it afterwards: one that is
    damaged gets a second name, '.journal.damaged'. The images are copied as they were encoded,
    one at a time.

    :param target: the group's directory; must not exist.
    :returns: the attributes written.
    :raises SealError: when the journal holds no observation or the disk refuses.
    """
    temporary = target.with_name(f'.sealing-{target.name}')
    try:
        shutil.rmtree(temporary, ignore_errors=True)
        with JournalReader(journal_path) as journal, closing(_Content(temporary)) as content:
            attributes = content.write(journal)
            damaged = journal.damaged
        if damaged:
            with suppress(FileExistsError):
                os.link(journal_path, journal_path.with_name(f'{journal_path.name}.damaged'))
        sync_tree(temporary)
        os.rename(temporary, target)
        sync_directory(target.parent)
    except OSError as error:
        raise SealError(f'{target}: cannot be written ({error.strerror or error})') from error
    except JournalError as error:
        raise SealError(str(error)) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return attributes


class _Content:
    """What a journal holds: images go straight to their files, everything else is small."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._header: dict = {}
        self._end: dict = {}
        self._sizes: dict[str, tuple[int, int]] = {}
        self._frames: dict[str, FrameWriter] = {}
        self._rows: dict[str, bytearray] = defaultdict(bytearray)
        self._last_step: dict = {}
        self._unfinished: dict | None = None  # a last step whose outcome was never seen
        self._last: dict[str, int] = {}  # stamps of the last observation
        self._observations = self._steps = 0
        self._gaps: list[int] = []  # steps just before which a record is damaged

    def close(self) -> None:
        with ExitStack() as stack:
            for frames in self._frames.values():
                stack.callback(frames.close)

    def write(self, journal: JournalReader) -> dict:
        """Write everything; returns the attributes."""
        records = iter(journal)
        first = next(records, None)
        if first is not None and 'kind' in first:  # the header itself is damaged
            self._header, records = _guessed_header(first, journal), chain([first], records)
        else:
            self._header = _checked_header(first, journal.path)
        for record in records:
            # Stretches before the first record held the header, and no step.
            if len(self._gaps) < sum(map(bool, journal.lost)):
                self._gaps.append(self._steps)
            if record['kind'] == 'end':
                self._end = record
            if STATE_FIELDS[0].name in record:
                self._observe(record)
            if record['kind'] == 'step':
                self._step(record)
            if self._end:
                break
        if not self._observations:
            raise SealError(f'{journal.path}: holds no observation')
        if self._observations == self._steps:
            self._drop_last_step()
        # What follows an end record was never part of the episode.
        lost = journal.lost_bytes + (0 if self._end else journal.truncated_bytes)
        return self._finish(lost)

    @property
    def _step_fields(self) -> tuple[Field, ...]:
        return (*STEP_FIELDS, *map(age_field, (*self._sizes, *STATE_STREAMS)))

    def _observe(self, record: dict) -> None:
        codec = ImageCodec.parse(self._header.get('image_codec', 'lossless'))
        for name in (name for name in record if name.startswith(PREFIX)):
            camera, data = name.removeprefix(PREFIX), record[name]
            size = record['sizes'][camera] if data.ndim == 1 else data.shape[:2]
            if camera not in self._frames:
                self._sizes[camera] = tuple(size)
                self._frames[camera] = FrameWriter(self._path, camera, codec, size)
            # Format 1 journals hold the pixels.
            self._frames[camera].add(data.data if data.ndim == 1 else codec.encode(data))
        self._add(STATE_FIELDS, record)
        self._observations += 1
        self._last = {name: int(record[name]) for name in STAMP_FIELDS}

    def _step(self, record: dict) -> None:
        values = {field.name: np.asarray(record.get(field.name, field.absent)).astype(
            field.dtype, copy=False) for field in self._step_fields}
        self._add(self._step_fields, values)
        self._last_step = values
        self._steps += 1

    def _add(self, fields: tuple[Field, ...], values: dict) -> None:
        for field in fields:
            self._rows[field.name] += values[field.name].tobytes()

    def _drop_last_step(self) -> None:
        self._steps -= 1
        self._unfinished = self._last_step
        for field in self._step_fields:
            size = self._last_step[field.name].nbytes
            del self._rows[field.name][-size:]

    def _finish(self, lost_bytes: int) -> dict:
        for name in (IMAGES, IMAGE_OFFSETS, IMAGE_CRCS, AGES):
            write_group(self._path / name)
        checksums: dict[str, str] = {}
        for frames in self._frames.values():
            checksums |= frames.finish()
        arrays = {field.name: self._array(field) for field in (*STATE_FIELDS, *self._step_fields)}
        meanings = {field.name: field.meaning for field in (*STATE_FIELDS, *self._step_fields)}
        if GOAL_IMAGE in self._header:
            arrays[GOAL_IMAGE], meanings[GOAL_IMAGE] = self._header[GOAL_IMAGE], 'RGB'
        for name, values in arrays.items():
            write_array(self._path / name, values, meanings[name])
            checksums[name] = hashlib.sha256(np.ascontiguousarray(values)).hexdigest()
        attributes = with_checksum(self._attributes(arrays, checksums, lost_bytes))
        write_group(self._path, attributes)
        return attributes

    def _array(self, field: Field) -> np.ndarray:
        rows = np.frombuffer(bytes(self._rows[field.name]), field.dtype)
        return rows.reshape(-1, *field.shape)

    def _attributes(self, arrays: dict[str, np.ndarray], checksums: dict[str, str],
                    lost_bytes: int) -> dict:
        header, end = self._header, self._end
        given = {**header['attributes'], **end.get('attributes', {})}
        losses = self._losses(given)
        return {
            **given,
            'format_version': FORMAT_VERSION,
            'image_codec': header.get('image_codec', 'lossless'),
            'episode_id': header['episode_id'],
            'created_ns': header['created_ns'],
            'versions': header['versions'],
            'label_history': header.get('label_history', []),
            'steps': self._steps,
            'cameras': {camera: list(size) for camera, size in self._sizes.items()},
            'success': end.get('success'),
            'interrupted': end.get('interrupted', True),
            'ended_why': end.get('ended_why', ''),
            **losses,
            'late': end.get('late', 0),
            **({'discarded': end['discarded']} if end.get('discarded') else {}),
            **health(arrays, given.get('control_rate') or 0.0,
                     given.get('minimum_rate_share', 0.9),
                     losses.get('gaps', given.get('gaps', []))),
            'unfinished_step': _plain_step(self._unfinished) or header.get('unfinished_step'),
            'lost_bytes': lost_bytes + header.get('lost_bytes', 0),
            **{f'final_{name}': stamp for name, stamp in self._last.items()},
            'checksums': checksums,
            'checksum': hashlib.sha256(
                json.dumps(checksums, sort_keys=True).encode()).hexdigest(),
        }

    def _losses(self, given: dict) -> dict:
        """Return what says that steps are missing, those of damaged records included."""
        dropped, drops = self._end.get('dropped', 0), self._end.get('drops', {})
        if not self._gaps:
            return {'dropped': dropped, 'drops': drops}
        written = [step + before for before, step in enumerate(self._gaps)]
        moved = [gap - sum(step < gap for step in written) for gap in given.get('gaps', [])]
        return {'dropped': dropped + len(self._gaps),
                'drops': {**drops, DAMAGED: drops.get(DAMAGED, 0) + len(self._gaps)},
                'gaps': sorted({*moved, *self._gaps})}


def _guessed_header(first: dict, journal: JournalReader) -> dict:
    """Make up for a header that is damaged: the steps are worth more than it."""
    jpeg = any(bytes(values[:2].tobytes()) == b'\xff\xd8' for name, values in first.items()
               if name.startswith(PREFIX))
    meta = EpisodeMeta(notes='the description of this episode was damaged on disk')
    return {'format_version': FORMAT_VERSION, 'versions': {},
            'created_ns': journal.path.stat().st_mtime_ns,
            'episode_id': int(journal.path.stem.rpartition('_')[2]),
            'image_codec': JPEG if jpeg else LOSSLESS, 'attributes': meta.to_attributes()}


def _checked_header(header: dict | None, path: Path) -> dict:
    if header is None:
        raise SealError(f'{path}: holds no complete record')
    if header['format_version'] > FORMAT_VERSION:
        raise SealError(f'{path}: format {header["format_version"]} is newer than '
                        f'{FORMAT_VERSION}; update stable_crl_ros')
    return header


def _plain_step(record: dict | None) -> dict | None:
    """Return an action as plain values; JSON has no NaN, so it becomes None."""
    if record is None:
        return None
    step = {}
    for field in STEP_FIELDS:
        values = np.asarray(record[field.name], object)
        plain = np.where(np.asarray(record[field.name]) == record[field.name], values, None)
        step[field.name] = plain.tolist()
    return step
