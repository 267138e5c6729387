"""Rigid poses: building, comparing and moving them the way BridgeData's actions do."""

import math

import numpy as np

# Rotation of a gripper that points straight down, palm across the arm: its x axis is -z of base.
DOWN = np.array([[0.0, 0.0, 1.0], [0.0, 1.0, 0.0], [-1.0, 0.0, 0.0]])
DOWN.setflags(write=False)


def rotation_from(rpy: np.ndarray) -> np.ndarray:
    """
    Turn roll, pitch, yaw about fixed x, y, z (applied in this order) into a matrix.

    :param rpy: (3,) rad.
    :returns: (3, 3), `Rz(yaw) Ry(pitch) Rx(roll)`.
    """
    roll, pitch, yaw = (float(angle) for angle in rpy)
    sr, cr = math.sin(roll), math.cos(roll)
    sp, cp = math.sin(pitch), math.cos(pitch)
    sy, cy = math.sin(yaw), math.cos(yaw)
    return np.array([
        [cy * cp, cy * sp * sr - sy * cr, cy * sp * cr + sy * sr],
        [sy * cp, sy * sp * sr + cy * cr, sy * sp * cr - cy * sr],
        [-sp, cp * sr, cp * cr]])


def rpy_from(rotation: np.ndarray) -> np.ndarray:
    """
    Invert `rotation_from`; at pitch = +-pi/2, where only one angle is left, roll is 0.

    :param rotation: (3, 3).
    :returns: (3,) rad, pitch within +-pi/2.
    """
    (r00, r01, _), (r10, r11, _), (r20, r21, r22) = np.asarray(rotation, float).tolist()
    cos_pitch = math.hypot(r21, r22)
    pitch = math.atan2(-r20, cos_pitch)
    if cos_pitch < 1e-9:
        return np.array([0.0, pitch, math.atan2(-r01, r11)])
    return np.array([math.atan2(r21, r22), pitch, math.atan2(r10, r00)])


def rotation_vector(rotation: np.ndarray) -> np.ndarray:
    """
    Return axis times angle (rad, 0..pi) of a rotation matrix, shape (3,).

    :param rotation: (3, 3).
    """
    quaternion = quaternion_from(rotation)  # w >= 0, so the angle is the short way round
    sine = float(np.linalg.norm(quaternion[:3]))
    if sine < 1e-12:
        return 2.0 * quaternion[:3]
    return quaternion[:3] * (2.0 * math.atan2(sine, quaternion[3]) / sine)


def rotation_from_vector(vector: np.ndarray) -> np.ndarray:
    """
    Invert `rotation_vector`.

    :param vector: (3,) axis times angle, rad.
    :returns: (3, 3).
    """
    angle = float(np.linalg.norm(vector))
    if angle < 1e-15:
        return np.eye(3)
    x, y, z = np.asarray(vector, float) / angle
    across = np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
    return np.eye(3) + math.sin(angle) * across + (1 - math.cos(angle)) * across @ across


def quaternion_from(rotation: np.ndarray) -> np.ndarray:
    """
    Return the unit quaternion x, y, z, w with w >= 0 of a rotation matrix (3, 3).

    Divides by the largest of the four components, so it is accurate for every rotation.
    """
    r = np.asarray(rotation, float)
    trace = np.trace(r)
    squares = np.array([1 + 2 * r[0, 0] - trace, 1 + 2 * r[1, 1] - trace,
                        1 + 2 * r[2, 2] - trace, 1 + trace])  # 4 x², 4 y², 4 z², 4 w²
    largest = int(np.argmax(squares))
    row = {
        0: [squares[0], r[0, 1] + r[1, 0], r[0, 2] + r[2, 0], r[2, 1] - r[1, 2]],
        1: [r[0, 1] + r[1, 0], squares[1], r[1, 2] + r[2, 1], r[0, 2] - r[2, 0]],
        2: [r[0, 2] + r[2, 0], r[1, 2] + r[2, 1], squares[2], r[1, 0] - r[0, 1]],
        3: [r[2, 1] - r[1, 2], r[0, 2] - r[2, 0], r[1, 0] - r[0, 1], squares[3]],
    }[largest]
    quaternion = np.array(row) / np.linalg.norm(row)
    return -quaternion if quaternion[3] < 0 else quaternion


def pose_from(xyz: np.ndarray, rpy: np.ndarray) -> np.ndarray:
    """
    Build a pose.

    :param xyz: (3,) m.
    :param rpy: (3,) rad about fixed x, y, z.
    :returns: (4, 4).
    """
    return pose_of(rotation_from(rpy), xyz)


def pose_of(rotation: np.ndarray, xyz: np.ndarray) -> np.ndarray:
    """
    Build a pose from a rotation (3, 3) and a position (3,) m.

    :returns: (4, 4).
    """
    pose = np.eye(4)
    pose[:3, :3] = rotation
    pose[:3, 3] = xyz
    return pose


def pose_to_xyz_quaternion(pose: np.ndarray) -> np.ndarray:
    """
    Turn a pose into the numbers that are published and stored.

    :param pose: (4, 4).
    :returns: (7,) x, y, z (m), quaternion x, y, z, w with w >= 0.
    """
    return np.concatenate([pose[:3, 3], quaternion_from(pose[:3, :3])])


def pose_from_xyz_quaternion(values: np.ndarray) -> np.ndarray:
    """
    Invert `pose_to_xyz_quaternion`; the quaternion is normalised first.

    :param values: (7,) x, y, z (m), quaternion x, y, z, w.
    :returns: (4, 4).
    :raises ValueError: for a quaternion of length 0.
    """
    x, y, z, w = (float(value) for value in values[3:])
    norm = x * x + y * y + z * z + w * w
    if norm < 1e-12:
        raise ValueError('the quaternion is all zeros, which is no rotation; '
                         'the identity is 0, 0, 0, 1')
    s = 2.0 / norm
    rotation = np.array([
        [1 - s * (y * y + z * z), s * (x * y - z * w), s * (x * z + y * w)],
        [s * (x * y + z * w), 1 - s * (x * x + z * z), s * (y * z - x * w)],
        [s * (x * z - y * w), s * (y * z + x * w), 1 - s * (x * x + y * y)]])
    return pose_of(rotation, values[:3])


def apply_delta(pose: np.ndarray, delta: np.ndarray) -> np.ndarray:
    """
    Move a pose as a BridgeData action does: along and about base axes, at the tool point.

    With a gripper that points down, 'roll' therefore turns about base x, not about the gripper.

    :param pose: (4, 4).
    :param delta: (6,) dx, dy, dz (m), droll, dpitch, dyaw (rad, fixed axes); the gripper of a
        whole action (7,) is ignored.
    :returns: (4, 4).
    """
    return pose_of(rotation_from(delta[3:6]) @ pose[:3, :3], pose[:3, 3] + delta[:3])


def delta_between(pose: np.ndarray, new_pose: np.ndarray) -> np.ndarray:
    """
    Return the (6,) delta that `apply_delta` turns `pose` into `new_pose` with.

    Unique for rotations below a quarter turn, which every control step is.
    """
    rpy = rpy_from(new_pose[:3, :3] @ pose[:3, :3].T)
    return np.concatenate([new_pose[:3, 3] - pose[:3, 3], rpy])
