"""The arm's controller: who is in charge, what is executed, and how smoothly."""

from dataclasses import replace
import threading

import numpy as np
import pytest
from stable_crl_ros.robot.arbiter import ArmMode, ControlError
from stable_crl_ros.robot.arm import ArmError, ArmFault
from stable_crl_ros.robot.controller import ArmController, ControlSettings
from stable_crl_ros.robot.kinematics import (
    forward_kinematics,
    HOME,
    inverse_kinematics,
    SLEEP,
    START,
)
from stable_crl_ros.robot.mock import MockArm
from stable_crl_ros.robot.safety import ArmLimits, StepFlag
from stable_crl_ros.robot.servo import Servo

POLICY, TELEOP = ArmMode.POLICY, ArmMode.TELEOP
SERVO_S = 0.02
SPEED = 0.5  # rad/s, less than many a step asks for
UP = np.array([0.0, 0.0, 0.02, 0.0, 0.0, 0.0])
LEFT = np.array([0.0, 0.02, 0.0, 0.0, 0.0, 0.0])


class RecordingArm(MockArm):
    """
    The mock arm without lag, which keeps every setpoint.

    `broken` loses what is written, `deaf` what is read; `frozen` repeats a stamp, `held` joints.
    """

    def __init__(self, joints=START):
        super().__init__(joints, gripper=1.0, time_constant_s=1e-9)
        self.setpoints, self.fault, self.held = [], [], None
        self.efforts = np.zeros(6)
        self.broken = self.deaf = self.frozen = False
        self.during_write = lambda: None

    def read(self):
        if self.deaf:
            raise ArmError('no answer from motor 3')
        state = super().read()
        stamp = 1 if self.frozen else state.stamp_ns
        joints = state.joint_positions if self.held is None else self.held
        return replace(state, stamp_ns=stamp, joint_positions=joints, joint_efforts=self.efforts)

    def write(self, joint_positions, gripper):
        if self.broken:
            raise ArmError('no answer from motor 3')
        super().write(joint_positions, gripper)
        self.during_write()
        self.setpoints.append(np.append(joint_positions, gripper))

    def faults(self):
        return self.fault


class LoadedArm(RecordingArm):
    """Its joints rest `sag` (6,) below their setpoints, its gripper on something `held_open`."""

    sag, held_open, blocked = np.zeros(6), 0.0, None

    def read(self):
        state = super().read()
        joints = state.joint_positions + self.sag
        if self.blocked is not None:
            joints[self.blocked] = START[self.blocked]
        return replace(state, joint_positions=joints, gripper=max(state.gripper, self.held_open))


class Bench:
    """A controller whose time the test drives."""

    def __init__(self, joints=START, begin=True, limits=None, kind=RecordingArm, **settings):
        self.arm = kind(joints)
        self.arm.connect()
        self.controller = ArmController(ArmLimits(**(limits or {})),
                                        ControlSettings(**settings))
        self.now = 100.0
        self.servo = Servo(self.arm, self.controller, threading.Lock(), lambda: self.now)
        if begin:
            self.servo.begin()

    def run(self, seconds):
        """Let the servo run."""
        for _ in range(round(seconds / SERVO_S)):
            self.now += SERVO_S
            self.servo.cycle()

    def command(self, source=POLICY, delta=UP, age_s=0.05):
        return self.controller.command(source, np.asarray(delta, float), age_s, self.now)

    def tool(self):
        """Return where the last setpoint puts the tool point, m."""
        return forward_kinematics(self.arm.setpoints[-1][:6])[:3, 3]

    def largest_joint_step(self):
        return np.abs(np.diff(np.array(self.arm.setpoints)[:, :6], axis=0)).max()


@pytest.fixture
def bench():
    return Bench()


def test_taking_over_moves_nothing(bench):
    bench.run(0.3)
    np.testing.assert_allclose(np.array(bench.arm.setpoints),
                               np.tile(np.append(START, 1.0), (15, 1)), atol=1e-12)
    assert bench.controller.mode is ArmMode.READY


