"""Agents: what an update touches and shows to whom, every option, exact continuation."""

import copy

from learning_samples import draw_dot, random_batch, small_agent, small_config, WARM
import numpy as np
import pytest
from stable_crl_ros.crl.networks import to_pixels
from stable_crl_ros.crl.presets import make_agent
import torch


def pixels(batch, name):
    return to_pixels(torch.from_numpy(batch[name]), 'unit')


def test_goals_that_are_the_same_array_are_encoded_once():
    batch = random_batch()
    agent = small_agent(critic_loss='mc')
    encoded = []
    agent.critic.encoder.register_forward_hook(lambda *call: encoded.append(len(call[1][0])))
    agent.update(batch)
    agent.update(batch | {'critic_goals': batch['critic_goals'].copy()})
    assert encoded == [16, 16, 8]


@pytest.mark.parametrize('critic_loss', ['td', 'mc'])
def test_actor_loss_never_reaches_the_critic(critic_loss):
    agent = small_agent(critic_loss=critic_loss, learning_rate=1e-3, **WARM)
    weights = copy.deepcopy(agent.critic.state_dict())
    steps = []
    apply = agent.apply

    def watch(name, loss):
        apply(name, loss)
        if name == 'actor':
            steps.append(all(p.grad is None for p in agent.critic.parameters()))
            steps.append(all(torch.equal(value, weights[key])
                             for key, value in agent.critic.state_dict().items()))
    agent.apply = watch
    agent.update(random_batch())
    assert steps == [True, True]
    assert not all(torch.equal(value, weights[key])
                   for key, value in agent.critic.state_dict().items())


def test_critic_loss_never_reaches_the_actor():
    agent = small_agent(critic_loss='td', **WARM)
    actor, apply = [], agent.apply

    def watch(name, loss):
        actor.append([p.detach().clone() for p in agent.actor.parameters()])
        apply(name, loss)
        actor.append([p.detach().clone() for p in agent.actor.parameters()])
    agent.apply = watch
    agent.update(random_batch())
    same = [all(map(torch.equal, a, b)) for a, b in zip(actor, actor[1:], strict=False)]
    assert same == [False, True, True]


def test_target_starts_as_a_copy_and_follows_slowly():
    agent = small_agent(critic_loss='td', target_update_rate=0.1, **WARM)
    before = copy.deepcopy(agent.critic.state_dict())
    assert all(map(torch.equal, before.values(), agent.target_critic.state_dict().values()))
    agent.update(random_batch())
    moved = 0.0
    for key, target in agent.target_critic.state_dict().items():
        expected = 0.9 * before[key] + 0.1 * agent.critic.state_dict()[key]
        torch.testing.assert_close(target, expected)
        moved += (target - before[key]).abs().sum().item()
    assert moved > 0


def recorded(agent, batch):
    """Return the pixels that critic and actor were shown during an update."""
    seen = {'critic': [], 'actor': []}
    agent.critic.encoder.register_forward_hook(
        lambda module, images, out: seen['critic'].append(torch.cat(images)))
    agent.actor.encoder.register_forward_hook(
        lambda module, images, out: seen['actor'].append(torch.cat(images)))
    agent.update(batch)
    return seen


def test_by_default_cloning_alone_sees_augmented_images():
    batch = random_batch()
    agent = small_agent(critic_loss='td', augmentation='crop', augment_probability=1.0)
    seen = recorded(agent, batch)
    observations, reached, goals = (pixels(batch, name) for name in (
        'observations', 'next_observations', 'actor_goals'))
    assert torch.equal(seen['critic'][0], torch.cat([observations, reached]))
    assert torch.equal(seen['critic'][1], goals)
    assert torch.equal(seen['actor'][0], torch.cat([reached, reached.roll(-1, 0)]))
    assert torch.equal(seen['actor'][1], torch.cat([observations, goals]))
    assert not torch.equal(seen['actor'][2], torch.cat([observations, goals]))
    assert (len(seen['critic']), len(seen['actor'])) == (2, 3)


def test_no_second_pass_of_the_actor_where_the_coin_leaves_the_images():
    agent = small_agent(critic_loss='mc', augmentation='crop', augment_probability=0.0)
    assert len(recorded(agent, random_batch())['actor']) == 1


