#!/usr/bin/env python3
"""Photograph the shipped goals, of the drawer and of the block, in the simulator."""

import argparse
from dataclasses import replace
import sys
import time

import numpy as np
from stable_crl_ros import SHIPPED_GOALS
from stable_crl_ros.goals import GoalStore
from stable_crl_ros.robot.poses import pose_to_xyz_quaternion
from stable_crl_ros.sim.tasks import task_named
from stable_crl_ros.sim.world import BLOCK_SIZE, CAMERA_NAME, CAMERA_SIZE, World

# Of each goal: the task whose scene it is in, and where the drawer (opening) and the block are, m.
GOALS = {
    'drawer_open': ('open_drawer', 0.10, None),
    'drawer_half_open': ('open_drawer', 0.06, None),
    'drawer_closed': ('open_drawer', 0.0, None),
    'block_placed': ('pick_place', 0.0, (0.30, 0.13, BLOCK_SIZE / 2)),
}


def main() -> int:
    """Render every goal and save it with its metadata."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('folder', nargs='?', default=str(SHIPPED_GOALS))
    options = parser.parse_args()
    store = GoalStore(options.folder)
    with World() as world:
        for name, (task, opening, block) in GOALS.items():
            # One scene for all of a task: only what the goal is about differs.
            rng = np.random.default_rng(0)
            scene = task_named(task).sample_goal(rng, task_named(task).sample_start(rng))
            goal = replace(scene, drawer=opening, block=block or scene.block)
            world.reset(goal)
            saved = store.save(name, world.render(), {
                'camera': CAMERA_NAME, 'source': 'simulation', 'drawer_opening': opening,
                'block': list(goal.block),
                'image_spec': {'height': CAMERA_SIZE[0], 'width': CAMERA_SIZE[1]},
                'stamp_ns': time.time_ns(),
                'ee_pose': pose_to_xyz_quaternion(world.ee_pose).tolist()})
            print(f'{saved.path}: drawer {1000 * opening:.0f} mm open, block at {goal.block}')
    return 0


if __name__ == '__main__':
    sys.exit(main())
