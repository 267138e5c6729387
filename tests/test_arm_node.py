"""The arm node over real DDS: what it executes, what it refuses, and when it holds."""

from dataclasses import replace
from itertools import groupby
import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

pytest.importorskip('rclpy')

from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import PoseStamped, TwistStamped
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState, GetState
from rcl_interfaces.srv import SetParameters
from rclpy.exceptions import InvalidParameterValueException
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import JointState
from stable_crl_ros.data.schema import Mode
from stable_crl_ros.nodes.arm import ArmNode
from stable_crl_ros.nodes.common import COMMAND, LATCHED, StartupError
from stable_crl_ros.nodes.conversions import to_nanoseconds, to_stamp
from stable_crl_ros.nodes.messages import (
    decode_applied_action,
    decode_ee_pose,
    decode_joint_states,
)
from stable_crl_ros.robot.kinematics import forward_kinematics, SLEEP, START
from stable_crl_ros.robot.mock import MockArm
from stable_crl_ros.robot.safety import StepFlag
from std_msgs.msg import Float64, Float64MultiArray, String
from std_srvs.srv import Trigger

PERIOD_S = 0.2
PATIENT_S = 8.0  # an age, or a silence, that a machine which stands still does not reach
KEPT = QoSProfile(depth=50, reliability=ReliabilityPolicy.RELIABLE,
                  durability=DurabilityPolicy.TRANSIENT_LOCAL)  # no mode is missed
UP = np.array([0.0, 0.0, 0.01, 0.0, 0.0, 0.0])


class Cell:
    """
    An arm node and a probe that commands it, hears it and calls its services.

    `remote` when the arm node is a process of its own.
    """

    def __init__(self, ros, active=True, driver=None, name='mock', remote=False, **parameters):
        self.ros = ros
        parameters = {'max_command_age': PATIENT_S, 'driver': name, **parameters}
        self.arm = None if remote else ros.add(ArmNode(
            driver, context=ros.context, parameter_overrides=ros.parameters(**parameters)))
        self.probe = ros.node()
        self.applied, self.modes, self.joints, self.poses, self.health = [], [], [], [], []
        self.motors = []
        node = self.probe
        node.create_subscription(Float64MultiArray, 'applied_action',
                                 lambda m: self.applied.append(decode_applied_action(m)), 10)
        node.create_subscription(String, 'mode', lambda m: self.modes.append(m.data), KEPT)
        node.create_subscription(JointState, 'joint_states', self.joints.append, 10)
        node.create_subscription(PoseStamped, 'ee_pose', self.poses.append, 10)
        node.create_subscription(DiagnosticArray, '/diagnostics', self._on_health, 10)
        self.twists = {prefix: node.create_publisher(
            TwistStamped, f'{prefix}delta_twist_cmds', COMMAND) for prefix in ('', 'teleop/')}
        self.grippers = {prefix: node.create_publisher(Float64, f'{prefix}gripper_cmd', COMMAND)
                         for prefix in ('', 'teleop/')}
        if active:
            assert self.transition('configure') and self.transition('activate')
        ros.spin_until(lambda: self.modes and all(
            p.get_subscription_count() for p in (*self.twists.values(), *self.grippers.values())))

    def _on_health(self, message):
        self.health += [status for status in message.status if 'arm: control' in status.name]
        self.motors += [{'': status.message, **{v.key: v.value for v in status.values}}
                        for status in message.status if 'arm: motors' in status.name]

    @property
    def mode(self):
        """What the arm is now; as last published, where it is another process."""
        if self.arm is None:
            return self.modes[-1] if self.modes else ''
        return self.arm._controller.mode.value

    def transition(self, label):
        kind = {'configure': Transition.TRANSITION_CONFIGURE,
                'activate': Transition.TRANSITION_ACTIVATE,
                'deactivate': Transition.TRANSITION_DEACTIVATE,
                'cleanup': Transition.TRANSITION_CLEANUP}[label]
        request = ChangeState.Request(transition=Transition(id=kind))
        return self.ros.call(ChangeState, 'arm/change_state', request, node=self.probe).success

    def send(self, delta=UP, prefix='', gripper=None, stamp_ns=None, frame='base_link'):
        """Command one step; a gripper setpoint goes first, as the policy sends it."""
        if gripper is not None:
            self.grippers[prefix].publish(Float64(data=float(gripper)))
        message = TwistStamped()
        message.header.frame_id = frame
        message.header.stamp = to_stamp(time.time_ns() if stamp_ns is None else stamp_ns)
        speed = np.asarray(delta, float) / PERIOD_S
        linear, angular = message.twist.linear, message.twist.angular
        linear.x, linear.y, linear.z, angular.x, angular.y, angular.z = speed.tolist()
        self.twists[prefix].publish(message)

    def command(self, *args, **kwargs):
        """Command one step and return what the arm says it did."""
        count = len(self.applied)
        self.send(*args, **kwargs)
        self.ros.spin_until(lambda: len(self.applied) > count, what='an applied_action')
        return self.applied[-1]

    def call(self, service):
        return self.ros.call(Trigger, f'arm/{service}', node=self.probe)

    def measured(self):
        """Return the newest measured tool point, m."""
        return decode_ee_pose(self.poses[-1])[:3]

    def watch(self, seconds):
        """Let a time pass; return where the tool is then, m."""
        self.ros.spin_for(seconds)
        now = time.time_ns()
        self.ros.spin_until(lambda: self.poses
                            and to_nanoseconds(self.poses[-1].header.stamp) > now)
        return self.measured()

    def settle(self, seconds=0.6):
        """Let a time pass, and more until the tool rests; return where it is then, m."""
        before, here = None, self.watch(seconds)
        while before is None or np.abs(here - before).max() > 1e-5:
            before, here = here, self.watch(0.1)
        return here


