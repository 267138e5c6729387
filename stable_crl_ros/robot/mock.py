"""A WidowX without hardware or physics: joints follow their setpoints with a short lag."""

import math
import threading
import time

import numpy as np
from stable_crl_ros.robot.arm import ArmError, ArmFault, ArmState, check_setpoint
from stable_crl_ros.robot.kinematics import JOINT_LOWER, JOINT_UPPER, START


class MockArm:
    """
    Arm driver for trying out everything above it; safe to call from several threads.

    :param joints: (6,) rad, where it stands when made; kept over `close` and `connect`.
    :param gripper: opening when made, 0 closed .. 1 open.
    :param time_constant_s: first-order lag of joints and gripper, s. After this time 63 % of a
        step is made.
    :raises ArmError: for a time constant not above 0, or joints that are no setpoint.
    """

    def __init__(
        self, joints: np.ndarray = START, gripper: float = 1.0, time_constant_s: float = 0.06,
    ) -> None:
        if not (math.isfinite(time_constant_s) and time_constant_s > 0.0):
            raise ArmError(f'time_constant_s must be above 0 s, got {time_constant_s}')
        self._time_constant_s = time_constant_s
        self._lock = threading.Lock()
        self._connected = False
        self._updated = time.monotonic()
        self._position = np.append(check_setpoint(joints, gripper), gripper)  # (7,) gripper last
        self._setpoint = self._position.copy()

    def connect(self) -> None:
        """Start answering and hold the present position."""
        with self._lock:
            self._follow()
            self._setpoint = self._position.copy()
            self._connected = True

    def close(self) -> None:
        """Stop answering; the joints still go to the last setpoint and stay there."""
        with self._lock:
            self._connected = False

    def read(self) -> ArmState:
        """
        Return where the joints are now; efforts are 0, nothing being modelled.

        :raises ArmError: when not connected.
        """
        with self._lock:
            self._check_connected()
            self._follow()
            velocities = (self._setpoint[:6] - self._position[:6]) / self._time_constant_s
            return ArmState(time.time_ns(), self._position[:6].copy(), velocities, np.zeros(6),
                            float(self._position[6]))

    def write(self, joint_positions: np.ndarray, gripper: float) -> None:
        """
        Take one setpoint; like the motors, go no further than the joint limits.

        :raises ArmError: when not connected, for a wrong length or a number that is not finite.
        """
        joints = np.clip(check_setpoint(joint_positions, gripper), JOINT_LOWER, JOINT_UPPER)
        with self._lock:
            self._check_connected()
            self._follow()
            self._setpoint = np.append(joints, min(max(gripper, 0.0), 1.0))

    def setpoint(self) -> tuple[np.ndarray, float]:
        """Return the setpoint that is held."""
        with self._lock:
            return self._setpoint[:6].copy(), float(self._setpoint[6])

    def faults(self) -> list[ArmFault]:
        """Return an empty list: nothing in it can break."""
        return []

    def clear_faults(self) -> str:
        """Return that there is nothing to mend."""
        return 'the mock arm has no faults'

    def health(self) -> dict[str, str]:
        """Return nothing: there are no motors."""
        return {}

    def _check_connected(self) -> None:
        if not self._connected:
            raise ArmError('the mock arm is not connected; call connect() first')

    def _follow(self) -> None:
        """Let the lag run up to now; exact for any time since the last call."""
        now = time.monotonic()
        left = math.exp(-(now - self._updated) / self._time_constant_s)
        self._position = self._setpoint + left * (self._position - self._setpoint)
        self._updated = now
