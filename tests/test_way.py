"""The way of a step: the tool goes straight, so it stays in a box that holds both ends."""

import numpy as np
import pytest
from stable_crl_ros.robot.kinematics import (
    forward_kinematics,
    inverse_kinematics,
    inverse_kinematics_all,
    JOINT_LOWER,
    JOINT_UPPER,
    START,
)
from stable_crl_ros.robot.limits import ArmLimits
from stable_crl_ros.robot.safety import apply_action, Target
from stable_crl_ros.robot.way import PIECES, straight_way

LIMITS = ArmLimits()
LOW, HIGH = np.array(LIMITS.workspace_low), np.array(LIMITS.workspace_high)


def places(rng, count):
    """Yield targets on the walls, edges and corners of the workspace, the gripper tilted."""
    while count:
        pose = forward_kinematics(START)
        pose[:3, 3] = LOW + rng.uniform(-0.2, 1.2, 3).clip(0.0, 1.0) * (HIGH - LOW)
        try:
            target = Target.from_joints(inverse_kinematics(pose, START), 1.0)
        except ValueError:
            continue
        for _ in range(rng.integers(0, 4)):
            target = after(target, [0, 0, 0, *rng.uniform(-0.25, 0.25, 3)])
        yield target
        count -= 1


def after(target, delta):
    return apply_action(target, np.append(delta, 1.0), LIMITS, 0.2, None).target


def outside(joints):
    """Return how far the tool is out of the workspace, m."""
    tool = forward_kinematics(joints)[:3, 3]
    return max(0.0, (LOW - tool).max(), (tool - HIGH).max())


def bow(points):
    """Return how much further out of the workspace a way leads than its ends are, m."""
    out = [outside(joints) for start, end in zip(points, points[1:], strict=False)
           for joints in np.linspace(start, end, 6)]
    return max(out) - max(out[0], out[-1])


@pytest.mark.parametrize(('steps', 'highest'), [(1, 0.001), (2, 0.004)])
def test_a_step_hardly_leaves_the_workspace_that_joints_alone_would_leave(steps, highest):
    rng = np.random.default_rng(0)
    bows, straight = [], []
    for start in places(rng, 300):
        delta, end = rng.choice([-1.0, 0.0, 1.0], 6) * np.repeat([0.05, 0.25], 3), start
        for _ in range(steps):
            end = after(end, delta)
        points = [start.joints, *straight_way(start.joints, end.joints), end.joints]
        bows.append(bow(points))
        straight.append(bow([start.joints, end.joints]))
    assert max(bows) < highest
    assert max(straight) > 4 * highest


def test_the_points_between_are_where_the_tool_goes_straight_and_turns_evenly():
    start = next(places(np.random.default_rng(3), 1))
    end = after(start, [-0.05, 0.02, 0.03, 0.1, -0.2, 0.1])
    via = straight_way(start.joints, end.joints)
    assert len(via) == PIECES - 1
    first, last = (forward_kinematics(one.joints) for one in (start, end))
    for number, joints in enumerate(via, 1):
        assert (joints >= JOINT_LOWER).all() and (joints <= JOINT_UPPER).all()
        between, share = forward_kinematics(joints), number / PIECES
        np.testing.assert_allclose(between[:3, 3], first[:3, 3] + share * (last - first)[:3, 3],
                                   atol=1e-9)
        angles = [np.arccos((np.trace(a[:3, :3].T @ b[:3, :3]) - 1.0) / 2.0)
                  for a, b in ((first, between), (first, last))]
        assert angles[0] == pytest.approx(share * angles[1], abs=1e-6)


def test_there_is_none_where_a_joint_would_have_to_go_a_long_way_round():
    rng = np.random.default_rng(0)
    found = ((one.joints, other) for one in places(rng, 200)
             for other in inverse_kinematics_all(forward_kinematics(one.joints)))
    start, other = max(found, key=lambda pair: np.abs(pair[0] - pair[1]).max())
    assert np.abs(other - start).max() > 1.0  # the same place with the wrist turned over
    assert straight_way(start, other) == []


def test_there_is_none_where_the_arm_does_not_reach_what_lies_between():
    stretched = START.copy()
    stretched[1:5] = 0.3, 0.0, 0.0, -0.3
    ends = [stretched.copy(), stretched.copy()]
    ends[0][0], ends[1][0] = -2.0, 2.0
    ends[1][3] = 2.0  # turned over on the way through the base
    assert straight_way(*ends) == []


def test_there_is_none_where_nothing_moves():
    assert straight_way(START, START) == []
