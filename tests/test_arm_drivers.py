"""The arm node with each of its drivers: what goes out, what comes back, what is refused."""

from dataclasses import dataclass, field
import importlib.util
import threading
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip('rclpy')

from conftest import Ros
from sensor_msgs.msg import JointState
from stable_crl_ros.nodes.arm import ArmNode
from stable_crl_ros.robot.arm import ArmError, ArmState
from stable_crl_ros.robot.gripper import finger_position, horn_angle, opening_from_finger
from stable_crl_ros.robot.kinematics import JOINT_NAMES, START
from stable_crl_ros.robot.xs_sdk import gripper_pwm, XsSdkArm
from test_arm_node import Cell, PATIENT_S, UP
from trajectory_msgs.msg import JointTrajectory

STATES = '/broadcaster/joint_states'


class Controllers:
    """What ros2_control offers: trajectories are followed at once, joint states published."""

    def __init__(self, ros):
        node = self.node = ros.node('controllers')
        self.trajectories, self.publishing = [], True
        self.positions = dict(zip(JOINT_NAMES, START, strict=True))
        self.positions['left_finger'] = finger_position(1.0)
        self._states = node.create_publisher(JointState, STATES, 1)
        for name in ('arm', 'gripper'):
            node.create_subscription(JointTrajectory, f'/{name}_controller/joint_trajectory',
                                     self._follow, 10)
        node.create_timer(0.01, self._publish)

    def _follow(self, message):
        self.trajectories.append(message)
        self.positions.update(zip(message.joint_names, message.points[-1].positions,
                                  strict=True))

    def _publish(self):
        if self.publishing:
            names = sorted(self.positions)  # as a broadcaster may: another order, no efforts
            message = JointState(name=names, position=[self.positions[name] for name in names])
            message.header.stamp = self.node.get_clock().now().to_msg()
            self._states.publish(message)


class Threaded:
    """Spin a second session in a thread: connecting waits for what it publishes."""

    def __init__(self, ros):
        self._ros, self._end = ros, threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self):
        while not self._end.is_set():
            self._ros.executor.spin_once(timeout_sec=0.01)

    def close(self):
        self._end.set()
        self._thread.join()


@pytest.fixture
def controllers():
    session = Ros()
    made = Controllers(session)
    thread = Threaded(session)
    yield made
    thread.close()
    session.close()


def test_joint_trajectory_sends_points_that_move_the_arm_as_commanded(ros, controllers):
    cell = Cell(ros, name='joint_trajectory', joint_state_topic=STATES, max_state_age=2.0,
                max_lost_cycles=100, command_timeout=PATIENT_S)
    before = cell.settle(0.3)
    step = cell.command([0.01, 0.0, 0.015, 0, 0, 0], gripper=0.4)
    np.testing.assert_allclose(cell.settle() - before, step.applied[:3], atol=1e-3)
    ros.spin_until(lambda: len(controllers.trajectories) > 20)
    arm = [message for message in controllers.trajectories if len(message.joint_names) == 6]
    assert tuple(arm[0].joint_names) == tuple(JOINT_NAMES)
    assert all(len(message.points) == 1 and message.header.stamp.sec == 0 for message in arm)
    assert arm[0].points[0].time_from_start.nanosec == 40_000_000
    gripper = [message for message in controllers.trajectories
               if list(message.joint_names) == ['left_finger']]
    assert len(gripper) == 2  # where it was, then what was commanded
    assert opening_from_finger(gripper[-1].points[0].positions[0]) == pytest.approx(0.4)
    assert cell.arm._driver.setpoint()[1] == pytest.approx(0.4)


def test_joint_states_that_stop_are_a_fault_that_names_their_topic(ros, controllers):
    cell = Cell(ros, name='joint_trajectory', joint_state_topic=STATES)
    controllers.publishing = False
    ros.spin_until(lambda: cell.modes[-1] == 'fault')
    ros.spin_until(lambda: any(STATES in status.message for status in cell.health))
    assert not cell.call('clear_faults').success
    controllers.publishing = True
    ros.spin_until(lambda: cell.call('clear_faults').success and cell.call('resume').success
                   and cell.command(UP).flags == 0)


def test_joint_states_that_lack_a_finger_all_at_once_are_told(ros, controllers):
    cell = Cell(ros, name='joint_trajectory', joint_state_topic=STATES)
    cell.settle(0.3)
    del controllers.positions['left_finger']
    ros.spin_until(lambda: cell.modes[-1] == 'fault')
    assert "since then: joint_states lacks ['left_finger']" in cell.call('clear_faults').message


def test_a_controller_that_is_heard_after_the_joint_states_is_waited_for(ros, controllers):
    late = threading.Timer(0.5, lambda: controllers.node.create_subscription(
        JointTrajectory, '/late', controllers.trajectories.append, 10))
    node = ros.add(ArmNode(context=ros.context, parameter_overrides=ros.parameters(
        driver='joint_trajectory', joint_state_topic=STATES, trajectory_topic='/late')))
    late.start()
    node.trigger_configure()
    late.join()
    assert node.refusal == ''


