"""
What an action is allowed to do to the arm: clip, check, and report what was really applied.

The checks, in this order. Clipping and shortening apply the rest of the step; refusing leaves
the target as it was, gripper included; holding leaves the joints and lets the gripper act. What
is refused or held whole is tried again as the translation alone, then as the rotation alone.

=====================  ===========================================  ============================
check                  what it does                                 flag
=====================  ===========================================  ============================
finite                 refuses NaN and infinity                     NON_FINITE
fresh (the arm)        refuses too old, future or early commands    STALE, FUTURE, TOO_SOON
step size              clips each number of the action              TRANSLATION_, ROTATION_, \
                                                                    GRIPPER_CLIPPED
workspace, table       clips the tool point to the boxes and above  WORKSPACE_CLIPPED, \
                       the table                                    TABLE_CLIPPED
leash                  clips the lead over the measured tool        TARGET_LEASHED
                       point; holds what would let a joint lead by
                       more than max_joint_jump
tilt                   clips the angle from straight down           TILT_CLIPPED
reach, joint limits    shortens, then refuses                       STEP_SHORTENED, UNREACHABLE
branch jump            shortens, then refuses                       STEP_SHORTENED, JOINT_JUMP
joint velocity         shortens; a jump however short is refused    JOINT_SPEED_LIMITED, \
                                                                    JOINT_JUMP
singularity            shortens steps in the direction being lost,  SINGULARITY_SLOWED
                       then holds
collision              refuses to come nearer than the clearance    COLLISION
effort                 holds what would load an overloaded motor    EFFORT_LIMITED
=====================  ===========================================  ============================

A branch jump exceeds the joint velocity too, so it is looked for first and called by its name.
"""

from dataclasses import dataclass
import math

import numpy as np
from stable_crl_ros.robot.bounds import clip_action, limit_pose
from stable_crl_ros.robot.collision import nearest
from stable_crl_ros.robot.flags import flag_names, REFUSED, StepFlag
from stable_crl_ros.robot.kinematics import (
    forward_kinematics,
    inverse_kinematics,
    JOINT_LOWER,
    JOINT_UPPER,
    JumpError,
    UnreachableError,
)
from stable_crl_ros.robot.limits import ArmLimits, SafetyError
from stable_crl_ros.robot.poses import delta_between
from stable_crl_ros.robot.singularity import approach_share

__all__ = ['REFUSED', 'ArmLimits', 'SafetyError', 'Step', 'StepFlag', 'Target', 'apply_action',
           'flag_names']

_ATTEMPTS = 5  # the whole step, then up to 4 shorter ones
# Tried in this order: with the rotation stuck at a joint limit, the translation is still made.
_PARTS = np.array([[1.0] * 6, [1.0] * 3 + [0.0] * 3, [0.0] * 3 + [1.0] * 3])
_HOLDING = StepFlag.SINGULARITY_SLOWED | StepFlag.EFFORT_LIMITED | StepFlag.TARGET_LEASHED
_NEAR = 0.05  # m; from farther away no step passes through anything on its way


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
    efforts: np.ndarray | None = None,
    measured_joints: np.ndarray | None = None,
) -> Step:
    """
    Integrate one action on the previous target.

    A target outside the workspace, the tilt, the leash or the clearance (after start-up, or when
    the arm was held) is not pulled back, which would be a jump; steps may then only lead inwards.

    :param target: the previous target.
    :param action: (7,) dx, dy, dz (m), droll, dpitch, dyaw (rad, base axes), gripper 0..1.
    :param period_s: control period, s.
    :param measured_pose: (4, 4) of the real gripper, for the leash; None for no leash.
    :param efforts: (6,) as the driver reports them; NaN where unknown, None for no effort limit.
    :param measured_joints: (6,) rad, for the leash; None for no leash on joints.
    :raises SafetyError: for a wrong number of numbers, or a period not above 0.
    """
    values, efforts = _checked(action, efforts, period_s)
    measured = None if measured_pose is None else np.asarray(measured_pose, float)[:3, 3]
    if not (np.isfinite(values).all() and (measured is None or np.isfinite(measured).all())):
        return _unmoved(target, target.gripper, StepFlag.NON_FINITE)
    delta, gripper, clipped = clip_action(values, limits)
    reason = StepFlag(0)
    for part in _PARTS:
        wanted = delta * part
        if reason and (not wanted.any() or np.array_equal(wanted, delta)):
            continue
        joints, flags = _reach(target, wanted, limits, period_s, measured)
        problem = flags if joints is None else _forbidden(
            target, joints, limits, efforts, measured_joints)
        if not problem:
            flags |= reason and (reason & _HOLDING or StepFlag.STEP_SHORTENED)
            new = Target.from_joints(joints, gripper)
            applied = np.append(delta_between(target.pose, new.pose), new.gripper)
            return Step(new, applied, clipped | flags)
        reason = reason or problem
    return _unmoved(target, target.gripper if reason & REFUSED else gripper, clipped | reason)


