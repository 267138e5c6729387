"""What a trial sees of the running stack: steps, who acts, and in simulation the truth."""

from collections.abc import Callable

from rclpy.node import Node
from sensor_msgs.msg import Image
from stable_crl_ros.data.schema import Mode
from stable_crl_ros.nodes.common import LATCHED
from stable_crl_ros.nodes.messages import decode_applied_action
from stable_crl_ros.nodes.sim_truth import SimTruth
from std_msgs.msg import Float64MultiArray, String


class TrialMonitor(Node):
    """Count the policy's steps and the latest of them in a row at which the goal was reached."""

    def __init__(self, **kwargs) -> None:
        super().__init__('trials', start_parameter_services=False, **kwargs)
        self.truth = SimTruth(self)
        self.mode = self.goal = self.checkpoint = ''
        self.begin(None)
        self.create_subscription(Float64MultiArray, 'applied_action', self._on_applied, 50)
        self.create_subscription(String, 'mode', self._on_mode, LATCHED)
        self.create_subscription(String, 'policy/checkpoint_id', self._on_checkpoint, LATCHED)
        self.create_subscription(Image, 'goal/image', self._on_goal, LATCHED)

    def begin(self, reached: Callable[[], bool] | None) -> None:
        """
        Forget the last trial.

        :param reached: whether the goal is reached now; None where nobody knows.
        """
        self._reached = reached
        self.steps = self.interventions = self.settled = 0
        self._first_ns = self._last_ns = self._reached_ns = 0

    @property
    def seconds(self) -> float:
        """From the first to the last step of the policy."""
        return (self._last_ns - self._first_ns) * 1e-9

    @property
    def reached_s(self) -> float | None:
        """From the first step to the one from which the goal was reached for good."""
        return (self._reached_ns - self._first_ns) * 1e-9 if self.settled else None

    def _on_applied(self, message: Float64MultiArray) -> None:
        step = decode_applied_action(message)
        if step.mode == Mode.TELEOP:
            self.interventions += 1
        if step.mode != Mode.POLICY:
            return
        self.steps += 1
        self._first_ns = self._first_ns or step.applied_ns
        self._last_ns = step.applied_ns
        if self._reached is None or not self._reached():
            self.settled = 0
            return
        if not self.settled:
            self._reached_ns = step.applied_ns
        self.settled += 1

    def _on_mode(self, message: String) -> None:
        self.mode = message.data

    def _on_checkpoint(self, message: String) -> None:
        self.checkpoint = message.data

    def _on_goal(self, message: Image) -> None:
        self.goal = message.header.frame_id
