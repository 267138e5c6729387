"""What the demo sees of the running stack: truth, steps, progress, ticks and latency."""

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.node import Node
from stable_crl_ros.data.schema import Mode
from stable_crl_ros.nodes.messages import decode_applied_action
from std_msgs.msg import Float64, Float64MultiArray

PRINT_EVERY = 5  # steps


class DemoMonitor(Node):
    """
    Follow one run and print a line a second.

    :param goal_opening: where the drawer shall be, m.
    """

    def __init__(self, goal_opening: float, **kwargs) -> None:
        super().__init__('demo', **kwargs)
        self._goal_opening = goal_opening
        self._within: list[float] = []  # errors at the latest steps, m
        self._first_ns = self._last_ns = 0
        self._progress = float('nan')
        self.opening = float('nan')  # m, the simulator's truth
        self.steps = 0  # control steps the arm executed for the policy
        self.late = self.missed = 0  # ticks, as the policy reports
        self.latencies: list[float] = []  # s, image capture to start of motion
        self.saved = ''  # what the logger said
        self.create_subscription(Float64, 'sim/drawer_opening', self._on_opening, 10)
        self.create_subscription(Float64, 'policy/progress', self._on_progress, 10)
        self.create_subscription(Float64MultiArray, 'applied_action', self._on_applied, 50)
        self.create_subscription(DiagnosticArray, '/diagnostics', self._on_diagnostics, 50)

    @property
    def error(self) -> float:
        """Metres between the drawer and the goal."""
        return abs(self.opening - self._goal_opening)

    @property
    def seconds(self) -> float:
        """From the first to the last executed step."""
        return (self._last_ns - self._first_ns) * 1e-9

    def steps_within(self, tolerance: float) -> int:
        """Count the latest steps in a row at which the error was within the tolerance (m)."""
        count = 0
        for error in reversed(self._within):
            if not error <= tolerance:
                break
            count += 1
        return count

    def _on_opening(self, message: Float64) -> None:
        self.opening = message.data

    def _on_progress(self, message: Float64) -> None:
        self._progress = message.data

    def _on_applied(self, message: Float64MultiArray) -> None:
        step = decode_applied_action(message)
        if step.mode != Mode.POLICY:
            return
        self._first_ns = self._first_ns or step.applied_ns
        self._last_ns = step.applied_ns
        self.latencies.append((step.applied_ns - step.capture_ns) * 1e-9)
        self._within.append(self.error)
        if self.steps % PRINT_EVERY == 0:
            print(f'step {self.steps:3d}  drawer {1000 * self.opening:5.1f} mm  '
                  f'{1000 * self.error:5.1f} mm from the goal  critic {self._progress:6.2f}',
                  flush=True)
        self.steps += 1

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            if status.name.startswith(f'{self.get_namespace()}/policy:'):
                values = {item.key: item.value for item in status.values}
                self.late = int(values.get('late', self.late))
                self.missed = int(values.get('missed', self.missed))
