"""Drive the arm: commands in, clipped and checked steps out; silence means hold."""

from collections import Counter
from functools import partial
import sys
import time

from geometry_msgs.msg import PoseStamped, TwistStamped
import numpy as np
from sensor_msgs.msg import JointState
from stable_crl_ros.data.schema import Mode
from stable_crl_ros.nodes.arm_parameters import (
    check_driver,
    declare,
    read_limits,
    read_settings,
)
from stable_crl_ros.nodes.common import (
    answer,
    COMMAND,
    Diagnostics,
    ERROR,
    LATCHED,
    ManagedNode,
    OK,
    spin_node,
    steady_clock,
    value,
    WARN,
)
from stable_crl_ros.nodes.conversions import to_nanoseconds
from stable_crl_ros.nodes.messages import (
    AppliedAction,
    decode_command,
    encode_applied_action,
    encode_ee_pose,
    encode_joint_states,
    FRAME,
)
from stable_crl_ros.robot.arm import ArmDriver
from stable_crl_ros.robot.controller import ArmController, ArmMode, ControlError, Outcome
from stable_crl_ros.robot.mock import MockArm
from stable_crl_ros.robot.safety import flag_names, REFUSED, SafetyError, StepFlag
from std_msgs.msg import Float64, Float64MultiArray, String
from std_srvs.srv import Trigger

RECORDED_MODE = {ArmMode.POLICY: Mode.POLICY, ArmMode.TELEOP: Mode.TELEOP,
                 ArmMode.IDLE: Mode.IDLE}
# Clips are everyday; these are not.
ALARMING = ('driver_errors', 'wrong_frame', *flag_names(REFUSED & ~StepFlag.OVERRIDDEN))
HINTS = {
    StepFlag.STALE: 'speed the sender up, synchronise the clocks, or raise max_command_age',
    StepFlag.FUTURE: 'synchronise the clocks of sender and arm',
    StepFlag.NON_FINITE: 'send finite numbers',
    StepFlag.HELD: 'call ~/resume to go on',
}


