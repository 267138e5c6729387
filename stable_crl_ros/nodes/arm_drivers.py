"""The arm drivers by name; each is imported only when it is chosen."""

from rclpy.node import Node
from stable_crl_ros.nodes.common import StartupError, value
from stable_crl_ros.robot.arm import ArmDriver
from stable_crl_ros.robot.mock import MockArm


def _mock(node: Node) -> ArmDriver:
    return MockArm()


DRIVERS = {'mock': _mock}
SIM = 'sim'  # made by the sim process


def check_driver(node: Node, given: bool) -> str:
    """
    Return the driver's name.

    :param given: whether the simulator handed one in.
    :raises StartupError: for a driver that this version, or this process, does not have.
    """
    name, known = value(node, 'driver'), (SIM, *DRIVERS)
    if name not in known:
        raise StartupError(f'arm driver {name!r} is unknown; choose one of {", ".join(known)}')
    if name == SIM and not given:
        raise StartupError("arm driver 'sim' lives in the sim process, which is arm and camera in "
                           "one: run the sim node instead, or choose driver 'mock'")
    return name


def make_driver(node: Node) -> ArmDriver:
    """
    Make the driver that `driver` names, not yet connected.

    :raises stable_crl_ros.robot.arm.ArmError: when what it needs is not there.
    """
    return DRIVERS[value(node, 'driver')](node)
