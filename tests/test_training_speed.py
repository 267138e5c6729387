"""The update that training is timed against computes the same losses and steps as ours."""

from benchmarks.published_update import copy_weights, PublishedData, PublishedTrainer
from learning_samples import random_batch, SIZE, small_agent, WARM
import numpy as np
import pytest
import torch

B, CHANNELS, HIDDEN = 8, (4, 8, 8), (32, 32, 32)


def alike(batch, probability, **changes):
    """Make our agent, the published trainer with its weights, and what ours will draw."""
    agent, draws = (small_agent(
        critic_loss='td', discount=0.99, augmentation='crop', augment_probability=probability,
        **WARM, **changes) for _ in range(2))
    trainer = PublishedTrainer(7, SIZE, CHANNELS, HIDDEN, learning_rate=1e-3)
    copy_weights(agent.actor, trainer.policy)
    for network in (trainer.critic, trainer.target):
        copy_weights(agent.critic, network)
    draw = draws.generator
    torch.rand(1, generator=draw)
    shifts = torch.zeros(2, B, dtype=torch.int64)
    if probability:
        shifts = torch.randint(-4, 5, (2, B, 1), generator=draw)[..., 0].flip(0)
    next_noise, noise = (torch.randn(B, 7, generator=draw) for _ in range(2))
    return agent, trainer, (bool(probability), shifts, noise, next_noise)


def flat(images):
    """Lay images out as the published buffer does."""
    rows = images.transpose(0, 3, 2, 1).reshape(len(images), -1)
    return torch.from_numpy(rows.astype(np.float32))


def published_batch(batch):
    return {'observations': flat(batch['observations']), 'goals': flat(batch['actor_goals']),
            'next_observations': flat(batch['next_observations']),
            'actions': torch.from_numpy(batch['actions'])}


@pytest.mark.parametrize('probability', [0.0, 1.0])
def test_published_update_has_our_losses(probability):
    batch = random_batch(B)
    agent, trainer, drawn = alike(batch, probability)
    ours = agent.update(batch)
    theirs = trainer.update(published_batch(batch), *drawn)
    for name in theirs:
        assert ours[name] == pytest.approx(theirs[name], rel=2e-5), name


def test_published_update_leaves_our_weights():
    batch = random_batch(B)
    agent, trainer, drawn = alike(batch, 1.0)
    agent.update(batch)
    trainer.update(published_batch(batch), *drawn)
    after = PublishedTrainer(7, SIZE, CHANNELS, HIDDEN)
    for mine, theirs, name in ((agent.actor, trainer.policy, 'policy'),
                               (agent.critic, trainer.critic, 'critic'),
                               (agent.target_critic, trainer.target, 'target')):
        expected = getattr(after, name)
        copy_weights(mine, expected)
        moved = []
        for a, b in zip(expected.parameters(), theirs.parameters(), strict=True):
            # Adam's first step is +-1e-3 whatever the gradient: rounding flips those near 0.
            moved.append((a - b).abs().flatten())
        assert torch.cat(moved).median() < 1e-6, name
        assert torch.cat(moved).gt(1e-4).float().mean() < 0.01, name


def test_published_buffer_draws_futures_of_the_same_episode():
    frames = np.concatenate([np.arange(5), 6 + np.arange(3)])
    ends = np.repeat([5, 9], [5, 3])
    images = np.broadcast_to(np.arange(10, dtype=np.uint8)[:, None, None, None], (10, 2, 2, 3))
    data = PublishedData(images, frames, ends, np.zeros((8, 7), np.float32))
    batch = data.sample(4000, np.random.default_rng(0), torch.device('cpu'))
    t, following, goal = (batch[name][:, 0].numpy()
                          for name in ('observations', 'next_observations', 'goals'))
    assert (following == t + 1).all()
    assert (goal > t).all() and (goal <= np.where(t < 6, 5, 9)).all()
    assert set(goal - t) == set(range(1, 6))
