"""Whether what the driver reports can still be believed."""

import numpy as np
from stable_crl_ros.robot.arm import ArmState

_FROZEN_RAD = 0.1  # the setpoint moved this far and no joint moved at all
_FROZEN_S = 0.5  # motors take up a motion sooner


class StateWatchdog:
    """
    Notice joint states that have become old, or that stay the same while the arm is driven.

    :param max_age_s: largest time since the stamp last advanced, s.
    """

    def __init__(self, max_age_s: float) -> None:
        self._max_age_s = max_age_s
        self.reset()

    def reset(self) -> None:
        """Forget all: the arm was out of sight, or was moved by something else."""
        self._stamp_ns: int | None = None
        self._joints = self._setpoint = np.full(6, np.nan)
        self._stamped_at = self._moved_at = 0.0

    def check(self, state: ArmState, setpoint: np.ndarray, now: float) -> str:
        """
        Take one reading.

        :param setpoint: (6,) rad, written last.
        :param now: monotonic seconds.
        :returns: what is wrong, '' for nothing.
        """
        if state.stamp_ns != self._stamp_ns:
            self._stamp_ns, self._stamped_at = state.stamp_ns, now
        elif now - self._stamped_at > self._max_age_s:
            return (f'the joint states are {now - self._stamped_at:.2f} s old '
                    f'(at most {self._max_age_s:g} s); is the driver stuck?')
        if not np.array_equal(state.joint_positions, self._joints):
            self._joints, self._setpoint, self._moved_at = state.joint_positions, setpoint, now
        apart = float(np.abs(setpoint - self._setpoint).max())
        if apart > _FROZEN_RAD and now - self._moved_at > _FROZEN_S:
            return (f'no joint has moved for {now - self._moved_at:.1f} s while the setpoint '
                    f'moved {apart:.2f} rad; is the arm powered, with torque on?')
        return ''
