"""Steer the arm by hand, and start, end or discard episodes with the same hand."""

from functools import partial
import math
import sys
import time

from geometry_msgs.msg import PoseStamped, TwistStamped
import numpy as np
from rclpy.node import Node
from sensor_msgs.msg import JointState
from stable_crl_ros.nodes.common import (
    COMMAND,
    param,
    spin_node,
    StartupError,
    steady_clock,
)
from stable_crl_ros.nodes.joy_device import JoyDevice
from stable_crl_ros.nodes.messages import (
    decode_applied_action,
    decode_ee_pose,
    decode_joint_states,
    encode_command,
    MessageError,
)
from stable_crl_ros.nodes.teleop_status import TeleopStatus
from stable_crl_ros.robot.poses import pose_from_xyz_quaternion
from stable_crl_ros.teleop.device import DeviceError, Together
from stable_crl_ros.teleop.devices import KINDS, open_devices
from stable_crl_ros.teleop.screen import Screen
from stable_crl_ros.teleop.steering import FRAMES, Shape, Steering
from stable_crl_ros.teleop.terminal import Terminal
from std_msgs.msg import Float64, Float64MultiArray
from std_srvs.srv import SetBool, Trigger

POLL_S = 0.02
DRAW_S = 0.2
POSE_AGE_S = 0.5
# event of a device: service, and what a SetBool is told
SERVICES = {
    'start_episode': ('episode_logger/start', None),
    'end_success': ('episode_logger/stop', True),
    'end_failure': ('episode_logger/stop', False),
    'discard_episode': ('episode_logger/discard', None),
    'label_success': ('episode_logger/label_last', True),
    'label_failure': ('episode_logger/label_last', False),
    'stop_arm': ('arm/stop', None),
    'resume_arm': ('arm/resume', None),
    'clear_faults': ('arm/clear_faults', None),
    'home_arm': ('arm/home', None),
    'sleep_arm': ('arm/sleep', None),
}


