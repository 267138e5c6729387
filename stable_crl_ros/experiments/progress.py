"""Does calibrated progress say the truth? Closed-loop episodes against the simulator's measure."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass

import numpy as np
from stable_crl_ros import SHIPPED_GOALS
from stable_crl_ros.arrival import Arrival, ArrivalRule
from stable_crl_ros.calibration import Calibration, calibration_error, reliability
from stable_crl_ros.checkpoint import CheckpointError, load_checkpoint
from stable_crl_ros.crl.calibrate import Learner
from stable_crl_ros.experiments.estimates import auc, mean_estimate, rate_estimate, spearman
from stable_crl_ros.experiments.learned import load_learned
from stable_crl_ros.goals import GoalError, GoalStore
from stable_crl_ros.intervals import BOUNDS
from stable_crl_ros.policy import Policy
from stable_crl_ros.sim.env import WidowXEnv
from stable_crl_ros.sim.world import WorldState

ARM_THERE = 0.03  # m of the tool point: the arm, too, is as in the picture
COMPARED = ('gap', 'psi', 'encoder', 'action')  # what a contrastive critic can be asked
RESAMPLES = 300


@dataclass(frozen=True)
class Watched:
    """
    One closed-loop episode of T steps with what progress said, T + 1 numbers each.

    :param steps: steps to go; `odds` of being at the goal.
    :param measures: the critic's score and measures by name, 'pixels' (minus the mean absolute
        difference) beside them.
    :param in_place: every object is where the goal has it (strict tolerance); `loose` alike.
    :param there: they are, and the arm within `ARM_THERE`.
    """

    task: str
    seed: int
    steps: np.ndarray
    odds: np.ndarray
    measures: Mapping[str, np.ndarray]
    in_place: np.ndarray
    loose: np.ndarray
    there: np.ndarray

    def announced(self, rule: ArrivalRule) -> int | None:
        """Return the step at which the goal counts as reached; None where it never does."""
        return first_arrival(self.odds, rule)


def first_arrival(odds: Sequence[float], rule: ArrivalRule) -> int | None:
    """Return the tick at which a rule announces arrival; None for never."""
    arrival = Arrival(rule)
    return next((tick for tick, value in enumerate(odds) if arrival.update(value)), None)


def arrived(true: np.ndarray) -> int | None:
    """Return the first step from which something stays true; None where it ends false."""
    if not true[-1]:
        return None
    false = np.flatnonzero(~true)
    return int(false[-1]) + 1 if len(false) else 0


def calibration_of(path: str) -> Calibration:
    """
    Read a checkpoint's calibration.

    :raises CheckpointError: where it has none.
    """
    calibration = load_checkpoint(path).calibration
    if calibration is None:
        raise CheckpointError(f'{path}: has no calibration; make one with `stable-crl checkpoint '
                              'calibrate`, where its algorithm has a critic')
    return calibration


def watch(path: str) -> Callable[[np.ndarray, np.ndarray], tuple]:
    """
    Load what turns pictures into progress.

    :returns: `look(pictures, goal)` -> steps to go, odds, measures, each (N,), of uint8 RGB
        pictures as resized for the network.
    """
    one, calibration = load_learned(path), calibration_of(path)
    learner = Learner(one.agent, one.networks, one.config.pixel_range)
    names = COMPARED if one.contrastive else learner.measures

    def look(pictures: np.ndarray, goal: np.ndarray) -> tuple:
        measures = learner.measure(pictures, goal[None], np.zeros(len(pictures), int), names)
        measures['pixels'] = -np.abs(pictures.astype(float) - goal).mean((1, 2, 3))
        return *calibration.read(measures), measures
    return look


def drawer_photograph(name: str) -> tuple[np.ndarray, WorldState]:
    """
    Read a shipped goal photograph of the drawer.

    :returns: the picture, and the scene it asks for, of which the drawer alone is meant.
    :raises GoalError: for an unknown one, and one that does not say how far the drawer is open.
    """
    goal = GoalStore(SHIPPED_GOALS).load(name)
    opening = goal.metadata.get('drawer_opening')
    if opening is None:
        raise GoalError(f'{goal.path}: does not say how far its drawer is open')
    return goal.image, WorldState(drawer=float(opening))


def watch_share(path: str, task: str, seeds: Sequence[int],
                photograph: str | None = None) -> list[Watched]:
    """
    Run some episodes in this process, mode actions.

    :param path: of the checkpoint.
    :param seeds: of starts and goals, see `evaluation.trial_seed`.
    :param photograph: see `drawer_photograph`; each episode's own goal when None.
    """
    policy, look = Policy.load(path, threads=1), watch(path)
    wanted = drawer_photograph(photograph) if photograph else None
    with closing(WidowXEnv(task)) as env:
        return [_watch(env, policy, look, seed, wanted) for seed in seeds]


def _watch(env: WidowXEnv, policy: Policy, look: Callable, seed: int,
           wanted: tuple[np.ndarray, WorldState] | None) -> Watched:
    observation, info = env.reset(seed=seed, options={'goal': wanted[1]} if wanted else None)
    goal = wanted[0] if wanted else observation['goal_image']
    resize = policy.image_spec.resize
    policy.set_goal(goal)
    pictures, infos = [resize(observation['image'])], [info]
    for _ in range(env.task.max_steps):
        observation, _, _, _, info = env.step(policy.select_action(observation['image']))
        pictures.append(resize(observation['image']))
        infos.append(info)
    steps, odds, measures = look(np.array(pictures), resize(goal))
    in_place, loose = (np.array([one[name] for one in infos], bool)
                       for name in ('success', 'success_loose'))
    arm = np.array([one['arm_error'] for one in infos]) <= ARM_THERE
    return Watched(env.task.name, seed, steps, odds, measures, in_place, loose, in_place & arm)


def describe(watched: Sequence[Watched], calibration: Calibration, rule: ArrivalRule,
             seed: int) -> dict:
    """Put what progress said beside the truth, with 95 % intervals; whole episodes are units."""
    ends = [one.in_place[-1] for one in watched]
    return {'episodes': len(watched), 'end_in_place': int(np.sum(ends)),
            'ticks': sum(len(one.odds) for one in watched),
            'steps': {name: _steps(watched, name, calibration.cap, seed)
                      for name in ('there', 'in_place')},
            'probability': {name: _probability(watched, name, seed)
                            for name in ('there', 'in_place')},
            'done': _done(watched, rule, seed)}


def _steps(watched: Sequence[Watched], truth: str, cap: int, seed: int) -> dict:
    said, true = [], []
    for one in watched:
        moment = arrived(getattr(one, truth))
        if moment is not None:
            said.append(one.steps)
            true.append(np.minimum(np.maximum(moment - np.arange(len(one.steps)), 0), cap))
    if not said:
        return {'episodes': 0}
    constant = np.median(np.concatenate(true))
    pairs = list(zip(said, true, strict=True))
    before = [(a[b > 0], b[b > 0]) for a, b in pairs if (b > 0).any()]
    return {'episodes': len(said),
            'error': mean_estimate(np.array([np.abs(a - b).mean() for a, b in pairs]), seed),
            'error_of_best_constant': mean_estimate(
                np.array([np.abs(constant - b).mean() for b in true]), seed),
            'bias': mean_estimate(np.array([(a - b).mean() for a, b in pairs]), seed),
            'error_before': mean_estimate(
                np.array([np.abs(a - b).mean() for a, b in before]), seed),
            'rank_correlation': mean_estimate(np.array([spearman(a, b) for a, b in pairs]), seed)}


def _probability(watched: Sequence[Watched], truth: str, seed: int) -> dict:
    odds = [one.odds for one in watched]
    hits = [getattr(one, truth) for one in watched]

    def measured(chosen: Sequence[int]) -> tuple[float, float]:
        said, came = (np.concatenate([part[i] for i in chosen]) for part in (odds, hits))
        return float(np.mean((said - came) ** 2)), calibration_error(said, came)
    brier, error = _bootstrap(measured, len(watched), seed)
    curve = [{name: one[name] for name in ('said', 'came', 'count')}
             for one in reliability(np.concatenate(odds), np.concatenate(hits))]
    return {'base_rate': float(np.concatenate(hits).mean()), 'brier': brier,
            'calibration_error': error, 'curve': curve}


def _done(watched: Sequence[Watched], rule: ArrivalRule, seed: int) -> dict:
    ticks = [one.announced(rule) for one in watched]
    told = [(one, tick) for one, tick in zip(watched, ticks, strict=True) if tick is not None]
    right = [(one, tick) for one, tick in told if one.in_place[tick]]
    reached = sum(bool(one.in_place[-1]) for one in watched)
    delays = [tick - arrived(one.in_place) for one, tick in right if one.in_place[-1]]
    return {'rule': {'threshold': rule.threshold, 'release': rule.release, 'ticks': rule.ticks},
            'announced': len(told),
            'precision': _rate(len(right), len(told)),
            'precision_loose': _rate(sum(bool(one.loose[tick]) for one, tick in told), len(told)),
            'recall': _rate(sum(bool(one.in_place[-1]) for one, _ in right), reached),
            'told_of_failures': _rate(sum(not one.in_place[-1] for one, _ in told),
                                      len(watched) - reached),
            'delay_steps': mean_estimate(np.array(delays, float), seed)}


def _rate(hits: int, trials: int) -> dict:
    return rate_estimate(hits, trials) if trials else {
        'value': None, 'low': None, 'high': None, 'count': 0}


def compare_measures(watched: Sequence[Watched], seed: int) -> dict:
    """Say how well each measure tells, tick by tick, objects in place from others: the AUC."""
    found = {}
    hits = [one.in_place for one in watched]
    for name in ['at_goal', *watched[0].measures]:
        values = [one.odds if name == 'at_goal' else one.measures[name] for one in watched]

        def measured(chosen: Sequence[int], values: list = values) -> tuple[float]:
            value, hit = (np.concatenate([part[i] for i in chosen]) for part in (values, hits))
            return (auc(value[hit], value[~hit]) if 0 < hit.sum() < len(hit) else 0.5,)
        found[name], = _bootstrap(measured, len(watched), seed)
    return found


def _bootstrap(measured: Callable[[Sequence[int]], tuple], count: int, seed: int) -> list[dict]:
    """Describe numbers of a sample of episodes, which are drawn anew."""
    rng = np.random.default_rng(seed)
    drawn = [measured(rng.integers(0, count, count)) for _ in range(RESAMPLES)]
    low, high = np.percentile(drawn, BOUNDS, axis=0)
    return [{'value': value, 'low': float(a), 'high': float(b), 'count': count}
            for value, a, b in zip(measured(range(count)), low, high, strict=True)]