def test_joint_trajectory_without_a_controller_is_refused(ros, controllers, monkeypatch):
    monkeypatch.setattr('stable_crl_ros.nodes.joint_trajectory.MEETING_S', 0.2)
    node = ros.add(ArmNode(context=ros.context, parameter_overrides=ros.parameters(
        driver='joint_trajectory', joint_state_topic=STATES,
        trajectory_topic='/elsewhere')))
    node.trigger_configure()
    assert 'nobody listens to /elsewhere' in node.refusal


def test_an_arm_that_would_hear_its_own_echo_is_refused(ros):
    node = ros.add(ArmNode(context=ros.context, parameter_overrides=ros.parameters(
        driver='joint_trajectory', joint_state_topic='joint_states')))
    node.trigger_configure()
    assert 'echo' in node.refusal


def test_joint_trajectory_without_joint_states_is_refused(ros, monkeypatch):
    monkeypatch.setattr('stable_crl_ros.nodes.joint_feed.MEETING_S', 0.2)
    node = ros.add(ArmNode(context=ros.context, parameter_overrides=ros.parameters(
        driver='joint_trajectory', joint_state_topic='/silent')))
    node.trigger_configure()
    assert 'no joint states on /silent' in node.refusal


def test_the_emulated_bus_needs_no_hardware_and_ends_with_the_node(ros):
    cell = Cell(ros, name='dynamixel', port='emulated', max_lost_cycles=25,
                command_timeout=PATIENT_S)

    def moves():
        """Say whether a step was made; a machine that stands still halts the servos, a fault."""
        if cell.mode == 'fault':
            assert 'stopped by themselves' in cell.arm._controller.arbiter.reason
            assert cell.call('clear_faults').success and cell.call('resume').success
        before, step = cell.settle(0.3), cell.command(UP)
        made = cell.settle() - before
        return cell.mode != 'fault' and np.allclose(made, step.applied[:3], atol=2e-3) \
            and not step.flags
    assert any(moves() for _ in range(5))
    ros.spin_until(lambda: any('waist.voltage' in status for status in cell.motors))
    assert cell.transition('deactivate') and cell.transition('cleanup')


def test_a_port_that_is_not_there_is_refused(ros):
    node = ros.add(ArmNode(context=ros.context, parameter_overrides=ros.parameters(
        driver='dynamixel', port='/dev/no_such_port')))
    node.trigger_configure()
    assert '/dev/no_such_port' in node.refusal


@pytest.mark.skipif(importlib.util.find_spec('interbotix_xs_msgs') is not None,
                    reason='the vendor software is installed')
def test_xs_sdk_without_its_messages_is_refused_with_the_reason(ros):
    node = ros.add(ArmNode(context=ros.context,
                           parameter_overrides=ros.parameters(driver='xs_sdk')))
    node.trigger_configure()
    assert 'interbotix_xs_msgs' in node.refusal and "choose driver 'dynamixel'" in node.refusal


@dataclass
class XsSdk:
    """The plain values that a running xs_sdk takes and gives, as its documentation says."""

    mode: str = 'position'
    profile: str = 'time'
    gripper_mode: str = 'pwm'
    names: tuple = tuple(JOINT_NAMES)
    torque: list = field(default_factory=lambda: [1] * 7)
    errors: list = field(default_factory=lambda: [0] * 7)  # the gripper's last, as of torque
    sent: list = field(default_factory=list)
    requests: list = field(default_factory=list)
    opening: float = 1.0
    deaf: str = ''  # the joint whose registers cannot be set
    registers: dict = field(default_factory=lambda: {  # as the vendor's modes.yaml sets them
        'Profile_Velocity': [2000] * 7, 'Profile_Acceleration': [300] * 7})

    def state(self):
        return ArmState(1, START.copy(), np.zeros(6), np.zeros(6), self.opening)

    def send(self, message, **fields):
        self.sent.append((message, fields))

    def request(self, service, **fields):
        self.requests.append((service, fields))
        if service == 'get_robot_info':
            group = fields['cmd_type'] == 'group'
            return SimpleNamespace(mode=self.mode if group else self.gripper_mode,
                                   profile_type=self.profile, joint_names=self.names)
        if service == 'set_motor_registers':
            for number, name in enumerate(JOINT_NAMES):
                if name != self.deaf:
                    self.registers[fields['reg']][number] = fields['value']
            return SimpleNamespace(values=[])
        if service == 'reboot_motors':
            number = (*JOINT_NAMES, 'gripper').index(fields['name'])
            for values in (self.errors, *self.registers.values()):
                values[number] = 0
        known = {'Torque_Enable': self.torque, 'Hardware_Error_Status': self.errors,
                 **self.registers}
        values = known[fields.get('reg', 'Hardware_Error_Status')]
        return SimpleNamespace(values=values[:6] if fields['cmd_type'] == 'group' else values[6:])

    def close(self):
        pass


