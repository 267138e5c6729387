"""Turn a suite's counts into Markdown tables with intervals, controls beside the policies."""

from collections.abc import Sequence
from itertools import groupby
import json
from pathlib import Path

from stable_crl_ros.durable import write_atomic
from stable_crl_ros.experiments.comparisons import LONG, OGBENCH
from stable_crl_ros.experiments.differences import format_differences
from stable_crl_ros.experiments.failures import failure_of
from stable_crl_ros.experiments.lines import Line, OUTCOMES, read_lines
from stable_crl_ros.experiments.plan import (
    Case,
    GOALS,
    in_order,
    LAST_CHECKPOINTS,
    Profile,
    Row,
    RunSpec,
)
from stable_crl_ros.experiments.suite import missing_cases
from stable_crl_ros.experiments.tallies import Tally
from stable_crl_ros.experiments.trained_settings import describe_trained

BEGIN, END = '<!-- suite: begin -->', '<!-- suite: end -->'
TOLD_APART = 'who is ahead of whom'
FOLDED = 'loose tolerance, arm alone in place, sampled actions where they were scored'


def write_report(folder: Path, rows: Sequence[Row], page: Path, about: str) -> None:
    """
    Put the tables and pictures into a Markdown page, and the counts into a JSON beside it.

    :param page: what lies between the markers of an existing page is replaced; a new page is
        made of nothing else.
    :param about: one paragraph on how the suite was run.
    """
    from stable_crl_ros.experiments.plots import plot_table
    lines = read_lines(folder, rows)
    plan = in_order(rows)
    done = sum(not missing_cases(folder, run) for run in plan)
    trials = [tally.trials for line in lines if line.seeds for tallies in line.tallies.values()
              for tally in tallies]
    begun = len({run.key for line in lines for run in line.runs}) - done
    counted = (f'Every rate is of at least {min(trials, default=0)} trials per seed. '
               f'{done} of the {len(plan)} runs of this plan are done, {begun} more in part or in '
               f'fewer trials. {_tell_correlations(lines)}')
    parts = [BEGIN, f'{about} {counted}', *_tell_failures(folder, plan)]
    for table, members in groupby(lines, key=lambda line: line.table):
        members = list(members)
        name = table.replace(' ', '_')
        picture = plot_table(members, page.parent / page.stem / f'{name}.png')
        parts += [f'### {table.capitalize()}', format_table(members),
                  f'![{table}]({picture.relative_to(page.parent)})']
    text = '\n\n'.join([*parts, END])
    before, after = '', '\n'
    if page.exists() and BEGIN in page.read_text():
        before, rest = page.read_text().split(BEGIN)
        after = rest.split(END)[1]
    page.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(page, (before + text + after).encode())
    write_atomic(page.with_suffix('.json'), json.dumps(
        [*map(_counts, lines), describe_trained(
            folder, (run.key for line in lines for run in line.runs))], indent=1).encode())


def _tell_failures(folder: Path, plan: Sequence[RunSpec]) -> list[str]:
    failed = {run.key: failure.text for run in plan
              if missing_cases(folder, run) and (failure := failure_of(folder, run))}
    return ['Runs that failed, and are left out:\n\n' + '\n'.join(
        f'* `{key}`: {text}' for key, text in failed.items())] if failed else []


def _tell_correlations(lines: Sequence[Line]) -> str:
    found = {kind: value for line in lines for kind, value in line.correlations.items()
             if kind.recipe and not kind.sampled and kind.outcome == 'strict'}
    values = ', '.join(f'{kind.recipe} {value:.2f}' for kind, value in found.items())
    return f'Correlation within a seed, strict tolerance, mode actions: {values or "none"}.'


def _counts(line: Line) -> dict:
    runs = {run.key: found for run, found in line.runs.items()} or {
        'control': [tally for found in line.tallies.values() for tally in found]}
    return {'table': line.table, 'label': line.label, 'runs': {
        key: [tally.to_dict() for tally in found] for key, found in runs.items()}}


