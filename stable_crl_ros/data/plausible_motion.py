"""States, actions and stamps that fit the format but cannot, or should not, have happened."""

from collections.abc import Mapping

import numpy as np
from stable_crl_ros.actions import ACTION_NAMES
from stable_crl_ros.data.findings import Finding, runs, WARNING
from stable_crl_ros.data.health import LONG_INTERVAL, operator_pauses, stale_steps
from stable_crl_ros.data.schema import Mode, STATE_FIELDS
from stable_crl_ros.robot.kinematics import (
    JOINT_LOWER,
    JOINT_NAMES,
    JOINT_UPPER,
    MAX_JOINT_VELOCITY,
)
from stable_crl_ros.robot.limits import ArmLimits
from stable_crl_ros.robot.safety import REFUSED

STAMPS = ('capture_stamp', 'receive_stamp', 'command_stamp', 'applied_stamp')
MINIMUM_RATE_SHARE = 0.9  # where the episode does not say its own
OLD_IMAGE = 2.0  # control periods; one late image of a busy machine is only counted
STATE_JITTER_S = 0.05  # a state is the newest before its step: so much older at most
SATURATED_SHARE, SATURATED_STEPS = 0.5, 10  # of the steps, and at least so many
CONSTANT_S = 5.0
FROZEN_S, FROZEN_STEPS, ASKED_M = 1.0, 3, 0.05
JOINT_TOLERANCE = 0.1  # rad outside the limits: the arm's zero is not set that exactly
GRIPPER_RANGE = (-0.1, 1.2)  # fully open is measured a little differently on every gripper

Arrays = Mapping[str, np.ndarray]


def check_motion(arrays: Arrays, attributes: Mapping) -> list[Finding]:
    """
    Look for what cannot have happened, or spoils learning.

    :param arrays: every state and step field of one episode.
    :param attributes: of the episode.
    :returns: nothing for a good recording.
    """
    found = check_values(arrays) + check_stamps(arrays)
    if len(arrays['action']):
        found += check_rate(arrays, attributes) + check_actions(arrays, attributes)
        found += check_jumps(arrays, attributes) + check_following(arrays, attributes)
    return found


def check_values(arrays: Arrays) -> list[Finding]:
    """Find numbers outside what they can be."""
    found = []
    for first, last in runs(~np.isfinite(arrays['action']).all(1)):
        found.append(Finding('action', 'an applied action is not finite', steps=(first, last)))
    for first, last in runs(arrays['mode'] > max(Mode)):
        found.append(Finding('mode', f'mode {arrays["mode"][first]} is unknown',
                             steps=(first, last)))
    for field in STATE_FIELDS:
        values = arrays[field.name]
        bad = ~np.isfinite(values.reshape(len(values), -1)).all(1)
        if not bad.all():  # never recorded at all is allowed
            found += [Finding('invalid', f'{field.name} is not a number', WARNING, steps)
                      for steps in runs(bad)]
    return found + _out_of_range(arrays)


def _out_of_range(arrays: Arrays) -> list[Finding]:
    joints, gripper, pose = (arrays[name] for name in ('joint_positions', 'gripper', 'ee_pose'))
    beyond = np.isfinite(joints) & ((joints < JOINT_LOWER - JOINT_TOLERANCE)
                                    | (joints > JOINT_UPPER + JOINT_TOLERANCE))
    checks = [
        (beyond[:, index], f'joint {name} is beyond its limits')
        for index, name in enumerate(JOINT_NAMES)]
    checks.append(((gripper < GRIPPER_RANGE[0]) | (gripper > GRIPPER_RANGE[1]),
                   'the gripper is outside 0..1'))
    checks.append((np.abs(np.linalg.norm(pose[:, 3:], axis=1) - 1) > 0.01,
                   'the quaternion of ee_pose has not length 1'))
    return [Finding('range', what, WARNING, steps) for mask, what in checks
            for steps in runs(mask)]


def check_stamps(arrays: Arrays) -> list[Finding]:
    """Find stamps that go backwards, and images from after the action they led to."""
    found = []
    for name in STAMPS:
        known = np.flatnonzero(arrays[name])
        backwards = known[1:][np.diff(arrays[name][known]) < 0]
        found += [Finding('stamps', f'{name} goes backwards', steps=(int(step),) * 2)
                  for step in backwards]
    capture, command = arrays['capture_stamp'], arrays['command_stamp']
    late = (capture > command) & (capture != 0) & (command != 0)
    return found + [Finding('stamps', 'the image was taken after the action was commanded',
                            WARNING, steps) for steps in runs(late)]


def check_rate(arrays: Arrays, attributes: Mapping) -> list[Finding]:
    """Compare the measured rate with the nominal one; find pauses, drops and old images."""
    found, nominal = [], attributes['control_rate']
    dropped = attributes['dropped']
    if dropped:
        by_reason = ', '.join(f'{name} {count}'
                              for name, count in attributes.get('drops', {}).items() if count)
        found.append(Finding('dropped', f'{dropped} steps were dropped'
                             + (f' ({by_reason})' if by_reason else ''), WARNING))
    found += [Finding('stale', f'the image is older than {OLD_IMAGE:g} control periods', WARNING,
                      steps) for steps in runs(stale_steps(arrays, nominal / OLD_IMAGE))]
    stamps = _tick_stamps(arrays)
    intervals = np.diff(stamps) / 1e9
    long = intervals > LONG_INTERVAL / nominal
    usual = intervals[~long & (intervals > 0)]
    share = attributes.get('minimum_rate_share', MINIMUM_RATE_SHARE)
    if len(usual) and not share <= 1 / (usual.mean() * nominal) <= 1 / share:
        found.append(Finding('rate', f'recorded at {1 / usual.mean():.2f} Hz, not {nominal:g} Hz',
                             WARNING))
    if len(stamps):
        long &= ~operator_pauses(arrays, stamps, nominal, attributes.get('gaps', []))
    return found + [
        Finding('pause', f'{intervals[step]:.2f} s until the next step, {1 / nominal:.2f} s would '
                'be right', WARNING, (int(step),) * 2) for step in np.flatnonzero(long)]


