"""Arm matching: does the critic, and does the policy, care for the object or only for the arm?"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.axes import Axes
import numpy as np
from stable_crl_ros.experiments.demonstrations import Demonstration
from stable_crl_ros.experiments.episodes import Played
from stable_crl_ros.experiments.estimates import (
    mean_band,
    mean_estimate,
    rate_estimate,
    ratio_estimate,
    show,
)
from stable_crl_ros.experiments.learned import Learned
from stable_crl_ros.figures import band, COLOURS, drawing, FAINT, GREY, panels
from stable_crl_ros.sim.env import CONTROL_PERIOD

ARM_TOLERANCE = 0.02  # m of the tool point; demonstrations end within 1.9 cm of the goal's
OUTCOMES = ('object and arm', 'object only', 'arm only', 'neither')
OUTCOME_COLOURS = (COLOURS[2], COLOURS[5], COLOURS[1], FAINT)


def value_curves(one: Learned, demonstrations: Sequence[Demonstration],
                 ) -> tuple[np.ndarray, np.ndarray]:
    """
    Score every step of successful demonstrations, and of the same arm motion alone.

    :param demonstrations: drawn with `arm_only`.
    :returns: values of both, each (N, T + 1), N successful demonstrations.
    """
    spec = one.image_spec
    successful = [item for item in demonstrations if item.success]

    def curves(pictures: list[np.ndarray]) -> np.ndarray:
        goals = [np.broadcast_to(item.goal_images[spec], images.shape)
                 for item, images in zip(successful, pictures, strict=True)]
        scores = one.scores(np.concatenate(pictures), np.concatenate(goals))
        return scores.reshape(len(successful), -1)
    return (curves([item.images[spec] for item in successful]),
            curves([item.arm_only[spec] for item in successful]))


def describe_curves(moved: np.ndarray, arm_only: np.ndarray, seed: int) -> dict:
    """
    Say how much of the value's rise the arm alone explains.

    :param moved: values along successful trajectories, (N, T + 1).
    :param arm_only: values along the same arm motion with the objects left, (N, T + 1).
    :returns: among others `share_of_arm`, None where the value of a success does not rise.
    """
    rise, arm_rise = moved[:, -1] - moved[:, 0], arm_only[:, -1] - arm_only[:, 0]
    curves = {name: dict(zip(('mean', 'low', 'high'), (part.tolist() for part in
                                                       mean_band(values, seed)), strict=True))
              for name, values in (('successful', moved), ('arm_only', arm_only))}
    rises = mean_estimate(rise, seed)
    share = ratio_estimate(arm_rise, rise, seed) if rises['low'] > 0 else \
        {'value': None, 'low': None, 'high': None, 'count': len(moved)}
    return {'trajectories': len(moved), 'rise': rises,
            'arm_only_rise': mean_estimate(arm_rise, seed),
            'final_gap': mean_estimate(rise - arm_rise, seed), 'share_of_arm': share,
            'told_apart': rate_estimate(int((moved[:, -1] > arm_only[:, -1]).sum()), len(moved)),
            'curves': curves}


def outcome_counts(played: Sequence[Played], arm_tolerance: float = ARM_TOLERANCE) -> dict:
    """Count how episodes ended, by `OUTCOMES`."""
    counts = dict.fromkeys(OUTCOMES, 0)
    for episode in played:
        arm = episode.arm_errors[-1] <= arm_tolerance
        counts[OUTCOMES[(0 if arm else 1) if episode.success else (2 if arm else 3)]] += 1
    return counts


def describe_outcomes(played: Sequence[Played]) -> dict:
    """Say how often the policy ended with the arm alone in place, and what chance is."""
    counts = outcome_counts(played)
    trials = len(played)
    failures = counts['arm only'] + counts['neither']
    return {'episodes': trials, 'counts': counts,
            'success': rate_estimate(counts['object and arm'] + counts['object only'], trials),
            'arm_matched_object_not': rate_estimate(counts['arm only'], trials),
            'arm_matched_among_failures':
                rate_estimate(counts['arm only'], failures) if failures else None,
            'arm_matched_at_the_start': rate_estimate(
                sum(item.arm_errors[0] <= ARM_TOLERANCE for item in played), trials)}


def match(learned: Sequence[Learned], demonstrations: Sequence[Demonstration],
          played: Mapping[str, Sequence[Played]], out: Path, seed: int,
          ) -> tuple[dict, list[str]]:
    """
    Draw and describe arm matching of critics and of policies.

    :param learned: any checkpoints; those that score no goals take part in the rates alone.
    :param demonstrations: drawn with `arm_only`.
    :param played: episodes by label.
    :returns: numbers, and lines of Markdown.
    """
    curves = {one.label: value_curves(one, demonstrations) for one in learned
              if one.scores_goals} if any(item.success for item in demonstrations) else {}
    numbers = {
        'seed': seed, 'arm_tolerance_m': ARM_TOLERANCE,
        'demonstrations': len(demonstrations),
        'critics': {name: describe_curves(*both, seed) for name, both in curves.items()},
        'policies': {name: describe_outcomes(items) for name, items in played.items()}}
    _draw(out / 'matching.png', curves, numbers, seed)
    return numbers, _table(numbers)


def _table(numbers: dict) -> list[str]:
    lines = ['| checkpoint | value rises, success | value rises, arm alone | share of the arm '
             '| ends solved | ends with the arm alone in place |',
             '| --- | --- | --- | --- | --- | --- |']
    for name, policy in numbers['policies'].items():
        critic = numbers['critics'].get(name)
        cells = [show(critic[key]) for key in ('rise', 'arm_only_rise', 'share_of_arm')] \
            if critic else ['no critic'] * 3
        rates = [show(policy[key], '{:.0%}'.format)
                 for key in ('success', 'arm_matched_object_not')]
        lines.append(f'| {" | ".join([name, *cells, *rates])} |')
    return lines


def _draw(path: Path, curves: Mapping[str, tuple], numbers: dict, seed: int) -> None:
    count = len(curves) + 1
    with drawing(path, 2.5 * -(-count // 3)) as figure:
        *values, ends = panels(figure, count)
        for axis, (name, both) in zip(values, curves.items(), strict=True):
            seconds = CONTROL_PERIOD * np.arange(both[0].shape[1])
            for one, label, colour in zip(both, ('object follows', 'arm alone'), COLOURS,
                                          strict=False):
                band(axis, seconds, mean_band(one - one[:, :1], seed), label, colour)
            axis.axhline(0, color=GREY, linewidth=0.6, linestyle='--')
            axis.set_title(name)
            axis.set_xlabel('time in the trajectory (s)')
        if values:
            values[0].set_ylabel("rise of the critic's value")
            values[0].legend(loc='best')
        _draw_outcomes(ends, numbers['policies'])


def _draw_outcomes(axes: Axes, policies: dict) -> None:
    left = np.zeros(len(policies))
    for outcome, colour in zip(OUTCOMES, OUTCOME_COLOURS, strict=True):
        shares = np.array([100 * one['counts'][outcome] / one['episodes']
                           for one in policies.values()])
        axes.barh(range(len(policies)), shares, left=left, color=colour, height=0.55,
                  label=outcome)
        left += shares
    axes.set_yticks(range(len(policies)), list(policies))
    middle, half = (len(policies) - 1) / 2, max(len(policies), 3) / 2
    axes.set_ylim(middle + half, middle - half)
    axes.tick_params(axis='y', length=0, colors=GREY)
    axes.set_xlim(0, 100)
    axes.set_xlabel('episodes (%)')
    axes.set_title('In place at the end')
    axes.legend(loc='upper center', bbox_to_anchor=(0.4, -0.22), ncols=2, columnspacing=1.0,
                handlelength=1.0)