def test_taking_over_again_and_again_lets_no_arm_sink_and_nothing_fall():
    bench = Bench(kind=LoadedArm)
    bench.arm.sag, bench.arm.held_open = np.array([0.0, 0.03, 0.02, 0.0, 0.01, 0.0]), 0.4
    bench.controller.set_gripper(POLICY, 0.0, bench.now)
    bench.command(delta=UP)
    bench.run(0.4)
    for _ in range(3):
        bench.controller.end()
        bench.servo.begin()
        bench.run(0.1)
        bench.arm.fault = [ArmFault('shoulder: overload')]
        bench.run(0.1)
        bench.arm.fault = []
        bench.servo.clear_faults()
        bench.controller.resume(bench.now)
        bench.run(0.1)
    np.testing.assert_allclose(bench.tool(), [0.3, 0.0, 0.17], atol=1e-6)
    assert bench.arm.setpoints[-1][6] == 0.0


def test_a_joint_that_was_moved_away_from_its_setpoint_is_taken_over_where_it_is():
    bench = Bench(kind=LoadedArm, begin=False)
    bench.arm.sag = np.array([0.0, 0.03, 0.0, 0.0, 0.0, 0.4])
    bench.servo.begin()
    bench.run(SERVO_S)
    np.testing.assert_allclose(bench.arm.setpoints[-1][:6], START + [0, 0, 0, 0, 0, 0.4])


def test_a_command_is_executed_over_one_period_and_told_truly(bench):
    outcome = bench.command(delta=UP)
    np.testing.assert_allclose(outcome.applied, [*UP, 1.0], atol=1e-9)
    assert outcome.flags == 0
    bench.run(0.1)
    assert 0.155 < bench.tool()[2] < 0.165
    bench.run(0.1)
    np.testing.assert_allclose(bench.tool(), [0.3, 0.0, 0.17], atol=1e-6)


def test_silence_holds_after_the_period_and_then_nobody_is_in_charge(bench):
    bench.command()
    bench.run(0.2)
    reached = bench.arm.setpoints[-1]
    assert bench.controller.mode is POLICY
    bench.run(1.0)
    np.testing.assert_allclose(bench.arm.setpoints[-1], reached, atol=1e-12)
    assert bench.controller.mode is ArmMode.READY
    assert not bench.controller.moving


def test_silence_ends_a_motion_longer_than_the_timeout():
    bench = Bench(period_s=1.0, command_timeout_s=0.3)
    bench.command(delta=UP)
    bench.run(0.4)
    held = bench.tool()
    bench.run(1.0)
    np.testing.assert_array_equal(bench.tool(), held)
    assert 0.153 < held[2] < 0.16
    np.testing.assert_allclose(bench.command(delta=UP).applied[:3], UP[:3], atol=1e-9)
    bench.run(0.3)
    assert bench.tool()[2] > held[2]


def test_applied_is_what_was_really_done_when_a_command_is_clipped(bench):
    before = bench.tool() if bench.arm.setpoints else np.array([0.3, 0.0, 0.15])
    outcome = bench.command(delta=[0.2, 0, 0, 0, 0, 0])
    bench.run(0.2)
    assert outcome.flags & StepFlag.TRANSLATION_CLIPPED
    assert outcome.commanded[0] == 0.2
    np.testing.assert_allclose(bench.tool() - before, outcome.applied[:3], atol=1e-6)
    assert outcome.applied[0] == pytest.approx(0.05)


def test_commands_add_up_on_the_target_not_on_the_lagging_arm():
    bench = Bench()
    for _ in range(3):
        bench.command(delta=LEFT)
        bench.run(0.2)
    np.testing.assert_allclose(bench.tool(), [0.3, 0.06, 0.15], atol=1e-6)


@pytest.mark.parametrize('spoilt', [[np.nan, 0, 0, 0, 0, 0], [0, 0, 0, 0, np.inf, 0]])
def test_a_command_that_is_no_number_moves_nothing_and_is_counted(bench, spoilt):
    outcome = bench.command(delta=spoilt)
    bench.run(0.3)
    assert outcome.refused
    assert outcome.flags == StepFlag.NON_FINITE
    np.testing.assert_array_equal(outcome.applied, [0, 0, 0, 0, 0, 0, 1])
    assert bench.controller.counts['non_finite'] == 1
    assert bench.controller.mode is ArmMode.READY
    np.testing.assert_allclose(bench.tool(), [0.3, 0, 0.15], atol=1e-9)