@pytest.fixture
def cell(ros):
    return Cell(ros)


def test_publishes_the_state_it_measures(cell):
    def both():
        return set.intersection(*({to_nanoseconds(message.header.stamp) for message in messages}
                                  for messages in (cell.joints, cell.poses)))
    begun = time.time_ns()
    cell.ros.spin_until(lambda: len(both()) > 15 and max(both()) > begun)
    state = decode_joint_states(cell.joints[-1])
    np.testing.assert_allclose(state.joint_positions, START, atol=1e-3)
    np.testing.assert_allclose(cell.measured(), forward_kinematics(START)[:3, 3], atol=1e-3)
    assert begun < state.stamp_ns < time.time_ns()


def test_applied_action_is_what_the_arm_really_does(ros):
    cell = Cell(ros, command_timeout=PATIENT_S)
    before = cell.settle(0.2)
    stamp = time.time_ns() - 50_000_000
    step = cell.command([0.01, -0.02, 0.015, 0, 0, 0.1], gripper=0.3, stamp_ns=stamp)
    np.testing.assert_allclose(step.applied, [0.01, -0.02, 0.015, 0, 0, 0.1, 0.3], atol=1e-9)
    np.testing.assert_allclose(step.commanded, step.applied, atol=1e-9)
    assert (step.mode, step.flags) == (Mode.POLICY, 0)
    assert step.capture_ns == stamp < step.receive_ns < step.applied_ns < time.time_ns()
    np.testing.assert_allclose(cell.settle() - before, step.applied[:3], atol=1e-3)
    assert decode_joint_states(cell.joints[-1]).gripper == pytest.approx(0.3, abs=0.01)


def test_a_clipped_command_tells_both_what_was_asked_and_what_was_done(ros):
    cell = Cell(ros, command_timeout=PATIENT_S)
    before = cell.settle(0.2)
    step = cell.command([0.3, 0, 0, 0, 0, 0], gripper=1.5)
    assert step.flags & StepFlag.TRANSLATION_CLIPPED
    assert step.flags & StepFlag.GRIPPER_CLIPPED
    assert step.commanded[0] == pytest.approx(0.3)
    np.testing.assert_allclose(cell.settle() - before, step.applied[:3], atol=1e-3)
    assert step.applied[0] == pytest.approx(0.05)


