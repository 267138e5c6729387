"""The report of a day of trials: Markdown, JSON, a plot, a picture and a video of each trial."""

from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
import json
import math
from pathlib import Path

from stable_crl_ros.data.dataset import Dataset, DatasetError
from stable_crl_ros.data.episode import EpisodeError
from stable_crl_ros.durable import write_atomic
from stable_crl_ros.trials.plan import Plan, read_plan, TrialError
from stable_crl_ros.trials.plots import plot_trials
from stable_crl_ros.trials.results import lock_day, Result, Results
from stable_crl_ros.trials.scores import Comparison, comparisons, Outcome, Rate, rates

PAGE, DATA, PLOT, PICTURES = 'report.md', 'report.json', 'report.png', 'pictures'


@dataclass(frozen=True)
class Seen:
    """
    What is shown of a trial.

    :param label: of the checkpoint.
    :param sheet: file of the contact sheet, relative to the day's folder; '' where the episode
        is gone. `video` alike, also '' where none is wanted.
    :param doubt: what the recorded episode contradicts; '' when nothing.
    """

    result: Result
    label: str
    sheet: str = ''
    video: str = ''
    doubt: str = ''


def write_report(folder: Path, early: bool = False, videos: bool = True) -> Path:
    """
    Write what the trials show, and reveal what was which.

    :param early: before all trials are done, which is noted in the results where a person judges.
    :param videos: make a video of every trial too.
    :returns: the Markdown page.
    :raises TrialError: without a plan or results, or before the end of a day that a person
        judges, unless `early` and while nobody runs it.
    """
    plan = read_plan(folder)
    results = Results(folder, plan)
    if not results.done:
        raise TrialError(f'{folder}: no trial is done yet; stable-crl trials run --out {folder}')
    if all(result.success is None for result in results.done):
        raise TrialError(f'{folder}: nobody judged its trials, so there is nothing to compare; '
                         f'look at them: stable-crl episodes list '
                         f'{folder / results.done[0].dataset}')
    if not plan.design.paired and not results.complete:
        if not early:
            raise TrialError(
                f'{folder}: {len(results.done)} of {len(plan.trials)} trials are done; a report '
                'now would tell who judges the rest which checkpoint is which. Finish the day, '
                'or give --early, which is noted in the results')
        # A day that runs holds the results in memory, and would write over the note.
        with closing(lock_day(folder)):
            results = Results(folder, plan)
            results.unblind()
    labels = label_checkpoints(plan)
    trials = [_look(folder, result, labels[result.checkpoint], videos) for result in results.done]
    outcomes = read_outcomes(plan, results, labels)
    found = rates(outcomes), comparisons(outcomes, plan.design.paired)
    write_atomic(folder / DATA, json.dumps(
        _document(plan, results, labels, trials, *found), indent=1).encode())
    plot_trials(found[0], outcomes, labels.values(), folder / PLOT)
    write_atomic(folder / PAGE, _page(plan, results, labels, trials, *found).encode())
    return folder / PAGE


def label_checkpoints(plan: Plan) -> dict[str, str]:
    """Return a letter for every checkpoint, by sha256, in the order they were named."""
    return {entry.sha256: chr(ord('A') + index) if index < 26 else f'C{index}'
            for index, entry in enumerate(plan.design.checkpoints)}


def read_outcomes(plan: Plan, results: Results, labels: dict[str, str]) -> list[Outcome]:
    """Give what counts of every result that somebody judged."""
    blocks = {trial.number: trial.block for trial in plan.trials}
    return [Outcome(labels[result.checkpoint], result.goal, blocks[result.trial], result.success,
                    result.success_s) for result in results.done if result.success is not None]


def _look(folder: Path, result: Result, label: str, videos: bool) -> Seen:
    """Draw a trial, unless that was done, and compare its episode with the result."""
    from stable_crl_ros.data.sheet import write_sheet
    from stable_crl_ros.data.video import write_video
    pictures = folder / PICTURES
    pictures.mkdir(exist_ok=True)
    # The redo of a trial has another episode, and pictures of its own.
    sheet, video = (pictures / f'trial_{result.trial:03d}_episode_{result.episode:06d}{suffix}'
                    for suffix in ('.png', '.mp4'))
    try:
        episode = Dataset(folder / result.dataset)[result.episode]
        if not sheet.exists():
            write_sheet(episode, sheet)
        if videos and not video.exists():
            write_video(episode, video)
        acted = episode.attrs['checkpoint']
    except (DatasetError, EpisodeError, OSError) as error:
        return Seen(result, label, doubt=f'its episode cannot be read: {error}')
    doubt = '' if acted == result.checkpoint else (
        f'its episode says that checkpoint {acted[:12] or "(none)"} acted')
    return Seen(result, label, str(sheet.relative_to(folder)),
                str(video.relative_to(folder)) if video.exists() else '', doubt)


