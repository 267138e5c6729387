"""Configurations and presets: published values, overrides, refusals."""

import json

from learning_samples import small_config
import numpy as np
import pytest
from stable_crl_ros.crl.agent import learning_rate
from stable_crl_ros.crl.config import ConfigError
from stable_crl_ros.crl.gcbc import GCBCConfig
from stable_crl_ros.crl.presets import complete_settings, make_agent, make_config, PRESETS
from stable_crl_ros.crl.stable_crl import StableCRLConfig
from stable_crl_ros.crl.training_data import make_scale
from stable_crl_ros.images import ImageSpec


@pytest.mark.parametrize('preset', sorted(PRESETS))
def test_every_preset_survives_a_trip_through_json(preset):
    algorithm, config = make_config(preset)
    assert algorithm == PRESETS[preset][0]
    assert type(config).from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_defaults_are_the_published_simulation_values():
    config = make_config('sim')[1]
    assert config == StableCRLConfig()
    found = config.to_dict()
    published = {
        'image_size': 48, 'batch_size': 2048, 'discount': 0.99, 'target_update_rate': 5e-3,
        'learning_rate': 3e-4, 'bc_coefficient': 0.05, 'std': 0.15, 'critic_loss': 'td',
        'critics': 2, 'representation_size': 16, 'critic_final_init': 1e-12,
        'critic_hidden': [1024] * 4, 'actor_hidden': [1024] * 4, 'augmentation': 'crop',
        'augment_probability': 0.5, 'augment_per': 'batch', 'augment_critic': False,
        'actor_goal': 'geometric', 'steps': 300_000,
        'importance_limit': 20.0, 'normalise_representations': False}
    assert {name: found[name] for name in published} == published


def test_bridge_preset_has_the_published_values():
    found = make_config('bridge')[1].to_dict()
    published = {
        'image_size': 128, 'pixel_range': 'symmetric', 'encoder': 'resnet34',
        'activation': 'swish', 'critic_hidden': [256] * 3, 'critic_norm': 'affine',
        'critic_skip_last_norm': False, 'actor_hidden': [256] * 3, 'actor_norm': 'none',
        'actor_dropout': 0.1, 'std': 1.0, 'batch_size': 256, 'steps': 2_000_000,
        'learning_rate': 3e-4, 'warmup_steps': 2000, 'actor_decay_steps': 2_000_000,
        'discount': 0.98, 'target_update_rate': 0.002, 'bc_coefficient': 0.2,
        'actor_goal': 'later', 'augment_critic': True, 'critic_loss': 'td',
        'critics': 2, 'representation_size': 16, 'critic_final_init': 1e-12,
        'augmentation': 'jitter', 'augment_probability': 1.0, 'action_scale': 'bridge'}
    assert {name: found[name] for name in published} == published
    assert make_config('bridge')[1].image_spec == ImageSpec(128, 128, 'lanczos3')


@pytest.mark.parametrize('preset', [name for name in PRESETS if name.startswith('bridge')])
def test_bridge_presets_scale_actions_by_the_published_statistics(preset):
    own = np.random.default_rng(0).normal(size=(50, 7))  # the data's statistics are others
    scale = make_scale(make_config(preset)[1], own)
    assert scale.offset == (1.93e-4, 1.37e-4, -1.46e-4, -1.84e-4, -3.08e-4, 2.74e-4, 0.597)
    assert scale.scale == (0.00913, 0.0127, 0.0123, 0.0261, 0.0288, 0.0781, 0.487)


def test_overrides_are_read_from_words():
    config = small_config(discount='0.9', channels='4,8,16', augment_critic='true', critics='1',
                          critic_loss='td')
    assert (config.discount, config.channels, config.augment_critic, config.critics,
            config.critic_loss) == (0.9, (4, 8, 16), True, 1, 'td')


def test_later_values_replace_the_preset():
    assert make_config('laptop', {'steps': 7})[1].steps == 7
    assert make_config('laptop')[1].steps == 4000


