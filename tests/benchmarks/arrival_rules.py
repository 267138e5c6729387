#!/usr/bin/env python3
"""Compare rules by which a goal counts as reached, on the same simulated episodes."""

import argparse
from collections.abc import Callable, Iterator
from contextlib import closing
import sys

import numpy as np
from stable_crl_ros import SHIPPED_CHECKPOINT
from stable_crl_ros.arrival import ArrivalRule
from stable_crl_ros.evaluation import trial_seed
from stable_crl_ros.experiments.estimates import rate_estimate, show
from stable_crl_ros.experiments.progress import first_arrival, watch_share, Watched
from stable_crl_ros.parallel import spread
from stable_crl_ros.sim.tasks import TASKS

Rule = Callable[[Watched], int | None]  # -> the tick of the announcement
REFERENCE = ArrivalRule(threshold=0.6, release=0.3, ticks=3)
PHOTOGRAPHS = {'open_drawer': 'drawer_open', 'close_drawer': 'drawer_closed'}


def plain(**changes) -> Rule:
    """Give the rule with other parameters."""
    rule = ArrivalRule(**{**vars(REFERENCE), **changes})
    return lambda one: first_arrival(one.odds, rule)


def few_steps(most: float) -> Rule:
    """Count only ticks with so few steps to go; others delay, as doubt does."""
    doubt = np.nextafter(REFERENCE.threshold, 0)
    return lambda one: first_arrival(
        np.where(one.steps <= most, one.odds, np.minimum(one.odds, doubt)), REFERENCE)


def window(size: int, wanted: int) -> Rule:
    """Ask for so many sure ticks among the last ones."""
    def announced(one: Watched) -> int | None:
        sure = np.cumsum(np.append(np.zeros(size, int), one.odds >= REFERENCE.threshold))
        enough = np.flatnonzero(sure[size:] - sure[:-size] >= wanted)
        return int(enough[0]) if len(enough) else None
    return announced


def mean_of(size: int, threshold: float) -> Rule:
    """Ask for a mean over the last ticks."""
    def announced(one: Watched) -> int | None:
        means = np.convolve(one.odds, np.full(size, 1 / size), 'valid')
        enough = np.flatnonzero(means >= threshold)
        return int(enough[0]) + size - 1 if len(enough) else None
    return announced


RULES: dict[str, Rule] = {
    'threshold 0.6, 3 ticks': plain(),
    **{f'threshold {value}': plain(threshold=value) for value in (0.65, 0.7, 0.74)},
    **{f'{ticks} ticks': plain(ticks=ticks) for ticks in (5, 10)},
    '4 of 5 ticks': window(5, 4), '8 of 10 ticks': window(10, 8),
    'mean of 5 ticks >= 0.65': mean_of(5, 0.65), 'mean of 10 ticks >= 0.65': mean_of(10, 0.65),
    **{f'steps to go <= {most}': few_steps(most) for most in (1, 3, 5, 8)},
}


def hits(watched: list[Watched], rule: Rule) -> np.ndarray:
    """Return whether each was announced rightly and ends in place, bool."""
    ticks = [rule(one) for one in watched]
    return np.array([tick is not None and one.in_place[tick] and one.in_place[-1]
                     for one, tick in zip(watched, ticks, strict=True)], bool)


def row(name: str, own: list[Watched], shown: list[Watched]) -> str:
    """Return one line of the table."""
    ticks = [RULES[name](one) for one in own]
    told = [one.in_place[tick] for one, tick in zip(own, ticks, strict=True) if tick is not None]
    found, before = hits(own, RULES[name]), hits(own, RULES['threshold 0.6, 3 ticks'])
    late = [tick - before_tick for one, tick in zip(own, ticks, strict=True) if tick is not None
            and (before_tick := plain()(one)) is not None]
    ends, ends_shown = (sum(bool(one.in_place[-1]) for one in part) for part in (own, shown))
    percent = '{:.1%}'.format
    return (f'| {name} | {len(told) - sum(told)} of {len(told)} | '
            f'{show(rate_estimate(int(sum(told)), len(told)), percent)} | '
            f'{show(rate_estimate(int(found.sum()), ends), percent)} | '
            f'{(before & ~found).sum()} / {(found & ~before).sum()} | {np.mean(late):+.1f} | '
            f'{hits(shown, RULES[name]).sum()} of {ends_shown} |')


def run(chosen: argparse.Namespace, shown: bool) -> Iterator[list[Watched]]:
    """Run all episodes, with goals of their own or with the shipped photographs."""
    seeds = [trial_seed(seed, number) for seed in chosen.seeds
             for number in range(chosen.episodes)]
    calls = [(chosen.checkpoint, task, seeds, PHOTOGRAPHS[task] if shown else None)
             for task in (PHOTOGRAPHS if shown else TASKS)]
    with closing(spread(watch_share, calls, chosen.workers)) as done:
        yield from done


def main() -> int:
    """Run the episodes once and print a line per rule."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--checkpoint', default=str(SHIPPED_CHECKPOINT))
    parser.add_argument('--seeds', type=int, nargs='+', default=[11, 12])
    parser.add_argument('--episodes', type=int, default=30, help='per task and seed')
    parser.add_argument('--workers', type=int, default=1)
    chosen = parser.parse_args()
    own, shown = (sum(run(chosen, photographs), []) for photographs in (False, True))
    print(f'{len(own)} episodes, {len(shown)} with a photograph of another scene, seeds '
          f'{chosen.seeds}\n')
    print('| rule | wrong | precision | recall | right ones lost / won | ticks later | '
          'recall with a photograph |\n| --- | --- | --- | --- | --- | --- | --- |')
    for name in RULES:
        print(row(name, own, shown))
    return 0


if __name__ == '__main__':
    sys.exit(main())
