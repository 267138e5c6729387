"""Random scenes: what episodes start from, and what they shall bring about."""

from collections.abc import Sequence
from dataclasses import replace
import math

import numpy as np
from stable_crl_ros.robot.kinematics import forward_kinematics, inverse_kinematics, START
from stable_crl_ros.robot.poses import DOWN, pose_of
from stable_crl_ros.sim.world import BLOCK_SIZE, LATCH_TRAVEL, WorldState

START_XYZ = (0.3, 0.0, 0.15)  # m, tool point at kinematics.START
START_SPREAD = (0.03, 0.04, 0.02)  # m, half the range of random start positions
RETREAT_SPREAD = (0.012, 0.012, 0.008)  # m, half the range in which demonstrations end
BLOCK_LOW, BLOCK_HIGH = (0.20, 0.095), (0.33, 0.165)  # m, x and y, clear of the drawer
OPEN_RANGE = (0.05, 0.12)  # m
WIDE_OPEN = 0.09  # m, from here on the gripper has room inside the drawer
FRONT_LOW, FRONT_HIGH = (0.235, -0.02), (0.26, 0.03)  # m, x and y, in front of the drawer
SIDE_Y = 0.088  # m, from here on the gripper clears the drawer's side
BEFORE_Y = 0.068  # m, from here on it clears the handle
PUSHABLE_X = 0.27  # m, up to here there is room to push the block away
ASIDE_Y = (0.10, 0.13)  # m, where a block out of the drawer's way goes
INSIDE_Y = (-0.08, -0.02)  # m, room for the open gripper between the drawer's sides
INSIDE_X = 0.32  # m, furthest place inside the drawer that is not below the cabinet's top
FRONT_ROOM = 0.037  # m between the drawer's front and a block that the gripper sets down behind it
CLOSED_X = 0.36  # m, back of the drawer's front when closed
INSIDE_Z = 0.023 + BLOCK_SIZE / 2  # m, middle of a block on the drawer's floor


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


def start_nearly_closed(rng: np.random.Generator) -> WorldState:
    """Draw a scene with the drawer closed, or almost."""
    return _scene(rng, rng.uniform(0.0, 0.02))


def start_open(rng: np.random.Generator) -> WorldState:
    """Draw a scene with the drawer open."""
    return _scene(rng, rng.uniform(*OPEN_RANGE))


def start_on_table(rng: np.random.Generator) -> WorldState:
    """Draw a scene with the drawer closed and the block beside it."""
    return _scene(rng, 0.0)


def start_anywhere(rng: np.random.Generator) -> WorldState:
    """Draw a scene with any opening."""
    return _scene(rng, rng.uniform(0.0, OPEN_RANGE[1]))


def goal_open(rng: np.random.Generator, start: WorldState) -> WorldState:
    """Draw an opening, whatever it is now."""
    return _retreated(rng, start).with_drawer(rng.uniform(*OPEN_RANGE))


def goal_closed(rng: np.random.Generator, start: WorldState) -> WorldState:
    """Close the drawer."""
    return _retreated(rng, start).with_drawer(0.0)


def goal_elsewhere(rng: np.random.Generator, start: WorldState) -> WorldState:
    """Draw an opening at least 3 cm from the present one."""
    low, high, away = 0.0, OPEN_RANGE[1], 0.03
    below = max(start.drawer - away - low, 0.0)
    above = max(high - start.drawer - away, 0.0)
    draw = rng.uniform(0.0, below + above)
    opening = low + draw if draw < below else start.drawer + away + (draw - below)
    return _retreated(rng, start).with_drawer(opening)


def goal_pushed(rng: np.random.Generator, start: WorldState) -> WorldState:
    """Draw a place 5 to 9 cm further from the base, up to 15 degrees to either side."""
    distance, angle = rng.uniform(0.05, 0.09), rng.uniform(-0.26, 0.26)
    x, y, z = start.block
    block = x + distance * math.cos(angle), y + distance * math.sin(angle), z
    return replace(_retreated(rng, start), block=block)


