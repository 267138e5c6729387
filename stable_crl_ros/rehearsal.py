"""Let a policy act on pictures alone, before it may move an arm: is what it says usable?"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from stable_crl_ros import SHIPPED_GOALS
from stable_crl_ros.actions import ACTION_NAMES, ActionScale
from stable_crl_ros.checkpoint_file import CheckpointError
from stable_crl_ros.images import read_image
from stable_crl_ros.policy import Policy

MOTION = 6  # the action's dimensions that move the arm; a gripper may well be open all the time
AT_BOUND = 1e-3  # of a range: nearer to its end counts as saturated
FEWEST = 8  # pictures from which 'constantly' can be said
SATURATED_MOTIONS = 3  # at the bounds together, which moving at full speed seldom is
SATURATED_S = 1.0
SLOW_TICKS = 3
UNITS = (*3 * (('mm', 1e3),), *3 * (('mrad', 1e3),), ('%', 1e2))


@dataclass(frozen=True)
class Rehearsal:
    """
    What a policy did.

    :param live: actions on the last frames of the camera, towards the present goal, (N, 7).
    :param probes: actions on the probe set, (M, 7).
    """

    live: np.ndarray
    probes: np.ndarray


@cache
def probe_set() -> tuple[tuple[np.ndarray, np.ndarray], ...]:
    """
    Return pairs of frame and goal on which every policy is tried, whatever its camera sees now.

    They are the shipped goal photographs, each as the frame towards each as the goal: of another
    robot than the operator's perhaps, so only what no policy may do on any picture is judged.
    """
    pictures = [read_image(path) for path in sorted(SHIPPED_GOALS.glob('*.png'))]
    return tuple((frame, goal) for goal in pictures for frame in pictures)


def rehearse(policy: Policy, frames: Sequence[np.ndarray] = (), goal: np.ndarray | None = None,
             name: object = '') -> Rehearsal:
    """
    Run a policy on the last frames and on the probe set.

    :param frames: uint8 RGB, any size.
    :param goal: uint8 RGB, any size; without one the frames are left out.
    :param name: how a refusal calls the policy.
    :raises CheckpointError: when an action is not finite or not within the bounds, or half of the
        motions stand at their bounds whatever the policy is shown.
    """
    live = [(frame, goal) for frame in frames if goal is not None]
    actions = []
    shown = None
    for frame, wanted in (*live, *probe_set()):
        if wanted is not shown:
            policy.set_goal(wanted)
            shown = wanted
        try:
            actions.append(policy.step(frame)[0])
        except RuntimeError as error:
            raise CheckpointError(f'{name}: {error}') from error
    tried = np.array(actions)
    scale = policy.action_scale
    if (tried < np.float32(scale.low)).any() or (tried > np.float32(scale.high)).any():
        raise CheckpointError(f'{name}: gives actions outside of its own bounds')
    at_bounds = saturated(tried, scale)
    if len(tried) >= FEWEST and (at_bounds.sum(1) >= SATURATED_MOTIONS).all():
        names = ', '.join(np.array(ACTION_NAMES[:MOTION])[at_bounds.mean(0) > 0.5])
        raise CheckpointError(f'{name}: saturated: for each of {len(tried)} pictures '
                              f'{SATURATED_MOTIONS} motions or more stand at their bounds '
                              f'({names}); use another checkpoint')
    return Rehearsal(tried[:len(live)], tried[len(live):])


def saturated(actions: np.ndarray, scale: ActionScale) -> np.ndarray:
    """
    Say which motions stand at their bounds.

    :param actions: physical, shape (..., 7).
    :returns: bool, shape (..., 6).
    """
    low, high = (np.asarray(bound)[:MOTION] for bound in (scale.low, scale.high))
    motion, margin = np.asarray(actions)[..., :MOTION], AT_BOUND * (high - low)
    return (motion <= low + margin) | (motion >= high - margin)


def disagreement(new: np.ndarray, old: np.ndarray) -> str:
    """
    Say by how much two policies differ on the same pictures.

    :param new: actions, shape (N, 7); so is `old`.
    :returns: median (and largest) difference of every dimension; '' without pictures.
    """
    if not len(new) or len(new) != len(old):
        return ''
    difference = np.abs(np.asarray(new, float) - old)
    return ', '.join(
        f'{name} {factor * np.median(column):.2g} ({factor * column.max():.2g}) {unit}'
        for name, (unit, factor), column in zip(ACTION_NAMES, UNITS, difference.T, strict=True))


class Probation:
    """
    Watch the first seconds of a policy for what no rehearsal shows.

    :param scale: of its actions.
    :param period_s: between two ticks, s.
    :param window_s: for how long it is watched, s.
    :param now_s: monotonic time at which it began to act.
    """

    def __init__(self, scale: ActionScale, period_s: float, window_s: float,
                 now_s: float) -> None:
        self._scale, self._period_s = scale, period_s
        self._end_s = now_s + window_s
        self._saturated = self._slow = 0

    def over(self, now_s: float) -> bool:
        """Say whether it has passed."""
        return now_s >= self._end_s

    def fault(self, action: np.ndarray, inference_s: float) -> str:
        """
        Judge one tick.

        :param action: (7,), physical.
        :param inference_s: how long it took to compute, s.
        :returns: why the policy must not go on, '' while it may.
        """
        most = saturated(action, self._scale).sum() >= SATURATED_MOTIONS
        self._saturated = self._saturated + 1 if most else 0
        self._slow += inference_s > self._period_s
        if self._saturated >= max(FEWEST, SATURATED_S / self._period_s):
            return (f'{self._saturated} actions in a row with {SATURATED_MOTIONS} of {MOTION} '
                    'motions or more at their bounds')
        if self._slow >= SLOW_TICKS:
            return (f'{self._slow} of its actions took longer than the period of '
                    f'{1e3 * self._period_s:.0f} ms')
        return ''