def test_silence_holds_and_then_nobody_is_in_charge(cell):
    cell.command(UP)
    cell.ros.spin_until(lambda: cell.modes[-2:] == ['policy', 'ready'])
    held = cell.settle(0.3)
    assert np.abs(cell.watch(0.6) - held).max() < 1e-3


@pytest.mark.parametrize('delta', [[np.nan, 0, 0, 0, 0, 0], [0, 0, np.inf, 0, 0, 0]])
def test_a_command_that_is_no_number_never_reaches_the_arm(cell, delta):
    before = cell.settle(0.2)
    step = cell.command(delta)
    assert step.flags == StepFlag.NON_FINITE
    np.testing.assert_array_equal(step.applied[:6], np.zeros(6))
    np.testing.assert_allclose(cell.settle(0.3), before, atol=1e-4)
    cell.ros.spin_until(lambda: any('non_finite' in status.message for status in cell.health))


def test_a_gripper_that_is_no_number_never_reaches_the_arm(cell):
    assert cell.command(UP, gripper=float('nan')).flags == StepFlag.NON_FINITE
    assert cell.command(UP).applied[6] == 1.0


@pytest.mark.parametrize(('offset_s', 'flag', 'hint'), [
    (-20.0, StepFlag.STALE, 'raise max_command_age'), (-1e9, StepFlag.STALE, 'raise max'),
    (60.0, StepFlag.FUTURE, 'synchronise the clocks of sender and arm')])
def test_wrong_stamps_are_refused_explained_and_counted(cell, offset_s, flag, hint, capfd):
    before = cell.settle(0.2)
    step = cell.command(UP, stamp_ns=int(time.time_ns() + offset_s * 1e9))
    assert step.flags == flag
    assert hint in capfd.readouterr().err
    np.testing.assert_allclose(cell.settle(0.3), before, atol=1e-4)
    cell.ros.spin_until(lambda: any(
        {v.key: v.value for v in s.values}.get(flag.name.lower()) == '1' for s in cell.health))


@pytest.mark.parametrize('stamp_ns', [0, -5_000_000_000])
def test_a_command_without_a_sensible_stamp_is_stale_and_harmless(cell, stamp_ns):
    assert cell.command(UP, stamp_ns=stamp_ns).flags == StepFlag.STALE
    assert cell.command(UP).flags == 0


def test_a_command_in_another_frame_is_refused_and_counted(cell):
    before = cell.settle(0.2)
    cell.send(UP, frame='camera')
    cell.ros.spin_until(lambda: any('wrong_frame' in status.message for status in cell.health))
    np.testing.assert_allclose(cell.measured(), before, atol=1e-4)
    assert not cell.applied


def test_the_operator_overrides_the_policy_smoothly_and_hands_back(ros):
    cell = Cell(ros, command_timeout=2.5)  # the operator's silence is never that of the machine

    def step(*sources):
        """Command a step from one source after the other, and let its time pass."""
        for prefix in sources:
            cell.command([0, 0.01, 0, 0, 0, 0] if prefix else [0.01, 0, 0, 0, 0, 0],
                         prefix=prefix, gripper=0.0 if prefix else 1.0)
        ros.spin_for(PERIOD_S)
    first = cell.settle(0.2)
    for sources in 4 * [('',)] + 4 * [('', 'teleop/')] + [('',)]:
        step(*sources)
    while cell.applied[-1].flags & StepFlag.OVERRIDDEN:
        step('')
    step('')
    done = [step.mode for step in cell.applied if not step.flags & StepFlag.OVERRIDDEN]
    # The first of the policy's commands beside the operator's came before they were heard.
    assert done == 5 * [Mode.POLICY] + 4 * [Mode.TELEOP] + 2 * [Mode.POLICY]
    overridden = [step for step in cell.applied if step.flags & StepFlag.OVERRIDDEN]
    assert all(step.mode == Mode.POLICY and not step.applied[:6].any() for step in overridden)
    assert len(overridden) > 4
    seen = [mode for mode, _ in groupby(m for m in cell.modes if m in ('policy', 'teleop'))]
    assert seen == ['policy', 'teleop', 'policy'], cell.modes
    rest = cell.settle()
    path = np.array([decode_ee_pose(pose)[:3] for pose in cell.poses])
    seconds = np.array([pose.header.stamp.sec + 1e-9 * pose.header.stamp.nanosec
                        for pose in cell.poses])
    speeds = np.linalg.norm(np.diff(path, axis=0), axis=1) / np.diff(seconds)
    assert speeds.max() < 0.15  # two overlapping steps of 0.05 m/s and scheduling, no jump
    np.testing.assert_allclose(rest - first, sum(step.applied[:3] for step in cell.applied),
                               atol=2e-3)


