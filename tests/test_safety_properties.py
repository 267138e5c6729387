"""Safety, whatever is sent: properties of one step and of streams of them, by hypothesis."""

import math

from hypothesis import given, HealthCheck, settings
from hypothesis import strategies as st
import numpy as np
import pytest
from stable_crl_ros.robot.bounds import tilt
from stable_crl_ros.robot.collision import nearest
from stable_crl_ros.robot.flags import REFUSED, StepFlag
from stable_crl_ros.robot.kinematics import (
    forward_kinematics,
    inverse_kinematics,
    JOINT_LOWER,
    JOINT_UPPER,
    START,
    UnreachableError,
)
from stable_crl_ros.robot.poses import pose_from
from stable_crl_ros.robot.safety import apply_action, ArmLimits, Target

ROUNDING = 1e-9
LIMITS = (
    ArmLimits(),
    ArmLimits(workspaces=[[0.15, 0.1, 0.05, 0.3, 0.35, 0.3], [0.3, -0.3, 0.1, 0.45, 0.0, 0.25]],
              table_height=0.03, max_effort=[1.0] * 6, max_tilt=1.2, max_joint_velocity=1.0),
    ArmLimits(workspace_low=(-0.5, -0.5, 0.0), workspace_high=(0.5, 0.5, 0.6), max_tilt=math.pi,
              max_target_lead=0.3, clearance=0.02))

fast = settings(max_examples=150, deadline=None, derandomize=True, database=None,
                suppress_health_check=list(HealthCheck))
anything = st.one_of(
    st.floats(-0.06, 0.06), st.floats(-0.3, 0.3), st.floats(-1e9, 1e9),
    st.sampled_from([0.0, -0.0, math.nan, math.inf, -math.inf, 1e9, -1e9, 1e308, 5e-324]))
actions = st.lists(anything, min_size=7, max_size=7).map(np.array)
useful = st.tuples(*[st.floats(-0.06, 0.06)] * 3, *[st.floats(-0.3, 0.3)] * 3,
                   st.floats(-0.2, 1.2)).map(np.array)
joints = st.tuples(*[st.floats(low, high) for low, high in zip(
    JOINT_LOWER, JOINT_UPPER, strict=True)]).map(np.array)
efforts = st.one_of(st.none(), st.lists(anything, min_size=6, max_size=6).map(np.array))
periods = st.sampled_from([0.02, 0.1, 0.2, 1.0])
limits = st.sampled_from(LIMITS)


def outside(xyz, boxes):
    """Return how far (m) a point is outside all of the boxes."""
    return float(np.linalg.norm(np.clip(xyz, boxes[:, 0], boxes[:, 1]) - xyz, axis=1).min())


def assert_safe(target, step, bounds, period_s):
    """Check everything that must hold of any step from any target."""
    new = step.target
    assert np.isfinite(step.applied).all() and np.isfinite(new.pose).all()
    assert (new.joints >= JOINT_LOWER).all() and (new.joints <= JOINT_UPPER).all()
    moved = float(np.abs(new.joints - target.joints).max())
    assert moved <= bounds.max_joint_velocity * period_s + ROUNDING
    assert moved <= bounds.max_joint_jump
    assert (np.abs(step.applied[:3]) <= bounds.max_translation + ROUNDING).all()
    assert (np.abs(step.applied[3:6]) <= bounds.max_rotation + ROUNDING).all()
    assert 0.0 <= new.gripper <= 1.0
    before, after = (outside(each.pose[:3, 3], bounds.boxes) for each in (target, new))
    assert after <= before + ROUNDING
    near_before, near_after = (nearest(each.joints, bounds.table_height).distance
                               for each in (target, new))
    assert near_after >= min(bounds.clearance, near_before) - 1e-8
    assert tilt(new.pose[:3, 0]) <= max(bounds.max_tilt, tilt(target.pose[:3, 0])) + ROUNDING
    if step.flags & REFUSED:
        assert step.target is target
        np.testing.assert_array_equal(step.applied, [*[0.0] * 6, target.gripper])


