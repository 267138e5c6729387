"""BridgeData's own conventions: states, relabelled actions, grippers, lag and provenance."""

from datetime import datetime
import re

import numpy as np
from stable_crl_ros.actions import ACTION_DIM
from stable_crl_ros.data.schema import EpisodeMeta
from stable_crl_ros.exchange.options import ImportOptions
from stable_crl_ros.exchange.recording import ExchangeError
from stable_crl_ros.robot.poses import (
    DOWN,
    pose_from_xyz_quaternion,
    pose_of,
    pose_to_xyz_quaternion,
    rotation_from,
    rpy_from,
)

CONTROL_RATE = 5.0  # Hz, BridgeData's non-blocking control
LAG_ENDED = datetime(2021, 7, 23)  # before it, an observation shows what was seen a step earlier
OPEN, CLOSED = 0.95, 0.05  # a gripper action beyond these is fully open or closed
LICENCE = {
    'licence': 'CC BY 4.0',
    'attribution': 'Ebert et al. 2021 (Bridge Data), Walke et al. 2023 (BridgeData V2)',
}
DATED = re.compile(r'\d{4}-\d{2}-\d{2}_\d{2}-\d{2}-\d{2}')  # a folder of raw recordings


def states_from(states: np.ndarray, name: str) -> dict[str, np.ndarray]:
    """
    Turn BridgeData states into ours.

    Their Euler angles are relative to a gripper that points straight down; the result is the
    orientation in `base_link`.

    :param states: (N, 7) x, y, z (m), roll, pitch, yaw (rad), gripper opening.
    :raises ExchangeError: for another shape.
    """
    if states.ndim != 2 or states.shape[1] != ACTION_DIM:
        raise ExchangeError(f'{name}: states {states.shape} must be (N, {ACTION_DIM})')
    if not np.isfinite(states[:, :6]).all():
        row = int(np.argmin(np.isfinite(states[:, :6]).all(axis=1)))
        raise ExchangeError(f'{name}: state {row} is not finite: {states[row].tolist()}')
    poses = [pose_to_xyz_quaternion(pose_of(rotation_from(row[3:6]) @ DOWN, row[:3]))
             for row in states]
    return {'ee_pose': np.array(poses, np.float32), 'gripper': np.float32(states[:, 6])}


def states_to(ee_pose: np.ndarray, gripper: np.ndarray) -> np.ndarray:
    """
    Invert `states_from`.

    :param ee_pose: (N, 7) x, y, z, quaternion x, y, z, w; rows with NaN give NaN.
    :param gripper: (N,).
    :returns: float32 (N, 7).
    """
    states = np.full((len(ee_pose), ACTION_DIM), np.nan, np.float32)
    states[:, 6] = gripper
    for row, values in enumerate(ee_pose):
        if np.isfinite(values).all():
            states[row, :3] = values[:3]
            states[row, 3:6] = rpy_from(pose_from_xyz_quaternion(values)[:3, :3] @ DOWN.T)
    return states


def chosen_actions(actions: np.ndarray, states: np.ndarray | None, options: ImportOptions,
                   name: str) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """
    Apply the options to recorded actions.

    :param actions: (M, 7).
    :param states: (N, 7); needed to relabel.
    :returns: the actions, and what was recorded as 'commanded_action' where they differ.
    :raises ExchangeError: when there are no states to relabel from.
    """
    if actions.ndim != 2 or actions.shape[1] != ACTION_DIM:
        raise ExchangeError(f'{name}: actions {actions.shape} must be (T, {ACTION_DIM})')
    chosen = np.float32(actions)
    if options.actions == 'relabelled':
        if states is None:
            raise ExchangeError(f'{name}: holds no states to relabel the actions from; import '
                                f'them as recorded')
        chosen = relabelled(chosen, states)
    if options.gripper == 'binarised':
        chosen = np.concatenate([chosen[:, :6], binarised(chosen[:, 6])[:, None]], axis=1)
    if np.array_equal(chosen, actions, equal_nan=True):
        return chosen, {}
    return chosen, {'commanded_action': np.float32(actions)}


def relabelled(actions: np.ndarray, states: np.ndarray) -> np.ndarray:
    """
    Replace the motion of each action by the difference of the states around it.

    An angle's difference is the short way round. An action after the last state keeps its own.

    :param actions: (M, 7).
    :param states: (N, 7), N = M or M + 1.
    """
    moved = np.diff(states[:, :6], axis=0)[:len(actions)]
    moved[:, 3:] = (moved[:, 3:] + np.pi) % (2 * np.pi) - np.pi
    result = np.array(actions, np.float32)
    result[:len(moved), :6] = moved
    return result


def binarised(gripper: np.ndarray) -> np.ndarray:
    """
    Make gripper actions 0 or 1: what lies between becomes the extreme that comes after it.

    Values between at the very end lead nowhere; they keep the last one's value.

    :param gripper: (M,), 0 closed .. 1 open.
    """
    result = np.array(gripper, np.float32)
    following = result[-1] if len(result) else 0.0
    for row in reversed(range(len(result))):
        if not CLOSED <= gripper[row] <= OPEN:
            following = float(gripper[row] > OPEN)
        result[row] = following
    return result


def lag_steps(path: str, options: ImportOptions) -> int:
    """Return how many steps the observations below a dated folder come late."""
    if options.lag != 'auto':
        return int(options.lag)
    dates = DATED.findall(path)
    return int(bool(dates) and datetime.strptime(dates[-1], '%Y-%m-%d_%H-%M-%S') < LAG_ENDED)


def bridge_meta(options: ImportOptions, instruction: str, source: str, extra: dict) -> EpisodeMeta:
    """Describe an episode that comes from BridgeData."""
    instruction = options.instruction or instruction
    conventions = {} if options.actions == options.gripper == 'recorded' else {
        'actions': f'motion {options.actions}, gripper {options.gripper}'}
    return EpisodeMeta(
        task=options.task or instruction, instruction=instruction, operator=options.operator,
        control_rate=options.rate or CONTROL_RATE, source=source,
        extra={'stamps': 'none recorded', **LICENCE, **conventions, **extra})
