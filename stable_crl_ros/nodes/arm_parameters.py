"""The arm node's parameters: declared once, checked, and turned into limits and timing."""

from dataclasses import fields

from rcl_interfaces.msg import ParameterDescriptor, SetParametersResult
from rclpy.node import Node
from rclpy.parameter import Parameter
from stable_crl_ros.nodes.arm_drivers import declare_drivers
from stable_crl_ros.nodes.common import declare_priority, param, StartupError, value
from stable_crl_ros.robot.arbiter import ControlError
from stable_crl_ros.robot.arm_file import FASTEST, SLOWEST
from stable_crl_ros.robot.controller import ControlSettings
from stable_crl_ros.robot.journey import check_pose
from stable_crl_ros.robot.kinematics import SLEEP, START
from stable_crl_ros.robot.safety import ArmLimits, SafetyError
from stable_crl_ros.scheduling import ARM

LIMITS = {
    'workspace_low': 'smallest x, y, z of the tool point in base_link (m)',
    'workspace_high': 'largest x, y, z of the tool point in base_link (m)',
    'max_translation': 'largest translation per step and axis (m)',
    'max_rotation': 'largest rotation per step and axis (rad)',
    'max_joint_jump': 'largest motion of a joint per step, and lead of its target (rad)',
    'max_joint_velocity': 'largest mean joint speed over a step (rad/s)',
    'max_target_lead': 'largest distance of the target from the measured tool point (m)',
    'max_tilt': 'largest tilt of the gripper from straight down (rad)',
    'workspaces': 'further boxes: six numbers each, smallest and largest x, y, z (m)',
    'table_height': "the table's top in base_link (m)",
    'clearance': 'kept between the arm, its base and the table (m)',
    'slow_condition': 'condition number from which steps the arm can hardly make become shorter',
    'max_condition': 'condition number from which such steps are held',
    'max_effort': "of each motor, in the driver's unit; .inf: no limit",
}


def declare(node: Node) -> None:
    """Declare every parameter of the arm node."""
    declare_drivers(node)
    declare_priority(node, ARM)
    param(node, 'control_rate', 5.0, 'Commands per second, as the policy sends them (Hz)',
          low=0.5, high=50.0, read_only=True)
    param(node, 'servo_rate', 50.0, 'Joint setpoints per second (Hz)', low=10.0, high=200.0,
          read_only=True)
    param(node, 'command_timeout', 0.5, 'Silence after which nobody is in charge (s)',
          low=0.05, high=10.0, read_only=True)
    param(node, 'max_command_age', 0.5, 'Refuse a command with an older stamp (s)',
          low=0.01, high=10.0, read_only=True)
    param(node, 'max_state_age', 0.2, 'Joint states older than this are a fault (s)',
          low=0.05, high=2.0, read_only=True)
    param(node, 'max_lost_cycles', 5, 'Servo cycles lost in a row that are a fault',
          low=1, high=100, read_only=True)
    param(node, 'homing_speed', ControlSettings.homing_speed,
          'Fastest joint on the way home or to sleep (rad/s)', low=SLOWEST, high=FASTEST,
          read_only=True)
    node.add_on_set_parameters_callback(_check_poses)
    param(node, 'home_joints', START.tolist(), 'Pose of ~/home, waist .. wrist_rotate (rad)')
    param(node, 'sleep_joints', SLEEP.tolist(), 'Pose of ~/sleep, waist .. wrist_rotate (rad)')
    for field in fields(ArmLimits):
        name, meaning = f'limits.{field.name}', f'Limit: {LIMITS[field.name]}'
        if field.default == ():  # of an empty list no type can be told
            node.declare_parameter(name, [], ParameterDescriptor(
                description=meaning, read_only=True, dynamic_typing=True))
            continue
        default = field.default
        param(node, name, list(default) if isinstance(default, tuple) else default, meaning,
              read_only=True)


def _check_poses(parameters: list[Parameter]) -> SetParametersResult:
    """Refuse poses that the joints cannot take, at the start and later."""
    for parameter in parameters:
        if parameter.name in ('home_joints', 'sleep_joints'):
            try:
                check_pose(parameter.value)
            except ControlError as error:
                return SetParametersResult(successful=False, reason=f'{parameter.name}: {error}')
    return SetParametersResult(successful=True)


def read_limits(node: Node) -> ArmLimits:
    """
    Build the limits.

    :raises StartupError: when they make no sense.
    """
    values = {field.name: value(node, f'limits.{field.name}') for field in fields(ArmLimits)}
    try:
        return ArmLimits.from_dict({
            name: limit if isinstance(limit, (int, float)) else list(limit)
            for name, limit in values.items()})
    except SafetyError as error:
        raise StartupError(f'arm limits: {error}; see config/arm.yaml') from error


def read_settings(node: Node) -> ControlSettings:
    """
    Build the timing.

    :raises StartupError: when silence would end every step before its time.
    """
    period_s, timeout_s = 1.0 / value(node, 'control_rate'), value(node, 'command_timeout')
    if timeout_s < period_s:
        raise StartupError(f'command_timeout {timeout_s:g} s is shorter than the control period '
                           f'{period_s:g} s, so that no step would be made whole; raise it in '
                           'config/arm.yaml, or control_rate')
    return ControlSettings(
        period_s=period_s,
        servo_period_s=1.0 / value(node, 'servo_rate'),
        command_timeout_s=timeout_s,
        max_command_age_s=value(node, 'max_command_age'),
        max_state_age_s=value(node, 'max_state_age'),
        max_lost_cycles=value(node, 'max_lost_cycles'),
        homing_speed=value(node, 'homing_speed'))
