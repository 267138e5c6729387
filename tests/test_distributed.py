"""Several ranks: they compute what one computes, draw the same batches, and one of them writes."""

import os
from pathlib import Path
import socket
import subprocess
import sys

from learning_samples import random_batch, small_agent, WARM, write_dots
import pytest
from stable_crl_ros.crl.config import ConfigError
from stable_crl_ros.crl.distributed import own_device, Ranks, ranks_of_torchrun
import torch
from torch import multiprocessing

SIZE, UPDATES = 8, 3
LEARNERS = {
    'td': ('stable_crl', {'critic_loss': 'td', 'augmentation': 'crop', 'augment_per': 'sample',
                          'actor_dropout': 0.1, **WARM}),
    'td-jitter': ('stable_crl', {'critic_loss': 'td', 'augmentation': 'jitter',
                                 'augment_critic': True, **WARM}),
    'mc': ('stable_crl', {'critic_loss': 'mc', **WARM}),
    'nce': ('stable_crl', {'critic_loss': 'nce', **WARM}),
    'gcbc': ('gcbc', {'augmentation': 'crop', 'actor_final_init': 0.0}),
    'gciql': ('gciql', {'actor_final_init': 0.0}),
    'hiql': ('hiql', {'actor_final_init': 0.0}),
}


def rows_of(batch, rows):
    parts = {id(values): values[rows] for values in batch.values()}
    return {name: parts[id(values)] for name, values in batch.items()}


def run_updates(name, ranks):
    """Update a few times on this rank's rows; return metrics and weights."""
    algorithm, changes = LEARNERS[name]
    agent = small_agent(algorithm, learning_rate=0.03, **changes)
    agent.join(ranks)
    for optimiser in agent.optimisers.values():
        # Steps as large as gradients: Adam would make whole ones of the rounding of those near 0.
        for group in optimiser.param_groups:
            group['eps'] = 1.0
    metrics = [dict(agent.update(rows_of(random_batch(SIZE, seed=seed), ranks.rows(SIZE)),
                                 detailed=True)) for seed in range(UPDATES)]
    return metrics, {key: value.clone() for key, value in agent.tensors().items()}


def work(rank, port, folder):
    """Be one of two ranks."""
    torch.set_num_threads(1)
    os.environ |= {'RANK': str(rank), 'WORLD_SIZE': '2', 'MASTER_ADDR': '127.0.0.1',
                   'MASTER_PORT': str(port)}
    with ranks_of_torchrun('cpu') as ranks:
        found = {name: run_updates(name, ranks) for name in LEARNERS}
        found['threads'] = [names_of_threads()]
    found['threads'].append(names_of_threads())
    torch.save(found, Path(folder) / f'{rank}.pt')


def names_of_threads():
    """Return this process's threads, those of C++ too."""
    return [path.read_text().strip() for path in Path('/proc/self/task').glob('*/comm')]


def free_port():
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        return probe.getsockname()[1]


@pytest.fixture(scope='module')
def two_ranks(tmp_path_factory):
    folder = tmp_path_factory.mktemp('ranks')
    multiprocessing.spawn(work, (free_port(), str(folder)), nprocs=2)
    return [torch.load(folder / f'{rank}.pt') for rank in range(2)]


@pytest.mark.parametrize('name', LEARNERS)
def test_two_ranks_compute_the_losses_and_weights_of_one(two_ranks, name):
    metrics, weights = run_updates(name, Ranks())
    for rank in two_ranks:
        assert rank[name][0][0] == pytest.approx(metrics[0], rel=1e-6, abs=1e-6)
        for ours, theirs in zip(metrics, rank[name][0], strict=True):
            assert theirs == pytest.approx(ours, rel=1e-5, abs=1e-6)
        torch.testing.assert_close(rank[name][1], weights, rtol=1e-6, atol=1e-6)
    moved = small_agent(LEARNERS[name][0], **LEARNERS[name][1]).tensors()
    assert max((moved[key] - weights[key]).abs().max() for key in weights) > 1e-2


def test_ranks_stay_alike_to_the_last_bit(two_ranks):
    for name in LEARNERS:
        first, second = (rank[name][1] for rank in two_ranks)
        assert all(map(torch.equal, first.values(), second.values()))


def test_no_thread_of_the_group_outlives_it(two_ranks):
    for during, after in (rank['threads'] for rank in two_ranks):
        assert any('gloo' in name for name in during)
        assert not any('gloo' in name for name in after)


def test_ranks_take_all_rows_once():
    assert [Ranks(rank, 4).rows(12) for rank in range(4)] == [
        slice(0, 3), slice(3, 6), slice(6, 9), slice(9, 12)]


def test_refuses_a_batch_that_does_not_divide():
    with pytest.raises(ConfigError, match='batch_size 10 does not divide by 4 ranks'):
        Ranks(0, 4).rows(10)


def test_alone_without_torchrun(monkeypatch):
    monkeypatch.delenv('WORLD_SIZE', raising=False)
    assert [own_device(device) for device in ('cpu', 'cuda')] == ['cpu', 'cuda']
    with ranks_of_torchrun('cpu') as ranks:
        assert ranks == Ranks()
        assert [ranks.any(flag) for flag in (True, False)] == [True, False]


def test_every_rank_has_a_gpu_of_its_own(monkeypatch):
    monkeypatch.setenv('WORLD_SIZE', '4')
    monkeypatch.setenv('LOCAL_RANK', '3')
    assert [own_device(device) for device in ('cpu', 'cuda', 'cuda:1')] == [
        'cpu', 'cuda:3', 'cuda:1']


def test_torchrun_trains_and_resumes_one_run(tmp_path):
    write_dots(tmp_path / 'dots', episodes=4)
    command = [sys.executable, '-m', 'torch.distributed.run', '--nproc_per_node', '2',
               '--master_addr', '127.0.0.1', '--master_port', str(free_port()), '-m',
               'stable_crl_ros.cli', 'train', str(tmp_path / 'dots'), '--out',
               str(tmp_path / 'run'), '--device', 'cpu', '--save-every', '2', '--log-every', '1',
               '--set', 'image_size=16', 'channels=4,8,8', 'actor_hidden=16,16',
               'critic_hidden=16,16', 'batch_size=8', 'critic_loss=td']
    for steps, more in (('2', []), ('4', ['--resume'])):
        done = subprocess.run([*command, '--steps', steps, *more], capture_output=True, text=True,
                              timeout=120)
        assert done.returncode == 0, done.stderr
        assert done.stdout.count('trained: ') == 1
    assert {path.name for path in (tmp_path / 'run').glob('step_*')} == {
        'step_000002.safetensors', 'step_000004.safetensors'}
