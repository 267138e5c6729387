"""Calibrated checkpoints: by training, by command, used by the policy, refused when wrong."""

from learning_samples import (
    draw_dot,
    metadata,
    OVERRIDES,
    SIZE,
    small_agent,
    write_checkpoint,
    write_dots,
)
import numpy as np
import pytest
from stable_crl_ros.checkpoint import CheckpointError, load_checkpoint, save_checkpoint
from stable_crl_ros.cli import main
from stable_crl_ros.crl.calibrate import CHUNK, draw_pairs, Learner
from stable_crl_ros.crl.train import train
from stable_crl_ros.data.cache_build import build_cache
from stable_crl_ros.images import ImageSpec
from stable_crl_ros.policy import peek_policy, Policy
import torch
import yaml


@pytest.fixture(scope='module')
def dots(tmp_path_factory):
    return write_dots(tmp_path_factory.mktemp('data') / 'dots', episodes=12, steps=25)


@pytest.fixture
def raw(tmp_path):
    path = tmp_path / 'raw.safetensors'
    write_checkpoint(path, agent=small_agent(critic_final_init=0.0, actor_final_init=0.0))
    return path


@pytest.fixture
def calibrated(raw, dots):
    assert main(['checkpoint', 'calibrate', str(raw), str(dots.path)]) == 0
    return raw


def test_pairs_know_their_distance_in_time(dots):
    cache = build_cache(dots.path, ImageSpec(SIZE, SIZE, 'area'))
    pictures, goals, distance = draw_pairs(cache, 200, 5, np.random.default_rng(0))
    starts = np.unique(cache.starts)

    def episode(frames):
        return np.searchsorted(starts, frames, side='right')
    same = episode(pictures) == episode(goals)
    np.testing.assert_array_equal(same, np.isfinite(distance))
    np.testing.assert_array_equal(distance[same], (goals - pictures)[same])
    assert (pictures != goals).all()
    assert {'past': (distance[same] > 5).any(), 'near': (abs(distance[same]) <= 5).any(),
            'after': (distance[same] < -5).any(), 'elsewhere': (~same).any()} == dict.fromkeys(
                ('past', 'near', 'after', 'elsewhere'), True)


@pytest.mark.parametrize('algorithm', ['stable_crl', 'gciql', 'hiql'])
def test_goals_encoded_together_are_measured_as_each_alone(algorithm):
    warm = {'critic_final_init': 0.0} if algorithm == 'stable_crl' else {'value_final_init': 0.0}
    agent = small_agent(algorithm, actor_final_init=0.0, **warm)
    learner = Learner(type(agent), agent.networks, agent.config.pixel_range)
    rng = np.random.default_rng(0)
    pictures, goals = (rng.integers(0, 256, (count, SIZE, SIZE, 3), np.uint8)
                       for count in (CHUNK + 4, 3))
    rows = rng.integers(0, 3, len(pictures))
    names = [*learner.measures, *(['psi', 'gap'] if algorithm == 'stable_crl' else [])]
    together = learner.measure(pictures, goals, rows, names)
    assert together.keys() == {'score', *names}
    for goal in range(3):
        alone = learner.measure(pictures[rows == goal], goals[goal:goal + 1],
                                np.zeros((rows == goal).sum(), int), names)
        for name, values in alone.items():
            assert values.std() > 0
            np.testing.assert_allclose(together[name][rows == goal], values, rtol=1e-3, atol=1e-5)


def test_a_pair_that_comes_twice_is_measured_as_if_once(dots):
    cache = build_cache(dots.path, ImageSpec(SIZE, SIZE, 'area'))
    agent = small_agent(critic_final_init=0.0, actor_final_init=0.0)
    learner = Learner(type(agent), agent.networks, agent.config.pixel_range)
    pictures, goals = np.array([3, 9, 3, 3, 40]), np.array([5, 5, 5, 7, 30])
    found = learner.measure_frames(cache, pictures, goals)
    each = learner.measure(cache.images(pictures), cache.images(goals), np.arange(5),
                           learner.measures)
    for name, values in each.items():
        np.testing.assert_allclose(found[name], values, rtol=1e-3, atol=1e-5)