@fast
@given(joints, actions, limits, periods, efforts)
def test_from_any_target_any_action_is_safe(start, action, bounds, period_s, pushing):
    target = Target.from_joints(start, 0.5)
    step = apply_action(target, action, bounds, period_s, None, pushing)
    assert_safe(target, step, bounds, period_s)
    if not np.isfinite(action).all():
        assert step.flags == StepFlag.NON_FINITE


@fast
@given(joints, useful, limits, periods, efforts)
def test_from_any_target_ordinary_actions_are_safe(start, action, bounds, period_s, pushing):
    target = Target.from_joints(start, 0.5)
    measured = forward_kinematics(np.clip(start + 0.1, JOINT_LOWER, JOINT_UPPER))
    assert_safe(target, apply_action(target, action, bounds, period_s, measured, pushing),
                bounds, period_s)


@fast
@given(st.lists(st.one_of(useful, actions), min_size=1, max_size=20), limits, periods)
def test_no_stream_leads_out_of_the_boxes(stream, bounds, period_s):
    target = Target.from_joints(START, 1.0)
    for action in stream:
        step = apply_action(target, action, bounds, period_s)
        assert_safe(target, step, bounds, period_s)
        assert outside(step.target.pose[:3, 3], bounds.boxes) <= ROUNDING
        target = step.target


@fast
@given(useful, st.integers(1, 12), st.sampled_from(LIMITS[1:]))
def test_one_action_sent_for_ever_comes_to_rest_inside(action, times, bounds):
    target = Target.from_joints(START, 1.0)
    for _ in range(times):
        step = apply_action(target, action, bounds, 0.2)
        assert_safe(target, step, bounds, 0.2)
        # The line between two targets is what the tool follows: its middle is inside as well.
        middle = 0.5 * (target.pose[:3, 3] + step.target.pose[:3, 3])
        assert outside(middle, bounds.boxes) <= 1e-6
        target = step.target


@fast
@given(joints, useful)
def test_an_overloaded_motor_is_never_loaded_further(start, action):
    bounds, target = ArmLimits(max_effort=[1.0] * 6), Target.from_joints(start, 0.5)
    pushing = np.array([2.0, -2.0, 0.5, 0.0, 3.0, -0.5])
    moved = apply_action(target, action, bounds, 0.2, None, pushing).target.joints - target.joints
    assert (moved * np.sign(pushing))[np.abs(pushing) > 1.0].max() <= 1e-9


@settings(fast, max_examples=400)
@given(joints, joints)
def test_every_reachable_pose_is_solved_within_the_limits(wanted, seed):
    pose = forward_kinematics(wanted)
    found = inverse_kinematics(pose, seed)
    assert (found >= JOINT_LOWER).all() and (found <= JOINT_UPPER).all()
    np.testing.assert_allclose(forward_kinematics(found), pose, atol=1e-9)


@settings(fast, max_examples=400)
@given(st.lists(anything, min_size=6, max_size=6), joints)
def test_any_pose_is_either_solved_or_refused_with_a_reason(numbers, seed):
    if not np.isfinite(numbers).all() or np.abs(numbers).max() > 1e6:
        return
    pose = pose_from(np.array(numbers[:3]), np.array(numbers[3:]))
    try:
        found = inverse_kinematics(pose, seed)
    except UnreachableError as error:
        assert 'wrist' in str(error) or 'joint limits' in str(error)
    else:
        np.testing.assert_allclose(forward_kinematics(found), pose, atol=1e-9)


@pytest.mark.parametrize('value', [math.nan, math.inf, 1e100])
def test_a_pose_of_nonsense_is_refused(value):
    pose = pose_from(np.array([0.3, 0, 0.15]), np.zeros(3))
    pose[0, 3] = value
    with pytest.raises(UnreachableError):
        inverse_kinematics(pose, START)
