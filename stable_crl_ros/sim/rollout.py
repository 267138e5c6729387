"""One episode in the environment, by whatever chooses the actions."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from stable_crl_ros.sim.env import WidowXEnv


@dataclass
class Rollout:
    """
    What became of an episode.

    :param errors: metres from the goal, before the first action and after each, (steps + 1,).
    :param success: whether the last error is within the task's tolerance.
    :param info: of the last observation, see `WidowXEnv.step`.
    :param goal_image: uint8 RGB, rows, columns, 3.
    :param frames: every picture, when asked for.
    """

    errors: np.ndarray
    success: bool
    info: dict[str, Any]
    goal_image: np.ndarray
    frames: list[np.ndarray] = field(default_factory=list)


def run_episode(
    env: WidowXEnv, start_policy: Callable[[np.ndarray], Callable[[np.ndarray], np.ndarray]],
    seed: int | None = None, options: dict[str, Any] | None = None, steps: int | None = None,
    keep_frames: bool = False,
) -> Rollout:
    """
    Run one episode from pictures.

    :param start_policy: given the goal picture, returns what turns a picture into an action (7,).
    :param seed: of start and goal, see `WidowXEnv.reset`; `options` too.
    :param steps: control steps; None takes the task's own number.
    :param keep_frames: store every picture.
    """
    observation, info = env.reset(seed=seed, options=options)
    act = start_policy(observation['goal_image'])
    errors, frames = [info['error']], [observation['image']]
    for _ in range(steps or env.task.max_steps):
        observation, _, _, _, info = env.step(act(observation['image']))
        errors.append(info['error'])
        if keep_frames:
            frames.append(observation['image'])
    return Rollout(np.array(errors), bool(info['success']), info, observation['goal_image'],
                   frames if keep_frames else [])
