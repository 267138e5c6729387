"""What trials amount to: rates, comparisons and times, each with its interval."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
import math

from stable_crl_ros.intervals import wilson_interval
from stable_crl_ros.significance import (
    difference_interval,
    fisher_exact,
    holm,
    mcnemar_exact,
    median_interval,
    paired_difference_interval,
)

ALL = 'all'  # goals


@dataclass(frozen=True)
class Outcome:
    """
    One trial, as far as it counts.

    :param checkpoint: label; `goal` is the goal's name.
    :param pair: what trials of several checkpoints on the same scene share.
    :param success_s: time to success, s; None for a failure.
    """

    checkpoint: str
    goal: str
    pair: object
    success: bool
    success_s: float | None


@dataclass(frozen=True)
class Rate:
    """
    How often a checkpoint reached a goal; intervals are of 95 %.

    :param median_s: of the time to success over all its trials, those that failed counted as
        longer than any; infinite where half of them or more failed.
    :param failed: trials without a time to success.
    """

    checkpoint: str
    goal: str
    successes: int
    trials: int
    low: float
    high: float
    median_s: float
    median_low_s: float
    median_high_s: float
    failed: int

    @classmethod
    def of(cls, checkpoint: str, goal: str, outcomes: Sequence[Outcome]) -> 'Rate':
        """Count outcomes, of which there is at least one."""
        won = sum(outcome.success for outcome in outcomes)
        times = [math.inf if outcome.success_s is None else outcome.success_s
                 for outcome in outcomes]
        return cls(checkpoint, goal, won, len(outcomes), *wilson_interval(won, len(outcomes)),
                   *median_interval(times), len(outcomes) - won)


@dataclass(frozen=True)
class Comparison:
    """
    Two checkpoints on one goal, or on all of them.

    :param paired: whether both met the same scenes, and only what differed between them counts.
    :param better: paired: scenes that the first alone mastered; `worse`: the second alone.
    :param difference: of the rates, first minus second, with its interval of 95 %.
    :param p: two-sided exact p-value: McNemar's paired, else Fisher's.
    :param p_holm: the same, adjusted for the number of comparisons on that goal.
    """

    first: str
    second: str
    goal: str
    paired: bool
    trials: int
    better: int | None
    worse: int | None
    difference: float
    low: float
    high: float
    p: float
    p_holm: float


def rates(outcomes: Sequence[Outcome]) -> list[Rate]:
    """Give the rate of every checkpoint on every goal, and on all where there are several."""
    goals, checkpoints = _names(outcomes)
    found = []
    for goal in goals:
        for checkpoint in checkpoints:
            chosen = [outcome for outcome in outcomes if outcome.checkpoint == checkpoint
                      and goal in (ALL, outcome.goal)]
            if chosen:
                found.append(Rate.of(checkpoint, goal, chosen))
    return found


def comparisons(outcomes: Sequence[Outcome], paired: bool) -> list[Comparison]:
    """Compare every two checkpoints on every goal, and on all where there are several."""
    goals, checkpoints = _names(outcomes)
    compare = compare_paired if paired else compare_unpaired
    found = []
    for goal in goals:
        chosen = [outcome for outcome in outcomes if goal in (ALL, outcome.goal)]
        made = [comparison for first, second in combinations(checkpoints, 2)
                if (comparison := compare(chosen, first, second, goal)) is not None]
        adjusted = holm([comparison.p for comparison in made])
        found += [Comparison(**vars(comparison) | {'p_holm': p})
                  for comparison, p in zip(made, adjusted, strict=True)]
    return found


def compare_paired(outcomes: Sequence[Outcome], first: str, second: str,
                   goal: str = ALL) -> Comparison | None:
    """Compare two checkpoints by the scenes that both met; None where there is none."""
    both, better, worse, neither = paired_table(outcomes, first, second)
    count = both + better + worse + neither
    if not count:
        return None
    p = mcnemar_exact(better, worse)
    return Comparison(first, second, goal, True, count, better, worse, (better - worse) / count,
                      *paired_difference_interval(both, better, worse, neither), p, p)


def compare_unpaired(outcomes: Sequence[Outcome], first: str, second: str,
                     goal: str = ALL) -> Comparison | None:
    """Compare two checkpoints by all their trials; None where one has none."""
    won = [[outcome.success for outcome in outcomes if outcome.checkpoint == name]
           for name in (first, second)]
    if not all(won):
        return None
    successes, trials = (sum(won[0]), sum(won[1])), (len(won[0]), len(won[1]))
    p = fisher_exact(successes, trials)
    return Comparison(first, second, goal, False, sum(trials), None, None,
                      successes[0] / trials[0] - successes[1] / trials[1],
                      *difference_interval(successes, trials), p, p)


def paired_table(outcomes: Sequence[Outcome], first: str, second: str,
                 ) -> tuple[int, int, int, int]:
    """Count the scenes that both mastered, the first alone, the second alone, and neither."""
    won = {name: {(outcome.goal, outcome.pair): outcome.success for outcome in outcomes
                  if outcome.checkpoint == name} for name in (first, second)}
    scenes = won[first].keys() & won[second].keys()
    pairs = [(won[first][scene], won[second][scene]) for scene in scenes]
    return tuple(pairs.count(pair) for pair in (
        (True, True), (True, False), (False, True), (False, False)))


def _names(outcomes: Sequence[Outcome]) -> tuple[list[str], list[str]]:
    goals = list(dict.fromkeys(outcome.goal for outcome in outcomes))
    checkpoints = sorted({outcome.checkpoint for outcome in outcomes})
    return [*sorted(goals), *([ALL] if len(goals) > 1 else [])], checkpoints
