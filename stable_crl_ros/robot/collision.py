"""A capsule model of the WidowX 250s: how near the arm is to itself, its base and the table."""

import math
from typing import NamedTuple

import numpy as np
from stable_crl_ros.robot.kinematics import arm_plane, forward_kinematics, SHOULDER_HEIGHT

Point = tuple[float, float, float]


class Capsule(NamedTuple):
    """All points within `radius` (m) of the line from `start` to `end` (m, in base_link)."""

    name: str
    start: Point
    end: Point
    radius: float


class Nearest(NamedTuple):
    """
    The two parts of the arm that are nearest to each other.

    :param distance: between their surfaces, m; negative when they overlap.
    :param first: name of the part that moves.
    :param second: name of what it is near to.
    """

    distance: float
    first: str
    second: str


# Lengths are those of the URDF. Its masses and inertias make the base a box of 0.21 x 0.11 x
# 0.06 m behind the waist, and the forearm 37 to 46 mm thick; the motors are 28.5 x 46.5 x 34 mm
# (XM430). The capsules hold the simulated arm with 2 mm to spare at the least.
BASE = (
    Capsule('base', (-0.09, 0.0, 0.03), (0.0, 0.0, 0.03), 0.06),
    Capsule('base', (0.0, 0.0, 0.03), (0.0, 0.0, 0.055), 0.06),
    Capsule('shoulder', (0.0, 0.0, 0.08), (0.0, 0.0, 0.105), 0.046))
UPPER_ARM_RADIUS, FOREARM_RADIUS, WRIST_RADIUS = 0.03, 0.03, 0.024  # m
_UPPER_ARM_TOP = 0.25  # m from the shoulder, where the upper arm bends forward to the elbow
WRIST_LENGTH = 0.065  # m, wrist centre to the motor that turns the gripper
# The gripper in slices across it: name, distance from the wrist centre, half width, radius (m).
# Fingers as wide open as they go; they end 16 mm past the tool point.
_SLICES = (
    ('hand', 0.087, 0.02, 0.03), ('gripper bar', 0.109, 0.045, 0.018),
    ('fingers', 0.131, 0.037, 0.018), ('fingers', 0.158, 0.037, 0.018))
TABLE = 'table'


def capsules(joints: np.ndarray) -> tuple[list[Capsule], list[Capsule]]:
    """
    Return the moving parts of the arm.

    :param joints: (6,) rad.
    :returns: the upper arm's capsules; those of forearm, wrist, hand, bar and fingers.
    """
    q1, q2, q3 = (float(angle) for angle in joints[:3])
    s1, c1 = math.sin(q1), math.cos(q1)
    elbow_x, elbow_z, wrist_x, wrist_z = arm_plane(q2, q3)
    top_x = _UPPER_ARM_TOP * math.sin(q2)
    top = (c1 * top_x, s1 * top_x, SHOULDER_HEIGHT + _UPPER_ARM_TOP * math.cos(q2))
    elbow = (c1 * elbow_x, s1 * elbow_x, elbow_z)
    wrist = (c1 * wrist_x, s1 * wrist_x, wrist_z)
    (xx, yx, _, _), (xy, yy, _, _), (xz, yz, _, _) = forward_kinematics(joints)[:3].tolist()
    ahead = (xx, xy, xz)
    upper = [Capsule('upper arm', (0.0, 0.0, SHOULDER_HEIGHT), top, UPPER_ARM_RADIUS),
             Capsule('upper arm', top, elbow, UPPER_ARM_RADIUS)]
    rest = [Capsule('forearm', elbow, wrist, FOREARM_RADIUS),
            Capsule('wrist', wrist, _along(wrist, ahead, WRIST_LENGTH), WRIST_RADIUS)]
    for name, distance, half_width, radius in _SLICES:
        middle = _along(wrist, ahead, distance)
        rest.append(Capsule(name, _along(middle, (yx, yy, yz), half_width),
                            _along(middle, (yx, yy, yz), -half_width), radius))
    return upper, rest


def nearest(joints: np.ndarray, table_height: float) -> Nearest:
    """
    Return the two parts that are nearest to touching.

    Joints that meet are left out: their limits keep them apart. The fingers may touch the table,
    which is what they are for; the workspace keeps the tool point above it.

    :param joints: (6,) rad.
    :param table_height: of the table's top in base_link, m.
    """
    upper, rest = capsules(joints)
    forearm, *hand = rest
    found = _lowest(upper, rest, table_height)
    for moving, fixed in ((forearm, BASE), *((part, (*BASE, *upper)) for part in hand)):
        for other in fixed:
            found = _nearer(moving, other, found)
    return found


def nearest_to_table(joints: np.ndarray, table_height: float) -> Nearest:
    """Return the part nearest to the table; arguments as those of `nearest`."""
    return _lowest(*capsules(joints), table_height)


def _lowest(upper: list[Capsule], rest: list[Capsule], table_height: float) -> Nearest:
    found = Nearest(math.inf, '', '')
    for part in (upper[1], *rest):
        if part.name != 'fingers':
            height = min(part.start[2], part.end[2]) - part.radius - table_height
            if height < found.distance:
                found = Nearest(height, part.name, TABLE)
    return found


def _nearer(first: Capsule, second: Capsule, best: Nearest) -> Nearest:
    """Return the pair if it is nearer than `best`."""
    _, a, b, radius = first
    _, c, d, other = second
    # Half lengths and the middles' distance bound it from below, which settles most pairs.
    apart = 0.5 * math.dist((a[0] + b[0], a[1] + b[1], a[2] + b[2]),
                            (c[0] + d[0], c[1] + d[1], c[2] + d[2]))
    if apart - 0.5 * (math.dist(a, b) + math.dist(c, d)) - radius - other >= best.distance:
        return best
    distance = segment_distance(a, b, c, d) - radius - other
    return Nearest(distance, first.name, second.name) if distance < best.distance else best


def segment_distance(a: Point, b: Point, c: Point, d: Point) -> float:
    """Return the smallest distance (m) between the lines from a to b and from c to d."""
    ux, uy, uz = b[0] - a[0], b[1] - a[1], b[2] - a[2]
    vx, vy, vz = d[0] - c[0], d[1] - c[1], d[2] - c[2]
    wx, wy, wz = a[0] - c[0], a[1] - c[1], a[2] - c[2]
    uu, vv = ux * ux + uy * uy + uz * uz, vx * vx + vy * vy + vz * vz
    uv = ux * vx + uy * vy + uz * vz
    uw, vw = ux * wx + uy * wy + uz * wz, vx * wx + vy * wy + vz * wz
    across = uu * vv - uv * uv
    s = _within_one((uv * vw - vv * uw) / across) if across > 1e-12 else 0.0
    t = _within_one((uv * s + vw) / vv) if vv > 1e-12 else 0.0
    s = _within_one((uv * t - uw) / uu) if uu > 1e-12 else 0.0
    return math.sqrt((wx + s * ux - t * vx) ** 2 + (wy + s * uy - t * vy) ** 2
                     + (wz + s * uz - t * vz) ** 2)


def _within_one(value: float) -> float:
    return min(max(value, 0.0), 1.0)


def _along(start: Point, axis: Point, distance: float) -> Point:
    return (start[0] + distance * axis[0], start[1] + distance * axis[1],
            start[2] + distance * axis[2])
