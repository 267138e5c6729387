"""Safety: whatever is asked for, what is applied stays within the limits and is told truly."""

import math

import numpy as np
import pytest
from stable_crl_ros.robot.kinematics import (
    forward_kinematics,
    inverse_kinematics,
    JOINT_LOWER,
    JOINT_UPPER,
    SLEEP,
    START,
    UnreachableError,
)
from stable_crl_ros.robot.poses import apply_delta, DOWN, pose_of, rotation_from
from stable_crl_ros.robot.safety import (
    apply_action,
    ArmLimits,
    flag_names,
    REFUSED,
    SafetyError,
    StepFlag,
    Target,
)

LIMITS = ArmLimits()
PERIOD = 0.2
BOX = np.array([0.05, 0.05, 0.05, 0.25, 0.25, 0.25])
SINGULAR = {'slow_condition': 1e11, 'max_condition': 1e12}  # as if there were no singularities
START_TARGET = Target.from_joints(START, 1.0)


def tilt_of(pose):
    return math.atan2(math.hypot(pose[0, 0], pose[1, 0]), -pose[2, 0])


def target_at(xyz, rpy=(0, 0, 0), gripper=1.0, seed=START):
    """Return a target at xyz, turned by rpy from straight down."""
    joints = inverse_kinematics(pose_of(rotation_from(rpy) @ DOWN, xyz), seed)
    return Target.from_joints(joints, gripper)


def action_of(*, xyz=(0, 0, 0), rpy=(0, 0, 0), gripper=1.0):
    return np.array([*xyz, *rpy, gripper], float)


def random_actions(rng, count):
    """Actions with a drift, so that walks reach every wall, up to twice the allowed size."""
    drift = rng.uniform(-1, 1, 7) * [*BOX, 1]
    return drift + rng.normal(size=(count, 7)) * [*(0.6 * BOX), 0.6]


def walks(limits=LIMITS, period_s=PERIOD, seed=0, episodes=60, measured=False):
    """Yield (target before, measured position, action, step) of random walks from START."""
    rng = np.random.default_rng(seed)
    for _ in range(episodes):
        target = START_TARGET
        for action in random_actions(rng, 40):
            pose = None
            if measured:
                pose = apply_delta(target.pose, rng.normal(size=6) * 0.05)
            step = apply_action(target, action, limits, period_s, pose)
            yield target, pose, action, step
            target = step.target


def snapshot(target):
    return target.pose.copy(), target.joints.copy(), target.gripper


@pytest.mark.parametrize(('period_s', 'measured'), [(0.2, False), (0.2, True), (0.02, False)])
def test_no_walk_leaves_any_limit(period_s, measured):
    for target, _, _, step in walks(period_s=period_s, measured=measured):
        pose, joints = step.target.pose, step.target.joints
        assert np.isfinite(pose).all() and np.isfinite(joints).all()
        assert np.isfinite(step.applied).all()
        assert (pose[:3, 3] >= np.array(LIMITS.workspace_low) - 1e-9).all()
        assert (pose[:3, 3] <= np.array(LIMITS.workspace_high) + 1e-9).all()
        assert (joints >= JOINT_LOWER).all() and (joints <= JOINT_UPPER).all()
        moved = np.abs(joints - target.joints).max()
        assert moved <= LIMITS.max_joint_velocity * period_s + 1e-12
        assert moved <= LIMITS.max_joint_jump
        assert (np.abs(step.applied[:6]) <= BOX + 1e-9).all()
        assert tilt_of(pose) <= LIMITS.max_tilt + 1e-9
        assert 0.0 <= step.target.gripper <= 1.0


def test_walks_meet_every_kind_of_clip_and_refusal():
    met = StepFlag(0)
    for _, _, _, step in walks(measured=True):
        met |= step.flags
    assert flag_names(met) == [
        'translation_clipped', 'rotation_clipped', 'workspace_clipped', 'gripper_clipped',
        'target_leashed', 'tilt_clipped', 'joint_speed_limited', 'unreachable', 'joint_jump',
        'step_shortened', 'singularity_slowed']


