"""An arm behind a running Interbotix xs_sdk node: what it is told, and what it must be like."""

from typing import Any, Protocol

import numpy as np
from stable_crl_ros.robot.arm import ArmError, ArmFault, ArmState, check_setpoint
from stable_crl_ros.robot.dynamixel_table import profile_times
from stable_crl_ros.robot.gripper import horn_angle
from stable_crl_ros.robot.kinematics import JOINT_NAMES

ARM, GRIPPER = 'arm', 'gripper'  # names of the vendor's group and joint
_NEAR = 0.075  # of the gripper's range: there already
_WEAKEST, _STRONGEST, _GAIN = 150.0, 350.0, 400.0  # PWM of the gripper, of 885
_ERRORS = {0: 'input voltage', 2: 'overheating', 3: 'encoder', 4: 'electrical shock',
           5: 'overload'}


class XsSdkLink(Protocol):
    """The topics and services of xs_sdk, with plain values."""

    def state(self) -> ArmState:
        """Return the newest joint states; raises `ArmError` when there are none."""

    def send(self, message: str, **fields: Any) -> None:
        """Publish a JointGroupCommand or JointSingleCommand."""

    def request(self, service: str, **fields: Any) -> Any:
        """Call a service and return its response; raises `ArmError` without an answer."""

    def close(self) -> None:
        """Let go of topics and services."""


def gripper_pwm(wanted: float, measured: float) -> float:
    """
    Return the PWM that drives a gripper in PWM mode to an opening, and presses on what it holds.

    :param wanted: opening, 0 closed .. 1 open.
    :param measured: opening now.
    :returns: positive to open; 0 once it is there.
    """
    error = wanted - measured
    if abs(error) <= _NEAR:
        return 0.0
    return float(np.sign(error)) * min(_WEAKEST + _GAIN * (abs(error) - _NEAR), _STRONGEST)


def check_robot(arm: Any, gripper: Any) -> None:
    """
    Refuse an arm that xs_sdk was not configured for as this driver needs it.

    :param arm: RobotInfo of the group `arm`.
    :param gripper: RobotInfo of the joint `gripper`.
    :raises ArmError: naming what is wrong and where to set it.
    """
    names = tuple(arm.joint_names)
    if names != tuple(JOINT_NAMES):
        raise ArmError(f'xs_sdk drives an arm with the joints {", ".join(names)}; a WidowX 250s '
                       f'has {", ".join(JOINT_NAMES)}. Start xs_sdk with robot_model:=wx250s')
    if (arm.mode, arm.profile_type) != ('position', 'time'):
        raise ArmError(f'the group {ARM} is in mode {arm.mode!r} with profile '
                       f'{arm.profile_type!r}; set operating_mode: position and profile_type: '
                       'time in modes.yaml of xs_sdk')
    if gripper.mode not in ('pwm', 'position'):
        raise ArmError(f'the gripper is in mode {gripper.mode!r}; set operating_mode: pwm or '
                       'position in modes.yaml of xs_sdk')