def test_a_gripper_that_is_no_number_spoils_its_own_tick_only(bench):
    bench.controller.set_gripper(POLICY, float('nan'), bench.now)
    assert bench.command().flags == StepFlag.NON_FINITE
    bench.run(0.2)
    outcome = bench.command()
    assert outcome.flags == 0
    assert outcome.applied[6] == 1.0


def test_a_gripper_setpoint_lasts_and_moves_with_the_next_command(bench):
    bench.controller.set_gripper(POLICY, 0.0, bench.now)
    bench.run(0.1)
    assert bench.arm.setpoints[-1][6] == 1.0
    assert bench.command().applied[6] == 0.0
    bench.run(0.8)
    assert bench.command().applied[6] == 0.0


@pytest.mark.parametrize('age_s', [9.0, -9.0])
def test_the_gripper_of_a_refused_tick_acts_with_no_other(bench, age_s):
    bench.controller.set_gripper(POLICY, 0.0, bench.now)
    assert bench.command(POLICY, age_s=age_s).refused
    assert bench.command(POLICY).applied[6] == 1.0


def test_the_operators_step_does_not_move_the_gripper_as_the_policy_wants(bench):
    bench.controller.set_gripper(POLICY, 0.0, bench.now)
    assert bench.command(TELEOP, LEFT).applied[6] == 1.0


def test_a_gripper_beyond_its_range_is_clipped_and_flagged(bench):
    bench.controller.set_gripper(POLICY, 1.7, bench.now)
    outcome = bench.command()
    assert outcome.flags == StepFlag.GRIPPER_CLIPPED
    assert (outcome.commanded[6], outcome.applied[6]) == (1.7, 1.0)


@pytest.mark.parametrize(('age_s', 'flag'), [
    (0.51, StepFlag.STALE), (1e9, StepFlag.STALE), (float('nan'), StepFlag.STALE),
    (-0.05, StepFlag.FUTURE), (-1e9, StepFlag.FUTURE),
])
def test_a_wrong_stamp_is_refused_by_name(bench, age_s, flag):
    outcome = bench.command(age_s=age_s)
    assert outcome.flags == flag
    assert bench.controller.mode is ArmMode.READY
    bench.run(0.3)
    np.testing.assert_allclose(bench.tool(), [0.3, 0, 0.15], atol=1e-9)


def test_clocks_a_few_milliseconds_apart_are_no_reason_to_refuse(bench):
    assert not bench.command(age_s=-0.01).refused


def test_a_flood_of_commands_moves_no_faster_than_the_control_rate(bench):
    for _ in range(100):
        bench.command(delta=[0, 0.005, 0, 0, 0, 0])
        bench.run(SERVO_S)
    moved = bench.tool()[1]
    assert moved <= 0.005 * (2.0 / 0.2 * 1.05 + 2) + 1e-9
    assert moved > 0.045
    assert bench.controller.counts['too_soon'] > 80


def test_the_operator_overrides_the_policy_without_a_jump(bench):
    for tick in range(10):
        bench.command(POLICY, UP / 2)
        if tick >= 3:
            bench.controller.set_gripper(TELEOP, 1.0, bench.now)
            taken = bench.command(TELEOP, LEFT)
            assert not taken.refused
        bench.run(0.1)
        if tick >= 3:
            assert bench.command(POLICY, -UP / 2).flags == StepFlag.OVERRIDDEN
            assert bench.controller.mode is TELEOP
        bench.run(0.1)
    whole_step = np.abs(np.array(bench.arm.setpoints)[0, :6]
                        - np.array(bench.arm.setpoints)[10, :6]).max()
    assert bench.largest_joint_step() < 0.3 * whole_step
    assert bench.tool()[2] == pytest.approx(0.15 + 4 * 0.01, abs=1e-6)
    assert bench.tool()[1] == pytest.approx(7 * 0.02, abs=1e-6)


def test_the_operator_takes_over_from_the_target_even_in_mid_step(bench):
    bench.command(POLICY, UP)
    bench.run(0.1)
    bench.command(TELEOP, LEFT)
    bench.run(0.2)
    np.testing.assert_allclose(bench.tool(), [0.3, 0.02, 0.17], atol=1e-6)