def test_stop_is_latched_until_resumed(cell):
    cell.command(UP)
    assert cell.call('stop').success
    cell.ros.spin_until(lambda: cell.modes[-1] == 'paused')
    held = cell.settle(0.3)
    for prefix in ('', 'teleop/'):
        step = cell.command([0, 0, -0.02, 0, 0, 0], prefix=prefix)
        assert (step.flags, step.mode) == (StepFlag.HELD, Mode.IDLE)
    np.testing.assert_allclose(cell.watch(0.6), held, atol=1e-3)
    refused = cell.call('home')
    assert not refused.success and 'resume' in refused.message
    assert cell.call('resume').success
    assert cell.command(UP).flags == 0


def test_stop_outlives_deactivation(cell):
    cell.call('stop')
    assert cell.transition('deactivate') and cell.transition('activate')
    assert cell.command(UP).flags == StepFlag.HELD


def test_home_and_sleep_are_slow_and_stop_ends_them(ros):
    cell = Cell(ros, homing_speed=1.0)
    cell.command([0.04, 0, 0, 0, 0, 0])
    cell.settle(0.4)
    asleep = cell.call('sleep')
    assert asleep.success and 's; ~/stop' in asleep.message
    assert cell.command(UP).flags == StepFlag.HELD
    ros.spin_until(lambda: cell.modes[-1] == 'resetting')

    def moved():
        return abs(decode_joint_states(cell.joints[-1]).joint_positions[1] - START[1])
    ros.spin_until(lambda: moved() > 0.3)
    cell.call('stop')
    cell.call('resume')
    cell.settle(0.2)
    assert 0.3 < moved() < 0.9 * abs(SLEEP[1] - START[1])
    assert cell.call('home').success
    ros.spin_until(lambda: cell.modes[-1] == 'ready')
    ros.spin_until(lambda: np.abs(
        decode_joint_states(cell.joints[-1]).joint_positions - START).max() < 2e-3)


def test_a_policy_that_goes_on_does_not_lift_the_arm_off_its_rest(ros):
    cell = Cell(ros, homing_speed=1.5)
    assert 'paused until ~/resume' in cell.call('sleep').message
    early = cell.call('resume')
    assert not early.success and 'on its way to rest' in early.message
    ros.spin_until(lambda: cell.modes[-1] == 'paused', timeout_s=30.0)
    step = cell.command(UP)
    assert (step.flags, step.mode) == (StepFlag.HELD, Mode.IDLE)
    cell.settle(0.4)
    np.testing.assert_allclose(
        decode_joint_states(cell.joints[-1]).joint_positions, SLEEP, atol=2e-3)
    refused = cell.call('home')
    assert not refused.success and 'it was sent to sleep' in refused.message
    assert cell.call('resume').success
    assert cell.call('home').success


def test_an_inactive_arm_is_read_but_does_not_move(ros):
    cell = Cell(ros, active=False)
    assert not cell.call('home').success
    assert not cell.transition('activate')
    assert cell.transition('configure')
    ros.spin_until(lambda: cell.joints)
    before = cell.settle(0.2)
    cell.send([0, 0, 0.05, 0, 0, 0])
    np.testing.assert_allclose(cell.settle(0.4), before, atol=1e-4)
    assert not cell.applied


