"""Training that meets what another run left, a full disk, or files that are damaged."""

import json
import signal
import subprocess
import sys

from disks import disk_of
from learning_samples import OVERRIDES
import pytest
from stable_crl_ros.checkpoint import load_checkpoint
from stable_crl_ros.crl.run_folder import BEST, LATEST, RunFolder, STATE_FILE, TrainError
from stable_crl_ros.crl.run_log import read_metrics, RunLog
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
import torch

# Dies when the first state would get its name: its checkpoint is there, the state is not.
KILLED = f"""
import json, os, signal, sys
from stable_crl_ros.crl.train import train
def kill(event, arguments):
    if event == 'os.rename' and str(arguments[1]).endswith('{STATE_FILE}'):
        os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(kill)
train(**json.loads(sys.argv[1]))
"""
HELD_OUT = {'validation_episodes': [2]}  # so that there is a best one


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.glob('*.*') if path.name != '.lock'}


def assert_same_run(first, second):
    """Weights and log are the same, whatever time it took."""
    tensors, others = (load_checkpoint(folder / LATEST).tensors for folder in (first, second))
    assert all(torch.equal(tensors[name], others[name]) for name in tensors)
    rows = [[{**row, 'seconds': ''} for row in read_metrics(folder / 'metrics.csv')]
            for folder in (first, second)]
    assert rows[0] == rows[1]


@pytest.mark.parametrize(('left', 'offered'), [
    ('*', True), (LATEST, True), (BEST, False), ('step_000006.safetensors', False),
    ('metrics.csv', False)])
@pytest.mark.parametrize('changes', [{}, {'seed': 1}])
def test_a_folder_that_holds_a_run_without_its_state_is_refused_and_stays(
        short, tmp_path, left, offered, changes):
    short(**HELD_OUT)
    run = tmp_path / 'run'
    for path in run.glob('*.*'):
        if path.name == STATE_FILE or not path.match(left):
            path.unlink()
    before = contents(run)
    with pytest.raises(TrainError, match=f'no {STATE_FILE}, so there is nothing to resume; '
                                         'train into another folder') as caught:
        short(**HELD_OUT, **changes)
    assert (f'--init-from {run / LATEST}' in str(caught.value)) == offered
    assert contents(run) == before


@pytest.fixture
def killed(dots, tmp_path):
    """Give the folder of a run that was killed while it saved for the first time."""
    run = tmp_path / 'run'
    done = subprocess.run([sys.executable, '-c', KILLED, json.dumps({
        'dataset_paths': [str(dots)], 'out_dir': str(run), 'overrides': OVERRIDES, 'steps': 6,
        'threads': 1, 'device': 'cpu', 'log_every': 1, 'save_every': 2, 'progress': False})],
        timeout=120)
    assert done.returncode == -signal.SIGKILL
    assert (run / LATEST).exists() and not (run / STATE_FILE).exists()
    return run


def test_a_run_that_was_killed_before_its_first_state_is_begun_anew(short, killed, tmp_path):
    short()
    short(out_dir=tmp_path / 'whole')
    assert_same_run(killed, tmp_path / 'whole')
    assert not list(killed.glob('.*.tmp'))


def test_another_run_does_not_take_the_place_of_one_that_was_killed(short, killed):
    before = contents(killed)
    with pytest.raises(TrainError, match='holds step_000002.safetensors of another run'):
        short(seed=1)
    assert contents(killed) == before


def test_a_folder_of_nothing_but_a_beginning_takes_any_run(short, tmp_path):
    with pytest.raises(TrainError, match='not finite'):
        short(overrides={**OVERRIDES, 'learning_rate': 1e30, 'critic_loss': 'td'}, log_every=50,
              save_every=50, steps=50)
    short(seed=1)
    assert load_checkpoint(tmp_path / 'run' / LATEST).metadata['seed'] == 1


def fill(disk, room):
    """Leave so many bytes of a disk, and a function that frees them all."""
    filler = disk / 'filler'
    with pytest.raises(OSError, match='No space'), open(filler, 'wb', buffering=0) as file:
        while file.write(bytes(4096)):
            pass
    with open(filler, 'rb+') as file:
        file.truncate(filler.stat().st_size - room)
    return filler.unlink


def test_a_full_disk_ends_a_run_that_has_saved_nothing_with_advice(short, small_disk):
    fill(small_disk, 100 << 10)
    with pytest.raises(TrainError, match=r'/run/\S+: cannot be written \(.*No space left on '
                                         r'device.*\); free space and train again$'):
        short(out_dir=small_disk / 'run')


