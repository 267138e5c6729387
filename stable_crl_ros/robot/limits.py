"""How far the arm may go: the workspace and what one step may do, checked when made."""

from dataclasses import dataclass, fields
import math

import numpy as np
from stable_crl_ros.robot.kinematics import MAX_JOINT_VELOCITY


class SafetyError(ValueError):
    """Limits, a target or a command that make no sense."""


@dataclass(frozen=True)
class ArmLimits:
    """
    The box the tool point may be in, and how far one step may go.

    With a gripper that points straight down the default workspace is reached but for its two
    far upper corners (x above 0.39, y beyond +-0.19, z above 0.186), where the arm is stretched
    out; with one tilted by up to `max_tilt`, in 98 of 100 places.

    :param workspace_low: (3,) smallest x, y, z of the tool point in base_link, m.
    :param workspace_high: (3,) largest x, y, z of the tool point in base_link, m.
    :param max_translation: per step and axis, m.
    :param max_rotation: per step and axis, rad.
    :param max_joint_jump: per step and joint, rad; more is refused or shortened.
    :param max_joint_velocity: mean over a step, rad/s, at most the motors' own limit.
    :param max_target_lead: distance of the target from the measured tool point, m. A step
        starts before the arm has caught up with the last, so this exceeds one full step.
    :param max_tilt: of the gripper from straight down, rad.
    :raises SafetyError: for a value that is not a finite number in its range.
    """

    workspace_low: tuple[float, float, float] = (0.18, -0.20, 0.015)
    workspace_high: tuple[float, float, float] = (0.40, 0.20, 0.20)
    max_translation: float = 0.05
    max_rotation: float = 0.25
    max_joint_jump: float = 1.0
    max_joint_velocity: float = MAX_JOINT_VELOCITY
    max_target_lead: float = 0.12
    max_tilt: float = 0.6

    def __post_init__(self) -> None:
        for name in ('workspace_low', 'workspace_high'):
            object.__setattr__(self, name, _triple(name, getattr(self, name)))
        if any(a >= b for a, b in zip(self.workspace_low, self.workspace_high, strict=True)):
            raise SafetyError(f'workspace_low {self.workspace_low} must be below workspace_high '
                              f'{self.workspace_high} on every axis (m)')
        highest = {'max_rotation': 1.0, 'max_joint_velocity': MAX_JOINT_VELOCITY,
                   'max_tilt': math.pi, 'max_translation': 0.2}
        for name in (f.name for f in fields(self) if f.name.startswith('max_')):
            value, high = _number(name, getattr(self, name)), highest.get(name, math.inf)
            if not 0.0 < value <= high:
                raise SafetyError(f'{name} must be above 0 and at most {high:.6g}, got {value}')
            object.__setattr__(self, name, value)

    @classmethod
    def from_dict(cls, values: dict) -> 'ArmLimits':
        """
        Build limits from YAML values; what is absent keeps its default.

        :raises SafetyError: for an unknown name or a wrong value.
        """
        known = [field.name for field in fields(cls)]
        unknown = sorted(set(values) - set(known))
        if unknown:
            raise SafetyError(f'unknown arm limits {unknown}; known are {known}')
        return cls(**values)


def _triple(name: str, value) -> tuple[float, float, float]:
    if not isinstance(value, list | tuple | np.ndarray) or len(value) != 3:
        raise SafetyError(f'{name} must be x, y, z in metres, got {value!r}')
    return tuple(_number(name, item) for item in value)


def _number(name: str, value) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | np.number):
        raise SafetyError(f'{name} must be a number, got {value!r}')
    if not math.isfinite(value):
        raise SafetyError(f'{name} must be a finite number, got {value}')
    return float(value)
