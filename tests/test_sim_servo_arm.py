"""The simulated world behind emulated servos, driven with real packets."""

import math
import time

from dynamixel_stack import read
import numpy as np
import pytest
from stable_crl_ros.robot.dynamixel import DynamixelArm
from stable_crl_ros.robot.kinematics import START
from stable_crl_ros.servo_bus import EmulatedBus
from stable_crl_ros.sim.servo_arm import ServoWorld
from stable_crl_ros.sim.world import World, WorldError, WorldState
from waiting import wait_for

CYCLE_S = 0.05  # slow enough for a busy machine


class Rig:
    """World, servos, bus and driver of one arm."""

    def __init__(self, start=None):
        self.world = World()
        self.world.reset(start or WorldState())
        self.servos = ServoWorld(self.world)
        self.bus = EmulatedBus(self.servos, timed=False)
        self.driver = DynamixelArm(self.bus.port, cycle_s=CYCLE_S, watchdog_s=0.0)

    def move_to(self, joints, gripper, seconds=30.0):
        """Write a setpoint until it is reached."""
        end = time.monotonic() + seconds
        while True:
            state = self.world.arm_state()
            if (np.abs(state.joint_positions - joints).max() < 0.01
                    and abs(state.gripper - gripper) < 0.05):
                return
            assert time.monotonic() < end, state
            self.driver.write(joints, gripper)
            time.sleep(CYCLE_S)

    def close(self):
        self.driver.close()
        self.bus.close()
        self.servos.close()
        self.world.close()


@pytest.fixture
def rig():
    rig = Rig()
    yield rig
    rig.close()


def test_goals_in_packets_move_the_simulated_arm_and_its_gripper(rig):
    rig.driver.connect()
    rig.move_to(START + [0.3, -0.1, 0.1, 0.2, -0.2, 0.3], 0.1)
    measured = read(rig.driver)
    true = rig.world.arm_state()
    np.testing.assert_allclose(measured.joint_positions, true.joint_positions, atol=0.02)
    assert measured.gripper == pytest.approx(true.gripper, abs=0.05)


def test_the_arm_waits_for_torque_where_it_was_put_and_falls_when_torque_is_taken(rig):
    time.sleep(0.3)
    np.testing.assert_allclose(rig.world.arm_state().joint_positions, START, atol=2e-3)
    rig.driver.connect()
    rig.driver.close()
    time.sleep(0.3)  # closed, it holds
    np.testing.assert_allclose(rig.world.arm_state().joint_positions, START, atol=5e-3)
    for number in range(1, 10):
        rig.bus.poke(number, 'Torque_Enable', 0)
    wait_for(lambda: rig.world.ee_pose[2, 3] < 0.1)


def test_before_torque_a_reset_moves_the_arm_and_later_only_the_scene(rig):
    assert rig.servos.place(WorldState(joints=tuple(START + 0.1))) == ''
    np.testing.assert_allclose(rig.world.arm_state().joint_positions, START + 0.1)
    rig.driver.connect()
    time.sleep(0.1)
    said = rig.servos.place(WorldState(drawer=0.05))
    assert 'arm stays where it is' in said
    assert rig.world.drawer_opening == pytest.approx(0.05, abs=2e-3)
    time.sleep(0.1)
    np.testing.assert_allclose(rig.world.arm_state().joint_positions, START + 0.1, atol=5e-3)


def test_a_reset_is_refused_while_the_arm_stands_where_the_block_would_be(rig):
    rig.driver.connect()
    time.sleep(0.1)
    hand = rig.world.ee_pose[:3, 3] + [0.0, 0.0, 0.045]
    before = rig.world.block_position
    with pytest.raises(WorldError, match='send it home'):
        rig.servos.place(WorldState(block=tuple(hand)))
    np.testing.assert_allclose(rig.world.block_position, before, atol=2e-3)


def test_a_blocked_joint_is_held_by_whatever_blocks_it(rig):
    rig.driver.connect()
    rig.bus.inject('jam', 1)
    for _ in range(10):
        rig.driver.write(START + [0.5, 0, 0, 0, 0, 0], 1.0)
        time.sleep(CYCLE_S)
    assert abs(rig.world.arm_state().joint_positions[0]) < math.radians(2)
