"""Critic value over time in closed-loop episodes: does it tell success from failure?"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.axes import Axes
import numpy as np
from stable_crl_ros.experiments.episodes import Played
from stable_crl_ros.experiments.estimates import auc, auc_estimate, mean_band, show
from stable_crl_ros.figures import band, COLOURS, drawing, GREY
from stable_crl_ros.intervals import BOUNDS
from stable_crl_ros.sim.env import CONTROL_PERIOD

FEW = 5  # of either outcome: below it an interval says little
DRAWS = 200  # of the bootstrap of a whole curve
AROUND = 15  # control steps shown before and after the moment of success


def describe_values(played: Sequence[Played], seed: int) -> dict:
    """Say how well the values of episodes separate success from failure."""
    values = np.array([item.values for item in played])
    success = np.array([item.success for item in played])
    measures = {'final': values[:, -1], 'mean': values.mean(1), 'rise': values[:, -1]
                - values[:, 0], 'first': values[:, 0]}
    curves = {name: dict(zip(('mean', 'low', 'high'), (part.tolist() for part in mean_band(
        values[chosen], seed)), strict=True))
        for name, chosen in (('success', success), ('failure', ~success)) if chosen.any()}
    both = success.any() and not success.all()
    return {'episodes': len(played), 'successes': int(success.sum()),
            'auc': {name: auc_estimate(measure[success], measure[~success], seed)
                    for name, measure in measures.items()},
            'auc_by_step': _auc_by_step(values[success], values[~success], seed) if both
            else None,
            'curves': curves}


def _auc_by_step(successes: np.ndarray, failures: np.ndarray, seed: int) -> dict:
    """Give the AUC at every step, values (N, T + 1); whole episodes are resampled."""
    rng = np.random.default_rng(seed)

    def curve(up: np.ndarray, down: np.ndarray) -> list[float]:
        return [auc(a, b) for a, b in zip(up.T, down.T, strict=True)]
    drawn = [curve(rng.choice(successes, len(successes)), rng.choice(failures, len(failures)))
             for _ in range(DRAWS)]
    low, high = np.percentile(drawn, BOUNDS, axis=0)
    return {'value': curve(successes, failures), 'low': low.tolist(), 'high': high.tolist()}


def around_success(played: Sequence[Played]) -> np.ndarray:
    """
    Align values at the step from which the objects stayed in place to the end.

    :returns: (successes, 2 * AROUND + 1), NaN beyond an episode's start and end.
    """
    rows = []
    for item in played:
        if not item.success:
            continue
        away = np.flatnonzero(~item.succeeded)
        moment = away[-1] + 1 if len(away) else 0
        padded = np.pad(item.values, AROUND, constant_values=np.nan)
        rows.append(padded[moment:moment + 2 * AROUND + 1])
    return np.array(rows)


def separate(played: Mapping[str, Sequence[Played]], out: Path, seed: int,
             ) -> tuple[dict, list[str]]:
    """
    Draw and describe value over time.

    :param played: episodes by label, of checkpoints that score goals.
    :returns: numbers, and lines of Markdown.
    """
    numbers = {'seed': seed, 'checkpoints': {
        name: describe_values(items, seed) for name, items in played.items()}}
    _draw(out / 'values.png', played, numbers, seed)
    return numbers, _table(numbers)


def _table(numbers: dict) -> list[str]:
    lines = ['| checkpoint | episodes | successes | AUC of the final value '
             '| AUC of the mean value | AUC of the first value |',
             '| --- | --- | --- | --- | --- | --- |']
    rare = []
    for name, one in numbers['checkpoints'].items():
        cells = [show(one['auc'][key]) for key in ('final', 'mean', 'first')]
        lines.append(f'| {" | ".join([name, str(one["episodes"]), str(one["successes"]), *cells])}'
                     ' |')
        if min(one['successes'], one['episodes'] - one['successes']) < FEW:
            rare.append(name)
    if rare:
        lines += ['', f'{", ".join(rare)}: fewer than {FEW} episodes of one outcome, too few to '
                  'tell apart; ask for more --episodes, another --task, or --sampled actions.']
    return lines


def _draw(path: Path, played: Mapping[str, Sequence[Played]], numbers: dict, seed: int) -> None:
    with drawing(path, 0.1 + 2.2 * len(played)) as figure:
        rows = figure.subplots(len(played), 3, squeeze=False)
        for row, (name, items) in zip(rows, played.items(), strict=True):
            _draw_curves(row[0], name, items, seed)
            _draw_moment(row[1], items, seed)
            _draw_auc(row[2], numbers['checkpoints'][name], len(items[0].values))


def _draw_curves(axes: Axes, name: str, played: Sequence[Played], seed: int) -> None:
    values = np.array([item.values for item in played])
    success = np.array([item.success for item in played])
    seconds = CONTROL_PERIOD * np.arange(values.shape[1])
    for label, chosen, colour in (('success', success, COLOURS[0]),
                                  ('failure', ~success, COLOURS[1])):
        if chosen.any():
            band(axes, seconds, mean_band(values[chosen], seed), f'{label} ({chosen.sum()})',
                 colour)
    limits = axes.get_ylim()  # of the bands: single episodes may leave the picture
    for chosen, colour in ((success, COLOURS[0]), (~success, COLOURS[1])):
        axes.plot(seconds, values[chosen].T, color=colour, alpha=0.12, linewidth=0.5, zorder=0)
    axes.set_ylim(limits)
    axes.set_title(name)
    axes.set_xlabel('time (s)')
    axes.set_ylabel("critic's value of the goal")
    axes.legend(loc='lower right')


def _draw_moment(axes: Axes, played: Sequence[Played], seed: int) -> None:
    rows = around_success(played)
    axes.axvline(0, color=GREY, linewidth=0.8, linestyle='--')
    axes.set_title('Around the success')
    axes.set_xlabel('time from the object in place (s)')
    if not len(rows):
        axes.text(0.5, 0.6, 'no success', transform=axes.transAxes, ha='center', color=GREY)
        axes.set_xlim(-AROUND * CONTROL_PERIOD, AROUND * CONTROL_PERIOD)
        axes.set_yticks([])
        return
    whole = rows[:, np.isfinite(rows).mean(0) >= 0.5]
    offsets = (np.flatnonzero(np.isfinite(rows).mean(0) >= 0.5) - AROUND) * CONTROL_PERIOD
    curve = [mean_band(column[np.isfinite(column)], seed) for column in whole.T]
    band(axes, offsets, tuple(np.array(part) for part in zip(*curve, strict=True)), 'success',
         COLOURS[0])


def _draw_auc(axes: Axes, one: dict, steps: int) -> None:
    axes.set_title('Success told from failure')
    axes.set_xlabel('time (s)')
    axes.set_ylabel('AUC of the value')
    axes.set_ylim(0, 1.02)
    axes.set_xlim(0, CONTROL_PERIOD * (steps - 1))
    axes.axhline(0.5, color=GREY, linewidth=0.8, linestyle='--')
    if one['auc_by_step'] is None:
        axes.text(0.5, 0.6, 'one outcome alone', transform=axes.transAxes, ha='center',
                  color=GREY)
        return
    band(axes, CONTROL_PERIOD * np.arange(steps),
         tuple(np.array(one['auc_by_step'][key]) for key in ('value', 'low', 'high')), '',
         COLOURS[2])
