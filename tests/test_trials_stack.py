"""Trials through the real stack: processes, swaps, goals, the simulator's verdict, keys."""

import contextlib
import json
import os
import pty
import signal
import subprocess
import sys
import time

import pytest
from stable_crl_ros import SHIPPED_CHECKPOINT, SHIPPED_GOALS
from stable_crl_ros.data.dataset import Dataset
from stable_crl_ros.data.schema import Mode
from stable_crl_ros.data.verify import errors, verify_dataset
from stable_crl_ros.environment import StackLock
from stable_crl_ros.launcher import Launcher
from stable_crl_ros.nodes import client
from stable_crl_ros.nodes.client import Client, ClientError
from stable_crl_ros.nodes.improve import LiveSwap
from stable_crl_ros.nodes.trials import open_stage, stack_specs
from stable_crl_ros.teleop.terminal import TerminalError
from stable_crl_ros.trials.day import check_checkpoint, STOP
from stable_crl_ros.trials.plan import CheckpointEntry, GoalEntry, open_plan, TrialError
from trial_samples import make_design

CLI = [sys.executable, '-m', 'stable_crl_ros.cli', 'trials']


def run_trials(folder, *options, **kwargs):
    return subprocess.run([*CLI, 'run', '--out', str(folder), *options], capture_output=True,
                          text=True, stdin=subprocess.DEVNULL, timeout=250, **kwargs)


@pytest.mark.parametrize('by_eye', [True, False])
def test_what_the_nodes_said_does_not_tell_who_judges_which_checkpoint_acted(tmp_path, by_eye):
    goal = GoalEntry('open_drawer', str(SHIPPED_GOALS / 'drawer_open.png'), 'c' * 64)
    bad = CheckpointEntry('/runs/bad.safetensors', 'b' * 64)
    plan = open_plan(tmp_path, make_design(
        goals=(goal,), checkpoints=(CheckpointEntry(str(SHIPPED_CHECKPOINT), 'a' * 64), bad),
        judge='operator' if by_eye else 'simulator', limit_s=9.0))
    (tmp_path / 'nodes.log').write_text(
        f'[policy] [ERROR] went back by itself from {bad.sha256[:12]} ({bad.path}): saturated\n')
    lock = StackLock('judged', dict(os.environ))
    try:
        with pytest.raises(TrialError, match='already runs.*\n.*: saturated') as refused, \
                open_stage(tmp_path, plan, {'namespace': 'judged'}, False, by_eye):
            pass
    finally:
        lock.release()
    named = bad.path in str(refused.value) or bad.sha256[:12] in str(refused.value)
    assert named != by_eye


@pytest.fixture(scope='module')
def day(tmp_path_factory, checkpoints):
    """Compare the shipped checkpoint with one that knows nothing, one trial each."""
    folder = tmp_path_factory.mktemp('trials') / 'day'
    done = run_trials(folder, '--goals', 'open_drawer', '--limit', '5', '--n', '1',
                      '--checkpoints', 'shipped', str(checkpoints / 'first.safetensors'))
    assert done.returncode == 0, done.stdout + done.stderr
    return folder, json.loads((folder / 'results.json').read_text())['results'], done.stdout


def test_each_checkpoint_acted_in_its_trial_on_the_same_scene(day):
    folder, results, _ = day
    assert len({result['checkpoint'] for result in results}) == 2
    assert len({result['scene_seed'] for result in results}) == 1
    dataset = Dataset(folder / 'episodes')
    starts, goals = [], []
    for result in results:
        episode = dataset[result['episode']]
        assert episode.attrs['checkpoint'] == result['checkpoint']
        assert episode.attrs['success'] == result['success']
        assert (episode['mode'] == Mode.POLICY).all()
        assert episode.steps == pytest.approx(result['steps'], abs=1)
        starts.append(episode['joint_positions'][0])
        goals.append(episode.goal_image)
    assert abs(starts[0] - starts[1]).max() < 0.02  # rad
    assert (goals[0] == goals[1]).all()
    assert errors(verify_dataset(folder / 'episodes')) == []


def test_the_simulator_s_measure_is_the_verdict(day):
    _, results, _ = day
    for result in results:
        assert result['judge'] == 'simulator'
        assert result['success'] == (result['errors']['drawer'] <= 0.010)
        assert (result['success_s'] is not None) == result['success']
        assert result['why'] == ('judged' if result['success'] else 'limit')
        assert 0.0 < result['seconds'] < 6.0


def test_what_is_printed_hides_which_checkpoint_acts(day):
    _, results, said = day
    assert 'trial 2 of 2: open_drawer' in said
    for result in results:
        assert result['checkpoint'][:8] not in said
    assert 'first.safetensors' not in said and 'policy.safetensors' not in said


@pytest.mark.parametrize(('options', 'reason'), [
    (['--goals', 'drawer_open', '--checkpoints', 'shipped'], 'pictures need --judge operator'),
    (['--goals', 'open_drawer', '--checkpoints', 'nowhere.safetensors'], 'no such file'),
    (['--goals', 'drawer_open', '--checkpoints', 'shipped', '--robot', 'mock'], 'no terminal'),
    (['--goals', 'drawer_open', '--checkpoints', 'shipped', '--robot', 'mock', '--judge',
      'simulator'], 'has none'),
    (['--goals', 'open_drawer', '--checkpoints', 'shipped', '--launch', 'record:=false'],
     'the plan says that'),
    ([], 'no day to go on with'),
])
def test_what_cannot_run_is_refused_before_anything_starts(tmp_path, options, reason):
    done = run_trials(tmp_path / 'day', *options)
    assert done.returncode == 2
    assert reason in done.stderr
    assert 'Traceback' not in done.stderr


