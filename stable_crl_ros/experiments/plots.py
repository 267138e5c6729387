"""Pictures of a suite's tables: one panel per goal, one dot with its interval per line."""

from collections.abc import Sequence
from pathlib import Path

from stable_crl_ros.experiments.plan import Case, GOALS

PANEL_WIDTH, LINE_HEIGHT, MARGIN = 1.7, 0.24, 1.0  # inches
POLICY, CONTROL = '#1f5fa8', '#8a8a8a'


def plot_table(lines: Sequence, path: Path) -> Path:
    """
    Draw the success rates (strict tolerance, mode actions) of a table's lines.

    :param lines: `tables.Line`s of one table.
    :returns: `path`, a PNG.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    appearances = sorted({case.appearance for line in lines for case in line.tallies})
    entries = [(line, appearance) for line in lines for appearance in appearances
               if any(case.appearance == appearance for case in line.tallies)]
    goals = [goal for goal in GOALS if any(Case(goal) in line.tallies for line in lines)]
    figure = Figure(figsize=(PANEL_WIDTH * len(goals) + 2.2, LINE_HEIGHT * len(entries) + MARGIN),
                    layout='constrained')
    FigureCanvasAgg(figure)
    for panel, goal in zip(figure.subplots(1, len(goals), sharey=True, squeeze=False)[0], goals,
                           strict=True):
        _draw_panel(panel, goal, entries)
    figure.supxlabel('success rate, % (95 % interval)', fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    return path


def _draw_panel(panel, goal: str, entries: Sequence[tuple]) -> None:
    for height, (line, appearance) in enumerate(entries):
        rate = line.rate(Case(goal, appearance))
        if rate is None:
            continue
        mean, low, high = (100 * value for value in rate)
        colour = POLICY if line.seeds else CONTROL
        panel.plot([low, high], [height, height], color=colour, linewidth=1.6)
        panel.plot([mean], [height], 'o', color=colour, markersize=4)
    several = len({appearance for _, appearance in entries}) > 1
    panel.set_yticks(range(len(entries)), [
        f'{line.label}, {appearance}' if several else line.label for line, appearance in entries],
        fontsize=8)
    panel.set_ylim(len(entries) - 0.5, -0.5)
    panel.set_xlim(-4, 104)
    panel.set_xticks([0, 50, 100])
    panel.tick_params(labelsize=8)
    panel.grid(axis='x', color='#dddddd', linewidth=0.6)
    panel.set_title(goal.replace('_', ' '), fontsize=8)
    for side in ('top', 'right', 'left'):
        panel.spines[side].set_visible(False)
    panel.tick_params(axis='y', length=0)
