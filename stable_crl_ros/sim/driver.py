"""The simulated world in real time, as an arm driver and as a camera source."""

import numpy as np
from stable_crl_ros.cameras import CameraError
from stable_crl_ros.robot.arm import ArmError, ArmFault, ArmState, check_setpoint
from stable_crl_ros.sim.real_time import RealTime
from stable_crl_ros.sim.world import World, WorldError

SLICE = 0.02  # s, physics advanced at once


class SimArm:
    """
    `robot.arm.ArmDriver` for a simulated world, which it keeps running at the speed of real time.

    :param world: shared with the camera; the caller closes it.
    """

    def __init__(self, world: World) -> None:
        self._world = world
        self._time = RealTime(world.advance, SLICE)

    def connect(self) -> None:
        """Hold the present position and let time run. Connecting twice changes nothing."""
        if self._time.running:
            return
        state = self._world.arm_state()
        self._world.set_arm_targets(state.joint_positions, state.gripper)
        self._time.start()

    def close(self) -> None:
        """Stop the simulated time, the arm where it is. Calling it twice is harmless."""
        self._time.stop()

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

    def setpoint(self) -> tuple[np.ndarray, float]:
        """Return what the motors move towards."""
        return self._world.arm_targets()

    def faults(self) -> list[ArmFault]:
        """Return the failure of the physics, if there was one."""
        return [] if self._time.failure is None else [
            ArmFault(f'the simulation stopped: {self._time.failure}; start the sim node anew')]

    def clear_faults(self) -> str:
        """
        Return that there is nothing to mend.

        :raises ArmError: when the physics has failed.
        """
        if self._time.failure is not None:
            raise ArmError(str(self.faults()[0]))
        return 'the simulated arm has no faults'

    def health(self) -> dict[str, str]:
        """Return nothing: motors are not modelled."""
        return {}

    def _check(self) -> None:
        if self._time.failure is not None:
            raise ArmError(str(self.faults()[0]))
        if not self._time.running:
            raise ArmError('the simulated arm is not connected; call connect() first')


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