def test_calibrating_keeps_the_weights_and_changes_the_identity(raw, dots, tmp_path, capsys):
    out = tmp_path / 'out.safetensors'
    assert main(['checkpoint', 'calibrate', str(raw), str(dots.path), '--out', str(out)]) == 0
    before, after = load_checkpoint(raw), load_checkpoint(out)
    assert before.tensors.keys() == after.tensors.keys()
    assert all(torch.equal(before.tensors[name], after.tensors[name]) for name in before.tensors)
    assert before.sha256 != after.sha256
    assert before.calibration is None
    assert after.calibration.checked['of'] == before.sha256
    assert f'{before.sha256[:12]} is now {after.sha256[:12]}' in capsys.readouterr().out


def test_the_same_seed_calibrates_alike_and_again_replaces(calibrated, dots):
    once = load_checkpoint(calibrated).metadata['calibration']
    assert main(['checkpoint', 'calibrate', str(calibrated), str(dots.path)]) == 0
    again = load_checkpoint(calibrated).metadata['calibration']
    assert {name: once[name] for name in ('nearness', 'at_goal')} == {
        name: again[name] for name in ('nearness', 'at_goal')}


def test_the_goals_own_picture_is_nearer_than_another(calibrated):
    policy = Policy.load(calibrated)
    policy.set_goal(draw_dot((0.2, 0.8)))
    there, away = (policy.decide(draw_dot(place)).progress for place in ((0.2, 0.8), (0.9, 0.1)))
    assert there.at_goal > away.at_goal + 0.2
    assert there.steps_to_go < away.steps_to_go - 1


def test_a_policy_without_calibration_acts_and_knows_no_progress(raw):
    policy = Policy.load(raw)
    policy.set_goal(draw_dot((0, 0)))
    action, value, progress = policy.decide(draw_dot((1, 1)))
    assert np.isfinite(action).all() and np.isfinite(value)
    assert np.isnan(progress.steps_to_go) and np.isnan(progress.at_goal)


@pytest.mark.parametrize(('algorithm', 'knows'), [
    ('stable_crl', True), ('gcbc', False), ('gciql', True), ('hiql', True)])
def test_training_calibrates_what_it_saves_where_there_is_a_critic(dots, tmp_path, algorithm,
                                                                   knows):
    preset = 'laptop' if algorithm == 'stable_crl' else f'laptop-{algorithm}'
    own = OVERRIDES if knows and algorithm == 'stable_crl' else {
        name: value for name, value in OVERRIDES.items() if 'critic' not in name
        and name != 'bc_coefficient'}
    latest = train([dots.path], tmp_path / 'run', preset, own, steps=4, progress=False,
                   validation_fraction=0.2)
    calibration = load_checkpoint(latest).calibration
    assert (calibration is not None) == knows
    if knows:
        assert calibration.near == 5 and calibration.cap == 50  # 1 and 10 s at 5 Hz
        assert 'held_out' in calibration.checked
    policy = Policy.load(latest)
    policy.set_goal(draw_dot((0, 0)))
    assert np.isfinite(policy.decide(draw_dot((1, 1))).progress).all() == knows


def test_whether_checkpoints_are_calibrated_changes_nothing_else(dots, tmp_path):
    def trained(name, **changes):
        settings = {'steps': 6, 'threads': 1, 'device': 'cpu', 'save_every': 2, 'keep_last': 2,
                    'validation_fraction': 0.0, 'progress': False} | changes
        latest = train([dots.path], tmp_path / name, 'laptop', OVERRIDES, **settings)
        return [load_checkpoint(path)
                for path in sorted(latest.parent.glob('step_*.safetensors'))]
    calibrated, bare = trained('calibrated'), trained('bare', calibrates=False)
    trained('mixed', steps=4)
    mixed = trained('mixed', resume=True, calibrates=False)
    assert [one.calibration is not None for one in (*calibrated, *bare, *mixed)] == [
        True, True, False, False, True, False]
    for one, *others in zip(calibrated, bare, mixed, strict=True):
        for other in others:
            assert all(torch.equal(one.tensors[name], other.tensors[name])
                       for name in one.tensors)


def test_training_on_too_little_to_calibrate_says_so_and_goes_on(tmp_path, capsys):
    short = write_dots(tmp_path / 'short', episodes=1, steps=2)
    latest = train([short.path], tmp_path / 'run', 'laptop', OVERRIDES, steps=2, progress=False,
                   validation_fraction=0.0)
    assert load_checkpoint(latest).calibration is None
    assert 'no calibration of progress' in capsys.readouterr().err


