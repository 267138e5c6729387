"""The 7-D action: names, units, bounds and the scale that travels in every checkpoint."""

from dataclasses import dataclass
import math

import numpy as np

ACTION_NAMES = ('dx', 'dy', 'dz', 'droll', 'dpitch', 'dyaw', 'gripper')
ACTION_DIM = len(ACTION_NAMES)

# BridgeData's action box: metres and radians per control step, gripper 0 closed .. 1 open.
BRIDGE_LOW = (-0.05, -0.05, -0.05, -0.25, -0.25, -0.25, 0.0)
BRIDGE_HIGH = (0.05, 0.05, 0.05, 0.25, 0.25, 0.25, 1.0)

# Action statistics of BridgeData V2, as its training configuration states them.
BRIDGE_MEAN = (1.93e-4, 1.37e-4, -1.46e-4, -1.84e-4, -3.08e-4, 2.74e-4, 0.597)
BRIDGE_STD = (0.00913, 0.0127, 0.0123, 0.0261, 0.0288, 0.0781, 0.487)


class ActionError(ValueError):
    """An action, or a description of one, that must not be used."""


@dataclass(frozen=True)
class ActionScale:
    """
    Affine map between the network's numbers and physical units, and the physical bounds.

    `physical = offset + scale * normalised`, per dimension in the order of `ACTION_NAMES`:
    metres, radians about the fixed axes of `base_link`, gripper 0 (closed) .. 1 (open).

    :param offset: physical value of a normalised 0, 7 numbers.
    :param scale: physical size of a normalised 1, 7 numbers, all > 0.
    :param low: smallest physical value ever returned, 7 numbers.
    :param high: largest physical value ever returned, 7 numbers.
    :raises ActionError: for a wrong length, a number that is not finite, or an empty range.
    """

    offset: tuple[float, ...]
    scale: tuple[float, ...]
    low: tuple[float, ...] = BRIDGE_LOW
    high: tuple[float, ...] = BRIDGE_HIGH

    def __post_init__(self) -> None:
        for field in ('offset', 'scale', 'low', 'high'):
            values = tuple(float(v) for v in getattr(self, field))
            if len(values) != ACTION_DIM:
                raise ActionError(
                    f'action {field} has {len(values)} numbers, not the {ACTION_DIM} of '
                    f'{", ".join(ACTION_NAMES)}')
            if not all(math.isfinite(v) for v in values):
                raise ActionError(f'action {field} holds a number that is not finite: {values}')
            object.__setattr__(self, field, values)
        if min(self.scale) <= 0.0:
            raise ActionError(f'action scale must be > 0 everywhere, got {self.scale}')
        if any(low >= high for low, high in zip(self.low, self.high, strict=True)):
            raise ActionError(f'action low must be below high, got {self.low} and {self.high}')

    @classmethod
    def from_bounds(cls, low=BRIDGE_LOW, high=BRIDGE_HIGH) -> 'ActionScale':
        """Map [low, high] onto [-1, 1]."""
        low_array, high_array = np.asarray(low, float), np.asarray(high, float)
        return cls(tuple((low_array + high_array) / 2), tuple((high_array - low_array) / 2),
                   tuple(low_array), tuple(high_array))

    @classmethod
    def from_statistics(
        cls, mean=BRIDGE_MEAN, std=BRIDGE_STD, low=BRIDGE_LOW, high=BRIDGE_HIGH,
    ) -> 'ActionScale':
        """Map mean to 0 and one standard deviation to 1; the bounds stay physical."""
        return cls(tuple(mean), tuple(std), tuple(low), tuple(high))

    def normalise(self, actions: np.ndarray) -> np.ndarray:
        """
        Turn physical actions into the network's numbers, unclipped.

        :param actions: shape (..., 7), metres, radians, gripper 0..1.
        :returns: float32, same shape.
        """
        offset, scale = np.asarray(self.offset), np.asarray(self.scale)
        return ((np.asarray(actions, float) - offset) / scale).astype(np.float32)

    def denormalise(self, actions: np.ndarray) -> np.ndarray:
        """
        Turn the network's numbers into physical actions, clipped to the bounds.

        :param actions: shape (..., 7).
        :returns: float32, same shape, metres, radians, gripper 0..1. NaN stays NaN.
        """
        physical = np.asarray(self.offset) + np.asarray(self.scale) * np.asarray(actions, float)
        return np.clip(physical, self.low, self.high).astype(np.float32)

    def to_dict(self) -> dict:
        """Return plain lists, as stored in checkpoints and datasets."""
        return {name: list(getattr(self, name)) for name in ('offset', 'scale', 'low', 'high')}

    @classmethod
    def from_dict(cls, values: dict) -> 'ActionScale':
        """
        Read what `to_dict` wrote.

        :raises ActionError: when a key is missing or a value is wrong.
        """
        missing = {'offset', 'scale', 'low', 'high'} - set(values)
        if missing:
            raise ActionError(f'action scale lacks {sorted(missing)}; it has {sorted(values)}')
        return cls(**{name: tuple(values[name]) for name in ('offset', 'scale', 'low', 'high')})
