"""BridgeData's numpy layout: `out.npy`, an array of objects with one dictionary per trajectory."""

from functools import lru_cache, partial
from pathlib import Path

import numpy as np
from stable_crl_ros.exchange.bridge import bridge_meta, chosen_actions, states_from
from stable_crl_ros.exchange.bridge_raw import task_name
from stable_crl_ros.exchange.options import ImportOptions
from stable_crl_ros.exchange.recording import ExchangeError, Item, Recording
from stable_crl_ros.exchange.unpickling import load_array

LAYOUT = 'FOLDER/**/out.npy: observations, next_observations and actions of each trajectory'
PATTERNS = ('**/out.npy',)
SUFFIXES = ('.npy',)


def find(source: Path, options: ImportOptions) -> list[Item]:
    """
    List the trajectories of every `out.npy` at or below a folder.

    :raises ExchangeError: when one is no such file; its trajectories cannot be counted.
    """
    paths = [source] if source.is_file() and source.suffix == '.npy' else sorted(
        source.rglob('out.npy'))
    root = source.parent if source.is_file() else source
    return [Item(f'{path}, trajectory {number}', partial(_read, path, root, number, options))
            for path in paths for number in range(len(_trajectories(path)))]


@lru_cache(maxsize=1)  # a file is read as a whole, and its trajectories follow one another
def _trajectories(path: Path) -> np.ndarray:
    array = load_array(path)
    if array.ndim != 1 or array.dtype != object:
        raise ExchangeError(f'{path}: holds {array.dtype} {array.shape}, not one dictionary per '
                            f'trajectory')
    return array


def _read(path: Path, root: Path, number: int, options: ImportOptions) -> Recording:
    name = f'{path}, trajectory {number}'
    trajectory = _trajectories(path)[number]
    try:
        seen = [*trajectory['observations'], trajectory['next_observations'][-1]]
        actions = np.array(trajectory['actions'], np.float64)
        states = np.array([step['state'] for step in seen], np.float64)
        cameras = sorted(key for key in seen[0] if key.startswith('images'))
        images = {camera.replace('images', 'image_'): [step[camera] for step in seen]
                  for camera in cameras}
        language = trajectory.get('language') or ['']
        instruction = language if isinstance(language, str) else str(language[0])
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise ExchangeError(f'{name}: not a BridgeData trajectory ({error!r})') from error
    if len(trajectory['next_observations']) != len(seen) - 1:
        raise ExchangeError(f'{name}: {len(seen) - 1} observations, but '
                            f'{len(trajectory["next_observations"])} next_observations')
    chosen, steps = chosen_actions(actions, states, options, name)
    meta = bridge_meta(options, instruction, 'BridgeData', {
        'source_path': str(Path(root.name, path.relative_to(root))),
        'source_episode_id': number})
    meta.task = options.task or meta.instruction or task_name(path.resolve().parent)
    return Recording(name, images, chosen, states=states_from(states, name), steps=steps,
                     meta=meta)