class XsSdkArm:
    """
    `robot.arm.ArmDriver` on top of xs_sdk, which owns the bus.

    Its register services share the bus with the joint states, so hardware errors are asked for
    only at `connect` and `clear_faults`; in between a fault shows as an arm that does not follow.

    :param link: closed with this driver.
    :param cycle_s: time between two calls of `write`, s.
    """

    def __init__(self, link: XsSdkLink, cycle_s: float = 0.02) -> None:
        self._link, self._cycle_s = link, cycle_s
        self._gripper_mode = 'position'
        self._faults: list[ArmFault] = []
        self._measured = self._opening = self._sent = float('nan')
        self._driven = False  # whether the gripper was told something since the last reading

    def connect(self) -> None:
        """
        Check the arm's configuration, torque and errors, and have the joints follow at once.

        :raises ArmError: naming what is wrong.
        """
        arm = self._link.request('get_robot_info', cmd_type='group', name=ARM)
        gripper = self._link.request('get_robot_info', cmd_type='single', name=GRIPPER)
        check_robot(arm, gripper)
        self._gripper_mode = gripper.mode
        self._opening = self._sent = float('nan')
        off = [name for name, on in self._registers('Torque_Enable').items() if not on]
        if off:
            raise ArmError(f'torque is off at {", ".join(off)}; hold the arm and call the service '
                           'torque_enable of xs_sdk')
        self._set_profile()
        self._look()

    def _set_profile(self) -> None:
        """
        Have every move of the joints take two cycles: xs_sdk's own 2 s would lag far behind.

        :raises ArmError: when a motor did not take it; the service itself does not tell.
        """
        acceleration, total = profile_times(self._cycle_s)
        # Velocity first: a profile's acceleration may not exceed half of it.
        profile = {'Profile_Velocity': total, 'Profile_Acceleration': acceleration}
        for register, wanted in profile.items():
            self._link.request('set_motor_registers', cmd_type='group', name=ARM, reg=register,
                               value=wanted)
            found = self._registers(register)
            wrong = [f'{name} {found.get(name)}' for name in JOINT_NAMES
                     if found.get(name) != wanted]
            if wrong:
                raise ArmError(f'xs_sdk did not set {register} to {wanted} ms by its service '
                               f'set_motor_registers: {", ".join(wrong)}. The arm would lag '
                               'behind what it is sent; look at what xs_sdk says')

    def _registers(self, register: str) -> dict[str, int]:
        """Return the register of every joint that answers, and of the gripper."""
        values = {}
        for kind, name, names in (('group', ARM, JOINT_NAMES), ('single', GRIPPER, (GRIPPER,))):
            answer = self._link.request('get_motor_registers', cmd_type=kind, name=name,
                                        reg=register, value=0)
            values |= dict(zip(names, answer.values, strict=False))
        return values

    def _look(self) -> None:
        errors = self._registers('Hardware_Error_Status')
        self._faults = [_fault(joint, bits) for joint, bits in errors.items() if bits]

    def close(self) -> None:
        """Send no more; xs_sdk holds the last setpoint, and what is between the fingers."""
        if self._drives_gripper:
            # Nobody will end it: a gripper that opens would turn on beyond its end.
            self._push(min(max(gripper_pwm(self._sent, self._measured), -_WEAKEST), 0.0))
        self._link.close()

    @property
    def _drives_gripper(self) -> bool:
        return self._gripper_mode == 'pwm' and not np.isnan(self._sent + self._measured)

    def _push(self, pwm: float) -> None:
        self._link.send('JointSingleCommand', name=GRIPPER, cmd=pwm)

    def read(self) -> ArmState:
        """
        Return the newest joint states, with their own stamp.

        A gripper in PWM mode goes on to where it was sent, also while nothing is written.

        :raises ArmError: when they are too old.
        """
        state = self._link.state()
        self._measured = state.gripper
        if self._drives_gripper and not self._driven:
            self._push(gripper_pwm(self._sent, self._measured))
        self._driven = False
        return state

    def write(self, joint_positions: np.ndarray, gripper: float) -> None:
        """
        Send one setpoint.

        :raises ArmError: for a setpoint that is none.
        """
        joints = check_setpoint(joint_positions, gripper)
        self._link.send('JointGroupCommand', name=ARM, cmd=joints.tolist())
        self._sent, self._driven = gripper, True
        if self._gripper_mode == 'pwm':
            self._push(gripper_pwm(gripper, self._measured))
        elif gripper != self._opening:
            self._opening = gripper
            self._link.send('JointSingleCommand', name=GRIPPER, cmd=horn_angle(gripper))

    def setpoint(self) -> tuple[np.ndarray, float] | None:
        """
        Return the opening sent last, and the joints where they are: others may have moved them.

        :returns: None before anything was sent.
        """
        if np.isnan(self._sent):
            return None
        return self._link.state().joint_positions, self._sent

    def faults(self) -> list[ArmFault]:
        """Return the hardware errors of the last look."""
        return list(self._faults)

    def clear_faults(self) -> str:
        """
        Let xs_sdk restart the motors in error.

        :raises ArmError: when an error is left.
        """
        self._look()
        names = [fault.joint for fault in self._faults]
        for name in names:
            self._link.request('reboot_motors', cmd_type='single', name=name, enable=True,
                               smart_reboot=True)
        if names:
            self._set_profile()  # a restarted motor has forgotten it
        self._look()
        if self._faults:
            raise ArmError('; '.join(map(str, self._faults)))
        return f'restarted {", ".join(names)}' if names else 'no motor is in error'

    def health(self) -> dict[str, str]:
        """Return how the gripper is driven; xs_sdk tells no more without stopping the bus."""
        return {'gripper_mode': self._gripper_mode}


def _fault(joint: str, bits: int) -> ArmFault:
    named = ', '.join(text for bit, text in _ERRORS.items() if bits >> bit & 1)
    return ArmFault(f'{joint}: hardware error {bits:#04x} ({named or "unknown"}); call '
                    'clear_faults, which restarts it', joint, None, bits, 'reboot')
