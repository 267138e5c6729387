"""Training that meets what another run left."""

import json
import signal
import subprocess
import sys

from learning_samples import OVERRIDES
import pytest
from stable_crl_ros.checkpoint import load_checkpoint
from stable_crl_ros.crl.run_folder import BEST, LATEST, STATE_FILE, TrainError
from stable_crl_ros.crl.run_log import read_metrics
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
