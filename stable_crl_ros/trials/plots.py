"""The plot of a day of trials: success rates, and how soon success came."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from matplotlib.axes import Axes
import numpy as np
from stable_crl_ros.figures import COLOURS, drawing, MARKERS, panels
from stable_crl_ros.trials.scores import Outcome, Rate

HEIGHT = 2.6  # inches
SPREAD = 0.22  # between the checkpoints of one goal


def plot_trials(found: Sequence[Rate], outcomes: Sequence[Outcome], labels: Iterable[str],
                path: Path) -> None:
    """
    Draw rates with their intervals, and the share of trials that had succeeded over time.

    :param path: a .png.
    """
    labels = list(labels)
    with drawing(path, HEIGHT) as figure:
        left, right = panels(figure, 2, 2)
        _draw_rates(left, found, labels)
        _draw_times(right, outcomes, labels)


def _draw_rates(axes: Axes, found: Sequence[Rate], labels: list[str]) -> None:
    goals = list(dict.fromkeys(rate.goal for rate in found))
    for rate in found:
        index = labels.index(rate.checkpoint)
        x = goals.index(rate.goal) + SPREAD * (index - (len(labels) - 1) / 2)
        look = {'color': COLOURS[index % len(COLOURS)]}
        axes.plot([x, x], [100 * rate.low, 100 * rate.high], **look)
        axes.plot([x], [100 * rate.successes / rate.trials], MARKERS[index % len(MARKERS)],
                  label=rate.checkpoint if rate.goal == goals[0] else None, **look)
    axes.set_xticks(range(len(goals)), [goal.replace('_', ' ') for goal in goals])
    axes.set_xlim(-0.6, len(goals) - 0.4)
    axes.set_ylim(-3, 103)
    axes.set_ylabel('success rate, % (95 % interval)')
    axes.legend()


def _draw_times(axes: Axes, outcomes: Sequence[Outcome], labels: list[str]) -> None:
    latest = max((outcome.success_s or 0.0 for outcome in outcomes), default=0.0)
    for index, label in enumerate(labels):
        mine = [outcome for outcome in outcomes if outcome.checkpoint == label]
        if not mine:
            continue
        times = np.sort([outcome.success_s for outcome in mine if outcome.success_s is not None])
        share = 100 * np.arange(1, len(times) + 1) / len(mine)
        axes.step([0.0, *times, 1.05 * latest], [0.0, *share, share[-1] if len(share) else 0.0],
                  where='post', color=COLOURS[index % len(COLOURS)], label=label)
    axes.set_ylim(-3, 103)
    axes.set_xlabel('time since the first action, s')
    axes.set_ylabel('trials that had succeeded, %')
