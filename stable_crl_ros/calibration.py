"""What a critic's measures mean: steps to the goal, and the odds of being there."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
import math
from typing import NamedTuple

import numpy as np
from stable_crl_ros.monotone import isotonic, nonnegative_least_squares, nonnegative_logistic

CALIBRATION_VERSION = 1
FEWEST = 20  # pairs on either side of 'at the goal' that a fit needs
RELIABILITY_BINS = 10


class CalibrationError(ValueError):
    """A calibration that must not be used, or cannot be made."""


class Progress(NamedTuple):
    """
    How far it is to the goal.

    :param steps_to_go: control steps until at the goal, the median of what is to be expected;
        NaN: not known.
    :param at_goal: probability of being there, 0..1; NaN: not known.
    """

    steps_to_go: float
    at_goal: float


UNKNOWN = Progress(math.nan, math.nan)


@dataclass(frozen=True)
class Reading:
    """
    A rising curve over a weighted sum of measures.

    :param weights: by measure, >= 0; every measure is larger the nearer the goal is.
    :param x: knots of the sum, strictly rising; the curve is flat beyond the outermost.
    :param y: the curve there, never falling.
    """

    weights: Mapping[str, float]
    x: tuple[float, ...]
    y: tuple[float, ...]

    def __call__(self, measures: Mapping[str, np.ndarray]) -> np.ndarray:
        """Read measures, arrays or numbers of one shape; NaN where one of them is."""
        total = sum(weight * np.asarray(measures[name]) for name, weight in self.weights.items())
        return np.interp(total, self.x, self.y)

    def to_dict(self) -> dict:
        """Return plain values."""
        return {'weights': dict(self.weights), 'x': list(self.x), 'y': list(self.y)}

    @classmethod
    def from_dict(cls, values: Mapping, what: str, low: float, high: float) -> 'Reading':
        """
        Read what `to_dict` wrote.

        :param what: how a refusal names it.
        :param low: smallest valid y; `high` is the largest.
        :raises CalibrationError: for a missing or unusable value.
        """
        try:
            weights = {str(name): float(value) for name, value in values['weights'].items()}
            x, y = (tuple(map(float, values[name])) for name in 'xy')
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise CalibrationError(f'{what}: needs weights, x and y, all numbers ({error!r})') \
                from error
        if not weights or not all(0.0 <= weight < math.inf for weight in weights.values()):
            raise CalibrationError(f'{what}: weights must be finite and >= 0, got {weights}')
        if not x or len(x) != len(y) or not np.isfinite([x, y]).all():
            raise CalibrationError(f'{what}: x and y must be equally many finite numbers, got '
                                   f'{len(x)} and {len(y)}')
        if (np.diff(x) <= 0).any() or (np.diff(y) < 0).any():
            raise CalibrationError(f'{what}: x must rise and y must not fall')
        if y[0] < low or y[-1] > high:
            raise CalibrationError(f'{what}: y must lie in {low:g} .. {high:g}, got '
                                   f'{y[0]:g} .. {y[-1]:g}')
        return cls(weights, x, y)


@dataclass(frozen=True)
class Calibration:
    """
    How a checkpoint's measures are read; travels in its metadata.

    'At the goal' means within `near` steps of the goal picture's own frame, before or after: the
    arm and every object as in the picture, as far as recorded time tells.

    :param nearness: minus the steps to go, -cap .. 0: half of such pictures took fewer.
    :param at_goal: probability of being at the goal where half of all pictures are.
    :param near: control steps.
    :param cap: largest number of steps to go that is told apart.
    :param checked: what the fit and the held-out episodes said, for people.
    """

    nearness: Reading
    at_goal: Reading
    near: int
    cap: int
    checked: Mapping = field(default_factory=dict)

    @property
    def measures(self) -> tuple[str, ...]:
        """Names of the measures it reads."""
        return tuple(dict.fromkeys([*self.nearness.weights, *self.at_goal.weights]))

    def read(self, measures: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """
        Turn measures into progress.

        :param measures: arrays of one shape by name, `measures` among them.
        :returns: steps to go, 0..cap, and probability of being at the goal.
        """
        return -self.nearness(measures), self.at_goal(measures)

    def progress(self, measures: Mapping[str, float]) -> Progress:
        """Read one picture's measures."""
        steps, odds = self.read(measures)
        return Progress(float(steps), float(odds))

    def to_dict(self) -> dict:
        """Return plain values, as stored in checkpoints."""
        return {'version': CALIBRATION_VERSION, 'nearness': self.nearness.to_dict(),
                'at_goal': self.at_goal.to_dict(), 'near': self.near, 'cap': self.cap,
                'checked': dict(self.checked)}

    @classmethod
    def from_dict(cls, values: Mapping) -> 'Calibration':
        """
        Read what `to_dict` wrote.

        :raises CalibrationError: for another version, or a missing or unusable value.
        """
        if not isinstance(values, Mapping):
            raise CalibrationError(f'calibration: must be an object, is {type(values).__name__}')
        version = values.get('version')
        if version != CALIBRATION_VERSION:
            raise CalibrationError(f'calibration: version {version!r}, this software reads '
                                   f'{CALIBRATION_VERSION}; calibrate the checkpoint again')
        near, cap, checked = (values.get(name) for name in ('near', 'cap', 'checked'))
        if not (type(near) is int and type(cap) is int and near >= 0 and cap > 0):
            raise CalibrationError(f'calibration: near must be a whole number >= 0 and cap one '
                                   f'> 0, got {near!r} and {cap!r}')
        if not isinstance(checked, Mapping):
            raise CalibrationError('calibration: checked must be an object')
        return cls(Reading.from_dict(values.get('nearness'), 'calibration.nearness', -cap, 0.0),
                   Reading.from_dict(values.get('at_goal'), 'calibration.at_goal', 0.0, 1.0),
                   near, cap, checked)


