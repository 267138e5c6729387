"""Safety: several boxes, the table, singularities, collisions and efforts, check by check."""

import math

import numpy as np
import pytest
from stable_crl_ros.robot.collision import nearest
from stable_crl_ros.robot.flags import flag_names, REFUSED, StepFlag
from stable_crl_ros.robot.kinematics import (
    inverse_kinematics,
    SLEEP,
    START,
)
from stable_crl_ros.robot.poses import DOWN, pose_of
from stable_crl_ros.robot.safety import apply_action, ArmLimits, SafetyError, Target
from stable_crl_ros.sim.demonstrators import make_demonstrator
from stable_crl_ros.sim.env import WidowXEnv
from stable_crl_ros.sim.tasks import task_named

PERIOD = 0.2
NEW = (StepFlag.SINGULARITY_SLOWED | StepFlag.COLLISION | StepFlag.EFFORT_LIMITED
       | StepFlag.TABLE_CLIPPED)
# Two boxes side by side along y, 4 cm of them shared; the second is lower.
TWO = ArmLimits(workspace_low=(0.2, -0.15, 0.05), workspace_high=(0.36, 0.02, 0.2),
                workspaces=[[0.2, -0.02, 0.03, 0.36, 0.15, 0.2]])


def target_at(xyz, gripper=1.0):
    return Target.from_joints(inverse_kinematics(pose_of(DOWN, xyz), START), gripper)


def action_of(*, xyz=(0, 0, 0), rpy=(0, 0, 0), gripper=1.0):
    return np.array([*xyz, *rpy, gripper], float)


def walk(target, limits, steps, **moves):
    """Repeat one action; returns the last step and all flags together."""
    flags = StepFlag(0)
    for _ in range(steps):
        step = apply_action(target, action_of(**moves), limits, PERIOD)
        target, flags = step.target, flags | step.flags
    return step, flags


def test_from_one_box_into_the_next_nothing_is_clipped():
    step, flags = walk(target_at([0.28, -0.1, 0.1]), TWO, 5, xyz=(0, 0.04, 0))
    np.testing.assert_allclose(step.target.pose[:3, 3], [0.28, 0.1, 0.1], atol=1e-9)
    assert flags == 0


def test_each_box_has_its_own_floor():
    for y, floor in ((-0.1, 0.05), (0.1, 0.03), (0.0, 0.03)):
        step, flags = walk(target_at([0.28, y, 0.1]), TWO, 4, xyz=(0, 0, -0.03))
        np.testing.assert_allclose(step.target.pose[:3, 3], [0.28, y, floor], atol=1e-9)
        assert flags == StepFlag.WORKSPACE_CLIPPED


def test_what_is_in_neither_box_is_not_entered_on_the_way_between_them():
    """Low in the second box, the first one's floor is a wall; it slides along and up."""
    low = target_at([0.28, 0.0, 0.035])
    step = apply_action(low, action_of(xyz=(0, -0.04, 0)), TWO, PERIOD)
    np.testing.assert_allclose(step.target.pose[:3, 3], [0.28, -0.02, 0.035], atol=1e-9)
    assert step.flags == StepFlag.WORKSPACE_CLIPPED


def test_boxes_that_do_not_touch_stay_apart():
    apart = ArmLimits(workspace_low=(0.2, -0.15, 0.05), workspace_high=(0.36, -0.02, 0.2),
                      workspaces=[[0.2, 0.0, 0.05, 0.36, 0.15, 0.2]])
    step, flags = walk(target_at([0.28, -0.1, 0.1]), apart, 6, xyz=(0, 0.05, 0))
    assert step.target.pose[1, 3] == pytest.approx(-0.02, abs=1e-9)
    assert flags == StepFlag.WORKSPACE_CLIPPED