def goal_placed(rng: np.random.Generator, start: WorldState) -> WorldState:
    """Draw a place on the table at least 5 cm from the present one."""
    block = np.array([*start.block[:2], BLOCK_SIZE / 2])
    while np.linalg.norm(block[:2] - start.block[:2]) < 0.05:
        block[:2] = rng.uniform(BLOCK_LOW, BLOCK_HIGH)
    return replace(_retreated(rng, start), block=tuple(block))


def start_pushable(rng: np.random.Generator) -> WorldState:
    """Draw a scene with room to push the block away from the base."""
    state = _scene(rng, 0.0)
    xy = rng.uniform((0.235, 0.10), (0.265, 0.15))
    return replace(state, block=(*xy, BLOCK_SIZE / 2))


def start_wide_open(rng: np.random.Generator) -> WorldState:
    """Draw a scene with the drawer open wide enough to reach into, the block on the table."""
    return _scene(rng, rng.uniform(WIDE_OPEN, OPEN_RANGE[1]))


def goal_in_drawer(rng: np.random.Generator, start: WorldState) -> WorldState:
    """Draw a place for the block inside the open drawer."""
    nearest = CLOSED_X - start.drawer + FRONT_ROOM
    block = rng.uniform(nearest, INSIDE_X), rng.uniform(*INSIDE_Y), INSIDE_Z
    return replace(_retreated(rng, start), block=block)


def start_blocked(rng: np.random.Generator) -> WorldState:
    """Draw a scene in which the block stands in front of the closed drawer and latches it."""
    state = _scene(rng, rng.uniform(0.0, 0.01))
    return replace(state, block=(*rng.uniform(FRONT_LOW, FRONT_HIGH), BLOCK_SIZE / 2))


def goal_aside(rng: np.random.Generator, start: WorldState) -> WorldState:
    """Move the block sideways, out of the drawer's way."""
    block = start.block[0] + rng.uniform(-0.02, 0.01), rng.uniform(*ASIDE_Y), start.block[2]
    return replace(_retreated(rng, start), block=block)


def goal_aside_and_open(rng: np.random.Generator, start: WorldState) -> WorldState:
    """Move the block out of the drawer's way, and open the drawer."""
    return goal_aside(rng, start).with_drawer(rng.uniform(*OPEN_RANGE))


def goal_in_front(rng: np.random.Generator, start: WorldState) -> WorldState:
    """Put the block in front of the closed drawer."""
    block = *rng.uniform(FRONT_LOW, FRONT_HIGH), BLOCK_SIZE / 2
    return replace(_retreated(rng, start), block=block)


def start_unblocked(rng: np.random.Generator) -> WorldState:
    """Draw a scene like `start_blocked`, but with the block pushed aside already."""
    start = start_blocked(rng)
    return replace(start, block=goal_aside(rng, start).block)


def place_of_block(state: WorldState) -> str:
    """
    Say where the block is, as far as the gripper is concerned.

    :returns: 'side' (of the drawer), 'front' (of the closed drawer), 'drawer' (the open part),
        'air' (in the gripper), or 'lost' (where the gripper cannot go).
    """
    x, y, z = state.block
    tool = forward_kinematics(np.array(state.joints))[:3, 3]
    if z > BLOCK_SIZE / 2 + 0.005 and np.linalg.norm(tool - state.block) < 0.045:
        return 'air'
    if over_drawer(state.block, state.drawer):
        nearest = CLOSED_X - state.drawer + FRONT_ROOM - 0.012
        roomy = nearest < x < INSIDE_X + 0.01 and INSIDE_Y[0] - 0.012 < y < INSIDE_Y[1] + 0.012
        return 'drawer' if roomy else 'lost'
    if z > BLOCK_SIZE or not 0.19 < x < 0.36:
        return 'lost'
    before_drawer = x < CLOSED_X - state.drawer - 0.015
    if (BEFORE_Y if before_drawer else SIDE_Y) < y < 0.185:
        return 'side'
    reachable = state.drawer < LATCH_TRAVEL and -0.12 < y <= BEFORE_Y and x < 0.275
    return 'front' if reachable else 'lost'


def over_drawer(block: Sequence[float], opening: float) -> bool:
    """Say whether a block is inside the open part of the drawer, or above it."""
    x, y, _ = block
    return CLOSED_X - opening - 0.01 < x < CLOSED_X and -0.15 < y < 0.05