def test_the_policy_is_back_in_charge_when_the_operator_lets_go(bench):
    bench.command(TELEOP, LEFT)
    bench.run(0.4)
    assert bench.command(POLICY, UP).flags == StepFlag.OVERRIDDEN
    bench.run(0.12)
    assert bench.command(POLICY, UP).flags == 0
    assert bench.controller.mode is POLICY


def test_a_stale_teleoperation_does_not_take_the_arm_from_the_policy(bench):
    assert bench.command(TELEOP, LEFT, age_s=3.0).flags == StepFlag.STALE
    assert bench.command(POLICY, UP).flags == 0


def test_the_policys_gripper_is_not_heard_while_the_operator_is_in_charge(bench):
    bench.controller.set_gripper(TELEOP, 0.0, bench.now)
    bench.command(TELEOP, LEFT)
    bench.controller.set_gripper(POLICY, 1.0, bench.now)
    bench.run(0.2)
    assert bench.command(TELEOP, LEFT).applied[6] == 0.0


def test_stop_holds_at_once_and_stays_until_resumed(bench):
    bench.command(delta=UP)
    bench.run(0.1)
    bench.controller.stop('operator')
    held = bench.arm.setpoints[-1]
    bench.run(0.3)
    np.testing.assert_allclose(bench.arm.setpoints[-1], held, atol=1e-9)
    for source in (POLICY, TELEOP):
        outcome = bench.command(source)
        assert outcome.flags == StepFlag.HELD
        assert outcome.source is ArmMode.IDLE
    bench.run(5.0)
    assert bench.controller.mode is ArmMode.PAUSED
    bench.controller.resume(bench.now)
    assert bench.controller.mode is ArmMode.READY
    assert not bench.command().refused


def test_stop_is_remembered_before_there_is_an_arm():
    bench = Bench(begin=False)
    bench.controller.stop('operator')
    bench.servo.begin()
    assert bench.controller.mode is ArmMode.PAUSED
    bench.controller.resume(bench.now)
    assert bench.controller.mode is ArmMode.READY


def test_resuming_an_arm_that_is_not_paused_does_not_end_its_way_home():
    bench = Bench(kind=LoadedArm)
    bench.command(delta=LEFT)
    bench.run(2.0)
    seconds = bench.controller.move_to(HOME, bench.now)
    for lag in np.linspace(0.0, 0.2, 11):  # rad, as of servos that follow slowly
        bench.arm.sag = np.array([lag, 0.0, 0.0, 0.0, 0.0, 0.0])
        bench.run(SERVO_S)
    bench.controller.resume(bench.now)
    assert bench.controller.mode is ArmMode.RESETTING
    bench.run(seconds)
    np.testing.assert_allclose(bench.arm.setpoints[-1][:6], HOME, atol=1e-6)


def test_resuming_keeps_hold_of_what_the_gripper_holds(bench):
    bench.controller.set_gripper(POLICY, 0.0, bench.now)
    bench.command()
    bench.run(0.06)
    bench.controller.stop('operator')
    bench.controller.resume(bench.now)
    bench.run(0.1)
    assert bench.arm.setpoints[-1][6] == 0.0


def test_homing_is_slow_refuses_commands_and_ends_where_it_should(bench):
    bench.command(delta=LEFT)
    bench.run(0.2)
    seconds = bench.controller.move_to(SLEEP, bench.now)
    bench.run(seconds / 2)
    assert bench.controller.mode is ArmMode.RESETTING
    assert bench.command(TELEOP).flags == StepFlag.HELD
    bench.run(seconds / 2 + 0.1)
    assert bench.controller.mode is ArmMode.READY
    np.testing.assert_allclose(bench.arm.setpoints[-1][:6], SLEEP, atol=1e-9)
    assert np.abs(np.diff(np.array(bench.arm.setpoints)[11:, :6], axis=0)).max() \
        <= 0.5 * SERVO_S * 1.0001


