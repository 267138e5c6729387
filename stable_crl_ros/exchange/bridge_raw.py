"""BridgeData V2 as it was recorded: `traj_group*/traj*` with pickles and JPEG files."""

from functools import partial
from pathlib import Path
import re

import numpy as np
from stable_crl_ros.data.schema import STATE_FIELDS
from stable_crl_ros.exchange.bridge import (
    bridge_meta,
    chosen_actions,
    DATED,
    lag_steps,
    states_from,
)
from stable_crl_ros.exchange.options import ImportOptions
from stable_crl_ros.exchange.recording import ExchangeError, Item, Pictures, Recording
from stable_crl_ros.exchange.unpickling import load_pickle

LAYOUT = ('FOLDER/**/traj_group*/traj*/ with policy_out.pkl, obs_dict.pkl, images0/im_0.jpg, ... '
          'and lang.txt')
PATTERNS = ('**/policy_out.pkl', '**/obs_dict.pkl')
SUFFIXES = ()
_CAMERA = re.compile(r'images(\d+)')
_PICTURE = re.compile(r'im_(\d+)\.(jpg|jpeg|png)', re.IGNORECASE)
# What the recorder called the states of the joints.
_JOINTS = {'qpos': 'joint_positions', 'qvel': 'joint_velocities',
           'joint_effort': 'joint_efforts'}


def find(source: Path, options: ImportOptions) -> list[Item]:
    """List the trajectories at or below a folder, in the order of their numbers."""
    folders = sorted({path.parent for name in ('policy_out.pkl', 'obs_dict.pkl')
                      for path in source.rglob(name)}, key=_natural)
    return [Item(str(folder), partial(_read, folder, source, options)) for folder in folders]


def task_name(path: Path) -> str:
    """Return the folder a recording is named after: above its date, numbers and split."""
    dated = next((number for number, part in enumerate(path.parts) if DATED.fullmatch(part)),
                 len(path.parts))
    names = [part for part in path.parts[:dated]
             if not part.isdigit() and not re.fullmatch(r'train|val|raw|traj(_group)?\d+', part)]
    return names[-1].replace('_', ' ') if names else ''


def _read(folder: Path, source: Path, options: ImportOptions) -> Recording:
    name = str(folder)
    observed = load_pickle(folder / 'obs_dict.pkl')
    if not isinstance(observed, dict) or 'full_state' not in observed:
        raise ExchangeError(f'{name}: obs_dict.pkl holds no full_state')
    states = _numbers(observed['full_state'], f'{name}: full_state')
    actions = _actions(load_pickle(folder / 'policy_out.pkl'), name)
    lag = lag_steps(str(folder.resolve()), options)
    images = {camera: Pictures(paths[lag:]) for camera, paths in _pictures(folder).items()}
    count = min((len(paths) for paths in images.values()), default=0)
    if count + lag != len(states):
        raise ExchangeError(f'{name}: {count + lag} images of a camera, but {len(states)} states')
    states = states[lag:]
    chosen, steps = chosen_actions(actions, states, options, name)
    return Recording(
        name, images, chosen, steps={**steps, **_stamps(observed, lag, name)},
        states={**states_from(states, name), **_joints(observed, lag, len(states))},
        meta=_meta(folder, source, options, lag))


def _actions(outputs: object, name: str) -> np.ndarray:
    """Return what the operator commanded, (M, 7)."""
    if not isinstance(outputs, list) or not outputs:
        raise ExchangeError(f'{name}: policy_out.pkl is no list of actions')
    if isinstance(outputs[0], dict):
        try:
            outputs = [output['actions'] for output in outputs]
        except (KeyError, TypeError) as error:
            raise ExchangeError(f'{name}: policy_out.pkl has a step without actions') from error
    return _numbers(outputs, f'{name}: policy_out.pkl')


def _numbers(values: object, what: str) -> np.ndarray:
    try:
        numbers = np.array(values, np.float64)
    except (TypeError, ValueError) as error:
        raise ExchangeError(f'{what}: not numbers of one shape ({error})') from error
    if numbers.ndim < 1:
        raise ExchangeError(f'{what}: one number, not one per step')
    return numbers


def _pictures(folder: Path) -> dict[str, list[Path]]:
    cameras = {}
    for path in sorted(folder.iterdir()):
        if (match := _CAMERA.fullmatch(path.name)) and path.is_dir():
            found = {int(hit[1]): file for file in path.iterdir()
                     if (hit := _PICTURE.fullmatch(file.name))}
            if sorted(found) != list(range(len(found))):
                missing = min(set(range(len(found) + 1)) - set(found))
                raise ExchangeError(f'{path}: im_{missing}.jpg is missing')
            cameras[f'image_{match[1]}'] = [found[number] for number in sorted(found)]
    if not cameras:
        raise ExchangeError(f'{folder}: no images0/im_0.jpg, ... in it')
    return cameras


def _stamps(observed: dict, lag: int, name: str) -> dict[str, np.ndarray]:
    """Return when each observation was put together: the only time that was noted, in s."""
    if 'time_stamp' not in observed:
        return {}
    seconds = _numbers(observed['time_stamp'], f'{name}: time_stamp')[lag:]
    if seconds.ndim != 1 or not np.isfinite(seconds).all():
        raise ExchangeError(f'{name}: time_stamp {seconds.shape} must be finite seconds (N,)')
    return {'receive_stamp': (seconds * 1e9).astype(np.int64)}


def _joints(observed: dict, lag: int, count: int) -> dict[str, np.ndarray]:
    shapes = {field.name: field.shape for field in STATE_FIELDS}
    found = {}
    for theirs, ours in _JOINTS.items():
        values = observed.get(theirs)
        if isinstance(values, np.ndarray) and values.dtype.kind == 'f' \
                and values[lag:].shape == (count, *shapes[ours]):
            found[ours] = np.float32(values[lag:])
    return found


def _meta(folder: Path, source: Path, options: ImportOptions, lag: int):
    place = Path(source.name, folder.relative_to(source))
    lines = _instructions(folder / 'lang.txt')
    extra = {'source_path': str(place), 'lag': lag}
    if len(lines) > 1:
        extra['instructions'] = lines
    meta = bridge_meta(options, lines[0] if lines else '', 'BridgeData V2', extra)
    meta.task = options.task or meta.instruction or task_name(folder.resolve())
    meta.extra['stamps'] = 'receive_stamp: when the recorder put the observation together'
    return meta


def _instructions(path: Path) -> list[str]:
    try:
        lines = path.read_text('utf-8').splitlines()
    except FileNotFoundError:
        return []
    except (OSError, UnicodeDecodeError) as error:
        raise ExchangeError(f'{path}: cannot be read ({error})') from error
    return [line.strip() for line in lines
            if line.strip() and not line.lower().startswith('confidence')]


def _natural(path: Path) -> list:
    return [int(part) if part.isdigit() else part
            for part in re.split(r'(\d+)', str(path))]
