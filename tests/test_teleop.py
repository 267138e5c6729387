"""The teleop node on a real terminal beside a real arm node: held keys steer, letting go ends."""

import math
import os
import signal
import subprocess
import sys
import termios
import time

import numpy as np
import pytest

pytest.importorskip('rclpy')

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from geometry_msgs.msg import TwistStamped
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from stable_crl_ros.data.schema import Mode
from stable_crl_ros.nodes.arm import ArmNode
from stable_crl_ros.nodes.common import COMMAND, LATCHED
from stable_crl_ros.nodes.conversions import to_nanoseconds
from stable_crl_ros.nodes.messages import decode_applied_action
from stable_crl_ros.nodes.teleop import TeleopNode
from std_msgs.msg import Float64, Float64MultiArray, String
from std_srvs.srv import SetBool, Trigger
from test_arm_node import PATIENT_S


@pytest.fixture
def terminal():
    """Give both ends of a real terminal: what the keyboard types into, what the node reads."""
    typing, reading = os.openpty()
    yield typing, reading
    os.close(typing)
    os.close(reading)


class Desk:
    """A teleop node on a terminal the test types into, beside a real arm node."""

    def __init__(self, ros, terminal, **parameters):
        self.ros, (self._typing, reading) = ros, terminal
        ros.add(ArmNode(context=ros.context, parameter_overrides=ros.parameters(
            max_command_age=PATIENT_S)))
        self.teleop = ros.add(TeleopNode(reading, context=ros.context, parameter_overrides=(
            ros.parameters(device='keyboard', **parameters))))
        self.probe = ros.node()
        self.applied, self.twists, self.modes = [], [], []
        subscribe = self.probe.create_subscription
        subscribe(Float64MultiArray, 'applied_action',
                  lambda m: self.applied.append(decode_applied_action(m)), 10)
        subscribe(TwistStamped, 'teleop/delta_twist_cmds', self.twists.append, 10)
        subscribe(String, 'mode', lambda m: self.modes.append(m.data), LATCHED)
        for kind in (Transition.TRANSITION_CONFIGURE, Transition.TRANSITION_ACTIVATE):
            request = ChangeState.Request(transition=Transition(id=kind))
            assert ros.call(ChangeState, 'arm/change_state', request, node=self.probe).success
        ros.spin_until(lambda: self.teleop._twists.get_subscription_count() == 2)
        ros.spin_until(lambda: self.modes and math.isfinite(self.teleop._steering.gripper))

    def type(self, keys):
        os.write(self._typing, keys)

    def hold(self, key, until):
        """Repeat a key as a terminal does, until a condition holds."""
        def again():
            self.type(key)
            self.ros.spin_for(0.03)
            return until()
        self.ros.spin_until(again)

    def let_go(self):
        """Wait until the key counts as released, and all that was sent before has come."""
        self.ros.spin_until(lambda: not self.teleop._steering.steers)
        self.ros.spin_until(lambda: len(self.twists) == self.teleop._status.sent)


@pytest.fixture
def desk(ros, terminal):
    return Desk(ros, terminal)


def test_a_held_key_moves_the_arm_at_the_control_rate_and_then_lets_go(desk):
    desk.hold(b'r', lambda: len(desk.twists) >= 6)
    desk.let_go()
    count = len(desk.twists)
    stamps = np.array([to_nanoseconds(twist.header.stamp) for twist in desk.twists]) * 1e-9
    assert np.median(np.diff(stamps)) == pytest.approx(0.2, rel=0.2)
    assert count - 1 <= (stamps[-1] - stamps[0]) / 0.2 + 1  # whatever stood still
    assert all(step.mode == Mode.TELEOP and not step.refused for step in desk.applied)
    np.testing.assert_allclose(desk.applied[0].applied, [0, 0, 0.02, 0, 0, 0, 1], atol=1e-6)
    desk.ros.spin_for(0.5)
    assert len(desk.twists) == count
    desk.ros.spin_until(lambda: desk.modes[-1:] == ['ready'])


def test_a_tap_is_one_step(desk):
    desk.type(b'w')
    desk.ros.spin_until(lambda: desk.applied)
    desk.ros.spin_for(0.6)
    assert [step.applied[0] for step in desk.applied] == pytest.approx([0.02], abs=1e-6)


def test_the_gripper_key_closes_the_gripper(desk):
    desk.type(b' ')
    desk.ros.spin_until(lambda: desk.applied)
    np.testing.assert_allclose(desk.applied[-1].applied, np.zeros(7), atol=1e-9)


def test_a_short_press_of_the_gripper_key_right_after_a_step_is_not_lost(desk):
    desk.type(b'w')
    desk.ros.spin_until(lambda: desk.applied)
    desk.type(b' ')  # let go before the next command is due
    desk.ros.spin_until(lambda: len(desk.applied) == 2)
    np.testing.assert_allclose(desk.applied[-1].applied[6], 0.0)
    desk.ros.spin_for(0.5)
    assert len(desk.applied) == 2


