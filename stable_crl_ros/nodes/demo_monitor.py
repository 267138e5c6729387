"""What the demo sees of the running stack: truth, steps, progress, ticks and latency."""

import math

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.node import Node
from stable_crl_ros.data.schema import Mode
from stable_crl_ros.nodes.messages import decode_applied_action
from stable_crl_ros.nodes.sim_truth import SimTruth
from stable_crl_ros.sim.tasks import Task
from stable_crl_ros.sim.world import WorldState
from std_msgs.msg import Float64, Float64MultiArray

PRINT_EVERY = 5  # steps


class DemoMonitor(Node):
    """
    Follow one run and print a line a second.

    :param task: says what counts, and how near is near enough.
    :param goal: where things shall be.
    """

    def __init__(self, task: Task, goal: WorldState, **kwargs) -> None:
        super().__init__('demo', **kwargs)
        self._task, self._goal = task, goal
        self.settled = 0  # the latest steps in a row at which the goal was reached
        self._first_ns = self._last_ns = 0
        self._progress = float('nan')
        self._truth = SimTruth(self)
        self.steps = 0  # control steps the arm executed for the policy
        self.late = self.missed = 0  # ticks, as the policy reports
        self.latencies: list[float] = []  # s, image capture to start of motion
        self.saved = ''  # what the logger said
        self.create_subscription(Float64, 'policy/progress', self._on_progress, 10)
        self.create_subscription(Float64MultiArray, 'applied_action', self._on_applied, 50)
        self.create_subscription(DiagnosticArray, '/diagnostics', self._on_diagnostics, 50)

    @property
    def reached(self) -> bool:
        """Say whether everything that counts is where the goal has it."""
        return self._task.success(self._truth, self._goal)

    def describe_errors(self) -> str:
        """Say how far everything that counts is from its place."""
        errors = self._task.errors(self._truth, self._goal)
        return ', '.join(f'{name} {1000 * error:.1f} mm' for name, error in errors.items())

    @property
    def seconds(self) -> float:
        """From the first to the last executed step."""
        return (self._last_ns - self._first_ns) * 1e-9

    def _on_progress(self, message: Float64) -> None:
        self._progress = message.data

    def _on_applied(self, message: Float64MultiArray) -> None:
        step = decode_applied_action(message)
        if step.mode != Mode.POLICY:
            return
        self._first_ns = self._first_ns or step.applied_ns
        self._last_ns = step.applied_ns
        self.latencies.append((step.applied_ns - step.capture_ns) * 1e-9)
        self.settled = self.settled + 1 if self.reached else 0
        if self.steps % PRINT_EVERY == 0:
            heard = math.isfinite(self._progress)  # the first may not have come yet
            print(f'step {self.steps:3d}  {self.describe_errors()} from the goal'
                  f'{f"  critic {self._progress:6.2f}" if heard else ""}', flush=True)
        self.steps += 1

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            if status.name.startswith(f'{self.get_namespace()}/policy:'):
                values = {item.key: item.value for item in status.values}
                self.late = int(values.get('late', self.late))
                self.missed = int(values.get('missed', self.missed))
