"""Take over the counts of a suite that was run elsewhere, from the JSON of its report."""

from collections.abc import Callable, Sequence
import json
from pathlib import Path

from stable_crl_ros.experiments.lines import CONTROL_LABELS, DATA
from stable_crl_ros.experiments.plan import PlanError, Row
from stable_crl_ros.experiments.suite import controls_path
from stable_crl_ros.experiments.tallies import read_tallies, SCORES, Tally, write_tallies
from stable_crl_ros.experiments.trained_settings import (
    changed_since,
    note_trained,
    read_described,
    read_trained,
)


def adopt_counts(folder: Path, rows: Sequence[Row], report: Path,
                 say: Callable[[str], None] = print) -> int:
    """
    Take over the counts that a report's JSON has of runs of this plan: they need not be run again.

    So a suite may be spread over several machines, or go on where only its report was kept. Of
    two counts of one case, the one of more trials stays. A run that was trained with other
    settings than the plan has now is left out. The controls are taken over too.

    :param report: as `tables.write_report` made it, beside the page.
    :param say: told which runs are left out, and how many do not say what they were trained with.
    :returns: how many runs were taken over, whole or in part; controls are not counted.
    :raises PlanError: when the file cannot be read as one.
    """
    known, controls, settings = _read_report(report, rows)
    for name, tallies in controls.items():
        _add(controls_path(folder, name), tallies)
    adopted = untold = 0
    runs = {run.key: run for row in rows for run in row.runs}
    for key in sorted(runs.keys() & known.keys()):
        trained = settings.get(key)
        if trained and (differing := changed_since(trained, runs[key])):
            say(f'{key} is not taken over: it was trained with other settings '
                f'({"; ".join(differing)})')
            continue
        path = folder / 'runs' / key / SCORES
        if _add(path, known[key]):
            adopted += 1
            untold += trained is None
        whole = set(read_tallies(path).values()) <= set(known[key])
        if trained and whole and read_trained(path.parent) is None:
            note_trained(path.parent, trained)
    if untold:
        say(f'{untold} of the runs taken over do not say what they were trained with')
    return adopted


def _add(path: Path, tallies: Sequence[Tally]) -> bool:
    """Add to a scores file what it lacks or has of fewer trials; tell whether there was any."""
    before = read_tallies(path)
    after = dict(before)
    for tally in tallies:
        if tally.case not in after or tally.trials > after[tally.case].trials:
            after[tally.case] = tally
    if after == before:
        return False
    write_tallies(path, after)
    return True


def _read_report(report: Path, rows: Sequence[Row]) -> tuple[
        dict[str, list[Tally]], dict[str, list[Tally]], dict[str, dict]]:
    """
    Read a report's JSON.

    :returns: counts by key of the run, counts by control, and what runs were trained with, by key.
    """
    names = {label: name for name, label in CONTROL_LABELS.items()}
    replayed = {row.table: row.runs[0].recipe for row in rows if row.runs}
    known: dict[str, list[Tally]] = {}
    controls: dict[str, list[Tally]] = {}
    try:
        lines = json.loads(report.read_text())
        for line in lines:
            found = {key: list(map(Tally.from_dict, counts))
                     for key, counts in line['runs'].items()}
            name = names.get(line['label']) or (
                replayed.get(line['table']) if line['label'] == DATA else None)
            if name:
                controls.setdefault(name, []).extend(found.pop('control'))
            for key, counts in found.items():
                known.setdefault(key, []).extend(counts)
        return known, controls, read_described(lines)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise PlanError(f'{report} cannot be read as the JSON of a report: {error}') from error
