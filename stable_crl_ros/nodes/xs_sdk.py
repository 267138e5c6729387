"""The topics and services of an Interbotix xs_sdk node, for `robot.xs_sdk.XsSdkArm`."""

import importlib
from typing import Any

from stable_crl_ros.nodes.joint_feed import JointFeed
from stable_crl_ros.robot.arm import ArmError, ArmState

PACKAGE = 'interbotix_xs_msgs'
TOPICS = {'JointGroupCommand': 'commands/joint_group',
          'JointSingleCommand': 'commands/joint_single'}
SERVICES = {'get_robot_info': 'RobotInfo', 'get_motor_registers': 'RegisterValues',
            'set_motor_registers': 'RegisterValues',
            'reboot_motors': 'Reboot'}


def load_messages() -> tuple[Any, Any]:
    """
    Import the vendor's messages and services.

    :raises ArmError: where they are not installed.
    """
    try:
        return importlib.import_module(f'{PACKAGE}.msg'), importlib.import_module(f'{PACKAGE}.srv')
    except ImportError as error:
        raise ArmError(f"driver 'xs_sdk' needs the package {PACKAGE}, which is not installed "
                       f'({error}); install interbotix_ros_core and source its workspace, or '
                       "choose driver 'dynamixel', which needs no vendor software") from error


class RosXsSdkLink:
    """
    `robot.xs_sdk.XsSdkLink` over ROS.

    :param feed: in the namespace of xs_sdk; closed with this link.
    :raises ArmError: where the vendor's messages are not installed.
    """

    def __init__(self, feed: JointFeed) -> None:
        self._feed = feed
        self._messages, services = load_messages()
        self._services = {name: getattr(services, kind) for name, kind in SERVICES.items()}
        self._publishers = {
            kind: feed.node.create_publisher(getattr(self._messages, kind), topic, 1)
            for kind, topic in TOPICS.items()}
        self._clients = {name: feed.node.create_client(kind, name)
                         for name, kind in self._services.items()}

    def state(self) -> ArmState:
        """
        Return the newest joint states.

        :raises ArmError: when they are too old.
        """
        return self._feed.state()

    def send(self, message: str, **fields: Any) -> None:
        """Publish a message of this kind."""
        self._publishers[message].publish(getattr(self._messages, message)(**fields))

    def request(self, service: str, **fields: Any) -> Any:
        """
        Call a service and return its response.

        :raises ArmError: when it is not there or does not answer.
        """
        return self._feed.call(self._clients[service], self._services[service].Request(**fields))

    def close(self) -> None:
        """Stop listening."""
        self._feed.close()
