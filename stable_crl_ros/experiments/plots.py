"""Pictures of a suite's tables: one panel per goal, one dot with its interval per line."""

from collections.abc import Sequence
from pathlib import Path

from stable_crl_ros.experiments.plan import Case, GOALS
from stable_crl_ros.figures import COLOURS, drawing, GREY

LINE_HEIGHT, MARGIN = 0.19, 0.6  # inches


def plot_table(lines: Sequence, path: Path) -> Path:
    """
    Draw the success rates (strict tolerance, mode actions) of a table's lines.

    :param lines: `tables.Line`s of one table.
    :returns: `path`, a PNG.
    """
    appearances = sorted({case.appearance for line in lines for case in line.tallies})
    entries = [(line, appearance) for line in lines for appearance in appearances
               if any(case.appearance == appearance for case in line.tallies)]
    goals = [goal for goal in GOALS if any(Case(goal) in line.tallies for line in lines)]
    path.parent.mkdir(parents=True, exist_ok=True)
    with drawing(path, LINE_HEIGHT * len(entries) + MARGIN) as figure:
        panels = figure.subplots(1, len(goals), sharey=True, squeeze=False)[0]
        for panel, goal in zip(panels, goals, strict=True):
            _draw_panel(panel, goal, entries)
        figure.supxlabel('success rate within the strict tolerance, % (95 % interval)', fontsize=8)
    return path


def _draw_panel(panel, goal: str, entries: Sequence[tuple]) -> None:
    for height, (line, appearance) in enumerate(entries):
        rate = line.rate(Case(goal, appearance))
        if rate is None:
            continue
        mean, low, high = (100 * value for value in rate)
        colour = COLOURS[0] if line.seeds else GREY
        panel.plot([low, high], [height, height], color=colour, linewidth=1.4)
        panel.plot([mean], [height], 'o', color=colour)
    several = len({appearance for _, appearance in entries}) > 1
    panel.set_yticks(range(len(entries)), [
        _name(line, appearance if several else None) for line, appearance in entries])
    panel.set_ylim(len(entries) - 0.5, -0.5)
    panel.set_xlim(-4, 104)
    panel.set_xticks([0, 50, 100])
    panel.grid(axis='x', color='#dddddd', linewidth=0.6)
    panel.set_title(goal.replace('_', ' '), fontsize=7, fontweight='normal')
    panel.spines['left'].set_visible(False)
    panel.tick_params(axis='y', length=0)


def _name(line, appearance: str | None) -> str:
    seeds = len(line.seeds)
    told = {0: None, 1: '1 seed'}.get(seeds, f'{seeds} seeds')
    return ', '.join(filter(None, (line.label, appearance, told)))
