"""Goal-conditioned IQL: its losses, who learns from what, and that values point the way."""

import copy

from learning_samples import (
    corridor,
    random_batch,
    right_directions,
    small_agent,
    small_config,
    WARM,
    write_checkpoint,
)
import numpy as np
import pytest
from stable_crl_ros.crl.config import ConfigError
from stable_crl_ros.policy import Policy
import torch

HEADS = {'actor_final_init': WARM['actor_final_init']}


def row(agent, batch, index, name):
    """Return one image of a batch as the networks take it."""
    return agent.pixels(agent.load_images(batch, (name,)))[index:index + 1]


def see(critic, state, goal):
    """Give the critic's view of two whole images."""
    if critic.stacked:
        return critic.encoder(state, goal)
    observed, wanted = critic.encoder(state), critic.encoder(goal)
    change = wanted - observed
    change = (change - change.mean()) / (change.var(correction=0) + 1e-5).sqrt()
    return torch.cat([observed, change], 1)


def value_of(critic, state, goal):
    return critic.v(see(critic, state, goal)).item()


def q_of(critic, state, action, goal):
    features = see(critic, state, goal)
    return [head(torch.cat([features, action], 1)).item() for head in critic.q]


def losses_by_hand(agent, batch, policy_loss, alpha, expectile, discount):
    """Compute every loss of an update sample by sample, from whole networks."""
    critic, target, size = agent.networks['critic'], agent.target, len(batch['actions'])
    q_total = v_total = cloned = climbed = magnitude = 0.0
    for i in range(size):
        s, following, g, wanted = (row(agent, batch, i, name) for name in (
            'observations', 'next_observations', 'value_goals', 'actor_goals'))
        action = torch.tensor(batch['actions'][i:i + 1])
        goal_value = 0.0 if batch['reached'][i] else \
            -1.0 + discount * value_of(critic, following, g)
        q_total += sum((q - goal_value) ** 2 for q in q_of(critic, s, action, g))
        error = min(q_of(target, s, action, g)) - value_of(critic, s, g)
        v_total += (expectile if error >= 0 else 1 - expectile) * error**2
        mean = agent.actor(s, wanted)
        weight = 1.0
        if policy_loss == 'awr':
            advantage = min(q_of(critic, s, action, wanted)) - value_of(critic, s, wanted)
            weight = min(np.exp(alpha * advantage), 100.0)
        cloned += weight * 0.5 * (mean - action).square().sum().item()
        q = min(q_of(critic, s, mean.clamp(-1, 1), wanted))
        climbed, magnitude = climbed - q, magnitude + abs(q)
    actor = cloned / size
    if policy_loss == 'ddpgbc':
        actor = alpha * actor + climbed / (magnitude + 1e-6 * size)
    return {'critic/loss': q_total / size, 'value/loss': v_total / size, 'actor/loss': actor}


@pytest.mark.parametrize('goal_input', ['stacked', 'difference'])
@pytest.mark.parametrize(('policy_loss', 'alpha'), [('ddpgbc', 0.3), ('awr', 2.0)])
def test_losses_of_an_update_equal_a_loop_over_the_samples(policy_loss, alpha, goal_input):
    agent = small_agent('gciql', policy_loss=policy_loss, alpha=alpha, expectile=0.8,
                        discount=0.9, goal_input=goal_input, **HEADS)
    for parameter in agent.target.parameters():  # no copy of the critic any more
        parameter.data.mul_(1.1)
    batch = random_batch()
    with torch.no_grad():
        expected = losses_by_hand(copy.deepcopy(agent), batch, policy_loss, alpha, 0.8, 0.9)
    found = agent.update(batch)
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, rel=1e-4, abs=1e-6)


@pytest.mark.parametrize('policy_loss', ['ddpgbc', 'awr'])
def test_each_loss_moves_its_own_network_alone(policy_loss):
    agent = small_agent('gciql', policy_loss=policy_loss, **HEADS)
    moved, apply = {}, agent.apply

    def watch(name, loss):
        before = copy.deepcopy({key: n.state_dict() for key, n in agent.networks.items()})
        apply(name, loss)
        moved[name] = {key for key, network in agent.networks.items()
                       if not all(map(torch.equal, network.state_dict().values(),
                                      before[key].values()))}
    agent.apply = watch
    agent.update(random_batch())
    assert moved == {'actor': {'actor'}, 'critic': {'critic'}}


def test_target_starts_as_a_copy_and_follows_slowly():
    agent = small_agent('gciql', target_update_rate=0.1)
    before = copy.deepcopy(agent.values.state_dict())
    assert all(map(torch.equal, before.values(), agent.target.state_dict().values()))
    agent.update(random_batch())
    moved = 0.0
    for key, target in agent.target.state_dict().items():
        torch.testing.assert_close(
            target, 0.9 * before[key] + 0.1 * agent.values.state_dict()[key])
        moved += (target - before[key]).abs().sum().item()
    assert moved > 0


@pytest.mark.parametrize('changes', [
    {'policy_loss': 'ddpgbc', 'alpha': 0.3}, {'policy_loss': 'awr', 'alpha': 3.0},
    {'policy_loss': 'awr', 'alpha': 3.0, 'goal_input': 'stacked'}])
def test_values_point_the_way_where_cloning_cannot(changes):
    agent = small_agent('gciql', discount=0.9, **changes)
    for step in range(300):
        agent.update(corridor(64, step)[0])
    assert right_directions(agent) > 0.9
    assert distances(agent) == sorted(distances(agent), reverse=True)


