"""A motion of the arm's own, as home and sleep: whether its way is free, and the arm follows."""

import numpy as np
from stable_crl_ros.robot.arbiter import ControlError
from stable_crl_ros.robot.collision import nearest, nearest_to_table
from stable_crl_ros.robot.kinematics import (
    forward_kinematics,
    JOINT_LOWER,
    JOINT_NAMES,
    JOINT_UPPER,
)
from stable_crl_ros.robot.limits import ArmLimits

MOVED_RAD = 0.15  # between setpoint and joint; the motors' own sag is smaller
_PATH_SAMPLES = 40
_SLACK = 0.002  # m
_ROUNDING = 1e-3  # rad, of a pose written by hand
_BEHIND_RAD, _LAG_S = 0.3, 0.2  # a joint that moves freely is nearer to its setpoint
_SETTLE_S = 1.0  # after the end of the way


def check_pose(joints: np.ndarray) -> None:
    """
    Refuse a pose that the joints cannot take, as one in degrees.

    :param joints: (6,) rad.
    :raises ControlError: naming the joint, or for another number of them.
    """
    if len(joints) != len(JOINT_NAMES):
        raise ControlError(f'a pose is {len(JOINT_NAMES)} joint angles (rad), got {len(joints)}')
    for name, angle, low, high in zip(JOINT_NAMES, joints, JOINT_LOWER, JOINT_UPPER, strict=True):
        if not low - _ROUNDING <= angle <= high + _ROUNDING:
            raise ControlError(f'{name} goes from {low:.2f} to {high:.2f} rad, not to {angle:g}')


def check_way(start: np.ndarray, end: np.ndarray, limits: ArmLimits) -> None:
    """
    Refuse a way on which the arm would touch something that it does not touch now.

    The pose of rest, where the arm leans on itself, is an end like any other; the table is not.

    :param start: (6,) rad; so is `end`. Between them the way is straight in joint space.
    :raises ControlError: naming what is in the way.
    """
    path = [start + fraction * (end - start)
            for fraction in np.linspace(0.0, 1.0, _PATH_SAMPLES)]
    heights = [forward_kinematics(joints)[2, 3] for joints in path]
    if heights[-1] < min(heights[0], limits.table_height) - _SLACK:
        raise ControlError(f'the gripper would end at z = {heights[-1]:.3f} m, below the table')
    floor = min(heights[0], heights[-1], limits.workspace_low[2]) - _SLACK
    if min(heights) < floor:
        raise ControlError(f'the gripper would pass at z = {min(heights):.3f} m, below '
                           f'{floor:.3f} m; raise the arm first')
    near = [nearest(joints, limits.table_height) for joints in path]
    closest = min(near, key=lambda pair: pair.distance)
    allowed = min(near[0].distance, near[-1].distance, limits.clearance)
    if closest.distance < allowed - _SLACK:
        raise ControlError(f'{closest.first} and {closest.second} would come within '
                           f'{closest.distance:.3f} m; move the arm away by hand or '
                           'teleoperation first')
    before, after = (nearest_to_table(joints, limits.table_height) for joints in (start, end))
    if after.distance < min(before.distance, limits.clearance) - _SLACK:
        raise ControlError(f'{after.first} and {after.second} would be {after.distance:.3f} m '
                           'apart at its end')


def why_blocked(sent: np.ndarray, measured: np.ndarray, speed: float, overdue_s: float) -> str:
    """
    Say which joint does not follow, '' while all do.

    :param sent: (6,) rad, the newest setpoint.
    :param measured: (6,) rad.
    :param speed: of the fastest joint, rad/s.
    :param overdue_s: time since the way was gone to its end, s; negative before.
    """
    behind = np.abs(sent - measured)
    worst = int(behind.argmax())
    if behind[worst] <= (MOVED_RAD if overdue_s > _SETTLE_S else _BEHIND_RAD + _LAG_S * speed):
        return ''
    return (f'{JOINT_NAMES[worst]} is {behind[worst]:.2f} rad behind its setpoint; is something '
            'in the way?')
