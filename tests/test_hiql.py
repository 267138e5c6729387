"""HIQL: its three losses, one encoding per image, and waypoints that lead to the goal."""

import copy

from learning_samples import corridor, random_batch, right_directions, small_agent, small_config
import numpy as np
import pytest
from stable_crl_ros.crl.config import ConfigError
from stable_crl_ros.crl.hiql import Features
import torch
import torch.nn.functional as F  # noqa: N812 the name every PyTorch user knows
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves


def image(agent, batch, index, name):
    return agent.pixels(agent.load_images(batch, (name,)))[index:index + 1]


def phi_of(value, state, goal):
    """Represent a goal from whole images: length sqrt(R)."""
    observed, wanted = value.encoder(state), value.encoder(goal)
    change = wanted - observed
    change = (change - change.mean()) / (change.var(correction=0) + 1e-5).sqrt()
    x = value.phi(torch.cat([observed, change], 1))
    return x / x.norm() * x.shape[1] ** 0.5


def values_of(value, state, goal):
    x = torch.cat([value.encoder(state), phi_of(value, state, goal)], 1)
    return [head(x).item() for head in value.v]


def mean_value(value, state, goal):
    return sum(values_of(value, state, goal)) / len(value.v)


def losses_by_hand(agent, batch, expectile, discount, low_alpha, high_alpha):
    """Compute the three losses of an update sample by sample, from whole networks."""
    value, target, actor = agent.actor.value, agent.target, agent.actor
    size = len(batch['actions'])
    totals = {'value/loss': 0.0, 'actor/loss': 0.0, 'high/loss': 0.0}
    for i in range(size):
        s, following, g, wanted, waypoint = (image(agent, batch, i, name) for name in (
            'observations', 'next_observations', 'value_goals', 'actor_goals', 'waypoints'))
        bootstrapped = [0.0 if batch['reached'][i] else -1.0 + discount * v
                        for v in values_of(target, following, g)]
        advantage = min(bootstrapped) - mean_value(target, s, g)
        for v, wished in zip(values_of(value, s, g), bootstrapped, strict=True):
            weight = expectile if advantage >= 0 else 1 - expectile
            totals['value/loss'] += weight * (wished - v) ** 2 / size
        weight = min(np.exp(low_alpha * (mean_value(value, following, waypoint)
                                         - mean_value(value, s, waypoint))), 100.0)
        mean = actor.head(torch.cat([actor.encoder(s), phi_of(value, s, waypoint)], 1))
        error = (mean[0] - torch.tensor(batch['actions'][i])).square().sum().item()
        totals['actor/loss'] += weight * 0.5 * error / size
        later = wanted if batch['near'][i] else waypoint
        weight = min(np.exp(high_alpha * (mean_value(value, later, wanted)
                                          - mean_value(value, s, wanted))), 100.0)
        chosen = actor.high(actor.high_encoder(s, wanted))
        error = (chosen - phi_of(value, s, later)).square().sum().item()
        totals['high/loss'] += weight * 0.5 * error / size
    return totals


def test_losses_of_an_update_equal_a_loop_over_the_samples():
    agent = small_agent('hiql', expectile=0.8, discount=0.9, low_alpha=2.0, high_alpha=1.0,
                        actor_final_init=0.0)
    for parameter in agent.target.parameters():  # no copy of the value any more
        parameter.data.mul_(1.1)
    # Near -1 / (1 - discount) advantages have either sign, and heads that differ tell the smaller
    # from their mean.
    for head, shift in zip(agent.target.v, (-9.7, -10.3), strict=True):
        head.output.bias.data.add_(shift)
    batch = random_batch()
    assert any(smaller < 0 <= mean for smaller, mean in advantages(agent, batch, 0.9))
    with torch.no_grad():
        expected = losses_by_hand(copy.deepcopy(agent), batch, 0.8, 0.9, 2.0, 1.0)
    found = agent.update(batch)
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, rel=1e-4, abs=1e-6)


@torch.no_grad()
def advantages(agent, batch, discount):
    """Give of each sample the advantage by the smaller head and that by the mean of both."""
    for i in np.flatnonzero(~batch['reached']):
        s, following, g = (image(agent, batch, i, name) for name in (
            'observations', 'next_observations', 'value_goals'))
        now, later = mean_value(agent.target, s, g), values_of(agent.target, following, g)
        yield tuple(-1.0 + discount * v - now for v in (min(later), sum(later) / len(later)))


@pytest.mark.parametrize('dropout', [0.0, 0.5])
def test_both_policies_learn_under_dropout(dropout):
    agent = small_agent('hiql', actor_dropout=dropout, actor_final_init=0.0, learning_rate=1e-12)
    first, second = (agent.update(random_batch()) for _ in range(2))
    for name in ('actor/squared_error', 'high/squared_error'):
        assert (first[name] == pytest.approx(second[name], rel=1e-4)) == (dropout == 0.0)


class FirstUses(TorchFunctionMode):
    """Note of every weight whether gradients are kept where autocast first meets it."""

    def __init__(self):
        super().__init__()
        self.kept = {}

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if torch.is_autocast_enabled('cpu'):
            for one in tree_leaves((args, kwargs)):
                if isinstance(one, torch.nn.Parameter):
                    self.kept.setdefault(id(one), torch.is_grad_enabled())
        return function(*args, **(kwargs or {}))


def test_no_weight_is_first_used_without_gradients_where_torch_may_keep_its_bf16_copy():
    agent = small_agent('hiql', precision='bf16')
    with FirstUses() as uses:
        agent.update(random_batch())
    used = {name: uses.kept[id(parameter)] for name, parameter in agent.actor.named_parameters()
            if id(parameter) in uses.kept}
    assert len(used) > 20 and all(used.values()), used