def describe(profile: Profile) -> str:
    """Say how a profile's suite is run, and how its tables are to be read."""
    from stable_crl_ros.sim.tasks import TASKS
    tolerances = {name: pair for task in GOALS for name, pair in TASKS[task].tolerances.items()}
    meaning = '; '.join(f'{name} {1000 * strict:g} and {1000 * loose:g} mm'
                        for name, (strict, loose) in tolerances.items())
    steps = f'{profile.steps} gradient steps' if profile.steps else "the presets' steps"
    longer = f' ({LONG} times both at length)' if profile.long_on and profile.steps else ''
    rate = ", the actor's learning rate falling to 0" if profile.decay else ''
    return (
        f'Presets `{profile.name}`, {steps} in {profile.precision}{rate}, {profile.transitions} '
        f"transitions of each data set{longer}. The actor's goals are drawn geometrically, as by "
        f'the authors, and for {" and ".join(OGBENCH)} evenly over the rest of an episode, as in '
        'OGBench; for all evenly at length and in rows that say so. With random goals half of '
        "the actor's are any episode's, which is OGBench's setting for data to be stitched. "
        'Trials from random starts, '
        f'judged at the last step; a run is scored by its last {LAST_CHECKPOINTS} checkpoints, '
        'which share the trials. Percent of trials with every object within its tolerance (strict '
        f'and loose: {meaning}), or with the arm alone within {1000 * Tally.ARM_NEAR:g} mm of '
        "the goal picture's and an object outside the loose tolerance, and the 95 % interval of "
        "policies trained with any seed: Wilson's, with trials counted for what they are worth "
        'where outcomes of one trained policy resemble each other (design effect; the '
        'correlation is estimated by analysis of variance from the rows of several seeds of all '
        'data sets, or of its own where they say more); of a control the trials alone. A row is '
        "ahead of another where Newcombe's 95 % interval of the difference, from those of the "
        'two, lies above 0, corrected for no number of comparisons. '
        'Nothing is learned from labels.')


def variants(lines: Sequence[Line]) -> list[tuple[str, dict, str]]:
    """
    Say which tables the lines of one table give.

    :returns: heading, the cases' settings, the outcome that is counted.
    """
    cases = {case for line in lines if line.seeds for case in line.tallies}
    kinds = sorted({(case.appearance, case.sampled) for case in cases})
    found = []
    for appearance, sampled in kinds:
        where = '' if appearance == 'nominal' else f', {appearance} cameras and colours'
        how = 'sampled actions' if sampled else 'mode actions'
        found += [(f'{name}, {how}{where}', {'appearance': appearance, 'sampled': sampled},
                   outcome) for outcome, name in OUTCOMES.items()]
    return found


def format_table(lines: Sequence[Line]) -> str:
    """
    Lay out one table per tolerance and way to act: percent, 95 % interval, seeds.

    Strict ones of the policies' modes come first, then who is ahead of whom by them; the others
    are folded away.
    """
    shown, told, folded = [], [], []
    for heading, kind, outcome in variants(lines):
        cases = _columns(lines, kind)
        table = _format_variant(lines, heading, cases, outcome)
        if outcome != 'strict' or kind['sampled']:
            folded.append(table)
            continue
        shown.append(table)
        told.append(format_differences(lines, cases, heading))
    return '\n\n'.join([
        *shown, f'<details><summary>{TOLD_APART}</summary>', *told, '</details>',
        f'<details><summary>{FOLDED}</summary>', *folded, '</details>'])


def _columns(lines: Sequence[Line], kind: dict) -> list[Case]:
    cases = [Case(task, **kind) for task in GOALS]
    return [case for case in cases if any(case in line.tallies for line in lines if line.seeds)]


def _format_variant(lines: Sequence[Line], heading: str, cases: Sequence[Case],
                    outcome: str) -> str:
    rows = [' | '.join([heading, 'seeds', *(case.task for case in cases)]),
            ' | '.join(['---'] * (len(cases) + 2))]
    for line in lines:
        # A control acts alike whatever is drawn from a policy.
        asked = cases if line.seeds else [Case(case.task) for case in cases]
        cells = [_format_rate(line.rate(case, outcome)) for case in asked]
        rows.append(' | '.join([line.label, str(len(line.seeds) or '-'), *cells]))
    return '\n'.join(f'| {row} |' for row in rows)


def _format_rate(rate: tuple[float, float, float] | None) -> str:
    if rate is None:
        return ''
    mean, low, high = (100 * value for value in rate)
    return f'{mean:.0f} [{low:.0f}, {high:.0f}]'
