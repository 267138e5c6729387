"""Tasks: the scenes they draw and how they judge."""

import numpy as np
import pytest
from stable_crl_ros.robot.kinematics import forward_kinematics
from stable_crl_ros.robot.safety import ArmLimits
from stable_crl_ros.sim.tasks import task_named, TaskError, TASKS
from stable_crl_ros.sim.world import World, WorldState


@pytest.fixture(scope='module')
def world():
    with World() as shared:
        yield shared


def scenes(name, count=40):
    rng = np.random.default_rng(7)
    for _ in range(count):
        start = TASKS[name].sample_start(rng)
        yield start, TASKS[name].sample_goal(rng, start)


@pytest.mark.parametrize('name', TASKS)
def test_starts_and_goals_keep_the_arm_in_its_workspace(name):
    limits = ArmLimits()
    for pair in scenes(name):
        for state in pair:
            tool = forward_kinematics(np.array(state.joints))[:3, 3]
            assert (tool > limits.workspace_low).all() and (tool < limits.workspace_high).all()


@pytest.mark.parametrize('name', TASKS)
def test_a_start_is_not_yet_a_success_and_the_goal_is(world, name):
    task = TASKS[name]
    for start, goal in scenes(name, 10):
        world.reset(start)
        assert any(error > 1.5 * task.tolerances[name][0]
                   for name, error in task.errors(world, goal).items())
        assert not task.success(world, goal)
        world.reset(goal)
        assert task.error(world, goal) < 1e-9
        assert task.success(world, goal)


@pytest.mark.parametrize('name', TASKS)
def test_scenes_are_at_rest(world, name):
    task = TASKS[name]
    for _, goal in scenes(name, 5):
        world.reset(goal)
        world.advance(1.0)
        assert task.error(world, goal) < 1e-3


@pytest.mark.parametrize('name', ['open_drawer', 'close_drawer', 'move_drawer'])
def test_drawer_tasks_leave_the_block_alone(name):
    for start, goal in scenes(name):
        assert goal.block == start.block
        assert goal.drawer != start.drawer


def test_drawers_open_to_different_widths_and_close_completely():
    openings = [goal.drawer for _, goal in scenes('open_drawer')]
    assert min(openings) >= 0.05 and max(openings) <= 0.12 and np.ptp(openings) > 0.05
    assert {goal.drawer for _, goal in scenes('close_drawer')} == {0.0}
    assert all(abs(goal.drawer - start.drawer) >= 0.03 for start, goal in scenes('move_drawer'))


def test_the_same_generator_draws_the_same_scenes():
    assert list(scenes('pick_place', 5)) == list(scenes('pick_place', 5))


def test_error_is_the_distance_of_the_object_alone(world):
    world.reset(WorldState(drawer=0.08, gripper=0.0))
    assert TASKS['open_drawer'].error(world, WorldState(drawer=0.05)) == pytest.approx(0.03)
    world.reset(WorldState(block=(0.25, 0.12, 0.015)))
    goal = WorldState(block=(0.28, 0.16, 0.015), drawer=0.1)
    assert TASKS['push_block'].error(world, goal) == pytest.approx(0.05)


def test_unknown_task_is_refused_with_the_known_ones():
    with pytest.raises(TaskError, match='open_drawer'):
        task_named('fold_towel')


def test_every_object_that_counts_has_its_own_tolerances(world):
    task = TASKS['push_block']
    assert task.tolerances == {'block': (0.03, 0.05)}
    assert TASKS['open_drawer'].tolerances == {'drawer': (0.01, 0.025)}
    world.reset(WorldState(block=(0.25, 0.12, 0.015)))
    for away, strict, loose in ((0.02, True, True), (0.04, False, True), (0.06, False, False)):
        goal = WorldState(block=(0.25, 0.12 + away, 0.015), drawer=0.1)
        assert task.errors(world, goal) == {'block': pytest.approx(away)}
        assert (task.success(world, goal), task.success(world, goal, loose=True)) == (
            strict, loose)


def test_two_objects_count_where_the_order_is_forced_by_the_scene(world):
    task = TASKS['push_then_open']
    for start, goal in scenes('push_then_open', 10):
        world.reset(start)
        assert world.latched
        assert min(task.errors(world, goal).values()) > 0.03
        for half_done in (start.with_drawer(goal.drawer), goal.with_drawer(start.drawer)):
            world.reset(half_done)
            assert not task.success(world, goal, loose=True)
        assert not world.latched


def test_goals_inside_the_drawer_leave_the_gripper_room():
    for start, goal in scenes('place_in_drawer'):
        assert goal.drawer == start.drawer >= 0.09
        assert goal.block[0] - 0.03 > 0.36 - goal.drawer and goal.block[0] < 0.33
        assert -0.09 < goal.block[1] < -0.01
