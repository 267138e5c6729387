"""What the arm can be asked to do: scenes to start from and to reach, and when it is done."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from stable_crl_ros.sim import scenes
from stable_crl_ros.sim.world import WorldState

# Metres: strict, which counts as success, and loose, which is reported beside it.
TOLERANCES = {'drawer': (0.010, 0.025), 'block': (0.030, 0.050)}
MAX_STEPS = 50


class TaskError(ValueError):
    """A task that does not exist."""


class Objects(Protocol):
    """Where things are: a `World`, or what somebody heard of one."""

    drawer_opening: float  # m
    block_position: np.ndarray  # (3,) m


@dataclass(frozen=True)
class Task:
    """
    One kind of episode.

    :param name: key in `TASKS`.
    :param description: what an operator would be told.
    :param sample_start: draws the scene an episode begins with.
    :param sample_goal: draws the goal scene: the object moved, the arm back where
        demonstrations end, the rest as at the start.
    :param objects: what has to be where the goal has it, keys of `TOLERANCES`.
    :param max_steps: control steps in an episode.
    """

    name: str
    description: str
    sample_start: Callable[[np.random.Generator], WorldState]
    sample_goal: Callable[[np.random.Generator, WorldState], WorldState]
    objects: tuple[str, ...]
    max_steps: int = MAX_STEPS

    @property
    def tolerances(self) -> dict[str, tuple[float, float]]:
        """Errors up to which each object counts as in place, m: strict, loose."""
        return {name: TOLERANCES[name] for name in self.objects}

    def draw(self, seed: int) -> tuple[WorldState, WorldState]:
        """Draw the start that the sim node draws first from a seed, and a goal for it."""
        rng = np.random.default_rng(seed)
        start = self.sample_start(rng)
        return start, self.sample_goal(rng, start)

    def errors(self, world: Objects, goal: WorldState) -> dict[str, float]:
        """Give the metres between each object that counts and its place in the goal."""
        return {name: ERRORS[name](world, goal) for name in self.objects}

    def error(self, world: Objects, goal: WorldState) -> float:
        """Give the largest of `errors`, m."""
        return max(self.errors(world, goal).values())

    def within(self, errors: dict[str, float], loose: bool = False) -> bool:
        """Say whether `errors` are all within the strict tolerances, or the loose ones."""
        return all(error <= TOLERANCES[name][loose] for name, error in errors.items())

    def success(self, world: Objects, goal: WorldState, loose: bool = False) -> bool:
        """Say whether every object that counts is where the goal has it; the arm never counts."""
        return self.within(self.errors(world, goal), loose)


def task_named(name: str) -> Task:
    """
    Look a task up.

    :raises TaskError: listing the tasks there are.
    """
    if name not in TASKS:
        raise TaskError(f'no task {name!r}; choose one of {sorted(TASKS)}')
    return TASKS[name]


def drawer_error(world: Objects, goal: WorldState) -> float:
    """Metres between the drawer's opening and the goal's."""
    return abs(world.drawer_opening - goal.drawer)


def block_error(world: Objects, goal: WorldState) -> float:
    """Metres between the block's middle and the goal's."""
    return float(np.linalg.norm(world.block_position - goal.block))


ERRORS = {'drawer': drawer_error, 'block': block_error}

TASKS = {task.name: task for task in (
    Task('open_drawer', 'open the drawer as far as in the goal picture',
         scenes.start_nearly_closed, scenes.goal_open, ('drawer',)),
    Task('close_drawer', 'close the drawer', scenes.start_open, scenes.goal_closed, ('drawer',)),
    Task('move_drawer', 'move the drawer to the opening in the goal picture',
         scenes.start_anywhere, scenes.goal_elsewhere, ('drawer',)),
    Task('push_block', 'push the block away to where it is in the goal picture',
         scenes.start_pushable, scenes.goal_pushed, ('block',)),
    Task('pick_place', 'pick the block up and put it where it is in the goal picture',
         scenes.start_on_table, scenes.goal_placed, ('block',), 60),
    Task('place_in_drawer', 'pick the block up and put it into the open drawer',
         scenes.start_wide_open, scenes.goal_in_drawer, ('block',), 60),
    Task('push_then_open', 'push the block out of the way, then open the drawer',
         scenes.start_blocked, scenes.goal_aside_and_open, ('block', 'drawer'), 80),
)}
