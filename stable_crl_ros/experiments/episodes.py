"""Closed-loop episodes of a checkpoint with its opinion of the goal at every step."""

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass

import numpy as np
from stable_crl_ros.policy import Policy
from stable_crl_ros.sim.env import WidowXEnv


@dataclass(frozen=True)
class Played:
    """
    One episode of T steps.

    :param values: the policy's `progress` before each action and at the end, (T + 1,); NaN
        without a critic.
    :param errors: largest distance of an object from its goal, m, (T + 1,).
    :param arm_errors: distance of the tool point from the goal's, m, (T + 1,).
    :param succeeded: whether all objects were within the strict tolerance, (T + 1,).
    """

    seed: int
    values: np.ndarray
    errors: np.ndarray
    arm_errors: np.ndarray
    succeeded: np.ndarray

    @property
    def success(self) -> bool:
        """Say whether the objects were in place at the last step."""
        return bool(self.succeeded[-1])


def play_share(path: str, task: str, seeds: Sequence[int], sampled: bool) -> list[Played]:
    """
    Run some episodes in this process.

    :param path: of the checkpoint.
    :param seeds: of starts and goals, see `evaluation.trial_seed`.
    :param sampled: draw the actions from the policy's distribution instead of taking its mode.
    """
    policy = Policy.load(path, threads=1)
    with closing(WidowXEnv(task)) as env:
        return [_play(env, policy, seed, sampled) for seed in seeds]


def _play(env: WidowXEnv, policy: Policy, seed: int, sampled: bool) -> Played:
    rng = np.random.default_rng([seed, 1])
    observation, info = env.reset(seed=seed)
    policy.set_goal(observation['goal_image'])
    rows, values = [_judge(info)], []
    for _ in range(env.task.max_steps):
        action, value = policy.step(observation['image'])
        if sampled:
            action = policy.sample_action(observation['image'], rng)
        observation, _, _, _, info = env.step(action)
        values.append(value)
        rows.append(_judge(info))
    values.append(policy.progress(observation['image']))
    errors, arm_errors, succeeded = (np.array(column) for column in zip(*rows, strict=True))
    return Played(seed, np.array(values, float), errors, arm_errors, succeeded.astype(bool))


def _judge(info: dict) -> tuple[float, float, bool]:
    return info['error'], info['arm_error'], info['success']
