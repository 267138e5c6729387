"""Scripted experts: the next action from what is to be seen now, without memory of phases."""

from abc import ABC, abstractmethod

import numpy as np
from stable_crl_ros.actions import BRIDGE_HIGH, BRIDGE_LOW
from stable_crl_ros.robot.kinematics import forward_kinematics
from stable_crl_ros.robot.poses import DOWN, rotation_vector
from stable_crl_ros.sim.scenes import INSIDE_Z, over_drawer
from stable_crl_ros.sim.tasks import Task
from stable_crl_ros.sim.world import BLOCK_SIZE, World, WorldState

GAIN = 0.6  # of the remaining way per step; more overshoots, as the arm lags its target
MAX_STEP = 0.025  # m per control step
FREE_NOISE = 0.04  # m per unit of noise, standard deviation, where nothing is near
CAREFUL_NOISE = 0.015  # m per unit of noise, while handling the object or hovering
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
        move, gripper, careful = self._plan(world, pose[:3, 3])
        length = float(np.linalg.norm(move))
        move = move * min(1.0, MAX_STEP / max(length, 1e-9))
        turn = 0.5 * rotation_vector(DOWN @ pose[:3, :3].T)
        action = np.concatenate([move, turn, [gripper]])
        spread = CAREFUL_NOISE if careful else FREE_NOISE
        action += self._noise * self._rng.normal(size=7) * (
            *[spread] * 3, *[TURN_NOISE] * 3, 0.1)
        return np.clip(action, BRIDGE_LOW, BRIDGE_HIGH)

    def distance_home(self, world: World) -> float:
        """Metres between the tool point and that of the goal's arm pose."""
        return float(np.linalg.norm(world.ee_pose[:3, 3] - self._retreat))

    @abstractmethod
    def _plan(self, world: World, tool: np.ndarray) -> tuple[np.ndarray, float, bool]:
        """
        Decide the next move.

        :param tool: (3,) m, the tool point.
        :returns: move (3,) m; gripper opening; whether it takes care: at the object, and at
            home, so that episodes end like goal pictures.
        """

    def _go_home(self, tool: np.ndarray) -> tuple[np.ndarray, float, bool]:
        way = self._retreat - tool
        return GAIN * way, 1.0, bool(np.linalg.norm(way) < 0.03)

    @staticmethod
    def _descend(
        tool: np.ndarray, place: np.ndarray, low: float, high: float,
    ) -> tuple[np.ndarray, bool]:
        """
        Move over a place (2,) at height `high`, and down to `low` once over it.

        From far below that height it rises first: something may be in between.

        :returns: move (3,) m; whether the tool is over the place.
        """
        away = float(np.linalg.norm(place - tool[:2]))
        short = np.clip(low + 4.0 * (away - 0.008), low, high) - tool[2]
        across = np.clip(1.5 - short / 0.05, 0.0, 1.0)
        return GAIN * np.array([*(across * (place - tool[:2])), short]), away < 0.02


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
        move, careful = self._descend(tool, hook[:2], self.HOOK_Z, self.ABOVE_Z)
        return move, 0.0, careful

    def _leave(
        self, tool: np.ndarray, offset: np.ndarray, near: bool,
    ) -> tuple[np.ndarray, float, bool]:
        if near and tool[2] < self.CLEAR_Z:
            return np.array([*GAIN * offset[:2], 0.03]), 0.0, True
        return self._go_home(tool)


class PushDemonstrator(Demonstrator):
    """Pushes the block with closed fingers, straight towards the goal from behind it."""

    PUSH_Z, ABOVE_Z = 0.03, 0.115  # m, tool height beside the block; clear above the handle
    BEHIND = 0.045  # m from the block's middle, where the fingers go down
    BESIDE_Z = 0.06  # m, below it the finger tips are beside the block

    def done(self, world: World, tool: np.ndarray) -> bool:
        """Say whether the block is there, and nothing is left to do but to leave."""
        beside = tool[2] < self.BESIDE_Z
        way = np.array(self._goal.block[:2]) - world.block_position[:2]
        return bool(np.linalg.norm(way) < (0.008 if beside else 0.02))

    def _plan(self, world: World, tool: np.ndarray) -> tuple[np.ndarray, float, bool]:
        block = world.block_position[:2]
        way = np.array(self._goal.block[:2]) - block
        remaining = float(np.linalg.norm(way))
        ahead = way / max(remaining, 1e-6)
        across = np.array([-ahead[1], ahead[0]])
        offset = tool[:2] - block
        beside = tool[2] < self.BESIDE_Z
        if self.done(world, tool):
            return self._leave(tool, offset, beside)
        lateral = float(offset @ across)
        if beside and offset @ ahead < -0.02 and abs(lateral) < 0.02:
            forward = np.clip(0.4 * remaining + 0.004, 0.0, 0.018)
            move = forward * ahead - 0.5 * lateral * across
            return np.array([*move, GAIN * (self.PUSH_Z - tool[2])]), 0.0, True
        place = block - self.BEHIND * ahead
        if beside and np.linalg.norm(place - tool[:2]) > 0.02:
            return np.array([0.0, 0.0, MAX_STEP]), 0.0, True
        move, careful = self._descend(tool, place, self.PUSH_Z, self.ABOVE_Z)
        return move, 0.0, careful

    def _leave(
        self, tool: np.ndarray, offset: np.ndarray, beside: bool,
    ) -> tuple[np.ndarray, float, bool]:
        if beside:
            away = offset / max(float(np.linalg.norm(offset)), 1e-6)
            return np.array([*0.01 * away, MAX_STEP]), 0.0, True
        return self._go_home(tool)


