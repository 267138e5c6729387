"""The process that checks checkpoints: what passes, what is refused, and what may happen to it."""

import os
from pathlib import Path
import signal
import subprocess
import sys
import threading
import time

from learning_samples import lively, write_checkpoint
import numpy as np
import pytest
from stable_crl_ros.actions import ActionScale
from stable_crl_ros.checking import Checker
from stable_crl_ros.checkpoint import CheckpointError, load_checkpoint
from stable_crl_ros.policy import Policy
from stable_crl_ros.rehearsal import disagreement, Probation, probe_set, rehearse, saturated
from waiting import alive, wait_for


@pytest.fixture(scope='module')
def checker():
    checker = Checker()
    yield checker
    checker.close()


@pytest.fixture
def path(tmp_path):
    path = tmp_path / 'policy.safetensors'
    write_checkpoint(path, agent=lively(1))
    return path


def scene(seed):
    return np.random.default_rng(seed).integers(0, 256, (16, 16, 3), dtype=np.uint8)


def test_what_passed_can_be_built_although_the_file_is_gone(checker, path):
    frames, goal = [scene(seed) for seed in range(3)], scene(9)
    checked = checker.check(path, frames, goal)
    sha256 = load_checkpoint(path).sha256
    path.unlink()
    policy = Policy.load(checked.file, threads=1, name=path, verified=True)
    checked.close()
    assert policy.metadata['sha256'] == sha256
    again = rehearse(policy, frames, goal)
    np.testing.assert_allclose(checked.rehearsal.live, again.live, atol=1e-6)
    np.testing.assert_allclose(checked.rehearsal.probes, again.probes, atol=1e-6)
    assert again.live.shape == (3, 7) and again.probes.shape == (len(probe_set()), 7)


def test_what_was_checked_cannot_be_changed_any_more(checker, path):
    checked = checker.check(path)
    with pytest.raises(PermissionError):
        os.pwrite(checked.descriptor, b'other', 100)
    checked.close()


def test_a_refusal_names_the_file_and_the_next_check_works(checker, path, tmp_path):
    bad = tmp_path / 'bad.safetensors'
    raw = bytearray(path.read_bytes())
    raw[-50] ^= 1
    bad.write_bytes(raw)
    with pytest.raises(CheckpointError, match=f'{bad}: contents do not match'):
        checker.check(bad)
    checker.check(path).close()


def test_the_death_of_the_process_is_a_refusal_and_a_new_one_is_started(checker, path):
    checker.check(path).close()
    os.kill(checker._process.pid, signal.SIGKILL)
    for _ in range(2):  # the first may still meet the dead one
        try:
            checker.check(path).close()
            break
        except CheckpointError as error:
            assert 'could not be checked' in str(error)
    else:
        pytest.fail('no new process was started')


def test_a_check_can_be_given_up(path):
    checker, refusals = Checker(), []

    def check():
        try:
            checker.check(path).close()
        except CheckpointError as error:
            refusals.append(str(error))
    thread = threading.Thread(target=check)
    thread.start()
    while checker._process is None:
        time.sleep(0.01)
    checker.close()
    thread.join(10.0)
    assert not thread.is_alive()
    assert len(refusals) == 1 and 'could not be checked' in refusals[0]


def test_giving_up_ends_a_check_that_has_begun(path):
    checker, ended = Checker(), []
    frames = [scene(seed) for seed in range(50)] * 400  # seconds of work, that nobody waits for

    def check():
        try:
            checker.check(path, frames, scene(99)).close()
            ended.append('checked to the end')
        except CheckpointError as error:
            ended.append(str(error))

    def children():
        number = checker._process.pid
        return Path(f'/proc/{number}/task/{number}/children').read_text().split()
    checker.check(path).close()
    wait_for(lambda: not children())
    thread = threading.Thread(target=check)
    thread.start()
    wait_for(children)
    working, = map(int, children())
    checker.abort()
    thread.join()
    assert 'could not be checked' in ended[0]
    wait_for(lambda: not alive(working))
    checker.close()


def test_it_ends_with_whoever_started_it(path):
    script = ('import os, sys; from stable_crl_ros.checking import CHECKER; '
              'CHECKER.check(sys.argv[1]); print(CHECKER._process.pid, flush=True); '
              'os.kill(os.getpid(), 9)')
    done = subprocess.run([sys.executable, '-c', script, str(path)], capture_output=True,
                          text=True, timeout=60)
    wait_for(lambda: not alive(int(done.stdout)))


def test_a_dimension_at_its_bound_is_saturated_and_the_gripper_never():
    action = np.array([0.05, 0.0, -0.05, 0.2, 0.0, 0.2499, 1.0])
    assert saturated(action, ActionScale.from_bounds()).tolist() == [
        True, False, True, False, False, True]


def test_disagreement_is_told_in_units():
    old, new = np.zeros((3, 7)), np.zeros((3, 7))
    new[:, 0], new[2, 6] = 0.01, 0.5
    told = disagreement(new, old)
    assert told.startswith('dx 10 (10) mm, ')
    assert told.endswith('gripper 0 (50) %')
    assert disagreement(new[:0], old[:0]) == disagreement(new, old[:2]) == ''


def test_only_a_policy_that_stays_slow_or_at_its_bounds_fails_its_probation():
    scale = ActionScale.from_bounds()
    calm, fast = np.array([0.01] * 3 + [0.1] * 3 + [1.0]), np.array([0.05] * 3 + [0.1] * 3 + [1.0])

    def faults(steps, period_s=0.05):
        probation = Probation(scale, period_s, 10.0, 0.0)
        return [probation.fault(action, seconds) for action, seconds in steps]
    assert not any(faults([(calm, 0.01)] * 100))
    assert not any(faults(([(fast, 0.01)] * 19 + [(calm, 0.01)]) * 5))
    found = faults([(fast, 0.01)] * 20)
    assert not any(found[:19]) and '20 actions in a row with 3 of 6 motions' in found[19]
    found = faults([(calm, 0.06), (calm, 0.01)] * 3)
    assert not any(found[:4]) and '3 of its actions took longer than the period of 50' in found[4]
    assert Probation(scale, 0.05, 10.0, 5.0).over(15.0)