def test_applied_reintegrated_from_the_previous_target_gives_the_new_one():
    for target, _, _, step in walks(measured=True, seed=1):
        np.testing.assert_allclose(apply_delta(target.pose, step.applied), step.target.pose,
                                   atol=1e-12)
        assert step.applied[6] == step.target.gripper


def test_the_pose_of_a_target_is_always_that_of_its_joints():
    for _, _, _, step in walks(seed=2, episodes=10):
        np.testing.assert_array_equal(step.target.pose, forward_kinematics(step.target.joints))


def test_a_refused_step_leaves_the_target_and_says_why():
    refused = 0
    for target, _, _, step in walks(seed=3):
        if step.refused:
            refused += 1
            assert step.target is target
            assert bin(step.flags & REFUSED).count('1') == 1
            np.testing.assert_array_equal(step.applied, [0, 0, 0, 0, 0, 0, target.gripper])
        else:
            assert not step.flags & REFUSED
    assert refused > 0


def test_a_step_without_flags_applied_exactly_the_action():
    rng, target, unflagged = np.random.default_rng(4), START_TARGET, 0
    for _ in range(400):
        action = np.append(rng.uniform(-BOX, BOX), rng.uniform(0, 1))
        step = apply_action(target, action, LIMITS, PERIOD)
        if not step.flags:
            unflagged += 1
            np.testing.assert_allclose(step.applied, action, atol=2e-6)
            target = step.target
    assert unflagged > 50


def test_apply_action_changes_none_of_its_arguments_and_always_answers_the_same():
    for target, measured, action, step in walks(seed=5, episodes=10, measured=True):
        before = snapshot(target), action.copy(), measured.copy()
        again = apply_action(target, action, LIMITS, PERIOD, measured)
        np.testing.assert_array_equal(again.applied, step.applied)
        np.testing.assert_array_equal(again.target.joints, step.target.joints)
        assert again.flags == step.flags
        after = snapshot(target), action, measured
        np.testing.assert_equal(after, before)


def test_targets_cannot_be_overwritten():
    for array in (START_TARGET.pose, START_TARGET.joints):
        with pytest.raises(ValueError, match='read-only'):
            array[0] = 1.0


