"""Kinematics: the vendor's numbers, and an inverse that is exact on every branch."""

import math
import time

import numpy as np
import pytest
from stable_crl_ros.robot.kinematics import (
    forward_kinematics,
    HOME,
    inverse_kinematics,
    inverse_kinematics_all,
    jacobian,
    JOINT_LOWER,
    JOINT_NAMES,
    JOINT_UPPER,
    JumpError,
    reach,
    SLEEP,
    START,
    UnreachableError,
)
from stable_crl_ros.robot.poses import (
    DOWN,
    pose_from,
    pose_of,
    rotation_from_vector,
    rotation_vector,
)

BRIDGE_NEUTRAL = (-.13192235, -.76238847, .44485444, -.01994175, 1.7564081, -.15953401)
SIMPLER_START = (-.01840777, .0398835, .22242722, -.00460194, 1.36524296, .00153398)
SIMPLER_SINK = (-.2600599, -.12875618, .04461369, -.00652761, 1.7033415, -.26983038)

# The vendor's product-of-exponentials description: axis w and moment v of every joint at HOME.
SCREWS = (
    ((0, 0, 1), (0, 0, 0)),
    ((0, 1, 0), (-0.11065, 0, 0)),
    ((0, 1, 0), (-0.36065, 0, 0.04975)),
    ((1, 0, 0), (0, 0.36065, 0)),
    ((0, 1, 0), (-0.36065, 0, 0.29975)),
    ((1, 0, 0), (0, 0.36065, 0)),
)


def exponential(axis, moment, angle):
    """Rigid motion of a screw without pitch: a turn about a line that stays in place."""
    rotation = rotation_from_vector(np.multiply(axis, angle))
    point = np.cross(axis, moment)
    return pose_of(rotation, point - rotation @ point)


def product_of_exponentials(joints):
    pose = np.eye(4)
    for (axis, moment), angle in zip(SCREWS, joints, strict=True):
        pose = pose @ exponential(axis, moment, angle)
    return pose @ pose_of(np.eye(3), [0.458325, 0, 0.36065])


def random_joints(rng, count):
    return rng.uniform(JOINT_LOWER, JOINT_UPPER, (count, 6))


@pytest.mark.parametrize(('joints', 'xyz'), [
    (HOME, (0.458325, 0, 0.36065)),
    (SLEEP, (0.1227, 0, 0.0813)),
    (BRIDGE_NEUTRAL, (0.1202, -0.0191, 0.2467)),
    (START, (0.300, 0, 0.150)),
    ((0, 0.0220, 0.1831, 0, 1.3657, 0), (0.300, 0, 0.150)),
    (SIMPLER_START, (0.2921, -0.0061, 0.1353)),
    (SIMPLER_SINK, (0.2497, -0.0675, 0.2276)),
    ((0, -0.96, 1.16, 0, -0.3, 0), (0.2265, 0, 0.2609)),
], ids=['home', 'sleep', 'bridge', 'start', 'start_rounded', 'simpler', 'sink', 'aloha'])
def test_published_poses_are_reproduced(joints, xyz):
    np.testing.assert_allclose(forward_kinematics(joints)[:3, 3], xyz, atol=6e-5)


def test_start_points_straight_down():
    np.testing.assert_allclose(forward_kinematics(START), pose_of(DOWN, [0.3, 0, 0.15]),
                               atol=1e-15)


def test_bridge_neutral_is_seven_and_a_half_degrees_off_straight_down():
    tilt = math.degrees(math.acos(-forward_kinematics(BRIDGE_NEUTRAL)[2, 0]))
    assert abs(tilt - 7.6) < 0.05


def test_forward_kinematics_is_the_vendors_product_of_exponentials():
    for joints in random_joints(np.random.default_rng(0), 500):
        np.testing.assert_allclose(forward_kinematics(joints), product_of_exponentials(joints),
                                   atol=1e-14)


def test_named_poses_are_within_the_limits_and_cannot_be_overwritten():
    for joints in (HOME, SLEEP, START):
        assert joints.shape == (len(JOINT_NAMES),)
        assert (joints >= JOINT_LOWER).all() and (joints <= JOINT_UPPER).all()
        with pytest.raises(ValueError, match='read-only'):
            joints[0] = 1.0


