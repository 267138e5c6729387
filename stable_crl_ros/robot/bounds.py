"""What clipping leaves of a step: its size, the workspace, the leash and the tilt."""

import math

import numpy as np
from stable_crl_ros.robot.flags import StepFlag
from stable_crl_ros.robot.limits import ArmLimits
from stable_crl_ros.robot.poses import (
    apply_delta,
    rotation_from,
    rotation_from_vector,
    rpy_from,
)

_FLAG_SLACK = 1e-6  # float32 rounding of a command on the bound is no clip worth reporting
_ON_WALL = 1e-9  # m; a tool point this far outside a box is on its wall, up to rounding


def clip_action(values: np.ndarray, limits: ArmLimits) -> tuple[np.ndarray, float, StepFlag]:
    """
    Clip each number of an action on its own.

    :param values: (7,) finite.
    :returns: delta (6,) m and rad, gripper 0..1, and what was clipped.
    """
    bound = np.repeat([limits.max_translation, limits.max_rotation], 3)
    delta = np.clip(values[:6], -bound, bound)
    gripper = min(max(float(values[6]), 0.0), 1.0)
    beyond = np.abs(values[:6]) > bound + _FLAG_SLACK
    flags = StepFlag.TRANSLATION_CLIPPED * int(beyond[:3].any())
    flags |= StepFlag.ROTATION_CLIPPED * int(beyond[3:].any())
    flags |= StepFlag.GRIPPER_CLIPPED * int(abs(gripper - values[6]) > _FLAG_SLACK)
    return delta, gripper, StepFlag(flags)


def limit_pose(
    pose: np.ndarray, delta: np.ndarray, limits: ArmLimits, measured: np.ndarray | None,
) -> tuple[np.ndarray, StepFlag]:
    """
    Return the pose that workspace, leash and tilt leave of a step, and which of them acted.

    :param pose: (4, 4) the step starts from.
    :param delta: (6,) as in an action.
    :param measured: (3,) m, the real tool point; None for no leash.
    """
    xyz, flags = _limit_position(pose[:3, 3], delta[:3], limits, measured)
    rpy, tilted = _limit_tilt(pose[:3, 0], delta[3:], limits)
    if tilted:
        flags |= StepFlag.TILT_CLIPPED
    return apply_delta(pose, np.concatenate([xyz - pose[:3, 3], rpy])), flags


def _limit_position(
    old: np.ndarray, move: np.ndarray, limits: ArmLimits, measured: np.ndarray | None,
) -> tuple[np.ndarray, StepFlag]:
    """Keep the tool point in the workspace and on the leash, both widened to hold `old`."""
    wanted = old + move
    low, high = _box_for(old, wanted, limits.boxes)
    new = wanted
    if len(limits.boxes) == 1 or not _covered(old, wanted, limits.boxes):
        new = np.clip(wanted, low, high)
    flags = _wall_flags(wanted, new, limits)
    if measured is None:
        return new, flags
    lead = float(np.linalg.norm(new - measured))
    leash = max(limits.max_target_lead, float(np.linalg.norm(old - measured)))
    if lead <= leash * (1.0 + 1e-9):
        return new, flags
    leashed = measured + (new - measured) * (leash / lead) - old
    # Box, leash and step are convex and hold `old`: on the line back to it all three stay met.
    room = np.where(leashed > 0.0, np.minimum(high - old, limits.max_translation),
                    np.minimum(old - low, limits.max_translation))
    needed = np.abs(leashed)
    share = min(1.0, float(np.min(room / np.maximum(needed, 1e-12), where=needed > 1e-12,
                                  initial=1.0)))
    return old + share * leashed, flags | StepFlag.TARGET_LEASHED


def _wall_flags(wanted: np.ndarray, new: np.ndarray, limits: ArmLimits) -> StepFlag:
    clipped = np.abs(new - wanted) > _FLAG_SLACK
    flags = StepFlag(0)
    if clipped[2] and wanted[2] < new[2] <= limits.table_height:
        clipped[2] = False
        flags = StepFlag.TABLE_CLIPPED
    return flags | StepFlag.WORKSPACE_CLIPPED if clipped.any() else flags


def _box_for(
    old: np.ndarray, wanted: np.ndarray, boxes: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the box to move in, widened to hold `old`: of those that do, the one that helps most.

    Where none does, it is the nearest.
    """
    if len(boxes) > 1:
        away = np.linalg.norm(np.clip(old, boxes[:, 0], boxes[:, 1]) - old, axis=1)
        boxes = boxes[away <= max(_ON_WALL, away.min())]
        short = np.linalg.norm(np.clip(wanted, boxes[:, 0], boxes[:, 1]) - wanted, axis=1)
        boxes = boxes[[int(short.argmin())]]
    return np.minimum(boxes[0, 0], old), np.maximum(boxes[0, 1], old)


def _covered(start: np.ndarray, end: np.ndarray, boxes: np.ndarray) -> bool:
    """Say whether the whole line from start to end lies in one box or another."""
    way = end - start
    still = np.abs(way) < 1e-12
    low, high = boxes[:, 0] - _ON_WALL - start, boxes[:, 1] + _ON_WALL - start
    step = np.where(still, 1.0, way)
    first, last = np.minimum(low / step, high / step), np.maximum(low / step, high / step)
    outside = still & ((low > 0.0) | (high < 0.0))
    enter = np.where(still, np.where(outside, np.inf, -np.inf), first).max(axis=1)
    leave = np.where(still, np.inf, last).min(axis=1)
    reached = 0.0
    while reached < 1.0:
        farther = leave[(enter <= reached) & (leave > reached)]
        if not farther.size:
            return False
        reached = float(farther.max())
    return True


def tilt(axis: np.ndarray) -> float:
    """Return the angle (rad) between the gripper's x axis (3,) and straight down."""
    return math.atan2(math.hypot(axis[0], axis[1]), -axis[2])


def _limit_tilt(
    axis: np.ndarray, rpy: np.ndarray, limits: ArmLimits,
) -> tuple[np.ndarray, bool]:
    """Turn a rotation back until the gripper is no further from straight down than allowed."""
    bound = max(limits.max_tilt, tilt(axis))
    turned = rotation_from(rpy) @ axis
    excess = tilt(turned) - bound
    if excess <= 1e-12:
        return rpy, False
    hinge = np.array([-turned[1], turned[0], 0.0])  # turned x down, the axis that lifts the tilt
    length = math.hypot(turned[0], turned[1])
    if length < 1e-9:
        return np.zeros(3), True
    back = rotation_from_vector(hinge * (excess / length))
    legal = rpy_from(back @ rotation_from(rpy))
    share = min(1.0, limits.max_rotation / max(float(np.abs(legal).max()), 1e-12))
    if tilt(rotation_from(share * legal) @ axis) > bound + 1e-12:
        return np.zeros(3), True  # a shortened large turn may bulge out of the cone on its way
    return share * legal, True
