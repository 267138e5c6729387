"""The servo cycle: read the arm, decide, write the setpoint; the one user of a driver."""

from collections.abc import Callable
import math
import threading
import time

import numpy as np
from stable_crl_ros.robot.arbiter import ArmMode
from stable_crl_ros.robot.arm import ArmDriver, ArmError, ArmState
from stable_crl_ros.robot.controller import ArmController

_HEALTH_S = 1.0
_READINGS = 3  # attempts at the state that the arm is taken over in


class Servo:
    """
    Connect a controller and a driver.

    Two locks keep slow and quick apart. `deciding` guards the controller and is held for
    computations only, so a stop takes effect whatever the bus is waiting for; whoever calls the
    controller holds it. The bus lock guards the driver; `begin`, `clear_faults` and
    `undisturbed` wait for the end of a cycle.

    :param driver: connected.
    :param clock: monotonic seconds.
    """

    def __init__(
        self, driver: ArmDriver, controller: ArmController, deciding: threading.Lock,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._driver, self._controller, self._clock = driver, controller, clock
        self._deciding, self._bus = deciding, threading.RLock()
        self._health_at = -_HEALTH_S
        self.health: dict[str, str] = {}
        self.faults: list[str] = []

    def begin(self) -> None:
        """
        Take over where the arm is, without moving it.

        :raises ArmError: when it cannot be read, or has a fault.
        """
        with self._bus:
            state, held = self._healthy_state(), self._driver.setpoint()
            with self._deciding:
                self._controller.begin(state, self._clock(), held)

    def cycle(self) -> ArmState | None:
        """
        Run one cycle; call it at servo rate.

        A cycle whose reading is lost still writes the held setpoint: the motors' own watchdog
        would stop the arm otherwise.

        :returns: what was read; None when that failed.
        """
        with self._bus:
            state, error = self._read()
            with self._deciding:
                setpoint = self._controller.setpoint(self._clock(), stalled=error is not None)
            wrote = False
            if setpoint is not None:
                try:
                    self._driver.write(*setpoint)
                    wrote = True
                except ArmError as failure:
                    error = error or failure
            with self._deciding:
                self._controller.end_cycle(error, wrote, self._clock())
        return state

    def _read(self) -> tuple[ArmState | None, ArmError | None]:
        state, error = None, None
        try:
            state = self._reading()
        except ArmError as failure:
            error = failure
        faults = self._driver.faults()
        now = self._clock()
        if now - self._health_at >= _HEALTH_S:
            self.health, self._health_at = self._driver.health(), now
        self.faults = [str(fault) for fault in faults]
        with self._deciding:
            if state is not None:
                self._controller.observe(state, now)
            if self.faults:
                self._controller.report(self.faults)
        return state, error

    def clear_faults(self) -> str:
        """
        Let the driver mend what it can; the arm is then paused, where it is.

        :returns: what was done.
        :raises ArmError: when a fault is left.
        """
        with self._bus:
            with self._deciding:
                latched = self._controller.mode is ArmMode.FAULT
            if not latched:
                return 'the arm has no fault'
            done = self._driver.clear_faults()
            state, held = self._healthy_state(), self._driver.setpoint()
            with self._deciding:
                self._controller.clear(state, self._clock(), held)
        return f'{done}; call ~/resume to go on'

    def undisturbed(self, action: Callable[[], None]) -> None:
        """
        Let something else move the arm between two cycles, and take over from there.

        :param action: moves it, as a reset of the simulation does.
        """
        with self._bus:
            action()
            with self._deciding:
                active = self._controller.arbiter.active
            if active:
                self.begin()

    def _healthy_state(self) -> ArmState:
        """Read the arm; a single lost cycle is no fault here either."""
        for attempts_left in reversed(range(_READINGS)):
            if faults := self._driver.faults():
                raise ArmError('; '.join(map(str, faults)))
            try:
                return self._reading()
            except ArmError:
                if not attempts_left:
                    raise

    def _reading(self) -> ArmState:
        """Read the arm; a driver that does not know where a joint is has not read it."""
        state = self._driver.read()
        if not (np.isfinite(state.joint_positions).all() and math.isfinite(state.gripper)):
            raise ArmError(f'joint positions that are not finite: {state.joint_positions}, '
                           f'gripper {state.gripper}; is all of the arm started?')
        return state
