"""What the policy node says about its goal: how many steps to go, whether there, and done."""

from rcl_interfaces.msg import SetParametersResult
from stable_crl_ros.arrival import Arrival, ArrivalRule
from stable_crl_ros.calibration import Progress
from stable_crl_ros.nodes.common import COMMAND, ManagedNode, param, StartupError
from std_msgs.msg import Float64, String

PREFIX = 'done_'  # of the parameters that make the rule
RULE = ArrivalRule()


class ProgressOutput:
    """
    Publish the progress of every tick, and once per goal that it is reached.

    :param node: gets the parameters of the rule and `~/steps_to_go`, `~/at_goal`, `~/done`.
    """

    def __init__(self, node: ManagedNode) -> None:
        self._node = node
        param(node, 'done_threshold', RULE.threshold,
              'Probability of being at the goal from which a tick counts', low=0.0, high=1.0)
        param(node, 'done_release', RULE.release, 'Probability below which the count starts anew, '
              'at most done_threshold', low=0.0, high=1.0)
        param(node, 'done_ticks', RULE.ticks, 'Ticks to be counted until the goal is reached',
              low=1, high=10_000)
        try:
            self._arrival = Arrival(self._rule({}))
        except ValueError as error:
            raise StartupError(str(error)) from error
        self._steps = node.create_lifecycle_publisher(Float64, '~/steps_to_go', 10)
        self._odds = node.create_lifecycle_publisher(Float64, '~/at_goal', 10)
        self._done = node.create_lifecycle_publisher(String, '~/done', COMMAND)
        node.add_on_set_parameters_callback(self._check)
        node.add_post_set_parameters_callback(self._apply)

    def reset(self) -> None:
        """Begin anew, for another goal or another try."""
        self._arrival.reset()

    def publish(self, progress: Progress, goal: str) -> bool:
        """
        Take what the policy made of one image.

        :param progress: NaN where nothing knows it.
        :param goal: its name, for the announcement.
        :returns: whether the goal counts as reached.
        """
        if progress.steps_to_go == progress.steps_to_go:  # a number
            self._steps.publish(Float64(data=progress.steps_to_go))
            self._odds.publish(Float64(data=progress.at_goal))
        if self._arrival.update(progress.at_goal):
            self._done.publish(String(data=goal))
            self._node.get_logger().info(f'goal {goal or "without a name"} reached')
        return self._arrival.done

    def _rule(self, changes: dict) -> ArrivalRule:
        names = (f'{PREFIX}{name}' for name in ('threshold', 'release', 'ticks'))
        return ArrivalRule(*(changes.get(name, self._node.get_parameter(name).value)
                             for name in names))

    def _check(self, parameters: list) -> SetParametersResult:
        changes = {one.name: one.value for one in parameters if one.name.startswith(PREFIX)}
        try:
            self._rule(changes)
        except ValueError as error:
            return SetParametersResult(successful=False, reason=str(error))
        return SetParametersResult(successful=True)

    def _apply(self, parameters: list) -> None:
        if any(one.name.startswith(PREFIX) for one in parameters):
            self._arrival.rule = self._rule({})
