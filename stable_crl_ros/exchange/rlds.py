"""RLDS episodes in TFRecord files, and BridgeData's own TFRecords of whole trajectories."""

from dataclasses import fields
from functools import partial
import json
from pathlib import Path
import re

import numpy as np
from stable_crl_ros.data.schema import (
    EpisodeMeta,
    Mode,
    RESERVED_ATTRIBUTES,
    STATE_FIELDS,
    STEP_FIELDS,
)
from stable_crl_ros.exchange.bridge import bridge_meta, chosen_actions, states_from
from stable_crl_ros.exchange.options import ImportOptions
from stable_crl_ros.exchange.recording import ExchangeError, Item, JPEG_START, Pictures, Recording
from stable_crl_ros.exchange.tfrecord import (
    parse_example,
    parse_tensor,
    read_record,
    record_offsets,
    Value,
)

LAYOUT = ('FOLDER/**/NAME-SPLIT.tfrecord-00000-of-00001 with steps/action, '
          'steps/observation/image_0, ..., or observations/images0 and actions')
PATTERNS = ('**/*.tfrecord*',)
SUFFIXES = ('.tfrecord',)
_STAMPS = ('capture_stamp', 'receive_stamp', 'command_stamp', 'applied_stamp')
# Described by the import itself, or by the steps that it reads.
_OF_THE_FORMAT = RESERVED_ATTRIBUTES | {field.name for field in fields(EpisodeMeta)} | {
    'gaps', 'source_format', 'source_digest', 'source_path', 'source_episode_id'}
_SHARD = re.compile(r'.*-([^-]+)\.tfrecord-(\d+)-of-(\d+)')
# BridgeData as TensorFlow Datasets, Open X-Embodiment and its authors name it.
_BRIDGE_FILE = re.compile(r'bridge([_.-]|data).*', re.IGNORECASE)
_BRIDGE_PATH = re.compile(r'(^|/)bridge_?data', re.IGNORECASE)
_PNG_START = b'\x89PNG'
_STEPS, _SEEN = 'steps/', 'steps/observation/'
_PARTS = ('world_vector', 'rotation_delta', 'open_gripper')  # of an action, in Open X-Embodiment
_INSTRUCTIONS = ('steps/language_instruction', 'steps/observation/natural_language_instruction',
                 'language_instruction')


def find(source: Path, options: ImportOptions) -> list[Item]:
    """
    List the records of every TFRecord file at or below a folder.

    :raises ExchangeError: for a file that is none, or has fewer records than its
        `dataset_info.json` says.
    """
    files = [source] if source.is_file() else sorted(
        path for path in source.glob(PATTERNS[0]) if path.is_file() and path.suffix != '.json')
    items = []
    for path in files:
        offsets = record_offsets(path)
        _check_count(path, len(offsets))
        shapes = feature_shapes(path.parent / 'features.json')
        items += [Item(f'{path}, record {number}',
                       partial(_read, path, number, offset, shapes, options))
                  for number, offset in enumerate(offsets)]
    return items


def feature_shapes(path: Path) -> dict[str, tuple[int | None, ...]]:
    """
    Read the shapes `features.json` of TensorFlow Datasets promises; {} where there is none.

    :returns: flattened name -> shape of one step, None for a length that varies.
    :raises ExchangeError: when it is not readable.
    """
    if not path.is_file():
        return {}
    try:
        return dict(_flatten(json.loads(path.read_bytes()), ''))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ExchangeError(f'{path}: not a features.json of TensorFlow Datasets '
                            f'({error!r}); move it away to do without') from error


def _flatten(feature: dict, name: str):
    for key, inner in feature.get('featuresDict', {}).get('features', {}).items():
        yield from _flatten(inner, f'{name}/{key}' if name else key)
    if 'sequence' in feature:
        yield from _flatten(feature['sequence']['feature'], name)
    for kind in ('tensor', 'image'):
        if kind in feature:
            sizes = feature[kind].get('shape', {}).get('dimensions', [])
            yield name, tuple(None if int(size) < 0 else int(size) for size in sizes)


def _check_count(path: Path, count: int) -> None:
    match, info = _SHARD.fullmatch(path.name), path.parent / 'dataset_info.json'
    if match is None or not info.is_file():
        return
    try:
        splits = {split['name']: split.get('shardLengths', [])
                  for split in json.loads(info.read_bytes())['splits']}
        lengths = [int(length) for length in splits.get(match[1], [])]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ExchangeError(f'{info}: not a dataset_info.json of TensorFlow Datasets '
                            f'({error!r}); move it away to do without') from error
    if len(lengths) == int(match[3]) and lengths[int(match[2])] != count:
        raise ExchangeError(f'{path}: holds {count} records, dataset_info.json says '
                            f'{lengths[int(match[2])]}; fetch it again')


