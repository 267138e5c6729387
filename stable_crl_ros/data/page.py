"""One picture of what goes on: cameras and goal, what was done so far, the action as bars."""

from collections.abc import Mapping, Sequence

import cv2
import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
import numpy as np
from stable_crl_ros.data.timeline import BAR_COLOURS, draw_bars, draw_timeline, Track
from stable_crl_ros.figures import GREY, STYLE

GAP = 8  # pixels between the pictures
NARROWEST = 800  # pixels
DPI = 100
# Pixels.
HEADER, CAPTION, PANEL = 48, 22, 80  # heights; the last of a whole panel
LEFT, LEGEND, BARS = 100, 100, 150  # widths
CURSOR = (60, 60, 60)


class Page:
    """
    What stays the same on every frame is drawn once; the rest is drawn onto a copy.

    :param track: of all steps that the page shows.
    :param rate: control steps per second.
    :param sizes: rows and columns of every camera's images, by its name.
    :param goal: the goal image, uint8 RGB; None for none.
    :param height: of the pictures, pixels.
    :param title: headline, what stands below it, and the headline's colour.
    """

    def __init__(self, track: Track, rate: float, sizes: Mapping[str, Sequence[int]],
                 goal: np.ndarray | None, height: int, title: tuple[str, str, str]) -> None:
        self._track, self._rate = track, rate
        names = [*(sizes if len(sizes) > 1 else ['']), *(['goal'] if goal is not None else [])]
        shapes = [*sizes.values(), *([goal.shape[:2]] if goal is not None else [])]
        widths = [max(1, round(width * height / tall)) for tall, width in shapes]
        total = max(NARROWEST, sum(widths) + GAP * (len(widths) - 1)) // 2 * 2
        left = (total - sum(widths) - GAP * (len(widths) - 1)) // 2
        self._lefts = [left + sum(widths[:index]) + GAP * index for index in range(len(widths))]
        self._widths, self._height = widths, height
        lower = round(PANEL * sum(self._track.heights)) + 70
        self._top = HEADER + CAPTION
        self.size = (total, (self._top + height + lower) // 2 * 2)
        self._draw(names, title)
        if goal is not None:
            self._put(self._still, len(sizes), goal)

    def frame(self, step: int, images: Sequence[np.ndarray]) -> np.ndarray:
        """
        Return one frame.

        :param step: of the track; its length for the end, where there is no action.
        :param images: of every camera, uint8 RGB.
        :returns: uint8 RGB of `size` (columns, rows).
        """
        frame = self._still.copy()
        for index, image in enumerate(images):
            self._put(frame, index, image)
        steps = len(self._track.action)
        first = self._track.first
        text, place = f'{first + step} of {first + steps}, {(first + step) / self._rate:.1f} s', (
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

    def _draw(self, names: Sequence[str], title: tuple[str, str, str]) -> None:
        width, height = self.size
        with matplotlib.rc_context({**STYLE, 'figure.constrained_layout.use': False}):
            figure = Figure(figsize=(width / DPI, height / DPI), dpi=DPI)
            canvas = FigureCanvasAgg(figure)
            headline, facts, colour = title
            figure.text(10 / width, 1 - 22 / height, headline, fontsize=11, fontweight='bold',
                        color=colour)
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