@pytest.mark.parametrize('spare', [8, 200])  # kB; enough for no checkpoint, or for no state
def test_a_full_disk_leaves_the_former_state_to_resume_from(short, small_disk, tmp_path, spare):
    run = small_disk / 'run'
    short(out_dir=run, steps=2, keep_last=1)
    free = fill(small_disk, spare << 10)
    before = (run / STATE_FILE).read_bytes()
    with pytest.raises(TrainError, match=r'cannot be written \(.*No space left on device.*\); '
                                         'free space and resume: step 2 is saved$'):
        short(out_dir=run, keep_last=1, resume=True)
    assert (run / STATE_FILE).read_bytes() == before
    assert not list(run.glob(f'.{STATE_FILE}.*'))
    free()
    short(out_dir=run, keep_last=1, resume=True)
    short(out_dir=tmp_path / 'whole')
    assert_same_run(run, tmp_path / 'whole')


@pytest.mark.parametrize('log', ['metrics.csv', 'evaluations.csv'])
def test_a_log_on_a_full_disk_is_named(small_disk, log):
    table = RunLog(RunFolder(small_disk), 0, warn=lambda text: None)
    write = table.write if log == 'metrics.csv' else table.write_evaluation
    write(1, {'loss': 0.5})
    fill(small_disk, 0)
    with pytest.raises(TrainError, match=f'{log}: cannot be written .No space left on device'):
        for step in range(2, 1000):
            write(step, {'loss': 0.5})


def test_training_goes_on_without_tensorboard_where_its_disk_is_full(short, tmp_path, capsys):
    run = tmp_path / 'run'
    run.mkdir()
    with disk_of('4k', run / 'tensorboard'):
        short(steps=40, log_every=1)
        (events,) = (run / 'tensorboard').iterdir()
        said = capsys.readouterr().err
    assert said.count('warning: ') == said.count('goes on without TensorBoard') == 1
    assert f'{events}: cannot be written (No space left on device)' in said
    short(out_dir=tmp_path / 'whole', steps=40, log_every=1)
    assert_same_run(run, tmp_path / 'whole')


def test_tensorboard_shows_a_resumed_run_as_one(short, tmp_path):
    for steps in (4, 8):
        short(steps=steps, resume=steps > 4)
    shown = EventAccumulator(str(tmp_path / 'run' / 'tensorboard')).Reload()
    rows = read_metrics(tmp_path / 'run' / 'metrics.csv')
    assert [(event.step, event.value) for event in shown.Scalars('actor/loss')] == [
        (int(row['step']), pytest.approx(float(row['actor/loss']))) for row in rows]


@pytest.mark.parametrize('rubbish', [
    b'rubbish', b'rubbish\n', b'a,b\n1,2\n', b'step,loss\nx,0.5\n', b'step,success\n2,high\n',
    b'step,loss\n2,\xff\xfe\n', b'step\n' + b'9' * 200_000 + b'\n'])
@pytest.mark.parametrize('log', ['metrics.csv', 'evaluations.csv'])
def test_a_log_that_cannot_be_read_is_moved_aside(tmp_path, log, rubbish):
    said, path = [], tmp_path / log
    for name in (f'{log}.unreadable', f'{log}.unreadable1'):  # an earlier one stays
        path.write_bytes(rubbish)
        RunLog(RunFolder(tmp_path), 2, said.append)
        assert path.with_name(name).read_bytes() == rubbish and not path.exists()
        assert said.pop() == f'{path}: is no log of a run; moved to {name}, and begun anew'
        assert not said


def test_logs_that_cannot_be_read_keep_nobody_from_resuming(short, tmp_path, capsys):
    run = tmp_path / 'run'
    short(steps=2)
    for log in ('metrics.csv', 'evaluations.csv'):
        (run / log).write_bytes(b'\xffrubbish\n')
    short(resume=True)
    assert capsys.readouterr().err.count('warning: ') == 2
    assert [row['step'] for row in read_metrics(run / 'metrics.csv')] == ['4', '6']
    whole = short(out_dir=tmp_path / 'whole')
    tensors = load_checkpoint(whole).tensors
    assert all(torch.equal(tensor, tensors[name])
               for name, tensor in load_checkpoint(run / LATEST).tensors.items())
