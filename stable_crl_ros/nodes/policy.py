"""Run the policy at a fixed rate: camera image + goal image -> one command for the arm."""

from collections import deque
import math
import sys
import time

import cv2
from geometry_msgs.msg import TwistStamped
import numpy as np
from rcl_interfaces.msg import SetParametersResult
from rclpy.parameter import Parameter
from sensor_msgs.msg import Image
from stable_crl_ros.goal_match import other_proportions
from stable_crl_ros.nodes.common import (
    COMMAND,
    declare_priority,
    Diagnostics,
    ERROR,
    LATCHED,
    ManagedNode,
    NotReadyError,
    OK,
    param,
    spin_node,
    steady_clock,
    value,
    WARN,
)
from stable_crl_ros.nodes.conversions import message_to_image
from stable_crl_ros.nodes.image_input import ImageInput
from stable_crl_ros.nodes.messages import encode_command, encode_tick, PolicyTick
from stable_crl_ros.nodes.progress_output import ProgressOutput
from stable_crl_ros.nodes.swap import CheckpointDesk
from stable_crl_ros.nodes.timing import GarbageCollection, Spread, TickMonitor
from stable_crl_ros.policy import Decision, Policy
from stable_crl_ros.preparation import Wish
from stable_crl_ros.scheduling import POLICY
from std_msgs.msg import Float64, Float64MultiArray

SEEN_EVERY_S = 0.25
SWITCH_INTERVAL_S = 0.0001  # how long a thread that prepares a checkpoint may keep the GIL
SEEN = 8  # frames that the next checkpoint is tried on


