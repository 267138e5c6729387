"""The arm's decisions, without ROS: who is in charge, which target, which setpoint now."""

from collections import Counter
from dataclasses import dataclass
import enum
import math

import numpy as np
from stable_crl_ros.robot.arm import ArmDriver, ArmError, ArmState, ServoInterpolator
from stable_crl_ros.robot.kinematics import forward_kinematics
from stable_crl_ros.robot.rate import RateLimit
from stable_crl_ros.robot.safety import (
    apply_action,
    ArmLimits,
    flag_names,
    REFUSED,
    StepFlag,
    Target,
)

FUTURE_TOLERANCE_S = 0.02  # clocks of two machines kept by NTP differ by less
_FAULT_CHECK_S = 0.2
_PATH_SAMPLES = 40
_FLOOR_SLACK = 0.002  # m


class ControlError(RuntimeError):
    """A request the arm refuses in its present state."""


class ArmMode(enum.StrEnum):
    """Who is in charge of the arm; the values are what the `mode` topic says."""

    IDLE = 'idle'
    POLICY = 'policy'
    TELEOP = 'teleop'
    STOPPED = 'stopped'
    HOMING = 'homing'


@dataclass(frozen=True)
class ControlSettings:
    """
    How commands are timed.

    :param period_s: control period, over which a command is executed, s.
    :param command_timeout_s: silence after which nobody is in charge, s.
    :param max_command_age_s: oldest stamp a command may carry, s.
    :param homing_speed: of the fastest joint on the way home or to sleep, rad/s.
    """

    period_s: float = 0.2
    command_timeout_s: float = 0.5
    max_command_age_s: float = 0.5
    homing_speed: float = 0.5


@dataclass(frozen=True, eq=False)
class Outcome:
    """
    What became of one command.

    :param source: POLICY or TELEOP, or IDLE when the arm was not listening to either.
    :param applied: (7,) what the target moved by, m, rad, gripper 0..1; no motion if refused.
    :param commanded: (7,) what was asked for, same units.
    :param flags: what was clipped, or why it was refused.
    """

    source: ArmMode
    applied: np.ndarray
    commanded: np.ndarray
    flags: StepFlag

    @property
    def refused(self) -> bool:
        """Say whether nothing was applied."""
        return bool(self.flags & REFUSED)