def test_augmenting_the_critic_shows_every_network_the_same_augmented_images():
    batch = random_batch()
    agent = small_agent(critic_loss='td', augmentation='jitter', augment_probability=1.0,
                        augment_critic=True)
    seen = recorded(agent, batch)
    plain = torch.cat([pixels(batch, 'observations'), pixels(batch, 'next_observations')])
    assert not torch.allclose(seen['critic'][0], plain, atol=0.01)
    assert torch.equal(seen['actor'][1],
                       torch.cat([seen['critic'][0][:8], seen['critic'][1]]))
    assert len(seen['actor']) == 2


def test_critic_leaves_the_cold_start_within_some_steps():
    agent = small_agent(critic_loss='td')
    first = agent.update(random_batch(), detailed=True)
    assert abs(first['critic/logits_positive']) < 1e-15
    assert first['critic/loss'] == pytest.approx(2 * np.log(2), rel=1e-6)
    assert first['critic/importance_weight'] == pytest.approx(1.0)
    for _ in range(40):
        last = agent.update(random_batch(), detailed=True)
    assert last['critic/logits_positive'] - last['critic/logits_negative'] > 0.1


def moving_dots(size, seed):
    """Make transitions whose action is the dot's displacement."""
    rng = np.random.default_rng(seed)
    start, actions = rng.uniform(0.2, 0.8, (size, 2)), np.zeros((size, 7), np.float32)
    move = rng.uniform(-0.2, 0.2, (size, 2))
    actions[:, :2] = move * 5
    reached = np.stack([draw_dot(dot) for dot in start + move])
    return {'observations': np.stack([draw_dot(dot) for dot in start]), 'actions': actions,
            'next_observations': reached, 'actor_goals': reached, 'critic_goals': reached}


@pytest.mark.parametrize('critic_loss, learning_rate, at_most', [
    ('td', 3e-3, 0.96 * 2 * np.log(2)), ('mc', 2e-3, 0.7 * 2 * np.log(2) / 32)])
def test_critic_learns_which_goal_was_reached(critic_loss, learning_rate, at_most):
    agent = small_agent(critic_loss=critic_loss, learning_rate=learning_rate, discount=0.5,
                        critic_hidden=(64, 64))
    for step in range(120):
        metrics = agent.update(moving_dots(32, step))
    assert metrics['critic/loss'] < at_most  # 2 ln 2, or that / 32, where nothing is learnt
    assert agent.validate(moving_dots(64, 999))['categorical_accuracy'] > 0.05  # chance 0.016


@pytest.mark.parametrize('algorithm', ['stable_crl', 'gcbc'])
def test_actor_learns_to_clone(algorithm):
    agent = small_agent(algorithm)
    before = agent.validate(moving_dots(64, 999))['squared_error']
    for step in range(120):
        agent.update(moving_dots(32, step))
    assert agent.validate(moving_dots(64, 999))['squared_error'] < 0.4 * before


VARIANTS = [
    {}, {'critic_loss': 'td'}, {'critics': 1}, {'precision': 'bf16'},
    {'critic_norm': 'affine'}, {'critic_norm': 'none', 'actor_norm': 'none'},
    {'encoder_norm': False}, {'normalise_representations': True, 'critic_loss': 'td'},
    {'actor_dropout': 0.1, 'critic_loss': 'td'},
    {'activation': 'swish', 'pixel_range': 'symmetric'}, {'bc_squared_error': 1.0},
    {'augmentation': 'jitter', 'augment_per': 'sample', 'augment_critic': True},
    {'encoder': 'resnet34', 'image_size': 32},
]


@pytest.mark.parametrize('dropout', [0.0, 0.5])
def test_next_actions_of_the_bootstrap_are_drawn_under_dropout(dropout):
    agent = small_agent(critic_loss='td', actor_dropout=dropout, learning_rate=1e-12, std=1e-6,
                        **WARM)
    first, second = (agent.update(random_batch())['critic/importance_weight'] for _ in range(2))
    assert (first == pytest.approx(second, rel=1e-4)) == (dropout == 0.0)


def test_only_a_critic_that_bootstraps_keeps_a_target():
    for loss in ('mc', 'nce', 'td'):
        agent = small_agent(critic_loss=loss)
        assert (agent.target_critic is not None) == (loss == 'td')
        assert ('target_critic' in agent.state_dict()) == (loss == 'td')


def test_a_state_of_a_version_that_kept_an_idle_target_is_taken():
    older = small_agent(critic_loss='mc')
    state = {**older.state_dict(), 'target_critic': older.critic.state_dict()}
    agent = small_agent(critic_loss='mc', seed=1)
    agent.load_state_dict(state)
    assert all(map(torch.equal, agent.tensors().values(), older.tensors().values()))


