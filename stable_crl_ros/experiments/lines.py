"""What a suite's runs counted, row by row, with rates and intervals over seeds of training."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from pathlib import Path

from stable_crl_ros.evaluation import CONTROLS
from stable_crl_ros.experiments.plan import Case, Row, RunSpec
from stable_crl_ros.experiments.suite import controls_path
from stable_crl_ros.experiments.tallies import read_tallies, SCORES, Tally
from stable_crl_ros.intervals import seed_correlation, wilson_interval, worth_of_seeds

OUTCOMES = {'strict': 'strict tolerance', 'loose': 'loose tolerance',
            'arm_only': 'arm in place, object not'}
DATA = "the data's own actions"  # the label of the control that replays a recipe
CONTROL_LABELS = {'constant': 'constant action', 'none': 'no action'}
ENOUGH = 10  # rates of several seeds that estimate a correlation of their own


@dataclass(frozen=True)
class Kind:
    """What may have a correlation within seeds of its own; `recipe` None stands for all."""

    recipe: str | None
    sampled: bool
    outcome: str


@dataclass(frozen=True)
class Line:
    """
    What is known of one row.

    :param runs: tallies by run, of those that are scored on at least one case; one for each
        seed, none of a control.
    :param tallies: the same by case.
    :param correlations: of outcomes within a seed, see `correlate`; a control has no seeds.
    """

    table: str
    label: str
    runs: dict[RunSpec, list[Tally]]
    tallies: dict[Case, list[Tally]]
    correlations: Mapping[Kind, float] = field(default_factory=dict)

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds whose runs are scored."""
        return tuple(run.seed for run in self.runs)

    def counts(self, case: Case, outcome: str) -> tuple[list[int], list[int]]:
        """Return successes and trials of every seed."""
        found = self.tallies.get(case, [])
        return [getattr(tally, outcome) for tally in found], [tally.trials for tally in found]

    def rate(self, case: Case, outcome: str = 'strict') -> tuple[float, float, float] | None:
        """
        Return the mean rate and its interval, each 0..1; None where nothing was scored.

        :param outcome: 'strict', 'loose' or 'arm_only', see `Tally`.
        """
        worth = self.worth(case, outcome)
        return worth and (worth[0] / worth[1], *wilson_interval(*worth))

    def worth(self, case: Case, outcome: str = 'strict') -> tuple[float, float] | None:
        """Return successes and trials as `worth_of_seeds` counts them; None without any."""
        counts, trials = self.counts(case, outcome)
        if not trials:
            return None
        recipe = next(iter(self.runs)).recipe if self.runs else None
        return worth_of_seeds(counts, trials, self.correlations.get(
            Kind(recipe, case.sampled, outcome), 0.0))


def read_lines(folder: Path, rows: Sequence[Row]) -> list[Line]:
    """Read the counts of every row that has any, and of the controls each table needs."""
    lines = []
    for table, members in groupby(rows, key=lambda row: row.table):
        members = list(members)
        found = [_read_line(folder, row) for row in members]
        lines += [line for line in found if line.seeds]
        recipe = members[0].runs[0].recipe if members[0].runs else None
        if any(line.seeds for line in found):
            lines += [line for name in (recipe, *CONTROLS)
                      if (line := _read_control(folder, table, name)).tallies]
    known = correlate(lines)
    return [replace(line, correlations=known) if line.seeds else line for line in lines]


def _read_line(folder: Path, row: Row) -> Line:
    runs, tallies = {}, {}
    for run in row.runs:
        found = read_tallies(folder / 'runs' / run.key / SCORES)
        wanted = [found[case] for case in run.cases if case in found]
        if wanted:
            runs[run] = wanted
        for tally in wanted:
            tallies.setdefault(tally.case, []).append(tally)
    return Line(row.table, row.label, runs, tallies)


def _read_control(folder: Path, table: str, name: str) -> Line:
    found = read_tallies(controls_path(folder, name))
    return Line(table, CONTROL_LABELS.get(name, DATA), {},
                {case: [tally] for case, tally in found.items()})


def correlate(lines: Iterable[Line]) -> dict[Kind, float]:
    """
    Estimate the correlation of outcomes within seeds from all rows of several seeds.

    :returns: of every recipe that a line was trained on, way to act and outcome: from the rows of
        all recipes, or from its own where `ENOUGH` rates tell of it and they say more. (Theirs
        alone may be 0 by chance, and an interval would then be too sure.) 0 where nothing tells.
    """
    lines = [line for line in lines if line.seeds]
    cells: dict[Kind, dict] = {}
    for line in lines:
        first = next(iter(line.runs))
        for case in line.tallies:
            for outcome in OUTCOMES:
                for recipe in (first.recipe, None):
                    # A run may be in several tables, and counts once.
                    cells.setdefault(Kind(recipe, case.sampled, outcome), {})[first, case] = \
                        line.counts(case, outcome)
    known = {}
    for kind, rows in cells.items():
        telling = [row for row in rows.values() if seed_correlation([row]) is not None]
        everywhere = seed_correlation(list(cells[replace(kind, recipe=None)].values())) or 0.0
        own = seed_correlation(telling) if len(telling) >= ENOUGH else None
        known[kind] = max(own or 0.0, everywhere)
    return known