def test_every_branch_reaches_the_pose_and_one_is_where_it_came_from():
    for joints in random_joints(np.random.default_rng(1), 2000):
        pose = forward_kinematics(joints)
        solutions = inverse_kinematics_all(pose)
        assert 1 <= len(solutions) <= 8
        for solution in solutions:
            np.testing.assert_allclose(forward_kinematics(solution), pose, atol=1e-9)
        assert (solutions >= JOINT_LOWER).all() and (solutions <= JOINT_UPPER).all()
        assert np.abs(solutions - joints).max(axis=1).min() < 1e-6


def test_up_to_eight_different_branches_are_found():
    counts = set()
    for joints in random_joints(np.random.default_rng(2), 300):
        solutions = inverse_kinematics_all(forward_kinematics(joints))
        counts.add(len(solutions))
        for i, solution in enumerate(solutions):
            assert (np.abs(solutions[i + 1:] - solution).max(axis=1, initial=0) > 1e-3).all()
    assert max(counts) == 8


def test_the_branch_nearest_to_the_seed_is_chosen():
    rng = np.random.default_rng(3)
    for joints in random_joints(rng, 500):
        pose = forward_kinematics(joints)
        seed = np.clip(joints + rng.uniform(-0.5, 0.5, 6), JOINT_LOWER, JOINT_UPPER)
        chosen = inverse_kinematics(pose, seed)
        distances = np.abs(inverse_kinematics_all(pose) - seed).max(axis=1)
        assert np.abs(chosen - seed).max() == distances.min()


def test_solutions_at_the_joint_limits_are_kept():
    rng = np.random.default_rng(4)
    for joints in random_joints(rng, 500):
        index = rng.integers(6)
        joints[index] = (JOINT_LOWER if rng.random() < 0.5 else JOINT_UPPER)[index]
        pose = forward_kinematics(joints)
        solution = inverse_kinematics(pose, joints)
        np.testing.assert_allclose(solution, joints, atol=1e-6)
        np.testing.assert_allclose(forward_kinematics(solution), pose, atol=1e-9)


@pytest.mark.parametrize('wrist_angle', [0.0, 1e-12, 1e-9, 3e-9, 1e-8, 1e-6, -1e-7, -1e-10])
def test_a_straight_wrist_is_solved_exactly(wrist_angle):
    for joints in random_joints(np.random.default_rng(5), 100):
        joints[4] = wrist_angle
        pose = forward_kinematics(joints)
        solution = inverse_kinematics(pose, joints)
        np.testing.assert_allclose(forward_kinematics(solution), pose, atol=1e-9)
        assert np.abs(solution - joints).max() < 1e-5


def test_a_straight_wrist_keeps_the_forearm_roll_of_the_seed():
    joints = np.array([0.1, 0.2, -0.3, 0.7, 0.0, -0.4])
    np.testing.assert_allclose(inverse_kinematics(forward_kinematics(joints), joints), joints,
                               atol=1e-9)


@pytest.mark.parametrize('waist', [-2.0, 0.0, 0.9])
def test_a_wrist_above_the_waist_keeps_the_waist_of_the_seed(waist):
    joints = inverse_kinematics(pose_from([0.158575, 0, 0.45], [0, 0, 0]), HOME)
    joints[0] = waist
    pose = forward_kinematics(joints)
    assert np.hypot(*(pose[:2, 3] - 0.158575 * pose[:2, 0])) < 1e-12
    solution = inverse_kinematics(pose, joints)
    np.testing.assert_allclose(solution, joints, atol=1e-6)
    np.testing.assert_allclose(forward_kinematics(solution), pose, atol=1e-9)


def test_a_stretched_elbow_is_solved_exactly():
    stretched = -math.atan2(0.25, 0.04975)  # elbow angle that aligns forearm and upper arm
    rng = np.random.default_rng(6)
    for joints in random_joints(rng, 200):
        joints[2] = stretched + rng.choice([0.0, 1e-9, -1e-8, 1e-6])
        pose = forward_kinematics(joints)
        solution = inverse_kinematics(pose, joints)
        np.testing.assert_allclose(forward_kinematics(solution), pose, atol=1e-9)