def distances(agent):
    """Return the mean score of goals 0, 1, 2 and 3 places away."""
    batch, start, goals = corridor(300, seed=777)
    pixels = agent.pixels(agent.load_images(batch, ('observations', 'actor_goals'))).chunk(2)
    with torch.no_grad():
        goals_seen = agent.encode_goals(agent.networks, pixels[1])
        scores = agent.score(agent.networks, pixels[0], agent.load(batch['actions']),
                             goals_seen).numpy()
    return [scores[abs(start - goals) == distance].mean() for distance in range(4)]


def test_cloning_alone_learns_no_direction():
    agent = small_agent('gcbc')
    for step in range(150):
        agent.update(corridor(64, step)[0])
    assert 0.3 < right_directions(agent) < 0.7


def test_the_difference_of_an_image_from_itself_is_nothing_and_others_have_unit_scale():
    agent = small_agent('gciql')
    first, second = (row(agent, random_batch(), index, 'observations') for index in (0, 1))
    with torch.no_grad():
        codes = agent.values.encode(torch.cat([first, second]))
        same, other = agent.values.fuse(codes[:1].expand(2, -1), codes).chunk(2, 1)[1]
    assert (same == 0).all()
    assert other.square().mean().item() == pytest.approx(1.0, rel=1e-2)


def test_online_critic_encodes_every_image_once():
    agent = small_agent('gciql', goal_input='difference')
    seen = []
    agent.values.encoder.register_forward_hook(lambda *call: seen.append(len(call[2])))
    agent.update(random_batch(8))
    assert sum(seen) == 4 * 8


def test_actions_outside_the_box_of_the_data_gain_nothing():
    agent = small_agent('gciql', action_scale='bounds')
    outside = torch.full((1, 7), 3.0, requires_grad=True)
    inside = agent._within_bounds(outside)
    assert inside.tolist() == [[1.0] * 7]
    (gradient,) = torch.autograd.grad(inside.sum(), outside)
    assert (gradient == 0).all()
    free = small_agent('gciql', action_scale='statistics')
    assert torch.equal(free._within_bounds(outside), outside)


def test_validation_measures_actions_and_both_losses_without_learning():
    agent = small_agent('gciql')
    before = copy.deepcopy(agent.tensors())
    found = agent.validate(random_batch())
    assert set(found) == {'squared_error', 'log_prob', 'critic_loss', 'value_loss'}
    assert all(np.isfinite(value) for value in found.values())
    assert all(map(torch.equal, before.values(), agent.tensors().values()))


VARIANTS = [
    {'critics': 1}, {'precision': 'bf16'}, {'value_norm': 'none'}, {'actor_dropout': 0.1},
    {'augmentation': 'crop', 'augment_probability': 1.0}, {'augmentation': 'jitter'},
    {'encoder': 'resnet34', 'image_size': 32, 'activation': 'swish'}]


@pytest.mark.parametrize('algorithm', ['gciql', 'hiql'])
@pytest.mark.parametrize('changes', VARIANTS, ids=str)
def test_every_option_trains_with_finite_metrics(algorithm, changes):
    agent = small_agent(algorithm, **changes)
    batch = random_batch(image_size=agent.config.image_size)
    for _ in range(2):
        metrics = agent.update(batch, detailed=True) | agent.validate(batch)
    assert all(np.isfinite(value) for value in metrics.values())


@pytest.mark.parametrize('algorithm', ['gciql', 'hiql'])
def test_augmentation_changes_all_images_of_a_sample_alike(algorithm):
    agent = small_agent(algorithm, augmentation='crop', augment_probability=1.0)
    seen, augment = [], agent.augment

    def watch(images):
        seen.append((images, augment(images)))
        return seen[-1][1]
    agent.augment = watch
    batch = random_batch()
    image = batch['observations']
    agent.update({name: image if value.ndim == 4 else value for name, value in batch.items()})
    (images, changed), = seen
    assert len(images) == len(agent.sampling(agent.config)['images'])
    assert all(torch.equal(one, changed[0]) for one in changed)
    assert not torch.equal(changed[0], images[0])


@pytest.mark.parametrize('algorithm', ['gciql', 'hiql'])
def test_checkpoint_acts_and_judges_as_the_agent_did(tmp_path, algorithm):
    agent = write_checkpoint(tmp_path / 'p.safetensors', algorithm, small_agent(
        algorithm, actor_final_init=0.3))
    policy = Policy.load(tmp_path / 'p.safetensors')
    batch = random_batch(1)
    policy.set_goal(batch['actor_goals'][0])
    action, progress = policy.step(batch['observations'][0])
    pixels = [row(agent, batch, 0, name) for name in ('observations', 'actor_goals')]
    with torch.no_grad():
        mean = agent.act(agent.networks, *pixels)
        score = agent.score(agent.networks, pixels[0], mean,
                            agent.encode_goals(agent.networks, pixels[1]))
    np.testing.assert_allclose(
        action, policy.action_scale.denormalise(mean[0].numpy()), rtol=1e-5, atol=1e-7)
    assert progress == pytest.approx(score.item(), rel=1e-5)


@pytest.mark.parametrize(('changes', 'reason'), [
    ({'policy_loss': 'sac'}, 'policy_loss .* must be one of ddpgbc, awr'),
    ({'reached_at': 'soon'}, 'must be one of current, next'),
    ({'value_goal': 'random'}, 'must be one of geometric, uniform'),
    ({'goal_input': 'none'}, 'must be one of stacked, difference'),
    ({'expectile': 1.0}, 'expectile is 1'), ({'expectile': 0.4}, 'expectile is 0.4'),
    ({'alpha': -1.0}, 'alpha is -1'),
    ({'value_goal_reached': 0.8, 'value_goal_random': 0.3}, 'at most 1; got 0.8 and 0.3'),
])
def test_wrong_settings_are_refused(changes, reason):
    with pytest.raises(ConfigError, match=reason):
        small_config('gciql', **changes)
