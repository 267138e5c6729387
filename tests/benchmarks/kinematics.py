#!/usr/bin/env python3
"""Measure the kinematics: how exact, how fast, how much of BridgeData's workspaces is in reach."""

import argparse
import time

import numpy as np
from stable_crl_ros.robot.kinematics import (
    forward_kinematics,
    inverse_kinematics,
    JOINT_LOWER,
    JOINT_UPPER,
    START,
    UnreachableError,
)
from stable_crl_ros.robot.limits import ArmLimits
from stable_crl_ros.robot.poses import DOWN, pose_of, rotation_vector
from stable_crl_ros.robot.safety import apply_action, Target
from stable_crl_ros.robot.singularity import condition_number

# x, y, z from and to (m): BridgeData's evaluation, its server, AutoEval's drawer and sink scenes,
# the recorder's default, and this package's own.
BOXES = {
    'Bridge evaluation': ((0.10, -0.15, -0.01), (0.45, 0.25, 0.25)),
    'Bridge server, z to 0.18': ((0.10, -0.15, -0.01), (0.45, 0.25, 0.18)),
    'AutoEval drawer': ((0.126, -0.1645, 0.0216), (0.3636, 0.0770, 0.1637)),
    'AutoEval sink': ((0.1998, -0.0985, 0.0871), (0.3647, 0.1950, 0.2340)),
    'recorder default': ((0.19, -0.08, 0.05), (0.31, 0.08, 0.055)),
    'this package': (ArmLimits().workspace_low, ArmLimits().workspace_high),
}


def round_trips(count: int, rng: np.random.Generator) -> None:
    """Print how exactly and how fast random poses within the limits are solved."""
    errors, seconds, solved, outside = [], [], 0, 0
    for joints in rng.uniform(JOINT_LOWER, JOINT_UPPER, (count, 6)):
        pose = forward_kinematics(joints)
        seed = np.clip(joints + rng.normal(size=6) * 0.1, JOINT_LOWER, JOINT_UPPER)
        begin = time.perf_counter()
        try:
            found = inverse_kinematics(pose, seed)
        except UnreachableError:
            continue
        finally:
            seconds.append(time.perf_counter() - begin)
        solved += 1
        outside += bool(((found < JOINT_LOWER) | (found > JOINT_UPPER)).any())
        reached = forward_kinematics(found)
        errors.append((np.linalg.norm(reached[:3, 3] - pose[:3, 3]),
                       np.linalg.norm(rotation_vector(reached[:3, :3] @ pose[:3, :3].T))))
    position, rotation = np.max(errors, axis=0)
    print(f'random poses within the limits   {count}')
    print(f'solved                           {solved} ({100 * solved / count:.3f} %)')
    print(f'answers outside the limits       {outside}')
    print(f'worst error                      {position:.1e} m, {rotation:.1e} rad')
    print(f'time of the inverse              {_times(seconds)}')


def step_times(count: int, rng: np.random.Generator) -> None:
    """Print how long the safety checks of one step take, along a random walk."""
    target, seconds, limits = Target.from_joints(START, 1.0), [], ArmLimits()
    for action in rng.normal(size=(count, 7)) * (*[0.02] * 3, *[0.1] * 3, 0.5):
        begin = time.perf_counter()
        step = apply_action(target, action, limits, 0.2, target.pose, np.zeros(6))
        seconds.append(time.perf_counter() - begin)
        target = step.target
    print(f'time of all checks of a step     {_times(seconds)}')


def reachable(name: str, low: tuple, high: tuple, count: int, rng: np.random.Generator) -> None:
    """Print which share of a box a gripper that points straight down can reach, and how well."""
    conditions = []
    for xyz in rng.uniform(low, high, (count, 3)):
        try:
            conditions.append(condition_number(inverse_kinematics(pose_of(DOWN, xyz), START)))
        except UnreachableError:
            continue
    share = 100 * len(conditions) / count
    median, p95, worst = np.percentile(conditions, [50, 95, 100])
    print(f'| {name} | {share:.2f} % | {median:.0f} | {p95:.0f} | {worst:.0f} |')


def _times(seconds: list[float]) -> str:
    median, p95, worst = 1e3 * np.percentile(seconds, [50, 95, 100])
    return f'median {median:.3f}, p95 {p95:.3f}, worst {worst:.3f} ms'


def main() -> None:
    """Print all figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--poses', type=int, default=20_000)
    parser.add_argument('--seed', type=int, default=0)
    args = parser.parse_args()
    rng = np.random.default_rng(args.seed)
    round_trips(args.poses, rng)
    step_times(args.poses // 4, rng)
    print('\n| box, gripper straight down | reached | condition number, median | p95 | worst |')
    print('|---|---|---|---|---|')
    for name, (low, high) in BOXES.items():
        reachable(name, low, high, args.poses, rng)


if __name__ == '__main__':
    main()
