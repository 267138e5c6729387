"""What may be chosen when something is imported."""

from dataclasses import dataclass, field

from stable_crl_ros.exchange.recording import ExchangeError

ACTIONS = ('recorded', 'relabelled')
GRIPPERS = ('recorded', 'binarised')
LAGS = ('auto', '0', '1')
STATES = ('auto', 'bridge')
ROS_ACTIONS = ('auto', 'applied', 'commanded', 'poses')


@dataclass(frozen=True)
class Topics:
    """
    Where a bag has what; a name fits a topic that it is, or that ends in '/' and it.

    :param cameras: camera name -> topic; empty takes every image topic but goals.
    :param joint_states: sensor_msgs/JointState; states are left out where there is none.
    :param ee_pose: geometry_msgs/PoseStamped, in base_link.
    :param applied_action: what the arm node says it really did.
    :param twist: geometry_msgs/TwistStamped commands: velocities in base_link.
    :param gripper: std_msgs/Float64 commands, 0 closed .. 1 open.
    """

    cameras: dict[str, str] = field(default_factory=dict)
    joint_states: str = 'joint_states'
    ee_pose: str = 'ee_pose'
    applied_action: str = 'applied_action'
    twist: str = 'delta_twist_cmds'
    gripper: str = 'gripper_cmd'


@dataclass(frozen=True)
class ImportOptions:
    """
    How recordings become episodes.

    :param actions: 'recorded'; or 'relabelled', BridgeData's own choice for training: the
        difference of the two states around the step, Euler angle by Euler angle. What was
        recorded stays as `commanded_action`.
    :param gripper: 'recorded'; or 'binarised', as BridgeData does for training: values in
        between become the fully open or closed one they lead to.
    :param lag: steps the observations of raw BridgeData come late: 'auto' is 1 for what was
        recorded before 2021-07-23, 0 since.
    :param state: what steps/observation/state of RLDS is: 'bridge', BridgeData's position, roll,
        pitch, yaw and gripper; 'auto', that where the file or the path it was made from is named
        so, else nothing that is known.
    :param rate: Hz of the control; None for the source's own, else BridgeData's 5, which the
        twists of a bag must then come at, and which RLDS of others must not be taken for.
    :param task: short name; left out, the instruction.
    :param instruction: in place of what the source says.
    :param operator: who recorded it.
    :param image_size: height and width (pixels) images are resized to; None keeps them.
    :param topics: of a bag.
    :param ros_actions: of a bag: 'applied', 'commanded' twists, differences of 'poses', or
        'auto', the first of these there is.
    :param max_image_age: a step of a bag with an older image counts as dropped, s.
    :raises ExchangeError: for a choice that does not exist.
    """

    actions: str = 'recorded'
    gripper: str = 'recorded'
    lag: str = 'auto'
    state: str = 'auto'
    rate: float | None = None
    task: str = ''
    instruction: str = ''
    operator: str = ''
    image_size: tuple[int, int] | None = None
    topics: Topics = field(default_factory=Topics)
    ros_actions: str = 'auto'
    max_image_age: float = 0.5

    def __post_init__(self) -> None:
        for name, valid in (('actions', ACTIONS), ('gripper', GRIPPERS), ('lag', LAGS),
                            ('state', STATES), ('ros_actions', ROS_ACTIONS)):
            if getattr(self, name) not in valid:
                raise ExchangeError(f'{name} {getattr(self, name)!r}: choose one of '
                                    f'{", ".join(valid)}')
        if self.rate is not None and not 0.1 <= self.rate <= 1000.0:
            raise ExchangeError(f'rate {self.rate} Hz: give 0.1 to 1000')
