"""Scripted experts: the next action from what is to be seen now, without memory of phases."""

from abc import ABC, abstractmethod

import numpy as np
from stable_crl_ros.actions import BRIDGE_HIGH, BRIDGE_LOW
from stable_crl_ros.robot.kinematics import DOWN, forward_kinematics, rotation_vector
from stable_crl_ros.sim.tasks import Task
from stable_crl_ros.sim.world import World, WorldState

GAIN = 0.6  # of the remaining way per step; more overshoots, as the arm lags its target
MAX_STEP = 0.025  # m per control step
FREE_NOISE = 0.04  # m per unit of noise, standard deviation, where nothing is near
CLOSE_NOISE = 0.015  # m per unit of noise, while handling the object
TURN_NOISE = 0.04  # rad per unit of noise


class Demonstrator(ABC):
    """
    A noisy expert for one goal.

    Its action depends on the present world and the goal only: a learner that sees both in
    pictures can tell what comes next. When the goal is reached it moves to the goal's arm pose,
    opens the gripper and hovers.

    :param goal: the scene to bring about.
    :param rng: source of the noise.
    :param noise: strength of the noise added to what is executed; 0 is none, 0.25 is usual.
    """

    def __init__(self, goal: WorldState, rng: np.random.Generator, noise: float = 0.0) -> None:
        self._goal = goal
        self._rng = rng
        self._noise = noise
        self._retreat = forward_kinematics(np.array(goal.joints))[:3, 3]

    def act(self, world: World) -> np.ndarray:
        """Return the action (7,) within Bridge's box: m, rad, gripper 0..1."""
        pose = world.ee_pose
        move, gripper, close = self._plan(world, pose[:3, 3])
        length = float(np.linalg.norm(move))
        move = move * min(1.0, MAX_STEP / max(length, 1e-9))
        turn = 0.5 * rotation_vector(DOWN @ pose[:3, :3].T)
        action = np.concatenate([move, turn, [gripper]])
        spread = CLOSE_NOISE if close else FREE_NOISE
        action += self._noise * self._rng.normal(size=7) * (
            *[spread] * 3, *[TURN_NOISE] * 3, 0.1)
        return np.clip(action, BRIDGE_LOW, BRIDGE_HIGH)

    @abstractmethod
    def _plan(self, world: World, tool: np.ndarray) -> tuple[np.ndarray, float, bool]:
        """
        Decide the next move.

        :param tool: (3,) m, the tool point.
        :returns: move (3,) m; gripper opening; whether the object is at hand.
        """

    def _go_home(self, tool: np.ndarray) -> tuple[np.ndarray, float, bool]:
        return GAIN * (self._retreat - tool), 1.0, False


class DrawerDemonstrator(Demonstrator):
    """
    Moves the drawer either way with closed fingers in the gap behind the handle.

    The same place serves for pulling and pushing, so overshoot is put right without letting go.
    """

    HOOK_X, HOOK_Y = 0.33, -0.05  # m, middle of the gap when closed
    HOOK_Z, ABOVE_Z = 0.078, 0.145  # m, tool height inside the gap; clear above the drawer
    CLEAR_Z = 0.122  # m, from here on the finger tips pass over the drawer's front
    INSIDE_Z = 0.105  # m, below it the finger tips are behind the handle

    def _plan(self, world: World, tool: np.ndarray) -> tuple[np.ndarray, float, bool]:
        opening = world.drawer_opening
        remaining = self._goal.drawer - opening
        hook = np.array([self.HOOK_X - opening, self.HOOK_Y, self.HOOK_Z])
        offset = hook - tool
        near = abs(offset[0]) < 0.022 and abs(offset[1]) < 0.035
        inside = near and tool[2] < self.INSIDE_Z
        # Once on the way up, a little more error is let be: no dithering above the handle.
        risen = np.clip((tool[2] - self.HOOK_Z) / 0.02, 0.0, 1.0)
        if abs(remaining) < 0.003 + 0.003 * risen:
            return self._leave(tool, offset, near)
        if inside:
            pull = 0.4 * remaining + 0.003 * np.sign(remaining)
            return np.array([-np.clip(pull, -0.02, 0.02), *GAIN * offset[1:]]), 0.0, True
        away = float(np.linalg.norm(offset[:2]))
        height = np.clip(self.HOOK_Z + 4.0 * (away - 0.008), self.HOOK_Z, self.ABOVE_Z)
        return GAIN * np.array([*offset[:2], height - tool[2]]), 0.0, away < 0.02

    def _leave(
        self, tool: np.ndarray, offset: np.ndarray, near: bool,
    ) -> tuple[np.ndarray, float, bool]:
        if near and tool[2] < self.CLEAR_Z:
            return np.array([*GAIN * offset[:2], 0.03]), 0.0, True
        return self._go_home(tool)


DEMONSTRATORS: dict[str, type[Demonstrator]] = {
    'open_drawer': DrawerDemonstrator,
    'close_drawer': DrawerDemonstrator,
    'move_drawer': DrawerDemonstrator,
}


def make_demonstrator(
    task: Task, goal: WorldState, rng: np.random.Generator, noise: float = 0.0,
) -> Demonstrator:
    """Return the scripted expert for a task and one goal."""
    return DEMONSTRATORS[task.name](goal, rng, noise)
