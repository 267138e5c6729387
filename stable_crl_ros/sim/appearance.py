"""How the scene looks: where the camera stands and what colours things have."""

import colorsys
from dataclasses import dataclass
import math

import numpy as np

Interval = tuple[float, float]
Colour = tuple[float, float, float]  # red, green, blue, 0..1


class AppearanceError(ValueError):
    """A look that the scene cannot have, or a split that does not exist."""


@dataclass(frozen=True)
class Appearance:
    """
    What may differ between two laboratories that do the same; the default is the nominal scene.

    :param camera_yaw: rad by which the camera goes around the scene, about the vertical.
    :param camera_pitch: rad by which it goes up.
    :param camera_shift: (3,) m by which it is moved after that, in base_link.
    :param drawer: colour of the drawer's front and sides.
    :param block: colour of the block.
    :param table: colour of the table.
    :raises AppearanceError: for numbers that are not finite, or colours outside 0..1.
    """

    camera_yaw: float = 0.0
    camera_pitch: float = 0.0
    camera_shift: tuple[float, float, float] = (0.0, 0.0, 0.0)
    drawer: Colour = (0.8, 0.1, 0.12)
    block: Colour = (0.05, 0.9, 0.15)
    table: Colour = (0.72, 0.64, 0.52)

    def __post_init__(self) -> None:
        numbers = (self.camera_yaw, self.camera_pitch, *self.camera_shift)
        if len(self.camera_shift) != 3 or not all(math.isfinite(value) for value in numbers):
            raise AppearanceError(f'a camera is moved by finite yaw, pitch and 3 metres; got '
                                  f'{self.camera_yaw}, {self.camera_pitch}, {self.camera_shift}')
        for name in ('drawer', 'block', 'table'):
            colour = getattr(self, name)
            if len(colour) != 3 or not all(0.0 <= value <= 1.0 for value in colour):
                raise AppearanceError(f'{name} colour {colour} is not 3 numbers 0 to 1')

    def to_dict(self) -> dict:
        """Return plain values, as stored with an episode."""
        return {name: list(value) if isinstance(value, tuple) else value
                for name, value in vars(self).items()}


@dataclass(frozen=True)
class Ranges:
    """
    What one split draws: each value from one of some intervals, the longer the likelier.

    Hues are those of HSV, 0..1 around the circle; a hue above 1 is one turn further.
    """

    camera_yaw: tuple[Interval, ...]  # rad
    camera_pitch: tuple[Interval, ...]  # rad
    camera_shift: Interval  # m, each axis
    drawer_hue: tuple[Interval, ...]
    block_hue: tuple[Interval, ...]
    table_hue: tuple[Interval, ...]


# Camera steps of the size of the paper's generalisation set (yaw 10, pitch 8 degrees). Within a
# split the block's hues are far from those of the drawer, its blue floor, the fingers' cyan and
# the table.
RANGES = {
    'seen': Ranges(
        camera_yaw=((-0.18, 0.18),), camera_pitch=((-0.10, 0.10),), camera_shift=(-0.01, 0.01),
        drawer_hue=((0.96, 1.08),), block_hue=((0.27, 0.42), (0.74, 0.82)),
        table_hue=((0.06, 0.14),)),
    'unseen': Ranges(
        camera_yaw=((-0.30, -0.21), (0.21, 0.30)), camera_pitch=((-0.16, -0.12), (0.12, 0.16)),
        camera_shift=(-0.01, 0.01),
        drawer_hue=((0.30, 0.42),), block_hue=((0.85, 0.93),),
        table_hue=((0.55, 0.68),)),
}
SPLITS = ('nominal', *RANGES)


def check_split(split: str) -> None:
    """
    Refuse an unknown split.

    :raises AppearanceError: listing those there are.
    """
    if split not in SPLITS:
        raise AppearanceError(f'no appearances {split!r}; choose one of {list(SPLITS)}')


def sample_appearance(rng: np.random.Generator, split: str) -> Appearance:
    """
    Draw a look.

    :param split: 'nominal' (nothing is drawn), 'seen', or 'unseen', whose camera poses and hues
        all lie outside what 'seen' draws.
    :raises AppearanceError: for another split.
    """
    check_split(split)
    if split == 'nominal':
        return Appearance()
    ranges = RANGES[split]
    return Appearance(
        camera_yaw=_draw(rng, ranges.camera_yaw), camera_pitch=_draw(rng, ranges.camera_pitch),
        camera_shift=tuple(float(value) for value in rng.uniform(*ranges.camera_shift, 3)),
        drawer=_colour(_draw(rng, ranges.drawer_hue), rng.uniform(0.8, 0.95), 0.8),
        block=_colour(_draw(rng, ranges.block_hue), rng.uniform(0.85, 0.97), 0.9),
        table=_colour(_draw(rng, ranges.table_hue), rng.uniform(0.18, 0.32),
                      rng.uniform(0.6, 0.78)))


def _draw(rng: np.random.Generator, intervals: tuple[Interval, ...]) -> float:
    lengths = np.array([high - low for low, high in intervals])
    low, high = intervals[rng.choice(len(intervals), p=lengths / lengths.sum())]
    return float(rng.uniform(low, high))


def _colour(hue: float, saturation: float, brightness: float) -> Colour:
    return colorsys.hsv_to_rgb(hue % 1.0, saturation, brightness)
