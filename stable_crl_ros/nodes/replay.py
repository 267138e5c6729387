"""Replay a recorded episode on the simulated or real arm, through the arm node's own checks."""

from collections.abc import Callable
from functools import reduce
from operator import or_
import os
import time

from geometry_msgs.msg import TwistStamped
import numpy as np
import rclpy
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from sensor_msgs.msg import JointState
from stable_crl_ros.data.episode import Episode
from stable_crl_ros.environment import ros_environment
from stable_crl_ros.nodes.client import Client
from stable_crl_ros.nodes.common import COMMAND, LATCHED
from stable_crl_ros.nodes.messages import (
    AppliedAction,
    decode_applied_action,
    decode_joint_states,
    encode_command,
)
from stable_crl_ros.patience import wait_until
from stable_crl_ros.robot.arm import ArmState
from stable_crl_ros.robot.kinematics import forward_kinematics
from stable_crl_ros.robot.playback import distance, Plan, ReplayError, ReplayReport
from stable_crl_ros.robot.safety import flag_names
from std_msgs.msg import Float64, Float64MultiArray, String

TOLERANCE_M, TOLERANCE_RAD = 0.02, 0.15  # of the tool, from the recorded start
MEETING_S = 5.0  # for the arm's topics to be found
ANSWER_S = 1.0  # for the arm to say what it did with a command
SETTLE_S = 0.3  # from the last command to the last look
RATE_TOLERANCE = 1e-3  # Hz
POLICY = 'policy'  # the managed node that steers


def replay(episode: Episode, namespace: str = 'widowx', speed: float = 1.0,
           move_first: bool = False, tolerance_m: float = TOLERANCE_M,
           tolerance_rad: float = TOLERANCE_RAD,
           progress: Callable[[int, int], None] | None = None) -> ReplayReport:
    """
    Send an episode's applied actions to a running, active arm, as a policy would.

    The arm node clips and refuses as ever, an operator overrides as ever, and silence stops it.
    Slower than recorded, each step is sent in parts where its slowness makes room for them, so
    that the arm itself moves more slowly.

    :param namespace: of the stack that holds the arm.
    :param speed: 1 as recorded, 0.5 half as fast; faster is refused.
    :param move_first: bring the arm to the recorded start with `arm/home`, on its checked path.
    :param tolerance_m: largest distance of the tool from the recorded start.
    :param tolerance_rad: largest angle between the gripper and the recorded one there.
    :param progress: told the steps sent and their number.
    :raises ReplayError: when it must not begin, or ended early; says at which step and why.
    :raises ClientError: when no arm answers.
    """
    plan = Plan.of(episode, speed)
    os.environ.update(ros_environment())
    context = Context()
    rclpy.init(context=context)
    try:
        with Client(namespace) as client:
            _check_arm(client, plan)
            player = Player(namespace, context)
            try:
                player.meet()
                for name in player.rivals():
                    if client.state(name) == 'active':
                        raise ReplayError(f'{name} is active and would steer too; deactivate it '
                                          'first')
                if move_first:
                    _move_to(client, player, plan)
                player.check_start(plan, tolerance_m, tolerance_rad)
                return player.play(plan, progress)
            finally:
                player.close()
    finally:
        rclpy.try_shutdown(context=context)


def _check_arm(client: Client, plan: Plan) -> None:
    if client.state('arm') != 'active':
        raise ReplayError(f'the arm is {client.state("arm")}; activate it first')
    rate = client.get_parameter('arm', 'control_rate')
    if abs(rate - 1.0 / plan.period_s) > RATE_TOLERANCE:
        raise ReplayError(f'{plan.name} was recorded at {1.0 / plan.period_s:g} Hz, the arm runs '
                          f'at {rate:g} Hz and would move {rate * plan.period_s:.2g} times as '
                          f'fast; start it with control_rate:={1.0 / plan.period_s:.1f}')


def _move_to(client: Client, player: 'Player', plan: Plan) -> None:
    """Move to the recorded start as `arm/home` moves, which checks the path."""
    joints = plan.joints[0].astype(float)
    if not np.isfinite(joints).all():
        raise ReplayError(f'{plan.name}: the joints at the start were not recorded; move the arm '
                          'there by hand or teleoperation')
    home = client.get_parameter('arm', 'home_joints')
    _set_home(client, joints)
    try:
        moving, answer = client.call('arm/home')
    finally:
        _set_home(client, home)
    if not moving:
        raise ReplayError(f'the arm does not move to the recorded start: {answer}')
    player.wait_until_ready()


def _set_home(client: Client, joints) -> None:
    text = ', '.join(f'{angle:.9f}' for angle in joints)
    taken, reason = client.set_parameter('arm', 'home_joints', text)
    if not taken:
        raise ReplayError(f'arm home_joints: {reason}')


