"""`stable-crl progress`: run, tabulate and draw how far progress is to be trusted."""

from collections.abc import Callable, Sequence
from contextlib import closing
import json
from pathlib import Path

from matplotlib.axes import Axes
import numpy as np
from stable_crl_ros.arrival import ArrivalRule
from stable_crl_ros.durable import write_atomic
from stable_crl_ros.evaluation import trial_seed
from stable_crl_ros.experiments.analyse import AnalyseError, one_thread, shares
from stable_crl_ros.experiments.estimates import mean_band, show
from stable_crl_ros.experiments.learned import load_learned
from stable_crl_ros.experiments.progress import (
    arrived,
    calibration_of,
    compare_measures,
    describe,
    drawer_photograph,
    first_arrival,
    watch,
    watch_share,
    Watched,
)
from stable_crl_ros.figures import band, COLOURS, drawing, GREY, panels
from stable_crl_ros.images import read_image
from stable_crl_ros.parallel import spread
from stable_crl_ros.sim.tasks import task_named

RULE = ArrivalRule()
PICTURES = ('.png', '.jpg', '.jpeg')
AROUND = 25  # steps shown before and after arrival
ALL = 'all'


def validate(path: str, tasks: Sequence[str], episodes: int, seed: int, workers: int, out: Path,
             rule: ArrivalRule = RULE, photograph: str | None = None,
             progress: Callable[[int, int], None] = lambda done, total: None) -> str:
    """
    Compare progress with the simulator's truth on closed-loop episodes.

    :param path: of a calibrated checkpoint.
    :param tasks: names of `sim.tasks.TASKS`.
    :param episodes: per task.
    :param seed: of the evaluation stream, see `evaluation.trial_seed`.
    :param out: folder; gets progress.json and progress.png.
    :param photograph: a shipped goal of the drawer for all episodes, as an operator would show
        it: what else is in it lies elsewhere. Each episode's own goal when None.
    :param progress: called with the episodes done and their total.
    :returns: tables, Markdown.
    :raises AnalyseError: for a count below 1 or no task; and for an unknown task what the
        simulator raises.
    """
    if episodes < 1 or workers < 1 or seed < 0 or not tasks:
        raise AnalyseError(f'needs tasks, episodes >= 1, workers >= 1 and seed >= 0; got '
                           f'{list(tasks)}, {episodes}, {workers} and {seed}')
    for task in tasks:
        if photograph and task_named(task).objects != ('drawer',):
            raise AnalyseError(f'a photograph of the drawer asks for the drawer; {task} asks for '
                               'more: choose open_drawer, close_drawer or move_drawer')
    if photograph:
        drawer_photograph(photograph)
    calibration = calibration_of(path)
    out.mkdir(parents=True, exist_ok=True)
    seeds = [trial_seed(seed, episode) for episode in range(episodes)]
    calls = [(path, task, share, photograph) for task in tasks for share in shares(seeds)]
    watched: list[Watched] = []
    with one_thread(), closing(spread(watch_share, calls, workers)) as done:
        for share in done:
            watched += share
            progress(len(watched), episodes * len(tasks))
    groups = {task: [one for one in watched if one.task == task] for task in tasks}
    numbers = {
        'checkpoint': load_learned(path).sha256, 'seed': seed, 'photograph': photograph,
        'near': calibration.near, 'cap': calibration.cap,
        'groups': {name: describe(items, calibration, rule, seed)
                   for name, items in {**groups, ALL: watched}.items()},
        'measures': compare_measures(watched, seed)}
    write_atomic(out / 'progress.json', json.dumps(numbers, indent=1, allow_nan=False).encode())
    _draw(out / 'progress.png', watched, numbers, seed)
    return '\n'.join(_tables(numbers))


def _percent(estimate: dict) -> str:
    return show(estimate, '{:.0%}'.format)


def _tables(numbers: dict) -> list[str]:
    lines = ['| task | episodes | end in place | `done`: precision | recall | told of failures '
             '| steps after in place |', '| --- ' * 7 + '|']
    for name, one in numbers['groups'].items():
        done = one['done']
        cells = [name, str(one['episodes']), str(one['end_in_place']), _percent(done['precision']),
                 _percent(done['recall']), _percent(done['told_of_failures']),
                 show(done['delay_steps'], '{:.1f}'.format)]
        lines.append(f'| {" | ".join(cells)} |')
    lines += ['', '| task | steps to go: error | of the best constant | bias | rank correlation '
              '| probability: Brier | calibration error |', '| --- ' * 7 + '|']
    for name, one in numbers['groups'].items():
        steps, odds = one['steps']['there'], one['probability']['there']
        cells = [name, *([show(steps[key], '{:.1f}'.format) for key in
                          ('error', 'error_of_best_constant', 'bias')]
                         + [show(steps['rank_correlation'])] if steps['episodes'] else ['-'] * 4),
                 show(odds['brier']), show(odds['calibration_error'])]
        lines.append(f'| {" | ".join(cells)} |')
    lines += ['', '| what is looked at | AUC, objects in place, tick by tick |', '| --- | --- |']
    lines += [f'| {name} | {show(estimate)} |' for name, estimate in
              sorted(numbers['measures'].items(), key=lambda item: -item[1]['value'])]
    return lines


