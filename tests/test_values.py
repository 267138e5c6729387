"""Losses of values and of their actors against loop-by-loop computations in plain Python."""

import math

import numpy as np
import pytest
from stable_crl_ros.crl import values
import torch

B, E = 7, 2


def draw(*shape, seed=0):
    return np.random.default_rng(seed).normal(0, 2, shape)


@pytest.mark.parametrize('expectile', [0.5, 0.7, 0.9])
def test_expectile_loss_weighs_errors_by_their_sign(expectile):
    error = draw(B)
    total = 0.0
    for value in error:
        total += (expectile if value >= 0 else 1 - expectile) * value**2
    found = values.expectile_loss(torch.tensor(error), expectile)
    assert found.item() == pytest.approx(total / B, rel=1e-6)


def test_expectile_loss_can_take_its_sign_from_another_advantage():
    error, advantage = draw(B, E), draw(B, seed=1)
    total = 0.0
    for i in range(B):
        for e in range(E):
            total += (0.7 if advantage[i] >= 0 else 0.3) * error[i, e] ** 2
    found = values.expectile_loss(torch.tensor(error), 0.7, torch.tensor(advantage)[:, None])
    assert found.item() == pytest.approx(total / (B * E), rel=1e-6)


@pytest.mark.parametrize(('expectile', 'low', 'high'), [(0.5, 0.49, 0.51), (0.9, 0.74, 0.76)])
def test_the_minimum_of_the_expectile_loss_is_the_expectile(expectile, low, high):
    # Of a uniform variable on 0..1: m with expectile * (1 - m)^2 = (1 - expectile) * m^2.
    targets = torch.linspace(0, 1, 1001, dtype=torch.float64)
    candidates = torch.linspace(0, 1, 201, dtype=torch.float64)
    losses = torch.stack([values.expectile_loss(targets - value, expectile)
                          for value in candidates])
    assert low < candidates[losses.argmin()] < high


@pytest.mark.parametrize('shape', [(B,), (B, E)])
def test_target_is_minus_one_per_step_and_zero_where_reached(shape):
    next_value, reached = draw(*shape), np.arange(B) % 3 == 0
    found = values.value_target(
        torch.tensor(next_value, requires_grad=True), torch.tensor(reached), 0.98)
    assert not found.requires_grad and found.shape == shape
    for i in range(B):
        expected = 0.0 * next_value[i] if reached[i] else -1.0 + 0.98 * next_value[i]
        np.testing.assert_allclose(found[i].numpy(), expected, rtol=1e-6)


def test_weights_grow_with_the_advantage_up_to_a_hundred():
    advantage = draw(B)
    found = values.advantage_weights(torch.tensor(advantage, requires_grad=True), 3.0)
    assert not found.requires_grad
    for i in range(B):
        assert found[i].item() == pytest.approx(min(math.exp(3.0 * advantage[i]), 100.0), rel=1e-6)
    assert max(math.exp(3.0 * value) for value in advantage) > 100.0


def test_weighted_cloning_is_the_log_density_of_a_unit_gaussian_but_for_its_constant():
    mean, actions, weights = draw(B, 3), draw(B, 3, seed=1), np.abs(draw(B, seed=2))
    constant, total = 3 * 0.5 * math.log(2 * math.pi), 0.0
    for i in range(B):
        log_prob = sum(-0.5 * (a - m) ** 2 - 0.5 * math.log(2 * math.pi)
                       for a, m in zip(actions[i], mean[i], strict=True))
        total -= weights[i] * (log_prob + constant)
    squared_error = torch.tensor(((mean - actions) ** 2).sum(1))
    found = values.cloning_loss(squared_error, torch.tensor(weights))
    assert found.item() == pytest.approx(total / B, rel=1e-6)
    plain = values.cloning_loss(squared_error)
    assert plain.item() == pytest.approx(squared_error.mean().item() / 2, rel=1e-6)


def test_climbing_loss_and_gradient_do_not_depend_on_the_scale_of_q():
    q = draw(B)
    magnitude = sum(abs(value) for value in q) / B
    for scale in (1.0, 100.0):
        expected = -sum(q) / B * scale / (magnitude * scale + 1e-6)
        tensor = torch.tensor(q * scale, requires_grad=True)
        loss = values.climbing_loss(tensor)
        assert loss.item() == pytest.approx(expected, rel=1e-6)
        (gradient,) = torch.autograd.grad(loss, tensor)
        # The magnitude itself passes no gradient.
        np.testing.assert_allclose(gradient.numpy() * scale, -1 / B / magnitude, rtol=1e-5)