class Player(Node):
    """
    Send the commands of a plan, and watch what the arm makes of them.

    :param context: an initialised context that is this node's own.
    """

    def __init__(self, namespace: str, context: Context) -> None:
        super().__init__('replay', namespace=namespace, context=context)
        self.mode = ''
        self._state: ArmState | None = None
        self._answers: dict[int, AppliedAction] = {}
        self._strangers = 0  # commands of somebody else that the arm executed
        self._sent: set[int] = set()
        self._twists = self.create_publisher(TwistStamped, 'delta_twist_cmds', COMMAND)
        self._grippers = self.create_publisher(Float64, 'gripper_cmd', COMMAND)
        self.create_subscription(JointState, 'joint_states', self._on_joints, 10)
        self.create_subscription(Float64MultiArray, 'applied_action', self._on_applied, 50)
        self.create_subscription(String, 'mode', self._on_mode, LATCHED)
        self._executor = SingleThreadedExecutor(context=context)
        self._executor.add_node(self)

    def close(self) -> None:
        """Send nothing more, which makes the arm hold."""
        self._executor.shutdown()
        self.destroy_node()

    def meet(self) -> None:
        """
        Wait until the arm is heard and hears.

        :raises ReplayError: when it stays silent.
        """
        if not self._comes(lambda: self._state is not None and self.mode and all(
                topic.get_subscription_count() for topic in (self._twists, self._grippers)),
                MEETING_S):
            raise ReplayError(f'no arm publishes {self.resolve_topic_name("joint_states")}')
        self._spin(SETTLE_S)

    def rivals(self) -> list[str]:
        """Return the policies that could send commands as well."""
        return sorted({info.node_name for info in self.get_publishers_info_by_topic(
            self._twists.topic_name) if info.node_name == POLICY})

    def wait_until_ready(self) -> None:
        """
        Wait until the arm has ended a move of its own.

        :raises ReplayError: when it was stopped on the way.
        """
        self._spin(SETTLE_S)
        while self.mode == 'resetting':
            self._spin(0.05)
        if self.mode != 'ready':
            raise ReplayError(f'the arm did not reach the start, it is {self.mode}; call '
                              'arm/resume')
        self._spin(SETTLE_S)

    def check_start(self, plan: Plan, tolerance_m: float, tolerance_rad: float) -> None:
        """
        Refuse to begin elsewhere than the recording did.

        :raises ReplayError: saying how far away the arm is.
        """
        if self.mode != 'ready':
            raise ReplayError(f'the arm is {self.mode}; it must be ready: let go of it, or call '
                              'arm/resume')
        apart_m, apart_rad = distance(self._pose(), plan.poses[0])
        if apart_m > tolerance_m or apart_rad > tolerance_rad:
            raise ReplayError(
                f'the tool is {1e3 * apart_m:.0f} mm and {apart_rad:.2f} rad from where '
                f'{plan.name} began (at most {1e3 * tolerance_m:.0f} mm and {tolerance_rad:.2f} '
                'rad); let it be moved there first, or move it by teleoperation')

    def play(self, plan: Plan, progress: Callable[[int, int], None] | None = None) -> ReplayReport:
        """
        Send every step at its time; one that is late by more than an interval delays the others.

        :raises ReplayError: when the arm refuses a step, does not answer, or somebody else
            steers; the arm then holds.
        """
        report = ReplayReport(plan.name, len(plan.actions))
        self._strangers = 0
        start = due = time.monotonic()
        for step in range(len(plan.actions)):
            answers = []
            for _ in range(plan.parts):
                answers.append(self._send(plan, step))
                due += plan.interval_s
                self._wait(due)
                late = time.monotonic() - due
                due += late if late > plan.interval_s else 0.0  # the arm refuses what rushes
            flags = reduce(or_, (answer.flags for answer in answers))
            report.add(plan, [answer.applied for answer in answers], flags, self._pose())
            if progress is not None:
                progress(step + 1, report.of)
        report.seconds = time.monotonic() - start
        self._spin(SETTLE_S)
        return report

    def _send(self, plan: Plan, step: int) -> AppliedAction:
        action, stamp = plan.command(step), time.time_ns()
        self._sent.add(stamp)
        self._grippers.publish(Float64(data=float(action[6])))
        self._twists.publish(encode_command(action[:6], plan.period_s, stamp))
        if not self._comes(lambda: stamp in self._answers or self._strangers, ANSWER_S):
            raise ReplayError(f'step {step}: the arm did not answer within {ANSWER_S:g} s')
        if self._strangers:
            raise ReplayError(f'step {step}: somebody else steers the arm')
        answer = self._answers[stamp]
        if answer.refused:
            raise ReplayError(f'step {step}: the arm refused it: '
                              f'{", ".join(flag_names(answer.flags))}; it holds')
        return answer

    def _wait(self, due: float) -> None:
        self._spin(max(0.0, due - time.monotonic()))

    def _spin(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0.0:
            self._executor.spin_once(timeout_sec=min(left, 0.05))

    def _comes(self, condition: Callable[[], bool], seconds: float) -> bool:
        return bool(wait_until(condition, seconds,
                               lambda: self._executor.spin_once(timeout_sec=0.05)))

    def _pose(self) -> np.ndarray:
        return forward_kinematics(self._state.joint_positions)

    def _on_joints(self, message: JointState) -> None:
        self._state = decode_joint_states(message)

    def _on_mode(self, message: String) -> None:
        self.mode = message.data

    def _on_applied(self, message: Float64MultiArray) -> None:
        step = decode_applied_action(message)
        if step.capture_ns in self._sent:
            self._answers[step.capture_ns] = step
        elif not step.refused:
            self._strangers += 1