def test_taking_over_keeps_the_grippers_setpoint(desk):
    grippers = desk.probe.create_publisher(Float64, 'gripper_cmd', COMMAND)
    twists = desk.probe.create_publisher(TwistStamped, 'delta_twist_cmds', COMMAND)
    desk.ros.spin_until(
        lambda: grippers.get_subscription_count() and twists.get_subscription_count())
    grippers.publish(Float64(data=0.0))
    message = TwistStamped()
    message.header.frame_id = 'base_link'
    message.header.stamp = desk.probe.get_clock().now().to_msg()
    twists.publish(message)
    desk.ros.spin_until(lambda: desk.applied)
    desk.ros.spin_until(lambda: desk.teleop._steering.gripper == 0.0)
    desk.type(b'w')
    desk.ros.spin_until(lambda: len(desk.applied) == 2)
    assert desk.applied[-1].applied[6] == 0.0


def test_the_stop_key_stops_the_arm_and_resume_brings_it_back(desk):
    desk.type(b'\x1b')
    desk.ros.spin_until(lambda: desk.modes[-1:] == ['paused'])
    desk.type(b'c')
    desk.ros.spin_until(lambda: desk.modes[-1:] == ['ready'])


def test_an_episode_key_without_a_logger_is_harmless(desk):
    desk.type(b'1w')
    desk.ros.spin_until(lambda: desk.applied)


def test_episode_keys_call_the_logger(desk):
    calls = []

    def serve(kind, name):
        def answer(request, response):
            calls.append((name, getattr(request, 'data', None)))
            response.success = True
            return response
        desk.probe.create_service(kind, f'episode_logger/{name}', answer)
    serve(Trigger, 'start')
    serve(SetBool, 'stop')
    serve(Trigger, 'discard')
    serve(SetBool, 'label_last')
    clients = [client for name, client in desk.teleop._verbs.items() if 'episode' in name]
    desk.ros.spin_until(lambda: all(client.service_is_ready() for client in clients))
    for key in b'123456':
        desk.type(bytes([key]))
        desk.ros.spin_until(lambda: len(calls) == key - ord('0'))  # noqa: B023 used at once
    assert calls == [('start', None), ('stop', True), ('stop', False), ('discard', None),
                     ('label_last', True), ('label_last', False)]


def test_the_tools_axes_are_turned_into_those_of_the_base(ros, terminal):
    desk = Desk(ros, terminal, frame='tool')
    ros.spin_until(lambda: desk.teleop._rotation is not None)
    desk.type(b'w')
    ros.spin_until(lambda: desk.applied)
    along = desk.teleop._rotation[:, 0]  # x of the tool, out of the fingers
    np.testing.assert_allclose(desk.applied[0].commanded[:3], 0.02 * along, atol=1e-3)
    assert along[2] < -0.9  # the mock arm's gripper points down


def test_the_operator_sees_who_steers_what_was_applied_and_how_recording_goes(desk):
    status, steering = desk.teleop._status, desk.teleop._steering
    def told():
        first, second = status.lines(time.monotonic(), 'keyboard', steering)
        return 'no recorder' in second and 'applied 0 0 -20 mm 0 0 0 deg' in second and all(
            part in first for part in ('YOU steer', 'Hz', 'speed 40%', 'frame base',
                                       'gripper 1.00', 'keyboard'))
    desk.hold(b'f', told)
    health = DiagnosticArray(status=[DiagnosticStatus(
        name='/episode_logger: recording', values=[
            KeyValue(key=key, value=value) for key, value in
            (('episode', 'episode_000012'), ('steps', '34'), ('dropped', '1'))])])
    desk.probe.create_publisher(DiagnosticArray, '/diagnostics', 10).publish(health)
    desk.ros.spin_until(lambda: status.episode() == 'episode_000012: 34 steps, 1 dropped')


@pytest.mark.parametrize(('device', 'reasons'), [
    ('gamepad', ['no gamepad']), ('spacemouse', ['no SpaceMouse', '256f']),
    ('auto', ['no terminal', 'no gamepad', 'no SpaceMouse'])])
def test_with_nothing_to_steer_with_it_refuses_and_says_what_it_looked_for(device, reasons):
    done = subprocess.run(
        [sys.executable, '-m', 'stable_crl_ros.nodes.teleop', '--ros-args', '-p',
         f'device:={device}'], stdin=subprocess.DEVNULL, capture_output=True, text=True,
        timeout=60)
    if done.returncode == 0:
        pytest.skip(f'a {device} is plugged in here')
    assert done.returncode == 1 and 'Traceback' not in done.stderr
    assert all(reason in done.stderr for reason in reasons), done.stderr


def test_the_process_needs_a_terminal_and_gives_it_back_on_ctrl_c(terminal):
    command = [sys.executable, '-m', 'stable_crl_ros.nodes.teleop', '--ros-args', '-p',
               'device:=keyboard']
    refused = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                             timeout=60)
    assert refused.returncode == 1
    assert 'terminal of its own' in refused.stderr and 'Traceback' not in refused.stderr
    _, reading = terminal
    before = termios.tcgetattr(reading)
    process = subprocess.Popen(command, stdin=reading, stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, text=True)
    try:
        assert process.stdout.readline().startswith('move')
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=30)
    finally:
        process.kill()
        process.wait()
    assert (process.returncode, 'Traceback' in errors) == (0, False), errors
    assert termios.tcgetattr(reading) == before
