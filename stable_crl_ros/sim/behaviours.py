"""Who acts in recordings that are not plain demonstrations: aimless, wavering, playing."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from stable_crl_ros.sim import scenes
from stable_crl_ros.sim.demonstrators import (
    Demonstrator,
    DrawerDemonstrator,
    GAIN,
    PlaceDemonstrator,
    PushDemonstrator,
)
from stable_crl_ros.sim.scenes import place_of_block
from stable_crl_ros.sim.tasks import block_error, drawer_error
from stable_crl_ros.sim.world import LATCH_TRAVEL, World, WorldState

Skill = tuple[type[Demonstrator], Callable[[np.random.Generator, WorldState], WorldState]]

PUT_ON_TABLE: Skill = (PlaceDemonstrator, scenes.goal_placed)
MOVE_DRAWER: Skill = (DrawerDemonstrator, scenes.goal_elsewhere)


def possible_skills(state: WorldState) -> list[Skill]:
    """List what can be done in a scene; twice what shall be done more often."""
    place, wide = place_of_block(state), state.drawer >= scenes.WIDE_OPEN
    if place == 'front':
        return [(PushDemonstrator, scenes.goal_aside)] * 3 + [PUT_ON_TABLE]
    if place == 'air':
        return [PUT_ON_TABLE]
    skills = [MOVE_DRAWER] * 2
    if place == 'side':
        skills += [PUT_ON_TABLE] * 2
        if state.block[0] < scenes.PUSHABLE_X:
            skills += [(PushDemonstrator, scenes.goal_pushed)] * 2
        if wide:
            skills += [(PlaceDemonstrator, scenes.goal_in_drawer)] * 3
        if state.drawer < LATCH_TRAVEL:
            skills += [(PlaceDemonstrator, scenes.goal_in_front)] * 2
    elif place == 'drawer' and wide:
        skills += [PUT_ON_TABLE] * 3
    return skills


def draw_skill(
    world: World, rng: np.random.Generator, noise: float,
) -> tuple[Demonstrator, WorldState]:
    """Choose something to do in the present scene; returns who does it, and the goal scene."""
    state = world.snapshot()
    skills = possible_skills(state)
    kind, draw_goal = skills[rng.integers(len(skills))]
    goal = replace(draw_goal(rng, state), joints=scenes.arm_around(rng, scenes.START_SPREAD))
    return kind(goal, rng, noise), goal


class AimlessDemonstrator(Demonstrator):
    """Wanders from place to place, mostly near the objects, opening and closing the gripper."""

    LOW, HIGH = (0.20, -0.15, 0.03), (0.36, 0.17, 0.18)  # m
    HANDLE = (0.33, -0.05, 0.08)  # m, when closed
    AWAY = 0.04  # m, standard deviation around an object

    def __init__(self, goal: WorldState, rng: np.random.Generator, noise: float = 0.0) -> None:
        super().__init__(goal, rng, noise)
        self._place: np.ndarray | None = None
        self._gripper = 1.0

    def _plan(self, world: World, tool: np.ndarray) -> tuple[np.ndarray, float, bool]:
        arrived = self._place is None or np.linalg.norm(self._place - tool) < 0.02
        if arrived or self._rng.random() < 0.05:
            self._place = np.clip(self._draw(world), self.LOW, self.HIGH)
            self._gripper = float(self._rng.random() < 0.5)
        return GAIN * (self._place - tool), self._gripper, False

    def _draw(self, world: World) -> np.ndarray:
        near = self._rng.random()
        if near < 0.4:
            return self._rng.normal(world.block_position, self.AWAY)
        if near < 0.8:
            x, y, z = self.HANDLE
            return self._rng.normal((x - world.drawer_opening, y, z), self.AWAY)
        return self._rng.uniform(self.LOW, self.HIGH)


class WaveringActor:
    """
    Begins with what it was asked to do, and every now and then does something else.

    :param expert: makes the demonstrator of what was asked, with the noise given.
    :param keen: probability of doing what was asked, at every change of mind.
    :param noises: one is drawn at every change of mind.
    """

    CHANGE = 1 / 14  # of mind, per step

    def __init__(
        self, expert: Callable[[float], Demonstrator], goal: WorldState, rng: np.random.Generator,
        keen: float, noises: tuple[float, ...],
    ) -> None:
        self._expert, self._goal, self._rng = expert, goal, rng
        self._keen, self._noises = keen, noises
        self._actor: Demonstrator | None = None

    def act(self, world: World) -> np.ndarray:
        """Return the next action (7,): m, rad, gripper 0..1."""
        if self._actor is None or self._rng.random() < self.CHANGE:
            self._actor = self._choose(world)
        return self._actor.act(world)

    def _choose(self, world: World) -> Demonstrator:
        noise = float(self._rng.choice(self._noises))
        if self._rng.random() < self._keen:
            return self._expert(noise)
        if self._rng.random() < 0.5:
            return AimlessDemonstrator(self._goal, self._rng, noise)
        return draw_skill(world, self._rng, noise)[0]


class PlayingActor:
    """Pursues one self-chosen goal after another, from wherever the last one left the scene."""

    DROP = 0.015  # probability per step of dropping a goal
    PATIENCE = 60  # steps for one goal
    BLOCK, DRAWER, ARM = 0.02, 0.008, 0.03  # m, near enough to be done with a goal

    def __init__(self, rng: np.random.Generator, noises: tuple[float, ...]) -> None:
        self._rng, self._noises = rng, noises
        self._actor: Demonstrator | None = None
        self.goal: WorldState | None = None  # the scene to bring about now
        self._steps = 0

    def act(self, world: World) -> np.ndarray:
        """Return the next action (7,): m, rad, gripper 0..1."""
        if self._actor is None or self._done(world):
            noise = float(self._rng.choice(self._noises))
            self._actor, self.goal = draw_skill(world, self._rng, noise)
            self._steps = 0
        self._steps += 1
        return self._actor.act(world)

    def _done(self, world: World) -> bool:
        if self._steps >= self.PATIENCE or self._rng.random() < self.DROP:
            return True
        return (block_error(world, self.goal) < self.BLOCK
                and drawer_error(world, self.goal) < self.DRAWER
                and self._actor.distance_home(world) < self.ARM)