class ArmNode(ManagedNode):
    """
    Execute each fresh command for one control period on the previous target, and hold otherwise.

    Inactive, the arm is read and published but not moved. `~/stop` works in every state and
    latches until `~/resume`.

    :param driver: the arm of a `sim` process; None makes the one that `driver` names.
    :raises StartupError: for a driver this version does not have, or limits that make no sense.
    """

    def __init__(self, driver: ArmDriver | None = None, **kwargs) -> None:
        super().__init__('arm', **kwargs)
        declare(self)
        self._given_driver = driver
        driver_name = check_driver(self, given=driver is not None)
        settings = read_settings(self)
        self._period_s = settings.period_s
        self._controller = ArmController(read_limits(self), settings)
        self._timer = None
        self._published_mode: ArmMode | None = None
        self._worst_servo_s, self._reported = 0.0, Counter()
        self._create_topics()
        for name in ('stop', 'resume', 'home', 'sleep'):
            self.create_service(Trigger, f'~/{name}', getattr(self, f'_on_{name}'))
        Diagnostics(self, f'wx250s {driver_name}').add('control', self._diagnose)
        self._publish_mode()

    def _create_topics(self) -> None:
        self._joint_states = self.create_publisher(JointState, 'joint_states', 10)
        self._ee_pose = self.create_publisher(PoseStamped, 'ee_pose', 10)
        self._applied = self.create_publisher(Float64MultiArray, 'applied_action', 10)
        self._mode = self.create_publisher(String, 'mode', LATCHED)
        # The gripper of a tick is sent first, so its subscription comes first too.
        for source, prefix in ((ArmMode.TELEOP, 'teleop/'), (ArmMode.POLICY, '')):
            self.create_subscription(Float64, f'{prefix}gripper_cmd',
                                     partial(self._on_gripper, source), COMMAND)
            self.create_subscription(TwistStamped, f'{prefix}delta_twist_cmds',
                                     partial(self._on_twist, source), COMMAND)

    def setup(self) -> None:
        """Connect to the arm and publish its state from now on."""
        driver = self._controller.driver = self._given_driver or MockArm()
        driver.connect()
        self._timer = self.create_timer(1.0 / value(self, 'servo_rate'), self._servo,
                                        clock=steady_clock())

    def start(self) -> None:
        """Take over where the arm is; nothing moves until a command comes."""
        self._controller.begin(time.monotonic())

    def stop(self) -> None:
        """Send no more setpoints; the driver holds the last one."""
        self._controller.end(time.monotonic())
        self._publish_mode()

    def teardown(self) -> None:
        """Let go of the driver; the arm goes on holding."""
        if self._timer is not None:
            self.destroy_timer(self._timer)
            self._timer = None
        if self._controller.driver is not None:
            self._controller.driver.close()
            self._controller.driver = None

    def restart(self) -> None:
        """Take over again after something else moved the arm, as a reset of the simulation."""
        if self.active:
            self._controller.begin(time.monotonic())

    @property
    def moving(self) -> bool:
        """Say whether somebody is in charge who may move the arm."""
        return self.active and self._controller.moving

    def _servo(self) -> None:
        now = time.monotonic()
        state = self._controller.read(now)
        if self.active:
            self._controller.tick(now)
        self._worst_servo_s = max(self._worst_servo_s, time.monotonic() - now)
        if state is not None:
            self._joint_states.publish(encode_joint_states(state))
            self._ee_pose.publish(encode_ee_pose(state))
        self._publish_mode()

    def _publish_mode(self) -> None:
        mode = self._controller.mode
        if mode is not self._published_mode and self.context.ok():
            self._published_mode = mode
            self._mode.publish(String(data=mode.value))

    def _on_gripper(self, source: ArmMode, message: Float64) -> None:
        if self.active:
            self._controller.set_gripper(source, message.data, time.monotonic())

    def _on_twist(self, source: ArmMode, message: TwistStamped) -> None:
        received = self.get_clock().now().nanoseconds
        if not self.active:
            self._refuse(source, 'the arm is not active; activate it first')
        elif message.header.frame_id != FRAME:
            self._controller.counts['wrong_frame'] += 1
            self._refuse(source, f'its frame is {message.header.frame_id!r}, not {FRAME!r}')
        else:
            self._execute(source, message, received)
            self._publish_mode()

    def _execute(self, source: ArmMode, message: TwistStamped, received: int) -> None:
        stamp = to_nanoseconds(message.header.stamp)
        age_s = (received - stamp) * 1e-9
        outcome = self._controller.command(
            source, decode_command(message, self._period_s), age_s, time.monotonic())
        self._applied.publish(encode_applied_action(AppliedAction(
            outcome.applied, outcome.commanded, RECORDED_MODE[outcome.source], outcome.flags,
            max(stamp, 0), received, self.get_clock().now().nanoseconds)))
        if outcome.refused and not outcome.flags & StepFlag.OVERRIDDEN:
            self._refuse(source, self._explain(outcome, age_s))

    def _explain(self, outcome: Outcome, age_s: float) -> str:
        names = ', '.join(flag_names(outcome.flags))
        reason = self._controller.stop_reason
        hint = next((f'; {HINTS[flag]}' for flag in HINTS if outcome.flags & flag), '')
        return (f'{names} (stamp {age_s:.3f} s old' + (f', stopped: {reason}' if reason else '')
                + f'){hint}')

    def _refuse(self, source: ArmMode, reason: str) -> None:
        self.get_logger().warning(f'refused a {source.value} command: {reason}',
                                  throttle_duration_sec=1.0)

    def _on_stop(self, _, response: Trigger.Response) -> Trigger.Response:
        self._controller.stop('~/stop was called', time.monotonic())
        return self._answer(response, True, 'stopped; call ~/resume to go on')

    def _on_resume(self, _, response: Trigger.Response) -> Trigger.Response:
        try:
            self._controller.resume(time.monotonic())
        except ControlError as error:
            return self._answer(response, False, str(error))
        return self._answer(response, True, 'listening for commands')

    def _on_home(self, _, response: Trigger.Response) -> Trigger.Response:
        return self._move_to('home_joints', response)

    def _on_sleep(self, _, response: Trigger.Response) -> Trigger.Response:
        return self._move_to('sleep_joints', response)

    def _move_to(self, name: str, response: Trigger.Response) -> Trigger.Response:
        if not self.active:
            return self._answer(response, False, 'the arm is not active; activate it first')
        try:
            seconds = self._controller.move_to(np.array(value(self, name)), time.monotonic())
        except (ControlError, SafetyError) as error:
            return self._answer(response, False, f'{name}: {error}')
        return self._answer(response, True, f'moving for {seconds:.1f} s; ~/stop ends it')

    def _answer(self, response, success: bool, message: str):
        self._publish_mode()
        return answer(self, response, success, message)

    def _diagnose(self) -> tuple[bytes, str, dict]:
        counts = self._controller.counts.copy()
        new = sorted(name for name in ALARMING if counts[name] > self._reported[name])
        mode, reason = self._controller.mode.value, self._controller.stop_reason
        values = {'mode': mode, 'active': self.active, **counts,
                  'worst_servo_ms': f'{self._worst_servo_s * 1e3:.2f}'}
        self._reported, self._worst_servo_s = counts, 0.0
        if reason:
            return (ERROR if 'driver_errors' in new else WARN), f'stopped: {reason}', values
        if new:
            return WARN, f'in the last second: {", ".join(new)}', values
        return OK, mode if self.active else 'not active', values


def main(args: list[str] | None = None) -> int:
    """Run the arm node."""
    return spin_node(ArmNode, args)


if __name__ == '__main__':
    sys.exit(main())
