"""What an action is allowed to do to the arm: clip, check, and report what was really applied."""

from dataclasses import dataclass
import math

import numpy as np
from stable_crl_ros.robot.flags import flag_names, REFUSED, StepFlag
from stable_crl_ros.robot.kinematics import (
    forward_kinematics,
    inverse_kinematics,
    JOINT_LOWER,
    JOINT_UPPER,
    UnreachableError,
)
from stable_crl_ros.robot.limits import ArmLimits, SafetyError
from stable_crl_ros.robot.poses import (
    apply_delta,
    delta_between,
    rotation_from,
    rotation_from_vector,
    rpy_from,
)

__all__ = ['REFUSED', 'ArmLimits', 'SafetyError', 'Step', 'StepFlag', 'Target', 'apply_action',
           'flag_names']

_ATTEMPTS = 5  # the whole step, then up to 4 shorter ones
# Tried in this order: with the rotation stuck at a joint limit, the translation is still made.
_PARTS = np.array([[1.0] * 6, [1.0] * 3 + [0.0] * 3, [0.0] * 3 + [1.0] * 3])
_FLAG_SLACK = 1e-6  # float32 rounding of a command on the bound is no clip worth reporting


@dataclass(frozen=True, eq=False)
class Target:
    """
    Where the arm is told to be.

    :param pose: (4, 4) of the gripper in `base_link`; always that of `joints`.
    :param joints: (6,) rad, within the joint limits.
    :param gripper: opening, 0 closed .. 1 open.
    """

    pose: np.ndarray
    joints: np.ndarray
    gripper: float

    @classmethod
    def from_joints(cls, joints: np.ndarray, gripper: float) -> 'Target':
        """
        Build a target from joint angles, as measured when taking over; clipped to the limits.

        :raises SafetyError: for another number of joints or a value that is not finite.
        """
        joints = np.asarray(joints, float)
        if joints.shape != (6,) or not (np.isfinite(joints).all() and math.isfinite(gripper)):
            raise SafetyError(f'a target is 6 finite joint angles and a gripper opening, '
                              f'got {joints} and {gripper}')
        joints = np.clip(joints, JOINT_LOWER, JOINT_UPPER)
        pose = forward_kinematics(joints)
        joints.setflags(write=False)
        pose.setflags(write=False)
        return cls(pose, joints, min(max(float(gripper), 0.0), 1.0))


@dataclass(frozen=True, eq=False)
class Step:
    """
    The outcome of one action.

    :param target: the new target; of a refused step the old one, the same object.
    :param applied: (7,) what the target really moved by, in the action's own convention.
    :param flags: what was clipped, shortened or refused.
    """

    target: Target
    applied: np.ndarray
    flags: StepFlag

    @property
    def refused(self) -> bool:
        """Say whether nothing was applied."""
        return bool(self.flags & REFUSED)


def apply_action(
    target: Target,
    action: np.ndarray,
    limits: ArmLimits,
    period_s: float,
    measured_pose: np.ndarray | None = None,
) -> Step:
    """
    Integrate one action on the previous target.

    A target outside the workspace, the tilt or the leash (after start-up, or when the arm was
    held) is not pulled back, which would be a jump; steps may then only lead inwards.

    :param target: the previous target.
    :param action: (7,) dx, dy, dz (m), droll, dpitch, dyaw (rad, base axes), gripper 0..1.
    :param period_s: control period, s.
    :param measured_pose: (4, 4) of the real gripper, for the leash; None for no leash.
    :raises SafetyError: for an action that is not 7 numbers, or a period not above 0.
    """
    values = np.asarray(action, float)
    if values.shape != (7,):
        raise SafetyError(f'an action has 7 numbers, got shape {values.shape}')
    if not (math.isfinite(period_s) and period_s > 0.0):
        raise SafetyError(f'the control period must be above 0 s, got {period_s}')
    measured = None if measured_pose is None else np.asarray(measured_pose, float)[:3, 3]
    if not (np.isfinite(values).all() and (measured is None or np.isfinite(measured).all())):
        return _refusal(target, StepFlag.NON_FINITE)
    delta, gripper, clipped = _clip_action(values, limits)
    reason = StepFlag(0)
    for part in _PARTS:
        wanted = delta * part
        if reason and (not wanted.any() or np.array_equal(wanted, delta)):
            continue
        joints, flags = _reach(target, wanted, limits, period_s, measured)
        if joints is not None:
            if reason:
                flags |= StepFlag.STEP_SHORTENED
            new = Target.from_joints(joints, gripper)
            applied = np.append(delta_between(target.pose, new.pose), new.gripper)
            return Step(new, applied, clipped | flags)
        reason = reason or flags
    return _refusal(target, clipped | reason)


def _refusal(target: Target, flags: StepFlag) -> Step:
    return Step(target, np.append(np.zeros(6), target.gripper), flags)


def _clip_action(values: np.ndarray, limits: ArmLimits) -> tuple[np.ndarray, float, StepFlag]:
    """Clip each number on its own; return delta (6,), gripper and what was clipped."""
    bound = np.repeat([limits.max_translation, limits.max_rotation], 3)
    delta = np.clip(values[:6], -bound, bound)
    gripper = min(max(float(values[6]), 0.0), 1.0)
    beyond = np.abs(values[:6]) > bound + _FLAG_SLACK
    flags = StepFlag.TRANSLATION_CLIPPED * int(beyond[:3].any())
    flags |= StepFlag.ROTATION_CLIPPED * int(beyond[3:].any())
    flags |= StepFlag.GRIPPER_CLIPPED * int(abs(gripper - values[6]) > _FLAG_SLACK)
    return delta, gripper, StepFlag(flags)


