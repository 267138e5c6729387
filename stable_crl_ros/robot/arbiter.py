"""Who commands the arm: one object knows it, latches stops and faults, and decides on claims."""

import enum
import math

from stable_crl_ros.robot.safety import StepFlag

_FAULTS_KEPT = 8


class ControlError(RuntimeError):
    """A request the arm refuses in its present state."""


class ArmMode(enum.StrEnum):
    """Who is in charge of the arm; the values are what the `mode` topic says."""

    IDLE = 'idle'  # not active: read, never moved
    READY = 'ready'  # active, nobody in charge
    TELEOP = 'teleop'
    POLICY = 'policy'
    PAUSED = 'paused'  # latched by `stop` until `resume`
    FAULT = 'fault'  # latched until `clear`, which leaves it paused
    RESETTING = 'resetting'  # on the way home or to sleep


SOURCES = (ArmMode.POLICY, ArmMode.TELEOP)


class Arbiter:
    """
    The owner of the command: policy or operator, the operator first, and nobody while latched.

    Times called `now` are monotonic seconds. A stop and a fault latch in every state, also while
    the arm is not active, and both must be lifted by a person.

    :param timeout_s: silence after which a source is no longer in charge, s.
    """

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._active = False
        self._charge = ArmMode.READY  # or POLICY, TELEOP, RESETTING
        self._paused = self._paused_after_reset = ''
        self._own: list[str] = []
        self._driver: list[str] = []
        self._command_at = self._operator_at = -math.inf

    @property
    def _faults(self) -> list[str]:
        return self._own + self._driver

    @property
    def mode(self) -> ArmMode:
        """Who is in charge now; a fault hides a pause, and both hide the rest."""
        if self._faults:
            return ArmMode.FAULT
        if self._paused:
            return ArmMode.PAUSED
        return self._charge if self._active else ArmMode.IDLE

    @property
    def active(self) -> bool:
        """Say whether the arm is active, latched or not."""
        return self._active

    @property
    def reason(self) -> str:
        """Why it is latched, '' when it is not."""
        return '; '.join(self._faults) or self._paused

    def activate(self) -> None:
        """Listen to claims, unless latched."""
        self._active, self._charge = True, ArmMode.READY

    def deactivate(self) -> None:
        """Listen to nobody; latches stay."""
        self._active, self._charge = False, ArmMode.READY

    def hear(self, source: ArmMode, now: float) -> None:
        """Note a sign of life; an operator's keeps the policy out for the timeout."""
        if source is ArmMode.TELEOP:
            self._operator_at = now

    def refusal(self, source: ArmMode, now: float) -> StepFlag:
        """Say why a source may not command now; no flag when it may."""
        if self.mode not in (ArmMode.READY, *SOURCES):
            return StepFlag.HELD
        fresh = now - self._operator_at < self._timeout_s
        return StepFlag.OVERRIDDEN if source is ArmMode.POLICY and fresh else StepFlag(0)

    def grant(self, source: ArmMode, now: float) -> None:
        """Put a source in charge that `refusal` let pass."""
        self._charge, self._command_at = source, now

    def expire(self, now: float) -> bool:
        """Take the charge from a source that fell silent; say whether that happened."""
        if self._charge not in SOURCES or now - self._command_at <= self._timeout_s:
            return False
        self._charge = ArmMode.READY
        return True

    def pause(self, reason: str) -> None:
        """Latch a stop; the first reason is kept."""
        self._paused = self._paused or reason
        self._charge = ArmMode.READY

    def fault(self, reason: str) -> None:
        """Latch a fault; later ones are added to the reason."""
        if reason not in self._own and len(self._own) < _FAULTS_KEPT:
            self._own.append(reason)
        self._charge = ArmMode.READY

    def report(self, reasons: list[str]) -> None:
        """Latch what the driver says is wrong now, in place of what it said before."""
        self._driver = reasons[:_FAULTS_KEPT]
        self._charge = ArmMode.READY

    def clear(self) -> None:
        """Lift the faults; the arm is then paused, so that it moves only after `resume`."""
        if self._faults:
            self._own, self._driver = [], []
            self._paused = self._paused or 'its faults were cleared'

    def resume(self, left_s: float = 0.0) -> None:
        """
        Lift a stop.

        :param left_s: time until a motion of the arm's own ends, s.
        :raises ControlError: while a fault is latched, or on the way to where it will be paused.
        """
        if self._faults:
            raise ControlError(f'the arm has a fault: {self.reason}; call clear_faults first, '
                               'then resume')
        if self._charge is ArmMode.RESETTING and self._paused_after_reset:
            raise ControlError(f'the arm is on its way to rest, {left_s:.1f} s to go; call resume '
                               'once it is paused there, or stop first to end the motion here')
        self._paused = ''

    def require_free(self) -> None:
        """
        Refuse a motion of the arm's own, as home or sleep, where nothing may move.

        :raises ControlError: when the arm is latched or not active.
        """
        why = {ArmMode.FAULT: f'has a fault: {self.reason}; call clear_faults and resume first',
               ArmMode.PAUSED: f'is paused ({self.reason}); call resume first',
               ArmMode.IDLE: 'is not active; activate it first'}
        if self.mode in why:
            raise ControlError(f'the arm {why[self.mode]}')

    def begin_reset(self, then_pause: str = '') -> None:
        """
        Keep every source out until `end_reset`, a stop or a fault.

        :param then_pause: why to latch a stop at its end; '' to listen to claims again.
        """
        self._charge, self._paused_after_reset = ArmMode.RESETTING, then_pause

    def end_reset(self) -> None:
        """Listen to claims again, or be paused, as `begin_reset` was told."""
        if self._charge is ArmMode.RESETTING:
            self._charge = ArmMode.READY
            self._paused = self._paused or self._paused_after_reset
