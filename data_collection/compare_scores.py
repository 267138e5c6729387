#!/usr/bin/env python3
"""Compare two policies on the scenes that both met, task by task, from `evaluate --json`.

p is that of the exact McNemar test of the scenes that one of the two alone mastered, two-sided;
beside it the same adjusted by Holm for the number of tasks.
"""

import argparse
from collections.abc import Sequence
import json
from pathlib import Path

from stable_crl_ros.significance import holm
from stable_crl_ros.trials.report import markdown_table
from stable_crl_ros.trials.scores import compare_paired, Comparison, Outcome


def compare(path: str | Path, policies: Sequence[str] = ()) -> list[Comparison]:
    """
    Compare two policies on every task.

    :param path: what `stable-crl evaluate --json` wrote.
    :param policies: two of its policies, as they are named there; the first two when empty.
    :returns: by task, `p_holm` adjusted for the number of tasks.
    :raises ValueError: for policies or a task without scenes that both met.
    """
    scores = json.loads(Path(path).read_text())
    known = list(dict.fromkeys(score['policy'] for score in scores))
    chosen = list(policies or known[:2])
    if len(chosen) != 2 or not set(chosen) <= set(known):
        raise ValueError(f'{path}: name two of its policies: {", ".join(known)}')
    outcomes = [Outcome(score['policy'], score['task'], trial['seed'], trial['success'], None)
                for score in scores for trial in score['trials']]
    found = {task: compare_paired([outcome for outcome in outcomes if outcome.goal == task],
                                  *chosen, task)
             for task in dict.fromkeys(score['task'] for score in scores)}
    alone = [task for task, comparison in found.items() if comparison is None]
    if alone:
        raise ValueError(f'{path}: the two share no scene of {", ".join(alone)}')
    adjusted = holm([comparison.p for comparison in found.values()])
    return [Comparison(**vars(comparison) | {'p_holm': p})
            for comparison, p in zip(found.values(), adjusted, strict=True)]


def main() -> None:
    """Read the command line and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('scores', help='what `stable-crl evaluate --json` wrote')
    parser.add_argument('policies', nargs='*', metavar='POLICY',
                        help='two of its policies, as they are named there (default: the first '
                             'two)')
    chosen = parser.parse_args()
    try:
        found = compare(chosen.scores, chosen.policies)
    except (OSError, ValueError) as error:
        parser.error(str(error))
    print(f'strict tolerance; {found[0].first} against {found[0].second}\n')
    print(markdown_table(
        ['task', 'scenes', 'first alone', 'second alone', 'difference (95 %)', 'p', 'p (Holm)'],
        [[one.goal, str(one.trials), str(one.better), str(one.worse),
          f'{100 * one.difference:+.0f} [{100 * one.low:+.0f}, {100 * one.high:+.0f}]',
          f'{one.p:.2g}', f'{one.p_holm:.2g}'] for one in found]))


if __name__ == '__main__':
    main()