def _read(path: Path, number: int, offset: int, shapes: dict, options: ImportOptions,
          ) -> Recording:
    name = f'{path}, record {number}'
    values = parse_example(read_record(path, offset), name)
    place = {'source_path': path.name, 'source_episode_id': number}
    if 'observations/state' in values and 'actions' in values:
        return _trajectory(name, values, place, options)
    return _episode(name, values, place, shapes, options, _is_bridge(path, values))


def _trajectory(name: str, values: dict[str, Value], place: dict, options: ImportOptions,
                ) -> Recording:
    """Read what BridgeData's own training code reads: one serialised tensor per name."""
    tensors = {key: parse_tensor(value[0], f'{name}: {key}')
               for key, value in values.items() if isinstance(value, list) and len(value) == 1}
    try:
        joined = {key: np.concatenate([tensors[f'observations/{key}'],
                                       tensors[f'next_observations/{key}'][-1:]])
                  for key in sorted(key.partition('/')[2] for key in tensors
                                    if key.startswith('observations/'))}
        states, recorded = joined['state'], tensors['actions']
    except (KeyError, ValueError, TypeError) as error:
        raise ExchangeError(f'{name}: not a BridgeData trajectory ({error!r})') from error
    images = {key.replace('images', 'image_'): frames for key, frames in joined.items()
              if key.startswith('images')}
    actions, steps = chosen_actions(recorded, states, options, name)
    language = tensors.get('language')
    instruction = _text(language[0]) if isinstance(language, list) and language else ''
    return Recording(name, images, actions, states=states_from(states, name), steps=steps,
                     meta=bridge_meta(options, instruction, 'BridgeData', place))


def _is_bridge(path: Path, values: dict[str, Value]) -> bool:
    """Say whether a record is BridgeData, by the name of its file or of where it was made from."""
    made_from = values.get('episode_metadata/file_path')
    return bool(_BRIDGE_FILE.fullmatch(path.name)) or (
        isinstance(made_from, list) and bool(made_from)
        and bool(_BRIDGE_PATH.search(_text(made_from[0]))))


def _episode(name: str, values: dict[str, Value], place: dict, shapes: dict,
             options: ImportOptions, is_bridge: bool) -> Recording:
    known = _attributes(values)
    if not (is_bridge or known or options.rate):
        raise ExchangeError(f'{name}: nothing says at what rate it was recorded; give --rate')
    count = _step_count(values, name)
    numbers = {key: _per_step(value, count, shapes.get(key), f'{name}: {key}')
               for key, value in values.items()
               if key.startswith(_STEPS) and isinstance(value, np.ndarray) and len(value)}
    images, left_out = _images(values, count, name)
    recorded = _recorded_actions(numbers, name)
    bridge_states = numbers.get(f'{_SEEN}state') \
        if is_bridge or known or options.state == 'bridge' else None
    if bridge_states is not None and bridge_states.shape != (count, 7):
        bridge_states = None
    actions, commanded = chosen_actions(recorded, bridge_states, options, name)
    last = numbers.get(f'{_STEPS}is_last')
    if last is not None and last.ravel()[-1] and not actions[-1, :6].any():
        actions = actions[:-1]  # no motion after the last observation: there to fill the row
    steps = _fields(STEP_FIELDS, numbers, _STEPS)
    for theirs in ('action', 'done'):  # the latter is the end of an episode there
        steps.pop(theirs, None)
    states = _fields(STATE_FIELDS, numbers, _SEEN)
    if 'ee_pose' not in states and bridge_states is not None:
        states = {**states, **states_from(bridge_states, name)}
    steps = {**steps, **commanded}
    return Recording(name, images, actions, states=states,
                     steps={key: rows[:len(actions)] if 'capture' not in key
                            and 'receive' not in key else rows for key, rows in steps.items()},
                     success=_success(values), mode=Mode.TELEOP,
                     meta=_meta(values, place, left_out, options, is_bridge,
                                stamped=any(steps[name].any() for name in _STAMPS
                                            if name in steps)))


def _step_count(values: dict[str, Value], name: str) -> int:
    for key in (f'{_STEPS}is_first', f'{_STEPS}is_last'):
        if isinstance(values.get(key), np.ndarray):
            return len(values[key])
    counts = {len(value) for key, value in values.items()
              if key.startswith(_SEEN) and _are_pictures(value)}
    if len(counts) != 1:
        raise ExchangeError(f'{name}: no steps/is_first, and no steps/observation/ images to '
                            f'count; it has {sorted(values)}')
    return counts.pop()


