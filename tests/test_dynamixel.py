"""The driver of the real arm on an emulated servo bus: holding, following, and bad packets."""

from contextlib import suppress
import inspect
import math
import threading
import time

from dynamixel_stack import bus_and_arm, connected, drive, joints, PATIENT_S, read, STILL
import numpy as np
import pytest
from stable_crl_ros.robot.arm import ArmDriver, ArmError, ArmState
from stable_crl_ros.robot.controller import ArmController, ControlSettings
from stable_crl_ros.robot.dynamixel import DynamixelArm
from stable_crl_ros.robot.dynamixel_faults import Clock
from stable_crl_ros.robot.dynamixel_table import SERVOS, to_radians, to_ticks
from stable_crl_ros.robot.gripper import horn_angle, opening_from_angle
from stable_crl_ros.robot.kinematics import JOINT_LOWER, JOINT_NAMES, START
from stable_crl_ros.robot.safety import ArmLimits
from stable_crl_ros.robot.servo import Servo
from stable_crl_ros.servo_bus import start
from waiting import wait_for

POSE = dict(zip(JOINT_NAMES, START.tolist(), strict=True))


@pytest.fixture(scope='module')
def healthy():
    with bus_and_arm(POSE) as pair:
        yield pair


@pytest.mark.parametrize('name', ['connect', 'close', 'read', 'write', 'faults', 'clear_faults',
                                  'health', 'setpoint'])
def test_it_offers_what_a_driver_offers(name):
    offered = inspect.signature(getattr(DynamixelArm, name))
    assert list(offered.parameters) == list(inspect.signature(getattr(ArmDriver, name)).parameters)


def test_it_reads_where_the_arm_is(healthy):
    bus, arm = healthy
    before = time.time_ns()
    state = read(arm)
    assert isinstance(state, ArmState)
    assert before <= state.stamp_ns <= time.time_ns()
    np.testing.assert_allclose(state.joint_positions, joints(bus), atol=0.002)
    assert state.joint_velocities.shape == state.joint_efforts.shape == (6,)
    assert arm.faults() == []


def test_it_follows_setpoints_and_stays(healthy):
    bus, arm = healthy
    goal = START + [0.2, 0.1, -0.1, 0.15, -0.1, 0.2]
    drive(arm, goal, 1.0, gripper=0.3)
    np.testing.assert_allclose(joints(bus), goal, atol=0.003)
    state = read(arm)
    np.testing.assert_allclose(state.joint_positions, goal, atol=0.003)
    assert state.gripper == pytest.approx(0.3, abs=0.01)
    assert bus.joints()['gripper'] == pytest.approx(horn_angle(0.3), abs=0.01)


def test_the_gripper_gets_each_goal_once_so_that_its_profile_can_end(healthy):
    bus, arm = healthy
    goal = read(arm).joint_positions
    drive(arm, goal, 0.2, gripper=0.5)
    began = time.monotonic()
    drive(arm, goal, 0.3, gripper=0.9)
    assert [g.ticks for g in bus.goals(began) if g.servo == 9] == [bus.servo(9)['Goal_Position']]


def test_whatever_the_gripper_is_told_can_be_told_again():
    closed, opened = (to_ticks(horn_angle(opening)) for opening in (0.0, 1.0))
    for ticks in range(closed, opened + 1):
        assert to_ticks(horn_angle(opening_from_angle(to_radians(ticks)))) == ticks


def test_it_makes_up_for_a_gripper_goal_that_was_lost(healthy):
    bus, arm = healthy
    goal = read(arm).joint_positions
    drive(arm, goal, 0.2, gripper=0.2)
    bus.poke(9, 'Goal_Position', 2500)
    drive(arm, goal, 0.8, gripper=0.2)
    assert to_radians(bus.servo(9)['Goal_Position']) == pytest.approx(horn_angle(0.2), abs=0.002)


def test_a_far_setpoint_is_approached_no_faster_than_the_joints_may_move(healthy):
    bus, arm = healthy
    here = read(arm).joint_positions
    arm.write(here, 0.2)
    time.sleep(0.05)
    began = time.monotonic()
    arm.write(here + 1.0, 0.2)
    wait_for(lambda: bus.goals(began))
    jumps = [to_radians(g.ticks) - here[0] for g in bus.goals(began) if g.servo == 1]
    assert max(jumps) <= math.pi * 3 * PATIENT_S + 0.004
    assert int(arm.health()['slewed']) > 0
    drive(arm, here, 0.5, gripper=0.2)


