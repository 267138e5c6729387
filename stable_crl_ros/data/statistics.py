"""What the numbers of datasets are like: mean, spread, quantiles; histograms as a picture."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
import numpy as np
from stable_crl_ros.actions import ACTION_NAMES
from stable_crl_ros.data.episode import Episode
from stable_crl_ros.data.listing import format_time, seconds
from stable_crl_ros.data.schema import Mode
from stable_crl_ros.data.union import open_datasets
from stable_crl_ros.figures import COLOURS, drawing, FAINT, GREY, panels
from stable_crl_ros.robot.kinematics import JOINT_NAMES
from stable_crl_ros.robot.safety import flag_names

QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
POSE_NAMES = ('x', 'y', 'z', 'qx', 'qy', 'qz', 'qw')
DIMENSIONS = {
    'action': ACTION_NAMES, 'commanded_action': ACTION_NAMES, 'joint_positions': JOINT_NAMES,
    'joint_velocities': JOINT_NAMES, 'joint_efforts': JOINT_NAMES, 'gripper': ('',),
    'ee_pose': POSE_NAMES, 'progress': ('',)}
DRAWN = ('action', 'gripper', 'ee_pose', 'joint_positions')
VERDICTS = {True: 'yes', False: 'no', None: 'unknown'}
BINS = 50
ACROSS = 5


class StatisticsError(ValueError):
    """Datasets of which nothing can be told."""


@dataclass
class Statistics:
    """
    Everything measured in some datasets.

    :param values: 'action/dx', ... -> every finite value.
    :param missing: 'action/dx', ... -> values that are not finite.
    :param lengths: s, of every episode.
    """

    paths: list[str]
    values: dict[str, np.ndarray] = field(default_factory=dict)
    missing: dict[str, int] = field(default_factory=dict)
    lengths: list[float] = field(default_factory=list)
    steps: list[int] = field(default_factory=list)
    tasks: dict[str, Counter] = field(default_factory=dict)
    counts: dict[str, Counter] = field(default_factory=lambda: {
        name: Counter() for name in ('success', 'operators', 'modes', 'flags')})
    interventions: int = 0

    def to_dict(self) -> dict:
        """Return plain values for JSON."""
        return {
            'datasets': self.paths, 'episodes': len(self.steps), 'steps': sum(self.steps),
            'seconds': sum(self.lengths),
            'steps_per_episode': {'min': min(self.steps), 'max': max(self.steps),
                                  'median': float(np.median(self.steps))},
            **{name: dict(counter) for name, counter in self.counts.items()},
            'interventions': self.interventions,
            'tasks': {task: dict(counter) for task, counter in sorted(self.tasks.items())},
            'dimensions': {name: {**describe(values), 'missing': self.missing[name]}
                           for name, values in self.values.items() if len(values)}}


def measure(paths: Sequence[str | Path],
            progress: Callable[[int, int], None] | None = None) -> Statistics:
    """
    Read every number of some datasets, but no image.

    :param progress: called with the episodes done and their total.
    :raises StatisticsError: when they hold no step.
    """
    union = open_datasets(list(paths))
    result, total = Statistics([str(path) for path in paths]), len(union)
    columns: dict[str, list[np.ndarray]] = {}
    for done, episode in enumerate(union.episodes, 1):
        _count(result, episode)
        for array, names in DIMENSIONS.items():
            values = episode[array].reshape(-1, len(names))
            for name, column in zip(names, values.T, strict=True):
                columns.setdefault(f'{array}/{name}'.rstrip('/'), []).append(column)
        if progress:
            progress(done, total)
    if not sum(result.steps):
        raise StatisticsError(f'no steps in {[str(path) for path in paths]}; record or collect '
                              'episodes first')
    for name, parts in columns.items():
        column = np.concatenate(parts).astype(float)
        result.values[name] = column[np.isfinite(column)]
        result.missing[name] = len(column) - len(result.values[name])
    return result


def _count(result: Statistics, episode: Episode) -> None:
    attrs, verdict = episode.attrs, VERDICTS[episode.attrs['success']]
    result.steps.append(episode.steps)
    result.lengths.append(seconds(attrs))
    result.counts['success'][verdict] += 1
    result.counts['operators'][attrs['operator']] += 1
    task = result.tasks.setdefault(attrs['task'], Counter())
    task.update({'episodes': 1, 'steps': episode.steps, verdict: 1})
    modes = np.bincount(episode['mode'], minlength=len(Mode))
    result.counts['modes'].update({mode.name.lower(): int(modes[mode]) for mode in Mode
                                   if modes[mode]})
    values, numbers = np.unique(episode['flags'], return_counts=True)
    for flags, number in zip(values, numbers, strict=True):
        result.counts['flags'].update(dict.fromkeys(flag_names(int(flags)), int(number)))
    result.interventions += int(episode['intervention'].sum())


def describe(values: np.ndarray) -> dict:
    """Return what is told of one dimension; shape (N,), N > 0."""
    quantiles = np.quantile(values, QUANTILES)
    return {'count': len(values), 'mean': float(values.mean()), 'std': float(values.std()),
            'min': float(values.min()), 'max': float(values.max()),
            'quantiles': {f'{share:g}': float(value)
                          for share, value in zip(QUANTILES, quantiles, strict=True)}}


def format_statistics(told: Mapping) -> str:
    """Return tables of what `Statistics.to_dict` gives."""
    median = told['steps_per_episode']['median']
    lines = [f'{told["episodes"]} episodes, {told["steps"]} steps, '
             f'{format_time(told["seconds"])}; {median:g} steps in the median episode']
    for name in ('success', 'modes', 'operators', 'flags'):
        counted = ', '.join(f'{key} {value}' for key, value in told[name].items() if key)
        lines += [f'{name}: {counted}'] if counted else []
    lines += [f'interventions: {told["interventions"]} steps'] if told['interventions'] else []
    lines += ['', *_task_table(told['tasks']), '']
    lines.append(f'{"":28} {"mean":>9} {"std":>9} {"min":>9} {"1 %":>9} {"median":>9} '
                 f'{"99 %":>9} {"max":>9}')
    for name, item in told['dimensions'].items():
        quantiles = item['quantiles']
        numbers = (item['mean'], item['std'], item['min'], quantiles['0.01'], quantiles['0.5'],
                   quantiles['0.99'], item['max'])
        lines.append(f'{name:28} ' + ' '.join(f'{number:9.4f}' for number in numbers))
    return '\n'.join(lines)


def _task_table(tasks: Mapping) -> list[str]:
    width = max(4, *(len(task) for task in tasks))
    return [f'{"task":{width}} episodes    steps  success  failure', *(
        f'{task:{width}} {item["episodes"]:8} {item["steps"]:8} {item.get("yes", 0):8} '
        f'{item.get("no", 0):8}' for task, item in tasks.items())]


def draw_histograms(statistics: Statistics, path: str | Path) -> None:
    """
    Write a histogram of every dimension of actions and states, and where the tool was.

    :param path: a .png.
    """
    names = [name for name, values in statistics.values.items() if len(values)
             and name.partition('/')[0] in DRAWN and not name.startswith('ee_pose/q')]
    places = [statistics.values[f'ee_pose/{axis}'] for axis in 'xy']
    above = len(places[0]) == len(places[1]) > 0
    count = len(names) + 1 + above
    with drawing(Path(path), 1.15 * -(-count // ACROSS) + 0.5) as figure:
        figure.suptitle('orange: the mean; grey: 1 % and 99 %; in m, rad, gripper 0..1',
                        x=0.01, ha='left', fontsize=7, color=GREY)
        axes = panels(figure, count, ACROSS)
        for place, name in zip(axes, names, strict=False):
            _draw_histogram(place, statistics.values[name], name)
        _draw_histogram(axes[len(names)], np.array(statistics.steps), 'steps per episode')
        if above:
            _draw_above(axes[-1], *places)


def _draw_histogram(axes: Axes, values: np.ndarray, name: str) -> None:
    axes.hist(values, BINS, color=COLOURS[0], linewidth=0)
    for value in np.quantile(values, (0.01, 0.99)):
        axes.axvline(value, color=FAINT, linewidth=0.8, zorder=0)
    axes.axvline(values.mean(), color=COLOURS[1], linewidth=1)
    axes.set_title(name.replace('/', ' ').replace('_', ' '), fontsize=7, fontweight='normal')
    axes.set_yticks([])
    axes.spines['left'].set_visible(False)
    axes.tick_params(labelsize=6)
    axes.locator_params(axis='x', nbins=4)


def _draw_above(axes: Axes, x: np.ndarray, y: np.ndarray) -> None:
    axes.hist2d(y, x, BINS, cmap='Blues', norm=LogNorm(vmin=0.3))  # one visit can be seen
    axes.invert_xaxis()  # y is to the left of a robot that looks up the page
    axes.set_aspect('equal')
    axes.set_title('tool from above: x up, y left (m)', fontsize=7, fontweight='normal')
    axes.tick_params(labelsize=6, colors=GREY)