@pytest.mark.parametrize('value', [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize('index', range(7))
def test_a_number_that_is_not_finite_is_refused(value, index):
    action = action_of(xyz=(0.01, 0, 0), gripper=0.0)
    action[index] = value
    step = apply_action(START_TARGET, action, LIMITS, PERIOD)
    assert step.flags == StepFlag.NON_FINITE
    assert step.target is START_TARGET
    np.testing.assert_array_equal(step.applied, [0, 0, 0, 0, 0, 0, 1])


def test_a_measured_pose_that_is_not_finite_is_refused():
    measured = START_TARGET.pose.copy()
    measured[1, 3] = math.nan
    step = apply_action(START_TARGET, action_of(xyz=(0.01, 0, 0)), LIMITS, PERIOD, measured)
    assert step.flags == StepFlag.NON_FINITE


def test_doing_nothing_changes_no_bit_of_a_target():
    for _, _, _, step in walks(seed=7, episodes=5):
        still = apply_action(step.target, action_of(), LIMITS, PERIOD)
        np.testing.assert_array_equal(still.target.joints, step.target.joints)
        np.testing.assert_array_equal(still.target.pose, step.target.pose)


def test_gripper_alone_moves_no_joint():
    step = apply_action(START_TARGET, action_of(gripper=0.3), LIMITS, PERIOD)
    np.testing.assert_array_equal(step.target.joints, START)
    np.testing.assert_allclose(step.applied, [0, 0, 0, 0, 0, 0, 0.3], atol=1e-15)
    assert step.flags == 0


@pytest.mark.parametrize(('asked', 'kept', 'flags'), [
    (-0.2, 0.0, StepFlag.GRIPPER_CLIPPED), (1.2, 1.0, StepFlag.GRIPPER_CLIPPED),
    (0.5, 0.5, StepFlag(0)), (float(np.float32(0.1)) - 0.1, 0.0, StepFlag(0)),
])
def test_gripper_is_kept_between_closed_and_open(asked, kept, flags):
    step = apply_action(START_TARGET, action_of(gripper=asked), LIMITS, PERIOD)
    assert step.target.gripper == pytest.approx(kept, abs=1e-6)
    assert step.flags == flags


@pytest.mark.parametrize('axis', range(6))
@pytest.mark.parametrize('sign', [-1, 1])
def test_each_axis_is_clipped_alone(axis, sign):
    target = target_at([0.28, 0.0, 0.10])
    action = np.zeros(7)
    action[axis] = sign * 2 * BOX[axis]
    step = apply_action(target, action, LIMITS, PERIOD)
    expected = np.zeros(7)
    expected[axis] = sign * BOX[axis]
    np.testing.assert_allclose(step.applied, expected, atol=1e-9)
    assert step.flags == (StepFlag.TRANSLATION_CLIPPED if axis < 3 else StepFlag.ROTATION_CLIPPED)


def test_a_float32_action_on_the_bound_counts_as_unclipped():
    action = np.array([0.05, 0, 0, 0.25, 0, 0, 1.0], np.float32)
    assert apply_action(target_at([0.28, 0, 0.1]), action, LIMITS, PERIOD).flags == 0


@pytest.mark.parametrize(('move', 'wall'), [
    ((0.05, 0, 0), (0.40, 0.0, 0.10)), ((-0.05, 0, 0), (0.18, 0.0, 0.10)),
    ((0, 0.05, 0), (0.28, 0.20, 0.10)), ((0, -0.05, 0), (0.28, -0.20, 0.10)),
    ((0, 0, 0.05), (0.28, 0.0, 0.20)), ((0, 0, -0.05), (0.28, 0.0, 0.015)),
])
def test_every_wall_of_the_workspace_stops_the_tool_point(move, wall):
    target = target_at(np.array(wall) - 0.4 * np.array(move))
    step = apply_action(target, action_of(xyz=move), LIMITS, PERIOD)
    np.testing.assert_allclose(step.target.pose[:3, 3], wall, atol=1e-9)
    assert step.flags == StepFlag.WORKSPACE_CLIPPED


def test_the_tool_point_slides_along_a_wall():
    target = target_at([0.40, 0.0, 0.10])
    step = apply_action(target, action_of(xyz=(0.05, 0.03, 0)), LIMITS, PERIOD)
    np.testing.assert_allclose(step.applied[:3], [0, 0.03, 0], atol=1e-9)


def test_outside_the_workspace_it_is_not_pulled_in_but_may_only_go_inwards():
    asleep = Target.from_joints(SLEEP, 0.0)  # x 0.1227, short of the workspace
    still = apply_action(asleep, action_of(gripper=0.0), LIMITS, PERIOD)
    np.testing.assert_allclose(still.applied, np.zeros(7), atol=1e-15)
    outwards = apply_action(asleep, action_of(xyz=(-0.03, 0, 0.02)), LIMITS, PERIOD)
    np.testing.assert_allclose(outwards.applied[:3], [0, 0, 0.02], atol=1e-9)
    assert outwards.flags & StepFlag.WORKSPACE_CLIPPED
    inwards = apply_action(asleep, action_of(xyz=(0.03, 0, 0.02)), LIMITS, PERIOD)
    np.testing.assert_allclose(inwards.applied[:3], [0.03, 0, 0.02], atol=1e-9)
    assert not inwards.flags & StepFlag.WORKSPACE_CLIPPED


@pytest.mark.parametrize('rpy', [(0.25, 0, 0), (-0.25, 0, 0), (0, 0.25, 0), (0, -0.25, 0),
                                 (0.25, 0.25, 0), (-0.2, 0.25, 0.25)])
def test_tilt_stops_at_its_limit(rpy):
    limits = ArmLimits(max_tilt=0.4)
    target, flags = target_at([0.28, 0.0, 0.08]), StepFlag(0)
    for _ in range(4):
        step = apply_action(target, action_of(rpy=rpy), limits, PERIOD)
        assert not step.refused
        target, flags = step.target, flags | step.flags
        assert tilt_of(target.pose) <= 0.4 + 1e-9
    assert tilt_of(target.pose) == pytest.approx(0.4, abs=0.02)
    assert flags & StepFlag.TILT_CLIPPED


def test_tilted_at_the_limit_it_can_still_twist_and_come_back():
    limits = ArmLimits(max_tilt=0.4)
    target = target_at([0.28, 0.0, 0.08], rpy=(0.4, 0, 0))
    twist = apply_action(target, action_of(rpy=(0, 0, 0.2)), limits, PERIOD)
    np.testing.assert_allclose(twist.applied[3:6], [0, 0, 0.2], atol=1e-9)
    back = apply_action(target, action_of(rpy=(-0.2, 0, 0)), limits, PERIOD)
    np.testing.assert_allclose(back.applied[3:6], [-0.2, 0, 0], atol=1e-9)
    assert twist.flags == back.flags == 0


def test_tilted_at_the_limit_a_mixed_turn_loses_only_what_tilts_further():
    limits = ArmLimits(max_tilt=0.4)
    target = target_at([0.28, 0.0, 0.08], rpy=(0.4, 0, 0))
    step = apply_action(target, action_of(rpy=(0.2, 0, 0.2)), limits, PERIOD)
    assert tilt_of(step.target.pose) == pytest.approx(0.4, abs=1e-9)
    assert step.applied[5] == pytest.approx(0.2, abs=0.05)
    assert step.flags == StepFlag.TILT_CLIPPED


def test_a_large_turn_that_would_bulge_over_the_tilt_limit_is_not_made():
    limits = ArmLimits(max_rotation=1.0)
    leaning = Target.from_joints([0.02, -0.15, -1.0, 0.89, 1.63, 1.84], 1.0)
    step = apply_action(leaning, action_of(rpy=(1.0, 1.0, -1.0)), limits, 1.0)
    assert tilt_of(step.target.pose) <= tilt_of(leaning.pose) + 1e-9
    np.testing.assert_allclose(step.applied[:6], np.zeros(6), atol=1e-12)
    assert step.flags & StepFlag.TILT_CLIPPED


def test_tilted_beyond_the_limit_it_is_not_snapped_upright():
    asleep = Target.from_joints(SLEEP, 0.0)  # 58 degrees off straight down
    before = tilt_of(asleep.pose)
    further = apply_action(asleep, action_of(rpy=(0, -0.2, 0)), LIMITS, PERIOD)
    assert tilt_of(further.target.pose) <= before + 1e-9
    assert further.flags & StepFlag.TILT_CLIPPED
    nearer = apply_action(asleep, action_of(rpy=(0, 0.2, 0)), LIMITS, PERIOD)
    assert tilt_of(nearer.target.pose) == pytest.approx(before - 0.2, abs=1e-6)


def test_the_target_stays_on_its_leash_when_the_arm_is_stuck():
    target, stuck = START_TARGET, START_TARGET.pose
    limits = ArmLimits(max_target_lead=0.06)
    for _ in range(5):
        step = apply_action(target, action_of(xyz=(0, 0, -0.04)), limits, PERIOD, stuck)
        target = step.target
    assert np.linalg.norm(target.pose[:3, 3] - stuck[:3, 3]) == pytest.approx(0.06, abs=1e-9)
    assert step.flags == StepFlag.TARGET_LEASHED
    away = apply_action(target, action_of(xyz=(0, 0, 0.04)), limits, PERIOD, stuck)
    np.testing.assert_allclose(away.applied[:3], [0, 0, 0.04], atol=1e-9)
    assert away.flags == 0


def test_the_leash_never_lengthens_and_never_pulls():
    for target, measured, _, step in walks(ArmLimits(max_target_lead=0.06), measured=True,
                                           seed=6, episodes=30):
        before = np.linalg.norm(target.pose[:3, 3] - measured[:3, 3])
        after = np.linalg.norm(step.target.pose[:3, 3] - measured[:3, 3])
        assert after <= max(0.06, before) + 1e-9
    far = apply_delta(START_TARGET.pose, np.array([0, 0.3, 0, 0, 0, 0]))
    still = apply_action(START_TARGET, action_of(), LIMITS, PERIOD, far)
    np.testing.assert_allclose(still.applied[:6], np.zeros(6), atol=1e-15)


def test_full_steps_fit_on_the_default_leash_of_an_arm_that_lags():
    lagging = apply_delta(START_TARGET.pose, np.array([0, -0.02, 0, 0, 0, 0]))
    step = apply_action(START_TARGET, action_of(xyz=(0, 0.05, -0.05)), LIMITS, PERIOD, lagging)
    assert step.flags == 0


def test_a_step_too_fast_for_the_joints_is_shortened_in_its_own_direction():
    limits = ArmLimits(max_joint_velocity=0.3)
    step = apply_action(START_TARGET, action_of(xyz=(0.05, 0.05, 0)), limits, PERIOD)
    assert step.flags == StepFlag.JOINT_SPEED_LIMITED
    assert 0.01 < step.applied[0] < 0.05
    assert step.applied[0] == pytest.approx(step.applied[1], abs=1e-9)
    assert np.abs(step.target.joints - START).max() <= 0.3 * PERIOD


def test_a_step_half_within_reach_is_shortened_and_says_so():
    limits = ArmLimits(workspace_high=(0.6, 0.2, 0.25), max_tilt=0.01, **SINGULAR)
    target = target_at([0.44, 0.0, 0.15])
    farthest = target
    for _ in range(12):
        step = apply_action(farthest, action_of(xyz=(0.05, 0, 0)), limits, PERIOD)
        farthest = step.target
        assert step.flags in (StepFlag.STEP_SHORTENED, StepFlag.UNREACHABLE,
                              StepFlag.STEP_SHORTENED | StepFlag.JOINT_SPEED_LIMITED)
    assert farthest.pose[0, 3] > 0.455
    with pytest.raises(UnreachableError):
        target_at(farthest.pose[:3, 3] + [0.05 / 16, 0, 0])
    assert step.flags == StepFlag.UNREACHABLE


def test_a_move_too_fast_however_short_is_refused_as_a_jump():
    limits = ArmLimits(max_tilt=math.pi, max_joint_jump=6.0, max_joint_velocity=1.0)
    straight = Target.from_joints([0.0, 0.2, 0.9, 0.4, 0.0, 0.0], 1.0)
    step = apply_action(straight, action_of(rpy=(0, 0, 0.1)), limits, PERIOD)
    assert step.flags == StepFlag.JOINT_JUMP
    assert step.refused and step.target is straight


def test_with_the_wrist_at_its_limit_the_translation_is_still_made():
    joints = START.copy()
    joints[5] = JOINT_UPPER[5]
    target = Target.from_joints(joints, 1.0)
    blocked = -0.2  # yaw that turns the wrist further
    step = apply_action(target, action_of(rpy=(0, 0, blocked)), LIMITS, PERIOD)
    assert step.flags == StepFlag.JOINT_JUMP
    step = apply_action(target, action_of(xyz=(0.02, 0, -0.03), rpy=(0, 0, blocked)), LIMITS,
                        PERIOD)
    np.testing.assert_allclose(step.applied[:6], [0.02, 0, -0.03, 0, 0, 0], atol=1e-9)
    assert step.flags == StepFlag.STEP_SHORTENED
    free = apply_action(target, action_of(rpy=(0, 0, -blocked)), LIMITS, PERIOD)
    assert free.flags == 0


def test_out_of_reach_the_rotation_is_still_made():
    limits = ArmLimits(workspace_high=(0.6, 0.2, 0.25), max_tilt=1.0, **SINGULAR)
    target = target_at([0.46, 0.0, 0.15])
    while not (step := apply_action(target, action_of(xyz=(0.05, 0, 0)), limits,
                                    PERIOD)).refused:
        target = step.target
    step = apply_action(target, action_of(xyz=(0.05, 0, 0), rpy=(0, 0, 0.2)), limits, PERIOD)
    np.testing.assert_allclose(step.applied[:6], [0, 0, 0, 0, 0, 0.2], atol=1e-9)
    assert step.flags == StepFlag.STEP_SHORTENED


def test_pointing_down_the_default_workspace_is_reached_but_for_its_far_upper_corners():
    grid = [np.linspace(low, high, 12)
            for low, high in zip(LIMITS.workspace_low, LIMITS.workspace_high, strict=True)]
    missed = 0
    for xyz in np.stack(np.meshgrid(*grid), -1).reshape(-1, 3):
        if xyz[0] > 0.39 and abs(xyz[1]) > 0.19 and xyz[2] > 0.186:
            missed += 1
            with pytest.raises(UnreachableError):
                target_at(xyz)
        else:
            np.testing.assert_allclose(target_at(xyz).pose[:3, 3], xyz, atol=1e-12)
    assert missed == 2


@pytest.mark.parametrize('shape', [(6,), (8,), (1, 7), ()])
def test_an_action_of_another_shape_raises(shape):
    with pytest.raises(SafetyError, match='7 numbers'):
        apply_action(START_TARGET, np.zeros(shape), LIMITS, PERIOD)


@pytest.mark.parametrize('period_s', [0.0, -0.2, math.nan, math.inf])
def test_a_period_that_is_none_raises(period_s):
    with pytest.raises(SafetyError, match='control period'):
        apply_action(START_TARGET, np.zeros(7), LIMITS, period_s)


def test_a_target_from_a_sagging_arm_is_brought_within_the_limits():
    target = Target.from_joints(JOINT_UPPER + 0.01, 1.1)
    np.testing.assert_array_equal(target.joints, JOINT_UPPER)
    assert target.gripper == 1.0


@pytest.mark.parametrize(('joints', 'gripper'), [
    (np.zeros(7), 1.0), (np.full(6, math.nan), 1.0), (np.zeros(6), math.nan)])
def test_a_target_of_nonsense_is_refused(joints, gripper):
    with pytest.raises(SafetyError, match='6 finite joint angles'):
        Target.from_joints(joints, gripper)


def test_flag_names_lists_what_is_set():
    assert flag_names(StepFlag(0)) == []
    assert flag_names(5) == ['translation_clipped', 'workspace_clipped']
    assert flag_names(2 ** 31) == []  # a bit that nobody has named


def test_flags_fit_the_thirty_two_bits_they_are_recorded_in():
    assert max(StepFlag) < 2 ** 32


def test_limits_read_from_yaml_keep_defaults_for_the_rest():
    limits = ArmLimits.from_dict({'workspace_low': [0.2, -0.1, 0.02], 'max_tilt': 1})
    assert limits == ArmLimits(workspace_low=(0.2, -0.1, 0.02), max_tilt=1.0)


@pytest.mark.parametrize(('values', 'message'), [
    ({'max_speed': 1.0}, r"unknown arm limits \['max_speed'\]; known are .*max_tilt"),
    ({'workspace_low': [0.5, 0, 0]}, 'workspace_low .* must be below workspace_high'),
    ({'workspace_low': [0.2, 0]}, 'workspace_low must be x, y, z'),
    ({'workspace_low': 'near'}, 'workspace_low must be x, y, z'),
    ({'workspace_high': [0.4, 0.2, math.nan]}, 'workspace_high must be a finite number'),
    ({'max_translation': 0.0}, 'max_translation must be above 0'),
    ({'max_translation': 5.0}, 'max_translation .* at most 0.2'),
    ({'max_rotation': 2.0}, 'max_rotation .* at most 1'),
    ({'max_joint_velocity': 4.0}, 'max_joint_velocity .* at most 3.14159'),
    ({'max_target_lead': -0.1}, 'max_target_lead must be above 0'),
    ({'max_tilt': math.inf}, 'max_tilt must be a finite number'),
    ({'max_joint_jump': True}, 'max_joint_jump must be a number'),
    ({'max_joint_jump': '1.0'}, 'max_joint_jump must be a number'),
])
def test_wrong_limits_are_refused_by_name(values, message):
    with pytest.raises(SafetyError, match=message):
        ArmLimits.from_dict(values)
