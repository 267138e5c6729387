"""Drive the arm: commands in, clipped and checked steps out; silence means hold."""

from collections import Counter
from functools import partial
import sys
import threading
import time
import traceback

from geometry_msgs.msg import PoseStamped, TwistStamped
import numpy as np
from rclpy.callback_groups import ReentrantCallbackGroup
from sensor_msgs.msg import JointState
from stable_crl_ros.data.schema import Mode
from stable_crl_ros.nodes.arm_diagnostics import ArmDiagnostics
from stable_crl_ros.nodes.arm_drivers import check_driver, make_driver
from stable_crl_ros.nodes.arm_parameters import declare, read_limits, read_settings
from stable_crl_ros.nodes.background import run_in_thread
from stable_crl_ros.nodes.common import (
    answer,
    COMMAND,
    LATCHED,
    ManagedNode,
    RCLError,
    REFUSALS,
    spin_node,
    value,
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
from stable_crl_ros.nodes.servo_loop import ServoLoop
from stable_crl_ros.robot.arbiter import ArmMode, ControlError
from stable_crl_ros.robot.arm import ArmDriver
from stable_crl_ros.robot.controller import ArmController, Outcome
from stable_crl_ros.robot.safety import flag_names, SafetyError, StepFlag
from stable_crl_ros.robot.servo import Servo
from std_msgs.msg import Float64, Float64MultiArray, String
from std_srvs.srv import Trigger

RECORDED_MODE = {ArmMode.POLICY: Mode.POLICY, ArmMode.TELEOP: Mode.TELEOP,
                 ArmMode.IDLE: Mode.IDLE}
HINTS = {
    StepFlag.STALE: 'speed the sender up, synchronise the clocks, or raise max_command_age',
    StepFlag.FUTURE: 'synchronise the clocks of sender and arm',
    StepFlag.NON_FINITE: 'send finite numbers',
    StepFlag.HELD: 'call ~/resume to go on',
}
VERBS = ('stop', 'resume', 'home', 'sleep', 'clear_faults')


class ArmNode(ManagedNode):
    """
    Execute each fresh command for one control period on the previous target, and hold otherwise.

    Inactive, the arm is read and published but not moved. `~/stop` works in every state and
    latches until `~/resume`; a fault latches until `~/clear_faults` and `~/resume`.

    The servo cycle has a thread of its own, so that neither a bus that does not answer keeps
    `~/stop` waiting, nor a callback the servos.

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
        self._deciding, self._telling = threading.Lock(), threading.Lock()
        self._driver: ArmDriver | None = None
        self._servo: Servo | None = None
        self._loop: ServoLoop | None = None
        self._clearing: threading.Thread | None = None
        self._published_mode: ArmMode | None = None
        self._create_topics()
        for name in VERBS:
            # ~/clear_faults answers after seconds, and must not keep ~/stop from its answer.
            group = ReentrantCallbackGroup() if name == 'clear_faults' else None
            self.create_service(Trigger, f'~/{name}', getattr(self, f'_on_{name}'),
                                callback_group=group)
        ArmDiagnostics(self, driver_name, self._look)
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
        self._driver = self._given_driver or make_driver(self)
        self._driver.connect()
        self._servo = Servo(self._driver, self._controller, self._deciding)
        self._loop = ServoLoop(self._cycle, value(self, 'servo_rate'))

    def start(self) -> None:
        """Take over where the arm is; nothing moves until a command comes."""
        self._servo.begin()
        self._publish_mode()

    def stop(self) -> None:
        """Send no more setpoints; the driver holds the last one."""
        with self._deciding:
            self._controller.end()
        self._publish_mode()

    def teardown(self) -> None:
        """Let go of the driver; the arm goes on holding."""
        if self._clearing is not None:
            self._clearing.join()
        if self._loop is not None:
            self._loop.close()
            self._loop = self._servo = None
        if self._driver is not None:
            self._driver.close()
            self._driver = None

    def undisturbed(self, action) -> None:
        """
        Let something else move the arm between two servo cycles, and take over from there.

        :param action: called without arguments.
        """
        if self._servo is None:
            action()
            return
        with self._deciding:
            self._controller.arbiter.begin_reset()
        self._publish_mode()  # whoever records sees that no step led there
        self._servo.undisturbed(action)
        self._publish_mode()

    @property
    def moving(self) -> bool:
        """Say whether somebody is in charge who may move the arm."""
        return self.active and self._controller.moving

    def _cycle(self) -> None:
        for part in (self._move, self._publish_mode):
            try:
                part()
            except Exception as error:  # a dead thread would leave the arm silently uncontrolled
                if isinstance(error, RCLError) and not self.context.ok():
                    return
                with self._deciding:
                    self._controller.fault('the servo cycle failed; see the log of the arm node')
                self.get_logger().fatal(traceback.format_exc(), throttle_duration_sec=5.0)

    def _move(self) -> None:
        state = self._servo.cycle()
        if state is not None and self.context.ok():
            self._joint_states.publish(encode_joint_states(state))
            self._ee_pose.publish(encode_ee_pose(state))

    def _publish_mode(self) -> None:
        with self._telling:
            mode = self._controller.mode
            if mode is not self._published_mode and self.context.ok():
                self._published_mode = mode
                self._mode.publish(String(data=mode.value))

    def _on_gripper(self, source: ArmMode, message: Float64) -> None:
        if self.active:
            with self._deciding:
                self._controller.set_gripper(source, message.data, time.monotonic())

    def _on_twist(self, source: ArmMode, message: TwistStamped) -> None:
        received = self.get_clock().now().nanoseconds
        counts = self._controller.counts
        if not self.active:
            counts['not_active'] += 1
            self._refuse(source, 'the arm is not active; activate it first')
        elif message.header.frame_id != FRAME:
            counts['wrong_frame'] += 1
            self._refuse(source, f'its frame is {message.header.frame_id!r}, not {FRAME!r}')
        else:
            self._execute(source, message, received)
            self._publish_mode()

    def _execute(self, source: ArmMode, message: TwistStamped, received: int) -> None:
        stamp = to_nanoseconds(message.header.stamp)
        age_s = (received - stamp) * 1e-9
        delta = decode_command(message, self._period_s)
        with self._deciding:
            outcome = self._controller.command(source, delta, age_s, time.monotonic())
        self._applied.publish(encode_applied_action(AppliedAction(
            outcome.applied, outcome.commanded, RECORDED_MODE[outcome.source], outcome.flags,
            max(stamp, 0), received, self.get_clock().now().nanoseconds)))
        if outcome.refused and not outcome.flags & StepFlag.OVERRIDDEN:
            self._refuse(source, self._explain(outcome, age_s))

    def _explain(self, outcome: Outcome, age_s: float) -> str:
        names = ', '.join(flag_names(outcome.flags))
        mode, reason = self._controller.mode.value, self._controller.arbiter.reason
        hint = next((f'; {HINTS[flag]}' for flag in HINTS if outcome.flags & flag), '')
        return (f'{names} (stamp {age_s:.3f} s old' + (f', {mode}: {reason}' if reason else '')
                + f'){hint}')

    def _refuse(self, source: ArmMode, reason: str) -> None:
        self.get_logger().warning(f'refused a {source.value} command: {reason}',
                                  throttle_duration_sec=1.0)

    def _on_stop(self, _, response: Trigger.Response) -> Trigger.Response:
        with self._deciding:
            self._controller.stop('~/stop was called')
        return self._answer(response, True, 'stopped; call ~/resume to go on')

    def _on_resume(self, _, response: Trigger.Response) -> Trigger.Response:
        try:
            with self._deciding:
                self._controller.resume(time.monotonic())
        except ControlError as error:
            return self._answer(response, False, str(error))
        homing = self._controller.mode is ArmMode.RESETTING
        return self._answer(response, True, 'listening for commands' + (
            ' when the motion has ended; ~/stop ends it' if homing else ''))

    async def _on_clear_faults(self, _, response: Trigger.Response) -> Trigger.Response:
        try:
            if self._servo is None:
                raise ControlError('the arm is not configured; configure it first')
            if self._clearing is not None and self._clearing.is_alive():
                raise ControlError('the faults are being cleared already')
            future, self._clearing = run_in_thread(self.executor, self._servo.clear_faults,
                                                   'clear faults')
            done = await future
        except REFUSALS as error:
            return self._answer(response, False, f'not cleared: {error}')
        return self._answer(response, True, done)

    def _on_home(self, _, response: Trigger.Response) -> Trigger.Response:
        return self._move_to('home_joints', response)

    def _on_sleep(self, _, response: Trigger.Response) -> Trigger.Response:
        # A policy that still streams, or a bumped stick, must not lift the arm off its rest.
        return self._move_to('sleep_joints', response, then_pause='it was sent to sleep')

    def _move_to(self, name: str, response: Trigger.Response,
                 then_pause: str = '') -> Trigger.Response:
        try:
            with self._deciding:
                seconds = self._controller.move_to(np.array(value(self, name)), time.monotonic(),
                                                   then_pause)
        except (ControlError, SafetyError) as error:
            return self._answer(response, False, f'{name}: {error}')
        after = ', after it the arm is paused until ~/resume' if then_pause else ''
        return self._answer(response, True, f'moving for {seconds:.1f} s; ~/stop ends it{after}')

    def _answer(self, response, success: bool, message: str):
        self._publish_mode()
        return answer(self, response, success, message)

    def _look(self) -> tuple[ArmController, Counter, Servo | None, dict]:
        with self._deciding:
            counts = self._controller.counts.copy()
        return self._controller, counts, self._servo, self._loop.health() if self._loop else {}


def main(args: list[str] | None = None) -> int:
    """Run the arm node."""
    return spin_node(ArmNode, args)


if __name__ == '__main__':
    sys.exit(main())
