"""Gradients of one update against the published losses, recomputed with nothing shared."""

from learning_samples import random_batch, small_agent, WARM
import pytest
from stable_crl_ros.crl.networks import all_logits, to_pixels
import torch
import torch.nn.functional as F  # noqa: N812 the name every PyTorch user knows


def pixels(batch, name):
    return to_pixels(torch.from_numpy(batch[name]), 'unit')


def score_everything(critic, observations, actions, goals):
    """Outer product of phi(s_i, a_i) and psi(g_j), shape (B, B, 2), nothing shared."""
    features = critic.encoder(observations)
    phi = torch.stack([head(torch.cat([features, actions], 1)) for head in critic.phi])
    psi = torch.stack([head(critic.encoder(goals)) for head in critic.psi])
    return all_logits(phi, psi)


def plain_actor_loss(agent, critic, batch, noise, share):
    """Give the actor's loss as published, from the networks before the update."""
    observations, goals = pixels(batch, 'observations'), pixels(batch, 'actor_goals')
    mean = agent.actor(observations, goals)
    sampled = mean + 0.15 * noise
    q = score_everything(critic, observations, sampled, goals)
    q = torch.diagonal(q).min(0).values
    policy = torch.distributions.Normal(mean, 0.15)
    log_prob = policy.log_prob(torch.from_numpy(batch['actions'])).sum(1)
    return (share * -log_prob - (1 - share) * q).mean()


def plain_td_loss(critic, target, actor, batch, noise, discount):
    """Give the critic's TD loss as published, with the actor before its update."""
    size = len(batch['actions'])
    observations, reached = pixels(batch, 'observations'), pixels(batch, 'next_observations')
    logits = score_everything(critic, observations, torch.from_numpy(batch['actions']), reached)
    other = [(i + 1) % size for i in range(size)]
    with torch.no_grad():
        goals = reached[other]
        next_actions = actor(reached, goals) + 0.15 * noise
        v = torch.sigmoid(score_everything(target, reached, next_actions, goals))
        v = torch.diagonal(v.min(-1).values)
        w = torch.clamp(v / (1 - v), 0, 20)
    total = 0.0
    for i in range(size):
        for e in range(2):
            positive, negative = logits[i, i, e], logits[i, other[i], e]
            one, zero = torch.ones(()), torch.zeros(())
            total = total + (1 - discount) * F.binary_cross_entropy_with_logits(positive, one) \
                + discount * w[i] * F.binary_cross_entropy_with_logits(negative, one) \
                + F.binary_cross_entropy_with_logits(negative, zero)
    return total / (2 * size)


def plain_mc_loss(critic, batch):
    size = len(batch['actions'])
    logits = score_everything(critic, pixels(batch, 'observations'),
                              torch.from_numpy(batch['actions']), pixels(batch, 'critic_goals'))
    labels = torch.eye(size)
    weights = labels + (1 - labels) / (size - 1)
    cost = F.binary_cross_entropy_with_logits(
        logits, labels[..., None].expand_as(logits), reduction='none').mean(-1)
    return (weights * cost).mean()


def assert_gradients(network, loss):
    """Compare the gradients an update left with those of a plain loss."""
    expected = torch.autograd.grad(loss, list(network.parameters()), allow_unused=True)
    compared = 0
    for (name, parameter), gradient in zip(network.named_parameters(), expected, strict=True):
        assert (parameter.grad is None) == (gradient is None), name
        if gradient is not None:
            scale = gradient.abs().max().item()
            torch.testing.assert_close(parameter.grad, gradient, rtol=1e-3, atol=1e-4 * scale,
                                       msg=lambda text, name=name: f'{name}: {text}')
            compared += scale > 0
    assert compared > 10


def updated(critic_loss, batch, **changes):
    """Update once; return the agent after, its like from before, and the metrics."""
    agent, before = (small_agent(critic_loss=critic_loss, **WARM, **changes) for _ in range(2))
    return agent, before, agent.update(batch)


@pytest.mark.parametrize('critic_loss', ['td', 'mc'])
def test_actor_gradient_equals_the_published_loss(critic_loss):
    batch = random_batch()
    agent, before, metrics = updated(critic_loss, batch)
    if critic_loss == 'td':
        torch.randn(8, 7, generator=before.generator)  # of the critic's next actions
    noise = torch.randn(8, 7, generator=before.generator)
    loss = plain_actor_loss(before, before.critic, batch, noise, 0.05)
    assert metrics['actor/loss'] == pytest.approx(loss.item(), rel=1e-4)
    for mine, theirs in zip(before.actor.parameters(), agent.actor.parameters(), strict=True):
        mine.grad = theirs.grad
    assert_gradients(before.actor, loss)


def test_td_critic_gradient_equals_the_published_loss():
    batch = random_batch()
    agent, before, metrics = updated('td', batch)
    noise = torch.randn(8, 7, generator=before.generator)
    loss = plain_td_loss(before.critic, before.target_critic, before.actor, batch, noise, 0.95)
    assert metrics['critic/loss'] == pytest.approx(loss.item(), rel=1e-4)
    for mine, theirs in zip(before.critic.parameters(), agent.critic.parameters(), strict=True):
        mine.grad = theirs.grad
    assert_gradients(before.critic, loss)


@pytest.mark.parametrize('separate', [False, True])
def test_mc_critic_gradient_equals_the_published_loss(separate):
    batch = random_batch()
    if separate:
        batch['critic_goals'] = random_batch(seed=1)['critic_goals']
    agent, before, metrics = updated('mc', batch)
    loss = plain_mc_loss(before.critic, batch)
    assert metrics['critic/loss'] == pytest.approx(loss.item(), rel=1e-4)
    for mine, theirs in zip(before.critic.parameters(), agent.critic.parameters(), strict=True):
        mine.grad = theirs.grad
    assert_gradients(before.critic, loss)


def test_gcbc_gradient_is_that_of_the_negative_log_likelihood():
    batch = random_batch()
    agent, before = (small_agent('gcbc', actor_final_init=0.0) for _ in range(2))
    metrics = agent.update(batch)
    mean = before.actor(pixels(batch, 'observations'), pixels(batch, 'actor_goals'))
    policy = torch.distributions.Normal(mean, 0.15)
    loss = -policy.log_prob(torch.from_numpy(batch['actions'])).sum(1).mean()
    assert metrics['actor/loss'] == pytest.approx(loss.item(), rel=1e-5)
    for mine, theirs in zip(before.actor.parameters(), agent.actor.parameters(), strict=True):
        mine.grad = theirs.grad
    assert_gradients(before.actor, loss)
