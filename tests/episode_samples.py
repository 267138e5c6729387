"""Plausible episodes for the tools: an arm that moves smoothly while cameras look on."""

from collections.abc import Iterator
from contextlib import contextmanager
import os
from pathlib import Path
import tempfile

import numpy as np
from stable_crl_ros.data.episode import EpisodeWriter
from stable_crl_ros.data.schema import Action, EpisodeMeta, Mode, Observation
from stable_crl_ros.robot.kinematics import forward_kinematics, START
from stable_crl_ros.robot.poses import delta_between, pose_to_xyz_quaternion

RATE = 5.0
PERIOD_NS = round(1e9 / RATE)
BEGIN_NS = 10**18
SIZE = (24, 32)


@contextmanager
def in_memory() -> Iterator[Path]:
    """Give a folder in memory where there is one: sealing waits for a disk, 0.3 s each time."""
    memory = '/dev/shm' if os.access('/dev/shm', os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix='stable_crl_ros-', dir=memory) as folder:
        yield Path(folder)


def joints(step):
    """Return where the arm is: about 2 cm further after every step."""
    return START + 0.15 * np.sin(0.3 * step + np.arange(6)) * [2, 0.5, 0.5, 1, 1, 2]


def rows(steps=40, cameras=('front',), seed=0):
    """Return steps + 1 observations and the actions between them, with everything recorded."""
    rng = np.random.default_rng(seed)
    poses = [forward_kinematics(joints(step)) for step in range(steps + 1)]
    observations = [Observation(
        {camera: rng.integers(0, 256, (*SIZE, 3), np.uint8) for camera in cameras},
        joint_positions=joints(step), joint_velocities=np.zeros(6), joint_efforts=np.zeros(6),
        gripper=0.5 + 0.5 * np.cos(0.2 * step), ee_pose=pose_to_xyz_quaternion(poses[step]),
        capture_stamp=BEGIN_NS + step * PERIOD_NS - 40_000_000,
        receive_stamp=BEGIN_NS + step * PERIOD_NS - 10_000_000) for step in range(steps + 1)]
    actions = [Action(
        np.append(delta_between(poses[step], poses[step + 1]), 0.5 + 0.5 * np.cos(0.2 * step)),
        mode=Mode.TELEOP, command_stamp=BEGIN_NS + step * PERIOD_NS,
        applied_stamp=BEGIN_NS + step * PERIOD_NS + 5_000_000, progress=step / steps)
        for step in range(steps)]
    return observations, actions


def record_rows(dataset, observations, actions, success=True, meta=None, **kwargs):
    """Record what `rows` gave; returns the episode's directory."""
    meta = meta or EpisodeMeta(task='open_drawer', operator='ada', source='robot')
    with EpisodeWriter(dataset, meta, sync_every=0) as writer:
        for observation, action in zip(observations, actions, strict=False):
            writer.add_step(observation, action)
        return writer.finish(observations[-1], success, **kwargs)


def record_good(dataset, steps=40, cameras=('front',), seed=0, **kwargs):
    """Record an episode without any fault."""
    return record_rows(dataset, *rows(steps, cameras, seed), **kwargs)
