"""The arm node's parameters: declared once, checked, and turned into limits and timing."""

from dataclasses import fields

from rclpy.node import Node
from stable_crl_ros.nodes.common import param, StartupError, value
from stable_crl_ros.robot.controller import ControlSettings
from stable_crl_ros.robot.kinematics import SLEEP, START
from stable_crl_ros.robot.safety import ArmLimits, SafetyError

DRIVERS = ('mock', 'sim')
PLANNED_DRIVERS = ('dynamixel', 'xs_sdk')
LIMITS = {
    'workspace_low': 'smallest x, y, z of the tool point in base_link (m)',
    'workspace_high': 'largest x, y, z of the tool point in base_link (m)',
    'max_translation': 'largest translation per step and axis (m)',
    'max_rotation': 'largest rotation per step and axis (rad)',
    'max_joint_jump': 'largest motion of a joint per step (rad)',
    'max_joint_velocity': 'largest mean joint speed over a step (rad/s)',
    'max_target_lead': 'largest distance of the target from the measured tool point (m)',
    'max_tilt': 'largest tilt of the gripper from straight down (rad)',
}


def declare(node: Node) -> None:
    """Declare every parameter of the arm node."""
    param(node, 'driver', 'mock', 'Which arm: mock (no physics), sim (in the sim process)',
          read_only=True)
    param(node, 'control_rate', 5.0, 'Commands per second, as the policy sends them (Hz)',
          low=0.5, high=50.0, read_only=True)
    param(node, 'servo_rate', 50.0, 'Joint setpoints per second (Hz)', low=10.0, high=200.0,
          read_only=True)
    param(node, 'command_timeout', 0.5, 'Silence after which nobody is in charge (s)',
          low=0.05, high=10.0, read_only=True)
    param(node, 'max_command_age', 0.5, 'Refuse a command with an older stamp (s)',
          low=0.01, high=10.0, read_only=True)
    param(node, 'homing_speed', 0.5, 'Fastest joint on the way home or to sleep (rad/s)',
          low=0.05, high=1.5, read_only=True)
    param(node, 'home_joints', START.tolist(), 'Pose of ~/home, waist .. wrist_rotate (rad)')
    param(node, 'sleep_joints', SLEEP.tolist(), 'Pose of ~/sleep, waist .. wrist_rotate (rad)')
    for field in fields(ArmLimits):
        default = field.default
        param(node, f'limits.{field.name}',
              list(default) if isinstance(default, tuple) else default,
              f'Limit: {LIMITS[field.name]}', read_only=True)


def check_driver(node: Node, given: bool) -> str:
    """
    Return the driver's name.

    :param given: whether the simulator handed one in.
    :raises StartupError: for a driver that this version, or this process, does not have.
    """
    name = value(node, 'driver')
    if name not in DRIVERS:
        known = 'is not in this version' if name in PLANNED_DRIVERS else 'is unknown'
        raise StartupError(f'arm driver {name!r} {known}; choose one of {", ".join(DRIVERS)}')
    if name == 'sim' and not given:
        raise StartupError("arm driver 'sim' lives in the sim process, which is arm and camera in "
                           "one: run the sim node instead, or choose driver 'mock'")
    return name


def read_limits(node: Node) -> ArmLimits:
    """
    Build the limits.

    :raises StartupError: when they make no sense.
    """
    values = {field.name: value(node, f'limits.{field.name}') for field in fields(ArmLimits)}
    try:
        return ArmLimits.from_dict({
            name: limit if isinstance(limit, float) else list(limit)
            for name, limit in values.items()})
    except SafetyError as error:
        raise StartupError(f'arm limits: {error}; see config/arm.yaml') from error


def read_settings(node: Node) -> ControlSettings:
    """Build the timing."""
    return ControlSettings(
        period_s=1.0 / value(node, 'control_rate'),
        command_timeout_s=value(node, 'command_timeout'),
        max_command_age_s=value(node, 'max_command_age'),
        homing_speed=value(node, 'homing_speed'))
