"""Scripted episodes whose true state is kept at every step, and their arm-only counterfactuals."""

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace

import numpy as np
from stable_crl_ros.images import ImageSpec
from stable_crl_ros.sim.collect import DEFAULT_NOISE
from stable_crl_ros.sim.demonstrators import make_demonstrator
from stable_crl_ros.sim.env import WidowXEnv
from stable_crl_ros.sim.world import World, WorldState

# Streams that neither collection nor evaluation draws from (see sim.collect, evaluation).
ANALYSIS_STREAM = 2_000_000
OBJECTS = ('drawer', 'block')
Pictures = dict[ImageSpec, np.ndarray]


@dataclass
class Demonstration:
    """
    One episode of T steps; row t is what was true, and seen, before action t; row T the end.

    :param images: per image spec, uint8 (T + 1, H, W, 3), drawn without latency.
    :param goal_images: per image spec, uint8 (H, W, 3).
    :param objects: m, (T + 1, D): what counts for the task, see `object_state`.
    :param goal_objects: m, (D,).
    :param bystanders: m, (T + 1, D'): what does not count, as `objects`; D' may be 0.
    :param tool: m, (T + 1, 3), tool point.
    :param actions: (T, 7), as applied, physical.
    :param arm_only: per image spec, (T + 1, H, W, 3): the same arm poses, but everything else
        as it was at the start; empty unless asked for.
    :param arm_only_objects: m, (T + 1, D), read back from those scenes.
    """

    index: int
    success: bool
    images: Pictures
    goal_images: Pictures
    objects: np.ndarray
    goal_objects: np.ndarray
    bystanders: np.ndarray
    tool: np.ndarray
    actions: np.ndarray
    arm_only: Pictures = field(default_factory=dict)
    arm_only_objects: np.ndarray | None = None


def object_state(state: WorldState, names: Sequence[str]) -> np.ndarray:
    """
    Give the places of the objects that count as one vector, m.

    :param names: of 'drawer' (its opening, 1 number) and 'block' (its middle, 3 numbers).
    """
    values = {'drawer': [state.drawer], 'block': state.block}
    return np.concatenate([[], *(values[name] for name in names)])


def demonstrate_share(task: str, seed: int, indices: Sequence[int], specs: Sequence[ImageSpec],
                      arm_only: bool) -> list[Demonstration]:
    """
    Run some episodes of the scripted expert in this process.

    :param indices: numbers of the episodes; with `seed` they fix everything.
    :param specs: sizes in which pictures are kept.
    :param arm_only: also draw the arm's motion with the objects left where they were.
    """
    with closing(WidowXEnv(task)) as env:
        return [_demonstrate(env, seed, index, specs, arm_only) for index in indices]


def _demonstrate(env: WidowXEnv, seed: int, index: int, specs: Sequence[ImageSpec],
                 arm_only: bool) -> Demonstration:
    streams = np.random.SeedSequence([seed, ANALYSIS_STREAM + index])
    reset_seed, noise_seed = (int(value) for value in streams.generate_state(2))
    rng = np.random.default_rng(noise_seed)
    observation, info = env.reset(seed=reset_seed)
    expert = make_demonstrator(env.task, env.goal, rng, float(rng.choice(DEFAULT_NOISE)))
    pictures, states = [env.world.render()], [env.world.snapshot()]
    tool, actions = [env.world.ee_pose[:3, 3]], []
    for _ in range(env.task.max_steps):
        _, _, _, _, info = env.step(expert.act(env.world))
        pictures.append(env.world.render())
        states.append(env.world.snapshot())
        tool.append(env.world.ee_pose[:3, 3])
        actions.append(info['applied_action'])
    names = env.task.objects
    made = Demonstration(
        index, bool(info['success']), _resize(pictures, specs),
        {spec: spec.resize(observation['goal_image']) for spec in specs},
        np.array([object_state(state, names) for state in states]),
        object_state(env.goal, names),
        np.array([object_state(state, [name for name in OBJECTS if name not in names])
                  for state in states]), np.array(tool), np.array(actions))
    if arm_only:
        _replay_arm(env.world, states, names, specs, made)
    return made


def _replay_arm(world: World, states: list[WorldState], names: Sequence[str],
                specs: Sequence[ImageSpec], made: Demonstration) -> None:
    """
    Draw every pose of the arm in the scene of the start.

    The scene is set and drawn, not simulated: fingers may pass through a handle that stays, but
    arm poses equal the episode's exactly and nothing else can have moved.
    """
    pictures, objects = [], []
    for state in states:
        world.reset(replace(states[0], joints=state.joints, gripper=state.gripper))
        pictures.append(world.render())
        objects.append(object_state(world.snapshot(), names))
    made.arm_only, made.arm_only_objects = _resize(pictures, specs), np.array(objects)


def _resize(pictures: list[np.ndarray], specs: Sequence[ImageSpec]) -> Pictures:
    return {spec: np.stack([spec.resize(picture) for picture in pictures]) for spec in specs}