def test_what_has_no_critic_cannot_be_calibrated(dots, tmp_path, capsys):
    path = tmp_path / 'cloned.safetensors'
    write_checkpoint(path, 'gcbc')
    assert main(['checkpoint', 'calibrate', str(path), str(dots.path)]) == 2
    assert 'gcbc has no critic' in capsys.readouterr().err
    assert main(['checkpoint', 'calibrate', str(path), str(dots.path), '--seed', '-1']) == 2
    assert 'seed -1: give 0 or more' in capsys.readouterr().err


def test_another_control_rate_is_refused(dots, tmp_path, capsys):
    path = tmp_path / 'fast.safetensors'
    write_checkpoint(path, control_rate=20.0)
    assert main(['checkpoint', 'calibrate', str(path), str(dots.path)]) == 2
    assert 'acts at 20 Hz, but the episodes were recorded at 5 Hz' in capsys.readouterr().err


@pytest.mark.parametrize('metadata', [
    {'control_rate': 'fast'}, {'control_rate': 0.0}, {'control_rate': float('nan')},
    {'seed': 'x'}, {'seed': None}])
def test_a_rate_or_a_seed_that_is_none_is_refused(dots, tmp_path, capsys, metadata):
    path = tmp_path / 'strange.safetensors'
    write_checkpoint(path, **metadata)
    assert main(['checkpoint', 'calibrate', str(path), str(dots.path)]) == 2
    assert f'metadata of the wrong kind: {next(iter(metadata))}; train' in capsys.readouterr().err


def test_the_result_is_called_as_checkpoints_are(raw, dots, tmp_path, capsys):
    out = tmp_path / 'o.txt'
    assert main(['checkpoint', 'calibrate', str(raw), str(dots.path), '--out', str(out)]) == 2
    assert 'o.txt: a checkpoint must be called something.safetensors' in capsys.readouterr().err
    assert not out.exists()


@pytest.mark.parametrize(('change', 'says'), [
    ({'version': 9}, 'version 9, this software reads 1'),
    ({'near': 'five'}, 'near must be a whole number'),
    ({'at_goal': {'weights': {'smell': 1.0}, 'x': [0.0, 1.0], 'y': [0.0, 1.0]}},
     'reads smell, which stable_crl does not measure; it measures action, encoder'),
])
def test_a_bad_calibration_is_refused_at_the_door_and_can_be_replaced(calibrated, dots, change,
                                                                      says):
    good = load_checkpoint(calibrated)
    save_checkpoint(calibrated, good.tensors, good.metadata | {
        'calibration': good.metadata['calibration'] | change})
    for opening in (Policy.load, peek_policy):
        with pytest.raises(CheckpointError, match=says):
            opening(calibrated)
    assert main(['checkpoint', 'calibrate', str(calibrated), str(dots.path)]) == 0
    peek_policy(calibrated)


def test_a_cloned_policy_with_a_calibration_is_refused(calibrated, tmp_path):
    values = load_checkpoint(calibrated).metadata['calibration']
    agent, path = small_agent('gcbc'), tmp_path / 'cloned.safetensors'
    save_checkpoint(path, agent.tensors(), metadata(agent.config, 'gcbc', calibration=values))
    with pytest.raises(CheckpointError, match='it measures nothing'):
        peek_policy(path)


def test_show_tells_of_a_checkpoint_that_cannot_act_what_it_holds_and_why(raw, tmp_path, capsys):
    good, path = load_checkpoint(raw), tmp_path / 'strange.safetensors'
    config = good.metadata['config']
    for change, why in (({'algorithm': 'ppo'}, "unknown algorithm 'ppo'"),
                        ({'config': config | {'colour': 1}}, 'unknown setting colour'),
                        ({'config': config | {'actor_hidden': [64, 64]}}, 'weights do not fit'),
                        ({'image_spec': {'height': 0}}, 'strange.safetensors: ')):
        save_checkpoint(path, good.tensors, good.metadata | change)
        assert main(['checkpoint', 'show', str(path)]) == 2
        said = capsys.readouterr()
        assert yaml.safe_load(said.out)['dataset_fingerprint'] == 'none'
        assert why in said.err and said.err.count('\n') == 1


def test_show_tells_the_calibration(calibrated, capsys):
    assert main(['checkpoint', 'show', str(calibrated)]) == 0
    assert yaml.safe_load(capsys.readouterr().out)['calibration']['near'] == 5