def test_outside_all_boxes_steps_lead_into_the_nearest():
    outside = target_at([0.28, 0.17, 0.1])
    away = apply_action(outside, action_of(xyz=(0, 0.03, 0)), TWO, PERIOD)
    np.testing.assert_allclose(away.applied[:3], [0, 0, 0], atol=1e-12)
    back = apply_action(outside, action_of(xyz=(0, -0.04, 0)), TWO, PERIOD)
    np.testing.assert_allclose(back.target.pose[:3, 3], [0.28, 0.13, 0.1], atol=1e-9)


def test_the_leash_holds_in_every_box():
    limits = ArmLimits(workspace_low=TWO.workspace_low, workspace_high=TWO.workspace_high,
                       workspaces=TWO.workspaces, max_target_lead=0.03)
    target = target_at([0.28, -0.01, 0.1])
    step = apply_action(target, action_of(xyz=(0, 0.05, 0)), limits, PERIOD, target.pose)
    np.testing.assert_allclose(step.applied[:3], [0, 0.03, 0], atol=1e-9)
    assert step.flags == StepFlag.TARGET_LEASHED


def test_the_table_raises_every_floor_and_says_so():
    limits = ArmLimits(table_height=0.06, workspaces=[[0.2, 0.1, 0.0, 0.3, 0.25, 0.2]])
    for y in (0.0, 0.15):
        step, flags = walk(target_at([0.28, y, 0.1]), limits, 4, xyz=(0, 0, -0.03))
        assert step.target.pose[2, 3] == pytest.approx(0.06, abs=1e-9)
        assert flags == StepFlag.TABLE_CLIPPED


def test_table_and_wall_are_told_apart():
    limits = ArmLimits(table_height=0.06)
    step = apply_action(target_at([0.39, 0, 0.07]), action_of(xyz=(0.03, 0, -0.03)), limits,
                        PERIOD)
    np.testing.assert_allclose(step.applied[:3], [0.01, 0, -0.01], atol=1e-9)
    assert step.flags == StepFlag.TABLE_CLIPPED | StepFlag.WORKSPACE_CLIPPED


def test_stretching_out_becomes_slow_and_then_stops():
    limits = ArmLimits(workspace_high=(0.6, 0.2, 0.25))
    target, advances, flags = target_at([0.4, 0, 0.15]), [], []
    for _ in range(40):
        step = apply_action(target, action_of(xyz=(0.004, 0, 0)), limits, PERIOD)
        target = step.target
        advances.append(step.applied[0])
        flags.append(step.flags)
    slowed = [index for index, each in enumerate(flags) if each & StepFlag.SINGULARITY_SLOWED]
    assert slowed and slowed[0] > 5
    assert advances[0] == pytest.approx(0.004, abs=1e-9)
    assert advances[slowed[0]] < 0.004
    assert advances[-1] < 1e-4


def test_held_by_a_singularity_the_gripper_still_acts_and_the_way_back_is_free():
    limits = ArmLimits(workspace_high=(0.6, 0.2, 0.25))
    target = target_at([0.464, 0, 0.15])  # 0.5 mm short of the reach
    held = apply_action(target, action_of(xyz=(0.0003, 0, 0), gripper=0.0), limits, PERIOD)
    np.testing.assert_array_equal(held.target.joints, target.joints)
    np.testing.assert_array_equal(held.applied, np.zeros(7))
    assert held.flags == StepFlag.SINGULARITY_SLOWED and not held.refused
    back = apply_action(target, action_of(xyz=(-0.02, 0, 0)), limits, PERIOD)
    np.testing.assert_allclose(back.applied[:3], [-0.02, 0, 0], atol=1e-9)
    assert back.flags == 0


def hand_over_high_table():
    """Return a target with the gripper level 8 cm above a table of 0.12 m, and its limits."""
    limits = ArmLimits(workspace_high=(0.5, 0.3, 0.4), table_height=0.12, max_tilt=math.pi)
    joints = inverse_kinematics(pose_of(np.eye(3), [0.35, 0, 0.2]), START)
    return Target.from_joints(joints, 1.0), limits


