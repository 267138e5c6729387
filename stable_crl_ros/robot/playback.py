"""A recorded episode as commands for the arm, and how what it did then differs from it."""

from dataclasses import asdict, dataclass, field
from itertools import pairwise
import math

import numpy as np
from stable_crl_ros.data.episode import Episode
from stable_crl_ros.robot.kinematics import forward_kinematics
from stable_crl_ros.robot.poses import (
    delta_between,
    pose_from_xyz_quaternion,
    rotation_from,
    rotation_from_vector,
    rotation_vector,
    rpy_from,
)
from stable_crl_ros.robot.safety import flag_names

SLOWEST = 0.05


class ReplayError(RuntimeError):
    """An episode that cannot be replayed here, or a replay that had to end early."""


@dataclass
class ReplayReport:
    """
    How a replay went.

    :param steps: recorded steps that were sent, all of `of`.
    :param changed: steps that the arm clipped, shortened or refused now, with why.
    :param applied_error: largest difference per dimension between what was applied now and what
        is recorded, (7,), m, rad, gripper 0..1.
    :param path_error_m: distance of the tool from the recorded one, at the end of each step, m.
    :param path_error_rad: angle between the gripper and the recorded one, rad.
    :param seconds: from the first command to the last.
    """

    episode: str
    of: int
    steps: int = 0
    changed: dict[int, str] = field(default_factory=dict)
    applied_error: list[float] = field(default_factory=lambda: [0.0] * 7)
    path_error_m: list[float] = field(default_factory=list)
    path_error_rad: list[float] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def faithful(self) -> bool:
        """Say whether every step was sent, and applied as recorded."""
        return self.steps == self.of and not self.changed

    def to_dict(self) -> dict:
        """Return plain values, for JSON."""
        known = {name: [None if math.isnan(value) else value for value in getattr(self, name)]
                 for name in ('path_error_m', 'path_error_rad')}  # JSON has no NaN
        return {**asdict(self), **known, 'faithful': self.faithful}

    def __str__(self) -> str:
        largest = self.applied_error
        lines = [f'replayed {self.steps} of {self.of} steps of {self.episode} in '
                 f'{self.seconds:.1f} s',
                 f'applied now and then: at most {1e3 * max(largest[:3]):.1f} mm, '
                 f'{max(largest[3:6]):.4f} rad, gripper {largest[6]:.2f} apart']
        if self.path_error_m:
            lines.append(f'the tool and the recorded one: {1e3 * self.path_error_m[-1]:.1f} mm '
                         f'and {self.path_error_rad[-1]:.3f} rad apart at the end, at most '
                         f'{1e3 * max(self.path_error_m):.1f} mm and '
                         f'{max(self.path_error_rad):.3f} rad')
        lines += [f'step {step}: {why}' for step, why in self.changed.items()]
        return '\n'.join(lines)

    def add(self, plan: 'Plan', applied: list[np.ndarray], flags: int, pose: np.ndarray) -> None:
        """
        Enter the next step.

        :param applied: (7,) of each of its parts.
        :param flags: of all parts together, bits of `StepFlag`.
        :param pose: (4, 4) of the gripper after it, measured.
        """
        step, whole = self.steps, np.eye(4)
        for part in applied:
            whole[:3, :3] = rotation_from(part[3:6]) @ whole[:3, :3]
            whole[:3, 3] += part[:3]
        apart = np.abs(np.append(delta_between(np.eye(4), whole), applied[-1][6])
                       - plan.actions[step])
        self.applied_error = np.maximum(self.applied_error, apart).tolist()
        if flags:
            self.changed[step] = ', '.join(flag_names(flags))
        recorded = plan.poses[step + 1]
        apart_m, apart_rad = (math.nan, math.nan) if recorded is None else distance(pose, recorded)
        self.path_error_m.append(apart_m)
        self.path_error_rad.append(apart_rad)
        self.steps += 1


@dataclass(frozen=True)
class Plan:
    """
    What will be sent.

    :param actions: (T, 7) m, rad, gripper 0..1, as recorded.
    :param joints: (T + 1, 6) rad, recorded; NaN where unknown.
    :param poses: T + 1 recorded poses of the gripper (4, 4), None where unknown.
    :param period_s: control period of the recording, s.
    :param parts: commands per step.
    :param interval_s: between two commands, s.
    """

    name: str
    actions: np.ndarray
    joints: np.ndarray
    poses: list[np.ndarray | None]
    period_s: float
    parts: int
    interval_s: float

    @classmethod
    def of(cls, episode: Episode, speed: float) -> 'Plan':
        """
        Prepare an episode.

        :raises ReplayError: for a speed out of range, or a recording that is not all there.
        """
        if not SLOWEST <= speed <= 1.0:
            raise ReplayError(f'speed {speed:g}: give {SLOWEST:g} to 1; nothing is replayed '
                              'faster than it was recorded')
        rate = episode.attrs['control_rate']
        gaps = sorted(step for step in episode.attrs.get('gaps', [])
                      if 0 < step <= episode.steps)
        if not episode.steps or not rate:
            raise ReplayError(f'{episode.path}: {episode.steps} steps at {rate} Hz; there is '
                              'nothing to replay')
        if gaps:
            raise ReplayError(f'{episode.path}: steps are missing before {gaps}, so its motion is '
                              f'not all there; {_advice(gaps, episode.steps)}')
        joints = episode['joint_positions']
        poses = [_pose(row, angles)
                 for row, angles in zip(episode['ee_pose'], joints, strict=True)]
        if poses[0] is None:
            raise ReplayError(f'{episode.path}: where the arm began was not recorded')
        parts, period_s = int(1.0 / speed + 1e-6), 1.0 / rate
        return cls(str(episode.path), episode['action'].astype(float), joints, poses, period_s,
                   parts, period_s / speed / parts)

    def command(self, step: int) -> np.ndarray:
        """Return one of the equal parts of a step, (7,); together they make the whole."""
        action = self.actions[step].copy()
        turn = rotation_vector(rotation_from(action[3:6])) / self.parts
        action[:3] /= self.parts
        action[3:6] = rpy_from(rotation_from_vector(turn))
        return action


def _advice(gaps: list[int], steps: int) -> str:
    """Name the longest part whose every step is followed by its own outcome."""
    first, behind = max(pairwise([0, *gaps, steps + 1]), key=lambda part: part[1] - part[0])
    if behind - first < 2:
        return 'no step of it has its own outcome'
    # The step before a gap is left out: what follows it was seen behind the gap.
    return f'trim it to a part without gaps, the longest is {first}-{behind - 2}'


def _pose(row: np.ndarray, joints: np.ndarray) -> np.ndarray | None:
    if np.isfinite(row).all():
        return pose_from_xyz_quaternion(row)
    return forward_kinematics(joints) if np.isfinite(joints).all() else None


def distance(pose: np.ndarray, other: np.ndarray) -> tuple[float, float]:
    """Return how far two poses (4, 4) are apart: m, rad."""
    turn = rotation_vector(other[:3, :3] @ pose[:3, :3].T)
    return float(np.linalg.norm(pose[:3, 3] - other[:3, 3])), float(np.linalg.norm(turn))