@pytest.mark.parametrize('changes, reason', [
    ({'discont': 0.9}, 'unknown setting discont; known are .*discount'),
    ({'discount': 1.0}, 'discount must lie between 0 and 1'),
    ({'discount': 0.0}, 'discount'),
    ({'discount': 'much'}, "discount needs float, got 'much'"),
    ({'batch_size': 1}, 'batch_size is 1'),
    ({'batch_size': 2.5}, 'batch_size needs int'),
    ({'critic_loss': 'infonce'}, 'must be one of td, mc, nce'),
    ({'precision': 'fp16'}, 'must be one of fp32, bf16; half floats underflow'),
    ({'bc_coefficient': 1.5}, 'bc_coefficient is 1.5, must lie in 0 .. 1'),
    ({'augment_probability': -0.1}, 'augment_probability'),
    ({'channels': '16,32'}, 'channels needs 3 numbers'),
    ({'channels': '0,8,8'}, r'channels needs .* each of 1 \.\. 65536; got \(0, 8, 8\)'),
    ({'actor_hidden': '256,' + 20 * '9'}, r'actor_hidden needs .* 65536; got \(256, 9999'),
    ({'actor_hidden': ''}, r'actor_hidden needs one layer or more'),
    ({'critic_hidden': '-4'}, r'critic_hidden needs .* got \(-4,\)'),
    ({'batch_size': 'inf'}, "batch_size needs int, got 'inf'"),
    ({'augment_critic': 'perhaps'}, 'augment_critic needs bool'),
    ({'std': 0.0}, 'std is 0'),
    ({'std': float('nan')}, 'std is nan'),
    ({'importance_limit': 0.0}, 'importance_limit must be > 0'),
    ({'importance_limit': 'nan'}, 'importance_limit must be > 0, got nan'),
    ({'image_size': 4}, 'image_size is 4'),
    ({'bc_squared_error': 'inf'}, 'bc_squared_error is inf, must be 0 or more, and finite'),
    ({'learning_rate': 'inf'}, 'learning_rate is inf'),
    ({'image_size': 16, 'encoder': 'resnet34'}, r'image_size is 16, must lie in 32 \.\. 1024'),
])
def test_wrong_settings_are_refused(changes, reason):
    with pytest.raises(ConfigError, match=reason):
        small_config(**changes)


@pytest.mark.parametrize(('reached', 'random'), [(0.8, 0.2), (0.9, 0.1), (0.7, 0.3), (0.0, 1.0)])
def test_goals_may_all_be_reached_or_random_ones(reached, random):
    config = small_config('gciql', value_goal_reached=reached, value_goal_random=random)
    assert config.goal_mixture.random == random


def test_importance_may_be_unlimited():
    assert small_config(importance_limit='inf').importance_limit == float('inf')


def test_settings_of_earlier_versions_that_changed_nothing_are_left_out():
    stored = {**make_config('laptop')[1].to_dict(), 'entropy_coefficient': 0.0}
    assert StableCRLConfig.from_dict(stored) == make_config('laptop')[1]
    assert complete_settings('stable_crl', stored) == make_config('laptop')[1].to_dict()
    with pytest.raises(ConfigError, match='unknown setting entropy_coefficient'):
        make_config('laptop', {'entropy_coefficient': 0.1})


def test_unknown_preset_and_algorithm_list_the_known():
    with pytest.raises(ConfigError, match="unknown preset 'lapdog'; choose one of sim, .*laptop"):
        make_config('lapdog')
    with pytest.raises(ConfigError, match='known are stable_crl, gcbc, gciql, hiql'):
        make_agent('ppo', GCBCConfig())


def test_cloning_can_be_set_in_units_of_squared_error():
    assert small_config().cloning_share == 0.05
    weight = 0.05 / (2 * 0.15**2 * 0.95)
    assert small_config(bc_squared_error=weight).cloning_share == pytest.approx(0.05)
    assert small_config(bc_squared_error=weight, std=1.0).cloning_share == pytest.approx(
        2 * weight / (1 + 2 * weight))


def test_learning_rate_warms_up_then_stays_or_falls_to_zero():
    config = small_config(learning_rate=1.0, warmup_steps=10)
    assert [learning_rate(config, step) for step in (0, 5, 10, 99)] == [0.0, 0.5, 1.0, 1.0]
    decayed = [learning_rate(config, step, 110) for step in (5, 10, 35, 60, 110, 500)]
    assert decayed == pytest.approx([0.5, 1.0, 0.5 + 0.5**1.5, 0.5, 0.0, 0.0])