def _tick_stamps(arrays: Arrays) -> np.ndarray:
    """Return when every step was, ns; empty when that was not recorded."""
    for name in ('command_stamp', 'applied_stamp', 'capture_stamp'):
        if arrays[name].all():
            return arrays[name]
    return np.zeros(0, np.int64)


def check_actions(arrays: Arrays, attributes: Mapping) -> list[Finding]:
    """Find actions at their limits, changed by the safety limits, constant, or none at all."""
    action, steps = arrays['action'], len(arrays['action'])
    found = []
    at_limit = _at_limit(action[:, :6], attributes.get('action_scale'))
    for index in np.flatnonzero(_too_often(at_limit)):
        found.append(Finding(
            'saturated', f'{ACTION_NAMES[index]} is at its limit in {at_limit[:, index].sum()} of '
            f'{steps} steps; record more slowly or with a smaller scale', WARNING))
    refused = (arrays['flags'] & int(REFUSED)) != 0
    if _too_often(refused[:, None])[0]:
        found.append(Finding('refused', f'the arm refused {refused.sum()} of {steps} steps',
                             WARNING))
    moving = (np.abs(action[:, :6]) > 0).any(1)
    if steps >= SATURATED_STEPS and not moving.any():
        found.append(Finding('constant', 'no action moves the arm', WARNING))
    same = (action[1:] == action[:-1]).all(1) & moving[1:]
    shortest = max(SATURATED_STEPS, round(CONSTANT_S * attributes['control_rate']))
    return found + [Finding('constant', 'the action is the same all the time', WARNING,
                            (first, last + 1)) for first, last in runs(same, shortest)]


def _at_limit(motion: np.ndarray, scale: Mapping | None) -> np.ndarray:
    limits = ArmLimits()
    high = np.repeat([limits.max_translation, limits.max_rotation], 3)
    low, high = (-high, high) if not scale else (np.array(scale['low'][:6]),
                                                 np.array(scale['high'][:6]))
    margin = 0.001 * (high - low)
    return (motion <= low + margin) | (motion >= high - margin)


def _too_often(mask: np.ndarray) -> np.ndarray:
    return (mask.sum(0) >= SATURATED_STEPS) & (mask.mean(0) > SATURATED_SHARE)


def check_jumps(arrays: Arrays, attributes: Mapping) -> list[Finding]:
    """Find states that change by more than the arm can move in the time."""
    seconds = _durations(arrays, attributes)
    found = []
    moved = np.abs(np.diff(arrays['joint_positions'], axis=0))
    possible = 1.1 * MAX_JOINT_VELOCITY * (seconds + STATE_JITTER_S)
    for step, joint in np.argwhere(np.isfinite(moved) & (moved > possible[:, None])):
        found.append(Finding('jump', f'joint {JOINT_NAMES[joint]} moves {moved[step, joint]:.2f} '
                             f'rad, {possible[step]:.2f} rad are possible', WARNING,
                             (int(step),) * 2))
    limits = ArmLimits()
    moved = np.linalg.norm(np.diff(arrays['ee_pose'][:, :3], axis=0), axis=1)
    periods = seconds * attributes['control_rate']
    possible = limits.max_target_lead + np.sqrt(3) * limits.max_translation * periods
    return found + [
        Finding('jump', f'the tool moves {moved[step]:.2f} m, {possible[step]:.2f} m are '
                'possible', WARNING, (int(step),) * 2)
        for step in np.flatnonzero(np.isfinite(moved) & (moved > possible))]


def _durations(arrays: Arrays, attributes: Mapping) -> np.ndarray:
    """Return the time from every state to the next, s, shape (steps,); inf: not known."""
    period = 1 / attributes['control_rate']
    stamps = _tick_stamps(arrays)
    if len(stamps):
        seconds = np.append(np.diff(stamps) / 1e9, 2 * period)
        final = attributes['final_capture_stamp'] - arrays['capture_stamp'][-1]
        if attributes['final_capture_stamp'] and arrays['capture_stamp'][-1]:
            seconds[-1] = final / 1e9
        return np.maximum(seconds, period)
    seconds = np.full(len(arrays['action']), period)
    after_gap = [step - 1 for step in attributes.get('gaps', []) if 0 < step <= len(seconds)]
    seconds[after_gap] = np.inf
    return seconds


def check_following(arrays: Arrays, attributes: Mapping) -> list[Finding]:
    """Find stretches in which the measured pose stands still to the last bit under way."""
    pose, action = arrays['ee_pose'], arrays['action'][:, :3]
    still = (pose[1:] == pose[:-1]).all(1)  # an arm that something blocks still trembles
    shortest = max(FROZEN_STEPS, round(FROZEN_S * attributes['control_rate']))
    found = []
    for first, last in runs(still, shortest):
        asked = np.linalg.norm(np.cumsum(action[first:last + 1], axis=0), axis=1).max()
        if asked > ASKED_M:
            found.append(Finding('stuck', f'ee_pose stands still while the actions go {asked:.2f} '
                                 'm; the arm or its state stopped', WARNING, (first, last)))
    return found