@dataclass(frozen=True)
class Pairs:
    """
    Pictures and goal pictures whose distance in time is known.

    :param measures: arrays (N,) by name.
    :param distance: steps from picture to goal, (N,): negative after it, infinite between
        episodes.
    """

    measures: Mapping[str, np.ndarray]
    distance: np.ndarray

    def near(self, near: int) -> np.ndarray:
        """Say which pictures count as at their goal: bool, (N,)."""
        return np.abs(self.distance) <= near

    def to_go(self, near: int, cap: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the steps until at the goal, (N,), 0..cap, and whether they are known."""
        known = (self.distance >= -near) & np.isfinite(self.distance)
        steps = np.where(known, self.distance, 0.0)
        return np.clip(np.where(steps < 0, 0.0, steps - near), 0, cap), known


def balanced(hit: np.ndarray) -> np.ndarray:
    """Weigh rows, (N,), so that hits and misses count half each."""
    share = hit.mean()
    return np.where(hit, 0.5 / max(share, 1e-9), 0.5 / max(1 - share, 1e-9))


def fit_calibration(pairs: Pairs, steps_from: Sequence[str], at_goal_from: Sequence[str],
                    near: int, cap: int) -> Calibration:
    """
    Fit a calibration to pairs.

    :param steps_from: measures that tell the steps to go.
    :param at_goal_from: measures that tell whether the goal is reached.
    :param near: see `Calibration`; `cap` too.
    :raises CalibrationError: when pairs at or away from their goal are too few, or when a
        measure is not finite.
    """
    bad = [name for name, values in pairs.measures.items() if not np.isfinite(values).all()]
    if bad:
        raise CalibrationError(f'not finite on the training data: {", ".join(bad)}')
    hit = pairs.near(near)
    steps, known = pairs.to_go(near, cap)
    if min(hit.sum(), (~hit).sum(), known.sum()) < FEWEST:
        raise CalibrationError(f'{hit.sum()} pairs at their goal and {(~hit).sum()} away from it '
                               f'are too few; {FEWEST} of each are needed: record more or longer '
                               'episodes')

    def columns(names: Sequence[str], rows: np.ndarray | slice = slice(None)) -> np.ndarray:
        return np.stack([pairs.measures[name][rows] for name in names], 1)
    weights = balanced(hit)
    seen = columns(steps_from, known)
    slopes = nonnegative_least_squares(seen, -steps[known])
    # The median: a few look-alikes of another time must not keep it from 0 at the goal.
    nearness = _reading(steps_from, slopes,
                        isotonic(seen @ slopes, -steps[known], median=True))
    seen = columns(at_goal_from)
    slopes = nonnegative_logistic(seen, hit, weights)
    at_goal = _reading(at_goal_from, slopes, isotonic(seen @ slopes, hit, weights))
    return Calibration(nearness, at_goal, near, cap)


def _reading(names: Sequence[str], weights: np.ndarray,
             curve: tuple[np.ndarray, np.ndarray]) -> Reading:
    """Put knots upon a linear score; a measure that does not help drops out."""
    used = {name: float(weight) for name, weight in zip(names, weights, strict=True) if weight > 0}
    if not used:  # nothing tells anything: a constant
        used = {names[0]: 0.0}
    x, y = curve
    return Reading(used, tuple(x.tolist()), tuple(y.tolist()))


def check_calibration(calibration: Calibration, pairs: Pairs) -> dict:
    """
    Measure a calibration on pairs it was not fitted to.

    :returns: plain values: pairs, mean absolute error in steps beside that of always saying the
        median, Brier score and calibration error of the probability at even odds.
    """
    steps, odds = calibration.read(pairs.measures)
    truth, known = pairs.to_go(calibration.near, calibration.cap)
    hit = pairs.near(calibration.near)
    if not known.any() or hit.all() or not hit.any():
        return {'pairs': len(hit)}
    weights = balanced(hit)
    return {'pairs': len(hit),
            'steps_error': float(np.abs(steps - truth)[known].mean()),
            'steps_error_of_the_median': float(np.abs(truth[known] - np.median(truth[known]))
                                               .mean()),
            'brier': float(np.average((odds - hit) ** 2, weights=weights)),
            'calibration_error': calibration_error(odds, hit, weights)}


def reliability(odds: np.ndarray, hit: np.ndarray, weights: np.ndarray | None = None,
                bins: int = RELIABILITY_BINS) -> list[dict]:
    """
    Compare probabilities with what happened, in bins of equal width.

    :param odds: (N,), 0..1.
    :param hit: bool, (N,).
    :param weights: (N,); all 1 when None.
    :returns: per bin that is not empty: 'said' and 'came' (means), 'share' of all, 'count' and
        'rows', the members.
    """
    weights = np.ones(len(odds)) if weights is None else weights
    where = np.minimum((odds * bins).astype(int), bins - 1)
    found = []
    for number in np.unique(where):
        rows = np.flatnonzero(where == number)
        found.append({'said': float(np.average(odds[rows], weights=weights[rows])),
                      'came': float(np.average(hit[rows], weights=weights[rows])),
                      'share': float(weights[rows].sum() / weights.sum()),
                      'count': len(rows), 'rows': rows})
    return found


def calibration_error(odds: np.ndarray, hit: np.ndarray,
                      weights: np.ndarray | None = None) -> float:
    """Give the mean distance between said and came over `reliability`'s bins, by their share."""
    return float(sum(one['share'] * abs(one['said'] - one['came'])
                     for one in reliability(odds, hit, weights)))