def test_xs_sdk_is_sent_whole_groups_and_the_grippers_pwm():
    sdk = XsSdk(opening=1.0)
    arm = XsSdkArm(sdk)
    arm.connect()
    arm.read()
    arm.write(START, 0.0)
    (group, joints), (single, gripper) = sdk.sent
    assert (group, joints['name']) == ('JointGroupCommand', 'arm')
    np.testing.assert_allclose(joints['cmd'], START)
    assert (single, gripper) == ('JointSingleCommand', {'name': 'gripper', 'cmd': -350.0})


def test_a_gripper_in_position_mode_is_sent_its_motors_angle_once():
    sdk = XsSdk(gripper_mode='position')
    arm = XsSdkArm(sdk)
    arm.connect()
    arm.write(START, 0.3)
    arm.write(START, 0.3)
    singles = [fields for message, fields in sdk.sent if message == 'JointSingleCommand']
    assert singles == [{'name': 'gripper', 'cmd': horn_angle(0.3)}]


@pytest.mark.parametrize(('opening', 'measured', 'left'), [
    (1.0, 0.5, 0.0), (0.0, 0.5, -150.0), (0.0, 0.05, 0.0)])
def test_a_gripper_that_nobody_commands_any_more_is_not_driven_on(opening, measured, left):
    sdk = XsSdk(opening=measured)
    arm = XsSdkArm(sdk)
    arm.connect()
    arm.read()
    arm.write(START, opening)
    arm.read()
    sdk.sent.clear()
    sdk.opening = opening  # it has arrived, in the meantime the node is not active
    arm.read()
    assert [fields['cmd'] for _, fields in sdk.sent] == [0.0]
    sdk.opening = measured
    arm.read()
    arm.close()
    assert sdk.sent[-1] == ('JointSingleCommand', {'name': 'gripper', 'cmd': left})


@pytest.mark.parametrize('mode', ['pwm', 'position'])
def test_an_xs_sdk_arm_that_holds_something_is_taken_over_with_it(mode):
    sdk = XsSdk(gripper_mode=mode)
    arm = XsSdkArm(sdk)
    arm.connect()
    assert arm.setpoint() is None
    arm.write(START + 0.1, 0.0)
    sdk.opening = 0.4
    joints, opening = arm.setpoint()
    np.testing.assert_array_equal(joints, START)
    assert opening == 0.0


@pytest.mark.parametrize(('wanted', 'measured', 'pwm'), [
    (0.5, 0.5, 0.0), (0.5, 0.44, 0.0), (1.0, 0.0, 350.0), (0.0, 1.0, -350.0),
    (0.0, 0.175, -190.0)])
def test_the_grippers_pwm_is_strong_far_away_and_none_when_there(wanted, measured, pwm):
    assert gripper_pwm(wanted, measured) == pytest.approx(pwm)


@pytest.mark.parametrize(('changes', 'reason'), [
    ({'names': tuple(JOINT_NAMES[:5])}, 'robot_model:=wx250s'),
    ({'mode': 'velocity'}, 'operating_mode: position'),
    ({'profile': 'velocity'}, 'profile_type: time'),
    ({'gripper_mode': 'current'}, 'pwm or position'),
    ({'torque': [1, 1, 0, 1, 1, 1, 0]}, 'torque is off at elbow, gripper'),
])
def test_an_xs_sdk_that_is_set_up_otherwise_is_refused(changes, reason):
    with pytest.raises(ArmError, match=reason):
        XsSdkArm(XsSdk(**changes)).connect()


@pytest.mark.parametrize(('cycle_s', 'total', 'acceleration'), [(0.02, 40, 10), (0.01, 20, 5)])
def test_joints_behind_xs_sdk_follow_as_fast_as_on_their_own_bus(cycle_s, total, acceleration):
    sdk = XsSdk(errors=[0, 0, 32, 0, 0, 0, 0])
    arm = XsSdkArm(sdk, cycle_s)
    arm.connect()
    expected = {'Profile_Velocity': [total] * 6 + [2000],
                'Profile_Acceleration': [acceleration] * 6 + [300]}
    assert sdk.registers == expected
    arm.clear_faults()  # the elbow forgets it when it starts again
    assert sdk.registers == expected


def test_a_joint_behind_xs_sdk_that_would_lag_is_refused():
    with pytest.raises(ArmError, match='Profile_Velocity to 40 ms.*: elbow 2000. The arm would'):
        XsSdkArm(XsSdk(deaf='elbow')).connect()


def test_motors_in_error_are_named_and_restarted_one_by_one():
    sdk = XsSdk(errors=[0, 0, 32, 0, 0, 4, 32])
    arm = XsSdkArm(sdk)
    arm.connect()
    first, second, gripper = arm.faults()
    assert (first.joint, first.bits, first.cure) == ('elbow', 32, 'reboot')
    assert 'overload' in first.message and 'overheating' in second.message
    assert 'gripper: hardware error 0x20 (overload)' in gripper.message
    assert arm.clear_faults() == 'restarted elbow, wrist_rotate, gripper'
    assert arm.faults() == []
    reboots = [fields['name'] for name, fields in sdk.requests if name == 'reboot_motors']
    assert reboots == ['elbow', 'wrist_rotate', 'gripper']
