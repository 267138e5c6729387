"""The way of a step: straight for the tool, which straight in joint space is an arc."""

import numpy as np
from stable_crl_ros.robot.kinematics import forward_kinematics, inverse_kinematics
from stable_crl_ros.robot.poses import rotation_from_vector, rotation_vector

PIECES = 4  # straight in joint space each: the arcs are 16 times as low as one over the whole way
_DETOUR = 3.0  # times its share that a joint may move in one piece
_AT_REST = 1e-9  # rad


def straight_way(start: np.ndarray, end: np.ndarray) -> list[np.ndarray]:
    """
    Return joint positions between two others, at which the tool is on its straight way.

    The workspace is a box: a tool that goes straight from one place in it to another stays in it.

    :param start: (6,) rad; so is `end`.
    :returns: PIECES - 1 of them, (6,) rad, at equal shares of the way; none where the arm cannot
        reach what lies between, or only by a detour of its joints.
    """
    span = float(np.abs(end - start).max())
    if span < _AT_REST:
        return []
    first, last = forward_kinematics(start), forward_kinematics(end)
    turn = rotation_vector(first[:3, :3].T @ last[:3, :3])
    found = [np.asarray(start, float)]
    for share in np.arange(1, PIECES) / PIECES:
        pose = first + share * (last - first)
        pose[:3, :3] = first[:3, :3] @ rotation_from_vector(share * turn)
        try:
            found.append(inverse_kinematics(pose, found[-1]))
        except ValueError:
            return []
    moved = np.abs(np.diff([*found, end], axis=0)).max()
    return found[1:] if moved <= _DETOUR * span / PIECES else []