def test_goals_beyond_a_limit_stop_at_it(healthy):
    bus, arm = healthy
    goal = read(arm).joint_positions
    goal[4] = JOINT_LOWER[4] - 0.5
    drive(arm, goal, 1.6, gripper=0.2)
    assert bus.servo(7)['Goal_Position'] == SERVOS[7].low


@pytest.mark.parametrize(('setpoint', 'message'), [
    (np.zeros(5), '6 joint positions'), (np.full(6, math.nan), 'not finite')])
def test_a_setpoint_that_is_none_is_refused(healthy, setpoint, message):
    bus, arm = healthy
    began = time.monotonic()
    with pytest.raises(ArmError, match=message):
        arm.write(setpoint, 0.0)
    assert bus.goals(began) == []


def test_health_tells_of_every_motor_and_of_the_bus(healthy):
    _, arm = healthy
    for _ in range(20):
        read(arm)
    health = arm.health()
    for servo in SERVOS.values():
        assert health[f'{servo.name}.voltage'] == '12.0'
        assert health[f'{servo.name}.temperature'] == '35'
        assert health[f'{servo.name}.torque'] == 'on'
    assert float(health['wrist_rotate.load_percent']) == float(health['waist.current_ma']) == 0.0
    assert {'cycles', 'lost', 'crc_errors', 'timeouts', 'retries', 'cycle_p50_ms', 'cycle_p99_ms',
            'cycle_worst_ms'} <= health.keys()
    assert all(isinstance(value, str) for value in health.values())


@pytest.mark.parametrize(('kind', 'servo', 'counter'), [
    ('drop', 1, 'timeouts'), ('drop', 9, 'timeouts'), ('truncate', 4, 'timeouts'),
    ('corrupt', 6, None), ('noise', 2, None)])
def test_one_bad_answer_is_made_up_for_within_the_cycle(healthy, kind, servo, counter):
    bus, arm = healthy
    read(arm)
    before = arm.health()
    state = None
    for _ in range(5):  # a busy machine may lose the second attempt as well
        bus.inject(kind, servo, count=1)
        with suppress(ArmError):
            state = arm.read()
            break
    np.testing.assert_allclose(state.joint_positions, joints(bus), atol=0.003)
    after = arm.health()
    if counter:
        assert int(after[counter]) > int(before[counter])
        assert int(after['retries']) > int(before['retries'])
    assert arm.faults() == []


def test_a_crc_error_is_counted_as_one(healthy):
    bus, arm = healthy
    bus.inject('corrupt', probability=1.0, count=40)  # most bits lie behind the header
    for _ in range(8):
        try:
            arm.read()
        except ArmError:
            continue
    bus.clear()
    assert int(arm.health()['crc_errors']) > 0
    np.testing.assert_allclose(read(arm).joint_positions, joints(bus), atol=0.003)


def test_a_bad_line_slows_nothing_down_and_stops_nothing(healthy):
    bus, arm = healthy
    goal = read(arm).joint_positions + 0.1
    for kind in ('drop', 'corrupt', 'truncate'):
        bus.inject(kind, probability=0.01)
    drive(arm, goal, 1.0)
    bus.clear()
    np.testing.assert_allclose(joints(bus), goal, atol=0.003)
    assert arm.faults() == []


def test_an_answer_that_comes_late_is_never_taken_for_a_new_one(healthy):
    bus, arm = healthy
    goal = read(arm).joint_positions
    for direction in (1.0, -1.0, 1.0):
        for _ in range(6):  # well under way, so that an old position differs from a new one
            goal[0] += direction * 0.1
            arm.write(goal, 1.0)
            read(arm)
            time.sleep(0.04)
        bus.inject('delay', 1, count=1, seconds=0.1)
        for _ in range(3):
            begun, at = joints(bus), time.monotonic()
            with suppress(ArmError):
                state = arm.read()
                if time.monotonic() - at > 2 * PATIENT_S:
                    continue  # the machine stood still: what the answer's clock says fits
                ended = joints(bus)
                low, high = np.minimum(begun, ended), np.maximum(begun, ended)
                assert (state.joint_positions >= low - 0.02).all(), 'an old reading'
                assert (state.joint_positions <= high + 0.02).all(), 'an old reading'