def test_an_arm_sent_to_rest_stays_there_until_it_is_resumed(bench):
    bench.run(bench.controller.move_to(SLEEP, bench.now, then_pause='it was sent to sleep') + 0.1)
    assert bench.controller.mode is ArmMode.PAUSED
    assert bench.controller.arbiter.reason == 'it was sent to sleep'
    assert bench.command(delta=LEFT).flags == StepFlag.HELD
    bench.run(0.2)
    np.testing.assert_allclose(bench.arm.setpoints[-1][:6], SLEEP, atol=1e-9)
    bench.controller.resume(bench.now)
    bench.run(bench.controller.move_to(HOME, bench.now) + 0.1)
    assert bench.controller.mode is ArmMode.READY


def test_resuming_on_the_way_to_rest_is_refused_and_changes_nothing(bench):
    seconds = bench.controller.move_to(SLEEP, bench.now, then_pause='it was sent to sleep')
    bench.run(0.5)
    with pytest.raises(ControlError, match=rf'{seconds - 0.5:.1f} s to go.*stop first'):
        bench.controller.resume(bench.now)
    assert bench.controller.mode is ArmMode.RESETTING
    bench.run(seconds - 0.4)
    assert bench.controller.arbiter.reason == 'it was sent to sleep'
    bench.controller.resume(bench.now)
    bench.run(0.1)
    assert bench.controller.mode is ArmMode.READY


def test_resuming_on_the_way_home_ends_with_an_arm_that_listens(bench):
    seconds = bench.controller.move_to(SLEEP, bench.now)
    bench.run(0.5)
    bench.controller.resume(bench.now)
    assert bench.controller.mode is ArmMode.RESETTING
    assert bench.command(delta=LEFT).flags == StepFlag.HELD
    bench.run(seconds - 0.4)
    assert bench.controller.mode is ArmMode.READY
    np.testing.assert_allclose(bench.arm.setpoints[-1][:6], SLEEP, atol=1e-9)


def test_a_stop_on_the_way_to_rest_keeps_its_own_reason(bench):
    bench.controller.move_to(SLEEP, bench.now, then_pause='it was sent to sleep')
    bench.run(0.5)
    bench.controller.stop('operator')
    bench.run(5.0)
    assert bench.controller.arbiter.reason == 'operator'
    bench.controller.resume(bench.now)
    bench.run(0.1)
    assert bench.controller.mode is ArmMode.READY


def test_stop_ends_homing_where_it_is(bench):
    bench.controller.move_to(HOME, bench.now)
    bench.run(0.5)
    bench.controller.stop('operator')
    held = bench.arm.setpoints[-1]
    bench.run(1.0)
    np.testing.assert_allclose(bench.arm.setpoints[-1], held, atol=1e-9)
    with pytest.raises(ControlError, match='resume'):
        bench.controller.move_to(HOME, bench.now)


def test_homing_through_the_table_is_refused():
    bench = Bench(joints=np.array([0.0, 1.12, 1.22, 0.0, 1.51, 0.0]))
    with pytest.raises(ControlError, match='raise the arm'):
        bench.controller.move_to([0.0, -0.27, 0.38, 0.0, 0.3, 0.0], bench.now)
    assert bench.controller.mode is ArmMode.READY


@pytest.mark.parametrize(('pose', 'reason'), [
    ([0.0, 0.6, 0.6, 0.0, 1.0, 0.0], 'below the table'),
    ([0.0, 0.77, 1.08, 0.85, 1.61, 0.0], 'forearm and table would be'),
    ([0.0, 1.26, 10.49, 0.0, 78.25, 0.0], 'elbow goes from .* to 10.49'),
])
def test_a_pose_that_is_none_to_go_to_is_refused(bench, pose, reason):
    with pytest.raises(ControlError, match=reason):
        bench.controller.move_to(np.array(pose), bench.now)
    assert bench.controller.mode is ArmMode.READY


def test_the_arm_does_not_lean_on_what_blocks_its_way_home():
    bench = Bench(kind=LoadedArm)
    bench.arm.blocked = 1
    bench.run(bench.controller.move_to(SLEEP, bench.now))
    assert bench.controller.mode is ArmMode.PAUSED
    assert 'shoulder is 0.4' in bench.controller.arbiter.reason
    ahead = np.abs(bench.arm.setpoints[-1][:6] - bench.controller.state.joint_positions)
    assert ahead.max() < 0.01
    steps = np.abs(np.diff(np.array(bench.arm.setpoints)[:, 1]))
    assert abs(np.array(bench.arm.setpoints)[:, 1] - START[1]).max() < 0.45
    assert steps.max() <= np.pi * SERVO_S * 1.0001