class PolicyNode(ManagedNode):
    """
    Publish one command per control period while active, and nothing when it must not act.

    It must not act without a goal, on an image older than `max_image_age`, or on one from the
    future. Stopping is silence: the arm's own watchdog holds when commands stop.

    Setting `checkpoint_path` while a policy runs loads the new one beside it; the new one takes
    over between two ticks, or is refused and the running one stays. `~/rollback` goes back.
    """

    def __init__(self, **kwargs) -> None:
        super().__init__('policy', **kwargs)
        self._declare()
        self._input = ImageInput(self)
        self._goal: np.ndarray | None = None
        self._goal_name = ''
        self._compared_goal: np.ndarray | None = None
        self._seen: deque[tuple[np.ndarray, np.ndarray]] = deque(maxlen=SEEN)  # frame, action
        self._seen_s, self._seen_by, self._seen_goal = -math.inf, None, None
        self.desk = CheckpointDesk(self, self._wish)
        self._hold_reason = ''
        self._monitor = TickMonitor(self._period_s)
        self._inference, self._latency, self._lateness = Spread(), Spread(), Spread()
        self._garbage = GarbageCollection()
        self._commands, self._holds = 0, 0
        self._create_topics()
        self._timer = self.create_timer(self._period_s, self._tick, clock=steady_clock(),
                                        autostart=False)
        self.add_on_set_parameters_callback(self._check_parameters)
        self.add_post_set_parameters_callback(self._apply_parameters)

    def _declare(self) -> None:
        rate = param(self, 'control_rate', 5.0, 'Commands per second (Hz), as in training',
                     low=0.5, high=50.0, read_only=True)
        param(self, 'max_image_age', 0.3, 'Never act on an older image (s)', low=0.01, high=10.0)
        declare_priority(self, POLICY)
        param(self, 'device', 'cpu', 'Where to compute: cpu, cuda or cuda:N', read_only=True)
        param(self, 'threads', 1, 'CPU threads of the computation', low=1, high=256,
              read_only=True)
        self._period_s = 1.0 / rate

    def _create_topics(self) -> None:
        self.create_subscription(Image, 'goal/image', self._on_goal, LATCHED)
        self._twists = self.create_lifecycle_publisher(TwistStamped, 'delta_twist_cmds', COMMAND)
        self._grippers = self.create_lifecycle_publisher(Float64, 'gripper_cmd', COMMAND)
        self._ticks = self.create_lifecycle_publisher(Float64MultiArray, '~/tick', 50)
        self._value = self.create_lifecycle_publisher(Float64, '~/progress', 10)
        self._progress = ProgressOutput(self)
        diagnostics = Diagnostics(self)
        diagnostics.add('control', self._diagnose_control)
        diagnostics.add('checkpoint', self.desk.diagnose)

    def setup(self) -> None:
        """Load the checkpoint."""
        self.desk.load_first()

    def start(self) -> None:
        """Begin to act, on the last checkpoint asked for."""
        if self._goal is None:
            raise NotReadyError(f'no goal on {self.resolve_topic_name("goal/image")} yet; '
                                'set active_goal of the goal node')
        self.desk.ready()
        self._encode_goal()
        self._progress.reset()
        for spread in (self._inference, self._latency, self._lateness):
            spread.clear()
        self._commands, self._holds = 0, 0
        self._garbage.start()
        self._monitor.start(time.monotonic())
        self._timer.reset()

    def stop(self) -> None:
        """Cease to act."""
        self._timer.cancel()
        self._garbage.stop()
        self._hold_reason = ''

    def teardown(self) -> None:
        """Let go of every policy."""
        self.desk.clear()

    def _tick(self) -> None:
        lateness_s = self._monitor.tick(time.monotonic())
        self._lateness.add(lateness_s)
        self._hold_reason = self._act(lateness_s)
        if self._hold_reason:
            self._holds += 1
            self.get_logger().warning(f'holding: {self._hold_reason}', throttle_duration_sec=2.0)
        self.desk.tick_over(self._monitor.spare_s(time.monotonic()))
        self._garbage.collect(self._monitor.spare_s(time.monotonic()))

    def _act(self, lateness_s: float) -> str:
        # One command, or the reason for none.
        problem = self._input.problem(value(self, 'max_image_age'))
        if problem:
            return problem
        stamp_ns, age_s, start_s = self._input.stamp_ns, self._input.age_s(), time.monotonic()
        try:
            image = self._input.image()
            self._compare_views(image)
            policy, (action, critic_value, progress) = self._decide(image)
        except (ValueError, RuntimeError) as error:  # the image, the policy, or its device
            return str(error)
        inference_s = time.monotonic() - start_s
        self._inference.add(inference_s)
        latency_s = self._command(action, stamp_ns)
        self._ticks.publish(encode_tick(PolicyTick(
            stamp_ns, action, policy.checkpoint_id, critic_value, *progress,
            done=self._progress.publish(progress, self._goal_name), image_age_s=age_s,
            inference_s=inference_s, latency_s=latency_s, lateness_s=lateness_s)))
        if np.isfinite(critic_value):
            self._value.publish(Float64(data=critic_value))
        self._remember(policy, image, action)
        self.desk.judge(action, inference_s)
        return ''

    def _decide(self, image: np.ndarray) -> tuple[Policy, Decision]:
        # Also the policy it came from: one that fails in its first seconds is not the last.
        policy = self.running
        try:
            self._encode_goal()
            return policy, policy.decide(image)
        except RuntimeError as error:
            if not self.desk.fall_back(str(error)):
                raise
        self._encode_goal()
        return self.running, self.running.decide(image)

    def _remember(self, policy: Policy, image: np.ndarray, action: np.ndarray) -> None:
        # Of one policy and one goal, so that another's actions can be compared with them.
        now_s = time.monotonic()
        if self._seen_by is not policy or self._seen_goal is not policy.goal_image:
            self._seen.clear()
            self._seen_by, self._seen_goal = policy, policy.goal_image
        if now_s - self._seen_s > SEEN_EVERY_S:
            self._seen.append((image, action))
            self._seen_s = now_s

    def _wish(self, path: str) -> Wish:
        frames, actions = zip(*self._seen, strict=True) if self._seen else ((), ())
        return Wish(path, frames, actions, self._goal, self.running)

    @property
    def running(self) -> Policy | None:
        """The policy that acts; None before it is configured."""
        return self.desk.running.policy if self.desk.running else None

    def _command(self, action: np.ndarray, stamp_ns: int) -> float:
        # The gripper first: the arm takes it together with the twist of the same tick. Returns
        # how long ago the image was captured, s.
        self._grippers.publish(Float64(data=float(action[6])))
        self._twists.publish(encode_command(action[:6], self._period_s, stamp_ns))
        self._commands += 1
        latency_s = (self.get_clock().now().nanoseconds - stamp_ns) * 1e-9
        self._latency.add(latency_s)
        return latency_s

    def _encode_goal(self) -> None:
        if self.running.goal_image is not self._goal:
            self.running.set_goal(self._goal)

    def _compare_views(self, image: np.ndarray) -> None:
        # Goal and camera are squashed to one size: of different proportions, they never match.
        goal, self._compared_goal = self._compared_goal, self._goal
        if goal is self._goal:
            return
        if different := other_proportions(self._goal.shape, image.shape):
            self.get_logger().warning(different)

    def _on_goal(self, message: Image) -> None:
        try:
            self._goal = message_to_image(message, self.resolve_topic_name('goal/image')).copy()
        except ValueError as error:
            self.get_logger().error(f'goal refused: {error}')
            return
        self._goal_name = message.header.frame_id
        self._progress.reset()
        name = self._goal_name or 'without a name'
        self.get_logger().info(f'goal {name}, {message.width}x{message.height}')

    def _check_parameters(self, parameters: list[Parameter]) -> SetParametersResult:
        for parameter in parameters:
            if parameter.name == 'checkpoint_path' and \
                    (refusal := self.desk.refusal(parameter.value)):
                return SetParametersResult(successful=False, reason=refusal)
        return SetParametersResult(successful=True)

    def _apply_parameters(self, parameters: list[Parameter]) -> None:
        for parameter in parameters:
            if parameter.name == 'checkpoint_path':
                self.desk.request(parameter.value)

    def destroy_node(self) -> None:
        """End what loads and watches checkpoints, then destroy the node."""
        self.desk.close()
        super().destroy_node()

    def _diagnose_control(self) -> tuple[bytes, str, dict]:
        values = {
            'ticks': self._monitor.ticks, 'late': self._monitor.late,
            'missed': self._monitor.missed, 'commands': self._commands, 'holds': self._holds,
            'image_age_ms': f'{1e3 * self._input.age_s():.0f}' if self._input.stamp_ns else 'none',
            'images_from_the_future': self._input.future,
            'inference_p50_ms': self._inference.milliseconds(50),
            'inference_p99_ms': self._inference.milliseconds(99),
            'latency_p50_ms': self._latency.milliseconds(50),
            'latency_p99_ms': self._latency.milliseconds(99),
            'lateness_p99_ms': self._lateness.milliseconds(99),
            'lateness_worst_ms': self._lateness.milliseconds(100),
        }
        if self.refusal:
            return ERROR, self.refusal, values
        if self.active and self._hold_reason:
            return WARN, f'holding: {self._hold_reason}', values
        return OK, 'acting' if self.active else 'not active', values


def main(args: list[str] | None = None) -> int:
    """Run the node until Ctrl-C."""
    cv2.setNumThreads(1)  # the other cores are the rest of the stack's
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    return spin_node(PolicyNode, args)


if __name__ == '__main__':
    sys.exit(main())