def test_the_encoder_of_the_value_sees_every_image_once():
    agent = small_agent('hiql')
    seen = {'online': 0, 'target': 0}
    for name, value in (('online', agent.values), ('target', agent.target)):
        value.encoder.register_forward_hook(
            lambda module, images, out, name=name: seen.update({name: seen[name] + len(out)}))
    agent.update(random_batch(8))
    assert seen == {'online': 5 * 8, 'target': 3 * 8}


def actor_loss(agent, batch):
    """Return the loss of both policies and the codes that it was made of."""
    names = ('observations', 'next_observations', 'actor_goals', 'waypoints')
    pixels = agent.pixels(agent.load_images(batch, names))
    observed, *codes = agent.values.encoder(pixels).chunk(4)
    features = Features(agent.values.project(observed), *codes)
    observations, goals = pixels.chunk(4)[0], pixels.chunk(4)[2]
    loss = agent._actor_loss(observations, goals, features, agent.load(batch['actions']),
                             agent.load(batch['near']))[0]
    return loss, (observed, *codes)


def test_advantages_and_targets_pass_no_gradient():
    agent = small_agent('hiql', actor_final_init=0.0)
    loss, codes = actor_loss(agent, random_batch())
    gradients = torch.autograd.grad(loss, codes, allow_unused=True, retain_graph=True)
    # The policy to actions trains what represents its waypoint (OGBench), and nothing else does.
    assert [gradient is not None and gradient.abs().sum() > 0 for gradient in gradients] \
        == [True, False, False, True]
    weights = list(agent.values.v.parameters())
    assert torch.autograd.grad(loss, weights, allow_unused=True) == (None,) * len(weights)


def test_values_pass_no_gradient_to_the_policies():
    agent = small_agent('hiql', actor_final_init=0.0)
    batch = random_batch()
    pixels = agent.pixels(agent.load_images(batch, (
        'next_observations', 'observations', 'value_goals')))
    observed, goals = agent.values.encoder(pixels).chunk(3)[1:]
    loss = agent._value_loss(pixels, agent.values.project(observed), goals,
                             agent.load(batch['reached']))[0]
    found = {name.split('.')[0] for name, parameter in agent.actor.named_parameters()
             if torch.autograd.grad(loss, parameter, allow_unused=True, retain_graph=True)[0]
             is not None}
    assert found == {'value'}


def test_values_go_on_learning_where_the_policies_rate_has_fallen_to_zero():
    agent = small_agent('hiql', actor_decay_steps=10)
    agent.step = 10
    before = copy.deepcopy(agent.actor.state_dict())
    agent.update(random_batch())
    moved = {name.split('.')[0] for name, tensor in agent.actor.state_dict().items()
             if not torch.equal(tensor, before[name])}
    assert moved == {'value'}


def test_representations_have_the_length_of_their_dimension():
    agent = small_agent('hiql', representation_size=10)
    pixels = agent.pixels(agent.load_images(random_batch(), ('observations', 'actor_goals')))
    observed, goals = agent.values.encoder(pixels).chunk(2)
    phi = agent.values.represent(agent.values.project(observed), goals)
    np.testing.assert_allclose(phi.detach().norm(dim=1).numpy(), 10**0.5, rtol=1e-5)


def test_the_deployed_policy_goes_through_the_waypoint():
    agent = small_agent('hiql', actor_final_init=0.3)
    actor, batch = agent.actor, random_batch(1)
    s, g = image(agent, batch, 0, 'observations'), image(agent, batch, 0, 'actor_goals')
    with torch.no_grad():
        chosen = actor.high(actor.high_encoder(s, g))
        waypoint = F.normalize(chosen, dim=1) * agent.config.representation_size**0.5
        expected = actor.head(torch.cat([actor.encoder(s), waypoint], 1))
        found = agent.act(agent.networks, s, g)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)
    assert found.shape == (1, 7)


def test_values_and_waypoints_point_the_way_where_cloning_cannot():
    agent = small_agent('hiql', discount=0.9)
    for step in range(300):
        agent.update(corridor(64, step)[0])
    assert right_directions(agent) > 0.75  # chance 0.5, deviation 0.04


def test_the_batch_asked_for_has_waypoints_as_far_as_configured():
    asked = small_agent('hiql', subgoal_steps=4).sampling(small_config('hiql', subgoal_steps=4))
    assert asked['waypoint_steps'] == 4
    assert set(asked['images']) == {'observations', 'next_observations', 'value_goals',
                                    'actor_goals', 'waypoints'}


def test_validation_measures_the_deployed_actions_and_the_value():
    agent = small_agent('hiql', actor_final_init=0.3)
    batch = random_batch()
    found = agent.validate(batch)
    pixels = agent.pixels(agent.load_images(batch, ('observations', 'actor_goals'))).chunk(2)
    with torch.no_grad():
        error = agent.act(agent.networks, *pixels) - torch.tensor(batch['actions'])
    assert found['squared_error'] == pytest.approx(error.square().sum(1).mean().item(), rel=1e-5)
    assert set(found) == {'squared_error', 'log_prob', 'value_loss'}


@pytest.mark.parametrize(('changes', 'reason'), [
    ({'subgoal_steps': 0}, 'subgoal_steps is 0'), ({'low_alpha': -1.0}, 'low_alpha is -1'),
    ({'high_alpha': float('nan')}, 'high_alpha is nan'),
    ({'representation_size': 0}, 'representation_size is 0')])
def test_wrong_settings_are_refused(changes, reason):
    with pytest.raises(ConfigError, match=reason):
        small_config('hiql', **changes)