def _per_step(value: np.ndarray, count: int, shape: tuple | None, what: str) -> np.ndarray:
    if count == 0 or len(value) % count:
        raise ExchangeError(f'{what}: {len(value)} numbers for {count} steps')
    rows = value.reshape(count, -1)
    if shape is None:
        return rows
    if None not in shape and rows.shape[1] != int(np.prod(shape)):
        raise ExchangeError(f'{what}: {rows.shape[1]} numbers per step, features.json says '
                            f'{shape}')
    return rows if None in shape else rows.reshape(count, *shape)


def _recorded_actions(numbers: dict[str, np.ndarray], name: str) -> np.ndarray:
    if f'{_STEPS}action' in numbers:
        return numbers[f'{_STEPS}action']
    parts = [numbers.get(f'{_STEPS}action/{part}') for part in _PARTS]
    if any(part is None for part in parts):
        raise ExchangeError(f'{name}: no steps/action, nor steps/action/{", ".join(_PARTS)}')
    return np.concatenate([part.reshape(len(part), -1) for part in parts], axis=1)


def _are_pictures(value: Value) -> bool:
    return isinstance(value, list) and bool(value) \
        and value[0].startswith((JPEG_START, _PNG_START))


def _images(values: dict[str, Value], count: int, name: str) -> tuple[dict, list[str]]:
    """Return the cameras, and why some were left out."""
    images, left_out = {}, []
    for key in sorted(values):
        camera = key.removeprefix(_SEEN).replace('/', '_')
        if not key.startswith(_SEEN) or not _are_pictures(values[key]):
            continue
        pictures = Pictures(values[key], f'{name}: {key}')
        if 'depth' in camera:
            left_out.append(f'{camera}: no colours')
        elif len(pictures) == count and not any(pictures[row].any() for row in (0, -1)):
            left_out.append(f'{camera}: black, so no camera')
        else:
            images[camera] = pictures
    return images, left_out


def _fields(fields, numbers: dict[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    """Return what is there of our own fields, in their own types."""
    found = {}
    for field in fields:
        rows = numbers.get(f'{prefix}{field.name}')
        if rows is not None and rows[0].size == int(np.prod(field.shape)):
            found[field.name] = rows.reshape(len(rows), *field.shape).astype(field.dtype)
    return found


def _success(values: dict[str, Value]) -> bool | None:
    judged = values.get('episode_metadata/success')
    if not isinstance(judged, np.ndarray) or judged.size != 1 or judged[0] < 0:
        return None
    return bool(judged[0])


def _meta(values: dict[str, Value], place: dict, left_out: list[str],
          options: ImportOptions, is_bridge: bool, stamped: bool) -> EpisodeMeta:
    spoken = [value[0] for key in _INSTRUCTIONS
              if isinstance(value := values.get(key), list) and value]
    path = values.get('episode_metadata/file_path')
    if isinstance(path, list) and path and _text(path[0]):
        place = {**place, 'file_path': _text(path[0])}
    if left_out:
        place = {**place, 'left_out': left_out}
    meta = bridge_meta(options, _text(spoken[0]) if spoken else '', 'RLDS', place)
    known = _attributes(values)
    if not options.rate and 'control_rate' in known:
        meta.control_rate = float(known['control_rate'])
    if not options.task and known.get('task'):
        meta.task = str(known['task'])
    for name in ('operator', 'notes', 'source'):
        if known.get(name) and not getattr(options, name, ''):
            setattr(meta, name, str(known[name]))
    for name in ('licence', 'attribution'):
        if known or not is_bridge:
            meta.extra.pop(name)
        if name in known:
            meta.extra[name] = str(known[name])
    _carry_over(meta, known, stamped)
    return meta


def _carry_over(meta: EpisodeMeta, known: dict, stamped: bool) -> None:
    """Take over what our own export says of an episode beyond the format: seed, scene, stamps."""
    if stamped:
        del meta.extra['stamps']
    if 'format_version' in known:  # ours
        taken = _OF_THE_FORMAT | set(meta.extra)
        meta.extra |= {name: value for name, value in known.items() if name not in taken}
        for name in ('tags', 'goal_id', 'checkpoint', 'action_scale'):
            setattr(meta, name, known.get(name, getattr(meta, name)))


def _attributes(values: dict[str, Value]) -> dict:
    """Return the attributes our own export wrote, {} for another's."""
    text = values.get('episode_metadata/attributes')
    try:
        attributes = json.loads(text[0]) if isinstance(text, list) and text else {}
    except ValueError:
        return {}
    return attributes if isinstance(attributes, dict) else {}


def _text(data: bytes) -> str:
    return data.decode('utf-8', 'replace')
