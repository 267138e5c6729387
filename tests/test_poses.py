"""Poses: what the numbers mean, and that every conversion comes back."""

import math

import numpy as np
import pytest
from stable_crl_ros.robot.poses import (
    apply_delta,
    delta_between,
    DOWN,
    pose_from,
    pose_from_xyz_quaternion,
    pose_of,
    pose_to_xyz_quaternion,
    quaternion_from,
    rotation_from,
    rotation_from_vector,
    rotation_vector,
    rpy_from,
)

QUARTER = math.pi / 2


def random_rotation(rng):
    return rotation_from_vector(rng.normal(size=3) * 2.0)


@pytest.mark.parametrize(('rpy', 'x_axis', 'y_axis'), [
    ([QUARTER, 0, 0], [1, 0, 0], [0, 0, 1]),
    ([0, QUARTER, 0], [0, 0, -1], [0, 1, 0]),
    ([0, 0, QUARTER], [0, 1, 0], [-1, 0, 0]),
    ([QUARTER, 0, QUARTER], [0, 1, 0], [0, 0, 1]),  # roll first, then yaw about the fixed z
])
def test_roll_pitch_yaw_turn_about_the_fixed_axes(rpy, x_axis, y_axis):
    rotation = rotation_from(rpy)
    np.testing.assert_allclose(rotation[:, 0], x_axis, atol=1e-15)
    np.testing.assert_allclose(rotation[:, 1], y_axis, atol=1e-15)


def test_down_points_the_gripper_at_the_table_and_is_bridges_default_rotation():
    np.testing.assert_array_equal(DOWN @ [1, 0, 0], [0, 0, -1])
    np.testing.assert_allclose(rotation_from([0, QUARTER, 0]), DOWN, atol=1e-15)


def test_roll_pitch_yaw_come_back():
    rng = np.random.default_rng(0)
    for _ in range(500):
        rpy = rng.uniform([-3.1, -1.5, -3.1], [3.1, 1.5, 3.1])
        np.testing.assert_allclose(rpy_from(rotation_from(rpy)), rpy, atol=1e-12)


@pytest.mark.parametrize('pitch', [QUARTER, -QUARTER])
def test_gimbal_lock_still_gives_the_same_rotation(pitch):
    rotation = rotation_from([0.4, pitch, -1.1])
    np.testing.assert_allclose(rotation_from(rpy_from(rotation)), rotation, atol=1e-9)
    assert rpy_from(rotation)[0] == 0.0


@pytest.mark.parametrize('angle', [0.0, 1e-14, 1e-7, 0.3, 3.0, math.pi - 1e-9])
def test_rotation_vector_comes_back(angle):
    rng = np.random.default_rng(1)
    for _ in range(50):
        axis = rng.normal(size=3)
        vector = angle * axis / np.linalg.norm(axis)
        np.testing.assert_allclose(rotation_vector(rotation_from_vector(vector)), vector,
                                   atol=1e-8 if angle > 3.1 else 1e-13)


def test_rotation_vector_takes_the_short_way_round():
    vector = rotation_vector(rotation_from_vector(np.array([0.0, 0.0, 1.5 * math.pi])))
    np.testing.assert_allclose(vector, [0.0, 0.0, -0.5 * math.pi], atol=1e-12)


def test_quaternion_is_a_unit_with_w_last_and_not_negative():
    np.testing.assert_allclose(quaternion_from(np.eye(3)), [0, 0, 0, 1])
    np.testing.assert_allclose(quaternion_from(DOWN), [0, math.sqrt(0.5), 0, math.sqrt(0.5)])
    rng = np.random.default_rng(2)
    for _ in range(200):
        quaternion = quaternion_from(random_rotation(rng))
        assert abs(np.linalg.norm(quaternion) - 1.0) < 1e-12
        assert quaternion[3] >= 0.0


@pytest.mark.parametrize('half_turn', [(math.pi, 0, 0), (0, math.pi, 0), (0, 0, math.pi)])
def test_quaternion_of_a_half_turn_is_accurate(half_turn):
    rotation = rotation_from_vector(np.array(half_turn, float))
    expected = np.append(np.array(half_turn) / math.pi, 0.0)
    np.testing.assert_allclose(np.abs(quaternion_from(rotation)), expected, atol=1e-12)


def test_published_pose_comes_back():
    rng = np.random.default_rng(3)
    for _ in range(300):
        pose = pose_of(random_rotation(rng), rng.uniform(-0.5, 0.5, 3))
        values = pose_to_xyz_quaternion(pose)
        assert values.shape == (7,)
        np.testing.assert_allclose(pose_from_xyz_quaternion(values), pose, atol=1e-12)
        np.testing.assert_allclose(pose_from_xyz_quaternion(values * [1, 1, 1, 3, 3, 3, 3]), pose,
                                   atol=1e-12)


def test_a_zero_quaternion_is_refused():
    with pytest.raises(ValueError, match='quaternion is all zeros'):
        pose_from_xyz_quaternion(np.zeros(7))


def test_delta_moves_along_base_axes_whichever_way_the_gripper_points():
    for rpy in ([0, QUARTER, 0], [0.3, 1.2, -2.0]):
        moved = apply_delta(pose_from([0.3, 0.0, 0.1], rpy), np.array([0.01, 0.02, 0.03, 0, 0, 0]))
        np.testing.assert_allclose(moved, pose_from([0.31, 0.02, 0.13], rpy), atol=1e-15)


def test_delta_turns_about_base_axes_and_leaves_the_tool_point():
    pose = pose_of(DOWN, [0.3, 0.1, 0.1])
    rolled = apply_delta(pose, np.array([0, 0, 0, 0.2, 0, 0]))
    np.testing.assert_array_equal(rolled[:3, 3], pose[:3, 3])
    # Pointing down, a roll swings the fingers sideways (towards +y), it does not twist them.
    np.testing.assert_allclose(rolled[:3, 0], [0, math.sin(0.2), -math.cos(0.2)], atol=1e-15)
    twisted = apply_delta(pose, np.array([0, 0, 0, 0, 0, 0.2]))
    np.testing.assert_allclose(twisted[:3, 0], [0, 0, -1], atol=1e-15)


def test_delta_between_is_what_apply_delta_needs():
    rng = np.random.default_rng(4)
    for _ in range(300):
        pose = pose_of(random_rotation(rng), rng.uniform(-0.5, 0.5, 3))
        delta = rng.uniform(-1, 1, 6) * [0.05, 0.05, 0.05, 0.25, 0.25, 0.25]
        np.testing.assert_allclose(delta_between(pose, apply_delta(pose, delta)), delta,
                                   atol=1e-13)


def test_apply_delta_takes_a_whole_action_and_ignores_its_gripper():
    pose = pose_of(DOWN, [0.3, 0.1, 0.1])
    action = np.array([0.01, 0, 0, 0, 0.1, 0, 0.7])
    np.testing.assert_array_equal(apply_delta(pose, action), apply_delta(pose, action[:6]))