def test_a_step_into_the_table_is_refused():
    target, limits = hand_over_high_table()
    before = nearest(target.joints, limits.table_height)
    assert before.distance > limits.clearance
    for _ in range(30):
        step = apply_action(target, action_of(xyz=(0, 0, -0.03), gripper=0.0), limits, PERIOD)
        if step.refused:
            break
        target = step.target
        assert nearest(target.joints, limits.table_height).distance >= limits.clearance
    assert step.flags == StepFlag.COLLISION
    assert step.target is target
    np.testing.assert_array_equal(step.applied, [0, 0, 0, 0, 0, 0, target.gripper])
    up = apply_action(target, action_of(xyz=(0, 0, 0.03)), limits, PERIOD)
    np.testing.assert_allclose(up.applied[:3], [0, 0, 0.03], atol=1e-9)


def test_a_rotation_into_the_table_leaves_the_translation():
    target, limits = hand_over_high_table()
    while not (step := apply_action(target, action_of(xyz=(0, 0, -0.01)), limits,
                                    PERIOD)).refused:
        target = step.target
    pitch_up = action_of(xyz=(-0.02, 0, 0), rpy=(0, -0.25, 0))  # which lowers the wrist
    step = apply_action(target, pitch_up, limits, PERIOD)
    np.testing.assert_allclose(step.applied[:6], [-0.02, 0, 0, 0, 0, 0], atol=1e-9)
    assert step.flags == StepFlag.STEP_SHORTENED


def test_asleep_the_hand_lies_on_the_shoulder_and_may_only_be_lifted_off():
    asleep = Target.from_joints(SLEEP, 0.0)
    assert nearest(SLEEP, 0.0).distance < 0.0
    up = apply_action(asleep, action_of(xyz=(0.02, 0, 0.02), gripper=0.0), ArmLimits(), PERIOD)
    np.testing.assert_allclose(up.applied[:3], [0.02, 0, 0.02], atol=1e-9)
    down = apply_action(asleep, action_of(xyz=(0, 0, -0.02), gripper=0.0), ArmLimits(), PERIOD)
    assert down.refused and down.target is asleep


def shoulder_of(step, target):
    return step.target.joints[1] - target.joints[1]


def test_an_overloaded_motor_is_only_unloaded():
    limits = ArmLimits(max_effort=[1000, 800, 800, 500, 500, 500])
    target = target_at([0.28, 0, 0.1])
    pressing = np.array([0, 900.0, 0, 0, 0, 0])  # the shoulder pushes forwards and down
    down = apply_action(target, action_of(xyz=(0, 0, -0.03), gripper=0.2), limits, PERIOD,
                        target.pose, pressing)
    assert down.flags == StepFlag.EFFORT_LIMITED and not down.refused
    np.testing.assert_array_equal(down.applied, [0, 0, 0, 0, 0, 0, 0.2])  # may still let go
    up = apply_action(target, action_of(xyz=(0, 0, 0.03)), limits, PERIOD, target.pose, pressing)
    assert up.flags == 0 and shoulder_of(up, target) < 0.0
    np.testing.assert_allclose(up.applied[:3], [0, 0, 0.03], atol=1e-9)


def test_what_does_not_load_the_overloaded_motor_is_applied():
    limits = ArmLimits(max_effort=[1000, 800, 800, 500, 500, 500])
    target = target_at([0.28, 0, 0.1])
    twisting = np.array([0, 0, 0, 0, 0, -900.0])
    probe = apply_action(target, action_of(rpy=(0, 0, 0.2)), limits, PERIOD)
    sign = np.sign(probe.target.joints[5] - target.joints[5])
    both = action_of(xyz=(0.02, 0, -0.02), rpy=(0, 0, -sign * 0.2))
    step = apply_action(target, both, limits, PERIOD, target.pose, twisting)
    np.testing.assert_allclose(step.applied[:6], [0.02, 0, -0.02, 0, 0, 0], atol=1e-9)
    assert step.flags == StepFlag.EFFORT_LIMITED


