"""How well an episode was recorded: rate, jitter, stale images, clock steps, invalid states."""

from collections.abc import Mapping

import numpy as np
from stable_crl_ros.data.schema import AGES, STATE_STREAMS

JOINT_STATES, EE_POSE = STATE_STREAMS
STREAM_FIELDS = {
    JOINT_STATES: ('joint_positions', 'joint_velocities', 'joint_efforts', 'gripper'),
    EE_POSE: ('ee_pose',),
}


def health(arrays: Mapping[str, np.ndarray], control_rate: float,
           minimum_rate_share: float) -> dict:
    """
    Judge a recording by its arrays.

    :param arrays: name -> values, as an episode stores them; images are not needed.
    :param control_rate: nominal, Hz; 0 when unknown.
    :param minimum_rate_share: below this share of it the episode is degraded.
    :returns: the attributes an episode stores about it.
    """
    rate, jitter, clock_steps = measured_rate(arrays['command_stamp'])
    poor = rate is not None and rate < minimum_rate_share * control_rate
    return {
        'rate_hz': rate, 'jitter_ms': jitter, 'clock_steps': clock_steps,
        'stale': int(stale_steps(arrays, control_rate).sum()),
        'invalid_states': invalid_states(arrays), 'degraded': bool(poor),
        'degraded_why': f'recorded at {rate:.2f} Hz, less than {minimum_rate_share:.0%} of '
                        f'{control_rate:g} Hz' if poor else ''}


def measured_rate(stamps: np.ndarray) -> tuple[float | None, float | None, int]:
    """
    Measure the rate of steps.

    :param stamps: int64 ns, shape (T,); 0: not recorded.
    :returns: steps per second over the whole episode, gaps included, and the standard deviation
        of the intervals (ms), both None when fewer than two were recorded; how often the system
        clock went backwards, those intervals being left out.
    """
    intervals = np.diff(stamps[stamps != 0])
    backwards = int((intervals < 0).sum())
    intervals = intervals[intervals >= 0]
    if not intervals.size or not intervals.sum():
        return None, None, backwards
    return (float(intervals.size / (intervals.sum() * 1e-9)), float(intervals.std() * 1e-6),
            backwards)


def stale_steps(arrays: Mapping[str, np.ndarray], control_rate: float) -> np.ndarray:
    """
    Find the steps with an image older than one control period.

    :returns: bool, shape (T,). Where no ages were recorded, the first camera's image is as old
        as its capture stamp says.
    """
    period_ns = 1e9 / control_rate if control_rate > 0 else np.inf
    command, capture = arrays['command_stamp'], arrays['capture_stamp']
    known = (command != 0) & (capture != 0)
    stale = known & (command - capture > period_ns)
    ages = [values for name, values in arrays.items() if name.startswith(f'{AGES}/')
            and name.removeprefix(f'{AGES}/') not in STATE_STREAMS]
    if not ages:
        return stale
    oldest = np.max(ages, axis=0)
    return np.where(oldest >= 0, oldest > period_ns, stale)


def invalid_states(arrays: Mapping[str, np.ndarray]) -> dict[str, int]:
    """
    Count the rows that hold NaN or infinity although something was measured.

    :returns: stream -> rows, without the streams that have none.
    """
    found = {}
    for stream, names in STREAM_FIELDS.items():
        rows = [_invalid_rows(arrays[name]) for name in names]
        rows[0] |= _lost_rows(arrays[names[0]], arrays.get(f'{AGES}/{stream}'))
        if count := int(np.any(rows, axis=0).sum()):
            found[stream] = count
    return found


def _invalid_rows(values: np.ndarray) -> np.ndarray:
    flat = values.reshape(len(values), -1)
    return ~np.isfinite(flat).all(1) & ~np.isnan(flat).all(1)  # all NaN: not recorded


def _lost_rows(values: np.ndarray, ages: np.ndarray | None) -> np.ndarray:
    """Find rows that are all NaN although a sample was there."""
    lost = np.isnan(values.reshape(len(values), -1)).all(1)
    there = np.zeros(len(values), bool)
    if ages is not None:
        there[:len(ages)] = ages >= 0  # one row per step; the last state has no step
    return lost & there
