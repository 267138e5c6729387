"""Training: what a run writes, exact resume after a kill, and what stops it."""

import json
import os
import signal
import subprocess
import sys
import time

from learning_samples import OVERRIDES, SIZE, SMALL, SMALL_VALUES, write_dots
import numpy as np
import pytest
from stable_crl_ros.checkpoint import load_checkpoint, save_checkpoint, verify_checkpoint
from stable_crl_ros.crl.config import ConfigError
from stable_crl_ros.crl.run_folder import STATE_FILE, TrainError
from stable_crl_ros.crl.run_log import read_metrics
from stable_crl_ros.crl.train import train
from stable_crl_ros.data.cache import CacheError
from stable_crl_ros.data.cache_build import build_cache
from stable_crl_ros.images import ImageSpec
from stable_crl_ros.policy import Policy
import torch


def weights(path):
    return load_checkpoint(path).tensors


def assert_same(first, second):
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_run_writes_checkpoints_metrics_and_the_state_to_resume(short, tmp_path):
    latest = short(keep_last=2)
    assert latest == tmp_path / 'run' / 'latest.safetensors'
    names = sorted(path.name for path in latest.parent.glob('[!.]*'))
    assert names == ['latest.safetensors', 'metrics.csv', 'step_000004.safetensors',
                     'step_000006.safetensors', 'tensorboard', 'trainer_state.pt']
    assert load_checkpoint(latest).sha256 == load_checkpoint(
        latest.with_name('step_000006.safetensors')).sha256
    rows = read_metrics(latest.with_name('metrics.csv'))
    assert [row['step'] for row in rows] == ['2', '4', '6']
    assert {'actor/loss', 'critic/loss', 'critic/categorical_accuracy', 'seconds'} <= set(rows[0])
    assert all(np.isfinite(float(value)) for row in rows for value in row.values())
    assert any(latest.with_name('tensorboard').iterdir())


def test_checkpoint_says_what_it_was_trained_on_and_acts(short, dots):
    latest = short()
    found = verify_checkpoint(latest, image_spec=ImageSpec(SIZE, SIZE))
    assert (found['algorithm'], found['preset'], found['step']) == ('stable_crl', 'laptop', 6)
    assert found['control_rate'] == 5.0
    assert found['datasets'] == ['dots'] and found['config']['actor_dropout'] == 0.1
    assert found['dataset_fingerprint'] == build_cache(dots, ImageSpec(SIZE, SIZE)).fingerprint
    assert 'critic/loss' in found['metrics']
    policy = Policy.load(latest)
    policy.set_goal(np.zeros((SIZE, SIZE, 3), np.uint8))
    assert np.isfinite(policy.step(np.zeros((SIZE, SIZE, 3), np.uint8))[1])


def test_the_same_seed_gives_the_same_weights_and_another_does_not(short, tmp_path):
    paths = [short(out_dir=tmp_path / str(run), seed=seed)
             for run, seed in enumerate((0, 0, 1))]
    first, second, other = map(weights, paths)
    assert_same(first, second)
    assert not torch.equal(first['actor.head.output.weight'], other['actor.head.output.weight'])


@pytest.mark.parametrize('preset, changes', [('laptop', {}), ('laptop', {'critic_loss': 'td'}),
                                             ('laptop-gcbc', {}), ('laptop-gciql', SMALL_VALUES),
                                             ('laptop-hiql', SMALL_VALUES)])
def test_resumed_run_equals_one_that_was_never_stopped(short, tmp_path, preset, changes):
    base = OVERRIDES if preset == 'laptop' else SMALL
    settings = {'preset': preset, 'overrides': {**base, **changes}, 'validation_episodes': [2]}
    whole = short(out_dir=tmp_path / 'whole', steps=8, **settings)
    short(steps=4, **settings)
    resumed = short(steps=8, resume=True, **settings)
    assert_same(weights(whole), weights(resumed))
    logs = [[{name: value for name, value in row.items() if name != 'seconds'}
             for row in read_metrics(path.with_name('metrics.csv'))] for path in (whole, resumed)]
    assert len(logs[0]) == 4 and logs[0] == logs[1]


SCRIPT = """
import json, sys
from stable_crl_ros.crl.train import train
train(**json.loads(sys.argv[1]))
"""


