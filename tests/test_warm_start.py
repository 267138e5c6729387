"""Training that begins with a checkpoint: the same outputs at first, and what is refused."""

from dataclasses import fields

from learning_samples import (
    OVERRIDES,
    random_batch,
    SIZE,
    small_agent,
    write_checkpoint,
    write_dots,
)
import numpy as np
import pytest
from stable_crl_ros.checkpoint import load_checkpoint, save_checkpoint
from stable_crl_ros.crl.config import ConfigError
from stable_crl_ros.crl.presets import ALGORITHMS
from stable_crl_ros.crl.run_folder import TrainError
from stable_crl_ros.crl.run_log import read_metrics
from stable_crl_ros.crl.train import train
from stable_crl_ros.crl.warm_start import MAY_CHANGE, read_start
from stable_crl_ros.policy import Policy
import torch

FEW = {'threads': 1, 'device': 'cpu', 'progress': False, 'log_every': 1, 'save_every': 2}


@pytest.fixture
def trained(short, tmp_path):
    """Train for six steps; give the checkpoint."""
    return short()


@pytest.mark.parametrize(('algorithm', 'changes'), [
    *((name, {}) for name in ALGORITHMS), ('stable_crl', {'critic_loss': 'td'})])
def test_every_network_and_its_target_begin_with_the_weights(algorithm, changes, tmp_path):
    other = small_agent(algorithm, seed=3, **changes)
    for _ in range(2):
        other.update(random_batch())
    write_checkpoint(tmp_path / 'other.safetensors', algorithm, other)
    fresh = small_agent(algorithm, seed=4, **changes)
    read_start(tmp_path / 'other.safetensors', None, None).apply(fresh)
    assert fresh.step == 0 and not fresh.optimisers['actor'].state
    mine, theirs = fresh.tensors(), other.tensors()
    assert all(torch.equal(mine[name], theirs[name]) for name in theirs)
    for name in ('target', 'target_critic'):
        if getattr(fresh, name, None) is not None:
            followed = fresh.values if name == 'target' else fresh.critic
            copy = getattr(fresh, name).state_dict()
            assert all(torch.equal(copy[key], value)
                       for key, value in followed.state_dict().items())


def test_the_first_loss_is_that_of_the_checkpoint_not_of_a_cold_start(trained, dots, tmp_path):
    train([dots], tmp_path / 'on', init_from=trained, steps=1,
          overrides={'learning_rate': 1e-9}, **FEW)
    before, after = Policy.load(trained), Policy.load(tmp_path / 'on' / 'latest.safetensors')
    rng = np.random.default_rng(0)
    for policy in (before, after):
        policy.set_goal(np.zeros((SIZE, SIZE, 3), np.uint8))
    for _ in range(5):
        image = rng.integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)
        for one, other in zip(before.step(image), after.step(image), strict=True):
            assert np.allclose(one, other, atol=1e-5)
    train([dots], tmp_path / 'again', overrides={**OVERRIDES, 'learning_rate': 1e-9}, steps=1,
          **FEW)
    losses = [float(read_metrics(tmp_path / name / 'metrics.csv')[0]['actor/loss'])
              for name in ('on', 'again')]
    last = float(read_metrics(trained.with_name('metrics.csv'))[-1]['actor/loss'])
    assert abs(losses[0] - last) < abs(losses[1] - last)


def test_the_checkpoint_that_follows_names_its_ancestors(trained, dots, tmp_path):
    first = load_checkpoint(trained)
    second = train([dots], tmp_path / 'second', init_from=trained, steps=2, **FEW)
    third = train([dots], tmp_path / 'third', init_from=second, steps=2, **FEW)
    metadata = load_checkpoint(third).metadata
    assert metadata['init_from'] == load_checkpoint(second).sha256
    assert metadata['ancestors'] == [
        {'sha256': load_checkpoint(second).sha256, 'step': 2}, {'sha256': first.sha256, 'step': 6}]
    assert metadata['step'] == 2
    assert metadata['config'] == first.metadata['config']
    assert metadata['preset'] == 'laptop'


def test_the_action_scale_stays_that_of_the_weights(dots, tmp_path):
    own = train([dots], tmp_path / 'own', steps=2, **FEW,
                overrides={**OVERRIDES, 'action_scale': 'statistics'})
    other = write_dots(tmp_path / 'other', seed=7).path
    on = train([other], tmp_path / 'on', init_from=own, steps=2, **FEW)
    assert load_checkpoint(on).metadata['action_scale'] == \
        load_checkpoint(own).metadata['action_scale']


def test_a_run_that_began_with_a_checkpoint_resumes_bit_for_bit(trained, dots, tmp_path):
    whole = train([dots], tmp_path / 'whole', init_from=trained, steps=4, **FEW)
    train([dots], tmp_path / 'parts', init_from=trained, steps=2, **FEW)
    parts = train([dots], tmp_path / 'parts', init_from=trained, steps=4, resume=True, **FEW)
    first, second = load_checkpoint(whole).tensors, load_checkpoint(parts).tensors
    assert all(torch.equal(first[name], second[name]) for name in first)
    with pytest.raises(TrainError, match='init_from'):
        train([dots], tmp_path / 'parts', init_from=whole, steps=6, resume=True, **FEW)


@pytest.mark.parametrize(('preset', 'changes', 'reason'), [
    ('laptop-gcbc', OVERRIDES, 'unknown setting'),
    ('laptop-gcbc', {}, 'was trained by stable_crl; preset laptop-gcbc is for gcbc'),
    (None, {'actor_hidden': '64,64'}, r'actor_hidden is \[32, 32, 32\], not \[64, 64\]'),
    (None, {'image_size': 32}, 'image_size is 16, not 32'),
    (None, {'activation': 'swish'}, 'activation is relu, not swish'),  # the same shapes
    ('laptop', {}, 'actor_hidden'),
])
def test_other_networks_are_refused_with_what_differs(trained, dots, tmp_path, preset, changes,
                                                      reason):
    with pytest.raises((TrainError, ConfigError), match=reason):
        train([dots], tmp_path / 'on', preset, changes, init_from=trained, steps=2, **FEW)
    assert not (tmp_path / 'on').exists()


def test_how_is_learned_may_change(trained, dots, tmp_path):
    on = train([dots], tmp_path / 'on', None, {'learning_rate': 1e-4, 'batch_size': 4},
               init_from=trained, steps=2, **FEW)
    assert load_checkpoint(on).metadata['config']['learning_rate'] == 1e-4


def test_data_of_another_control_rate_is_refused(trained, tmp_path):
    checkpoint = load_checkpoint(trained)
    save_checkpoint(tmp_path / 'fast.safetensors', checkpoint.tensors,
                    checkpoint.metadata | {'control_rate': 10.0})
    data = write_dots(tmp_path / 'data').path
    with pytest.raises(TrainError, match='recorded at 5 Hz.* are for 10 Hz'):
        train([data], tmp_path / 'on', init_from=tmp_path / 'fast.safetensors', steps=2, **FEW)


def test_every_setting_that_may_change_exists():
    known = {field.name for _, config in ALGORITHMS.values() for field in fields(config)}
    assert known >= MAY_CHANGE
