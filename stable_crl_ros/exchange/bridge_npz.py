"""BridgeData recordings as folders with an `episode.npz`, one per recording."""

from functools import partial
from pathlib import Path

import numpy as np
from stable_crl_ros.exchange.bridge import bridge_meta, chosen_actions, states_from
from stable_crl_ros.exchange.options import ImportOptions
from stable_crl_ros.exchange.recording import ExchangeError, Item, Recording

LAYOUT = 'FOLDER/*/episode.npz with actions, state, images0, ...'
PATTERNS = ('*/episode.npz',)
SUFFIXES = ('.npz',)


def find(source: Path, options: ImportOptions) -> list[Item]:
    """
    List the recordings below a folder.

    :param source: the folder, or one `.npz`.
    """
    paths = [source] if source.is_file() and source.suffix == '.npz' else sorted(
        source.glob('*/episode.npz'))
    return [Item(str(path), partial(_read, path, options)) for path in paths]


def _read(path: Path, options: ImportOptions) -> Recording:
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except Exception as error:  # a damaged archive makes the libraries raise many kinds
        raise ExchangeError(f'{path}: not a BridgeData recording ({error})') from error
    try:
        actions, states = arrays['actions'], arrays['state']
        instruction = str(arrays['language'])
        extra = {'source_path': str(arrays['source_path']),
                 'source_episode_id': int(arrays['source_episode_id'])}
    except (KeyError, TypeError, ValueError) as error:
        raise ExchangeError(f'{path}: not a BridgeData recording ({error})') from error
    if actions.shape != states.shape:
        raise ExchangeError(f'{path}: actions {actions.shape} and state {states.shape} must both '
                            f'be (T, 7)')
    images = {name.replace('images', 'image_'): arrays[name]
              for name in sorted(arrays) if name.startswith('images')}
    chosen, steps = chosen_actions(actions, states, options, str(path))
    return Recording(str(path), images, chosen, states=states_from(states, str(path)),
                     steps=steps,
                     meta=bridge_meta(options, instruction, 'BridgeData V1', extra))