def test_the_critics_learning_rate_stays_while_the_actors_falls():
    agent = small_agent(critic_loss='mc', actor_decay_steps=10)
    agent.step = 10
    before = {name: tensor.clone() for name, tensor in agent.tensors().items()}
    agent.update(random_batch())
    assert {name.partition('.')[0] for name, tensor in agent.tensors().items()
            if not torch.equal(tensor, before[name])} == {'critic'}


@pytest.mark.parametrize('changes', VARIANTS, ids=str)
def test_every_option_trains_with_finite_metrics(changes):
    agent = small_agent(**changes)
    batch = random_batch(image_size=agent.config.image_size)
    names = {tuple(agent.update(batch, detailed=True)) for _ in range(2)}
    assert len(names) == 1
    metrics = agent.update(batch, detailed=True) | agent.validate(batch)
    assert all(np.isfinite(value) for value in metrics.values())


@pytest.mark.parametrize('algorithm, changes', [
    ('stable_crl', {'critic_loss': 'td', 'augmentation': 'crop', 'actor_dropout': 0.1}),
    ('stable_crl', {'critic_loss': 'mc', 'augmentation': 'jitter', 'warmup_steps': 5}),
    ('gcbc', {'augmentation': 'crop'}),
    *((name, {'augmentation': 'crop', 'actor_dropout': 0.1}) for name in ('gciql', 'hiql'))])
def test_restored_agent_continues_bit_for_bit(algorithm, changes):
    agent = small_agent(algorithm, **changes)
    for seed in range(3):
        agent.update(random_batch(seed=seed))
    restored = small_agent(algorithm, seed=5, **changes)
    restored.load_state_dict(copy.deepcopy(agent.state_dict()))
    for seed in range(3, 6):
        assert agent.update(random_batch(seed=seed)) == restored.update(random_batch(seed=seed))
    assert all(map(torch.equal, agent.tensors().values(), restored.tensors().values()))


def test_the_seed_decides_the_weights_and_nothing_else_does():
    torch.manual_seed(1)
    first = small_agent(seed=3).tensors()
    torch.manual_seed(2)
    state = torch.get_rng_state()
    second, other = small_agent(seed=3).tensors(), small_agent(seed=4).tensors()
    assert torch.equal(state, torch.get_rng_state())
    assert all(map(torch.equal, first.values(), second.values()))
    assert not torch.equal(first['actor.encoder.convs.0.weight'],
                           other['actor.encoder.convs.0.weight'])


def test_bfloat16_stays_near_single_precision():
    batch = random_batch()
    losses = [small_agent(critic_loss='td', precision=precision, **WARM).update(batch)
              for precision in ('fp32', 'bf16')]
    assert losses[1]['critic/loss'] == pytest.approx(losses[0]['critic/loss'], rel=0.05)
    assert losses[1]['critic/loss'] != losses[0]['critic/loss']


@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a GPU')
@pytest.mark.parametrize('precision', ['fp32', 'bf16'])
@pytest.mark.parametrize('algorithm', ['stable_crl', 'gcbc', 'gciql', 'hiql'])
def test_a_gpu_learns_what_the_cpu_learns(algorithm, precision):
    config = small_config(algorithm, precision=precision, augmentation='none', **WARM)
    cpu, gpu = (make_agent(algorithm, config, device=device, seed=0)
                for device in ('cpu', 'cuda'))
    for seed in range(5):
        found = [dict(agent.update(random_batch(seed=seed), detailed=True))
                 for agent in (cpu, gpu)]
        if algorithm == 'gcbc':  # the others draw actions, each device its own
            assert found[1] == pytest.approx(found[0], rel=0.1 if precision == 'bf16' else 0.01)
        assert all(np.isfinite(list(found[1].values())))
    restored = make_agent(algorithm, config, device='cuda', seed=1)
    restored.load_state_dict(gpu.state_dict())
    first, second = (dict(agent.update(random_batch(seed=9))) for agent in (gpu, restored))
    assert second == pytest.approx(first, rel=1e-3)


def test_action_dimension_can_be_another():
    agent = make_agent('stable_crl', small_config(critic_loss='td'), action_dim=5)
    batch = random_batch()
    metrics = agent.update(batch | {'actions': batch['actions'][:, :5]})
    assert np.isfinite(metrics['critic/loss'])
