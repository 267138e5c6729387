"""Keep goal images: publish the active one, capture new ones from the camera."""

import sys

import cv2
from geometry_msgs.msg import PoseStamped
from rcl_interfaces.msg import SetParametersResult
from rclpy.node import Node
from rclpy.parameter import Parameter
from sensor_msgs.msg import Image
from stable_crl_ros.goal_sequence import GoalSequence
from stable_crl_ros.goals import check_goal_name, DEFAULT_DIRECTORY, Goal, GoalError, GoalStore
from stable_crl_ros.nodes.common import (
    Diagnostics,
    LATCHED,
    param,
    spin_node,
    value,
)
from stable_crl_ros.nodes.conversions import image_to_message, to_nanoseconds
from stable_crl_ros.nodes.goal_sequencer import GoalSequencer
from stable_crl_ros.nodes.goal_view import GoalView
from stable_crl_ros.nodes.image_input import ImageInput
from stable_crl_ros.nodes.messages import decode_ee_pose
from std_srvs.srv import Trigger

POSE_TOLERANCE_NS = 500_000_000  # an arm pose further from the image than this is not its pose
NO_GOALS = ['']  # an empty list has no type


class GoalNode(Node):
    """
    Publish `active_goal` on the latched topic `goal/image`; its `frame_id` is the goal's name.

    `goals` are published one after another, see `GoalSequencer`. `active_goal` always names the
    published goal; setting it ends the sequence, and setting `goals` begins another. Both are
    refused as a whole where one goal cannot be used, with the list of goals when there is none
    of that name.

    `~/capture` stores the newest camera image as `goal_name` and answers with the path.

    :raises GoalError: for goals or a `goal_name` that are not valid.
    """

    def __init__(self, **kwargs) -> None:
        super().__init__('goal', enable_logger_service=True, **kwargs)
        self._declare()
        self._input = ImageInput(self)
        self._view = GoalView(self, self._input)
        self._pose: PoseStamped | None = None
        self._prepared: list[Goal] = []  # what the last request asks for, loaded
        self._settling = False
        self._sequencer = GoalSequencer(self, self._show)
        self._create_topics()
        given = self.get_parameters(['goal_name', 'active_goal', 'goals'])
        check = self._check(given)
        if not check.successful:
            raise GoalError(check.reason)
        self.add_on_set_parameters_callback(self._check)
        self.add_post_set_parameters_callback(self._apply)
        self._apply(given)

    def _declare(self) -> None:
        param(self, 'goal_directory', DEFAULT_DIRECTORY, 'Where goals are saved and looked up')
        param(self, 'goal_name', '', 'Name of the next captured goal; empty for goal_NNNN')
        param(self, 'active_goal', '', 'Goal to publish: a name, or the path of a picture')
        param(self, 'goals', NO_GOALS, 'Goals to publish one after another, instead of '
              'active_goal; each a name, or the path of a picture')
        param(self, 'max_image_age', 1.0, 'Oldest image to capture as a goal (s)', low=0.0)

    def _create_topics(self) -> None:
        self._publisher = self.create_publisher(Image, 'goal/image', LATCHED)
        self.create_subscription(PoseStamped, 'ee_pose', self._on_pose, 10)
        self.create_service(Trigger, '~/capture', self._on_capture)
        diagnostics = Diagnostics(self)
        diagnostics.add('view', self._view.diagnose)
        diagnostics.add('sequence', self._sequencer.diagnose)

    def _store(self) -> GoalStore:
        return GoalStore(value(self, 'goal_directory'))

    def _check(self, parameters: list[Parameter]) -> SetParametersResult:
        if self._settling:
            return SetParametersResult(successful=True)
        wanted = {parameter.name: parameter.value for parameter in parameters}
        try:
            self._prepared = self._prepare(wanted)
        except GoalError as error:
            return SetParametersResult(successful=False, reason=str(error))
        return SetParametersResult(successful=True)

    def _prepare(self, wanted: dict) -> list[Goal]:
        """
        Load all goals that are asked for.

        :raises GoalError: when one of them, or the combination, is not valid.
        """
        store = GoalStore(wanted.get('goal_directory') or value(self, 'goal_directory'))
        if wanted.get('goal_name'):
            check_goal_name(wanted['goal_name'])
        active, names = wanted.get('active_goal'), _named(wanted.get('goals'))
        if active and names:
            raise GoalError('active_goal is one goal and goals are several; set one of them')
        if active is not None and not active and not names and value(self, 'active_goal'):
            raise GoalError('a published goal cannot be taken back; deactivate the policy, or '
                            f'choose one of {", ".join(store.names())}')
        loaded = [store.load(name) for name in names or ([active] if active else [])]
        for goal in loaded:
            if refusal := self._view.refusal(goal):
                raise GoalError(refusal)
        if names:
            GoalSequence(loaded, wanted.get('goals_loop', value(self, 'goals_loop')))
        elif wanted.get('goals_loop') and self._sequencer.sequence:
            GoalSequence(self._sequencer.sequence.goals, True)
        return loaded

    def _apply(self, parameters: list[Parameter]) -> None:
        if self._settling:
            return
        wanted = {parameter.name: parameter.value for parameter in parameters}
        if 'goals_loop' in wanted and self._sequencer.sequence:
            self._sequencer.sequence.loop = wanted['goals_loop']
        if _named(wanted.get('goals')):
            self._sequencer.begin(self._prepared)
        elif wanted.get('active_goal') or 'goals' in wanted:
            if self._sequencer.leave():
                self._settle(goals=NO_GOALS)
            if wanted.get('active_goal'):
                self._publish(self._prepared[0])

    def _settle(self, **values) -> None:
        # The parameters always name what is published.
        self._settling = True
        try:
            self.set_parameters([Parameter(name, value=new) for name, new in values.items()])
        finally:
            self._settling = False

    def _show(self, goal: Goal) -> None:
        self._publish(goal)
        self._settle(active_goal=str(goal.path.absolute()))

    def _publish(self, goal: Goal) -> None:
        stamp_ns = goal.metadata.get('stamp_ns', 0)
        self._publisher.publish(image_to_message(goal.image, stamp_ns, goal.name))
        self._view.watch(goal)
        self.get_logger().info(f'goal {goal.name}: {goal.path}, '
                               f'{goal.image.shape[1]}x{goal.image.shape[0]}')

    def _on_pose(self, message: PoseStamped) -> None:
        self._pose = message

    def _on_capture(self, request: Trigger.Request, response: Trigger.Response):
        problem = self._input.problem(value(self, 'max_image_age'))
        if problem:
            response.message = f'no goal captured: {problem}'
            return response
        try:
            goal = self._store().save(value(self, 'goal_name'), self._input.image(),
                                      self._metadata())
        except ValueError as error:
            response.message = f'no goal captured: {error}'
            return response
        response.success = True
        response.message = f'captured {goal.name}: {goal.path}'
        self.get_logger().info(response.message)
        return response

    def _metadata(self) -> dict:
        return {
            'camera': value(self, 'camera') or self._input.frame_id,
            'frame_id': self._input.frame_id,
            'topic': self._input.topic,
            'stamp_ns': self._input.stamp_ns,
            'ee_pose': self._arm_pose(),  # xyz (m) and quaternion xyzw in base_link, or None
        }

    def _arm_pose(self) -> list[float] | None:
        if self._pose is None:
            return None
        pose_ns = to_nanoseconds(self._pose.header.stamp)
        if abs(pose_ns - self._input.stamp_ns) > POSE_TOLERANCE_NS:
            return None
        return decode_ee_pose(self._pose).tolist()


def _named(goals: list[str] | None) -> list[str]:
    return [name for name in goals or [] if name]


def main(args: list[str] | None = None) -> int:
    """Run the node until Ctrl-C."""
    cv2.setNumThreads(1)  # comparing is no hurry, and the policy needs the other cores
    return spin_node(GoalNode, args)


if __name__ == '__main__':
    sys.exit(main())
