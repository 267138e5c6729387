"""The simulated world: kinematics, physics, pictures and threads."""

import os
import subprocess
import sys
import threading

import numpy as np
import pytest
from stable_crl_ros.images import ImageSpec
from stable_crl_ros.robot.kinematics import (
    forward_kinematics,
    JOINT_LOWER,
    JOINT_UPPER,
    START,
)
from stable_crl_ros.sim.world import CAMERA_SIZE, World, WorldError, WorldState

SPEC = ImageSpec()


@pytest.fixture(scope='module')
def world():
    with World() as shared:
        yield shared


def run_python(code, **environment):
    return subprocess.run([sys.executable, '-c', code], capture_output=True, text=True,
                          env={**os.environ, **environment}, timeout=60)


def test_model_and_closed_form_kinematics_agree(world):
    rng = np.random.default_rng(0)
    for joints in rng.uniform(JOINT_LOWER, JOINT_UPPER, (200, 6)):
        world.reset(WorldState(joints=tuple(joints)))
        np.testing.assert_allclose(world.ee_pose, forward_kinematics(joints), atol=1e-9)


def test_tool_pose_is_that_of_the_joints_after_a_motion(world):
    world.reset(WorldState())
    world.set_arm_targets(START + 0.3, 0.0)
    world.advance(0.1)
    joints = world.arm_state().joint_positions
    assert np.abs(joints - START).min() > 0.02
    np.testing.assert_allclose(world.ee_pose, forward_kinematics(joints), atol=1e-9)


def test_arm_holds_its_position_against_gravity(world):
    world.reset(WorldState())
    world.advance(2.0)
    np.testing.assert_allclose(world.arm_state().joint_positions, START, atol=1e-3)


def test_motors_lag_and_arrive(world):
    world.reset(WorldState())
    world.set_arm_targets(START + 0.1, 0.0)
    world.advance(0.08)
    share = (world.arm_state().joint_positions - START) / 0.1
    assert (share > 0.4).all() and (share < 0.8).all()
    world.advance(1.0)
    np.testing.assert_allclose(world.arm_state().joint_positions, START + 0.1, atol=2e-3)
    assert world.arm_state().gripper < 0.02


@pytest.mark.parametrize('opening', [0.0, 0.05, 0.12])
def test_drawer_stays_where_it_is_left(world, opening):
    world.reset(WorldState(drawer=opening))
    world.advance(10.0)
    assert world.drawer_opening == pytest.approx(opening, abs=5e-4)


@pytest.mark.parametrize(('block', 'opening', 'latched'), [
    ((0.25, 0.0, 0.015), 0.0, True), ((0.25, 0.0, 0.015), 0.05, False),
    ((0.25, 0.1, 0.015), 0.0, False), ((0.30, -0.05, 0.038), 0.1, False)])
def test_only_a_block_in_front_of_the_closed_drawer_latches_it(world, block, opening, latched):
    world.reset(WorldState(block=block, drawer=opening))
    assert world.latched is latched


def test_reset_forgets_everything_before_it(world):
    state = WorldState(drawer=0.07, block=(0.25, 0.12, 0.015), block_yaw=0.1)
    pictures, poses = [], []
    for disturbance in (0.0, 0.4):
        world.set_arm_targets(START + disturbance, 0.0)
        world.advance(0.3)
        world.reset(state)
        world.advance(0.2)
        pictures.append(world.render())
        poses.append(world.snapshot())
    assert poses[0] == poses[1]
    np.testing.assert_array_equal(*pictures)


def test_snapshot_is_a_state_to_return_to(world):
    world.reset(WorldState(drawer=0.03, gripper=0.5, block=(0.22, 0.13, 0.015), block_yaw=-0.4))
    state = world.snapshot()
    assert state.drawer == pytest.approx(0.03)
    assert state.gripper == pytest.approx(0.5)
    assert state.block == pytest.approx((0.22, 0.13, 0.015))
    assert state.block_yaw == pytest.approx(-0.4)
    picture = world.render()
    world.reset(WorldState())
    world.reset(state)
    np.testing.assert_array_equal(world.render(), picture)