def _checked(
    action: np.ndarray, efforts: np.ndarray | None, period_s: float,
) -> tuple[np.ndarray, np.ndarray | None]:
    values = np.asarray(action, float)
    if values.shape != (7,):
        raise SafetyError(f'an action has 7 numbers, got shape {values.shape}')
    if not (math.isfinite(period_s) and period_s > 0.0):
        raise SafetyError(f'the control period must be above 0 s, got {period_s}')
    if efforts is not None and np.shape(efforts) != (6,):
        raise SafetyError(f'efforts are 6 numbers, got shape {np.shape(efforts)}')
    return values, None if efforts is None else np.asarray(efforts, float)


def _unmoved(target: Target, gripper: float, flags: StepFlag) -> Step:
    """Hold: the same joints, and the same target altogether if the gripper does not move."""
    if gripper != target.gripper:
        target = Target(target.pose, target.joints, gripper)
    return Step(target, np.append(np.zeros(6), gripper), flags)


def _reach(
    target: Target, delta: np.ndarray, limits: ArmLimits, period_s: float,
    measured: np.ndarray | None,
) -> tuple[np.ndarray | None, StepFlag]:
    """Shorten a move until the arm can make it; return joints and flags, or None and why not."""
    scale, shortened, problem = 1.0, StepFlag(0), StepFlag(0)
    for _ in range(_ATTEMPTS):
        pose, limited = limit_pose(target.pose, scale * delta, limits, measured)
        slowed = bool(shortened & StepFlag.SINGULARITY_SLOWED)
        joints, problem, factor = _solve(target, pose, limits, period_s, slowed)
        if not problem:
            return joints, limited | shortened
        if factor == 0.0:
            break
        told = StepFlag.JOINT_SPEED_LIMITED | StepFlag.SINGULARITY_SLOWED
        shortened |= problem & told or StepFlag.STEP_SHORTENED
        scale *= factor
    too_fast = problem == StepFlag.JOINT_SPEED_LIMITED
    return None, StepFlag.JOINT_JUMP if too_fast else problem


def _solve(
    target: Target, pose: np.ndarray, limits: ArmLimits, period_s: float, slowed: bool,
) -> tuple[np.ndarray, StepFlag, float]:
    """
    Return joints, what is wrong with them (0: nothing), and how much shorter to try next.

    :param slowed: already shortened for a singularity.
    """
    if np.array_equal(pose, target.pose):
        return target.joints, StepFlag(0), 1.0
    try:
        joints = inverse_kinematics(pose, target.joints, limits.max_joint_jump)
    except UnreachableError:
        return target.joints, StepFlag.UNREACHABLE, 0.5
    except JumpError:
        return target.joints, StepFlag.JOINT_JUMP, 0.5
    farthest = float(np.abs(joints - target.joints).max())
    allowed = limits.max_joint_velocity * period_s
    if farthest > allowed:
        return joints, StepFlag.JOINT_SPEED_LIMITED, 0.95 * allowed / farthest
    share = 1.0 if slowed else approach_share(target.joints, joints, limits)
    return joints, StepFlag.SINGULARITY_SLOWED if share < 1.0 else StepFlag(0), share


def _forbidden(
    target: Target, joints: np.ndarray, limits: ArmLimits, efforts: np.ndarray | None,
    measured: np.ndarray | None,
) -> StepFlag:
    """Return why the arm must not go where it could, 0 when it may."""
    if joints is target.joints:
        return StepFlag(0)
    if _collides(target.joints, joints, limits):
        return StepFlag.COLLISION
    if measured is not None:
        # A turn that is blocked leaves the tool point where it is.
        lead, before = np.abs(joints - measured), np.abs(target.joints - measured)
        if ((lead > limits.max_joint_jump) & (lead > before)).any():
            return StepFlag.TARGET_LEASHED
    if efforts is not None:
        # What moves a motor's target the way it pushes makes it push harder.
        loading = (joints - target.joints) * np.sign(efforts) > 1e-9
        if (loading & (np.abs(efforts) > limits.max_effort)).any():
            return StepFlag.EFFORT_LIMITED
    return StepFlag(0)


def _collides(start: np.ndarray, end: np.ndarray, limits: ArmLimits) -> bool:
    """Say whether a step comes nearer than the clearance, or nearer still where it is within."""
    distance = nearest(end, limits.table_height).distance
    if distance > _NEAR:
        return False
    before = nearest(start, limits.table_height).distance
    halfway = nearest(0.5 * (start + end), limits.table_height).distance
    return min(distance, halfway) < min(limits.clearance, before) - 1e-9
