"""The simulated robot behind its own servo bus: a port for the arm node, camera, truth, resets."""

import sys

from rclpy.node import Node
from stable_crl_ros import servo_bus
from stable_crl_ros.nodes.camera import CameraNode
from stable_crl_ros.nodes.common import param, spin_node, StartupError, steady_clock, value
from stable_crl_ros.nodes.sim import SimNode
from stable_crl_ros.sim.driver import SimCamera
from stable_crl_ros.sim.servo_arm import ServoWorld
from stable_crl_ros.sim.world import World

CHECK_S = 1.0


class ServoSimNode(SimNode):
    """
    The scene of a robot whose arm node lives in another process and drives its servo bus.

    A reset puts the arm at its start only until its motors first have torque; from then on servos
    and driver know where it is, so it stays.

    :param world: closed with this node.
    :param arm: what the servos turn.
    """

    def __init__(self, world: World, arm: ServoWorld, **kwargs) -> None:
        super().__init__(world, lambda: arm.moving, arm.place, **kwargs)
        self._arm = arm
        param(self, 'link', '', 'Symbolic link that leads to the port of the servo bus; empty for '
              'none, the log names the port', read_only=True)
        # In a process of its own: pictures must not delay what servos answer within 2 ms.
        self._bus = servo_bus.start(arm, link=value(self, 'link'))
        self.create_timer(CHECK_S, self._check, clock=steady_clock())
        self.get_logger().info(f'servo bus at {value(self, "link") or self._bus.port}')

    def _check(self) -> None:
        if self._arm.failure is not None:
            raise StartupError(f'the simulation stopped: {self._arm.failure}')
        if self._bus.process.poll() is not None:
            raise StartupError(f'the servo bus ended with status {self._bus.process.returncode}')

    def destroy_node(self) -> None:
        """Take the port away, then end the rest."""
        self._bus.close()
        self._arm.close()
        super().destroy_node()


def make_nodes(**kwargs) -> list[Node]:
    """
    Make the camera and the sim node of one simulated world, with its servo bus.

    :returns: in the order in which they must be destroyed.
    :raises stable_crl_ros.cameras.CameraError: without a working GL library.
    """
    world = World()
    made: list[Node] = []
    try:
        made.append(ServoSimNode(world, ServoWorld(world), **kwargs))
        made.insert(0, CameraNode(SimCamera(world), **kwargs))
    except Exception:
        for node in made:
            node.destroy_node()
        world.close()
        raise
    return made


def main(args: list[str] | None = None) -> int:
    """Run the simulated servo bus until Ctrl-C."""
    return spin_node(make_nodes, args, simulates=True)


if __name__ == '__main__':
    sys.exit(main())