def _document(plan: Plan, results: Results, labels: dict[str, str], trials: Sequence[Seen],
              found: Sequence[Rate], compared: Sequence[Comparison]) -> dict:
    return {
        'plan': plan.sha256, 'created': plan.created, 'design': asdict(plan.design),
        'planned': len(plan.trials), 'done': len(results.done),
        'unblinded_after': results.unblinded_after,
        'checkpoints': {labels[entry.sha256]: asdict(entry) for entry in plan.design.checkpoints},
        'rates': [_finite(asdict(rate)) for rate in found],
        'comparisons': [_finite(asdict(comparison)) for comparison in compared],
        'trials': [asdict(seen.result) | {'label': seen.label, 'sheet': seen.sheet,
                                          'video': seen.video, 'doubt': seen.doubt}
                   for seen in trials],
        'redone': [asdict(redo) for redo in results.redone]}


def _finite(values: dict) -> dict:
    # JSON has no infinity: a time that was never reached is null.
    return {name: None if isinstance(value, float) and not math.isfinite(value) else value
            for name, value in values.items()}


def _page(plan: Plan, results: Results, labels: dict[str, str], trials: Sequence[Seen],
          found: Sequence[Rate], compared: Sequence[Comparison]) -> str:
    design = plan.design
    many = len(design.checkpoints) > 2
    parts = [
        f'# Trials of {plan.created}\n',
        f'{len(results.done)} of {len(plan.trials)} planned trials: '
        f'{len(design.checkpoints)} checkpoints, {len(design.goals)} goals, {design.n} trials '
        f'each, robot {design.robot}, judged by the {design.judge}, seed {design.seed}, plan '
        f'{plan.sha256[:12]}.{_blinding(plan, results)}\n',
        markdown_table(['', 'checkpoint', 'sha256'], [
            [labels[entry.sha256], f'`{entry.path}`', entry.sha256[:12]]
            for entry in design.checkpoints]),
        f'\n![Success rates, and times to success]({PLOT})\n',
        '## Success\n', markdown_table(
            ['goal', 'checkpoint', 'successes', 'rate (95 %)', 'median time to success (95 %)',
             'never'],
            [[rate.goal, rate.checkpoint, f'{rate.successes}/{rate.trials}',
              f'{_percent(rate.successes / rate.trials)} % [{_percent(rate.low)}, '
              f'{_percent(rate.high)}]',
              f'{_seconds(rate.median_s)} [{_seconds(rate.median_low_s)}, '
              f'{_seconds(rate.median_high_s)}]', str(rate.failed)] for rate in found]),
        '\nRates with Wilson intervals. Times run from the first action; their median is over '
        'all trials, failures counted as longer than any (censored: the column "never"), with '
        'the interval between order statistics.\n']
    if compared:
        parts += ['## Comparison\n', markdown_table(
            ['goal', 'checkpoints', *(['first alone', 'second alone'] if design.paired else []),
             'difference (95 %)', 'p', *(['p (Holm)'] if many else [])],
            [[c.goal, f'{c.first} - {c.second}',
              *([str(c.better), str(c.worse)] if c.paired else []),
              f'{100 * c.difference:+.0f} [{100 * c.low:+.0f}, {100 * c.high:+.0f}]',
              f'{c.p:.2g}', *([f'{c.p_holm:.2g}'] if many else [])] for c in compared]),
            f'\nDifferences of success rates in percentage points (Newcombe). {_test(design)}\n']
    parts += ['## Trials\n', markdown_table(
        ['', 'goal', 'checkpoint', 'success', 'ended by', 'time (s)', 'steps', 'episode',
         'pictures', 'notes'], [_row(seen) for seen in trials])]
    if results.redone:
        parts += ['\n## Repeated\n', markdown_table(['trial', 'when', 'why'], [
            [str(redo.trial), redo.when, redo.why] for redo in results.redone])]
    return '\n'.join(parts) + '\n'


def _blinding(plan: Plan, results: Results) -> str:
    if plan.design.paired:
        return ' All checkpoints met the same scenes.'
    if results.unblinded_after is not None:
        return f' **Unblinded after {results.unblinded_after} trials.**'
    return ' The judge was told neither which checkpoint acted nor which ones there were.'


def _test(design) -> str:
    if design.paired:
        return 'p: exact McNemar test of the scenes that one of the two alone mastered, two-sided.'
    return "p: Fisher's exact test, two-sided."


def _row(seen: Seen) -> list[str]:
    result = seen.result
    notes = [result.notes, *(f'{name} {1000 * error:.1f} mm off'
                             for name, error in result.errors.items()),
             f'**{result.interventions} steps by hand**' if result.interventions else '',
             f'**{seen.doubt}**' if seen.doubt else '']
    links = [f'[{word}]({path})' for word, path in (('sheet', seen.sheet), ('video', seen.video))
             if path]
    return [str(result.trial), result.goal, seen.label,
            {True: 'yes', False: 'no', None: 'not judged'}[result.success],
            result.why, f'{result.seconds:.1f}', str(result.steps), str(result.episode),
            ' '.join(links), '; '.join(note for note in notes if note)]


def _percent(rate: float) -> str:
    return f'{100 * rate:.0f}'


def _seconds(value: float) -> str:
    if math.isfinite(value):
        return f'{value:.1f} s'
    return 'never' if value > 0 else '0.0 s'


def markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Lay rows out below their heads."""
    lines = [head, ['---'] * len(head), *rows]
    return '\n'.join(f'| {" | ".join(cell.replace("|", "/") for cell in line)} |'
                     for line in lines)
