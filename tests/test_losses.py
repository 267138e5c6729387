"""Losses against loop-by-loop computations in plain Python."""

import math

import numpy as np
import pytest
from stable_crl_ros.crl import losses
import torch

B, E = 7, 2


@pytest.fixture
def logits():
    return np.random.default_rng(0).normal(0, 3, (B, B, E))


def sigmoid(x):
    return 1.0 / (1.0 + math.exp(-x))


def cross_entropy(logit, label):
    return -math.log(sigmoid(logit) if label else 1.0 - sigmoid(logit))


def test_td_loss_equals_the_sum_over_samples_and_critics(logits):
    weights = np.random.default_rng(1).uniform(0, 20, B)
    total = 0.0
    for i in range(B):
        other = (i + 1) % B
        for e in range(E):
            total += 0.1 * cross_entropy(logits[i, i, e], 1)
            total += 0.9 * weights[i] * cross_entropy(logits[i, other, e], 1)
            total += cross_entropy(logits[i, other, e], 0)
    positive = np.stack([logits[i, i] for i in range(B)])
    negative = np.stack([logits[i, (i + 1) % B] for i in range(B)])
    loss = losses.td_critic_loss(*map(torch.tensor, (positive, negative, weights)), 0.9)
    assert loss.item() == pytest.approx(total / (B * E), rel=1e-12)


def test_mc_loss_weighs_each_negative_one_over_batch_minus_one(logits):
    total = 0.0
    for e in range(E):
        for i in range(B):
            for j in range(B):
                weight = 1.0 if i == j else 1.0 / (B - 1)
                total += weight * cross_entropy(logits[i, j, e], i == j)
    loss = losses.mc_critic_loss(torch.tensor(logits))
    assert loss.item() == pytest.approx(total / (E * B * B), rel=1e-12)


def test_importance_weight_is_the_odds_of_the_smaller_critic():
    targets = np.random.default_rng(2).normal(0, 2, (B, E))
    expected = []
    for row in targets:
        v = min(sigmoid(x) for x in row)
        expected.append(min(max(v / (1.0 - v), 0.0), 20.0))
    weights = losses.importance_weights(torch.tensor(targets), 20.0)
    np.testing.assert_allclose(weights.numpy(), expected, rtol=1e-12)


def test_importance_weights_are_clamped_at_twenty_and_finite():
    targets = torch.tensor([[100.0, 200.0], [3.5, 3.5], [-100.0, 5.0]])
    weights = losses.importance_weights(targets, 20.0)
    assert weights.tolist() == pytest.approx([20.0, 20.0, 0.0])


def test_importance_weights_pass_no_gradient():
    targets = torch.zeros(3, 2, requires_grad=True)
    assert not losses.importance_weights(targets, 20.0).requires_grad


def test_log_probability_equals_the_normal_density():
    rng = np.random.default_rng(3)
    mean, actions = rng.normal(size=(B, 5)), rng.normal(size=(B, 5))
    expected = [sum(math.log(math.exp(-0.5 * ((a - m) / 0.15) ** 2)
                             / (0.15 * math.sqrt(2 * math.pi))) if abs(a - m) < 3 else
                    -0.5 * ((a - m) / 0.15) ** 2 - math.log(0.15 * math.sqrt(2 * math.pi))
                    for a, m in zip(row_a, row_m, strict=True))
                for row_a, row_m in zip(actions, mean, strict=True)]
    found = losses.gaussian_log_prob(torch.tensor(mean), 0.15, torch.tensor(actions))
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-9)


def test_actor_loss_equals_the_mean_over_samples():
    q, log_prob = np.random.default_rng(4).normal(size=(2, B))
    total = 0.0
    for i in range(B):
        total += 0.05 * -log_prob[i] + 0.95 * -q[i]
    loss = losses.actor_loss(*map(torch.tensor, (q, log_prob)), 0.05)
    assert loss.item() == pytest.approx(total / B, rel=1e-12)


@pytest.mark.parametrize('coefficient, std', [(0.05, 0.15), (0.2, 1.0)])
def test_cloning_weight_in_squared_error_gives_the_same_gradient(coefficient, std):
    mean = torch.zeros(1, 7, dtype=torch.float64, requires_grad=True)
    actions = torch.linspace(-1, 1, 7, dtype=torch.float64)[None]
    q = mean.sum(1)
    log_prob = losses.gaussian_log_prob(mean, std, actions)
    loss = losses.actor_loss(q, log_prob, coefficient) / (1 - coefficient)
    weight = losses.squared_error_weight(coefficient, std)
    plain = (weight * (mean - actions).square().sum(1) - q).mean()
    torch.testing.assert_close(*(torch.autograd.grad(each, mean, retain_graph=True)[0]
                                 for each in (loss, plain)))
    assert losses.bc_coefficient(weight, std) == pytest.approx(coefficient)


def test_published_coefficients_in_units_of_squared_error():
    assert losses.squared_error_weight(0.05, 0.15) == pytest.approx(1.1111 / 0.95, rel=1e-4)
    assert losses.squared_error_weight(0.2, 1.0) == pytest.approx(0.1 / 0.8)


def test_metrics_equal_counts_by_hand(logits):
    mean = logits.mean(-1)
    found = losses.contrastive_metrics(torch.tensor(logits))
    binary = sum((mean[i, j] > 0) == (i == j) for i in range(B) for j in range(B))
    ranked = sum(max(range(B), key=lambda j: mean[i, j]) == i for i in range(B))
    positive = sum(mean[i, i] for i in range(B)) / B
    negative = sum(mean[i, j] for i in range(B) for j in range(B) if i != j) / (B * (B - 1))
    assert found['binary_accuracy'].item() == pytest.approx(binary / B**2)
    assert found['categorical_accuracy'].item() == pytest.approx(ranked / B)
    assert found['logits_positive'].item() == pytest.approx(positive)
    assert found['logits_negative'].item() == pytest.approx(negative)


def test_large_logits_give_finite_losses_and_gradients():
    logits = torch.full((B, B, E), 1e4, requires_grad=True)
    weights = torch.full((B,), 20.0)
    loss = losses.mc_critic_loss(logits) + losses.td_critic_loss(
        logits[0], -logits[1], weights, 0.99)
    loss.backward()
    assert torch.isfinite(loss) and torch.isfinite(logits.grad).all()
