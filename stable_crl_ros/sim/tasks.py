"""What the arm can be asked to do: start scenes, goal scenes and the distance between them."""

from collections.abc import Callable
from dataclasses import dataclass, replace
import math

import numpy as np
from stable_crl_ros.robot.kinematics import inverse_kinematics, START
from stable_crl_ros.robot.poses import DOWN, pose_of
from stable_crl_ros.sim.world import BLOCK_SIZE, World, WorldState

START_XYZ = (0.3, 0.0, 0.15)  # m, tool point at kinematics.START
START_SPREAD = (0.03, 0.04, 0.02)  # m, half the range of random start positions
RETREAT_SPREAD = (0.012, 0.012, 0.008)  # m, half the range in which demonstrations end
BLOCK_LOW, BLOCK_HIGH = (0.20, 0.095), (0.33, 0.165)  # m, x and y, clear of the drawer
OPEN_RANGE = (0.05, 0.12)  # m
DRAWER_TOLERANCE = 0.01  # m
BLOCK_TOLERANCE = 0.03  # m
MAX_STEPS = 50


class TaskError(ValueError):
    """A task that does not exist."""


@dataclass(frozen=True)
class Task:
    """
    One kind of episode.

    :param name: key in `TASKS`.
    :param description: what an operator would be told.
    :param sample_start: draws the scene an episode begins with.
    :param sample_goal: draws the goal scene: the object moved, the arm back where
        demonstrations end, the rest as at the start.
    :param error: metres between the world and the goal, of the object alone.
    :param tolerance: error up to which the task counts as done, m.
    :param max_steps: control steps in an episode.
    """

    name: str
    description: str
    sample_start: Callable[[np.random.Generator], WorldState]
    sample_goal: Callable[[np.random.Generator, WorldState], WorldState]
    error: Callable[[World, WorldState], float]
    tolerance: float
    max_steps: int = MAX_STEPS

    def success(self, world: World, goal: WorldState) -> bool:
        """Say whether the object is where the goal has it, within the tolerance."""
        return self.error(world, goal) <= self.tolerance


def task_named(name: str) -> Task:
    """
    Look a task up.

    :raises TaskError: listing the tasks there are.
    """
    if name not in TASKS:
        raise TaskError(f'no task {name!r}; choose one of {sorted(TASKS)}')
    return TASKS[name]


def arm_around(rng: np.random.Generator, spread: tuple[float, ...]) -> tuple[float, ...]:
    """Draw joints (6,) rad that put the downward gripper uniformly around the start point."""
    xyz = np.array(START_XYZ) + rng.uniform(-1.0, 1.0, 3) * spread
    return tuple(inverse_kinematics(pose_of(DOWN, xyz), START))


def _scene(rng: np.random.Generator, drawer: float) -> WorldState:
    xy = rng.uniform(BLOCK_LOW, BLOCK_HIGH)
    return WorldState(
        joints=arm_around(rng, START_SPREAD), gripper=1.0, drawer=drawer,
        block=(*xy, BLOCK_SIZE / 2), block_yaw=rng.uniform(-0.15, 0.15))


def _retreated(rng: np.random.Generator, state: WorldState) -> WorldState:
    return replace(state, joints=arm_around(rng, RETREAT_SPREAD), gripper=1.0)


def _start_nearly_closed(rng: np.random.Generator) -> WorldState:
    return _scene(rng, rng.uniform(0.0, 0.02))


def _start_open(rng: np.random.Generator) -> WorldState:
    return _scene(rng, rng.uniform(*OPEN_RANGE))


def _start_anywhere(rng: np.random.Generator) -> WorldState:
    return _scene(rng, rng.uniform(0.0, OPEN_RANGE[1]))


def _goal_open(rng: np.random.Generator, start: WorldState) -> WorldState:
    return _retreated(rng, start).with_drawer(rng.uniform(*OPEN_RANGE))


def _goal_closed(rng: np.random.Generator, start: WorldState) -> WorldState:
    return _retreated(rng, start).with_drawer(0.0)


def _goal_elsewhere(rng: np.random.Generator, start: WorldState) -> WorldState:
    """Draw an opening at least 3 cm from the present one."""
    low, high, away = 0.0, OPEN_RANGE[1], 0.03
    below = max(start.drawer - away - low, 0.0)
    above = max(high - start.drawer - away, 0.0)
    draw = rng.uniform(0.0, below + above)
    opening = low + draw if draw < below else start.drawer + away + (draw - below)
    return _retreated(rng, start).with_drawer(opening)


def _goal_pushed(rng: np.random.Generator, start: WorldState) -> WorldState:
    """Draw a place 5 to 9 cm further from the base, up to 15 degrees to either side."""
    distance, angle = rng.uniform(0.05, 0.09), rng.uniform(-0.26, 0.26)
    x, y, z = start.block
    block = x + distance * math.cos(angle), y + distance * math.sin(angle), z
    return replace(_retreated(rng, start), block=block)


def _goal_placed(rng: np.random.Generator, start: WorldState) -> WorldState:
    """Draw a place on the table at least 5 cm from the present one."""
    block = np.array(start.block)
    while np.linalg.norm(block[:2] - start.block[:2]) < 0.05:
        block[:2] = rng.uniform(BLOCK_LOW, BLOCK_HIGH)
    return replace(_retreated(rng, start), block=tuple(block))


def _start_pushable(rng: np.random.Generator) -> WorldState:
    state = _scene(rng, 0.0)
    xy = rng.uniform((0.235, 0.10), (0.265, 0.15))
    return replace(state, block=(*xy, BLOCK_SIZE / 2))


def drawer_error(world: World, goal: WorldState) -> float:
    """Metres between the drawer's opening and the goal's."""
    return abs(world.drawer_opening - goal.drawer)


def block_error(world: World, goal: WorldState) -> float:
    """Metres between the block's middle and the goal's."""
    return float(np.linalg.norm(world.block_position - goal.block))


TASKS = {task.name: task for task in (
    Task('open_drawer', 'open the drawer as far as in the goal picture',
         _start_nearly_closed, _goal_open, drawer_error, DRAWER_TOLERANCE),
    Task('close_drawer', 'close the drawer',
         _start_open, _goal_closed, drawer_error, DRAWER_TOLERANCE),
    Task('move_drawer', 'move the drawer to the opening in the goal picture',
         _start_anywhere, _goal_elsewhere, drawer_error, DRAWER_TOLERANCE),
    Task('push_block', 'push the block away to where it is in the goal picture',
         _start_pushable, _goal_pushed, block_error, BLOCK_TOLERANCE),
    Task('pick_place', 'pick the block up and put it where it is in the goal picture',
         lambda rng: _scene(rng, 0.0), _goal_placed, block_error, BLOCK_TOLERANCE),
)}
