#!/usr/bin/env python3
"""Measure how far a contrastive critic moves actions away from cloned ones, and what it does."""

import argparse
from collections.abc import Callable
from contextlib import closing

import numpy as np
from stable_crl_ros import SHIPPED_CHECKPOINT
from stable_crl_ros.crl.losses import squared_error_weight
from stable_crl_ros.data.sampling import sample_future
from stable_crl_ros.evaluation import run_trial, trial_seed
from stable_crl_ros.experiments.demonstrations import demonstrate_share
from stable_crl_ros.experiments.estimates import mean_estimate, show
from stable_crl_ros.experiments.learned import Learned, load_learned
from stable_crl_ros.intervals import wilson_interval
import torch

WEIGHTS = (0.8, 0.5, 0.2, 0.05)  # of cloning: the laptop preset's and those of the ablations
WAYS = ('along', 'against', 'random')  # the critic's gradient


def gradients(one: Learned, observations: torch.Tensor, goals: torch.Tensor,
              ) -> tuple[torch.Tensor, torch.Tensor]:
    """
    Return the policy's actions and the gradient of the critic's logit there.

    :param observations: pixels (B, 3, H, W); so are the goals.
    :returns: normalised actions, and logits per normalised unit, each (B, 7).
    """
    with torch.no_grad():
        encoded = one.agent.encode_goals(one.networks, goals)
        mean = one.agent.act(one.networks, observations, goals)
    actions = mean.clone().requires_grad_(True)
    logits = one.agent.score(one.networks, observations, actions, encoded)
    return mean, torch.autograd.grad(logits.sum(), actions)[0]


def pulls(one: Learned, task: str, episodes: int, seed: int) -> np.ndarray:
    """
    Measure sizes of the critic's gradient along scripted episodes; goals as in training.

    :returns: mean over each episode's steps, logits per normalised unit, (episodes,).
    """
    rng, found = np.random.default_rng(seed), []
    for item in demonstrate_share(task, seed, range(episodes), (one.image_spec,), False):
        images, steps = item.images[one.image_spec], np.arange(len(item.actions))
        goals = sample_future(steps, np.full_like(steps, len(steps)), one.config.discount, rng)
        slope = gradients(one, one.pixels(images[steps]), one.pixels(images[goals]))[1]
        found.append(slope.norm(dim=1).mean().item())
    return np.array(found)


def make_player(one: Learned, weight: float, way: str, seed: int) -> Callable:
    """
    Build a policy that goes where cloning's squared error and the critic would balance.

    :param weight: of cloning, which says how far; 1 for the policy as it is.
    :param way: of `WAYS`.
    """
    rng = np.random.default_rng(seed)

    def start(goal_image: np.ndarray) -> Callable:
        goal = one.pixels(one.image_spec.resize(goal_image)[None])

        def act(image: np.ndarray) -> np.ndarray:
            mean, slope = gradients(one, one.pixels(one.image_spec.resize(image)[None]), goal)
            if way == 'random':
                drawn = torch.from_numpy(rng.normal(size=slope.shape)).float()
                slope = drawn * slope.norm() / drawn.norm()
            step = 0.0 if weight == 1.0 else \
                0.5 / squared_error_weight(weight, one.config.std)
            return one.action_scale.denormalise(
                (mean + step * (-slope if way == 'against' else slope))[0].numpy())
        return act
    return start


def play(one: Learned, task: str, episodes: int, seed: int, weight: float, way: str) -> str:
    """Run trials; return a row of the table."""
    from stable_crl_ros.sim.env import WidowXEnv
    player = make_player(one, weight, way, seed)
    with closing(WidowXEnv(task=task)) as env:
        won = sum(run_trial(env, player, task, trial_seed(seed, episode)).success
                  for episode in range(episodes))
    low, high = wilson_interval(won, episodes)
    what = 'as trained' if weight == 1.0 else f'{way}, as far as cloning {weight:g} allows'
    return f'| {what} | {won} of {episodes} | {100 * won / episodes:.0f} % ' \
           f'[{100 * low:.0f}, {100 * high:.0f}] |'


def main() -> int:
    """Print how far each weight of cloning lets the critic go, then trials where asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--checkpoint', default=str(SHIPPED_CHECKPOINT))
    parser.add_argument('--task', default='push_then_open')
    parser.add_argument('--episodes', type=int, default=20)
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--play', type=int, default=0, help='trials of each kind in closed loop')
    options = parser.parse_args()
    torch.set_num_threads(1)
    one = load_learned(options.checkpoint)
    slopes = pulls(one, options.task, options.episodes, options.seed)
    print('| weight of cloning | squared error per logit | the critic moves an action by |')
    print('| --- | --- | --- |')
    for weight in WEIGHTS:
        cost = squared_error_weight(weight, one.config.std)
        shift = show(mean_estimate(slopes / (2 * cost), options.seed), '{:.3f}'.format)
        print(f'| {weight:g} | {cost:.1f} | {shift} |', flush=True)
    if options.play:
        print('\n| actions | strict | rate |\n| --- | --- | --- |')
        for weight, way in ((1.0, 'along'), *((0.5, way) for way in WAYS), (0.2, 'along')):
            print(play(one, options.task, options.play, options.seed, weight, way), flush=True)
    return 0


if __name__ == '__main__':
    raise SystemExit(main())
