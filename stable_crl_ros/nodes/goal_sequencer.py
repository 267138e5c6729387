"""Show several goals one after another: what brings the next one, and what is told of it."""

from collections.abc import Callable, Sequence
import time

from rclpy.node import Node
from rclpy.task import Future
from stable_crl_ros.data.schema import Mode
from stable_crl_ros.goal_sequence import ActingTime, GoalSequence, SKIPPED, TIMED_OUT
from stable_crl_ros.goals import Goal
from stable_crl_ros.nodes.common import answer, OK, param, value, WARN
from stable_crl_ros.nodes.messages import decode_applied_action, MessageError
from stable_crl_ros.robot.flags import StepFlag
from std_msgs.msg import Float64MultiArray, String
from std_srvs.srv import Trigger

NEXT, STOP = 'next', 'stop'


class GoalSequencer:
    """
    Move on when `policy/done` names the active goal, on `~/next`, or after `goal_timeout`.

    Only the time counts in which the arm follows the policy, as `applied_action` tells: neither
    that of an inactive policy, nor of a stopped arm, nor of an operator who steers.

    :param node: gets the parameters, topics and services.
    :param show: publishes a goal.
    """

    def __init__(self, node: Node, show: Callable[[Goal], None]) -> None:
        self._node, self._show = node, show
        self.sequence: GoalSequence | None = None
        self._advanced = {}  # why and when the sequence came to where it is
        self._level = OK
        self._time = ActingTime()
        param(node, 'goals_loop', False, 'Begin again after the last of goals')
        param(node, 'goal_timeout', 0.0, 'Time the policy may act on each of goals (s); 0: until '
              'it is reached', low=0.0)
        param(node, 'on_timeout', NEXT, 'After that time: the next goal, or stop the arm (as '
              'arm/stop does) and stay', choices=(NEXT, STOP))
        node.create_subscription(String, 'policy/done', self._on_done, 10)
        node.create_subscription(Float64MultiArray, 'applied_action', self._on_applied, 10)
        node.create_service(Trigger, '~/next', self._on_next)
        node.create_service(Trigger, '~/previous', self._on_previous)
        self._stop = node.create_client(Trigger, 'arm/stop')

    def begin(self, goals: Sequence[Goal]) -> None:
        """Show the first of some goals; a sequence that runs is left."""
        self.sequence = GoalSequence(goals, value(self._node, 'goals_loop'))
        self._move('begun')

    def leave(self) -> bool:
        """Follow no sequence any more; returns whether there was one."""
        if self.sequence is None:
            return False
        self._node.get_logger().info(f'sequence of goals left at {self.sequence.place}')
        self.sequence = None
        return True

    def diagnose(self) -> tuple[bytes, str, dict]:
        """Return what /diagnostics shows."""
        sequence = self.sequence
        if sequence is None:
            return OK, 'none', {}
        values = {'index': sequence.index + 1, 'count': sequence.count,
                  'goals': ', '.join(goal.name for goal in sequence.goals),
                  'loop': sequence.loop, 'finished': sequence.finished, **self._advanced,
                  'acted_s': f'{sequence.seconds:.1f}', **sequence.told()}
        state = self._advanced['why']
        if sequence.finished:
            state = f'the last: {sequence.last}'
        return self._level, f'{sequence.place}: {sequence.active.name} ({state})', values

    def _note(self, why: str, level: bytes = OK) -> None:
        self._advanced = {'why': why, 'stamp_ns': self._node.get_clock().now().nanoseconds}
        self._level = level

    def _say(self, text: str) -> None:
        logger = self._node.get_logger()
        if self._level == WARN:
            logger.warning(text)
        else:
            logger.info(text)

    def _move(self, why: str, level: bytes = OK) -> None:
        self._note(why, level)
        self._say(f'{self.sequence.place}: {self.sequence.active.name} ({why})')
        self._show(self.sequence.active)

    def _on_done(self, message: String) -> None:
        if self.sequence is not None and self.sequence.reached(message.data):
            self._go_on(message.data)

    def _on_applied(self, message: Float64MultiArray) -> None:
        try:
            step = decode_applied_action(message)
        except MessageError as error:
            self._node.get_logger().warning(f'ignored {error}', throttle_duration_sec=5.0)
            return
        followed = step.mode is Mode.POLICY and not step.flags & StepFlag.OVERRIDDEN
        seconds = self._time.step(followed, time.monotonic())
        limit_s = value(self._node, 'goal_timeout')
        if self.sequence is None or self.sequence.finished:
            return
        self.sequence.seconds += seconds
        if 0.0 < limit_s <= self.sequence.seconds:
            self._time_is_up()

    def _time_is_up(self) -> None:
        name = self.sequence.active.name
        if value(self._node, 'on_timeout') == STOP:
            self._note(f'{name} {self.sequence.give_up()}; stopping the arm', WARN)
            self._stop_arm()
        elif self.sequence.end(TIMED_OUT):
            self._go_on(name)

    def _go_on(self, name: str) -> None:
        """Show what follows a goal that has just ended, and say how that one did."""
        sequence = self.sequence
        why = f'{name} {sequence.last}'
        level = WARN if sequence.last.how == TIMED_OUT else OK
        if not sequence.finished:
            self._move(why, level)
            return
        self._note(why, level)
        self._say(f'{sequence.place}, the last: {why}; it stays. All: {sequence.summary()}')

    def _stop_arm(self) -> None:
        self._say(f'{self.sequence.place}: {self._advanced["why"]}')
        if self._stop.service_is_ready():
            self._stop.call_async(Trigger.Request()).add_done_callback(self._on_stopped)
        else:
            self._node.get_logger().error('there is no arm/stop to call; the policy goes on')

    def _on_stopped(self, future: Future) -> None:
        response = future.result()
        if response is not None and response.success:
            self._node.get_logger().warning(
                'the arm is stopped: call arm/resume to try this goal again, goal/next before '
                'it for the next one')
        else:
            self._node.get_logger().error('arm/stop failed'
                                          + (f': {response.message}' if response else ''))

    def _on_next(self, _, response: Trigger.Response) -> Trigger.Response:
        return self._step(1, response)

    def _on_previous(self, _, response: Trigger.Response) -> Trigger.Response:
        return self._step(-1, response)

    def _step(self, by: int, response: Trigger.Response) -> Trigger.Response:
        sequence = self.sequence
        if sequence is None:
            return answer(self._node, response, False, 'there is no sequence of goals; set goals, '
                          'such as [drawer_open, drawer_closed]')
        name = sequence.active.name
        if not sequence.step(by, SKIPPED if by > 0 else None):
            which = 'last' if by > 0 else 'first'
            return answer(self._node, response, False, f'{name} is the {which} of '
                          f'{sequence.count} goals; it stays (goals_loop is '
                          f'{str(sequence.loop).lower()})')
        self._move('~/next' if by > 0 else '~/previous')
        response.success = True
        response.message = f'{sequence.place}: {sequence.active.name}'
        return response