@pytest.mark.parametrize('wrong', [
    {'drawer': 0.2}, {'drawer': float('nan')}, {'joints': (0.0,) * 5}, {'gripper': float('inf')},
    {'gripper': 1.5}, {'block': (0.1, 0.2)}])
def test_refuses_an_impossible_state(wrong):
    with pytest.raises(WorldError):
        WorldState(**wrong)


def test_refuses_targets_that_are_not_finite_and_keeps_the_old_ones(world):
    world.reset(WorldState())
    with pytest.raises(WorldError, match='finite'):
        world.set_arm_targets(np.full(6, np.nan), 1.0)
    world.advance(0.5)
    np.testing.assert_allclose(world.arm_state().joint_positions, START, atol=1e-3)


def test_three_millimetres_of_drawer_show_in_the_picture_the_learner_sees(world):
    for opening in (0.003, 0.05, 0.11):
        pictures = []
        for value in (opening, opening + 0.003):
            world.reset(WorldState(drawer=value))
            pictures.append(SPEC.resize(world.render()).astype(int))
        difference = np.abs(pictures[0] - pictures[1]).max(axis=2)
        assert (difference > 12).sum() >= 8  # pixels, of 48 x 48


def test_pictures_have_the_size_asked_for():
    with World((96, 128)) as small:
        picture = small.render()
    assert picture.shape == (96, 128, 3) and picture.dtype == np.uint8
    assert CAMERA_SIZE == (240, 320)
    assert picture.std() > 20


@pytest.mark.parametrize('size', [(480, 640), (0, 10)])
def test_refuses_a_picture_larger_than_the_buffer_or_empty(size):
    with pytest.raises(WorldError, match='size'):
        World(size)


def test_any_thread_may_take_pictures_while_physics_runs():
    pictures, failures = [], []

    def look(world):
        try:
            pictures.extend(world.render() for _ in range(10))
        except Exception as error:
            failures.append(error)

    with World() as world:
        world.render()
        threads = [threading.Thread(target=look, args=(world,)) for _ in range(3)]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            world.advance(0.02)
        for thread in threads:
            thread.join()
    assert not failures
    assert len(pictures) == 30
    assert all(picture.std() > 20 for picture in pictures)


def test_closed_world_refuses_pictures_and_closes_twice():
    world = World()
    world.render()
    world.close()
    world.close()
    with pytest.raises(WorldError, match='closed'):
        world.render()


def test_a_machine_without_a_thread_to_spare_is_told_of_and_tried_again(monkeypatch):
    def refuse(thread):
        raise RuntimeError("can't start new thread")
    with World() as world:
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, 'start', refuse)
            with pytest.raises(RuntimeError, match='new thread'):
                world.render()
        assert world.render().any()
    with World() as world:  # closing hides nothing either
        monkeypatch.setattr(threading.Thread, 'start', refuse)
        with pytest.raises(RuntimeError, match='new thread'):
            world.render()



@pytest.mark.parametrize('ending', ['world.close()', 'pass', 'raise SystemExit(0)', 'del world'])
def test_program_ends_without_a_word_from_egl(ending):
    done = run_python(
        'import threading\n'
        'from stable_crl_ros.sim.world import World\n'
        'world = World()\n'
        'thread = threading.Thread(target=world.render)\n'
        'thread.start(); thread.join(); world.render()\n'
        f'{ending}\n')
    assert (done.returncode, done.stdout, done.stderr) == (0, '', '')


def test_without_a_gl_library_physics_runs_and_pictures_name_what_to_install():
    done = run_python(
        'from stable_crl_ros.sim.world import World, WorldError, WorldState\n'
        'world = World()\n'
        'world.reset(WorldState(drawer=0.05)); world.advance(0.1)\n'
        'print(round(world.drawer_opening, 3))\n'
        'try: world.render()\n'
        'except WorldError as error: print(error)\n', MUJOCO_GL='disabled')
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith('0.05\n')
    assert 'apt install libegl1 libgl1' in done.stdout
    assert 'libosmesa6' in done.stdout
