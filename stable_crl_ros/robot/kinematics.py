"""Exact forward and inverse kinematics of the WidowX 250s, in plain scalars for speed."""

from collections.abc import Sequence
from dataclasses import dataclass, field
import math

import numpy as np


def _constant(*values: float) -> np.ndarray:
    array = np.array(values)
    array.setflags(write=False)
    return array


JOINT_NAMES = ('waist', 'shoulder', 'elbow', 'forearm_roll', 'wrist_angle', 'wrist_rotate')
_TURN = math.pi - 1e-5  # rad, the vendor's limit of the joints that can turn right round
JOINT_LOWER = _constant(-_TURN, -1.88496, -2.14675, -_TURN, -1.74533, -_TURN)  # rad
JOINT_UPPER = _constant(_TURN, 1.98968, 1.60570, _TURN, 2.14675, _TURN)  # rad
MAX_JOINT_VELOCITY = math.pi  # rad/s, the motors' configured limit

HOME = _constant(0, 0, 0, 0, 0, 0)  # gripper straight ahead, horizontal
SLEEP = _constant(0, -1.80, 1.55, 0, 0.8, 0)  # folded onto its rest
START = _constant(  # tool point at 0.3, 0, 0.15 m, gripper straight down
    0, 0.022011994324719453, 0.18310092416264445, 0, 1.3656834083075327, 0)

SHOULDER_HEIGHT = 0.11065  # m, above base_link
_ELBOW_X, _ELBOW_Z = 0.04975, 0.25  # m, from the shoulder when the arm is at HOME
UPPER_ARM = math.hypot(_ELBOW_X, _ELBOW_Z)  # m, shoulder to elbow
FOREARM = 0.25  # m, elbow to wrist centre
HAND = 0.158575  # m, wrist centre to tool point (ee_gripper_link)
_UPPER_ARM_ELEVATION = math.atan2(_ELBOW_Z, _ELBOW_X)  # rad, of the upper arm at HOME
_LIMIT_TOLERANCE = 1e-10  # rad; a solution this far outside a limit is on it, up to rounding
_LOWER, _UPPER = JOINT_LOWER.tolist(), JOINT_UPPER.tolist()


class UnreachableError(ValueError):
    """No joint angles within the limits put the gripper at this pose."""


class JumpError(ValueError):
    """The pose can be reached, but only by moving a joint further than is allowed at once."""


@dataclass(frozen=True)
class Reach:
    """
    Whether a pose can be taken, and what is in the way if not; `str` of it says so.

    :param solutions: number of branches within the joint limits, 0 to 8.
    :param beyond: by which the wrist centre is too far from the shoulder, m; negative when it is
        too near, 0 when it is neither.
    :param blocked: joint -> rad past its limit, in the branch that exceeds the limits least;
        empty when there is no branch, or one within the limits.
    """

    solutions: int
    beyond: float
    blocked: dict[str, float] = field(default_factory=dict)

    def __str__(self) -> str:
        if self.solutions:
            return f'reachable in {self.solutions} ways'
        if self.blocked:
            joints = ', '.join(f'{name} by {excess:.3f} rad'
                               for name, excess in self.blocked.items())
            return f'every solution is outside the joint limits (the nearest: {joints})'
        near, far = abs(UPPER_ARM - FOREARM), UPPER_ARM + FOREARM
        distance = far + self.beyond if self.beyond > 0.0 else near + self.beyond
        return (f'its wrist is {distance:.3f} m from the shoulder, which reaches {near:.3f} to '
                f'{far:.3f} m: {1e3 * abs(self.beyond):.1f} mm too '
                f'{"far" if self.beyond > 0.0 else "near"}')


def arm_plane(shoulder: float, elbow: float) -> tuple[float, float, float, float]:
    """Return elbow and wrist centre in the arm's vertical plane: ex, ez, wx, wz (m)."""
    s2, c2 = math.sin(shoulder), math.cos(shoulder)
    ex = _ELBOW_X * c2 + _ELBOW_Z * s2
    ez = SHOULDER_HEIGHT - _ELBOW_X * s2 + _ELBOW_Z * c2
    pitch = shoulder + elbow
    return ex, ez, ex + FOREARM * math.cos(pitch), ez - FOREARM * math.sin(pitch)


