"""Where the simulator says that things are."""

from geometry_msgs.msg import PoseStamped
import numpy as np
from rclpy.node import Node
from std_msgs.msg import Float64


class SimTruth:
    """
    The sim node's truth as it was last heard; `Task.errors` reads it as it would read a world.

    :param node: who subscribes.
    """

    def __init__(self, node: Node) -> None:
        self.drawer_opening = float('nan')  # m
        self.block_position = np.full(3, np.nan)  # m
        node.create_subscription(Float64, 'sim/drawer_opening', self._on_opening, 10)
        node.create_subscription(PoseStamped, 'sim/block_pose', self._on_block, 10)

    def _on_opening(self, message: Float64) -> None:
        self.drawer_opening = message.data

    def _on_block(self, message: PoseStamped) -> None:
        position = message.pose.position
        self.block_position = np.array([position.x, position.y, position.z])