def test_a_way_home_that_does_not_end_there_is_told():
    bench = Bench(kind=LoadedArm)
    bench.arm.sag = np.array([0.0, 0.25, 0.0, 0.0, 0.0, 0.0])
    bench.run(bench.controller.move_to(HOME, bench.now) + 0.5)
    assert bench.controller.mode is ArmMode.RESETTING
    bench.run(1.0)
    assert bench.controller.mode is ArmMode.PAUSED
    assert 'shoulder is 0.25 rad behind' in bench.controller.arbiter.reason


def test_a_lost_cycle_is_held_and_counted_and_no_fault(bench):
    bench.command(delta=UP)
    bench.run(0.1)
    bench.arm.deaf, held = True, bench.arm.setpoints[-1]
    bench.run(4 * SERVO_S)
    np.testing.assert_array_equal(bench.arm.setpoints[-4:], [held] * 4)
    bench.arm.deaf = False
    bench.run(0.12)
    np.testing.assert_allclose(bench.tool(), [0.3, 0.0, 0.17], atol=1e-6)
    assert bench.controller.counts['lost_cycles'] == 4
    assert bench.controller.mode is POLICY


def test_no_setpoint_is_too_fast_however_cycles_come_and_get_lost():
    bench = Bench(max_lost_cycles=10**6, limits={'max_joint_velocity': SPEED})
    rng = np.random.default_rng(0)

    def take_a_while():
        bench.now += rng.choice([0.0, 0.5]) * SERVO_S
    bench.arm.during_write = take_a_while
    before, before_s, limited = bench.arm.read().joint_positions, bench.now, 0
    for _ in range(3000):
        bench.now += rng.choice([0.1, 1.0, 1.9]) * SERVO_S
        if rng.random() < 0.3:
            bench.command(TELEOP, [0, 0, 0, rng.choice([-0.25, 0.25]), 0, 0])
        bench.arm.deaf, bench.arm.broken = rng.random(2) < (0.4, 0.2)
        count = len(bench.arm.setpoints)
        bench.servo.cycle()
        if len(bench.arm.setpoints) > count:
            joints = bench.arm.setpoints[-1][:6]
            share = np.abs(joints - before).max() / (SPEED * (bench.now - before_s))
            assert share <= 1.0 + 1e-9
            limited += share > 0.99
            before, before_s = joints, bench.now
    assert limited > 100


@pytest.mark.parametrize('broken', ['broken', 'deaf'])
def test_cycles_lost_in_a_row_latch_a_fault_that_names_the_cause(bench, broken):
    bench.command(delta=UP)
    bench.run(0.1)
    setattr(bench.arm, broken, True)
    bench.run(5 * SERVO_S)
    assert bench.controller.mode is ArmMode.FAULT
    assert bench.controller.arbiter.reason == (
        '5 servo cycles in a row were lost: no answer from motor 3')
    setattr(bench.arm, broken, False)
    bench.run(1.0)
    assert bench.command().flags == StepFlag.HELD
    assert bench.tool()[2] < 0.165 + 1e-6
    with pytest.raises(ControlError, match='clear_faults'):
        bench.controller.resume(bench.now)
    assert 'resume' in bench.servo.clear_faults()
    assert bench.controller.mode is ArmMode.PAUSED
    bench.controller.resume(bench.now)
    assert not bench.command().refused


def test_a_reported_fault_latches_in_the_same_cycle_until_it_is_cleared(bench):
    bench.arm.fault = [ArmFault('elbow (servo 4): overload', 'elbow', 4, 32, 'reboot')]
    bench.run(SERVO_S)
    assert bench.controller.mode is ArmMode.FAULT
    with pytest.raises(ControlError, match='elbow.*clear_faults'):
        bench.controller.resume(bench.now)
    with pytest.raises(ControlError, match='clear_faults'):
        bench.controller.move_to(HOME, bench.now)
    with pytest.raises(ArmError, match='elbow'):
        bench.servo.clear_faults()
    bench.arm.fault = []
    assert bench.controller.mode is ArmMode.FAULT
    bench.servo.clear_faults()
    bench.controller.resume(bench.now)
    assert bench.controller.mode is ArmMode.READY