def forward_kinematics(joints: np.ndarray) -> np.ndarray:
    """
    Return the pose of the gripper (`ee_gripper_link`, x forward) in `base_link`.

    :param joints: (6,) rad, in the order of `JOINT_NAMES`.
    :returns: (4, 4).
    """
    q1, q2, q3, q4, q5, q6 = (float(angle) for angle in joints)
    _, _, wrist_x, wrist_z = arm_plane(q2, q3)
    s1, c1, s4, c4 = math.sin(q1), math.cos(q1), math.sin(q4), math.cos(q4)
    sp, cp = math.sin(q2 + q3), math.cos(q2 + q3)
    s5, c5, s6, c6 = math.sin(q5), math.cos(q5), math.sin(q6), math.cos(q6)
    columns = []
    for x, y, z in (  # columns of Rx(q4) Ry(q5) Rx(q6), turned by Ry(q2 + q3), then Rz(q1)
            (c5, s4 * s5, -c4 * s5),
            (s5 * s6, c4 * c6 - s4 * c5 * s6, s4 * c6 + c4 * c5 * s6),
            (s5 * c6, -c4 * s6 - s4 * c5 * c6, -s4 * s6 + c4 * c5 * c6)):
        ahead = cp * x + sp * z
        columns.append((c1 * ahead - s1 * y, s1 * ahead + c1 * y, cp * z - sp * x))
    (xx, xy, xz), (yx, yy, yz), (zx, zy, zz) = columns
    return np.array([
        [xx, yx, zx, c1 * wrist_x + HAND * xx],
        [xy, yy, zy, s1 * wrist_x + HAND * xy],
        [xz, yz, zz, wrist_z + HAND * xz],
        [0.0, 0.0, 0.0, 1.0]])


def jacobian(joints: np.ndarray) -> np.ndarray:
    """
    Return the Jacobian of the tool point in base axes.

    :param joints: (6,) rad.
    :returns: (6, 6), rows vx, vy, vz (m/s), wx, wy, wz (rad/s) per rad/s of each joint.
    """
    q1, q2, q3, q4 = (float(angle) for angle in joints[:4])
    (xx, *_, tx), (xy, *_, ty), (xz, *_, tz), _ = forward_kinematics(joints).tolist()
    elbow_x, elbow_z, wrist_x, wrist_z = arm_plane(q2, q3)
    s1, c1, s4, c4 = math.sin(q1), math.cos(q1), math.sin(q4), math.cos(q4)
    sp, cp = math.sin(q2 + q3), math.cos(q2 + q3)
    wrist = (c1 * wrist_x, s1 * wrist_x, wrist_z)
    columns = []
    for (ax, ay, az), (px, py, pz) in (  # axis, and a point on it
            ((0.0, 0.0, 1.0), (0.0, 0.0, 0.0)),
            ((-s1, c1, 0.0), (0.0, 0.0, SHOULDER_HEIGHT)),
            ((-s1, c1, 0.0), (c1 * elbow_x, s1 * elbow_x, elbow_z)),
            ((c1 * cp, s1 * cp, -sp), wrist),
            ((-s1 * c4 + c1 * sp * s4, c1 * c4 + s1 * sp * s4, cp * s4), wrist),
            ((xx, xy, xz), wrist)):
        x, y, z = tx - px, ty - py, tz - pz
        columns.append((ay * z - az * y, az * x - ax * z, ax * y - ay * x, ax, ay, az))
    return np.array(columns).T


def inverse_kinematics_all(pose: np.ndarray) -> np.ndarray:
    """
    Return every closed-form solution within the joint limits.

    Two waist, two elbow and two wrist branches. Where one of the axes drops out (wrist centre
    above the waist, straight wrist) the free angle is 0.

    :param pose: (4, 4) of the gripper in `base_link`.
    :returns: (n, 6) rad, n from 0 to 8.
    """
    solutions = _solve(pose, (0.0,) * 6)[0]
    return np.array(solutions) if solutions else np.empty((0, 6))


def inverse_kinematics(
    pose: np.ndarray, seed: np.ndarray, max_jump: float = math.inf,
) -> np.ndarray:
    """
    Return the in-limit solution nearest to `seed` (smallest largest joint difference).

    :param pose: (4, 4) of the gripper in `base_link`.
    :param seed: (6,) rad; where an axis drops out, the free angle is the seed's.
    :param max_jump: largest joint difference accepted, rad.
    :returns: (6,) rad.
    :raises UnreachableError: when there is none, saying why.
    :raises JumpError: when the nearest is further away than `max_jump`, naming the joint.
    """
    seed_angles = np.asarray(seed, float).tolist()
    solutions, rejected = _solve(pose, seed_angles)
    if not solutions:
        where = ', '.join(f'{value:.3f}' for value in pose[:3, 3])
        raise UnreachableError(f'gripper at {where} m: {_reach(pose, solutions, rejected)}')
    distance, joints = min((max(_differences(joints, seed_angles)), joints)
                           for joints in solutions)
    if distance > max_jump:
        name = JOINT_NAMES[_differences(joints, seed_angles).index(distance)]
        raise JumpError(f'{name} would have to move by {distance:.3f} rad at once, more than '
                        f'{max_jump:.3f}; go there in smaller steps')
    return np.array(joints)


def reach(pose: np.ndarray) -> Reach:
    """
    Say whether the gripper can take a pose, and if not how far off it is and what blocks it.

    :param pose: (4, 4) of the gripper in `base_link`.
    :raises UnreachableError: for numbers that are not finite.
    """
    return _reach(pose, *_solve(pose, (0.0,) * 6))


