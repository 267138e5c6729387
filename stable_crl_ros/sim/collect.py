"""Record scripted demonstrations in the simulator, in parallel, as a dataset of episodes."""

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
import time

import numpy as np
from stable_crl_ros.data.dataset import Dataset
from stable_crl_ros.data.episode import EpisodeWriter
from stable_crl_ros.data.schema import Action, EpisodeMeta, Mode, Observation
from stable_crl_ros.images import ImageSpec
from stable_crl_ros.parallel import spread
from stable_crl_ros.robot.poses import pose_to_xyz_quaternion
from stable_crl_ros.sim.demonstrators import Demonstrator, make_demonstrator
from stable_crl_ros.sim.env import CONTROL_PERIOD, WidowXEnv
from stable_crl_ros.sim.tasks import task_named
from stable_crl_ros.sim.world import CAMERA_NAME

SHARE = 10  # episodes a worker records before it reports
DEFAULT_NOISE = (0.1, 0.25, 0.4)


class CollectError(ValueError):
    """Demonstrations that cannot be recorded as asked."""


@dataclass(frozen=True)
class Demonstration:
    """
    One episode to record.

    :param index: number within the collection; with the collection's seed it fixes everything.
    """

    task: str
    index: int
    episode_id: int


@dataclass(frozen=True)
class Settings:
    """What all episodes of a collection share."""

    path: Path
    seed: int
    noise: tuple[float, ...] = DEFAULT_NOISE
    image_spec: ImageSpec | None = field(default_factory=ImageSpec)


def collect(
    path: str | Path, episodes: dict[str, int], seed: int = 0, workers: int = 2,
    noise: Sequence[float] = DEFAULT_NOISE, image_spec: ImageSpec | None = ImageSpec(),  # noqa: B008
    progress: Callable[[int, int], None] = lambda done, successes: None,
) -> Dataset:
    """
    Record scripted demonstrations; failed ones are kept, with success false.

    :param path: directory of the dataset; new episodes are added to what it holds.
    :param episodes: task -> number of episodes.
    :param seed: the same seed, tasks and numbers give the same episodes, whatever `workers`.
    :param noise: each episode draws one of these strengths (see `Demonstrator`).
    :param image_spec: images are stored as the learner sees them; None stores full size.
    :param progress: called with how many episodes were just recorded, and succeeded.
    :raises CollectError: for no or unknown tasks, or counts that make no sense.
    """
    plan = _plan(episodes)
    if workers < 1 or seed < 0 or not noise or min(noise) < 0.0:
        raise CollectError(f'collecting needs workers >= 1, seed >= 0 and noise >= 0; got '
                           f'{workers}, {seed} and {tuple(noise)}')
    dataset = Dataset(path, create=True)
    ids = dataset.reserve_ids(len(plan))
    work = [Demonstration(task, index, episode_id)
            for index, (task, episode_id) in enumerate(zip(plan, ids, strict=True))]
    shares = [work[i:i + SHARE] for i in range(0, len(work), SHARE)]
    settings = Settings(Path(path), seed, tuple(noise), image_spec)
    try:
        calls = [(settings, share) for share in shares]
        with closing(spread(record_share, calls, workers)) as done:
            for share, successes in zip(shares, done, strict=True):
                progress(len(share), successes)
    finally:
        dataset.release_ids(ids)
    return dataset


def _plan(episodes: dict[str, int]) -> list[str]:
    """Interleave the tasks, so that a cut-off collection still holds all of them."""
    for name, count in episodes.items():
        task_named(name)
        if count < 0:
            raise CollectError(f'{count} episodes of {name}: give 0 or more')
    total = max(episodes.values(), default=0)
    if total == 0:
        raise CollectError('no episodes asked for; give a number per task')
    return [name for turn in range(total) for name, count in episodes.items() if turn < count]


def record_share(settings: Settings, share: list[Demonstration]) -> int:
    """Record some episodes in this process; return how many succeeded."""
    dataset = Dataset(settings.path)
    with closing(WidowXEnv(share[0].task)) as env:
        return sum(record_demonstration(dataset, env, settings, item) for item in share)


def record_demonstration(
    dataset: Dataset, env: WidowXEnv, settings: Settings, item: Demonstration,
) -> bool:
    """Record one episode and seal it; return whether it succeeded."""
    streams = np.random.SeedSequence([settings.seed, item.index])
    reset_seed, noise_seed = (int(value) for value in streams.generate_state(2))
    rng = np.random.default_rng(noise_seed)
    noise = float(rng.choice(settings.noise))
    env.task = task_named(item.task)
    observation, info = env.reset(seed=reset_seed)
    demonstrator = make_demonstrator(env.task, env.goal, rng, noise)
    meta = _describe(env, settings, item, noise, observation['goal_image'])
    clock = time.time_ns()
    with EpisodeWriter(dataset, meta, item.episode_id, sync_every=0) as writer:
        for step in range(env.task.max_steps):
            seen = _observation(env, settings, observation['image'], clock, step,
                                info['image_age'])
            action, info, observation = _act(env, demonstrator, seen.receive_stamp)
            writer.add_step(seen, action)
        final = _observation(env, settings, observation['image'], clock, env.task.max_steps,
                             info['image_age'])
        writer.finish(final, bool(info['success']), attributes={'final_error': info['error']})
    return bool(info['success'])


def _describe(
    env: WidowXEnv, settings: Settings, item: Demonstration, noise: float, goal: np.ndarray,
) -> EpisodeMeta:
    spec = settings.image_spec
    return EpisodeMeta(
        task=item.task, instruction=env.task.description, operator='script',
        goal_image=goal if spec is None else spec.resize(goal),
        image_spec=None if spec is None else spec.to_dict(),
        control_rate=1 / CONTROL_PERIOD, source='simulation',
        extra={'seed': settings.seed, 'seed_index': item.index, 'noise': noise,
               'stamps': 'simulated time, counted from the start of the recording',
               'start_opening': env.start.drawer, 'goal_opening': env.goal.drawer,
               'start_block': list(env.start.block), 'goal_block': list(env.goal.block)})


def _observation(
    env: WidowXEnv, settings: Settings, image: np.ndarray, clock: int, step: int,
    image_age: float,
) -> Observation:
    arm, spec = env.world.arm_state(), settings.image_spec
    now = clock + round(step * CONTROL_PERIOD * 1e9)
    return Observation(
        images={CAMERA_NAME: image if spec is None else spec.resize(image)},
        joint_positions=arm.joint_positions, joint_velocities=arm.joint_velocities,
        joint_efforts=arm.joint_efforts, gripper=arm.gripper,
        ee_pose=pose_to_xyz_quaternion(env.world.ee_pose),
        capture_stamp=now - round(image_age * 1e9), receive_stamp=now)


def _act(
    env: WidowXEnv, demonstrator: Demonstrator, stamp: int,
) -> tuple[Action, dict, dict[str, np.ndarray]]:
    commanded = demonstrator.act(env.world)
    observation, _, _, _, info = env.step(commanded)
    action = Action(info['applied_action'], commanded, Mode.SCRIPT, stamp, stamp,
                    flags=info['flags'])
    return action, info, observation
