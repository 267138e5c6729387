"""The contact sheet of an episode: frames with their actions, the goal, the course below."""

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.gridspec import SubplotSpec
import numpy as np
from stable_crl_ros.data.episode import Episode
from stable_crl_ros.data.listing import marks, seconds, shorten
from stable_crl_ros.data.timeline import (
    draw_bars,
    draw_timeline,
    Track,
    VERDICT_COLOURS,
    VERDICTS,
)
from stable_crl_ros.figures import drawing, GREY, show_picture, WIDTH

ACROSS = 7  # pictures in a row
BARS, CAPTION, PANEL, TITLE = 0.26, 0.2, 0.62, 0.62  # heights in inches


def write_sheet(episode: Episode, path: str | Path, camera: str | None = None) -> None:
    """
    Write the contact sheet: two rows of frames of one camera, or a row of each of several.

    :param path: a .png.
    :param camera: all of them when left out.
    :raises EpisodeError: for an unknown camera, or a damaged episode.
    """
    cameras = [camera] if camera else episode.cameras
    goal, track = episode.goal_image, Track.of(episode)
    count = (1 if len(cameras) > 1 else 2) * ACROSS - (goal is not None)
    steps = np.unique(np.linspace(0, episode.steps, count).round().astype(int))
    rows = [[(step, episode.image(name, step)) for step in steps.tolist()] for name in cameras]
    if goal is not None:
        rows[0].append(('goal', goal))
    if len(cameras) == 1:
        rows = [rows[0][:ACROSS], *([rows[0][ACROSS:]] if rows[0][ACROSS:] else [])]
    names = cameras if len(cameras) > 1 else [''] * len(rows)
    barred = [len(cameras) == 1 or row is rows[-1] for row in rows]
    heights = [_picture_height(row) + CAPTION + BARS * bars
               for row, bars in zip(rows, barred, strict=True)]
    below = PANEL * sum(track.heights) + 0.4
    with drawing(Path(path), sum(heights) + below + TITLE) as figure:
        _write_title(figure, episode)
        outer = figure.add_gridspec(len(rows) + 1, 1, height_ratios=[*heights, below])
        for place, row, name, bars in zip(outer, rows, names, barred, strict=False):
            _draw_row(figure, place, row, name, track.bars if bars else ())
        inner = outer[-1].subgridspec(len(track.panels), 1, height_ratios=track.heights)
        draw_timeline([figure.add_subplot(place) for place in inner], track, steps)


def describe(episode: Episode) -> tuple[str, str]:
    """Return a headline, and what else an onlooker wants to know."""
    attrs = episode.attrs
    when = datetime.fromtimestamp(attrs['created_ns'] / 1e9)
    facts = [f'{episode.steps} steps, {seconds(attrs):.1f} s', f'{attrs["control_rate"]:g} Hz',
             attrs['operator'], attrs['source'], f'{when:%Y-%m-%d %H:%M}', *marks(attrs)]
    headline = (f'episode {episode.id}   {shorten(attrs["task"], 60)}   '
                f'{VERDICTS[attrs["success"]]}')
    return headline, '  ·  '.join(fact for fact in facts if fact)


def _picture_height(row: list[tuple]) -> float:
    return WIDTH / ACROSS * max(image.shape[0] / image.shape[1] for _, image in row)


def _draw_row(figure: Figure, place: SubplotSpec, row: list[tuple], name: str,
              bars: Sequence[np.ndarray]) -> None:
    grid = place.subgridspec(2 if len(bars) else 1, ACROSS, hspace=0, wspace=0,
                             height_ratios=[_picture_height(row), BARS][:2 if len(bars) else 1])
    for column, (step, image) in enumerate(row):
        caption = f'{name}   {step}' if name and column == 0 else f'{step}'
        show_picture(figure.add_subplot(grid[0, column]), image, caption)
        if step in range(len(bars)):
            draw_bars(figure.add_subplot(grid[1, column]), bars[step])


def _write_title(figure: Figure, episode: Episode) -> None:
    headline, facts = describe(episode)
    colour = VERDICT_COLOURS[episode.attrs['success']]
    figure.suptitle(facts, x=0.01, ha='left', fontsize=7, color=GREY)
    figure.text(0.01, 1.0, headline, fontsize=10, fontweight='bold', color=colour)
