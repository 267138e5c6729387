"""The arm's decisions, without ROS: which target, which setpoint now, and what is refused."""

from collections import Counter
from dataclasses import dataclass

import numpy as np
from stable_crl_ros.robot.arbiter import Arbiter, ArmMode, SOURCES
from stable_crl_ros.robot.arm import ArmError, ArmState
from stable_crl_ros.robot.journey import check_pose, check_way, MOVED_RAD, why_blocked
from stable_crl_ros.robot.kinematics import forward_kinematics
from stable_crl_ros.robot.motion import Motion
from stable_crl_ros.robot.rate import RateLimit
from stable_crl_ros.robot.safety import (
    apply_action,
    ArmLimits,
    flag_names,
    REFUSED,
    StepFlag,
    Target,
)
from stable_crl_ros.robot.watchdog import StateWatchdog

FUTURE_TOLERANCE_S = 0.02  # clocks of two machines kept by NTP differ by less

Setpoint = tuple[np.ndarray, float]  # joints (6,) rad, gripper opening 0..1


@dataclass(frozen=True)
class ControlSettings:
    """
    How commands are timed.

    :param period_s: control period, over which a command is executed, s.
    :param servo_period_s: nominal time between two setpoints, s.
    :param command_timeout_s: silence after which nobody is in charge, s.
    :param max_command_age_s: oldest stamp a command may carry, s.
    :param max_state_age_s: oldest joint states that are believed, s.
    :param max_lost_cycles: servo cycles lost in a row that are a fault.
    :param homing_speed: of the fastest joint on the way home or to sleep, rad/s.
    """

    period_s: float = 0.2
    servo_period_s: float = 0.02
    command_timeout_s: float = 0.5
    max_command_age_s: float = 0.5
    max_state_age_s: float = 0.2
    max_lost_cycles: int = 5
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
    Integrate commands on the previous target and give the setpoint of each servo cycle.

    Times called `now` are monotonic seconds. It talks to no driver and knows no threads:
    `servo.Servo` runs the cycle. Only `stop`, `fault` and `resume` work before `begin`.
    """

    def __init__(self, limits: ArmLimits, settings: ControlSettings) -> None:
        self.counts: Counter[str] = Counter()
        self.arbiter = Arbiter(settings.command_timeout_s)
        self.state: ArmState | None = None
        self._limits, self._settings = limits, settings
        self._motion = Motion(limits.max_joint_velocity, settings.servo_period_s)
        self._watchdog = StateWatchdog(settings.max_state_age_s)
        self._target: Target | None = None
        self._wanted_gripper: dict[ArmMode, float] = {}  # by whom, since the last step
        self._lost = 0
        self._rate = {source: RateLimit(settings.period_s) for source in SOURCES}

    @property
    def mode(self) -> ArmMode:
        """Who is in charge now."""
        return self.arbiter.mode

    @property
    def moving(self) -> bool:
        """Say whether somebody is in charge who may move the arm."""
        return self.mode in (*SOURCES, ArmMode.RESETTING)

    def begin(self, state: ArmState, now: float, held: Setpoint | None = None) -> None:
        """
        Take over where the arm is, without moving it; latches stay.

        :param held: what its motors are told to hold, where the driver knows.
        """
        self._rebase(state, now, held)
        self.arbiter.activate()

    def _rebase(self, state: ArmState, now: float, held: Setpoint | None) -> None:
        self.state, joints, gripper = state, state.joint_positions, state.gripper
        if held is not None:  # joints sag below it, and what the gripper holds keeps it open
            near = np.abs(held[0] - joints) <= MOVED_RAD
            joints, gripper = np.where(near, held[0], joints), held[1]
        self._target = Target.from_joints(joints, gripper)
        self._wanted_gripper.clear()
        self._motion.begin(joints, self._target.gripper, now)
        self._watchdog.reset()

    def end(self) -> None:
        """Hold the newest setpoint; nobody is in charge."""
        self._hold()
        self.arbiter.deactivate()

    def _hold(self) -> None:
        if self._motion.begun:
            gripper = self._target.gripper
            self._target = Target.from_joints(self._motion.freeze(gripper), gripper)
            self._wanted_gripper.clear()

    def observe(self, state: ArmState, now: float) -> None:
        """Take what a servo cycle read; states that cannot be true are a fault."""
        self.state = state
        if self._motion.begun:
            doubt = self._watchdog.check(state, self._motion.sent, now)
            if doubt and self.mode is not ArmMode.FAULT:
                self.counts['state_faults'] += 1
                self.fault(doubt)
            elif self.mode is ArmMode.RESETTING:
                self._mind_the_way(now)

    def _mind_the_way(self, now: float) -> None:
        """Lean on nothing that is in the way of a motion of the arm's own."""
        if why := why_blocked(self._motion.sent, self.state.joint_positions,
                              self._settings.homing_speed, self._motion.overdue_s):
            self.counts['blocked'] += 1
            self.arbiter.pause(why)
            self._go_to(self._where_it_is(), self._settings.period_s, now)

    def _where_it_is(self) -> Target:
        return Target.from_joints(self.state.joint_positions, self._target.gripper)

    def _behind(self) -> float:
        """Return how far the joint that is farthest from its setpoint is from it, rad."""
        return float(np.abs(self._motion.sent - self.state.joint_positions).max())

    def setpoint(self, now: float, stalled: bool = False) -> Setpoint | None:
        """
        Return what to write in this servo cycle; None while the arm is not active.

        :param stalled: stand still, because this cycle's reading was lost.
        :returns: joints (6,) rad, gripper opening 0..1.
        """
        if not (self._motion.begun and self.arbiter.active):
            return None
        finished = self._motion.finished
        if self.arbiter.expire(now):
            self.counts['command_timeouts'] += 1
            if not finished:
                self._hold()
        elif finished and self._behind() <= MOVED_RAD:
            self.arbiter.end_reset()
        return self._motion.advance(now, stalled or self._lost > 0)

    def end_cycle(self, error: ArmError | None, wrote: bool, now: float) -> None:
        """
        Count a servo cycle; too many lost in a row are a fault, a single one is not.

        :param error: why reading or writing failed.
        :param wrote: whether the newest setpoint was written, as it is where only reading failed.
        """
        if wrote:
            self._motion.wrote(now)
        if error is None:
            self._lost = 0
            return
        if self.mode is ArmMode.FAULT:
            return
        self.counts['lost_cycles'] += 1
        self._lost += 1
        if self._lost >= self._settings.max_lost_cycles:
            self.counts['bus_faults'] += 1
            self.fault(f'{self._lost} servo cycles in a row were lost: {error}')

    def set_gripper(self, source: ArmMode, opening: float, now: float) -> None:
        """
        Take a gripper setpoint, 0 closed .. 1 open; it acts with the source's next motion command.

        What is not finite makes that command refused, what is outside 0..1 makes it clipped.
        """
        self.arbiter.hear(source, now)
        if not self.arbiter.refusal(source, now):
            self._wanted_gripper[source] = float(opening)

    def command(self, source: ArmMode, delta: np.ndarray, age_s: float, now: float) -> Outcome:
        """
        Execute one motion command over the next control period, or refuse it.

        :param source: POLICY or TELEOP.
        :param delta: (6,) metres and radians per control period, fixed axes of base_link.
        :param age_s: time since the command's stamp, negative when it lies in the future.
        """
        opening = self._wanted_gripper.get(source, self._target.gripper)
        commanded = np.append(np.asarray(delta, float), opening)
        flags = self._refusal(source, commanded, age_s, now)
        applied = np.append(np.zeros(6), self._target.gripper)
        if not flags:
            applied, flags = self._apply(source, commanded, now)
        self.counts['commands'] += 1
        self.counts.update(flag_names(flags))
        return Outcome(ArmMode.IDLE if flags & StepFlag.HELD else source, applied, commanded,
                       flags)

    def _refusal(self, source, commanded, age_s, now) -> StepFlag:
        """Say why a command is not even tried, in the order of the checks."""
        late = not age_s <= self._settings.max_command_age_s
        early = age_s < -FUTURE_TOLERANCE_S
        if not (late or early):
            self.arbiter.hear(source, now)
        bad = not np.isfinite(commanded).all()
        if bad or late or early:
            # The setpoint came with this command: it must neither block the next nor act with it.
            self._wanted_gripper.pop(source, None)
        if bad:
            return StepFlag.NON_FINITE
        if late:
            return StepFlag.STALE
        if early:
            return StepFlag.FUTURE
        refusal = self.arbiter.refusal(source, now)
        if refusal or self._rate[source].admit(now):
            return refusal
        return StepFlag.TOO_SOON

    def _apply(self, source, commanded, now) -> tuple[np.ndarray, StepFlag]:
        measured = forward_kinematics(self.state.joint_positions)
        step = apply_action(self._target, commanded, self._limits, self._settings.period_s,
                            measured, self.state.joint_efforts, self.state.joint_positions)
        self.arbiter.grant(source, now)
        if not step.refused:
            self._go_to(step.target, self._settings.period_s, now, tool_straight=True)
        return step.applied, step.flags

    def stop(self, reason: str) -> None:
        """Hold the newest setpoint and listen to nobody until `resume`."""
        self.arbiter.pause(reason)
        self._hold()

    def fault(self, reason: str) -> None:
        """Hold the newest setpoint and listen to nobody until `clear` and `resume`."""
        if self.mode is not ArmMode.FAULT:
            self._hold()
        self.arbiter.fault(reason)

    def report(self, reasons: list[str]) -> None:
        """Hold as in `fault`, for what the driver says now; what it said before is replaced."""
        if self.mode is not ArmMode.FAULT:
            self._hold()
        self.arbiter.report(reasons)

    def clear(self, state: ArmState, now: float, held: Setpoint | None = None) -> None:
        """
        Lift the faults, which the driver has mended, and hold where the arm is now.

        :param state: read after the mending: a motor that had no torque may have sunk.
        :param held: as for `begin`.
        """
        self.arbiter.clear()
        self._lost = 0
        if self._motion.begun:
            self._rebase(state, now, held)

    def resume(self, now: float) -> None:
        """
        Listen again; the gripper keeps its setpoint, and so do joints that are near theirs.

        An arm that was moved away meanwhile is held where it is. One that was not paused goes on.

        :raises ControlError: while a fault is latched, or on the way to rest.
        """
        paused = self.mode is ArmMode.PAUSED
        self.arbiter.resume(max(0.0, -self._motion.overdue_s) if self._motion.begun else 0.0)
        if paused and self._motion.begun and self._behind() > MOVED_RAD:
            self._go_to(self._where_it_is(), self._settings.period_s, now)

    def move_to(self, joints: np.ndarray, now: float, then_pause: str = '') -> float:
        """
        Move all joints slowly to a pose; commands are refused meanwhile, `stop` ends it.

        A joint that does not follow ends it too: the arm is then paused, where it is.

        :param joints: (6,) rad.
        :param then_pause: why the arm stays there until `resume`; '' to listen to commands again.
        :returns: duration, s.
        :raises ControlError: when latched or not active, for a pose that the joints cannot take,
            or a way on which the gripper would pass below the workspace, or the arm touch
            something.
        """
        self.arbiter.require_free()
        start = self._motion.sent
        target = Target.from_joints(joints, self._target.gripper)
        check_pose(joints)
        check_way(start, target.joints, self._limits)
        speed = self._settings.homing_speed
        duration = max(1.0, float(np.abs(target.joints - start).max()) / speed)
        self._go_to(target, duration, now)
        self.arbiter.begin_reset(then_pause)
        return duration

    def _go_to(self, target: Target, duration_s: float, now: float,
               tool_straight: bool = False) -> None:
        self._target = target
        self._wanted_gripper.clear()
        self._motion.go_to(target.joints, target.gripper, duration_s, now, tool_straight)
