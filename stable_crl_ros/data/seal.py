"""Turn a journal into a sealed Zarr v3 group: all of it or nothing."""

from dataclasses import dataclass
import hashlib
import json
import math
import os
from pathlib import Path
import shutil

import numpy as np
from stable_crl_ros.data.journal import Journal, read_journal
from stable_crl_ros.data.schema import (
    Field,
    FORMAT_VERSION,
    GOAL_IMAGE,
    IMAGES,
    STAMP_FIELDS,
    STATE_FIELDS,
    STEP_FIELDS,
)
from stable_crl_ros.durable import sync_directory, sync_tree
import zarr
from zarr.codecs import ZstdCodec

CHUNK_BYTES = 64 << 20  # an episode's images are one chunk up to this size
# The codec's own checksum makes any Zarr reader notice a damaged chunk.
CODEC = ZstdCodec(level=3, checksum=True)


class SealError(RuntimeError):
    """A journal that cannot be sealed."""


@dataclass
class _Content:
    """Records of a journal, sorted by what they mean."""

    header: dict
    end: dict
    states: list[dict]  # T + 1 observations
    steps: list[dict]  # T steps with an outcome
    unfinished: dict | None  # a last step whose outcome was never seen
    lost_bytes: int


def seal(journal_path: Path, target: Path) -> dict:
    """
    Write the group beside its place, force it to disk, and rename it into place.

    The caller holds the journal's lock. The journal stays; remove it afterwards.

    :param target: the group's directory; must not exist.
    :returns: the attributes written.
    :raises SealError: when the journal holds no observation or the disk refuses.
    """
    content = _content(read_journal(journal_path), journal_path)
    temporary = target.with_name(f'.sealing-{target.name}')
    try:
        shutil.rmtree(temporary, ignore_errors=True)
        attributes = _write_group(temporary, content)
        sync_tree(temporary)
        os.rename(temporary, target)
        sync_directory(target.parent)
    except OSError as error:
        shutil.rmtree(temporary, ignore_errors=True)
        raise SealError(f'{target}: cannot be written ({error.strerror or error})') from error
    return attributes


def _content(journal: Journal, path: Path) -> _Content:
    header = journal.header
    if header is None:
        raise SealError(f'{path}: holds no complete record')
    if header['format_version'] > FORMAT_VERSION:
        raise SealError(f'{path}: format {header["format_version"]} is newer than '
                        f'{FORMAT_VERSION}; update stable_crl_ros')
    steps = [record for record in journal.records if record['kind'] == 'step']
    end = next((record for record in journal.records if record['kind'] == 'end'), {})
    states, unfinished = list(steps), None
    if STATE_FIELDS[0].name in end:
        states.append(end)
    elif steps:
        unfinished = steps.pop()
    if not states:
        raise SealError(f'{path}: holds no observation')
    return _Content(header, end, states, steps, unfinished, journal.truncated_bytes)


def _write_group(path: Path, content: _Content) -> dict:
    group = zarr.create_group(path)
    group.create_group(IMAGES)
    cameras = [Field(name, 'uint8', image.shape, 'RGB')
               for name, image in content.states[0].items() if name.startswith(f'{IMAGES}/')]
    checksums = {}
    for field in (*cameras, *STATE_FIELDS):
        checksums[field.name] = _write_rows(group, field, content.states)
    for field in STEP_FIELDS:
        checksums[field.name] = _write_rows(group, field, content.steps)
    if GOAL_IMAGE in content.header:
        goal = content.header[GOAL_IMAGE]
        checksums[GOAL_IMAGE] = _write_rows(
            group, Field(GOAL_IMAGE, 'uint8', goal.shape[1:], 'RGB'),
            [{GOAL_IMAGE: row} for row in goal])
    attributes = _attributes(content, checksums)
    group.attrs.update(attributes)
    return attributes


def _write_rows(group: zarr.Group, field: Field, records: list[dict]) -> str:
    """Write one row per record; returns the sha256 of the array's bytes."""
    row_bytes = max(1, np.dtype(field.dtype).itemsize * math.prod(field.shape))
    chunk = max(1, min(len(records), CHUNK_BYTES // row_bytes))
    array = group.create_array(
        field.name, shape=(len(records), *field.shape), dtype=field.dtype,
        chunks=(chunk, *field.shape), compressors=[CODEC], fill_value=0,
        # Else chunks of zeros are not stored, and look like lost ones.
        config={'write_empty_chunks': True}, attributes={'meaning': field.meaning})
    digest = hashlib.sha256()
    for start in range(0, len(records), chunk):
        rows = np.stack([record[field.name] for record in records[start:start + chunk]])
        array[start:start + len(rows)] = rows
        digest.update(rows)
    return digest.hexdigest()


def _attributes(content: _Content, checksums: dict[str, str]) -> dict:
    header, end, last = content.header, content.end, content.states[-1]
    prefix = f'{IMAGES}/'
    return {
        **header['attributes'],
        **end.get('attributes', {}),
        'format_version': FORMAT_VERSION,
        'episode_id': header['episode_id'],
        'created_ns': header['created_ns'],
        'versions': header['versions'],
        'steps': len(content.steps),
        'cameras': {name.removeprefix(prefix): list(value.shape[:2])
                    for name, value in last.items() if name.startswith(prefix)},
        'success': end.get('success'),
        'interrupted': end.get('interrupted', True),
        'dropped': end.get('dropped', 0),
        'late': end.get('late', 0),
        'unfinished_step': _plain_step(content.unfinished),
        'lost_bytes': content.lost_bytes,
        **{f'final_{name}': int(last[name]) for name in STAMP_FIELDS},
        'checksums': checksums,
        'checksum': hashlib.sha256(json.dumps(checksums, sort_keys=True).encode()).hexdigest(),
    }


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