class TeleopNode(Node):
    """
    Publish commands while the deadman is held, and nothing otherwise, which gives the arm back.

    The gripper starts from the setpoint the arm has, so that taking over does not move it.

    :param terminal: an open terminal to read keys from; None for standard input.
    :param devices: what steers, already open; None opens what the parameter `device` says.
    :raises StartupError: out of spin, when there is nothing to steer with.
    """

    def __init__(self, terminal: int | None = None, devices: Together | None = None,
                 **kwargs) -> None:
        super().__init__('teleop', enable_logger_service=True, **kwargs)
        self._declare()
        self._terminal, self._devices = Terminal(terminal), devices
        self._joy = JoyDevice(self)
        self._due_s, self._drawn_s, self._said = -math.inf, -math.inf, ''
        self._warned_s: dict[str, float] = {}
        self._rotation: np.ndarray | None = None
        self._pose_s = -math.inf
        self._screen = Screen(sys.stdout)
        self._status = TeleopStatus(self)
        self._create_topics()
        self.create_timer(POLL_S, self._poll, clock=steady_clock())

    def _declare(self) -> None:
        self._kind = param(self, 'device', 'auto', 'What steers; auto: the keyboard, and every '
                           'gamepad and SpaceMouse there is', read_only=True, choices=KINDS)
        self._period_s = 1.0 / param(self, 'control_rate', 5.0, 'Commands per second, as the arm '
                                     'expects (Hz)', low=0.5, high=50.0, read_only=True)
        speed = param(self, 'speed', 0.4, "Fraction of BridgeData's largest step at the start",
                      low=0.1, high=1.0, read_only=True)
        frame = param(self, 'frame', 'base', 'Along which axes the arm is moved at the start: of '
                      'base_link, or of the tool', read_only=True, choices=FRAMES)
        dead_zone = param(self, 'dead_zone', 0.1, 'Deflection of a stick that counts as none',
                          low=0.0, high=0.9, read_only=True)
        curve = param(self, 'curve', 0.4, 'Response of a stick: 0 linear .. 1 cubic', low=0.0,
                      high=1.0, read_only=True)
        self._hold_s = param(self, 'key_hold', 0.15, 'How long a key counts as held after its '
                             'last repeat (s)', low=0.05, high=1.0, read_only=True)
        self._steering = Steering(speed, frame, Shape(dead_zone, curve))

    def _create_topics(self) -> None:
        self._twists = self.create_publisher(TwistStamped, 'teleop/delta_twist_cmds', COMMAND)
        self._grippers = self.create_publisher(Float64, 'teleop/gripper_cmd', COMMAND)
        kinds = {name: Trigger if told is None else SetBool for name, told in SERVICES.values()}
        self._verbs = {name: self.create_client(kind, name) for name, kind in kinds.items()}
        self.create_subscription(JointState, 'joint_states', self._on_joints, 10)
        self.create_subscription(PoseStamped, 'ee_pose', self._on_pose, 10)
        self.create_subscription(Float64MultiArray, 'applied_action', self._on_applied, 10)

    def destroy_node(self) -> None:
        """Give terminal and devices back as they were, then destroy the node."""
        self._screen.clear()
        self._terminal.__exit__()
        if self._devices is not None:
            self._devices.close()
        super().destroy_node()

    def _poll(self) -> None:
        now = time.monotonic()
        try:
            # Not before the node spins: only then does Ctrl-C find one to restore the terminal.
            if self._devices is None:
                self._devices = self._open()
            given = self._devices.poll(now)
        except DeviceError as error:
            raise StartupError(f'{error}; the arm holds') from error
        for event in self._steering.take(given, now):
            self._call(event)
        self._steer(now)
        if now - self._drawn_s >= DRAW_S:
            self._drawn_s = now
            self._show(now)

    def _open(self) -> Together:
        joy = None
        if self._kind == 'joy':
            self._joy.subscribe(self)
            joy = self._joy.plug(self._warn)
        devices = open_devices(self._kind, self._terminal, self._hold_s, self._warn, joy)
        print(devices.manual, flush=True)
        return devices

    def _steer(self, now: float) -> None:
        if now < self._due_s:
            return
        fresh = now - self._pose_s < POSE_AGE_S
        action = self._steering.action(self._rotation if fresh else None)
        if action is None:
            if self._steering.steers:
                self._warn('nothing is sent: no ee_pose for the axes of the tool', every_s=2.0)
            return
        # In step with the rate, whenever this is called.
        self._due_s += self._period_s
        if self._due_s <= now:
            self._due_s = now + self._period_s
        self._send(action)
        self._status.count(now)

    def _send(self, action: np.ndarray) -> None:
        if math.isfinite(action[6]):
            self._grippers.publish(Float64(data=float(action[6])))
        now_ns = self.get_clock().now().nanoseconds
        self._twists.publish(encode_command(action[:6], self._period_s, now_ns))

    def _show(self, now: float) -> None:
        name = self._devices.name
        self._screen.draw(self._status.lines(now, name, self._steering))
        summary = self._status.summary(name, self._steering)
        if not self._screen.is_terminal and summary != self._said:
            self._said = summary
            self.get_logger().info(summary)

    def _on_joints(self, message: JointState) -> None:
        if math.isnan(self._steering.gripper):
            try:
                self._steering.follow(decode_joint_states(message).gripper)
            except MessageError as error:
                self._warn(str(error), every_s=5.0)

    def _on_pose(self, message: PoseStamped) -> None:
        try:
            self._rotation = pose_from_xyz_quaternion(decode_ee_pose(message))[:3, :3]
            self._pose_s = time.monotonic()
        except ValueError as error:
            self._warn(f'ee_pose: {error}', every_s=5.0)

    def _on_applied(self, message: Float64MultiArray) -> None:
        try:
            self._status.applied = decode_applied_action(message)
        except MessageError as error:
            self._warn(str(error), every_s=5.0)
            return
        if not self._steering.steers:
            self._steering.follow(float(self._status.applied.applied[6]))

    def _call(self, event: str) -> None:
        name, told = SERVICES[event]
        client = self._verbs[name]
        if not client.service_is_ready():
            self._warn(f'{client.srv_name} is not there; is its node running?')
            return
        request = Trigger.Request() if told is None else SetBool.Request(data=told)
        client.call_async(request).add_done_callback(partial(self._on_answer, event))

    def _on_answer(self, event: str, future) -> None:
        answer = future.result()
        verdict = 'done' if answer.success else 'REFUSED'
        self._screen.clear()
        self.get_logger().info(f'{event.replace("_", " ")}: {verdict}. {answer.message}')

    def _warn(self, text: str, every_s: float = 0.0) -> None:
        now = time.monotonic()
        if now - self._warned_s.get(text, -math.inf) >= every_s:
            self._warned_s[text] = now
            self._screen.clear()
            self.get_logger().warning(text)


def main(args: list[str] | None = None) -> int:
    """Run the teleoperation until Ctrl-C."""
    return spin_node(TeleopNode, args)


if __name__ == '__main__':
    sys.exit(main())