def test_too_far_says_how_far_and_how_far_the_arm_reaches():
    with pytest.raises(UnreachableError, match=r'0\.900, 0\.000, 0\.200.*0\.005 to 0\.505 m'):
        inverse_kinematics(pose_of(DOWN, [0.9, 0, 0.2]), START)
    assert inverse_kinematics_all(pose_of(DOWN, [0.9, 0, 0.2])).shape == (0, 6)


def test_blocked_by_limits_names_the_joints():
    pose = pose_from([0.3, 0, 0.15], [0, -math.pi / 2, 0])  # gripper pointing straight up
    with pytest.raises(UnreachableError, match='outside the joint limits .*wrist_angle'):
        inverse_kinematics(pose, START)


def test_reach_says_how_far_out_of_reach_a_pose_is():
    far = pose_of(DOWN, [0.9, 0, 0.2])  # wrist at 0.9, 0, 0.358575
    beyond = math.hypot(0.9, 0.358575 - 0.11065) - math.hypot(0.04975, 0.25) - 0.25
    assert reach(far).beyond == pytest.approx(beyond, abs=1e-12)
    assert (reach(far).solutions, reach(far).blocked) == (0, {})
    near = pose_of(DOWN, [0, 0, 0.11065 - 0.158575])  # wrist in the shoulder
    assert reach(near).beyond == pytest.approx(0.25 - math.hypot(0.04975, 0.25), abs=1e-12)


def test_reach_says_which_joints_block_a_pose_and_by_how_much():
    joints = START.copy()
    joints[4] = JOINT_UPPER[4] + 0.2  # the wrist bent back further than it can be
    found = reach(forward_kinematics(joints))
    assert (found.solutions, found.beyond) == (0, 0.0)
    assert 'wrist_angle' in str(found)
    assert found.blocked['wrist_angle'] == pytest.approx(0.2, abs=1e-9)


def test_reach_counts_the_ways_to_take_a_pose():
    counts = set()
    for joints in random_joints(np.random.default_rng(9), 100):
        pose = forward_kinematics(joints)
        found = reach(pose)
        assert found.solutions == len(inverse_kinematics_all(pose))
        assert (found.beyond, found.blocked) == (0.0, {})
        counts.add(found.solutions)
    assert {1, 8} <= counts


def test_a_jump_is_refused_naming_the_joint():
    joints = START.copy()
    joints[5] = 3.0
    pose = forward_kinematics(joints)
    seed = joints - [0, 0, 0, 0, 0, 2.9]
    with pytest.raises(JumpError, match=r'wrist_rotate .* 2\.900 rad at once, more than 1\.000'):
        inverse_kinematics(pose, seed, max_jump=1.0)
    np.testing.assert_allclose(inverse_kinematics(pose, seed, max_jump=3.0), joints, atol=1e-9)


@pytest.mark.parametrize('value', [math.nan, math.inf])
def test_a_pose_that_is_not_finite_is_unreachable(value):
    pose = pose_of(DOWN, [0.3, value, 0.15])
    with pytest.raises(UnreachableError, match='not finite'):
        inverse_kinematics(pose, START)


def test_jacobian_is_the_derivative_of_the_pose():
    step = 1e-6
    for joints in random_joints(np.random.default_rng(7), 100):
        columns = []
        for nudge in step * np.eye(6):
            ahead, behind = forward_kinematics(joints + nudge), forward_kinematics(joints - nudge)
            turn = rotation_vector(ahead[:3, :3] @ behind[:3, :3].T)
            columns.append(np.concatenate([ahead[:3, 3] - behind[:3, 3], turn]) / (2 * step))
        np.testing.assert_allclose(jacobian(joints), np.array(columns).T, atol=1e-8)


def test_inverse_kinematics_takes_less_than_a_quarter_millisecond():
    seconds = []
    for joints in random_joints(np.random.default_rng(8), 400):
        pose = forward_kinematics(joints)
        begin = time.thread_time()
        inverse_kinematics(pose, joints)
        seconds.append(time.thread_time() - begin)
    assert np.percentile(seconds, 10) < 0.25e-3  # the rest had others' work in the caches
