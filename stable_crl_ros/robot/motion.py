"""From a target to the setpoint of each servo cycle: on a straight path, and never too fast."""

import numpy as np
from stable_crl_ros.robot.arm import ServoInterpolator
from stable_crl_ros.robot.kinematics import JOINT_LOWER, JOINT_UPPER
from stable_crl_ros.robot.way import straight_way

_LATE = 2.0  # periods; a cycle later than that does not make up for the time lost


class Motion:
    """
    The stream of setpoints, which begins at `begin`.

    Whatever the path asks for, a setpoint lies within the joint limits and no further from the
    last one written than the joint speed allows in the time since then.

    :param max_joint_velocity: rad/s.
    :param servo_period_s: nominal time between two setpoints, s.
    """

    def __init__(self, max_joint_velocity: float, servo_period_s: float) -> None:
        self._speed = max_joint_velocity
        self._longest_s = _LATE * servo_period_s
        self._path: ServoInterpolator | None = None
        self._elapsed = self._clock = self._written_at = 0.0
        self._sent = self._written = np.zeros(6)

    @property
    def begun(self) -> bool:
        """Say whether there is a setpoint."""
        return self._path is not None

    @property
    def sent(self) -> np.ndarray:
        """The joints of the newest setpoint, (6,) rad."""
        return self._sent

    @property
    def finished(self) -> bool:
        """Say whether the path has been gone to its end."""
        return self._path.finished(self._elapsed)

    @property
    def overdue_s(self) -> float:
        """Time since the path was gone to its end, s; negative before."""
        return self._elapsed - self._path.duration_s

    def begin(self, joints: np.ndarray, gripper: float, now: float) -> None:
        """
        Start from where the arm was measured, whatever was sent before.

        :param joints: (6,) rad.
        :param gripper: opening, 0 closed .. 1 open.
        :param now: monotonic seconds.
        """
        self._sent = self._written = np.array(joints, float)
        self._written_at = now
        self._path = ServoInterpolator(self._sent, self._sent, gripper, 1.0)
        self._elapsed, self._clock = 1.0, now

    def freeze(self, gripper: float) -> np.ndarray:
        """
        Stay at the newest setpoint.

        :returns: its joints, (6,) rad.
        """
        self._path = ServoInterpolator(self._sent, self._sent, gripper, 1.0)
        self._elapsed = 1.0
        return self._sent

    def go_to(self, joints: np.ndarray, gripper: float, duration_s: float, now: float,
              tool_straight: bool = False) -> None:
        """
        Go from this moment's setpoint to a new one.

        :param joints: (6,) rad.
        :param duration_s: s; longer where the joint speed demands it.
        :param tool_straight: let the tool go straight where it can; otherwise the joints do.
        """
        start, _ = self._path.sample(self._elapsed + self._since(now))
        via = straight_way(start, joints) if tool_straight else ()
        # A command that came early starts behind the last target and has further to go.
        steps = np.abs(np.diff([start, *via, joints], axis=0))
        fastest = len(steps) * float(steps.max()) / self._speed
        self._path = ServoInterpolator(start, joints, gripper, max(duration_s, fastest), via)
        self._elapsed, self._clock = 0.0, now

    def advance(self, now: float, stalled: bool = False) -> tuple[np.ndarray, float]:
        """
        Return the setpoint to write now.

        :param stalled: stand still, the path going on later: a cycle was lost.
        :returns: joints (6,) rad, gripper opening 0..1.
        """
        if not stalled:
            self._elapsed += self._since(now)
        self._clock = now
        wanted, gripper = self._path.sample(self._elapsed)
        self._sent = np.clip(self._limited(wanted, now), JOINT_LOWER, JOINT_UPPER)
        return self._sent, gripper

    def wrote(self, now: float) -> None:
        """Note that the newest setpoint has been written."""
        self._written, self._written_at = self._sent, now

    def _since(self, now: float) -> float:
        return min(max(now - self._clock, 0.0), self._longest_s)

    def _limited(self, wanted: np.ndarray, now: float) -> np.ndarray:
        step = wanted - self._written
        allowed = self._speed * min(max(now - self._written_at, 0.0), self._longest_s)
        farthest = float(np.abs(step).max())
        return wanted if farthest <= allowed else self._written + step * (allowed / farthest)
