"""Losses of goal-conditioned values and of the actors that follow them, as pure functions."""

import torch
from torch import Tensor

LARGEST_WEIGHT = 100.0  # of an action in advantage-weighted cloning (OGBench, BridgeData V2)


def value_target(next_value: Tensor, reached: Tensor, discount: float) -> Tensor:
    """
    Bootstrap minus the discounted number of steps to the goal.

    :param next_value: V(s', g), shape (B, ...).
    :param reached: whether the goal is reached, bool, shape (B,).
    :returns: 0 where reached (reward 0, nothing follows), -1 + discount * V(s', g) elsewhere;
        of the shape of `next_value`, detached.
    """
    reached = reached.view(-1, *[1] * (next_value.ndim - 1))
    return torch.where(reached, 0.0, discount * next_value.detach() - 1.0)


def expectile_loss(error: Tensor, expectile: float, advantage: Tensor | None = None) -> Tensor:
    """
    Asymmetric squared error, which makes a value the upper expectile of its targets.

    :param error: target minus value, any shape.
    :param expectile: weight of positive errors; negative ones weigh 1 - expectile.
    :param advantage: whose sign chooses the weight, broadcast; the error itself when None.
    :returns: mean over all.
    """
    chosen = error if advantage is None else advantage
    weight = torch.where(chosen >= 0, expectile, 1.0 - expectile)
    return (weight * error.square()).mean()


def advantage_weights(advantage: Tensor, temperature: float) -> Tensor:
    """
    Weigh actions by exp(temperature * advantage), at most `LARGEST_WEIGHT`.

    :param advantage: shape (B,).
    :returns: shape (B,), detached.
    """
    return (temperature * advantage.detach()).exp().clamp(max=LARGEST_WEIGHT)


def cloning_loss(squared_error: Tensor, weights: Tensor | None = None) -> Tensor:
    """
    Weighted cloning: minus the log density of a unit Gaussian but for its constant.

    Unit deviation as in OGBench, whatever the policy's own: temperatures and coefficients mean
    the same for every deviation.

    :param squared_error: summed over an action's numbers, shape (B,).
    :param weights: shape (B,); all 1 when None.
    """
    loss = 0.5 * squared_error
    return (loss if weights is None else weights * loss).mean()


def climbing_loss(q: Tensor) -> Tensor:
    """
    Seek the highest value, per unit of the batch's mean absolute value (DDPG+BC of OGBench).

    :param q: Q(s, pi(s, g), g), shape (B,).
    """
    return -q.mean() / (q.detach().abs().mean() + 1e-6)