def start_training(dots, out_dir, steps, hangup=signal.SIG_DFL):
    settings = {'dataset_paths': [str(dots)], 'out_dir': str(out_dir), 'overrides': OVERRIDES,
                'steps': steps, 'threads': 1, 'device': 'cpu', 'log_every': 3, 'save_every': 5,
                'progress': False}
    return subprocess.Popen([sys.executable, '-c', SCRIPT, json.dumps(settings)],
                            stderr=subprocess.PIPE, text=True,
                            preexec_fn=lambda: signal.signal(signal.SIGHUP, hangup))


def wait_for(condition, process, timeout_s=60.0):
    end = time.monotonic() + timeout_s
    while not condition():
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < end
        time.sleep(0.005)


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_interrupted_run_saves_before_it_ends(short, dots, tmp_path, number):
    out_dir = tmp_path / 'run'
    process = start_training(dots, out_dir, 100_000)
    wait_for(lambda: (out_dir / 'step_000005.safetensors').exists(), process)
    process.send_signal(number)
    message = process.communicate(timeout=60)[1]
    assert process.returncode == 1 and 'stopped at step' in message
    reached = load_checkpoint(out_dir / 'latest.safetensors').metadata['step']
    assert f'stopped at step {reached} of 100000' in message
    saved = [load_checkpoint(path).metadata for path in sorted(out_dir.glob('step_*'))]
    assert [found['interrupted'] for found in saved] == [found['step'] % 5 != 0 for found in saved]
    resumed = short(steps=reached + 2, resume=True)
    assert_same(weights(short(out_dir=tmp_path / 'whole', steps=reached + 2)), weights(resumed))


def test_under_nohup_a_closed_terminal_does_not_stop_a_run(dots, tmp_path):
    out_dir = tmp_path / 'run'
    process = start_training(dots, out_dir, 60, hangup=signal.SIG_IGN)
    wait_for(lambda: (out_dir / 'step_000005.safetensors').exists(), process)
    process.send_signal(signal.SIGHUP)
    assert (process.communicate(timeout=60)[1], process.returncode) == ('', 0)
    assert load_checkpoint(out_dir / 'latest.safetensors').metadata['step'] == 60


def kept(folder):
    return [int(path.stem.removeprefix('step_')) for path in sorted(folder.glob('step_*'))]


def test_the_last_few_checkpoints_stay_when_a_resume_saves_at_other_steps(short, tmp_path):
    short(steps=20, save_every=5, keep_last=3)
    assert kept(tmp_path / 'run') == [10, 15, 20]
    short(steps=21, save_every=7, keep_last=3, resume=True)
    assert kept(tmp_path / 'run') == [15, 20, 21]


@pytest.mark.parametrize(('mark', 'left'), [
    ({'interrupted': True}, [10, 20, 21]),
    ({'interrupted': False}, [15, 20, 21]),
    ({}, [15, 20, 21]),  # of an older version: the schedule says what it was
])
def test_a_checkpoint_knows_whether_it_was_an_interruptions(short, tmp_path, mark, left):
    short(steps=20, save_every=5, keep_last=3)
    path = tmp_path / 'run' / 'step_000015.safetensors'
    found = load_checkpoint(path)
    others = {name: value for name, value in found.metadata.items() if name != 'interrupted'}
    save_checkpoint(path, found.tensors, others | mark)
    short(steps=21, save_every=3, keep_last=3, resume=True)
    assert kept(tmp_path / 'run') == left


def test_state_loads_without_unpickling_objects(short, tmp_path):
    short()
    state = torch.load(tmp_path / 'run' / STATE_FILE, weights_only=True)
    assert json.loads(state['run'])['described']['seed'] == 0


def test_folder_of_another_run_is_refused(short):
    short()
    with pytest.raises(TrainError, match='holds a training run; resume it or name another'):
        short()


def test_folder_in_which_another_process_trains_is_refused(short, dots, tmp_path):
    out_dir = tmp_path / 'run'
    process = start_training(dots, out_dir, 100_000)
    try:
        wait_for(lambda: (out_dir / STATE_FILE).exists(), process)
        with pytest.raises(TrainError, match='another process trains in this folder'):
            short(resume=True)
    finally:
        process.kill()
        process.communicate()


def test_nothing_to_resume_is_refused(short):
    with pytest.raises(TrainError, match='nothing to resume'):
        short(resume=True)