@pytest.fixture(scope='module')
def running(tmp_path_factory):
    """Start a stack as for `--running`; give the plan of a day on it, and its folder."""
    folder = tmp_path_factory.mktemp('running') / 'day'
    plan = open_plan(folder, make_design(
        goals=(GoalEntry('open_drawer'),), checkpoints=(check_checkpoint(SHIPPED_CHECKPOINT),)))
    with Launcher(stack_specs(folder, plan, {}), 'running', output=lambda line: None):
        yield plan, folder


@contextlib.contextmanager
def prepared(plan, folder):
    """Give a stage on the running stack, ready for the first trial."""
    with open_stage(folder, plan, {'namespace': 'running'}, True, False) as stage:
        stage.prepare(plan.trials[0], plan.design.goals[0], plan.design.checkpoints[0])
        yield stage


def assert_at_rest():
    with Client('running') as probe:
        assert probe.state('policy') == 'inactive'
        assert probe.text('mode') == 'paused'
        assert probe.text('episode_logger/recording') == ''


def test_the_operator_s_stop_looks_for_no_service(running, monkeypatch):
    with prepared(*running) as stage, monkeypatch.context() as patch:
        def stop():
            patch.delattr(client, 'SETTLE_S')  # whoever connects now fails
            return STOP
        assert stage.act(9.0, stop).word == STOP
        stage.drop('stopped')
    assert_at_rest()


@pytest.mark.parametrize('lost', [KeyboardInterrupt(), TerminalError('the terminal was closed'),
                                  signal.SIGHUP])
def test_a_trial_that_is_cut_off_leaves_nothing_acting_and_nothing_recording(running, lost):
    def watch():
        if not isinstance(lost, signal.Signals):
            raise lost
        os.kill(os.getpid(), lost)
        return ''
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)  # under nohup it would be ignored
    try:
        with pytest.raises((KeyboardInterrupt, TerminalError)), prepared(*running) as stage:
            stage.act(9.0, watch)
    finally:
        signal.signal(signal.SIGHUP, before)
    assert_at_rest()


def test_beside_a_stack_that_records_nothing_is_begun_and_what_acted_acts_again(running):
    plan, folder = running
    live = LiveSwap(folder.parent / 'loop', ('open_drawer',), 0, 'running')
    with Client('running') as operator:
        assert operator.transition('policy', 'activate')
        assert operator.call('episode_logger/start')[0]
        with pytest.raises(ClientError, match='is recording episode_'):
            live.check()
        assert operator.call('episode_logger/discard')[0]
        live.check()
        said = live(1, SHIPPED_CHECKPOINT)
        assert 'of 1 live trials' in said
        assert operator.state('policy') == 'active'
        assert operator.transition('policy', 'deactivate')


@pytest.mark.slow
def test_a_killed_day_goes_on_where_it_was(tmp_path, checkpoints):
    options = ['--goals', 'open_drawer', '--limit', '2', '--n', '2', '--checkpoints', 'shipped',
               str(checkpoints / 'first.safetensors')]
    process = subprocess.Popen([*CLI, 'run', '--out', str(tmp_path), *options],
                               stdout=subprocess.PIPE, text=True)
    for line in process.stdout:
        if line.startswith('trial 2'):
            break
    time.sleep(1.0)  # into the third one
    process.send_signal(signal.SIGKILL)
    process.communicate()
    before = json.loads((tmp_path / 'results.json').read_text())['results']
    time.sleep(3.0)  # its nodes end with it
    refused = run_trials(tmp_path, *options, '--seed', '1')
    assert refused.returncode == 2 and 'seed: 0 then, 1 now' in refused.stderr
    done = run_trials(tmp_path)
    assert done.returncode == 0, done.stderr
    assert '2 of 4 trials are done; going on' in done.stdout
    after = json.loads((tmp_path / 'results.json').read_text())['results']
    assert after[:2] == before and len(after) == 4
    assert sorted(Dataset(tmp_path / 'episodes').ids) == sorted(r['episode'] for r in after)


@pytest.mark.slow
def test_a_person_judges_by_keys_and_stops_the_arm(tmp_path):
    """Type at a terminal what an operator would; see what becomes of it."""
    controller, screen = pty.openpty()
    options = ['--goals', 'drawer_open', '--judge', 'operator', '--operator', 'anna', '--limit',
               '6', '--n', '3', '--checkpoints', str(SHIPPED_CHECKPOINT)]
    process = subprocess.Popen([*CLI, 'run', '--out', str(tmp_path), *options], stdin=screen,
                               stdout=screen, stderr=screen)
    os.close(screen)

    def expect(text, keys, then_s=0.0):
        seen = b''
        while text not in seen:
            seen += os.read(controller, 4096)
        time.sleep(then_s)
        os.write(controller, keys)
        return seen
    expect(b'trial 1 of 3: goal drawer_open', b'\n')
    time.sleep(10.0)  # prepares at least four seconds, then the arm moves
    os.write(controller, b's')
    expect(b'Enter keeps it', b'nlight was low\n\n')
    expect(b'trial 2 of 3', b'\n')
    expect(b'time is up', b'f')
    expect(b'Enter keeps it', b'\n')
    expect(b'trial 3 of 3', b'\n')
    time.sleep(10.0)
    os.write(controller, b'x')
    expect(b'stopped; 2 of 3 trials are done', b'')
    assert process.wait(timeout=30) == 1
    os.close(controller)
    body = json.loads((tmp_path / 'results.json').read_text())
    assert [(r['success'], r['why'], r['judge'], r['notes']) for r in body['results']] == [
        (True, 'judged', 'anna', 'light was low'), (False, 'limit', 'anna', '')]
    assert body['redone'][0]['trial'] == 3
    assert len(Dataset(tmp_path / 'episodes')) == 2
