"""Keep goal images: publish the active one, capture new ones from the camera."""

import sys

from geometry_msgs.msg import PoseStamped
from rcl_interfaces.msg import SetParametersResult
from rclpy.node import Node
from rclpy.parameter import Parameter
from sensor_msgs.msg import Image
from stable_crl_ros.goals import check_goal_name, DEFAULT_DIRECTORY, GoalError, GoalStore
from stable_crl_ros.nodes.common import LATCHED, param, spin_node, value
from stable_crl_ros.nodes.conversions import image_to_message, to_nanoseconds
from stable_crl_ros.nodes.image_input import ImageInput
from stable_crl_ros.nodes.messages import decode_ee_pose
from std_srvs.srv import Trigger

POSE_TOLERANCE_NS = 500_000_000  # an arm pose further from the image than this is not its pose


class GoalNode(Node):
    """
    Publish `active_goal` on the latched topic `goal/image`; its `frame_id` is the goal's name.

    Setting `active_goal` is refused with the list of goals when there is none of that name.
    `~/capture` stores the newest camera image as `goal_name` and answers with the path.

    :raises GoalError: for an `active_goal` or `goal_name` that is not valid.
    """

    def __init__(self, **kwargs) -> None:
        super().__init__('goal', enable_logger_service=True, **kwargs)
        param(self, 'goal_directory', DEFAULT_DIRECTORY, 'Where goals are saved and looked up')
        param(self, 'goal_name', '', 'Name of the next captured goal; empty for goal_NNNN')
        param(self, 'active_goal', '', 'Goal to publish: a name, or the path of a picture')
        param(self, 'max_image_age', 1.0, 'Oldest image to capture as a goal (s)', low=0.0)
        self._input = ImageInput(self)
        self._pose: PoseStamped | None = None
        self._publisher = self.create_publisher(Image, 'goal/image', LATCHED)
        self.create_subscription(PoseStamped, 'ee_pose', self._on_pose, 10)
        self.create_service(Trigger, '~/capture', self._on_capture)
        check = self._check(self.get_parameters(['goal_name', 'active_goal']))
        if not check.successful:
            raise GoalError(check.reason)
        self.add_on_set_parameters_callback(self._check)
        self.add_post_set_parameters_callback(self._apply)
        if value(self, 'active_goal'):
            self._publish(value(self, 'active_goal'))

    def _store(self) -> GoalStore:
        return GoalStore(value(self, 'goal_directory'))

    def _check(self, parameters: list[Parameter]) -> SetParametersResult:
        wanted = {parameter.name: parameter.value for parameter in parameters}
        try:
            store = GoalStore(wanted.get('goal_directory') or value(self, 'goal_directory'))
            if wanted.get('goal_name'):
                check_goal_name(wanted['goal_name'])
            if wanted.get('active_goal'):
                store.load(wanted['active_goal'])
            elif 'active_goal' in wanted and value(self, 'active_goal'):
                raise GoalError('a published goal cannot be taken back; deactivate the policy, or '
                                f'choose one of {", ".join(store.names())}')
        except GoalError as error:
            return SetParametersResult(successful=False, reason=str(error))
        return SetParametersResult(successful=True)

    def _apply(self, parameters: list[Parameter]) -> None:
        for parameter in parameters:
            if parameter.name == 'active_goal' and parameter.value:
                self._publish(parameter.value)

    def _publish(self, name: str) -> None:
        goal = self._store().load(name)
        stamp_ns = goal.metadata.get('stamp_ns', 0)
        self._publisher.publish(image_to_message(goal.image, stamp_ns, goal.name))
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
            image = self._input.image()
            goal = self._store().save(value(self, 'goal_name'), image, self._metadata(image))
        except ValueError as error:
            response.message = f'no goal captured: {error}'
            return response
        response.success = True
        response.message = f'captured {goal.name}: {goal.path}'
        self.get_logger().info(response.message)
        return response

    def _metadata(self, image) -> dict:
        return {
            'camera': self._input.frame_id,
            'topic': self._input.topic,
            'image_spec': {'height': image.shape[0], 'width': image.shape[1]},
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


def main(args: list[str] | None = None) -> int:
    """Run the node until Ctrl-C."""
    return spin_node(GoalNode, args)


if __name__ == '__main__':
    sys.exit(main())