@pytest.mark.parametrize('changes, reason', [
    ({'overrides': {**OVERRIDES, 'discount': 0.9}}, 'discount: 0.95 then, 0.9 now'),
    ({'seed': 1}, 'seed: 0 then, 1 now'),
    ({'validation_episodes': [0, 1]}, 'transitions'),
    ({'validation_fraction': 0.2}, r'held_out: \[\] then, \[\[0, \d\]\] now'),
])
def test_resume_with_other_settings_is_refused(short, changes, reason):
    short()
    with pytest.raises(TrainError, match=f'other settings or data .*{reason}'):
        short(resume=True, **changes)


def test_resume_with_other_episodes_held_out_is_refused_though_they_are_as_long(short):
    short(validation_episodes=[1])
    with pytest.raises(TrainError, match=r'held_out: \[\[0, 1\]\] then, \[\[0, 2\]\] now'):
        short(validation_episodes=[2], resume=True)


def forget(path, change):
    """Make the state of a run that of a version which noted less."""
    state = torch.load(path / STATE_FILE, weights_only=True)
    run = json.loads(state['run'])
    change(run['described'])
    torch.save({**state, 'run': json.dumps(run)}, path / STATE_FILE)


def test_a_run_begun_before_a_setting_existed_goes_on_where_the_setting_is_at_its_default(
        short, tmp_path):
    short()
    forget(tmp_path / 'run', lambda described: described['config'].pop('actor_goal_random'))
    short(steps=8, resume=True)
    forget(tmp_path / 'run', lambda described: described['config'].pop('actor_goal_random'))
    with pytest.raises(TrainError, match='actor_goal_random: 0.0 then, 0.5 now'):
        short(steps=10, resume=True, overrides={'actor_goal_random': 0.5})


def test_a_run_of_a_version_that_did_not_note_what_was_held_out_goes_on(short, tmp_path):
    short(validation_episodes=[1])
    forget(tmp_path / 'run', lambda described: described.pop('held_out'))
    short(validation_episodes=[1], steps=8, resume=True)
    with pytest.raises(TrainError, match='held_out'):  # noted now
        short(validation_episodes=[2], steps=10, resume=True)


def test_resume_on_other_data_is_refused(short, tmp_path):
    short()
    write_dots(tmp_path / 'dots', seed=1)
    with pytest.raises(TrainError, match='dataset_fingerprint'):
        short(dataset_paths=[tmp_path / 'dots'], resume=True)


@pytest.mark.parametrize('damage', [b'', b'junk', None])
def test_unreadable_state_is_refused(short, tmp_path, damage):
    latest = short()
    path = tmp_path / 'run' / STATE_FILE
    path.write_bytes(path.read_bytes()[:-100] if damage is None else damage)
    with pytest.raises(TrainError, match='is cut off or altered') as caught:
        short(resume=True)
    assert str(caught.value).endswith(
        f'another folder, with --init-from {latest} to begin with its weights')
    assert 'weights_only' not in str(caught.value) and '\n' not in str(caught.value)


def test_state_of_another_version_is_refused(short, tmp_path):
    short()
    path = tmp_path / 'run' / STATE_FILE
    state = torch.load(path, weights_only=True)
    state['agent']['networks']['actor'].popitem()
    torch.save(state, path)
    with pytest.raises(TrainError, match='of another version of this software'):
        short(resume=True)


def test_loss_that_is_not_finite_stops_the_run_and_saves_the_batch(short, tmp_path):
    with pytest.raises(TrainError, match='not finite; the batch is in') as caught:
        short(overrides={**OVERRIDES, 'learning_rate': 1e30, 'critic_loss': 'td'}, steps=50)
    (path,) = (tmp_path / 'run').glob('not_finite_*.npz')
    assert str(path) in str(caught.value)
    assert 'begin anew in another folder, with a lower learning_rate' in str(caught.value)
    batch = np.load(path)
    assert batch['observations'].shape == (8, SIZE, SIZE, 3)
    assert np.isfinite(batch['actions']).all()


def test_last_good_checkpoint_stays_when_learning_breaks_down(short, tmp_path):
    run = tmp_path / 'run'
    # A rate that overflows some steps after the first checkpoint.
    overrides = {**OVERRIDES, 'learning_rate': 1e30, 'warmup_steps': 4, 'critic_loss': 'td'}
    with pytest.raises(TrainError, match=r'step \d+: .* not finite') as caught:
        short(overrides=overrides, steps=50, save_every=1)
    assert f'begin from {run / "latest.safetensors"} or one before it' in str(caught.value)
    saved = sorted(run.glob('step_*'))
    tensors = [tensor for path in saved for tensor in load_checkpoint(path).tensors.values()]
    assert tensors and all(torch.isfinite(tensor).all() for tensor in tensors)
    assert Policy.load(run / 'latest.safetensors').metadata['step'] == int(saved[-1].stem[5:])
    assert list(run.glob('not_finite_*.npz'))
    state = torch.load(run / STATE_FILE, weights_only=True)
    assert f'step_{state["agent"]["step"]:06d}' == saved[-1].stem