def test_every_fault_is_named_once(bench):
    bench.arm.fault = [ArmFault('elbow: overload')]
    bench.run(0.1)
    bench.arm.fault = [ArmFault('elbow: overload'), ArmFault('waist: overheating')]
    bench.run(0.1)
    assert bench.controller.arbiter.reason == 'elbow: overload; waist: overheating'


def test_what_a_driver_says_later_replaces_what_it_said_before(bench):
    bench.arm.fault = [ArmFault('servos do not answer: waist, elbow')]
    bench.run(SERVO_S)
    bench.arm.fault = [ArmFault('servos do not answer: waist, elbow, gripper')]
    bench.run(SERVO_S)
    assert bench.controller.arbiter.reason == 'servos do not answer: waist, elbow, gripper'
    bench.arm.fault = []
    bench.run(SERVO_S)
    assert bench.controller.mode is ArmMode.FAULT


def test_an_arm_that_sank_during_a_fault_is_held_where_it_is_when_cleared(bench):
    bench.arm.fault = [ArmFault('shoulder: overload')]
    bench.run(0.1)
    sunk = START + [0, 0.4, 0, 0, 0, 0]
    bench.arm.fault, bench.arm.held = [], sunk
    bench.servo.clear_faults()
    bench.controller.resume(bench.now)
    bench.run(SERVO_S)
    np.testing.assert_allclose(bench.arm.setpoints[-1][:6], sunk, atol=1e-9)


def test_clearing_without_a_fault_moves_nothing(bench):
    bench.command(delta=UP)
    bench.run(0.1)
    assert bench.servo.clear_faults() == 'the arm has no fault'
    bench.run(0.1)
    np.testing.assert_allclose(bench.tool(), [0.3, 0.0, 0.17], atol=1e-6)


def test_nothing_is_taken_over_from_a_faulty_arm():
    bench = Bench(begin=False)
    bench.arm.fault = [ArmFault('shoulder: overheating')]
    with pytest.raises(ArmError, match='overheating'):
        bench.servo.begin()


def test_a_driver_that_repeats_an_old_reading_is_a_fault(bench):
    bench.arm.frozen = True
    bench.run(0.18)
    assert bench.controller.mode is ArmMode.READY
    bench.run(0.1)
    assert bench.controller.mode is ArmMode.FAULT
    assert 'old' in bench.controller.arbiter.reason


def test_joints_that_stay_while_the_setpoint_moves_are_a_fault(bench):
    bench.arm.held = START
    for _ in range(6):
        bench.command(delta=LEFT)
        bench.run(0.2)
    assert bench.controller.mode is ArmMode.FAULT
    assert 'no joint has moved' in bench.controller.arbiter.reason


@pytest.mark.parametrize('wrong', [np.nan, np.inf])
def test_an_arm_that_does_not_know_where_it_is_is_held_and_then_at_fault(bench, wrong):
    bench.command(delta=UP)
    bench.run(0.1)
    held = bench.arm.setpoints[-1]
    bench.arm.held = START + [0.0, 0.0, 0.0, wrong, 0.0, 0.0]
    bench.run(SERVO_S)
    assert bench.controller.mode is ArmMode.POLICY
    bench.run(0.2)
    assert bench.controller.mode is ArmMode.FAULT
    assert 'not finite' in bench.controller.arbiter.reason
    np.testing.assert_array_equal(bench.arm.setpoints[-1], held)
    assert bench.command().refused
    with pytest.raises(ArmError, match='not finite'):
        bench.servo.clear_faults()


def test_joints_that_rest_while_nothing_is_asked_are_no_fault(bench):
    bench.arm.held = START
    bench.run(5.0)
    assert bench.controller.mode is ArmMode.READY