class PlaceDemonstrator(Demonstrator):
    """Grasps the block from above, carries it, and sets it down on the table or in the drawer."""

    GRASP_Z, ABOVE_Z = 0.007, 0.10  # m, tool above the block's middle; clear above the table
    LIFT, LIFT_OVER_EDGE = 0.05, 0.10  # m, carrying height on the table; over the drawer's sides
    HELD = 0.62  # gripper opening; below it the fingers touch the block, which holds them at 0.54
    OVER_EDGE_Z = 0.14  # m, tool height at which the fingers pass over the drawer's sides

    def _plan(self, world: World, tool: np.ndarray) -> tuple[np.ndarray, float, bool]:
        block = world.block_position
        way = np.array(self._goal.block) - block
        remaining = float(np.linalg.norm(way[:2]))
        offset = block - tool
        around = bool(np.linalg.norm(offset[:2]) < 0.018 and abs(offset[2]) < 0.025)
        held = around and world.arm_state().gripper < self.HELD
        inside = over_drawer(block, world.drawer_opening)
        over_edge = inside or self._goal.block[2] > BLOCK_SIZE
        if remaining < 0.015 and abs(way[2]) < 0.008:
            return self._leave(tool, around, over_edge)
        if held:
            return self._carry(tool, way, remaining, over_edge)
        low = min(block[2], INSIDE_Z) + self.GRASP_Z
        high = self.OVER_EDGE_Z if inside else self.ABOVE_Z
        move, careful = self._descend(tool, block[:2], low, high)
        grasp = around and tool[2] < low + 0.008
        return move, 0.0 if grasp else 1.0, careful

    def _carry(
        self, tool: np.ndarray, way: np.ndarray, remaining: float, over_edge: bool,
    ) -> tuple[np.ndarray, float, bool]:
        most = self.LIFT_OVER_EDGE if over_edge else self.LIFT
        lift = np.clip(4.0 * (remaining - 0.01), 0.0, most)
        short = self._goal.block[2] + self.GRASP_Z + lift - tool[2]
        across = 1.0 if remaining < 0.015 else np.clip(1.5 - short / 0.03, 0.0, 1.0)
        return GAIN * np.array([*(way[:2] * across), short]), 0.0, True

    def _leave(
        self, tool: np.ndarray, around: bool, over_edge: bool,
    ) -> tuple[np.ndarray, float, bool]:
        if around or tool[2] < (self.OVER_EDGE_Z - 0.02 if over_edge else 0.07):
            return np.array([0.0, 0.0, MAX_STEP if not around else 0.012]), 1.0, True
        return self._go_home(tool)


class PushThenOpenDemonstrator(Demonstrator):
    """Pushes the block out of the drawer's way, and opens the drawer once it is clear."""

    def __init__(self, goal: WorldState, rng: np.random.Generator, noise: float = 0.0) -> None:
        super().__init__(goal, rng, noise)
        self._push = PushDemonstrator(goal, rng)
        self._drawer = DrawerDemonstrator(goal, rng)

    def _plan(self, world: World, tool: np.ndarray) -> tuple[np.ndarray, float, bool]:
        pushing = not self._push.done(world, tool) or tool[2] < self._push.BESIDE_Z
        return (self._push if pushing else self._drawer)._plan(world, tool)


DEMONSTRATORS: dict[str, type[Demonstrator]] = {
    'open_drawer': DrawerDemonstrator,
    'close_drawer': DrawerDemonstrator,
    'move_drawer': DrawerDemonstrator,
    'push_block': PushDemonstrator,
    'pick_place': PlaceDemonstrator,
    'place_in_drawer': PlaceDemonstrator,
    'push_then_open': PushThenOpenDemonstrator,
}


def make_demonstrator(
    task: Task, goal: WorldState, rng: np.random.Generator, noise: float = 0.0,
) -> Demonstrator:
    """Return the scripted expert for a task and one goal."""
    return DEMONSTRATORS[task.name](goal, rng, noise)