def _draw(path: Path, watched: Sequence[Watched], numbers: dict, seed: int) -> None:
    with drawing(path, 2.6) as figure:
        steps, odds, measures = panels(figure, 3)
        _draw_arrival(steps, watched, numbers['cap'], seed)
        _draw_reliability(odds, numbers['groups'][ALL]['probability'])
        _draw_measures(measures, numbers['measures'])


def _draw_arrival(axes: Axes, watched: Sequence[Watched], cap: int, seed: int) -> None:
    rows = []
    for one in watched:
        moment = arrived(one.there)
        if moment is not None:
            padded = np.pad(one.steps, AROUND, constant_values=np.nan)
            rows.append(padded[moment:moment + 2 * AROUND + 1])
    offsets = np.arange(-AROUND, AROUND + 1)
    axes.plot(offsets, np.maximum(-offsets, 0), color=GREY, linestyle='--', linewidth=0.8,
              label='true')
    if rows:
        known = np.isfinite(rows).mean(0) >= 0.3
        columns = np.array(rows).T[known]
        curve = np.array([mean_band(column[np.isfinite(column)], seed) for column in columns])
        band(axes, offsets[known], tuple(curve.T), 'said', COLOURS[0])
    axes.set_ylim(0, cap)
    axes.set_title('Steps to go')
    axes.set_xlabel('steps from being there')
    axes.legend(loc='upper right')


def _draw_reliability(axes: Axes, probability: dict) -> None:
    axes.plot([0, 1], [0, 1], color=GREY, linestyle='--', linewidth=0.8)
    for name, label, colour in (('there', 'objects and arm', COLOURS[0]),
                                ('in_place', 'objects', COLOURS[1])):
        curve = probability[name]['curve']
        axes.plot([one['said'] for one in curve], [one['came'] for one in curve], 'o-',
                  color=colour, label=label)
    axes.set_title('Probability of being there')
    axes.set_xlabel('probability that was said')
    axes.set_ylabel('share that was there')
    axes.legend(loc='upper left')


def _draw_measures(axes: Axes, measures: dict) -> None:
    ordered = sorted(measures.items(), key=lambda item: item[1]['value'])
    for height, (name, one) in enumerate(ordered):
        colour = COLOURS[0] if name == 'at_goal' else GREY
        axes.plot([one['low'], one['high']], [height, height], color=colour)
        axes.plot(one['value'], height, 'o', color=colour)
    axes.set_yticks(range(len(ordered)), [name for name, _ in ordered])
    axes.axvline(0.5, color=GREY, linestyle='--', linewidth=0.8)
    axes.set_title('Objects in place, told')
    axes.set_xlabel('AUC')


def look_at_recordings(path: str, goal: Path, folders: Sequence[Path], out: Path,
                       rule: ArrivalRule = RULE) -> str:
    """
    Say what progress makes of recorded pictures, whose truth is not known to it.

    :param goal: the goal photograph.
    :param folders: of pictures, in the order of their names.
    :param out: folder; gets recordings.json and recordings.png.
    :returns: a table, Markdown.
    :raises AnalyseError: for a folder without pictures.
    """
    look, spec = watch(path), load_learned(path).image_spec
    wanted = spec.resize(read_image(goal))
    curves = {}
    for folder in folders:
        files = sorted(file for file in folder.glob('*') if file.suffix.lower() in PICTURES)
        if not files:
            raise AnalyseError(f'{folder}: holds no pictures ({", ".join(PICTURES)})')
        pictures = np.array([spec.resize(read_image(file)) for file in files])
        curves[folder.name] = look(pictures, wanted)[:2]
    out.mkdir(parents=True, exist_ok=True)
    itself = look(wanted[None], wanted)
    numbers = {'checkpoint': load_learned(path).sha256,
               'goal_itself': {'steps': float(itself[0][0]), 'odds': float(itself[1][0])},
               'recordings': {name: {'steps': steps.tolist(), 'odds': odds.tolist(),
                                     'done_at': first_arrival(odds, rule)}
                              for name, (steps, odds) in curves.items()}}
    write_atomic(out / 'recordings.json', json.dumps(numbers, indent=1).encode())
    with drawing(out / 'recordings.png', 2.3) as figure:
        for axes, column, title in zip(panels(figure, 2), (0, 1), (
                'Steps to go', 'Probability of being there'), strict=True):
            for name, curve in curves.items():
                axes.plot(curve[column], label=name)
            axes.set_title(title)
            axes.set_xlabel('frame')
            axes.set_ylabel(('control steps, 10 s at most', None)[column])
            axes.set_ylim(0, (None, 1)[column])
        axes.legend()
    lines = ['| recording | frames | steps to go: first, least, last | probability: first, '
             'largest, last | done at frame |', '| --- ' * 5 + '|']
    for name, (steps, odds) in curves.items():
        lines.append(f'| {name} | {len(steps)} | {steps[0]:.0f}, {steps.min():.0f}, '
                     f'{steps[-1]:.0f} | {odds[0]:.2f}, {odds.max():.2f}, {odds[-1]:.2f} | '
                     f'{numbers["recordings"][name]["done_at"]} |')
    return '\n'.join(lines)
