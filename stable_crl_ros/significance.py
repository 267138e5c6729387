"""Exact tests and intervals that compare two success rates, paired or not, and waiting times."""

from collections.abc import Sequence
import math

from stable_crl_ros.intervals import IntervalError, wilson_interval

EVEN = 1 + 1e-7  # two probabilities so near to each other count as equal


def mcnemar_exact(better: int, worse: int, one_sided: bool = False) -> float:
    """
    Give the exact p-value of McNemar's test of paired outcomes: a sign test of those that differ.

    :param better: pairs that the first alone won.
    :param worse: pairs that the second alone won.
    :param one_sided: test whether the first is better, not whether they differ.
    :raises IntervalError: for negative counts.
    """
    if better < 0 or worse < 0:
        raise IntervalError(f'{better} and {worse} pairs that differ: give counts')
    count = better + worse
    if one_sided:
        return _binomial_tail(worse, count)
    return min(1.0, 2.0 * _binomial_tail(min(better, worse), count))


def _binomial_tail(most: int, count: int) -> float:
    """Give the probability of at most so many heads in `count` throws of a fair coin."""
    return sum(math.comb(count, heads) for heads in range(most + 1)) / 2 ** count


def fisher_exact(successes: tuple[int, int], trials: tuple[int, int],
                 one_sided: bool = False) -> float:
    """
    Give the p-value of Fisher's exact test of two success rates of different trials.

    Two-sided, it adds up every table that is at most as likely as the one observed.

    :param successes: of the first and the second.
    :param trials: of the first and the second, each > 0.
    :param one_sided: test whether the first is better, not whether they differ.
    :raises IntervalError: for counts that are no proportions.
    """
    for won, count in zip(successes, trials, strict=True):
        wilson_interval(won, count)
    won = sum(successes)
    tables = {first: math.comb(trials[0], first) * math.comb(trials[1], won - first)
              for first in range(max(0, won - trials[1]), min(won, trials[0]) + 1)}
    seen = tables[successes[0]]
    if one_sided:
        extreme = sum(count for first, count in tables.items() if first >= successes[0])
    else:
        extreme = sum(count for count in tables.values() if count <= seen * EVEN)
    return extreme / sum(tables.values())


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjust the p-values of several tests for their number (Holm 1979); in the same order."""
    order = sorted(range(len(p_values)), key=lambda index: p_values[index])
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = largest
    return adjusted


def difference_interval(successes: tuple[float, float], trials: tuple[float, float],
                        z: float = 1.959964) -> tuple[float, float]:
    """
    Give the interval of first minus second success rate (Newcombe 1998, unpaired, method 10).

    :param successes: of the first and the second; so many as they are worth, where they resemble
        each other.
    :param trials: of the first and the second, each > 0.
    :param z: normal quantile; the default gives 95 %.
    :returns: lower and upper bound, -1..1.
    """
    return _square_and_add(successes, trials, 0.0, z)


def paired_difference_interval(both: int, better: int, worse: int, neither: int,
                               z: float = 1.959964) -> tuple[float, float]:
    """
    Give the interval of first minus second success rate (Newcombe 1998, paired, method 10).

    :param both: pairs that both won.
    :param better: pairs that the first alone won; `worse`: the second alone; `neither`: nobody.
    :param z: normal quantile; the default gives 95 %.
    :returns: lower and upper bound, -1..1.
    """
    count = both + better + worse + neither
    margins = (both + better) * (worse + neither) * (both + worse) * (better + neither)
    excess = both * neither - better * worse
    if excess > 0:  # corrected for continuity, not beyond independence
        excess = max(excess - count / 2, 0)
    correlation = excess / math.sqrt(margins) if margins else 0.0
    return _square_and_add((both + better, both + worse), (count, count), correlation, z)


def _square_and_add(successes: tuple[float, float], trials: tuple[float, float],
                    correlation: float, z: float) -> tuple[float, float]:
    rates = [won / count for won, count in zip(successes, trials, strict=True)]
    (low_1, high_1), (low_2, high_2) = (
        wilson_interval(won, count, z) for won, count in zip(successes, trials, strict=True))
    difference = rates[0] - rates[1]

    def reach(first: float, second: float) -> float:
        return math.sqrt(max(first ** 2 - 2 * correlation * first * second + second ** 2, 0.0))
    return (difference - reach(rates[0] - low_1, high_2 - rates[1]),
            difference + reach(high_1 - rates[0], rates[1] - low_2))


def median_interval(values: Sequence[float], confidence: float = 0.95,
                    ) -> tuple[float, float, float]:
    """
    Give the median and the interval between two order statistics that holds it.

    :param values: any numbers; infinity for what never came. At least one.
    :returns: median, lower and upper bound. Without bounds at this confidence (five values or
        fewer at 0.95) they are minus and plus infinity.
    :raises IntervalError: without values.
    """
    if not values:
        raise IntervalError('no values, so no median')
    ordered, count = sorted(values), len(values)
    middle = ordered[(count - 1) // 2], ordered[count // 2]
    median = middle[0] if middle[0] == middle[1] else sum(middle) / 2
    rank = 0  # the largest number of values left out on either side
    while 2 * _binomial_tail(rank, count) <= 1 - confidence:
        rank += 1
    if rank == 0:
        return median, -math.inf, math.inf
    return median, ordered[rank - 1], ordered[count - rank]
