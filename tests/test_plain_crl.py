"""Plain contrastive RL: its loss, and that the presets take away what stabilises."""

import math

from learning_samples import random_batch, small_agent, small_config, write_checkpoint
import numpy as np
import pytest
from stable_crl_ros.crl import losses
from stable_crl_ros.crl.networks import Actor, ContrastiveCritic
from stable_crl_ros.crl.presets import make_config
from stable_crl_ros.policy import Policy
import torch
from torch import nn

B, E = 7, 2


def cross_entropy(logit, label):
    probability = 1.0 / (1.0 + math.exp(-logit))
    return -math.log(probability if label else 1.0 - probability)


def test_every_pair_of_the_batch_weighs_the_same():
    logits = np.random.default_rng(0).normal(0, 3, (B, B, E))
    total = 0.0
    for i in range(B):
        for j in range(B):
            for e in range(E):
                total += cross_entropy(logits[i, j, e], i == j)
    loss = losses.nce_critic_loss(torch.tensor(logits))
    assert loss.item() == pytest.approx(total / (B * B * E), rel=1e-6)


def test_negatives_pull_b_minus_one_times_as_hard_as_in_the_balanced_loss():
    logits = torch.zeros(B, B, E, requires_grad=True)
    pulls = []
    for loss in (losses.nce_critic_loss(logits), losses.mc_critic_loss(logits)):
        (gradient,) = torch.autograd.grad(loss, logits)
        pulls.append((gradient[0, 1, 0] / -gradient[0, 0, 0]).item())
    assert pulls == pytest.approx([1.0, 1.0 / (B - 1)])


def test_large_logits_give_a_finite_loss_and_gradient():
    logits = torch.full((B, B, E), 1e4, requires_grad=True)
    loss = losses.nce_critic_loss(logits)
    loss.backward()
    assert torch.isfinite(loss) and torch.isfinite(logits.grad).all()


@pytest.mark.parametrize('preset', ['sim-crl', 'laptop-crl', 'bridge-crl'])
def test_presets_take_away_what_stabilises(preset):
    algorithm, config = make_config(preset)
    assert algorithm == 'stable_crl'
    found = config.to_dict()
    plain = {'critic_loss': 'nce', 'critic_norm': 'none', 'actor_norm': 'none',
             'encoder_norm': False, 'critic_final_init': 0.0, 'actor_final_init': 0.0,
             'augmentation': 'none', 'critic_hidden': [256, 256], 'actor_hidden': [256, 256],
             'representation_size': 64, 'batch_size': 256}
    assert {name: found[name] for name in plain} == plain


def test_no_layer_normalises_and_no_layer_starts_cold():
    config = make_config('laptop-crl')[1]
    for network in (ContrastiveCritic(config, 7), Actor(config, 7)):
        assert not any('norm' in type(module).__name__.lower() for module in network.modules())
        outputs = [module.weight for module in network.modules() if isinstance(module, nn.Linear)]
        assert min(weight.abs().max() for weight in outputs) > 0.01


def test_it_learns_the_critic_from_goals_of_the_future():
    assert small_agent(critic_loss='nce').sampling(small_config(critic_loss='nce'))['images'] == (
        'observations', 'critic_goals', 'actor_goals')
    agent = small_agent(critic_loss='nce', critic_final_init=0.0)
    metrics = [agent.update(random_batch(), detailed=True) for _ in range(60)]
    assert metrics[-1]['critic/loss'] < 0.7 * metrics[0]['critic/loss']


def test_checkpoint_acts(tmp_path):
    agent = small_agent(critic_loss='nce', critic_norm='none', actor_norm='none',
                        encoder_norm=False, actor_final_init=0.0)
    write_checkpoint(tmp_path / 'p.safetensors', agent=agent)
    policy = Policy.load(tmp_path / 'p.safetensors')
    batch = random_batch(1)
    policy.set_goal(batch['actor_goals'][0])
    action, progress = policy.step(batch['observations'][0])
    assert np.isfinite(action).all() and np.isfinite(progress)
