"""Training killed at any moment, again and again, ends with the weights of an unbroken run."""

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time

from learning_samples import OVERRIDES, SMALL, SMALL_VALUES
import pytest
from stable_crl_ros.checkpoint import load_checkpoint
from stable_crl_ros.crl.run_folder import STATE_FILE
from stable_crl_ros.crl.run_log import read_metrics
from stable_crl_ros.crl.train import train
import torch
from waiting import alive

STEPS = 24
MOST_KILLS = 5

# Forks a process for every line: importing torch would take longer than the training. Renaming
# takes as long as on a slow disk, so that a kill sent when a file is seen aside finds it there.
NURSERY = """
import json, os, sys, time
from stable_crl_ros.crl.train import train
import tensorboard.summary.writer.record_writer
sys.addaudithook(lambda event, _: time.sleep(0.03) if event == 'os.rename' else None)
for line in sys.stdin:
    child = os.fork()
    if not child:
        try:
            train(**json.loads(line))
        except BaseException as error:
            print(repr(error), file=sys.stderr, flush=True)
            os._exit(1)
        os._exit(0)
    print(child, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


class Nursery:
    """Start trainings quickly, each in a process of its own that can be killed."""

    def __init__(self):
        self._process = subprocess.Popen(
            [sys.executable, '-c', NURSERY], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True)

    def start(self, settings):
        print(json.dumps(settings), file=self._process.stdin, flush=True)
        return int(self._process.stdout.readline())

    def status(self):
        return int(self._process.stdout.readline())

    def close(self):
        return self._process.communicate(timeout=60)[1]


@pytest.fixture
def nursery():
    made = Nursery()
    yield made
    made.close()


def kill(child, folder, rng):
    """Kill while a file is written aside, or at a random moment of learning or starting."""
    before, end = newest(folder), time.monotonic() + 20.0
    saving = rng.random() < 0.7

    def waiting():
        return not list(folder.glob('.*.tmp')) if saving else newest(folder) == before
    while waiting() and alive(child) and time.monotonic() < end:
        time.sleep(0.0002)
    time.sleep(rng.uniform(0.0, 0.002 if saving else 0.1))
    with contextlib.suppress(ProcessLookupError):  # it was done
        os.kill(child, signal.SIGKILL)


def newest(folder):
    return max((path.name for path in folder.glob('step_*')), default='')


def is_valid(folder):
    """Whatever is there by name is whole, at any moment."""
    for path in folder.glob('*.safetensors'):
        load_checkpoint(path)
    if (folder / STATE_FILE).exists():
        torch.load(folder / STATE_FILE, weights_only=True)
    return True


def assert_same(first, second):
    assert first.keys() == second.keys()
    for name, value in first.items():
        if isinstance(value, dict):
            assert_same(value, second[name])
        elif isinstance(value, torch.Tensor):
            assert torch.equal(value, second[name]), name
        else:
            assert value == second[name], name


@pytest.mark.parametrize(('preset', 'overrides'), [
    ('laptop', {**OVERRIDES, 'critic_loss': 'mc'}), ('laptop', {**OVERRIDES, 'critic_loss': 'td'}),
    ('laptop-gcbc', SMALL), ('laptop-gciql', {**SMALL, **SMALL_VALUES}),
    ('laptop-hiql', {**SMALL, **SMALL_VALUES})], ids=['mc', 'td', 'gcbc', 'gciql', 'hiql'])
def test_kills_at_random_moments_change_nothing(nursery, dots, tmp_path, preset, overrides):
    settings = {'dataset_paths': [str(dots)], 'preset': preset, 'overrides': overrides,
                'steps': STEPS, 'threads': 1, 'device': 'cpu', 'log_every': 4, 'save_every': 2,
                'keep_last': 2, 'validation_episodes': [2], 'progress': False}
    whole, broken = tmp_path / 'whole', tmp_path / 'broken'
    train(**settings, out_dir=whole)
    rng, kills, half_written, statuses = random.Random(f'{preset} {overrides}'), 0, 0, []
    while 0 not in statuses:
        child = nursery.start({**settings, 'out_dir': str(broken),
                               'resume': (broken / STATE_FILE).exists()})
        if kills < MOST_KILLS:
            kill(child, broken, rng)
        statuses.append(nursery.status())
        assert statuses[-1] in (0, -signal.SIGKILL), nursery.close()
        kills += statuses[-1] == -signal.SIGKILL
        half_written += bool(list(broken.glob('.*.tmp')))
        assert is_valid(broken)
    assert kills >= 3 and half_written
    for name in ('latest', 'best'):
        first, second = (load_checkpoint(folder / f'{name}.safetensors')
                         for folder in (whole, broken))
        assert first.metadata['step'] == second.metadata['step']
        assert_same(first.tensors, second.tensors)
    first, second = (torch.load(folder / STATE_FILE, weights_only=True)['agent']
                     for folder in (whole, broken))
    assert_same(first, second)
    rows = [[{**row, 'seconds': ''} for row in read_metrics(folder / 'metrics.csv')]
            for folder in (whole, broken)]
    assert rows[0] == rows[1] and len(rows[0]) == STEPS // 4
    assert sorted(path.name for path in broken.glob('step_*')) == sorted(
        path.name for path in whole.glob('step_*'))


def test_two_processes_with_one_seed_learn_the_same_weights(dots, tmp_path):
    script = ('import json, sys\nfrom stable_crl_ros.crl.train import train\n'
              'train(**json.loads(sys.argv[1]))')
    settings = {'dataset_paths': [str(dots)], 'overrides': {**OVERRIDES, 'critic_loss': 'td'},
                'steps': 6, 'threads': 1, 'device': 'cpu', 'progress': False, 'seed': 3}
    subprocess.run([sys.executable, '-c', script, json.dumps(
        {**settings, 'out_dir': str(tmp_path / 'other')})], check=True, timeout=120)
    here = train(**settings, out_dir=tmp_path / 'here')
    assert_same(load_checkpoint(here).tensors,
                load_checkpoint(tmp_path / 'other' / 'latest.safetensors').tensors)
