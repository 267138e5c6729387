"""An episode as an mp4: the cameras and the goal, below them what was done so far."""

from collections.abc import Callable, Iterator, Sequence
import contextlib
from pathlib import Path

import cv2
import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
import numpy as np
from stable_crl_ros.data.episode import Episode, EpisodeError
from stable_crl_ros.data.sheet import describe
from stable_crl_ros.data.timeline import (
    BAR_COLOURS,
    draw_bars,
    draw_timeline,
    Track,
    VERDICT_COLOURS,
)
from stable_crl_ros.figures import GREY, STYLE

WHITE = 255
GAP = 8  # pixels between the pictures
NARROWEST = 800  # pixels
DPI = 100
# Pixels.
HEADER, CAPTION, PANEL = 48, 22, 80  # heights; the last of a whole panel
LEFT, LEGEND, BARS = 100, 100, 150  # widths
CURSOR = (60, 60, 60)


def write_video(episode: Episode, path: str | Path, camera: str | None = None,
                height: int = 240, speed: float = 1.0,
                progress: Callable[[int, int], None] | None = None) -> None:
    """
    Write an mp4: observations and goal above, actions, gripper and progress below.

    :param path: the .mp4 file.
    :param camera: all of them when left out.
    :param height: of the pictures, pixels.
    :param speed: 1: as fast as it was recorded.
    :param progress: called with the frames done and their total.
    :raises EpisodeError: when OpenCV cannot write it, or an image is damaged.
    """
    cameras = [camera] if camera else episode.cameras
    goal = episode.goal_image
    page = _Page(episode, cameras, goal, height)
    with _writer(Path(path), episode.attrs['control_rate'] * speed, page.size) as write:
        frames = zip(*map(episode.frames, cameras), strict=True)
        for step, images in enumerate(frames):
            write(page.frame(step, images))
            if progress:
                progress(step + 1, episode.steps + 1)


class _Page:
    """What stays the same on every frame is drawn once; the rest is drawn onto a copy."""

    def __init__(self, episode: Episode, cameras: Sequence[str], goal: np.ndarray | None,
                 height: int) -> None:
        self._track, self._rate = Track.of(episode), episode.attrs['control_rate']
        sizes = [episode.attrs['cameras'][name] for name in cameras]
        sizes += [goal.shape[:2]] if goal is not None else []
        widths = [max(1, round(width * height / tall)) for tall, width in sizes]
        total = max(NARROWEST, sum(widths) + GAP * (len(widths) - 1)) // 2 * 2
        left = (total - sum(widths) - GAP * (len(widths) - 1)) // 2
        self._lefts = [left + sum(widths[:index]) + GAP * index for index in range(len(widths))]
        self._widths, self._height = widths, height
        lower = round(PANEL * sum(self._track.heights)) + 70
        self._top = HEADER + CAPTION
        self.size = (total, (self._top + height + lower) // 2 * 2)
        names = [*(cameras if len(cameras) > 1 else ['']), *(['goal'] if goal is not None else [])]
        self._draw(episode, names)
        if goal is not None:
            self._put(self._still, len(cameras), goal)

    def frame(self, step: int, images: Sequence[np.ndarray]) -> np.ndarray:
        """Return one frame, uint8 RGB."""
        frame = self._still.copy()
        for index, image in enumerate(images):
            self._put(frame, index, image)
        steps = len(self._track.action)
        text, place = f'{step} of {steps}, {step / self._rate:.1f} s', (
            self.size[0] - BARS, self._top + self._height + 26)  # above the bars
        cv2.putText(frame, text, place, cv2.FONT_HERSHEY_SIMPLEX, 0.5, CURSOR, 1, cv2.LINE_AA)
        for axes in self._panels:
            x, _ = self._pixel(axes, min(step, steps), 0)
            low, high = axes.get_window_extent().y0, axes.get_window_extent().y1
            cv2.line(frame, (x, round(self.size[1] - high)), (x, round(self.size[1] - low)),
                     CURSOR, 1)
        if step < steps:
            self._put_bars(frame, self._track.bars[step])
        return frame

    def _draw(self, episode: Episode, names: Sequence[str]) -> None:
        width, height = self.size
        with matplotlib.rc_context({**STYLE, 'figure.constrained_layout.use': False}):
            figure = Figure(figsize=(width / DPI, height / DPI), dpi=DPI)
            canvas = FigureCanvasAgg(figure)
            headline, facts = describe(episode)
            figure.text(10 / width, 1 - 22 / height, headline, fontsize=11, fontweight='bold',
                        color=VERDICT_COLOURS[episode.attrs['success']])
            figure.text(10 / width, 1 - 42 / height, facts, fontsize=7.5, color=GREY)
            for name, left in zip(names, self._lefts, strict=True):
                figure.text(left / width, 1 - (self._top - 6) / height, name, fontsize=8)
            lower = height - self._top - self._height
            grid = figure.add_gridspec(
                len(self._track.panels), 1, height_ratios=self._track.heights, hspace=0.35,
                left=LEFT / width, right=1 - (BARS + LEGEND) / width, bottom=46 / height,
                top=(lower - 24) / height)
            self._panels = [figure.add_subplot(place) for place in grid]
            draw_timeline(self._panels, self._track)
            self._bars = figure.add_axes(((width - BARS - 10) / width, 60 / height, BARS / width,
                                          (lower - 84) / height))
            draw_bars(self._bars, np.zeros(7), named=True)
            canvas.draw()
            self._still = np.asarray(canvas.buffer_rgba())[..., :3].copy()

    def _put(self, frame: np.ndarray, index: int, image: np.ndarray) -> None:
        smaller = self._height < image.shape[0]
        scaled = cv2.resize(image, (self._widths[index], self._height),
                            interpolation=cv2.INTER_AREA if smaller else cv2.INTER_NEAREST)
        left = self._lefts[index]
        frame[self._top:self._top + self._height, left:left + self._widths[index]] = scaled

    def _put_bars(self, frame: np.ndarray, values: np.ndarray) -> None:
        for position, (value, colour) in enumerate(zip(values, BAR_COLOURS, strict=True)):
            left, zero = self._pixel(self._bars, position - 0.38, 0)
            right, end = self._pixel(self._bars, position + 0.38, float(value))
            rgb = tuple(round(255 * part) for part in matplotlib.colors.to_rgb(colour))
            cv2.rectangle(frame, (left, zero), (right, end), rgb, cv2.FILLED)

    def _pixel(self, axes: Axes, x: float, y: float) -> tuple[int, int]:
        right, up = axes.transData.transform((x, y))
        return round(float(right)), round(self.size[1] - float(up))


@contextlib.contextmanager
def _writer(path: Path, rate: float, size: tuple[int, int]) -> Iterator[Callable]:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*'mp4v'), rate, size)
    if not writer.isOpened():
        raise EpisodeError(f'{path}: OpenCV cannot write this video; give a writable .mp4 path')
    try:
        yield lambda frame: writer.write(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
    finally:
        writer.release()
