"""Record one scripted episode of the simulator as a sealed episode of a dataset."""

from collections.abc import Sequence
from dataclasses import dataclass, field
import time
from typing import Protocol

import numpy as np
from stable_crl_ros.data.dataset import Dataset
from stable_crl_ros.data.episode import EpisodeWriter
from stable_crl_ros.data.schema import Action, EpisodeMeta, Mode, Observation
from stable_crl_ros.images import ImageSpec
from stable_crl_ros.robot.poses import pose_to_xyz_quaternion
from stable_crl_ros.sim.appearance import Appearance
from stable_crl_ros.sim.env import CONTROL_PERIOD, WidowXEnv
from stable_crl_ros.sim.tasks import task_named
from stable_crl_ros.sim.world import CAMERA_NAME, World, WorldState


class Actor(Protocol):
    """What chooses the actions of a scripted episode; it may look at the world's truth."""

    def act(self, world: World) -> np.ndarray:
        """Return the action (7,): m, rad, gripper 0..1."""


@dataclass(frozen=True)
class Script:
    """
    An episode before it is played.

    :param task: by whose objects the end is judged, a name of `tasks.TASKS`.
    :param goal: the scene to bring about; None where the episode pursues many, one after another:
        then no goal picture is stored and nobody judges.
    :param actor: who acts.
    :param steps: control steps.
    :param seed: of the ages of the pictures.
    :param attributes: plain values stored with the episode, for people.
    :param appearance: how the scene looks.
    """

    task: str
    start: WorldState
    goal: WorldState | None
    actor: Actor
    steps: int
    seed: int
    attributes: dict = field(default_factory=dict)
    appearance: Appearance = field(default_factory=Appearance)


def record_episode(
    dataset: Dataset, env: WidowXEnv, script: Script, episode_id: int,
    image_spec: ImageSpec | None,
) -> bool | None:
    """
    Play a script and seal what was seen and done.

    :param image_spec: images are stored as the learner sees them; None stores full size.
    :returns: whether the goal was reached at the last step; None without a goal.
    """
    env.task = task_named(script.task)
    observation, info = env.reset(seed=script.seed, options={
        'start': script.start, 'goal': script.goal or script.start,
        'appearance': script.appearance})
    take = Recorder(env, image_spec)
    meta = _describe(env, script, image_spec, observation['goal_image'])
    with EpisodeWriter(dataset, meta, episode_id, sync_every=0) as writer:
        for step in range(script.steps):
            seen = take.observation(observation['image'], step, info['image_age'])
            commanded = script.actor.act(env.world)
            observation, _, _, _, info = env.step(commanded)
            stamp = seen.receive_stamp
            writer.add_step(seen, Action(info['applied_action'], commanded, Mode.SCRIPT, stamp,
                                         stamp, flags=info['flags']))
        final = take.observation(observation['image'], script.steps, info['image_age'])
        success = bool(info['success']) if script.goal else None
        writer.finish(final, success, attributes=_outcome(env, script, info))
    return success


class Recorder:
    """Turns what the environment shows into what a robot would have recorded."""

    def __init__(self, env: WidowXEnv, image_spec: ImageSpec | None) -> None:
        self._env, self._spec, self._begin = env, image_spec, time.time_ns()

    def resize(self, image: np.ndarray) -> np.ndarray:
        """Return an image as it is stored."""
        return image if self._spec is None else self._spec.resize(image)

    def observation(self, image: np.ndarray, step: int, image_age: float) -> Observation:
        """Return what a robot's logger would have taken at a step."""
        arm = self._env.world.arm_state()
        now = self._begin + round(step * CONTROL_PERIOD * 1e9)
        return Observation(
            images={CAMERA_NAME: self.resize(image)},
            joint_positions=arm.joint_positions, joint_velocities=arm.joint_velocities,
            joint_efforts=arm.joint_efforts, gripper=arm.gripper,
            ee_pose=pose_to_xyz_quaternion(self._env.world.ee_pose),
            capture_stamp=now - round(image_age * 1e9), receive_stamp=now)


def _describe(
    env: WidowXEnv, script: Script, spec: ImageSpec | None, goal_image: np.ndarray,
) -> EpisodeMeta:
    shown = goal_image if spec is None else spec.resize(goal_image)
    return EpisodeMeta(
        task=script.task, instruction=env.task.description if script.goal else '',
        operator='script', goal_image=shown if script.goal else None,
        image_spec=None if spec is None else spec.to_dict(),
        control_rate=1 / CONTROL_PERIOD, source='simulation',
        extra={'stamps': 'simulated time, counted from the start of the recording',
               **_scene('start', script.start.drawer, script.start.block),
               **(_scene('goal', script.goal.drawer, script.goal.block) if script.goal else {}),
               **script.attributes})


def _outcome(env: WidowXEnv, script: Script, info: dict) -> dict:
    error = {'final_error': info['error'], 'final_errors': info['errors']} if script.goal else {}
    return {**error, **_scene('final', env.world.drawer_opening, env.world.block_position)}


def _scene(when: str, opening: float, block: Sequence[float]) -> dict:
    return {f'{when}_opening': float(opening), f'{when}_block': [float(value) for value in block]}
