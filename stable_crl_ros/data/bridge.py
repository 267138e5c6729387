"""Import real BridgeData recordings (the `episode.npz` form) as episodes of a dataset."""

from pathlib import Path
import zipfile

import numpy as np
from stable_crl_ros.actions import ACTION_DIM
from stable_crl_ros.data.dataset import Dataset
from stable_crl_ros.data.episode import EpisodeWriter
from stable_crl_ros.data.schema import Action, EpisodeMeta, Mode, Observation
from stable_crl_ros.robot.poses import DOWN, pose_of, pose_to_xyz_quaternion, rotation_from

CONTROL_RATE = 5.0  # Hz, BridgeData's non-blocking control
PROVENANCE = {
    'source': 'BridgeData V1',
    'licence': 'CC BY 4.0',
    'attribution': 'Ebert et al. 2021 (Bridge Data), Walke et al. 2023 (BridgeData V2)',
    'stamps': 'none recorded',
}


class BridgeError(ValueError):
    """A recording that cannot be imported."""


def import_bridge(source_dir: str | Path, dataset_path: str | Path) -> list[int]:
    """
    Import every `*/episode.npz` below a directory that the dataset does not hold yet.

    An episode of T images becomes T - 1 transitions, because the outcome of the last action was
    not recorded; that action is kept in the attribute 'unfinished_step'. Nothing that was not
    recorded is made up: stamps are 0, joint states NaN. The state's Euler angles, which are
    relative to a gripper pointing straight down, become the orientation in `base_link`.

    :returns: numbers of the new episodes, in the order of the directories' names.
    :raises BridgeError: when there is nothing to import or a recording does not fit.
    :raises DatasetError: when the dataset cannot be written.
    """
    sources = sorted(Path(source_dir).glob('*/episode.npz'))
    if not sources:
        raise BridgeError(f'{source_dir}: no */episode.npz below it; name the directory that '
                          f'holds episode_000, episode_001, ...')
    recordings = [_read(path) for path in sources]  # all are checked before one is written
    dataset = Dataset(dataset_path, create=True)
    known = {_identity(episode.attrs) for episode in dataset.episodes}
    return [_write(dataset, recording) for recording in recordings
            if _identity(recording['extra']) not in known]


def _identity(attributes: dict) -> tuple:
    return attributes.get('source_path'), attributes.get('source_episode_id')


def _read(path: Path) -> dict:
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        cameras = sorted(name for name in arrays if name.startswith('images'))
        actions, states = arrays['actions'], arrays['state']
        extra = {'source_path': str(arrays['source_path']),
                 'source_episode_id': int(arrays['source_episode_id'])}
        instruction = str(arrays['language'])
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise BridgeError(f'{path}: not a BridgeData recording ({error})') from error
    expected = (len(actions), ACTION_DIM)
    if len(actions) < 2 or actions.shape != expected or states.shape != expected:
        raise BridgeError(f'{path}: actions {actions.shape} and state {states.shape} must both '
                          f'be (T, {ACTION_DIM}) with T >= 2')
    for camera in cameras:
        shape = arrays[camera].shape
        if arrays[camera].dtype != np.uint8 or len(shape) != 4 or shape[::3] != (len(actions), 3):
            raise BridgeError(f'{path}: {camera} must be uint8 ({len(actions)}, H, W, 3), got '
                              f'{arrays[camera].dtype} {shape}')
    if not cameras or not np.isfinite(actions).all():
        raise BridgeError(f'{path}: {"an action is not finite" if cameras else "no images"}')
    images = {name.replace('images', 'image_'): arrays[name] for name in cameras}
    return {'images': images, 'actions': actions, 'states': states, 'extra': extra,
            'instruction': instruction}


def _write(dataset: Dataset, recording: dict) -> int:
    meta = EpisodeMeta(
        task=recording['instruction'], instruction=recording['instruction'],
        control_rate=CONTROL_RATE, source=PROVENANCE['source'],
        extra={**recording['extra'],
               **{name: text for name, text in PROVENANCE.items() if name != 'source'}})
    with EpisodeWriter(dataset, meta, sync_every=0) as writer:
        for t, action in enumerate(recording['actions']):
            images = {name: frames[t] for name, frames in recording['images'].items()}
            writer.add_step(_observation(images, recording['states'][t]),
                            Action(action, mode=Mode.TELEOP))
        writer.finish()
    return writer.episode_id


def _observation(images: dict[str, np.ndarray], state: np.ndarray) -> Observation:
    pose = pose_of(rotation_from(state[3:6]) @ DOWN, state[:3])
    return Observation(images, gripper=state[6], ee_pose=pose_to_xyz_quaternion(pose))
