"""Steer the arm from a keyboard, and start, end or discard episodes with the same hand."""

from functools import partial
import math
import sys
import time

from geometry_msgs.msg import TwistStamped
import numpy as np
from rclpy.node import Node
from sensor_msgs.msg import JointState
from stable_crl_ros.nodes.common import (
    COMMAND,
    LATCHED,
    param,
    spin_node,
    StartupError,
    steady_clock,
)
from stable_crl_ros.nodes.messages import (
    decode_applied_action,
    decode_joint_states,
    encode_command,
    MessageError,
)
from stable_crl_ros.teleop.keyboard import HELP, Keyboard, Terminal, TerminalError
from std_msgs.msg import Float64, Float64MultiArray, String
from std_srvs.srv import SetBool, Trigger

KEY_POLL_S = 0.02
# event of the keyboard: service, and what a SetBool is told
SERVICES = {
    'start_episode': ('episode_logger/start', None),
    'end_success': ('episode_logger/stop', True),
    'end_failure': ('episode_logger/stop', False),
    'discard_episode': ('episode_logger/discard', None),
    'label_success': ('episode_logger/label_last', True),
    'label_failure': ('episode_logger/label_last', False),
    'stop_arm': ('arm/stop', None),
    'resume_arm': ('arm/resume', None),
    'home_arm': ('arm/home', None),
    'sleep_arm': ('arm/sleep', None),
}


class TeleopNode(Node):
    """
    Publish commands while keys are held, and nothing otherwise, which gives the arm back.

    The gripper starts from the setpoint the arm has, so that taking over does not move it.

    :param terminal: an open terminal to read keys from; None for standard input.
    :raises StartupError: out of spin, when there is no terminal or it was closed.
    """

    def __init__(self, terminal: int | None = None, **kwargs) -> None:
        super().__init__('teleop', enable_logger_service=True, **kwargs)
        rate = param(self, 'control_rate', 5.0, 'Commands per second, as the arm expects (Hz)',
                     low=0.5, high=50.0, read_only=True)
        speed = param(self, 'speed', 0.4, "Fraction of BridgeData's largest step at the start",
                      low=0.1, high=1.0, read_only=True)
        hold_s = param(self, 'key_hold', 0.15, 'How long a key counts as held after its last '
                       'repeat (s)', low=0.05, high=1.0, read_only=True)
        self._period_s, self._sent_s = 1.0 / rate, -math.inf
        self._keyboard = Keyboard(hold_s, speed)
        self._terminal = Terminal(terminal)
        self._twists = self.create_publisher(TwistStamped, 'teleop/delta_twist_cmds', COMMAND)
        self._grippers = self.create_publisher(Float64, 'teleop/gripper_cmd', COMMAND)
        kinds = {name: Trigger if told is None else SetBool for name, told in SERVICES.values()}
        self._verbs = {name: self.create_client(kind, name) for name, kind in kinds.items()}
        self.create_subscription(JointState, 'joint_states', self._on_joints, 10)
        self.create_subscription(Float64MultiArray, 'applied_action', self._on_applied, 10)
        self.create_subscription(String, 'mode', self._on_mode, LATCHED)
        self.create_timer(KEY_POLL_S, self._poll, clock=steady_clock())

    def destroy_node(self) -> None:
        """Give the terminal back as it was, then destroy the node."""
        self._terminal.__exit__()
        super().destroy_node()

    def _poll(self) -> None:
        now = time.monotonic()
        for key in self._keys():
            event = self._keyboard.press(key, now)
            if event is not None:
                self._call(event)
        if now - self._sent_s < self._period_s:
            return
        action = self._keyboard.action(now)
        if action is not None:
            self._sent_s = now
            self._send(action)

    def _keys(self) -> list[str]:
        try:
            # Not before the node spins: only then does Ctrl-C find one to restore the terminal.
            if not self._terminal.is_open:
                self._terminal.__enter__()
                print(HELP, flush=True)
            return self._terminal.read_keys()
        except TerminalError as error:
            raise StartupError(f'{error}; the arm holds') from error

    def _send(self, action: np.ndarray) -> None:
        if math.isfinite(action[6]):
            self._grippers.publish(Float64(data=float(action[6])))
        now_ns = self.get_clock().now().nanoseconds
        self._twists.publish(encode_command(action[:6], self._period_s, now_ns))

    def _on_joints(self, message: JointState) -> None:
        if math.isnan(self._keyboard.gripper):
            try:
                self._keyboard.gripper = decode_joint_states(message).gripper
            except MessageError as error:
                self.get_logger().error(str(error), throttle_duration_sec=5.0)

    def _on_applied(self, message: Float64MultiArray) -> None:
        if not self._keyboard.held(time.monotonic()):
            try:
                self._keyboard.gripper = float(decode_applied_action(message).applied[6])
            except MessageError as error:
                self.get_logger().error(str(error), throttle_duration_sec=5.0)

    def _on_mode(self, message: String) -> None:
        self.get_logger().info(f'arm: {message.data}')

    def _call(self, event: str) -> None:
        name, told = SERVICES[event]
        client = self._verbs[name]
        if not client.service_is_ready():
            self.get_logger().error(f'{client.srv_name} is not there; is its node running?')
            return
        request = Trigger.Request() if told is None else SetBool.Request(data=told)
        client.call_async(request).add_done_callback(partial(self._on_answer, event))

    def _on_answer(self, event: str, future) -> None:
        answer = future.result()
        verdict = 'done' if answer.success else 'REFUSED'
        self.get_logger().info(f'{event.replace("_", " ")}: {verdict}. {answer.message}')


def main(args: list[str] | None = None) -> int:
    """Run the teleoperation until Ctrl-C."""
    return spin_node(TeleopNode, args)


if __name__ == '__main__':
    sys.exit(main())
