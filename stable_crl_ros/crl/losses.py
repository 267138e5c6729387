"""Losses of the contrastive critic and of the actor, as pure functions of logits and actions."""

import math

import torch
from torch import Tensor
import torch.nn.functional as F  # noqa: N812 the name every PyTorch user knows


def importance_weights(target_logits: Tensor, limit: float) -> Tensor:
    """
    Weigh the temporal-difference term by v / (1 - v), v the smallest of the critics' sigmoids.

    :param target_logits: target critics' f(s', a', g), shape (B, E).
    :param limit: the weights are clamped to 0 .. limit.
    :returns: shape (B,), detached.
    """
    # v / (1 - v) of v = sigmoid(x) is exp(x), which does not divide by zero where v rounds to 1.
    return target_logits.detach().amin(dim=1).exp().clamp(max=limit)


def td_critic_loss(positive: Tensor, negative: Tensor, weights: Tensor,
                   discount: float) -> Tensor:
    """
    Temporal-difference noise-contrastive loss (C-learning): one negative goal per sample.

    :param positive: f(s, a, s'), shape (B, E).
    :param negative: f(s, a, g) with g another sample's s', shape (B, E).
    :param weights: `importance_weights` at the same g, shape (B,).
    :param discount: per step.
    :returns: mean over samples and critics.
    """
    reached = F.softplus(-positive)  # cross entropy with label 1
    bootstrapped = weights[:, None] * F.softplus(-negative)
    avoided = F.softplus(negative)  # cross entropy with label 0
    return ((1.0 - discount) * reached + discount * bootstrapped + avoided).mean()


def mc_critic_loss(logits: Tensor) -> Tensor:
    """
    Monte-Carlo noise-contrastive loss: every other goal of the batch is a negative.

    :param logits: f(s_i, a_i, g_j) with g_i a future of s_i, shape (B, B, E).
    :returns: mean over B x B pairs, the B - 1 negatives of a row weighing as much as its
        positive; mean over critics.
    """
    size = logits.shape[0]
    positive = F.softplus(-logits.diagonal())  # (E, B)
    negative = F.softplus(logits)
    others = negative.sum((0, 1)) - negative.diagonal().sum(1)  # (E,)
    return ((positive.sum(1) + others / (size - 1)) / size**2).mean()


def nce_critic_loss(logits: Tensor) -> Tensor:
    """
    Plain noise-contrastive loss: all B x B pairs weigh the same, so negatives outweigh B - 1 to 1.

    :param logits: as for `mc_critic_loss`.
    :returns: mean over pairs and critics.
    """
    signs = 1.0 - 2.0 * torch.eye(len(logits), device=logits.device)[:, :, None]
    return F.softplus(signs * logits).mean()


def gaussian_log_prob(mean: Tensor, std: float, actions: Tensor) -> Tensor:
    """
    Log density of actions under the policy.

    :param mean: shape (B, A).
    :param std: the same for every dimension.
    :param actions: shape (B, A).
    :returns: shape (B,).
    """
    normaliser = actions.shape[1] * (math.log(std) + 0.5 * math.log(2 * math.pi))
    return -(actions - mean).square().sum(1) / (2 * std * std) - normaliser


def actor_loss(q: Tensor, log_prob: Tensor, bc_coefficient: float) -> Tensor:
    """
    Seek the critic's highest logit, held near the data by behavioural cloning.

    The authors' entropy term, off in theirs, is left out: of a policy of fixed deviation it is
    constant.

    :param q: smallest of the critics' f(s, a~, g) for sampled a~, shape (B,).
    :param log_prob: of the data's actions, shape (B,).
    :param bc_coefficient: weight of cloning, 0..1; the rest is the critic's.
    """
    return (-bc_coefficient * log_prob - (1.0 - bc_coefficient) * q).mean()


def squared_error_weight(bc_coefficient: float, std: float) -> float:
    """
    Express the cloning weight as squared error per unit of the critic's logit.

    Coefficients do not compare between policies of different deviation: this number does.
    """
    return bc_coefficient / (2 * std * std * (1.0 - bc_coefficient))


def bc_coefficient(squared_error: float, std: float) -> float:
    """Give the coefficient whose `squared_error_weight` is `squared_error`."""
    weight = 2 * std * std * squared_error
    return weight / (1.0 + weight)


@torch.no_grad()
def contrastive_metrics(logits: Tensor) -> dict[str, Tensor]:
    """
    Say how well goals are told apart within a batch.

    :param logits: f(s_i, a_i, g_j), shape (B, B, E); row i belongs with goal i.
    """
    logits = logits.mean(-1)
    size = len(logits)
    same = torch.eye(size, dtype=torch.bool, device=logits.device)
    return {
        'binary_accuracy': ((logits > 0) == same).float().mean(),
        'categorical_accuracy': (logits.argmax(1) == torch.arange(
            size, device=logits.device)).float().mean(),
        'logits_positive': logits[same].mean(),
        'logits_negative': logits[~same].mean(),
    }
