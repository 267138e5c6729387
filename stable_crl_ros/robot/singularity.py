"""How far the arm is from a singularity, where it loses a direction to move in."""

import numpy as np
from stable_crl_ros.robot.kinematics import jacobian
from stable_crl_ros.robot.limits import ArmLimits

_LEAST = 0.01  # of a step; a difference smaller than that is not worth telling


def singular_values(joints: np.ndarray) -> np.ndarray:
    """
    Return the gains of the six directions the gripper can move in, the largest first.

    Metres and radians are mixed as they are, as MoveIt Servo does: a radian counts as a metre.

    :param joints: (6,) rad.
    :returns: (6,), m/s or rad/s of the gripper per rad/s of the joints; the last is 0 where a
        direction is lost.
    """
    return np.linalg.svd(jacobian(joints), compute_uv=False)


def manipulability(joints: np.ndarray) -> float:
    """Return Yoshikawa's measure at the joints (6,) rad: the product of the singular values."""
    return float(np.prod(singular_values(joints)))


def condition_number(joints: np.ndarray) -> float:
    """
    Return the largest over the smallest singular value; infinity in a singularity.

    Pointing down in the default workspace it is 11 to 20, and up to 90 in its far upper corners,
    where the arm is stretched; folded over its own waist or with a straight wrist it is larger.

    :param joints: (6,) rad.
    """
    values = singular_values(joints)
    return float(values[0] / values[-1]) if values[-1] > 1e-15 else float('inf')


def approach_share(before: np.ndarray, after: np.ndarray, limits: ArmLimits) -> float:
    """
    Say how much of a step may be made in view of the singularity it leads towards.

    All of it below `slow_condition`, wherever it leads away, and in the directions that are not
    being lost. In the one that is, none from `max_condition` on, and in between what is left of
    that band, in proportion.

    :param before: (6,) rad, the joints the step starts from.
    :param after: (6,) rad, the joints it would end at.
    :returns: 0 to 1.
    """
    end = condition_number(after)
    if end <= limits.slow_condition or end <= condition_number(before):
        return 1.0
    _, values, directions = np.linalg.svd(jacobian(before))
    start = float(values[0] / max(values[-1], 1e-15))
    move = after - before
    lost = float(directions[-1] @ move) ** 2 / float(move @ move)  # share of the motion in it
    left = (limits.max_condition - start) / (limits.max_condition - limits.slow_condition)
    share = 1.0 - lost * (1.0 - min(max(left, 0.0), 1.0))
    return 0.0 if share < _LEAST else 1.0 if share > 1.0 - _LEAST else share