@pytest.mark.parametrize('efforts', [None, np.full(6, math.nan), np.full(6, 1e9)])
def test_by_default_and_where_efforts_are_unknown_they_limit_nothing(efforts):
    limits = ArmLimits() if efforts is None or np.isfinite(efforts).all() else \
        ArmLimits(max_effort=[1.0] * 6)
    step = apply_action(target_at([0.28, 0, 0.1]), action_of(xyz=(0.02, 0.01, -0.02)), limits,
                        PERIOD, None, efforts)
    assert step.flags == 0


def test_efforts_of_another_number_of_motors_raise():
    with pytest.raises(SafetyError, match='efforts are 6 numbers'):
        apply_action(target_at([0.28, 0, 0.1]), action_of(), ArmLimits(), PERIOD, None, np.ones(7))


def test_only_a_collision_among_the_new_flags_refuses():
    assert REFUSED & NEW == StepFlag.COLLISION


def test_boxes_are_read_as_lists_of_six_or_as_one_list():
    boxes = [[0.2, -0.1, 0.02, 0.3, 0.1, 0.2], [0.3, 0.0, 0.02, 0.4, 0.1, 0.2]]
    nested = ArmLimits.from_dict({'workspaces': boxes})
    flat = ArmLimits.from_dict({'workspaces': [number for box in boxes for number in box]})
    assert nested == flat
    assert nested.boxes.shape == (3, 2, 3)
    np.testing.assert_array_equal(nested.boxes[1:].reshape(2, 6), boxes)


@pytest.mark.parametrize(('values', 'message'), [
    ({'workspaces': [[0.2, 0.1]]}, 'boxes of 6 numbers.*got 2 numbers'),
    ({'workspaces': 'wide'}, 'boxes of 6 numbers'),
    ({'workspaces': [0.3, 0, 0, 0.2, 1, 1]}, 'workspaces 0 .* must be below'),
    ({'workspaces': [0.2, 0, 0, math.nan, 1, 1]}, 'workspaces must be a finite number'),
    ({'table_height': 0.3}, 'lies below the table'),
    ({'table_height': math.nan}, 'table_height must be a finite number'),
    ({'clearance': -0.01}, 'clearance must be above 0'),
    ({'clearance': 0.5}, 'clearance .* at most 0.1'),
    ({'slow_condition': 200.0}, 'slow_condition 200.0 must be below max_condition 150.0'),
    ({'max_effort': [1.0] * 5}, 'max_effort must be one number for each of waist, shoulder'),
    ({'max_effort': [1.0] * 5 + [0.0]}, 'max_effort must be above 0'),
    ({'max_effort': [1.0] * 5 + [math.nan]}, 'max_effort must be above 0'),
    ({'max_effort': [1.0] * 5 + [True]}, 'max_effort must be above 0'),
    ({'max_effort': 3.0}, 'max_effort must be one number for each'),
])
def test_wrong_limits_are_refused_by_name(values, message):
    with pytest.raises(SafetyError, match=message):
        ArmLimits.from_dict(values)


@pytest.mark.parametrize('name', ['open_drawer', 'pick_place', 'place_in_drawer'])
def test_scripted_demonstrations_meet_none_of_the_new_checks(name):
    env, flags = WidowXEnv(size=(24, 32)), StepFlag(0)
    env.task = task_named(name)
    try:
        for seed in range(4):
            env.reset(seed=seed)
            expert = make_demonstrator(env.task, env.goal, np.random.default_rng(seed), 0.25)
            for _ in range(env.task.max_steps):
                *_, info = env.step(expert.act(env.world))
                flags |= info['flags']
            assert info['success']
    finally:
        env.close()
    assert flag_names(flags & NEW) == []
