"""Draw what happened in an episode over its steps: motion, gripper, progress, who acted."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
import numpy as np
from stable_crl_ros.actions import ACTION_NAMES
from stable_crl_ros.arrival import ArrivalRule
from stable_crl_ros.data.episode import Episode
from stable_crl_ros.data.schema import Mode
from stable_crl_ros.figures import COLOURS, FAINT, GREY
from stable_crl_ros.robot.limits import ArmLimits

MODE_COLOURS = {Mode.IDLE: FAINT, Mode.POLICY: COLOURS[0], Mode.TELEOP: COLOURS[4],
                Mode.SCRIPT: COLOURS[2]}
AXES = COLOURS[1], COLOURS[2], COLOURS[0]  # x, y, z
BAR_COLOURS = (*AXES, *AXES, GREY)  # in the order of `ACTION_NAMES`
CHANGED, OVERRIDDEN = '#000000', COLOURS[3]
VERDICTS = {True: 'success', False: 'failure', None: 'not judged'}
VERDICT_COLOURS = {True: COLOURS[2], False: COLOURS[1], None: GREY}
RIBBON = 'ribbon'
HEIGHTS = {RIBBON: 0.16, 'translation': 1, 'rotation': 1, 'gripper': 0.5, 'progress': 0.6,
           'to go': 0.6, 'at goal': 0.4}
LEAST_BAR = 0.2  # of the arm's limits: smaller actions are not drawn as if they were large


@dataclass(frozen=True)
class Track:
    """
    What the drawings show of an episode of T steps, beside its images.

    :param action: (T, 7) as recorded.
    :param bars: (T, 7) -1 .. 1, as parts of the episode's largest motion; gripper 0 .. 1.
    :param gripper: (T + 1,) measured.
    :param progress: (T,) the critic's own number; NaN: none.
    :param steps_to_go: (T,) what calibration makes of it, `at_goal` the probability of being
        there; NaN: none.
    :param done: bool, shape (T,): the policy said that the goal counts as reached.
    :param changed: bool, shape (T,): the arm clipped or refused the step.
    :param first: number of the first step.
    """

    action: np.ndarray
    bars: np.ndarray
    gripper: np.ndarray
    progress: np.ndarray
    steps_to_go: np.ndarray
    at_goal: np.ndarray
    done: np.ndarray
    mode: np.ndarray
    intervention: np.ndarray
    changed: np.ndarray
    success: bool | None
    first: int = 0

    @classmethod
    def of(cls, episode: Episode) -> 'Track':
        """Read it from an episode."""
        action = episode['action']
        return cls(action, scale_bars(action), episode['gripper'],
                   episode['progress'], episode['steps_to_go'], episode['at_goal'],
                   episode['done'], episode['mode'], episode['intervention'],
                   episode['flags'] != 0, episode.attrs['success'])

    @property
    def panels(self) -> list[str]:
        """Names of the panels worth drawing, top to bottom."""
        calibrated = np.isfinite(self.at_goal).any()
        missing = ('progress',) if calibrated else ('to go', 'at goal')
        if not calibrated and not np.isfinite(self.progress).any():
            missing += ('progress',)
        return [name for name in HEIGHTS if name not in missing]

    @property
    def heights(self) -> list[float]:
        """Heights of those panels, as parts of a whole one."""
        return [HEIGHTS[name] for name in self.panels]


def scale_bars(action: np.ndarray) -> np.ndarray:
    """Return actions, (T, 7), as `Track.bars` shows them."""
    limits = ArmLimits()
    bars = action.copy()
    for columns, limit in ((slice(0, 3), limits.max_translation),
                           (slice(3, 6), limits.max_rotation)):
        motion = np.abs(action[:, columns])
        bars[:, columns] /= max(LEAST_BAR * limit, motion.max(initial=0.0))
    return np.clip(bars, -1, 1)


def draw_timeline(panels: Sequence[Axes], track: Track, marked: Iterable[int] = ()) -> None:
    """
    Draw the panels of a track.

    :param panels: one per name in `track.panels`, in that order.
    :param marked: steps that get a thin line.
    """
    drawing = {RIBBON: _draw_ribbon, 'translation': _draw_translation, 'rotation': _draw_rotation,
               'gripper': _draw_gripper, 'progress': _draw_progress, 'to go': _draw_to_go,
               'at goal': _draw_at_goal}
    for axes, name in zip(panels, track.panels, strict=True):
        drawing[name](axes, track)
        axes.set_xlim(0, max(1, len(track.action)))
        axes.margins(x=0)
        if name != RIBBON:
            for step in marked:
                axes.axvline(step, color=FAINT, linewidth=0.4, zorder=0)
        if axes is not panels[-1]:
            axes.tick_params(labelbottom=False, bottom=False)
    panels[-1].set_xlabel('step')
    if track.first:
        panels[-1].xaxis.set_major_formatter(lambda x, _: f'{x + track.first:.0f}')


def draw_bars(axes: Axes, values: np.ndarray, named: bool = False) -> None:
    """
    Draw one action as seven bars.

    :param values: (7,) a row of `Track.bars`.
    :param named: write what each is below it.
    """
    axes.bar(range(len(values)), values, width=0.75, color=BAR_COLOURS)
    axes.axhline(0, color=FAINT, linewidth=0.6, zorder=0)
    axes.set_ylim(-1.05, 1.05)
    axes.set_xlim(-0.7, len(values) - 0.3)
    axes.set_yticks([])
    axes.set_xticks(range(len(values)) if named else [], ACTION_NAMES if named else [],
                    rotation=90)
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)


def _draw_ribbon(axes: Axes, track: Track) -> None:
    edges = np.arange(len(track.action) + 1)
    for mode in Mode:
        chosen = np.flatnonzero(track.mode == mode)
        axes.broken_barh([(edges[step], 1) for step in chosen], (0, 1), linewidth=0,
                         color=MODE_COLOURS[mode], label=mode.name.lower() if len(chosen) else '_')
    for chosen, colour, label in ((track.intervention, OVERRIDDEN, 'intervention'),
                                  (track.changed, CHANGED, 'clipped or refused')):
        steps = np.flatnonzero(chosen)
        axes.plot(steps + 0.5, np.full(len(steps), 0.5), '|', color=colour, markersize=5,
                  markeredgewidth=0.9, label=label if len(steps) else '_')
    axes.set_ylim(0, 1)
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.text(1.01, 0.5, VERDICTS[track.success], transform=axes.transAxes, va='center',
              fontsize=7.5, fontweight='bold', color=VERDICT_COLOURS[track.success])
    if len(track.mode):
        axes.legend(loc='lower left', bbox_to_anchor=(-0.005, 0.9), ncols=6, fontsize=6.5,
                    handlelength=1, handletextpad=0.5, columnspacing=1.2, borderpad=0)


def _draw_translation(axes: Axes, track: Track) -> None:
    _draw_components(axes, 100 * track.action[:, :3], 'move\ncm/step', 'xyz')


def _draw_rotation(axes: Axes, track: Track) -> None:
    _draw_components(axes, np.degrees(track.action[:, 3:6]), 'turn\n°/step',
                     ('roll', 'pitch', 'yaw'))


def _draw_components(axes: Axes, values: np.ndarray, title: str, names: Sequence[str]) -> None:
    axes.axhline(0, color=FAINT, linewidth=0.6)
    for column, colour, name in zip(values.T, AXES, names, strict=True):
        axes.stairs(column, color=colour, linewidth=1, label=name, baseline=None)
    _title(axes, title)
    _legend(axes)


def _draw_gripper(axes: Axes, track: Track) -> None:
    axes.stairs(track.action[:, 6], color=GREY, linewidth=1, label='asked', baseline=None)
    if np.isfinite(track.gripper).any():
        axes.plot(track.gripper, color=COLOURS[4], linewidth=1, label='measured')
    axes.set_ylim(-0.1, 1.1)
    axes.set_yticks([0, 1], ['closed', 'open'])
    _title(axes, 'gripper')
    _legend(axes)


def _draw_progress(axes: Axes, track: Track) -> None:
    _draw_curve(axes, track.progress, 'progress')


def _draw_to_go(axes: Axes, track: Track) -> None:
    _draw_curve(axes, track.steps_to_go, 'steps\nto go')
    axes.set_ylim(bottom=0)


def _draw_at_goal(axes: Axes, track: Track) -> None:
    _draw_curve(axes, track.at_goal, 'at goal')
    axes.broken_barh([(step, 1) for step in np.flatnonzero(track.done)], (-0.05, 1.1),
                     linewidth=0, color=COLOURS[2], alpha=0.25, zorder=0,
                     label='done' if track.done.any() else '_')
    if track.done.any():
        _legend(axes)
    axes.axhline(ArrivalRule().threshold, color=FAINT, linewidth=0.6, zorder=0)
    axes.set_ylim(-0.05, 1.05)
    axes.set_yticks([0, 1], ['0', '1'])


def _draw_curve(axes: Axes, values: np.ndarray, title: str) -> None:
    axes.plot(np.arange(len(values)) + 0.5, values, color=COLOURS[0], linewidth=1)
    _title(axes, title)


def _title(axes: Axes, text: str) -> None:
    axes.set_ylabel(text, rotation=0, ha='right', va='center', labelpad=6)


def _legend(axes: Axes) -> None:
    axes.legend(loc='center left', bbox_to_anchor=(1, 0.5), fontsize=6.5, handlelength=1,
                borderpad=0.2)