def test_torn_last_row_of_the_log_is_left_out(short, tmp_path):
    short(steps=4)
    log = tmp_path / 'run' / 'metrics.csv'
    log.write_text(log.read_text() + '6,0.1,0.')
    short(steps=8, resume=True)
    assert [row['step'] for row in read_metrics(log)] == ['2', '4', '6', '8']


def test_unknown_names_are_refused_before_anything_is_written(short, dots, tmp_path):
    for changes, error, reason in (
            ({'preset': 'lapdog'}, ConfigError, 'unknown preset'),
            ({'overrides': {'colour': 1}}, ConfigError, 'unknown setting colour'),
            *(({'device': device}, ConfigError, f'device {device!r} cannot be used .*; '
               'choose cpu, cuda or auto') for device in ('warp', 'meta', 'hpu', 'cuda:99', '')),
            ({'camera': 'wrist'}, CacheError, "no camera 'wrist'"),
            ({'validation_episodes': [99]}, CacheError, 'episode 99 is unknown'),
            ({'validation_fraction': 1.5}, TrainError, 'validation_fraction')):
        with pytest.raises(error, match=reason):
            short(**changes)
        assert not list((tmp_path / 'run').glob('*.*'))


@pytest.mark.parametrize(('numbers', 'reason'), [
    ({'seed': -1}, 'seed is -1; give 0 or more'), ({'steps': 0}, 'steps is 0; give 1 or more'),
    ({'steps': 10 ** 20}, 'up to 2147483647'), ({'seed': 2 ** 63}, 'up to 9223372036854775807'),
    ({'threads': 10 ** 6}, f'threads is 1000000; give 1 or more, up to {4 * os.cpu_count()}'),
    ({'threads': 0}, 'threads is 0'),
    ({'save_every': 0, 'log_every': 0}, 'save_every is 0, log_every is 0; give 1 or more')])
def test_numbers_that_make_no_sense_are_refused_before_anything_is_read(tmp_path, numbers, reason):
    with pytest.raises(TrainError, match=reason):
        train([tmp_path / 'none'], tmp_path / 'run', **numbers)
    assert not (tmp_path / 'run').exists()


def test_folder_that_cannot_be_written_is_refused(short, tmp_path):
    (tmp_path / 'file').write_text('')
    with pytest.raises(TrainError, match='cannot be written'):
        short(out_dir=tmp_path / 'file' / 'run')


@pytest.mark.parametrize(('setting', 'steps', 'told'), [
    ('actor_decay_steps', 0, None), ('actor_decay_steps', 6, None), ('warmup_steps', 5, None),
    ('actor_decay_steps', 12, "the actor's learning rate falls to 0 over 12 steps, and this run "
     'ends after 6, at 63 % of the full rate; begin with actor_decay_steps=6 to'),
    ('actor_decay_steps', 4, "the actor's learning rate falls to 0 over 4 steps, and over the "
     'last 2 of this run the actor learns nothing; begin with actor_decay_steps=6 to'),
    ('warmup_steps', 6, 'the learning rate rises over 6 steps, and this run ends after 6, at '
     '83 % of the full rate'),
    ('warmup_steps', 20, 'the learning rate rises over 20 steps, and this run ends after 6, at '
     '25 % of the full rate')])
def test_a_learning_rate_that_does_not_fit_the_run_is_warned_of(
        short, capsys, setting, steps, told):
    short(overrides={**OVERRIDES, setting: steps})
    said = capsys.readouterr().err
    assert ('learning rate' in said) == (told is not None)
    assert told is None or f'warning: {told}' in said


def test_bridge_preset_trains_on_small_images(short, capsys):
    latest = short(preset='bridge', steps=2,
                   overrides={'image_size': 32, 'batch_size': 2, 'warmup_steps': 0})
    found = load_checkpoint(latest).metadata
    assert found['config']['encoder'] == 'resnet34'
    assert 'falls to 0 over 2000000 steps, and this run ends after 2,' in capsys.readouterr().err
    assert found['image_spec'] == {'height': 32, 'width': 32, 'interpolation': 'lanczos3'}
