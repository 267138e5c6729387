"""What every arm driver offers, and how a target becomes a stream of servo setpoints."""

from collections.abc import Sequence
from dataclasses import dataclass
import math
from typing import Protocol

import numpy as np


class ArmError(RuntimeError):
    """The arm cannot be reached, or refuses."""


@dataclass(frozen=True)
class ArmState:
    """
    One reading of the arm.

    :param stamp_ns: system clock at the reading, ns.
    :param joint_positions: (6,) rad, in the order of `kinematics.JOINT_NAMES`.
    :param joint_velocities: (6,) rad/s.
    :param joint_efforts: (6,) N m where the driver knows torque, else its own unit.
    :param gripper: opening, 0 closed .. 1 open.
    """

    stamp_ns: int
    joint_positions: np.ndarray
    joint_velocities: np.ndarray
    joint_efforts: np.ndarray
    gripper: float


@dataclass(frozen=True)
class ArmFault:
    """
    Something wrong with the arm; `str` gives the message.

    :param message: a sentence naming joint, servo id and bits; where a person must act, how.
    :param joint: the joint of the servo in fault, '' for a fault of the whole arm.
    :param servo: its id on the bus, None where there is no bus.
    :param bits: its hardware error status, 0 for none.
    :param cure: 'reboot' where `ArmDriver.clear_faults` can mend it, '' where a person must act.
    """

    message: str
    joint: str = ''
    servo: int | None = None
    bits: int = 0
    cure: str = ''

    def __str__(self) -> str:
        return self.message


class ArmDriver(Protocol):
    """An arm that follows joint setpoints. Every method may raise `ArmError`."""

    def connect(self) -> None:
        """Open the connection and hold the present position."""

    def close(self) -> None:
        """Close the connection; the arm goes on holding. Calling it twice is harmless."""

    def read(self) -> ArmState:
        """
        Return a new state; never an old reading as a new one.

        :raises ArmError: when no trustworthy state was had within one servo cycle.
        """

    def write(self, joint_positions: np.ndarray, gripper: float) -> None:
        """
        Send one setpoint, at servo rate.

        :param joint_positions: (6,) rad.
        :param gripper: opening, 0 closed .. 1 open.
        """

    def setpoint(self) -> tuple[np.ndarray, float] | None:
        """
        Return what the motors hold now, or move to, as far as known; None where it is not.

        The arm rests below it by its own weight, and the gripper where something is in it: taking
        over where they are would let the arm sink, and let go.

        :returns: joint positions (6,) rad, gripper opening 0..1.
        """

    def faults(self) -> list[ArmFault]:
        """Return what is wrong, as known from the last readings; empty when healthy."""

    def clear_faults(self) -> str:
        """
        Mend what can be mended, one servo after the other, while the others hold.

        :returns: what was done, a sentence.
        :raises ArmError: when a fault is left, saying what a person must do.
        """

    def health(self) -> dict[str, str]:
        """Return what /diagnostics shows of motors and bus, name -> value; {} for nothing."""


def check_setpoint(joint_positions: np.ndarray, gripper: float) -> np.ndarray:
    """
    Refuse a setpoint no driver may send, and copy it.

    :returns: the joint positions, float64 (6,).
    :raises ArmError: for another number of joints or a value that is not finite.
    """
    joints = np.array(joint_positions, float)
    if joints.shape != (6,):
        raise ArmError(f'a setpoint has 6 joint positions, got shape {joints.shape}')
    if not (np.isfinite(joints).all() and math.isfinite(gripper)):
        raise ArmError(f'setpoint not finite: joints {joints}, gripper {gripper}; not sent')
    return joints


@dataclass(frozen=True)
class ServoInterpolator:
    """
    Way in joint space from where the setpoint is now to a new target, straight between its points.

    The gripper is set at once: its own motor ramps it.

    :param start_joints: (6,) rad, the setpoint at elapsed 0.
    :param joints: (6,) rad, reached after `duration_s` and held from then on.
    :param gripper: opening, 0 closed .. 1 open.
    :param duration_s: one control period, s, > 0.
    :param via: (6,) rad each, passed on the way at equal intervals of time.
    :raises ArmError: for a duration that is not a positive number.
    """

    start_joints: np.ndarray
    joints: np.ndarray
    gripper: float
    duration_s: float
    via: Sequence[np.ndarray] = ()

    def __post_init__(self) -> None:
        if not (math.isfinite(self.duration_s) and self.duration_s > 0.0):
            raise ArmError(f'a move must take a positive time, got {self.duration_s} s')

    def sample(self, elapsed_s: float) -> tuple[np.ndarray, float]:
        """
        Return the setpoint at a time after the start.

        :param elapsed_s: s; before 0 counts as 0, after the duration as the duration.
        :returns: joint positions (6,) rad, gripper opening 0..1.
        """
        pieces = len(self.via) + 1
        place = pieces * min(max(elapsed_s / self.duration_s, 0.0), 1.0)
        piece = min(int(place), pieces - 1)
        points = (self.start_joints, *self.via, self.joints)
        start, end = (np.asarray(point, float) for point in points[piece:piece + 2])
        return start + (place - piece) * (end - start), self.gripper

    def finished(self, elapsed_s: float) -> bool:
        """Say whether the target is reached at this time after the start."""
        return elapsed_s >= self.duration_s
