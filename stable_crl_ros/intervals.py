"""Confidence intervals of success rates, within one run and over the seeds of training."""

from collections.abc import Sequence
import math

import numpy as np

BOUNDS = (2.5, 97.5)  # percentiles: 95 %


class IntervalError(ValueError):
    """Numbers that have no interval."""


def wilson_interval(successes: float, trials: float, z: float = 1.959964) -> tuple[float, float]:
    """
    Give the Wilson score interval of a success rate (Wilson 1927).

    :param successes: how many trials succeeded; so many as they are worth, where they resemble
        each other.
    :param trials: how many there were, > 0.
    :param z: normal quantile; the default gives 95 %.
    :returns: lower and upper bound, 0..1.
    :raises IntervalError: without trials, or with more successes than trials.
    """
    if trials <= 0 or not 0 <= successes <= trials:
        raise IntervalError(f'{successes} successes of {trials} trials is not a proportion')
    rate = successes / trials
    centre = rate + z * z / (2 * trials)
    spread = z * math.sqrt(rate * (1 - rate) / trials + z * z / (4 * trials * trials))
    scale = 1 + z * z / trials
    # The exact bound is 0 or 1 when all trials agree; rounding would miss it by an ulp.
    low = 0.0 if successes == 0 else (centre - spread) / scale
    high = 1.0 if successes == trials else (centre + spread) / scale
    return low, high


def seeds_interval(successes: Sequence[int], trials: Sequence[int],
                   correlation: float) -> tuple[float, float]:
    """
    Give the interval of the mean success rate of policies trained with any seed: Wilson's.

    :param successes: per seed; `trials` and `correlation` as for `worth_of_seeds`.
    :returns: lower and upper bound, 0..1.
    :raises IntervalError: as `wilson_interval` and `worth_of_seeds`.
    """
    return wilson_interval(*worth_of_seeds(successes, trials, correlation))


def worth_of_seeds(successes: Sequence[int], trials: Sequence[int],
                   correlation: float) -> tuple[float, float]:
    """
    Say what the trials of several seeds are worth in independent ones.

    Outcomes of one trained policy resemble each other, so that further trials of it say less than
    those of another (design effect, Kish 1965).

    :param successes: per seed.
    :param trials: per seed, each > 0.
    :param correlation: of outcomes within a seed, 0..1, see `seed_correlation`. With 0 an
        interval of these holds for these policies alone.
    :returns: successes, of which the share is the mean of the seeds' rates, and trials.
    :raises IntervalError: where the lengths differ, a seed has no trials, or the correlation is
        out of range.
    """
    if len(successes) != len(trials):
        raise IntervalError(f'{len(successes)} counts of successes for {len(trials)} of trials')
    if not 0.0 <= correlation <= 1.0:
        raise IntervalError(f'correlation must lie in 0 .. 1, got {correlation}')
    if min(trials, default=0) <= 0:
        raise IntervalError(f'{list(trials)} trials: each seed needs one or more')
    seeds = len(trials)
    rates = [count / number for count, number in zip(successes, trials, strict=True)]
    # Variance of the mean of rates, in parts of p (1 - p).
    variance = (correlation * seeds + (1.0 - correlation) * sum(1 / n for n in trials)) / seeds**2
    return sum(rates) / seeds / variance, 1.0 / variance


def seed_correlation(rows: Sequence[tuple[Sequence[int], Sequence[int]]]) -> float | None:
    """
    Estimate how alike outcomes of one trained policy are, beyond their row's mean rate.

    The analysis-of-variance estimator of the intraclass correlation (Fisher 1925; Ridout et al.
    1999 for counts), sums of squares added over rows.

    :param rows: successes and trials per seed, of every row and goal. Rows of a single seed, or
        where all trials agree, tell nothing of it.
    :returns: 0..1; None when no row tells anything.
    """
    between = total = 0.0
    for successes, trials in rows:
        counts, trials = np.array(successes, float), np.array(trials, float)
        seeds, number = len(trials), trials.sum()
        if seeds < 2 or number <= seeds or counts.sum() in (0, number):
            continue
        rates = counts / trials
        among = (trials * (rates - counts.sum() / number)**2).sum() / (seeds - 1)
        within = (trials * rates * (1.0 - rates)).sum() / (number - seeds)
        size = (number - (trials**2).sum() / number) / (seeds - 1)  # of a typical seed
        between += (seeds - 1) * (among - within) / size
        total += (seeds - 1) * ((among - within) / size + within)
    return min(max(between / total, 0.0), 1.0) if total > 0.0 else None