def test_the_whole_lifecycle_can_be_walked_twice(ros):
    cell = Cell(ros, active=False)
    for _ in range(2):
        for label in ('configure', 'activate'):
            assert cell.transition(label)
        assert cell.command(UP).flags == 0
        for label in ('deactivate', 'cleanup'):
            assert cell.transition(label)
    answer = ros.call(GetState, 'arm/get_state', node=cell.probe)
    assert answer.current_state.label == 'unconfigured'


def test_taking_over_starts_where_the_arm_is(ros):
    crooked = START + np.array([0.3, 0.05, -0.1, 0.0, 0.1, 0.2])
    cell = Cell(ros, driver=MockArm(joints=crooked, gripper=0.4))
    cell.settle(0.5)
    state = decode_joint_states(cell.joints[-1])
    np.testing.assert_allclose(state.joint_positions, crooked, atol=1e-6)
    assert state.gripper == pytest.approx(0.4)


class LooseArm(MockArm):
    """A mock arm whose plug can be pulled."""

    plugged = True

    def read(self):
        if not self.plugged:
            self.close()
        return super().read()


def test_a_dead_driver_stops_the_arm_and_says_so(ros):
    driver = LooseArm()
    cell = Cell(ros, driver=driver)
    cell.command(UP)
    driver.plugged = False
    ros.spin_until(lambda: cell.modes[-1] == 'fault')
    ros.spin_until(lambda: any('in a row were lost' in s.message for s in cell.health))
    assert b'\x02' in {status.level for status in cell.health}
    answer = cell.call('resume')
    assert not answer.success and 'not connected' in answer.message
    assert not cell.call('clear_faults').success
    driver.plugged = True
    driver.connect()
    answer = cell.call('clear_faults')
    assert answer.success and 'resume' in answer.message
    ros.spin_until(lambda: cell.modes[-1] == 'paused')
    assert cell.call('resume').success
    assert cell.command(UP).flags == 0


class SlowlyMended(LooseArm):
    """A mock arm whose faults take their time to be cleared."""

    def __init__(self):
        super().__init__()
        self.begun, self.mended = threading.Event(), threading.Event()

    def clear_faults(self):
        self.begun.set()
        assert self.mended.wait(30.0)
        return super().clear_faults()


def test_a_stop_does_not_wait_for_faults_that_are_being_cleared(ros):
    driver = SlowlyMended()
    cell = Cell(ros, driver=driver)
    driver.plugged = False
    ros.spin_until(lambda: cell.modes[-1] == 'fault')
    driver.plugged = True
    driver.connect()
    client = cell.probe.create_client(Trigger, 'arm/clear_faults')
    ros.spin_until(client.service_is_ready)
    clearing = client.call_async(Trigger.Request())
    ros.spin_until(driver.begun.is_set)
    try:
        assert cell.call('stop').success
        assert 'being cleared already' in cell.call('clear_faults').message
        assert not clearing.done()
    finally:
        driver.mended.set()
    ros.spin_until(clearing.done)
    assert clearing.result().success
    ros.spin_until(lambda: cell.modes[-1] == 'paused')


class OddArm(MockArm):
    """A mock arm that can be made to report a stamp that no message holds."""

    stamp_ns = None

    def read(self):
        state = super().read()
        return state if self.stamp_ns is None else replace(state, stamp_ns=self.stamp_ns)


def test_a_cycle_that_cannot_be_told_is_a_fault_and_no_end_of_the_servos(ros, capfd):
    driver = OddArm()
    cell = Cell(ros, driver=driver)
    driver.stamp_ns = 10 ** 30
    ros.spin_until(lambda: cell.modes[-1] == 'fault', what='a fault')
    assert not cell.command(UP).applied[:6].any()
    driver.stamp_ns = None
    assert cell.call('clear_faults').success and cell.call('resume').success
    heard = len(cell.joints)
    ros.spin_until(lambda: len(cell.joints) > heard, what='joint states')
    assert cell.command(UP).flags == 0
    assert 'Traceback' in capfd.readouterr().err


