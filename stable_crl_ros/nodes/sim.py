"""The simulated robot: one world, offered as the arm and camera nodes that a real one has."""

from collections.abc import Callable
import sys

from geometry_msgs.msg import PoseStamped
import numpy as np
from rclpy.node import Node
from rclpy.parameter import Parameter
from stable_crl_ros.nodes.arm import ArmNode
from stable_crl_ros.nodes.camera import CameraNode
from stable_crl_ros.nodes.common import (
    answer,
    param,
    REFUSALS,
    spin_node,
    steady_clock,
    value,
)
from stable_crl_ros.nodes.messages import FRAME
from stable_crl_ros.sim.driver import SimArm, SimCamera
from stable_crl_ros.sim.tasks import task_named, TASKS
from stable_crl_ros.sim.world import World, WorldState
from std_msgs.msg import Float64
from std_srvs.srv import Trigger

TRUTH_RATE = 10.0  # Hz


class SimNode(Node):
    """
    Put the simulated scene back, and publish where drawer and block really are.

    Each `~/reset` draws the next start scene of `task`; setting `seed` begins the draws anew, and
    `randomise` off always gives the first. The world is reset once at the start too.

    :param world: shared with the arm and the camera; closed with this node.
    :param moving: whether the arm moves, so that the scene must not be changed.
    :param place: puts arm and scene where a state says; returns what is to be said about it.
    """

    def __init__(self, world: World, moving: Callable[[], bool],
                 place: Callable[[WorldState], str], **kwargs) -> None:
        super().__init__('sim', enable_logger_service=True, **kwargs)
        self._world, self._moving, self._place = world, moving, place
        param(self, 'task', 'open_drawer', 'Whose start scenes are drawn', choices=tuple(TASKS))
        param(self, 'seed', 0, 'Of the start scenes', low=0)
        param(self, 'randomise', True, 'Draw another scene at every reset')
        self._drawer = self.create_publisher(Float64, '~/drawer_opening', 10)
        self._block = self.create_publisher(PoseStamped, '~/block_pose', 10)
        self.create_service(Trigger, '~/reset', self._on_reset)
        self.create_timer(1.0 / TRUTH_RATE, self._publish_truth, clock=steady_clock())
        self.add_post_set_parameters_callback(self._begin_anew)
        self._rng = np.random.default_rng(value(self, 'seed'))
        self.get_logger().info(self._reset())

    def _begin_anew(self, parameters: list[Parameter]) -> None:
        if any(parameter.name in ('seed', 'task') for parameter in parameters):
            self._rng = np.random.default_rng(value(self, 'seed'))

    def _on_reset(self, _, response: Trigger.Response) -> Trigger.Response:
        try:
            if self._moving():
                raise RuntimeError('the arm is moving under command; deactivate the policy, or '
                                   'call arm/stop, then reset')
            return answer(self, response, True, self._reset())
        except REFUSALS as error:
            return answer(self, response, False, f'not reset: {error}')

    def _reset(self) -> str:
        task, seed = task_named(value(self, 'task')), value(self, 'seed')
        if not value(self, 'randomise'):
            self._rng = np.random.default_rng(seed)
        start = task.sample_start(self._rng)
        said = self._place(start)
        return f'scene of {task.name}, seed {seed}: drawer {start.drawer:.3f} m open{said}'

    def _publish_truth(self) -> None:
        state = self._world.snapshot()
        self._drawer.publish(Float64(data=state.drawer))
        message = PoseStamped()
        message.header.stamp, message.header.frame_id = self.get_clock().now().to_msg(), FRAME
        position, turn = message.pose.position, message.pose.orientation
        position.x, position.y, position.z = state.block
        turn.z, turn.w = float(np.sin(state.block_yaw / 2)), float(np.cos(state.block_yaw / 2))
        self._block.publish(message)

    def destroy_node(self) -> None:
        """Close the world, which no other node may use any more, then destroy the node."""
        self._world.close()
        super().destroy_node()


def make_nodes(**kwargs) -> list[Node]:
    """
    Make the arm, camera and sim nodes of one simulated world.

    :returns: in the order in which they must be destroyed.
    :raises stable_crl_ros.cameras.CameraError: without a working GL library.
    """
    world = World()
    given = kwargs.pop('parameter_overrides', [])
    made: list[Node] = []
    try:
        made.append(arm := ArmNode(SimArm(world), **kwargs, parameter_overrides=[
            *given, Parameter('driver', value='sim')]))

        def place(start: WorldState) -> str:
            arm.undisturbed(lambda: world.reset(start))
            return ''
        made.append(SimNode(world, lambda: arm.moving, place, **kwargs,
                            parameter_overrides=given))
        made.insert(1, CameraNode(SimCamera(world), **kwargs, parameter_overrides=given))
    except Exception:
        for node in made:
            node.destroy_node()
        world.close()
        raise
    return made


def main(args: list[str] | None = None) -> int:
    """Run the simulated robot until Ctrl-C."""
    return spin_node(make_nodes, args, simulates=True)


if __name__ == '__main__':
    sys.exit(main())
