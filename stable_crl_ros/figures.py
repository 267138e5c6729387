"""One restrained look for all figures, and the parts they share."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
import numpy as np
from stable_crl_ros.durable import replace_atomically

WIDTH = 7.5  # inches; at DPI this is what a README shows unscaled on a sharp screen
DPI = 200
# Told apart with every kind of colour vision (Okabe and Ito).
COLOURS = ('#0072B2', '#D55E00', '#009E73', '#CC79A7', '#E69F00', '#56B4E9')
GREY, FAINT = '#555555', '#BBBBBB'
MARKERS = ('o', 's', '^', 'D', 'v', 'P')
STYLE = {
    'font.family': 'DejaVu Sans', 'font.size': 8, 'axes.titlesize': 8.5, 'axes.labelsize': 8,
    'axes.titleweight': 'bold', 'axes.titlelocation': 'left', 'axes.spines.top': False,
    'axes.spines.right': False, 'axes.edgecolor': GREY, 'axes.linewidth': 0.7,
    'xtick.color': GREY, 'ytick.color': GREY, 'xtick.labelsize': 7.5, 'ytick.labelsize': 7.5,
    'legend.frameon': False, 'legend.fontsize': 7.5, 'lines.linewidth': 1.6,
    'lines.markersize': 3.5, 'axes.prop_cycle': matplotlib.cycler(color=COLOURS),
    'figure.facecolor': 'white', 'figure.constrained_layout.use': True, 'savefig.dpi': DPI,
}


@contextmanager
def drawing(path: Path, height: float) -> Iterator[Figure]:
    """
    Give an empty figure, and save it to `path` as a PNG in the end.

    :param height: inches.
    """
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, height))
        FigureCanvasAgg(figure)  # needs no screen, whatever backend is chosen
        yield figure
        replace_atomically(path, lambda temporary: figure.savefig(
            temporary, format='png', bbox_inches='tight', pad_inches=0.04))


def band(axes: Axes, x: np.ndarray, curve: tuple[np.ndarray, np.ndarray, np.ndarray],
         label: str, colour: str, **line: object) -> None:
    """Draw a mean and its interval: `curve` is mean, low, high, as `mean_band` returns."""
    mean, low, high = curve
    axes.fill_between(x, low, high, color=colour, alpha=0.18, linewidth=0)
    axes.plot(x, mean, color=colour, label=label, **line)


def show_picture(axes: Axes, image: np.ndarray, title: str = '',
                 below: str = '') -> None:
    """Show uint8 RGB without ticks, with a word above and one below."""
    axes.imshow(image, interpolation='nearest')
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(False)
    if title:
        axes.set_title(title, loc='center', fontweight='normal', fontsize=7.5, pad=3)
    if below:
        axes.set_xlabel(below, fontsize=6.5, color=GREY, labelpad=1.5)


def panels(figure: Figure, count: int, across: int = 3, **grid: object) -> list[Axes]:
    """
    Lay out so many panels, `across` in a row at most.

    :param grid: further arguments of `Figure.subplots`.
    """
    across = min(count, across)
    axes = figure.subplots(-(-count // across), across, squeeze=False, **grid).ravel()
    for spare in axes[count:]:
        spare.remove()
    return list(axes[:count])