@pytest.mark.parametrize(('parameters', 'reason'), [
    ({'driver': 'ur5'}, 'unknown.*sim, mock'),
    ({'driver': 'sim'}, 'sim node'),
    ({'limits.workspace_low': [0.5, 0.0, 0.0]}, 'workspace_low.*below'),
    ({'limits.workspace_low': [0.1, 0.0]}, 'x, y, z'),
    ({'limits.max_tilt': -1.0}, 'max_tilt'),
    ({'limits.workspaces': 5}, 'workspaces must be boxes of 6 numbers in metres, got 5'),
    ({'control_rate': 1.0}, 'command_timeout 0.5 s is shorter than the control period 1 s'),
    ({'limits.max_translation': 5}, '5.0 rather than 5'),
])
def test_parameters_that_make_no_sense_are_refused_at_the_start(ros, parameters, reason):
    with pytest.raises(StartupError, match=f'(?s){reason}'):
        ArmNode(context=ros.context, parameter_overrides=ros.parameters(**parameters))


def test_limits_cannot_be_changed_under_a_running_arm(cell):
    request = SetParameters.Request(
        parameters=[Parameter('limits.max_translation', value=0.2).to_parameter_msg()])
    result = cell.ros.call(SetParameters, 'arm/set_parameters', request, node=cell.probe)
    assert not result.results[0].successful
    assert 'read-only' in result.results[0].reason


@pytest.mark.parametrize(('pose', 'reason'), [
    ([0.0, 1.26, 10.49, 0.0, 78.25, 0.0], 'home_joints: elbow goes from -2.15 to 1.61 rad'),
    ([0.0] * 5, 'a pose is 6 joint angles'),
    ([float('nan')] * 6, 'waist goes from'),
])
def test_a_pose_that_the_joints_cannot_take_is_refused_at_the_start_and_later(ros, pose, reason):
    with pytest.raises(InvalidParameterValueException, match=reason):
        ArmNode(context=ros.context, parameter_overrides=ros.parameters(home_joints=pose))
    cell = Cell(ros, active=False)
    request = SetParameters.Request(
        parameters=[Parameter('home_joints', value=pose).to_parameter_msg()])
    (result,) = ros.call(SetParameters, 'arm/set_parameters', request, node=cell.probe).results
    assert not result.successful and reason in result.reason


PUBLISHER = """
import time, rclpy
from geometry_msgs.msg import TwistStamped
from rclpy.qos import QoSProfile
rclpy.init()
node = rclpy.create_node('short_lived')
publisher = node.create_publisher(TwistStamped, 'delta_twist_cmds', QoSProfile(depth=1))
while True:
    message = TwistStamped()
    message.header.frame_id = 'base_link'
    message.header.stamp = node.get_clock().now().to_msg()
    message.twist.linear.z = 0.01
    publisher.publish(message)
    time.sleep(0.2)
"""


def test_the_arm_holds_when_the_policy_is_killed(cell):
    process = subprocess.Popen([sys.executable, '-c', PUBLISHER], env=os.environ)
    try:
        cell.ros.spin_until(lambda: len(cell.applied) >= 5 and cell.modes[-1] == 'policy', 30.0)
        process.send_signal(signal.SIGKILL)
        process.wait()
        cell.ros.spin_until(lambda: cell.modes[-1] == 'ready', 5.0)
        held = cell.settle(0.3)
        np.testing.assert_allclose(cell.watch(1.0), held, atol=5e-4)
    finally:
        process.kill()
        process.wait()


def test_the_process_ends_cleanly_on_ctrl_c_and_refuses_a_wrong_driver(ros):
    command = [sys.executable, '-m', 'stable_crl_ros.nodes.arm', '--ros-args', '-p']
    refused = subprocess.run([*command, 'driver:=ur5'], capture_output=True, text=True,
                             timeout=60)
    assert refused.returncode == 1
    assert 'choose one of sim, mock' in refused.stderr and 'Traceback' not in refused.stderr
    modes = []
    ros.node().create_subscription(String, 'mode', modes.append, LATCHED)
    process = subprocess.Popen([*command, 'driver:=mock'], stderr=subprocess.PIPE, text=True)
    try:
        ros.spin_until(lambda: modes, 30.0, 'the node')
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=30)
    finally:
        process.kill()
    assert (process.returncode, 'Traceback' in errors) == (0, False), errors
