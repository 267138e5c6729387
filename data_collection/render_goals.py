#!/usr/bin/env python3
"""Photograph the shipped goals, drawer open, half open and closed, in the simulator."""

import argparse
import sys
import time

import numpy as np
from stable_crl_ros import SHIPPED_GOALS
from stable_crl_ros.goals import GoalStore
from stable_crl_ros.robot.poses import pose_to_xyz_quaternion
from stable_crl_ros.sim.tasks import task_named
from stable_crl_ros.sim.world import CAMERA_NAME, CAMERA_SIZE, World

GOALS = {'drawer_open': 0.10, 'drawer_half_open': 0.06, 'drawer_closed': 0.0}  # m


def main() -> int:
    """Render every goal and save it with its metadata."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('folder', nargs='?', default=str(SHIPPED_GOALS))
    options = parser.parse_args()
    store = GoalStore(options.folder)
    with World() as world:
        for name, opening in GOALS.items():
            # One scene for all: only the drawer differs from picture to picture.
            rng = np.random.default_rng(0)
            task = task_named('open_drawer')
            goal = task.sample_goal(rng, task.sample_start(rng)).with_drawer(opening)
            world.reset(goal)
            saved = store.save(name, world.render(), {
                'camera': CAMERA_NAME, 'source': 'simulation', 'drawer_opening': opening,
                'image_spec': {'height': CAMERA_SIZE[0], 'width': CAMERA_SIZE[1]},
                'stamp_ns': time.time_ns(),
                'ee_pose': pose_to_xyz_quaternion(world.ee_pose).tolist()})
            print(f'{saved.path}: drawer {1000 * opening:.0f} mm open')
    return 0


if __name__ == '__main__':
    sys.exit(main())