def test_a_late_cycle_does_not_make_up_for_lost_time(bench):
    bench.command(delta=[0, 0.05, 0, 0, 0, 0])
    bench.run(SERVO_S)
    before = bench.arm.setpoints[-1]
    bench.now += 0.15
    bench.servo.cycle()
    moved = np.abs(bench.arm.setpoints[-1] - before).max()
    assert moved <= np.pi * 2 * SERVO_S
    bench.run(0.3)
    np.testing.assert_allclose(bench.tool(), [0.3, 0.05, 0.15], atol=1e-6)


def test_a_servo_that_cannot_follow_keeps_the_tool_in_the_workspace():
    limits = ArmLimits()
    pose = forward_kinematics(START)
    pose[:3, 3] = (0.38, limits.workspace_high[1], 0.1)
    bench = Bench(joints=inverse_kinematics(pose, START))
    for _ in range(4):  # without a single cycle
        bench.command(delta=[-0.05, 0, 0, 0, 0, 0])
        bench.now += 0.2
    bench.run(1.0)
    tools = np.array([forward_kinematics(row[:6])[:3, 3] for row in bench.arm.setpoints])
    assert np.ptp(tools[:, 0]) > 2 * limits.max_translation
    assert (tools <= np.array(limits.workspace_high) + 0.003).all(), tools.max(0)


def test_the_target_does_not_run_away_from_a_turn_that_is_blocked():
    bench = Bench(kind=LoadedArm)
    bench.arm.blocked = 5
    flags = 0
    for number in range(20):
        outcome = bench.command(delta=[0, 0, 0.001 * (-1) ** number, 0, 0, 0.2])
        flags |= outcome.flags
        bench.run(0.2)
    assert 0.9 < bench.arm.setpoints[-1][5] - START[5] <= 1.0 or \
        -1.0 <= bench.arm.setpoints[-1][5] - START[5] < -0.9
    assert flags & StepFlag.TARGET_LEASHED
    assert outcome.applied[2] != 0.0, 'the rest is made'
    assert bench.controller.mode is ArmMode.POLICY


def test_a_stop_in_mid_motion_writes_no_further_setpoint(bench):
    bench.command(delta=UP)
    bench.run(0.1)
    held = bench.arm.setpoints[-1]
    bench.now += 0.019
    bench.controller.stop('operator')
    bench.run(0.1)
    np.testing.assert_array_equal(bench.arm.setpoints[-5:], [held] * 5)


def test_an_arm_that_was_pushed_away_while_paused_is_held_there(bench):
    bench.run(SERVO_S)
    bench.controller.stop('operator')
    bench.arm.held = START + [0.5, 0, 0, 0, 0, 0]
    bench.run(0.1)
    bench.controller.resume(bench.now)
    bench.run(0.4)
    np.testing.assert_allclose(bench.arm.setpoints[-1][:6], bench.arm.held, atol=1e-9)
    assert bench.largest_joint_step() <= np.pi * SERVO_S * 1.0001


def test_what_is_no_number_is_named_before_its_stamp_is(bench):
    assert bench.command(delta=[np.nan] * 6, age_s=9.0).flags == StepFlag.NON_FINITE


def test_an_arm_that_is_not_active_gets_no_setpoints(bench):
    bench.run(0.1)
    bench.controller.end()
    count = len(bench.arm.setpoints)
    bench.run(0.1)
    assert len(bench.arm.setpoints) == count
    assert bench.controller.mode is ArmMode.IDLE
    with pytest.raises(ControlError, match='activate'):
        bench.controller.move_to(HOME, bench.now)


def test_a_way_home_on_which_the_arm_would_touch_its_base_is_refused():
    bench = Bench(joints=np.array([-0.7, 0.0, 1.2, -2.9, 1.2, 0.0]))
    with pytest.raises(ControlError, match='fingers and base'):
        bench.controller.move_to([-1.2, 0.0, 1.0, 1.2, 1.8, 0.0], bench.now)
    assert bench.controller.mode is ArmMode.READY


def test_a_motor_that_pushes_too_hard_is_only_unloaded():
    bench = Bench(limits={'max_effort': [500.0] * 6})
    bench.arm.efforts = np.array([900.0, 0, 0, 0, 0, 0])
    bench.run(SERVO_S)
    assert bench.command(delta=LEFT).flags & StepFlag.EFFORT_LIMITED
    bench.run(0.3)
    assert not bench.command(delta=-LEFT).refused
