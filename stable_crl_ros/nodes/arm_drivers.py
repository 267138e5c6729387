"""The arm drivers by name; each is imported only when it is chosen."""

from contextlib import ExitStack
from functools import partial

from rclpy.node import Node
from stable_crl_ros.nodes.common import param, StartupError, value
from stable_crl_ros.robot.arm import ArmDriver, ArmError
from stable_crl_ros.robot.kinematics import JOINT_NAMES
from stable_crl_ros.robot.mock import MockArm

EMULATED = 'emulated'  # the port that stands for a bus without hardware
SIM = 'sim'  # made by the sim process


def declare_drivers(node: Node) -> None:
    """Declare which driver, and what each needs."""
    fixed = partial(param, node, read_only=True)
    fixed('driver', 'mock', 'Which arm: mock (no physics), sim (in the sim process), dynamixel '
          '(its servo bus), xs_sdk (a running Interbotix node), joint_trajectory (ros2_control)')
    fixed('port', '', 'dynamixel: serial port; empty for /dev/ttyDXL or the only converter, '
          f'{EMULATED} for a bus without hardware')
    fixed('baud_rate', 1_000_000, 'dynamixel: bit/s', low=9600, high=4_500_000)
    fixed('write_configuration', False, 'dynamixel: write registers that differ from the '
          'expected ones, instead of refusing to start; the arm must lie on its rest')
    fixed('xs_sdk_namespace', '/wx250s', 'xs_sdk: namespace of its node')
    fixed('joint_state_topic', '/joint_states', 'joint_trajectory: where the arm says how it is')
    fixed('trajectory_topic', '/arm_controller/joint_trajectory', 'joint_trajectory: where the '
          "arm's controller listens")
    fixed('gripper_topic', '/gripper_controller/joint_trajectory', 'joint_trajectory: where the '
          "gripper's controller listens, for left_finger (m); empty for none")


def _mock(node: Node) -> ArmDriver:
    return MockArm()


def _dynamixel(node: Node) -> ArmDriver:
    from stable_crl_ros.robot.dynamixel import DynamixelArm
    make = partial(DynamixelArm, baud_rate=value(node, 'baud_rate'),
                   cycle_s=1.0 / value(node, 'servo_rate'),
                   write_configuration=value(node, 'write_configuration'))
    if value(node, 'port') != EMULATED:
        return make(value(node, 'port'))
    from stable_crl_ros import servo_bus
    pose = dict(zip(JOINT_NAMES, value(node, 'home_joints'), strict=True))
    with ExitStack() as undo:
        bus = undo.enter_context(servo_bus.start(pose=pose))
        driver = AttachedArm(make(bus.port), bus.close)
        undo.pop_all()
    return driver


def _joint_feed(node: Node, name: str, namespace: str, topic: str):
    from stable_crl_ros.nodes.joint_feed import JointFeed
    path = topic if topic.startswith('/') else f'{namespace.rstrip("/")}/{topic}'
    if path == node.resolve_topic_name('joint_states'):
        raise ArmError(f'{path} is what this node publishes itself, and it would hear its own '
                       'echo; give it a namespace, or the other driver')
    # Half of it: the cycles lost then name the topic before the watchdog doubts the driver.
    return JointFeed(node.context, f'{node.get_name()}_{name}', namespace, topic,
                     0.5 * value(node, 'max_state_age'))


def _xs_sdk(node: Node) -> ArmDriver:
    from stable_crl_ros.nodes.xs_sdk import load_messages, RosXsSdkLink
    from stable_crl_ros.robot.xs_sdk import XsSdkArm
    load_messages()
    feed = _joint_feed(node, 'xs_sdk', value(node, 'xs_sdk_namespace'), 'joint_states')
    return XsSdkArm(RosXsSdkLink(feed), 1.0 / value(node, 'servo_rate'))


def _joint_trajectory(node: Node) -> ArmDriver:
    from stable_crl_ros.nodes.joint_trajectory import JointTrajectoryArm
    feed = _joint_feed(node, 'joint_trajectory', node.get_namespace(),
                       value(node, 'joint_state_topic'))
    return JointTrajectoryArm(feed, value(node, 'trajectory_topic'),
                              value(node, 'gripper_topic'), 1.0 / value(node, 'servo_rate'))


class AttachedArm:
    """
    A driver and what must end with it, as the emulated bus that it drives.

    :param driver: everything but `close` is its own.
    :param end: called after its `close`.
    """

    def __init__(self, driver: ArmDriver, end) -> None:
        self._driver, self._end = driver, end

    def __getattr__(self, name: str):
        return getattr(self._driver, name)

    def close(self) -> None:
        """Close the driver, then end the rest."""
        self._driver.close()
        self._end()


DRIVERS = {'mock': _mock, 'dynamixel': _dynamixel, 'xs_sdk': _xs_sdk,
           'joint_trajectory': _joint_trajectory}


def check_driver(node: Node, given: bool) -> str:
    """
    Return the driver's name.

    :param given: whether the simulator handed one in.
    :raises StartupError: for a driver that there is not, or not in this process.
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
