"""The simulated world in real time, as an arm driver and as a camera source."""

import threading
import time

import numpy as np
from stable_crl_ros.cameras import CameraError
from stable_crl_ros.robot.arm import ArmError, ArmFault, ArmState, check_setpoint
from stable_crl_ros.sim.world import World, WorldError

SLICE = 0.02  # s, physics advanced at once
MAX_CATCH_UP = 0.1  # s of real time; what is later than that is lost, not made up for


class SimArm:
    """
    `robot.arm.ArmDriver` for a simulated world, which it keeps running at the speed of real time.

    :param world: shared with the camera; the caller closes it.
    """

    def __init__(self, world: World) -> None:
        self._world = world
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._failure: Exception | None = None

    def connect(self) -> None:
        """Hold the present position and let time run. Connecting twice changes nothing."""
        if self._thread is not None:
            return
        state = self._world.arm_state()
        self._world.set_arm_targets(state.joint_positions, state.gripper)
        self._stop.clear()
        self._failure = None
        self._thread = threading.Thread(target=self._run, name='sim-physics', daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop the simulated time, the arm where it is. Calling it twice is harmless."""
        if self._thread is not None:
            self._stop.set()
            self._thread.join()
            self._thread = None

    def read(self) -> ArmState:
        """
        Return the state at this moment.

        :raises ArmError: before `connect`, or when the physics has failed.
        """
        self._check()
        return self._world.arm_state()

    def write(self, joint_positions: np.ndarray, gripper: float) -> None:
        """
        Set what the motors move towards.

        :param joint_positions: (6,) rad.
        :param gripper: opening, 0 closed .. 1 open.
        :raises ArmError: for a setpoint that is not finite; before `connect`; when the physics
            has failed.
        """
        self._check()
        self._world.set_arm_targets(check_setpoint(joint_positions, gripper), gripper)

    def faults(self) -> list[ArmFault]:
        """Return the failure of the physics, if there was one."""
        return [] if self._failure is None else [
            ArmFault(f'the simulation stopped: {self._failure}; start the sim node anew')]

    def clear_faults(self) -> str:
        """
        Return that there is nothing to mend.

        :raises ArmError: when the physics has failed.
        """
        if self._failure is not None:
            raise ArmError(str(self.faults()[0]))
        return 'the simulated arm has no faults'

    def health(self) -> dict[str, str]:
        """Return nothing: motors are not modelled."""
        return {}

    def _check(self) -> None:
        if self._failure is not None:
            raise ArmError(str(self.faults()[0]))
        if self._thread is None:
            raise ArmError('the simulated arm is not connected; call connect() first')

    def _run(self) -> None:
        due = time.monotonic()
        try:
            while not self._stop.wait(max(0.0, due - time.monotonic())):
                self._world.advance(SLICE)
                due = max(due + SLICE, time.monotonic() - MAX_CATCH_UP)
        except Exception as error:  # a dead thread would leave the arm silently frozen
            self._failure = error


class SimCamera:
    """
    `cameras.Source` of a simulated world; it answers at once, so a camera node paces it.

    :param world: shared with the arm; the caller closes it.
    """

    description = 'simulated camera'
    live = True

    def __init__(self, world: World) -> None:
        self._world = world

    def read(self) -> tuple[int, np.ndarray]:
        """
        Take a picture.

        :returns: when the scene was copied (ns, system clock); uint8 RGB, shape (H, W, 3).
        :raises CameraError: when there is no working GL library, or the world is closed.
        """
        try:
            return self._world.capture()
        except WorldError as error:
            raise CameraError(str(error)) from error

    def close(self) -> None:
        """Nothing to do: the camera belongs to the world."""
