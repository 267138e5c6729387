"""How far the arm may go: the workspace and what one step may do, checked when made."""

from dataclasses import dataclass, fields
from functools import cached_property
import math

import numpy as np
from stable_crl_ros.robot.kinematics import JOINT_NAMES, MAX_JOINT_VELOCITY


class SafetyError(ValueError):
    """Limits, a target or a command that make no sense."""


@dataclass(frozen=True)
class ArmLimits:
    """
    The boxes the tool point may be in, and how far one step may go.

    With a gripper that points straight down the default workspace is reached but for its two
    far upper corners (x above 0.39, y beyond +-0.19, z above 0.186), where the arm is stretched
    out; with one tilted by up to `max_tilt`, in 98 of 100 places.

    :param workspace_low: (3,) smallest x, y, z of the tool point in base_link, m.
    :param workspace_high: (3,) largest x, y, z of the tool point in base_link, m.
    :param max_translation: per step and axis, m.
    :param max_rotation: per step and axis, rad.
    :param max_joint_jump: per step and joint, rad; more is refused or shortened. No joint's
        target leads its measured position by more either.
    :param max_joint_velocity: mean over a step, rad/s, at most the motors' own limit.
    :param max_target_lead: distance of the target from the measured tool point, m. A step
        starts before the arm has caught up with the last, so this exceeds one full step.
    :param max_tilt: of the gripper from straight down, rad.
    :param workspaces: further boxes, each smallest x, y, z and largest x, y, z (m); the tool
        point may be in any of them, and passes from one to another where they overlap.
    :param table_height: of the table's top in base_link, m; the tool point stays above it in
        every box, and no part of the arm but the fingers touches it.
    :param clearance: kept between the capsules of the arm, its base and the table, m.
    :param slow_condition: condition number of the Jacobian from which on steps in the direction
        that a singularity takes away become shorter.
    :param max_condition: condition number from which on they are not made.
    :param max_effort: (6,) of each motor, in the driver's unit (N m in the simulator; mA on the
        servo bus, for wrist_rotate %); a motor that pushes harder is only unloaded. Infinite for
        no limit.
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
    workspaces: tuple[tuple[float, ...], ...] = ()
    table_height: float = 0.0
    clearance: float = 0.005
    slow_condition: float = 50.0
    max_condition: float = 150.0
    max_effort: tuple[float, ...] = (math.inf,) * 6

    def __post_init__(self) -> None:
        self._check_boxes()
        highest = {'max_rotation': 1.0, 'max_joint_velocity': MAX_JOINT_VELOCITY,
                   'max_tilt': math.pi, 'max_translation': 0.2, 'clearance': 0.1}
        names = [f.name for f in fields(self) if f.name.startswith('max_')]
        names.remove('max_effort')
        for name in (*names, 'clearance', 'slow_condition'):
            value, high = _number(name, getattr(self, name)), highest.get(name, math.inf)
            if not 0.0 < value <= high:
                raise SafetyError(f'{name} must be above 0 and at most {high:.6g}, got {value}')
            object.__setattr__(self, name, value)
        if self.slow_condition >= self.max_condition:
            raise SafetyError(f'slow_condition {self.slow_condition} must be below max_condition '
                              f'{self.max_condition}')
        object.__setattr__(self, 'max_effort', _efforts(self.max_effort))

    def _check_boxes(self) -> None:
        for name in ('workspace_low', 'workspace_high'):
            object.__setattr__(self, name, _triple(name, getattr(self, name)))
        object.__setattr__(self, 'table_height', _number('table_height', self.table_height))
        object.__setattr__(self, 'workspaces', _boxes(self.workspaces))
        _check_box('workspace_low', self.workspace_low, 'workspace_high', self.workspace_high)
        for index, box in enumerate(self.workspaces):
            _check_box(f'the first three numbers of workspaces {index}', box[:3],
                       'the last three', box[3:])
        for low, high in self.boxes:
            if low[2] >= high[2]:
                raise SafetyError(f'the workspace up to z {high[2]} m lies below the table, whose '
                                  f'table_height is {self.table_height} m')

    @cached_property
    def boxes(self) -> np.ndarray:
        """All boxes, shape (n, 2, 3): smallest and largest x, y, z (m), none below the table."""
        boxes = np.array([(*self.workspace_low, *self.workspace_high), *self.workspaces])
        boxes[:, 2] = np.maximum(boxes[:, 2], self.table_height)
        boxes.setflags(write=False)
        return boxes.reshape(-1, 2, 3)

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


def _boxes(value) -> tuple[tuple[float, ...], ...]:
    """Turn boxes, each six numbers or all in one list, as parameters give them, into tuples."""
    if not isinstance(value, list | tuple | np.ndarray):
        raise SafetyError(f'workspaces must be boxes of 6 numbers in metres, got {value!r}')
    flat = [number for box in value
            for number in (box if isinstance(box, list | tuple | np.ndarray) else [box])]
    if len(flat) % 6:
        raise SafetyError(f'workspaces must be boxes of 6 numbers, smallest x, y, z and largest '
                          f'x, y, z in metres; got {len(flat)} numbers')
    numbers = [_number('workspaces', number) for number in flat]
    return tuple(tuple(numbers[i:i + 6]) for i in range(0, len(numbers), 6))


def _check_box(low_name: str, low: tuple, high_name: str, high: tuple) -> None:
    if any(a >= b for a, b in zip(low, high, strict=True)):
        raise SafetyError(f'{low_name} {low} must be below {high_name} {high} on every axis (m)')


def _efforts(value) -> tuple[float, ...]:
    if not isinstance(value, list | tuple | np.ndarray) or len(value) != len(JOINT_NAMES):
        raise SafetyError(f'max_effort must be one number for each of {", ".join(JOINT_NAMES)}, '
                          f'got {value!r}')
    for item in value:
        if isinstance(item, bool) or not isinstance(item, int | float | np.number) \
                or not item > 0.0:
            raise SafetyError(f'max_effort must be above 0 (.inf: no limit), got {item!r}')
    return tuple(float(item) for item in value)


def _number(name: str, value) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | np.number):
        raise SafetyError(f'{name} must be a number, got {value!r}')
    if not math.isfinite(value):
        raise SafetyError(f'{name} must be a finite number, got {value}')
    return float(value)
