"""Run the policy at a fixed rate: camera image + goal image -> one command for the arm."""

import json
import sys
import time

from geometry_msgs.msg import TwistStamped
import numpy as np
from rcl_interfaces.msg import SetParametersResult
from rclpy.parameter import Parameter
from sensor_msgs.msg import Image
from stable_crl_ros.checkpoint import CheckpointError
from stable_crl_ros.nodes.common import (
    COMMAND,
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
from stable_crl_ros.nodes.swap import Loaded, PolicyLoader, resolve_checkpoint
from stable_crl_ros.nodes.timing import Spread, TickMonitor
from stable_crl_ros.policy import peek_policy, Policy, PolicyError
from std_msgs.msg import Float64, Float64MultiArray, String
from std_srvs.srv import Trigger

LOADER_POLL_S = 0.02
RATE_TOLERANCE = 1e-3  # Hz


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
        self._encoded_goal: np.ndarray | None = None  # the one the running policy was given
        self._compared_goal: np.ndarray | None = None
        self._running: Loaded | None = None
        self._previous: Loaded | None = None
        self._loader = PolicyLoader(self._load)
        self._settling = False
        self._hold_reason, self._swap_error = '', ''
        self._monitor = TickMonitor(self._period_s)
        self._inference, self._latency = Spread(), Spread()
        self._commands, self._holds = 0, 0
        self._create_topics()
        self._timer = self.create_timer(self._period_s, self._tick, clock=steady_clock(),
                                        autostart=False)
        self._loader_timer = self.create_timer(LOADER_POLL_S, self._take_outcome,
                                               clock=steady_clock(), autostart=False)
        self.add_on_set_parameters_callback(self._check_parameters)
        self.add_post_set_parameters_callback(self._apply_parameters)

    def _declare(self) -> None:
        param(self, 'checkpoint_path', '', 'Trained .safetensors file; empty for the shipped one')
        rate = param(self, 'control_rate', 5.0, 'Commands per second (Hz), as in training',
                     low=0.5, high=50.0, read_only=True)
        param(self, 'max_image_age', 0.3, 'Never act on an older image (s)', low=0.01, high=10.0)
        param(self, 'device', 'cpu', 'Where to compute: cpu, cuda or cuda:N', read_only=True)
        param(self, 'threads', 1, 'CPU threads of the computation', low=1, high=256,
              read_only=True)
        self._period_s = 1.0 / rate

    def _create_topics(self) -> None:
        self.create_subscription(Image, 'goal/image', self._on_goal, LATCHED)
        self._twists = self.create_lifecycle_publisher(TwistStamped, 'delta_twist_cmds', COMMAND)
        self._grippers = self.create_lifecycle_publisher(Float64, 'gripper_cmd', COMMAND)
        self._ticks = self.create_lifecycle_publisher(Float64MultiArray, '~/tick', 50)
        self._progress = self.create_lifecycle_publisher(Float64, '~/progress', 10)
        self._checkpoint_id = self.create_publisher(String, '~/checkpoint_id', LATCHED)
        self._action_scale = self.create_publisher(String, '~/action_scale', LATCHED)
        self.create_service(Trigger, '~/rollback', self._on_rollback)
        diagnostics = Diagnostics(self)
        diagnostics.add('control', self._diagnose_control)
        diagnostics.add('checkpoint', self._diagnose_checkpoint)

    def setup(self) -> None:
        """Load the checkpoint."""
        path = value(self, 'checkpoint_path')
        self._take_over(Loaded(path, self._load(path)))

    def start(self) -> None:
        """Begin to act, on the last checkpoint asked for."""
        if self._goal is None:
            raise NotReadyError(f'no goal on {self.resolve_topic_name("goal/image")} yet; '
                                'set active_goal of the goal node')
        self._loader.wait()
        self._take_outcome()
        self._encode_goal()
        self._inference.clear()
        self._latency.clear()
        self._commands, self._holds = 0, 0
        self._monitor.start(time.monotonic())
        self._timer.reset()

    def stop(self) -> None:
        """Cease to act."""
        self._timer.cancel()
        self._hold_reason = ''

    def teardown(self) -> None:
        """Let go of every policy."""
        self._loader.cancel()
        self._loader_timer.cancel()
        self._running = self._previous = self._encoded_goal = None

    def _tick(self) -> None:
        lateness_s = self._monitor.tick(time.monotonic())
        self._hold_reason = self._act(lateness_s)
        if self._hold_reason:
            self._holds += 1
            self.get_logger().warning(f'holding: {self._hold_reason}', throttle_duration_sec=2.0)

    def _act(self, lateness_s: float) -> str:
        # One command, or the reason for none.
        problem = self._input.problem(value(self, 'max_image_age'))
        if problem:
            return problem
        stamp_ns, age_s, policy = self._input.stamp_ns, self._input.age_s(), self._running.policy
        try:
            self._encode_goal()
            start_s = time.monotonic()
            image = self._input.image()
            self._compare_views(image)
            action, progress = policy.step(image)
        except (ValueError, RuntimeError) as error:  # the image, the policy, or its device
            return str(error)
        inference_s = time.monotonic() - start_s
        self._inference.add(inference_s)
        self._command(action, stamp_ns)
        self._ticks.publish(encode_tick(PolicyTick(
            stamp_ns, action, policy.checkpoint_id, progress, image_age_s=age_s,
            inference_s=inference_s, lateness_s=lateness_s)))
        if np.isfinite(progress):
            self._progress.publish(Float64(data=progress))
        return ''

    def _command(self, action: np.ndarray, stamp_ns: int) -> None:
        # The gripper first: the arm takes it together with the twist of the same tick.
        self._grippers.publish(Float64(data=float(action[6])))
        self._twists.publish(encode_command(action[:6], self._period_s, stamp_ns))
        self._commands += 1
        self._latency.add((self.get_clock().now().nanoseconds - stamp_ns) * 1e-9)

    def _encode_goal(self) -> None:
        if self._encoded_goal is not self._goal:
            self._running.policy.set_goal(self._goal)
            self._encoded_goal = self._goal

    def _compare_views(self, image: np.ndarray) -> None:
        # Goal and camera are squashed to one size: of different proportions, they never match.
        goal, self._compared_goal = self._compared_goal, self._goal
        if goal is self._goal:
            return
        (height, width), (goal_height, goal_width) = image.shape[:2], self._goal.shape[:2]
        if abs(width * goal_height - height * goal_width) > 0.02 * width * goal_height:
            self.get_logger().warning(
                f'the goal is {goal_width}x{goal_height} but the camera gives {width}x{height}; '
                'take the goal with this camera')

    def _on_goal(self, message: Image) -> None:
        try:
            self._goal = message_to_image(message, self.resolve_topic_name('goal/image')).copy()
        except ValueError as error:
            self.get_logger().error(f'goal refused: {error}')
            return
        name = message.header.frame_id or 'without a name'
        self.get_logger().info(f'goal {name}, {message.width}x{message.height}')

    def _load(self, path: str) -> Policy:
        # Called in the loader's thread too: reads state, changes none.
        policy = Policy.load(resolve_checkpoint(path), value(self, 'device'),
                             value(self, 'threads'))
        rate = value(self, 'control_rate')
        if policy.control_rate is not None and abs(policy.control_rate - rate) > RATE_TOLERANCE:
            raise PolicyError(
                f'{resolve_checkpoint(path)}: its actions are steps at {policy.control_rate:g} '
                f'Hz; at {rate:g} Hz the arm would move {rate / policy.control_rate:.2g} times '
                f'as fast; start with control_rate:={policy.control_rate:.1f}')
        policy.warm_up()
        goal = self._goal
        if goal is not None:
            policy.set_goal(goal)
            policy.step(goal)  # refuses an output that is not finite
        return policy

    def _take_over(self, loaded: Loaded) -> None:
        self._running, self._encoded_goal, self._swap_error = loaded, None, ''
        sha256 = loaded.policy.metadata['sha256']
        self._action_scale.publish(String(data=json.dumps(
            {'checkpoint': sha256, **loaded.policy.action_scale.to_dict()})))
        self._checkpoint_id.publish(String(data=sha256))
        self.get_logger().info(f'checkpoint {loaded.policy.checkpoint_id} '
                               f'({loaded.policy.algorithm}): {resolve_checkpoint(loaded.path)}')
        self._settle(loaded.path)

    def _settle(self, path: str) -> None:
        # The parameter always names what runs, also after a refusal and a rollback.
        if value(self, 'checkpoint_path') != path:
            self._settling = True
            try:
                self.set_parameters([Parameter('checkpoint_path', value=path)])
            finally:
                self._settling = False

    def _check_parameters(self, parameters: list[Parameter]) -> SetParametersResult:
        for parameter in parameters:
            if parameter.name == 'checkpoint_path' and not self._settling:
                try:
                    peek_policy(resolve_checkpoint(parameter.value))
                except CheckpointError as error:
                    return SetParametersResult(successful=False, reason=str(error))
        return SetParametersResult(successful=True)

    def _apply_parameters(self, parameters: list[Parameter]) -> None:
        for parameter in parameters:
            if parameter.name == 'checkpoint_path' and self._running and not self._settling:
                self._loader.request(parameter.value)
                self._loader_timer.reset()

    def _take_outcome(self) -> None:
        outcome = self._loader.take()
        if outcome is None:
            return
        self._loader_timer.cancel()
        if outcome.policy is None:
            self._swap_error = f'kept {self._running.policy.checkpoint_id}: {outcome.error}'
            self.get_logger().error(self._swap_error)
            self._settle(self._running.path)
            return
        self._previous = self._running
        self._take_over(Loaded(outcome.path, outcome.policy))

    def _on_rollback(self, request: Trigger.Request, response: Trigger.Response):
        if self._previous is None:
            response.message = 'there is no earlier checkpoint to go back to'
            return response
        self._loader.cancel()
        self._loader_timer.cancel()
        self._previous, back = self._running, self._previous
        self._take_over(back)
        response.success = True
        response.message = f'back to {back.policy.checkpoint_id}: {resolve_checkpoint(back.path)}'
        return response

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
        }
        if self.refusal:
            return ERROR, self.refusal, values
        if self.active and self._hold_reason:
            return WARN, f'holding: {self._hold_reason}', values
        return OK, 'acting' if self.active else 'not active', values

    def _diagnose_checkpoint(self) -> tuple[bytes, str, dict]:
        if self._running is None:
            return OK, 'none loaded', {}
        policy = self._running.policy
        values = {'id': policy.checkpoint_id, 'path': resolve_checkpoint(self._running.path),
                  'algorithm': policy.algorithm, 'loading': self._loader.busy}
        if self._swap_error:
            return WARN, self._swap_error, values
        return OK, policy.checkpoint_id, values


def main(args: list[str] | None = None) -> int:
    """Run the node until Ctrl-C."""
    return spin_node(PolicyNode, args)


if __name__ == '__main__':
    sys.exit(main())
