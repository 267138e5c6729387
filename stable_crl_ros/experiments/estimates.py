"""Estimates with 95 % intervals for the figures: bootstrap, rank correlation, AUC."""

from collections.abc import Callable

import numpy as np
from stable_crl_ros.intervals import BOUNDS, wilson_interval

RESAMPLES = 2000


def resample(values: np.ndarray, seed: int = 0) -> np.ndarray:
    """
    Draw bootstrap means over the first axis, the independent units.

    :param values: shape (N, ...).
    :returns: shape (RESAMPLES, ...).
    """
    rng = np.random.default_rng(seed)
    counts = rng.multinomial(len(values), np.full(len(values), 1 / len(values)), RESAMPLES)
    return np.tensordot(counts / len(values), np.asarray(values, float), axes=1)


def mean_band(values: np.ndarray, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """
    Give the mean over the first axis and its 95 % bootstrap interval.

    :param values: shape (N, ...), N independent units, N > 0.
    :returns: mean, low, high, each of the remaining shape.
    """
    low, high = np.percentile(resample(values, seed), BOUNDS, axis=0)
    return np.asarray(values, float).mean(0), low, high


def mean_estimate(values: np.ndarray, seed: int = 0) -> dict:
    """Describe the mean of values (N,): value, low, high, count; empty ones say so."""
    values = np.asarray(values, float)
    if not len(values):
        return {'value': None, 'low': None, 'high': None, 'count': 0}
    mean, low, high = mean_band(values, seed)
    return {'value': float(mean), 'low': float(low), 'high': float(high), 'count': len(values)}


def ratio_estimate(numerators: np.ndarray, denominators: np.ndarray, seed: int = 0) -> dict:
    """Describe the ratio of two means over the same units, both shape (N,)."""
    both = np.stack([numerators, denominators], 1)
    drawn = resample(both, seed)
    low, high = np.percentile(drawn[:, 0] / drawn[:, 1], BOUNDS)
    mean = both.mean(0)
    return {'value': float(mean[0] / mean[1]), 'low': float(low), 'high': float(high),
            'count': len(both)}


def rate_estimate(hits: int, trials: int) -> dict:
    """Describe a proportion with its Wilson interval."""
    low, high = wilson_interval(hits, trials)
    return {'value': hits / trials, 'low': low, 'high': high, 'count': trials}


def ranks(values: np.ndarray) -> np.ndarray:
    """Rank values (N,) from 1; equal ones share their mean rank."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[inverse]


def spearman(x: np.ndarray, y: np.ndarray) -> float:
    """
    Give Spearman's rank correlation of x and y, both shape (N,).

    :returns: -1..1; 0 where either never changes: what stays put follows nothing.
    """
    x, y = ranks(x), ranks(y)
    x, y = x - x.mean(), y - y.mean()
    size = np.linalg.norm(x) * np.linalg.norm(y)
    return float(x @ y / size) if size else 0.0


def auc(positives: np.ndarray, negatives: np.ndarray) -> float:
    """Give the probability that a positive scores above a negative; ties count half."""
    rank = ranks(np.concatenate([positives, negatives]))[:len(positives)]
    above = rank.sum() - len(positives) * (len(positives) + 1) / 2
    return float(above / (len(positives) * len(negatives)))


def auc_estimate(positives: np.ndarray, negatives: np.ndarray, seed: int = 0) -> dict:
    """
    Describe `auc`; positives and negatives are resampled apart.

    :returns: value, low, high, count and, as `count` is of both, `positives`; value None
        where a side is empty.
    """
    counts = {'count': len(positives) + len(negatives), 'positives': len(positives)}
    if not len(positives) or not len(negatives):
        return {'value': None, 'low': None, 'high': None, **counts}
    rng = np.random.default_rng(seed)

    def draw(_: int) -> float:
        return auc(rng.choice(positives, len(positives)), rng.choice(negatives, len(negatives)))
    low, high = np.percentile([draw(i) for i in range(RESAMPLES)], BOUNDS)
    return {'value': auc(positives, negatives), 'low': float(low), 'high': float(high), **counts}


def show(estimate: dict, form: Callable[[float], str] = '{:.2f}'.format) -> str:
    """Write an estimate as `value [low, high]`."""
    if estimate['value'] is None:
        return f'- ({estimate["count"]} counted)'
    low, high = form(estimate['low']), form(estimate['high'])
    return f'{form(estimate["value"])} [{low}, {high}]'
