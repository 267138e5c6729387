"""The table of presets: complete, with published numbers, and alike where it should be."""

from dataclasses import fields

import pytest
from stable_crl_ros.crl.config import AgentConfig
from stable_crl_ros.crl.gciql import GCIQLConfig
from stable_crl_ros.crl.hiql import HIQLConfig
from stable_crl_ros.crl.presets import ALGORITHMS, find_algorithm, make_config, PRESETS
from stable_crl_ros.data.sampling import GoalMixture

PLACES = ('sim', 'laptop', 'bridge')
BASELINES = ('gcbc', 'gciql', 'hiql', 'crl')


def test_every_algorithm_has_a_preset_at_every_place():
    assert set(PRESETS) == {*PLACES, 'laptop-td', 'sim-mc', *(
        f'{place}-{name}' for place in PLACES for name in BASELINES)}
    assert {algorithm for algorithm, _ in PRESETS.values()} == set(ALGORITHMS)


@pytest.mark.parametrize('preset', sorted(PRESETS))
def test_every_preset_makes_a_valid_configuration_of_its_algorithm(preset):
    algorithm, config = make_config(preset)
    agent, kind = find_algorithm(algorithm)
    assert type(config) is kind
    assert 'observations' in agent.sampling(config)['images']


def differing(preset, other):
    one, two = (make_config(name)[1] for name in (preset, other))
    return {field.name for field in fields(AgentConfig)
            if getattr(one, field.name) != getattr(two, field.name)}


# Of the settings that all algorithms have, what a baseline changes against its place's `gcbc`.
STATED = {'': set(), 'gciql': {'actor_goal', 'actor_decay_steps'}, 'hiql': {'actor_goal'},
          'crl': {'encoder_norm', 'actor_norm', 'actor_hidden', 'actor_final_init',
                  'augmentation', 'batch_size'}}


@pytest.mark.parametrize('place', PLACES)
@pytest.mark.parametrize('method', sorted(STATED))
def test_algorithms_of_one_place_share_all_but_what_is_stated(place, method):
    assert differing(f'{place}-{method}' if method else place, f'{place}-gcbc') <= STATED[method]


@pytest.mark.parametrize(('place', 'critic', 'other'), [('laptop', 'mc', 'td'),
                                                        ('sim', 'td', 'mc')])
def test_the_other_critic_of_a_place_differs_in_its_loss_alone(place, critic, other):
    one, two = (make_config(name)[1].to_dict() for name in (place, f'{place}-{other}'))
    assert {name for name in one if one[name] != two[name]} == {'critic_loss'}
    assert (one['critic_loss'], two['critic_loss']) == (critic, other)


def test_defaults_of_value_learning_are_those_of_ogbench():
    published = {'discount': 0.99, 'target_update_rate': 0.005, 'actor_goal': 'uniform',
                 'value_goal': 'geometric', 'value_goal_reached': 0.2, 'value_goal_random': 0.3,
                 'reached_at': 'current', 'critics': 2, 'learning_rate': 3e-4,
                 'value_norm': 'affine'}
    for preset, own in (
            ('sim-gciql', {'expectile': 0.9, 'policy_loss': 'ddpgbc', 'alpha': 1.0}),
            ('sim-hiql', {'expectile': 0.7, 'low_alpha': 3.0, 'high_alpha': 3.0,
                          'subgoal_steps': 10, 'representation_size': 10})):
        found = make_config(preset)[1].to_dict()
        assert {name: found[name] for name in published | own} == published | own
    assert make_config('sim-gciql')[1] == GCIQLConfig()
    assert make_config('sim-hiql')[1] == HIQLConfig()


def test_cloning_at_bridge_has_the_published_values():
    found = make_config('bridge-gcbc')[1].to_dict()
    published = {'actor_hidden': [256] * 3, 'actor_dropout': 0.1, 'std': 1.0,
                 'actor_goal': 'later', 'batch_size': 256, 'learning_rate': 3e-4,
                 'warmup_steps': 2000, 'actor_decay_steps': 2_000_000, 'steps': 2_000_000}
    assert {name: found[name] for name in published} == published


def test_implicit_q_learning_at_bridge_has_the_published_values():
    config = make_config('bridge-gciql')[1]
    found = config.to_dict()
    published = {'expectile': 0.7, 'policy_loss': 'awr', 'alpha': 1.0, 'discount': 0.98,
                 'target_update_rate': 0.002, 'value_hidden': [256] * 3, 'actor_dropout': 0.1,
                 'std': 1.0, 'actor_goal': 'later', 'critics': 1, 'value_norm': 'none',
                 'learning_rate': 3e-4, 'warmup_steps': 2000, 'actor_decay_steps': 0}
    assert {name: found[name] for name in published} == published
    # Negatives replace a tenth of all goals; a tenth of the others are reached.
    assert config.goal_mixture == GoalMixture(0.09, 0.1, 'later', 'next')


def test_laptop_networks_are_of_comparable_size():
    sizes = {}
    for preset in PRESETS:
        if preset.startswith('laptop'):
            algorithm, config = make_config(preset)
            networks = find_algorithm(algorithm)[0].make_networks(config, 7)
            sizes[preset] = sum(parameter.numel() for network in networks.values()
                                for parameter in network.parameters())
    cloning = sizes.pop('laptop-gcbc')
    assert max(sizes.values()) < 2 * min(sizes.values())
    assert cloning < min(sizes.values())