class ArmController:
    """
    Integrate commands on the previous target and stream setpoints to a driver.

    Times called `now` are monotonic seconds. The controller is used from one thread. Set `driver`
    to a connected arm, then call `begin`; only `stop` and `resume` work before.
    """

    def __init__(self, limits: ArmLimits, settings: ControlSettings) -> None:
        self.counts: Counter[str] = Counter()
        self.driver: ArmDriver | None = None
        self.state: ArmState | None = None
        self.stop_reason = ''
        self._limits, self._settings = limits, settings
        self._mode = ArmMode.IDLE
        self._target: Target | None = None
        self._wanted_gripper = 0.0
        self._motion: ServoInterpolator | None = None
        self._motion_start = 0.0
        self._command_at = self._teleop_at = self._checked_at = -math.inf
        self._rate = {source: RateLimit(settings.period_s)
                      for source in (ArmMode.POLICY, ArmMode.TELEOP)}

    @property
    def mode(self) -> ArmMode:
        """Who is in charge now."""
        return ArmMode.STOPPED if self.stop_reason else self._mode

    @property
    def moving(self) -> bool:
        """Say whether somebody is in charge who may move the arm."""
        return self.mode in (ArmMode.POLICY, ArmMode.TELEOP, ArmMode.HOMING)

    def read(self, now: float) -> ArmState | None:
        """Read the arm; a failure stops it, and None is returned."""
        try:
            self.state = self.driver.read()
        except ArmError as error:
            self._fault(error, now)
            return None
        return self.state

    def begin(self, now: float) -> None:
        """
        Take over where the arm is, without moving it.

        :raises ArmError: when it cannot be read, or has a fault.
        """
        self.state = self._healthy_state()
        self._mode = ArmMode.IDLE
        self._hold(self.state.joint_positions, self.state.gripper, now)

    def _healthy_state(self) -> ArmState:
        self._check_faults()
        return self.driver.read()

    def _check_faults(self) -> None:
        if faults := self.driver.faults():
            raise ArmError('; '.join(map(str, faults)))

    def end(self, now: float) -> None:
        """Hold the present setpoint; nobody is in charge."""
        if self._target is not None:
            self._hold(*self._setpoint(now), now)
        self._mode = ArmMode.IDLE

    def set_gripper(self, source: ArmMode, opening: float, now: float) -> None:
        """
        Take a gripper setpoint, 0 closed .. 1 open; it acts with the next motion command.

        What is not finite makes that command refused, what is outside 0..1 makes it clipped.
        """
        if source is ArmMode.TELEOP:
            self._teleop_at = now
        if self._overridden(source, now) or self.mode in (ArmMode.STOPPED, ArmMode.HOMING):
            return
        self._wanted_gripper = float(opening)

    def command(self, source: ArmMode, delta: np.ndarray, age_s: float, now: float) -> Outcome:
        """
        Execute one motion command over the next control period, or refuse it.

        :param source: POLICY or TELEOP.
        :param delta: (6,) metres and radians per control period, fixed axes of base_link.
        :param age_s: time since the command's stamp, negative when it lies in the future.
        """
        commanded = np.append(np.asarray(delta, float), self._wanted_gripper)
        refusal = self._refusal(source, age_s, now)
        if source is ArmMode.TELEOP and not refusal & (StepFlag.STALE | StepFlag.FUTURE):
            self._teleop_at = now
        if refusal:
            applied, flags = np.append(np.zeros(6), self._target.gripper), refusal
        else:
            applied, flags = self._apply(source, commanded, now)
        self.counts['commands'] += 1
        self.counts.update(flag_names(flags))
        return Outcome(ArmMode.IDLE if flags & StepFlag.HELD else source, applied, commanded,
                       flags)

    def _apply(self, source, commanded, now) -> tuple[np.ndarray, StepFlag]:
        measured = forward_kinematics(self.state.joint_positions)
        step = apply_action(self._target, commanded, self._limits, self._settings.period_s,
                            measured)
        if step.flags & StepFlag.NON_FINITE:
            self._wanted_gripper = self._target.gripper  # one bad setpoint must not block all
            return step.applied, step.flags
        self._mode, self._command_at = source, now
        if not step.refused:
            self._go_to(step.target, self._settings.period_s, now)
        return step.applied, step.flags

    def _refusal(self, source: ArmMode, age_s: float, now: float) -> StepFlag:
        if not age_s <= self._settings.max_command_age_s:
            return StepFlag.STALE
        if age_s < -FUTURE_TOLERANCE_S:
            return StepFlag.FUTURE
        if self.mode in (ArmMode.STOPPED, ArmMode.HOMING):
            return StepFlag.HELD
        if self._overridden(source, now):
            return StepFlag.OVERRIDDEN
        return StepFlag(0) if self._rate[source].admit(now) else StepFlag.TOO_SOON

    def _overridden(self, source: ArmMode, now: float) -> bool:
        fresh = now - self._teleop_at < self._settings.command_timeout_s
        return source is ArmMode.POLICY and fresh

    def stop(self, reason: str, now: float) -> None:
        """Hold the present setpoint and listen to nobody until `resume`."""
        if not self.stop_reason:
            self.end(now)
            self.stop_reason = reason

    def resume(self, now: float) -> None:
        """
        Listen again, from where the arm is; the gripper keeps its setpoint.

        :raises ControlError: while the driver reports a fault.
        """
        if self._target is not None and self.driver is not None:
            try:
                self.state = self._healthy_state()
            except ArmError as error:
                raise ControlError(f'the arm has a fault: {error}; clear it first') from error
            self._hold(self.state.joint_positions, self._target.gripper, now)
        self.stop_reason = ''

    def move_to(self, joints: np.ndarray, now: float) -> float:
        """
        Move all joints slowly to a pose; commands are refused meanwhile, `stop` ends it.

        :param joints: (6,) rad.
        :returns: duration, s.
        :raises ControlError: when stopped, or when the gripper would pass below the workspace.
        """
        if self.stop_reason:
            raise ControlError(f'the arm is stopped ({self.stop_reason}); call resume first')
        start, gripper = self._setpoint(now)
        target = Target.from_joints(joints, gripper)
        self._check_path(start, target.joints)
        speed = self._settings.homing_speed
        duration = max(1.0, float(np.abs(target.joints - start).max()) / speed)
        self._go_to(target, duration, now)
        self._mode = ArmMode.HOMING
        return duration

    def _check_path(self, start: np.ndarray, end: np.ndarray) -> None:
        heights = [forward_kinematics(start + fraction * (end - start))[2, 3]
                   for fraction in np.linspace(0.0, 1.0, _PATH_SAMPLES)]
        floor = min(heights[0], heights[-1], self._limits.workspace_low[2]) - _FLOOR_SLACK
        if min(heights) < floor:
            raise ControlError(f'the gripper would pass at z = {min(heights):.3f} m, below '
                               f'{floor:.3f} m; raise the arm first')

    def tick(self, now: float) -> None:
        """Send the setpoint of this moment; call it at servo rate. A failure stops the arm."""
        try:
            if now - self._checked_at >= _FAULT_CHECK_S:
                self._checked_at = now
                self._check_faults()
            self._end_motion(now)
            self.driver.write(*self._setpoint(now))
        except ArmError as error:
            self._fault(error, now)

    def _end_motion(self, now: float) -> None:
        finished = self._motion.finished(now - self._motion_start)
        commanded = self._mode in (ArmMode.POLICY, ArmMode.TELEOP)
        if commanded and now - self._command_at > self._settings.command_timeout_s:
            if not finished:
                self._hold(*self._setpoint(now), now)
            self._mode = ArmMode.IDLE
        elif self._mode is ArmMode.HOMING and finished:
            self._mode = ArmMode.IDLE

    def _fault(self, error: ArmError, now: float) -> None:
        self.counts['driver_errors'] += 1
        self.stop(f'driver: {error}', now)

    def _setpoint(self, now: float) -> tuple[np.ndarray, float]:
        return self._motion.sample(now - self._motion_start)

    def _hold(self, joints: np.ndarray, gripper: float, now: float) -> None:
        self._target = Target.from_joints(joints, gripper)
        self._wanted_gripper = self._target.gripper
        self._motion = ServoInterpolator(self._target.joints, self._target.joints,
                                         self._target.gripper, self._settings.period_s)
        self._motion_start = now

    def _go_to(self, target: Target, duration_s: float, now: float) -> None:
        start, _ = self._setpoint(now)
        # A command that came early starts behind the last target and has further to go.
        fastest = float(np.abs(target.joints - start).max()) / self._limits.max_joint_velocity
        self._target, self._wanted_gripper = target, target.gripper
        self._motion = ServoInterpolator(start, target.joints, target.gripper,
                                         max(duration_s, fastest))
        self._motion_start = now
