"""The mock arm and the servo interpolation that feeds every driver."""

import inspect
import math
import threading
import time

import numpy as np
import pytest
from stable_crl_ros.robot.arm import ArmDriver, ArmError, ArmState, ServoInterpolator
from stable_crl_ros.robot.kinematics import HOME, JOINT_UPPER, START
from stable_crl_ros.robot.mock import MockArm


@pytest.fixture
def arm():
    arm = MockArm()
    arm.connect()
    yield arm
    arm.close()


@pytest.mark.parametrize('name', ['connect', 'close', 'read', 'write', 'faults', 'setpoint'])
def test_it_offers_what_a_driver_offers(name):
    offered = inspect.signature(getattr(MockArm, name))
    assert list(offered.parameters) == list(inspect.signature(getattr(ArmDriver, name)).parameters)


def test_it_starts_at_its_start_pose_at_rest_and_healthy(arm):
    before = time.time_ns()
    state = arm.read()
    assert isinstance(state, ArmState)
    np.testing.assert_array_equal(state.joint_positions, START)
    np.testing.assert_array_equal(state.joint_velocities, np.zeros(6))
    np.testing.assert_array_equal(state.joint_efforts, np.zeros(6))
    assert state.gripper == 1.0
    assert before <= state.stamp_ns <= time.time_ns()
    assert arm.faults() == []


def test_it_goes_to_a_setpoint_and_stays(arm):
    goal = START + [0.2, -0.1, 0.1, 0.3, -0.2, 0.4]
    arm.write(goal, 0.2)
    time.sleep(0.06 * 12)
    for _ in range(2):
        state = arm.read()
        np.testing.assert_allclose(state.joint_positions, goal, atol=1e-5)
        np.testing.assert_allclose(state.joint_velocities, np.zeros(6), atol=1e-4)
        assert state.gripper == pytest.approx(0.2, abs=1e-4)


def test_it_lags_by_its_time_constant():
    arm = MockArm(HOME, time_constant_s=0.3)
    arm.connect()
    begin = time.monotonic()
    arm.write(HOME + 0.5, 1.0)
    sent = time.monotonic()
    time.sleep(0.3)
    earliest = time.monotonic()
    made = arm.read().joint_positions / 0.5
    latest = time.monotonic()
    assert (made >= 1 - math.exp(-(earliest - sent) / 0.3) - 1e-9).all()
    assert (made <= 1 - math.exp(-(latest - begin) / 0.3) + 1e-9).all()


def test_velocity_is_that_of_the_lag():
    arm = MockArm(HOME, time_constant_s=0.5)
    arm.connect()
    arm.write(HOME + 0.1, 1.0)
    state = arm.read()
    np.testing.assert_allclose(state.joint_velocities, (0.1 - state.joint_positions) / 0.5)


def test_reading_often_changes_nothing():
    arm = MockArm(HOME, time_constant_s=0.2)
    arm.connect()
    begin = time.monotonic()
    arm.write(HOME + 0.5, 1.0)
    sent = time.monotonic()
    while time.monotonic() - sent < 0.2:
        arm.read()
    made = arm.read().joint_positions[0] / 0.5
    assert 1 - math.exp(-1.0) < made < 1 - math.exp(-(time.monotonic() - begin) / 0.2) + 1e-9


def test_connecting_again_holds_where_it_is_then():
    arm = MockArm(HOME, time_constant_s=10.0)
    arm.connect()
    arm.write(HOME + 1.0, 1.0)
    arm.close()
    arm.connect()
    held = arm.read().joint_positions
    assert (held < 0.5).all()
    time.sleep(0.02)
    np.testing.assert_array_equal(arm.read().joint_positions, held)


def test_it_answers_only_while_connected(arm):
    arm.close()
    arm.close()
    with pytest.raises(ArmError, match='not connected; call connect'):
        arm.read()
    with pytest.raises(ArmError, match='not connected; call connect'):
        arm.write(START, 1.0)


@pytest.mark.parametrize(('joints', 'gripper', 'message'), [
    (np.zeros(7), 1.0, '6 joint positions'),
    (np.array([0, 0, math.nan, 0, 0, 0]), 1.0, 'not finite'),
    (np.array([0, 0, math.inf, 0, 0, 0]), 1.0, 'not finite'),
    (np.zeros(6), math.nan, 'not finite'),
])
def test_a_bad_setpoint_is_refused_and_the_last_one_kept(arm, joints, gripper, message):
    with pytest.raises(ArmError, match=message):
        arm.write(joints, gripper)
    np.testing.assert_array_equal(arm.read().joint_positions, START)


def test_it_goes_no_further_than_the_joint_limits():
    arm = MockArm(JOINT_UPPER, time_constant_s=0.001)
    arm.connect()
    arm.write(JOINT_UPPER + 1.0, 2.0)
    time.sleep(0.05)
    state = arm.read()
    np.testing.assert_allclose(state.joint_positions, JOINT_UPPER, atol=1e-9)
    assert state.gripper == pytest.approx(1.0)


def test_changing_the_array_afterwards_changes_nothing(arm):
    setpoint = START.copy()
    arm.write(setpoint, 1.0)
    setpoint += 1.0
    arm.read().joint_positions[:] = 5.0
    time.sleep(0.02)
    np.testing.assert_array_equal(arm.read().joint_positions, START)


def test_threads_may_read_and_write_at_once(arm):
    failures = []

    def work(offset):
        try:
            for _ in range(300):
                arm.write(START + offset, 1.0)
                if not np.isfinite(arm.read().joint_positions).all():
                    failures.append('not finite')
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(0.01 * i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


@pytest.mark.parametrize('time_constant_s', [0.0, -1.0, math.nan, math.inf])
def test_a_lag_that_is_none_is_refused(time_constant_s):
    with pytest.raises(ArmError, match='time_constant_s must be above 0'):
        MockArm(time_constant_s=time_constant_s)


def test_interpolation_is_a_straight_line_that_holds_at_both_ends():
    goal = HOME + [1.0, 2.0, -1.0, 0.5, 0.0, -0.5]
    servo = ServoInterpolator(HOME, goal, 0.4, 0.2)
    for elapsed, fraction in [(-1.0, 0), (0, 0), (0.05, 0.25), (0.1, 0.5), (0.2, 1), (9.0, 1)]:
        joints, gripper = servo.sample(elapsed)
        np.testing.assert_allclose(joints, fraction * goal, atol=1e-15)
        assert gripper == 0.4
        assert servo.finished(elapsed) == (fraction == 1)


def test_interpolation_ends_exactly_on_its_target():
    goal = START + np.pi / 7
    np.testing.assert_allclose(ServoInterpolator(START, goal, 1.0, 0.2).sample(0.2)[0], goal,
                               rtol=0, atol=1e-15)


@pytest.mark.parametrize('duration_s', [0.0, -0.1, math.nan, math.inf])
def test_a_move_that_takes_no_time_is_refused(duration_s):
    with pytest.raises(ArmError, match='positive time'):
        ServoInterpolator(HOME, START, 1.0, duration_s)


def test_the_mock_follows_an_interpolated_move(arm):
    goal = START + [0.3, 0.1, -0.1, 0.0, 0.1, -0.3]
    servo = ServoInterpolator(START, goal, 0.0, 0.2)
    for elapsed in np.arange(0.0, 0.8, 0.02):
        arm.write(*servo.sample(elapsed))
        time.sleep(0.02)
    np.testing.assert_allclose(arm.read().joint_positions, goal, atol=2e-4)
