"""What the operator sees: who is in charge, how fast, what was applied, how recording goes."""

from collections import deque
import math

from diagnostic_msgs.msg import DiagnosticArray
import numpy as np
from rclpy.node import Node
from stable_crl_ros.nodes.common import LATCHED
from stable_crl_ros.nodes.messages import AppliedAction
from stable_crl_ros.robot.safety import flag_names
from stable_crl_ros.teleop.steering import Steering
from std_msgs.msg import String

RATE_WINDOW_S = 2.0
FORGET_S = 3.0  # after which the logger counts as gone
IN_CHARGE = {'teleop': 'YOU steer', 'policy': 'the POLICY steers'}


class TeleopStatus:
    """
    Collect what is shown to the operator.

    :param node: who subscribes.
    """

    def __init__(self, node: Node) -> None:
        self.mode = '?'
        self.applied: AppliedAction | None = None
        self.sent = 0
        self._sent_s: deque[float] = deque()
        self._episode: dict[str, str] = {}
        self._logger_s = -math.inf
        self._logger = f'{node.get_namespace().rstrip("/")}/episode_logger: recording'
        self._clock = node.get_clock()
        node.create_subscription(String, 'mode', self._on_mode, LATCHED)
        node.create_subscription(DiagnosticArray, '/diagnostics', self._on_diagnostics, 10)

    def count(self, now: float) -> None:
        """Note that a command was sent."""
        self.sent += 1
        self._sent_s.append(now)

    def rate(self, now: float) -> float:
        """Return how many commands a second were sent lately, Hz."""
        while self._sent_s and now - self._sent_s[0] > RATE_WINDOW_S:
            self._sent_s.popleft()
        if len(self._sent_s) < 2:
            return 0.0
        return (len(self._sent_s) - 1) / max(self._sent_s[-1] - self._sent_s[0], 1e-3)

    def episode(self) -> str:
        """Say how recording goes."""
        if self._clock.now().nanoseconds * 1e-9 - self._logger_s > FORGET_S:
            return 'no recorder'
        if 'steps' not in self._episode:
            return 'no episode'
        seen = self._episode
        return (f'{seen.get("episode", "episode")}: {seen["steps"]} steps, '
                f'{seen.get("dropped", "?")} dropped')

    def lines(self, now: float, device: str, steering: Steering) -> list[str]:
        """Return the two lines to show."""
        gripper = '?' if math.isnan(steering.gripper) else f'{steering.gripper:.2f}'
        return [f'{IN_CHARGE.get(self.mode, f"arm {self.mode}")} | {self.rate(now):.1f} Hz | '
                f'speed {steering.speed:.0%} | frame {steering.frame} | gripper {gripper} | '
                f'{device}',
                f'{self.episode()} | {self.describe_applied()}']

    def summary(self, device: str, steering: Steering) -> str:
        """Return what a log line shall say when it changes."""
        return (f'arm {self.mode}, speed {steering.speed:.0%}, frame {steering.frame}, '
                f'{device or "no device"}')

    def describe_applied(self) -> str:
        """Say what the arm did last."""
        if self.applied is None:
            return 'nothing applied yet'
        millimetres = 1e3 * self.applied.applied[:3]
        degrees = np.degrees(self.applied.applied[3:6])
        flags = ', '.join(flag_names(self.applied.flags))
        return (f'applied {_numbers(millimetres)} mm {_numbers(degrees)} deg'
                + (f' ({flags})' if flags else ''))

    def _on_mode(self, message: String) -> None:
        self.mode = message.data

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            if status.name == self._logger:
                self._episode = {item.key: item.value for item in status.values}
                self._logger_s = self._clock.now().nanoseconds * 1e-9


def _numbers(values: np.ndarray) -> str:
    return ' '.join(f'{value:+.0f}' if abs(value) >= 0.5 else '0' for value in values)