def _propose(
    pose: np.ndarray, delta: np.ndarray, limits: ArmLimits, measured: np.ndarray | None,
) -> tuple[np.ndarray, StepFlag]:
    """Return the pose that workspace, leash and tilt leave of a step, and which of them acted."""
    xyz, flags = _limit_position(pose[:3, 3], delta[:3], limits, measured)
    rpy, tilted = _limit_tilt(pose[:3, 0], delta[3:], limits)
    if tilted:
        flags |= StepFlag.TILT_CLIPPED
    return apply_delta(pose, np.concatenate([xyz - pose[:3, 3], rpy])), flags


def _limit_position(
    old: np.ndarray, move: np.ndarray, limits: ArmLimits, measured: np.ndarray | None,
) -> tuple[np.ndarray, StepFlag]:
    """Keep the tool point in the workspace and on the leash, both widened to hold `old`."""
    low = np.minimum(limits.workspace_low, old)
    high = np.maximum(limits.workspace_high, old)
    wanted = old + move
    new = np.clip(wanted, low, high)
    flags = StepFlag.WORKSPACE_CLIPPED * int(np.abs(new - wanted).max() > _FLAG_SLACK)
    if measured is None:
        return new, StepFlag(flags)
    lead = float(np.linalg.norm(new - measured))
    leash = max(limits.max_target_lead, float(np.linalg.norm(old - measured)))
    if lead <= leash * (1.0 + 1e-9):
        return new, StepFlag(flags)
    leashed = measured + (new - measured) * (leash / lead) - old
    # Box, leash and step are convex and hold `old`: on the line back to it all three stay met.
    room = np.where(leashed > 0.0, np.minimum(high - old, limits.max_translation),
                    np.minimum(old - low, limits.max_translation))
    needed = np.abs(leashed)
    share = min(1.0, float(np.min(room / np.maximum(needed, 1e-12), where=needed > 1e-12,
                                  initial=1.0)))
    return old + share * leashed, StepFlag(flags | StepFlag.TARGET_LEASHED)


def _tilt(axis: np.ndarray) -> float:
    """Return the angle (rad) between the gripper's x axis (3,) and straight down."""
    return math.atan2(math.hypot(axis[0], axis[1]), -axis[2])


def _limit_tilt(
    axis: np.ndarray, rpy: np.ndarray, limits: ArmLimits,
) -> tuple[np.ndarray, bool]:
    """Turn a rotation back until the gripper is no further from straight down than allowed."""
    bound = max(limits.max_tilt, _tilt(axis))
    turned = rotation_from(rpy) @ axis
    excess = _tilt(turned) - bound
    if excess <= 1e-12:
        return rpy, False
    hinge = np.array([-turned[1], turned[0], 0.0])  # turned x down, the axis that lifts the tilt
    length = math.hypot(turned[0], turned[1])
    if length < 1e-9:
        return np.zeros(3), True
    back = rotation_from_vector(hinge * (excess / length))
    legal = rpy_from(back @ rotation_from(rpy))
    share = min(1.0, limits.max_rotation / max(float(np.abs(legal).max()), 1e-12))
    if _tilt(rotation_from(share * legal) @ axis) > bound + 1e-12:
        return np.zeros(3), True  # a shortened large turn may bulge out of the cone on its way
    return share * legal, True


def _reach(
    target: Target, delta: np.ndarray, limits: ArmLimits, period_s: float,
    measured: np.ndarray | None,
) -> tuple[np.ndarray | None, StepFlag]:
    """Shorten a move until the arm can make it; return joints and flags, or None and why not."""
    scale, shortened = 1.0, StepFlag(0)
    for _ in range(_ATTEMPTS):
        pose, limited = _propose(target.pose, scale * delta, limits, measured)
        joints, problem, factor = _solve(target, pose, limits, period_s)
        if not problem:
            return joints, limited | shortened
        too_fast = problem == StepFlag.JOINT_SPEED_LIMITED
        shortened |= problem if too_fast else StepFlag.STEP_SHORTENED
        scale *= factor
    return None, StepFlag.JOINT_JUMP if too_fast else problem


def _solve(
    target: Target, pose: np.ndarray, limits: ArmLimits, period_s: float,
) -> tuple[np.ndarray, StepFlag, float]:
    """Return joints, what is wrong with them (0: nothing), and how much shorter to try next."""
    if np.array_equal(pose, target.pose):
        return target.joints, StepFlag(0), 1.0
    try:
        joints = inverse_kinematics(pose, target.joints)
    except UnreachableError:
        return target.joints, StepFlag.UNREACHABLE, 0.5
    farthest = float(np.abs(joints - target.joints).max())
    if farthest > limits.max_joint_jump:
        return joints, StepFlag.JOINT_JUMP, 0.5
    allowed = limits.max_joint_velocity * period_s
    if farthest > allowed:
        return joints, StepFlag.JOINT_SPEED_LIMITED, 0.95 * allowed / farthest
    return joints, StepFlag(0), 1.0
