"""How well an episode was recorded: rate, pauses, stale images, clock steps, invalid states."""

from collections.abc import Mapping, Sequence

import numpy as np
from stable_crl_ros.data.schema import AGES, Mode, STATE_STREAMS

LONG_INTERVAL = 3.0  # control periods between two steps
JOINT_STATES, EE_POSE = STATE_STREAMS
STREAM_FIELDS = {
    JOINT_STATES: ('joint_positions', 'joint_velocities', 'joint_efforts', 'gripper'),
    EE_POSE: ('ee_pose',),
}


def health(arrays: Mapping[str, np.ndarray], control_rate: float,
           minimum_rate_share: float, gaps: Sequence[int] = ()) -> dict:
    """
    Judge a recording by its arrays.

    :param arrays: name -> values, as an episode stores them; images are not needed.
    :param control_rate: nominal, Hz; 0 when unknown.
    :param minimum_rate_share: below this share of it the episode is degraded.
    :param gaps: steps just before which others were lost.
    :returns: the attributes an episode stores about it.
    """
    stamps = arrays['command_stamp']
    paused = operator_pauses(arrays, stamps, control_rate, gaps)
    rate, jitter, clock_steps = measured_rate(stamps, paused)
    poor = rate is not None and rate < minimum_rate_share * control_rate
    return {
        'rate_hz': rate, 'jitter_ms': jitter, 'clock_steps': clock_steps,
        'pauses': int(paused.sum()), 'pause_s': float(np.diff(stamps)[paused].sum() * 1e-9),
        'stale': int(stale_steps(arrays, control_rate).sum()),
        'invalid_states': invalid_states(arrays), 'degraded': bool(poor),
        'degraded_why': f'recorded at {rate:.2f} Hz, less than {minimum_rate_share:.0%} of '
                        f'{control_rate:g} Hz' if poor else ''}


def operator_pauses(arrays: Mapping[str, np.ndarray], stamps: np.ndarray, control_rate: float,
                    gaps: Sequence[int] = ()) -> np.ndarray:
    """
    Find where an operator let go for a while: no command, so no step, and nothing was lost.

    A long interval before a policy's step, a stale image or lost steps is none.

    :param stamps: int64 ns, shape (T,), of the steps; 0: not recorded.
    :param gaps: steps just before which others were lost.
    :returns: bool, shape (T - 1,), from each step to the next.
    """
    known, steered = stamps != 0, arrays['mode'] == Mode.TELEOP
    whole = ~np.isin(np.arange(len(stamps)), gaps) & ~stale_steps(arrays, control_rate)
    long = np.diff(stamps) * 1e-9 * control_rate > LONG_INTERVAL
    return long & (known & steered)[:-1] & (known & steered & whole)[1:]


def measured_rate(stamps: np.ndarray, paused: np.ndarray | None = None,
                  ) -> tuple[float | None, float | None, int]:
    """
    Measure the rate of steps.

    :param stamps: int64 ns, shape (T,); 0: not recorded.
    :param paused: bool, shape (T - 1,), intervals to leave out; see `operator_pauses`.
    :returns: steps per second over the rest of the episode, gaps included, and the standard
        deviation of the intervals (ms), both None when fewer than two were recorded; how often
        the system clock went backwards, those intervals being left out.
    """
    known = np.flatnonzero(stamps)
    intervals = np.diff(stamps[known])
    if paused is not None:
        intervals = intervals[~paused[known[1:] - 1]]
    backwards = int((intervals < 0).sum())
    intervals = intervals[intervals >= 0]
    if not intervals.size or not intervals.sum():
        return None, None, backwards
    return (float(intervals.size / (intervals.sum() * 1e-9)), float(intervals.std() * 1e-6),
            backwards)


def told_pauses(attributes: Mapping) -> str:
    """Say how often an operator let go and for how long, '' for never."""
    count = attributes.get('pauses', 0)
    return (f'{count} pause{"s" if count > 1 else ""} of the operator, '
            f'{attributes["pause_s"]:.1f} s') if count else ''


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
