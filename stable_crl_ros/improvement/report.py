"""The history of a loop as a page and a plot."""

from collections.abc import Sequence
from pathlib import Path

from stable_crl_ros.durable import write_atomic
from stable_crl_ros.figures import COLOURS, drawing, GREY, panels
from stable_crl_ros.improvement.history import History
from stable_crl_ros.improvement.rule import CANDIDATE, RUNNING
from stable_crl_ros.trials.report import markdown_table

PAGE, PLOT = 'history.md', 'history.png'
HEIGHT = 2.6  # inches
LOOKS = {RUNNING: (COLOURS[0], 'o', -0.1), CANDIDATE: (COLOURS[1], 's', 0.1)}


def write_history(history: History) -> Path:
    """Write page and plot of the rounds that were decided; return the page."""
    decided = [entry for entry in history.rounds if 'decision' in entry]
    settings = history.settings
    parts = [
        '# History of a loop of improvement\n',
        f'Began with `{settings.checkpoint}` ({settings.sha256[:12]}), robot {settings.robot}; '
        f'each round: {settings.episodes} autonomous episodes towards '
        f'{", ".join(settings.goals)} in turn (the scene set anew every '
        f'{settings.reset_every}), {settings.steps} gradient steps on them and all before them'
        f'{" and " + ", ".join(settings.datasets) if settings.datasets else ""}, '
        f'{settings.trials} trials per goal and checkpoint. Rule: {settings.rule.describe()}. '
        f'Seed {settings.seed}. Intervals are of 95 %.\n',
        f'![Success rates by round]({PLOT})\n',
        _rounds(decided)]
    if len(decided) > 1 and settings.rule.name == 'better':
        parts.append(f'\nEach round tests anew: over {len(decided)} rounds, candidates no better '
                     'than what runs would be adopted at least once with a probability of up to '
                     f'{100 * (1 - (1 - settings.rule.alpha) ** len(decided)):.0f} %.')
    if history.final and 'decision' in history.final:
        parts += ['\n## In the end against the beginning\n',
                  'On scenes that decided nothing.\n', _rates(history.final)]
        parts.append(f'\n{_summary(history.final["decision"])}')
    elif history.final:
        parts.append('\nNothing was adopted.')
    with drawing(history.folder / PLOT, HEIGHT) as figure:
        axes = panels(figure, len(settings.goals), 3, sharey=True)
        for panel, goal in zip(axes, settings.goals, strict=True):
            _draw(panel, goal, decided)
        axes[0].set_ylabel('success rate, % (95 % interval)')
        if axes[0].get_legend_handles_labels()[0]:
            axes[0].legend()
    write_atomic(history.folder / PAGE, ('\n'.join(parts) + '\n').encode())
    return history.folder / PAGE


def _rounds(decided: Sequence[dict]) -> str:
    rows = []
    for entry in decided:
        decision = entry['decision']
        rows.append([
            str(entry['round']), str(entry['collected']['steps']),
            *('<br>'.join(_rate(rate) for rate in entry['rates'] if rate['checkpoint'] == name)
              for name in (RUNNING, CANDIDATE)),
            _alone(decision), f'{decision["p"]:.2g}',
            '**adopted**' if decision['adopt'] else 'kept what runs', entry.get('adopted', '')])
    return markdown_table(['round', 'new steps', 'running', 'candidate',
                           'candidate alone / running alone', 'p (one-sided)', 'decision',
                           'swap'], rows)


def _rate(rate: dict) -> str:
    return (f'{rate["goal"]} {rate["successes"]}/{rate["trials"]} [{100 * rate["low"]:.0f}, '
            f'{100 * rate["high"]:.0f}]')


def _alone(decision: dict) -> str:
    return 'not paired' if decision['better'] is None else (
        f'{decision["better"]} / {decision["worse"]}')


def _rates(final: dict) -> str:
    names = {RUNNING: 'beginning', CANDIDATE: 'end'}
    return markdown_table(['goal', 'checkpoint', 'successes', 'rate (95 %)'], [
        [rate['goal'], names[rate['checkpoint']], f'{rate["successes"]}/{rate["trials"]}',
         f'{100 * rate["successes"] / rate["trials"]:.0f} % [{100 * rate["low"]:.0f}, '
         f'{100 * rate["high"]:.0f}]'] for rate in final['rates']])


def _summary(decision: dict) -> str:
    alone = '' if decision['better'] is None else (
        f'{decision["better"]} scenes the end alone mastered, {decision["worse"]} the beginning '
        'alone; ')
    return f'{alone}one-sided exact p = {decision["p"]:.2g}.'


def _draw(panel, goal: str, decided: Sequence[dict]) -> None:
    for entry in decided:
        for rate in (rate for rate in entry['rates'] if rate['goal'] == goal):
            colour, marker, aside = LOOKS[rate['checkpoint']]
            x, share = entry['round'] + aside, 100 * rate['successes'] / rate['trials']
            panel.plot([x, x], [100 * rate['low'], 100 * rate['high']], color=colour)
            filled = rate['checkpoint'] == RUNNING or entry['decision']['adopt']
            panel.plot([x], [share], marker, color=colour,
                       markerfacecolor=colour if filled else 'white',
                       label=rate['checkpoint'] if entry is decided[0] else None)
    panel.set_title(goal.replace('_', ' '))
    panel.set_xticks([entry['round'] for entry in decided])
    panel.set_xlabel('round (hollow: not adopted)', color=GREY)
    panel.set_ylim(-3, 103)