def _reach(pose: np.ndarray, solutions: list, rejected: list[list[float]]) -> Reach:
    wrist = pose[:3, 3] - HAND * pose[:3, 0] - (0.0, 0.0, SHOULDER_HEIGHT)
    distance = float(np.linalg.norm(wrist))
    beyond = (max(distance - UPPER_ARM - FOREARM, 0.0)
              + min(distance - abs(UPPER_ARM - FOREARM), 0.0))
    if solutions or not rejected:
        return Reach(len(solutions), beyond)
    excesses = min((_excesses(joints) for joints in rejected), key=max)
    return Reach(0, 0.0, {name: excess for name, excess in zip(
        JOINT_NAMES, excesses, strict=True) if excess > _LIMIT_TOLERANCE})


def _differences(joints: Sequence[float], others: Sequence[float]) -> list[float]:
    return [abs(angle - other) for angle, other in zip(joints, others, strict=True)]


def _excesses(joints: Sequence[float]) -> list[float]:
    return [max(low - angle, angle - high, 0.0)
            for low, angle, high in zip(_LOWER, joints, _UPPER, strict=True)]


def _solve(
    pose: np.ndarray, seed: Sequence[float],
) -> tuple[list[list[float]], list[list[float]]]:
    """Return the solutions within the limits, and those outside."""
    rows = np.asarray(pose, float)[:3].tolist()
    if not all(math.isfinite(value) for row in rows for value in row):
        raise UnreachableError(f'the pose holds numbers that are not finite:\n{pose}')
    wrist = [row[3] - HAND * row[0] for row in rows]
    on_axis = math.hypot(wrist[0], wrist[1]) < 1e-9
    waist = seed[0] if on_axis else math.atan2(wrist[1], wrist[0])
    solutions, rejected = [], []
    for q1 in (waist, waist - math.copysign(math.pi, waist)):
        radius = math.cos(q1) * wrist[0] + math.sin(q1) * wrist[1]
        for q2, q3 in _solve_plane(radius, wrist[2] - SHOULDER_HEIGHT):
            for q4, q5, q6 in _solve_wrist(rows, q1, q2 + q3, seed[3]):
                joints = [q1, q2, q3, q4, q5, q6]
                if _within_limits(joints):
                    solutions.append([min(max(angle, low), high) for angle, low, high in zip(
                        joints, _LOWER, _UPPER, strict=True)])
                else:
                    rejected.append(joints)
    return solutions, rejected


def _solve_plane(radius: float, height: float) -> list[tuple[float, float]]:
    """Solve shoulder and elbow for a wrist centre in the arm's plane, both elbow branches."""
    cosine = ((radius * radius + height * height - UPPER_ARM ** 2 - FOREARM ** 2)
              / (2.0 * UPPER_ARM * FOREARM))
    if abs(cosine) > 1.0 + 1e-12:
        return []
    bend = math.acos(min(max(cosine, -1.0), 1.0))
    towards = math.atan2(height, radius)
    angles = []
    for fold in (bend, -bend):  # forearm elevation minus upper arm elevation
        upper = towards - math.atan2(FOREARM * math.sin(fold),
                                     UPPER_ARM + FOREARM * math.cos(fold))
        angles.append((_wrap(_UPPER_ARM_ELEVATION - upper),
                       _wrap(-fold - _UPPER_ARM_ELEVATION)))
    return angles


def _solve_wrist(
    rows: list[list[float]], q1: float, pitch: float, seed_roll: float,
) -> list[tuple[float, float, float]]:
    """Solve the last three joints, both branches, once the forearm's direction is known."""
    s1, c1, sp, cp = math.sin(q1), math.cos(q1), math.sin(pitch), math.cos(pitch)
    ahead = [c1 * rows[0][i] + s1 * rows[1][i] for i in range(3)]
    m0 = [cp * ahead[i] - sp * rows[2][i] for i in range(3)]
    m1 = [c1 * rows[1][i] - s1 * rows[0][i] for i in range(3)]
    m2 = [sp * ahead[i] + cp * rows[2][i] for i in range(3)]
    straight = math.hypot(m1[0], m2[0]) < 1e-9
    roll = seed_roll if straight else math.atan2(m1[0], -m2[0])
    angles = []
    for q4 in (roll, roll - math.copysign(math.pi, roll)):
        # Both angles follow from the q4 chosen, so its rounding error near a straight wrist
        # does not reach the pose.
        s4, c4 = math.sin(q4), math.cos(q4)
        angles.append((q4, math.atan2(s4 * m1[0] - c4 * m2[0], m0[0]),
                       math.atan2(-c4 * m1[2] - s4 * m2[2], c4 * m1[1] + s4 * m2[1])))
    return angles


def _wrap(angle: float) -> float:
    return math.remainder(angle, math.tau)


def _within_limits(joints: list[float]) -> bool:
    return all(low - _LIMIT_TOLERANCE <= angle <= high + _LIMIT_TOLERANCE
               for low, angle, high in zip(_LOWER, joints, _UPPER, strict=True))
