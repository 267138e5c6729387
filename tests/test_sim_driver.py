"""The simulated arm and camera in real time."""

import threading
import time

import numpy as np
import pytest
from stable_crl_ros.cameras import CameraError
from stable_crl_ros.robot.arm import ArmError
from stable_crl_ros.robot.kinematics import START
from stable_crl_ros.sim.driver import SimArm, SimCamera
from stable_crl_ros.sim.real_time import MAX_CATCH_UP
from stable_crl_ros.sim.world import World, WorldState
from waiting import wait_for


@pytest.fixture
def world():
    with World() as shared:
        yield shared


@pytest.fixture
def arm(world):
    driver = SimArm(world)
    driver.connect()
    yield driver
    driver.close()


def test_simulated_time_keeps_pace_with_real_time(world, arm):
    def kept_pace():
        """Say whether it did for a second; it never goes ahead, even if the machine stands."""
        began, simulated = time.monotonic(), world.time
        time.sleep(1.0)
        passed = world.time - simulated
        behind = time.monotonic() - began - passed
        assert behind > -MAX_CATCH_UP - 0.05
        return behind < MAX_CATCH_UP + 0.05
    assert any(kept_pace() for _ in range(5))


def test_lost_time_is_not_made_up_for(world, arm):
    time.sleep(0.1)
    with world.lock:
        simulated = world.time
        time.sleep(0.6)
        released = time.monotonic()
    time.sleep(0.1)
    passed = world.time - simulated
    assert passed < time.monotonic() - released + MAX_CATCH_UP + 0.15


def test_setpoints_move_the_arm(arm):
    end = time.monotonic() + 20.0
    while np.abs(arm.read().joint_positions - START - 0.1).max() > 0.01:
        assert time.monotonic() < end, arm.read()
        arm.write(START + 0.1, 0.0)
        time.sleep(0.02)
    assert arm.read().gripper < 0.5
    joints, opening = arm.setpoint()
    np.testing.assert_allclose([*joints, opening], [*(START + 0.1), 0.0], atol=1e-9)
    assert arm.faults() == []


def test_reading_is_stamped_with_the_system_clock(arm):
    before = time.time_ns()
    state = arm.read()
    assert before <= state.stamp_ns <= time.time_ns()
    assert state.joint_velocities.shape == state.joint_efforts.shape == (6,)


def test_connecting_holds_the_arm_where_it_is(world):
    world.reset(WorldState(joints=tuple(START + 0.2)))
    world.set_arm_targets(START, 0.0)
    arm = SimArm(world)
    arm.connect()
    arm.connect()
    time.sleep(0.3)
    np.testing.assert_allclose(arm.read().joint_positions, START + 0.2, atol=1e-3)
    arm.close()


def test_closed_arm_stands_still_and_can_be_connected_again(world):
    arm = SimArm(world)
    with pytest.raises(ArmError, match='connect'):
        arm.read()
    arm.connect()
    arm.close()
    arm.close()
    simulated = world.time
    time.sleep(0.1)
    assert world.time == simulated
    with pytest.raises(ArmError, match='connect'):
        arm.write(START, 1.0)
    arm.connect()
    wait_for(lambda: world.time > simulated)
    arm.close()
    assert not [t for t in threading.enumerate() if t.name == 'sim-physics']


@pytest.mark.parametrize(('joints', 'gripper'), [
    (np.full(6, np.nan), 1.0), (np.zeros(5), 1.0), (START, float('inf'))])
def test_bad_setpoints_are_refused_and_change_nothing(arm, joints, gripper):
    with pytest.raises(ArmError, match='setpoint'):
        arm.write(joints, gripper)
    time.sleep(0.1)
    np.testing.assert_allclose(arm.read().joint_positions, START, atol=1e-3)


def test_camera_takes_stamped_pictures_in_another_thread_while_the_arm_moves(world, arm):
    camera, taken = SimCamera(world), []
    world.render()  # the context is made here and used there

    def moved():
        return np.abs(taken[0][2].astype(int) - taken[-1][2]).max() > 50

    def film():
        while len(taken) < 5 or not (moved() or len(taken) == 100):
            before = time.time_ns()
            stamp, picture = camera.read()
            taken.append((before <= stamp <= time.time_ns(), stamp, picture))
            time.sleep(0.1)

    thread = threading.Thread(target=film)
    thread.start()
    while thread.is_alive():
        arm.write(START - 0.2, 0.0)
        time.sleep(0.02)
    assert all(between for between, _, _ in taken)
    assert sorted(stamp for _, stamp, _ in taken) == [stamp for _, stamp, _ in taken]
    assert moved()


def test_camera_of_a_closed_world_says_so(world):
    world.close()
    with pytest.raises(CameraError, match='closed'):
        SimCamera(world).read()