@pytest.mark.parametrize(('tick', 'sent', 'received', 'believed'), [
    (1020, 0.020, 0.024, True), (1022, 0.020, 0.024, True),
    (1000, 0.020, 0.024, False),  # the answer before, once more
    (1020, 0.040, 0.044, False),  # the answer to the question before
    (3, 0.500, 0.504, False),  # the clock began again: it restarted
    (3, 31.780, 31.784, True),  # the clock came round
    (7, 20.000, 20.004, True),  # too long ago to tell
])
def test_a_servos_clock_tells_old_answers_and_restarts(tick, sent, received, believed):
    clock = Clock()
    assert clock.plausible(1, 1000, 0.0, 0.004)
    assert clock.plausible(1, tick, sent, received) is believed


def test_answers_that_stay_late_stay_old():
    clock = Clock()
    assert clock.plausible(1, 1000, 0.0, 0.004)
    for cycle in range(3, 200):  # 50 ms late from here on, the last few seconds long
        sent = 0.02 * cycle
        assert not clock.plausible(1, 1000 + 20 * cycle - 50, sent, sent + 0.004)
    assert clock.plausible(1, 5000, 4.0, 4.004)


def test_a_first_answer_that_was_old_is_forgotten():
    clock = Clock()
    assert clock.plausible(1, 950, 0.0, 0.004)  # 50 ms late
    assert not clock.plausible(1, 1020, 0.02, 0.024)
    assert clock.plausible(1, 1040, 0.04, 0.044)


def test_connecting_moves_nothing_whatever_the_goal_registers_hold():
    with start(pose=POSE, timed=False) as bus:
        for number in SERVOS:
            bus.poke(number, 'Goal_Position', 2048 + 300)
        before = joints(bus)
        with connected(bus) as arm:
            time.sleep(0.3)
            np.testing.assert_allclose(joints(bus), before, atol=STILL)
            assert all(bus.servo(number)['Torque_Enable'] for number in SERVOS)
            assert arm.faults() == []


def test_an_arm_that_holds_keeps_its_goals_at_every_start_and_does_not_sag():
    with bus_and_arm(POSE) as (bus, arm):
        bus.inject('jam', 2)  # so that goal and position differ, as under load
        state = read(arm)
        drive(arm, state.joint_positions - [0, 0.03, 0, 0, 0, 0], 0.3)
        goals = {number: bus.servo(number)['Goal_Position'] for number in SERVOS}
        assert goals[2] != bus.servo(2)['Present_Position']
        for _ in range(2):
            arm.close()
            arm.connect()
        assert {n: bus.servo(n)['Goal_Position'] for n in SERVOS} == goals


def test_taking_over_leaves_every_goal_as_it_is():
    with bus_and_arm(POSE) as (bus, arm):
        drive(arm, START, 0.2, gripper=0.8)
        bus.inject('jam', 9)  # there is something between the fingers
        drive(arm, START + [0.0, 0.01, 0.0, 0.0, 0.0, 0.0], 0.6, gripper=0.6)
        arm.close()
        arm.connect()
        before = {number: bus.servo(number)['Goal_Position'] for number in SERVOS}
        servo = Servo(arm, ArmController(ArmLimits(), ControlSettings()), threading.Lock())
        servo.begin()
        for _ in range(3):
            servo.cycle()
        assert {number: bus.servo(number)['Goal_Position'] for number in SERVOS} == before
        assert read(arm).gripper > 0.7


def test_closing_disarms_the_watchdog_and_the_arm_holds_on():
    with bus_and_arm(POSE, watchdog_s=0.4) as (bus, arm):
        before = joints(bus)
        arm.close()
        arm.close()
        time.sleep(0.6)
        np.testing.assert_allclose(joints(bus), before, atol=STILL)
        for number in SERVOS:
            registers = bus.servo(number)
            assert (registers['Torque_Enable'], registers['Bus_Watchdog']) == (1, 0)
        with pytest.raises(ArmError, match='not connected; call connect'):
            arm.read()
        with pytest.raises(ArmError, match='not connected; call connect'):
            arm.write(START, 1.0)


@pytest.mark.parametrize(('options', 'message'), [
    ({'cycle_s': 0.0}, 'cycle_s'), ({'cycle_s': 1.0}, 'cycle_s'),
    ({'watchdog_s': 0.01}, 'watchdog_s'), ({'watchdog_s': 3.0}, 'watchdog_s')])
def test_times_that_the_servos_cannot_keep_are_refused(options, message):
    with pytest.raises(ArmError, match=message):
        DynamixelArm('/dev/null', **options)
