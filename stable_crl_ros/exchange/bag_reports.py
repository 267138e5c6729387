"""What an arm reported in a bag, by the rules of the episode logger."""

import numpy as np
from stable_crl_ros.data.schema import Mode
from stable_crl_ros.message_reading import AppliedAction
from stable_crl_ros.robot.control_steps import INTERRUPTIONS, NO_STEP, POLICY_FRESH_S
from stable_crl_ros.robot.flags import StepFlag


def control_steps(reports: list[AppliedAction]) -> list[AppliedAction]:
    """Return those that are steps: the others were refused before the arm considered them."""
    return [report for report in reports if not report.flags & NO_STEP]


def fields_of(steps: list[AppliedAction]) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Return the actions of N steps, (N, 7), and other fields of `schema.STEP_FIELDS`."""
    return np.float32([step.applied for step in steps]), {
        'commanded_action': np.float32([step.commanded for step in steps]),
        'mode': np.uint8([step.mode for step in steps]),
        'flags': np.uint32([step.flags for step in steps]),
        'command_stamp': np.int64([step.receive_ns for step in steps]),
        'applied_stamp': np.int64([step.applied_ns for step in steps])}


def interrupted(reports: list[AppliedAction], told_ns: np.ndarray, modes: list[str],
                begun_ns: np.ndarray) -> np.ndarray:
    """
    Say of each two successive steps whether nobody could steer the arm at some time in between.

    :param told_ns: when the arm said that it is in each of the modes.
    :param begun_ns: (N,) when the steps began.
    :returns: bool (N - 1,).
    """
    held = [report.applied_ns for report in reports if report.flags & StepFlag.HELD]
    told = [stamp for stamp, mode in zip(told_ns, modes, strict=True) if mode in INTERRUPTIONS]
    before = np.searchsorted(np.sort(np.array(held + told, np.int64)), begun_ns, side='right')
    return np.diff(before) > 0


def interventions(reports: list[AppliedAction], begun_ns: np.ndarray,
                  modes: np.ndarray) -> np.ndarray:
    """Say of each step whether the operator made it while the policy was heard, heeded or not."""
    heard = np.sort(np.array([report.applied_ns for report in reports
                              if report.mode is Mode.POLICY], np.int64))
    if not len(heard):
        return np.zeros(len(modes), bool)
    place = np.searchsorted(heard, begun_ns, side='right') - 1
    since = begun_ns - heard[np.maximum(place, 0)]
    return (modes == Mode.TELEOP) & (place >= 0) & (since < POLICY_FRESH_S * 1e9)
