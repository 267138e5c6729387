"""Episodes in which a policy acts by itself, towards goals that undo each other."""

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from stable_crl_ros.data.dataset import Dataset
from stable_crl_ros.data.episode import EpisodeWriter
from stable_crl_ros.data.schema import Action, EpisodeMeta, Mode
from stable_crl_ros.images import ImageSpec
from stable_crl_ros.parallel import spread
from stable_crl_ros.sim.env import CONTROL_PERIOD, WidowXEnv
from stable_crl_ros.sim.recording import Recorder
from stable_crl_ros.sim.scenes import arm_around, START_SPREAD
from stable_crl_ros.sim.tasks import task_named
from stable_crl_ros.sim.world import WorldState

STREAM = 3_000_000  # evaluation and trials draw elsewhere


@dataclass(frozen=True)
class Chain:
    """
    Episodes that begin where the one before ended, the arm brought back.

    :param path: of the dataset, which has reserved the numbers.
    :param policy: what `evaluation.make_actor` takes; its actions are drawn, not the mode.
    :param goals: tasks whose goals are pursued in turn.
    :param numbers: of the episodes, in order.
    :param seed: of everything random in this chain.
    :param attributes: plain values stored with every episode.
    """

    path: Path
    policy: str
    goals: tuple[str, ...]
    numbers: tuple[int, ...]
    seed: tuple[int, ...]
    image_spec: ImageSpec | None
    checkpoint: str
    attributes: dict

    def record(self, make_actor: Callable) -> int:
        """Play and record all of them; return the steps."""
        rng = np.random.default_rng([STREAM, *self.seed])
        start_actor = make_actor(self.policy, sampled=True, seed=int(rng.integers(2**31)))
        dataset, start = Dataset(self.path), task_named(self.goals[0]).sample_start(rng)
        steps = 0
        with closing(WidowXEnv(self.goals[0])) as env:
            for turn, number in enumerate(self.numbers):
                env.task = task_named(self.goals[turn % len(self.goals)])
                goal = env.task.sample_goal(rng, start)
                steps += self._play(dataset, env, number, turn, start_actor,
                                    (start, goal, int(rng.integers(2**31))))
                # The arm goes home by itself; things stay where they are.
                start = replace(env.world.snapshot(), gripper=1.0,
                                joints=arm_around(rng, START_SPREAD))
        return steps

    def _play(self, dataset: Dataset, env: WidowXEnv, number: int, turn: int,
              start_actor: Callable, scene: tuple[WorldState, WorldState, int]) -> int:
        start, goal, seed = scene
        observation, info = env.reset(seed=seed, options={'start': start, 'goal': goal})
        act, take = start_actor(observation['goal_image']), Recorder(env, self.image_spec)
        # Nothing of the simulator's truth: nobody measures on a robot that is left alone.
        meta = EpisodeMeta(
            task=env.task.name, instruction=env.task.description, operator='policy',
            goal_image=take.resize(observation['goal_image']), checkpoint=self.checkpoint,
            image_spec=None if self.image_spec is None else self.image_spec.to_dict(),
            control_rate=1 / CONTROL_PERIOD, source='simulation', tags=['autonomous'],
            extra={**self.attributes, 'turn': turn,
                   'stamps': 'simulated time, counted from the start of the recording'})
        with EpisodeWriter(dataset, meta, number, sync_every=0) as writer:
            for step in range(env.task.max_steps):
                seen = take.observation(observation['image'], step, info['image_age'])
                commanded = act(observation['image'])
                observation, _, _, _, info = env.step(commanded)
                stamp = seen.receive_stamp
                writer.add_step(seen, Action(info['applied_action'], commanded, Mode.POLICY,
                                             stamp, stamp, flags=info['flags']))
            writer.finish(take.observation(observation['image'], env.task.max_steps,
                                           info['image_age']), None)
        return env.task.max_steps


def record_chain(chain: Chain) -> int:
    """Record a chain in this process; return its steps."""
    from stable_crl_ros.evaluation import make_actor
    return chain.record(make_actor)


def collect_autonomously(
    path: Path, policy: str, checkpoint: str, goals: Sequence[str], episodes: int,
    reset_every: int, seed: tuple[int, ...], workers: int, image_spec: ImageSpec | None,
    attributes: dict,
) -> int:
    """
    Record autonomous episodes; their success is unknown, and nothing measured is stored.

    :param path: of a new dataset.
    :param checkpoint: sha256 of the one that acts.
    :param goals: tasks whose goals are pursued in turn.
    :param reset_every: episodes after which somebody sets the scene anew.
    :param image_spec: images are stored as the learner sees them; None stores full size.
    :param attributes: plain values stored with every episode.
    :returns: the number of steps.
    """
    dataset = Dataset(path, create=True)
    with dataset.lock():  # for the workers, who record under the numbers reserved here
        numbers = list(dataset.reserve_ids(episodes))
        chains = [Chain(path, policy, tuple(goals), tuple(numbers[first:first + reset_every]),
                        (*seed, first), image_spec, checkpoint, attributes)
                  for first in range(0, episodes, reset_every)]
        try:
            with closing(spread(record_chain, [(chain,) for chain in chains], workers)) as done:
                return sum(done)
        finally:
            dataset.release_ids(numbers)
