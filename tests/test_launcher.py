"""The embedded launcher on real processes: clean ends, crashes, refusals, no orphans."""

import contextlib
import os
from pathlib import Path
import pty
import select
import shlex
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from stable_crl_ros import launcher
from stable_crl_ros.bringup import GRAPHS
from stable_crl_ros.environment import PROFILE_VARIABLES, ros_environment
from stable_crl_ros.graph import NodeSpec
from stable_crl_ros.images import write_image
from stable_crl_ros.launcher import Launcher, LaunchError
from waiting import alive

END_S = 20.0


@pytest.fixture(scope='module')
def frames(tmp_path_factory):
    """Give a folder of pictures for the camera."""
    folder = tmp_path_factory.mktemp('frames')
    for number in range(5):
        write_image(folder / f'{number}.png', np.full((48, 64, 3), 40 * number, np.uint8))
    return folder


def children(pid):
    """Return the living processes whose parent this is."""
    found = []
    for entry in Path('/proc').iterdir():
        with contextlib.suppress(OSError, ValueError):
            state, parent = (entry / 'stat').read_text().rpartition(')')[2].split()[:2]
            if int(parent) == pid and state != 'Z':
                found.append(int(entry.name))
    return found


def until(condition, seconds, what):
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end, f'{what} not within {seconds} s'
        time.sleep(0.05)
    return value


class Stack:
    """`stable-crl launch ...` in a process of its own, its output in a file."""

    def __init__(self, folder, *words, hangup=signal.SIG_DFL):
        self.log = folder / f'stack-{time.monotonic_ns()}.log'
        self.process = subprocess.Popen(
            [sys.executable, '-m', 'stable_crl_ros.cli', 'launch', *words],
            stdout=self.log.open('w'), stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
            preexec_fn=lambda: signal.signal(signal.SIGHUP, hangup))

    @property
    def text(self):
        return self.log.read_text()

    def wait_for(self, text, seconds=60.0):
        until(lambda: text in self.text or self.process.poll() is not None, seconds,
              f'{text!r} in {self.text!r}')
        assert text in self.text

    def child(self, name):
        return next(pid for pid in children(self.process.pid)
                    if f'nodes.{name}\0'.encode() in Path(f'/proc/{pid}/cmdline').read_bytes())

    def end(self, number, seconds=END_S):
        """Send a signal; return the exit status and how many children outlived the launcher."""
        pids = children(self.process.pid)
        assert pids
        self.process.send_signal(number)
        status = self.process.wait(seconds)
        return status, sum(alive(pid) for pid in pids)


@pytest.fixture
def stack(tmp_path, frames):
    """Give a running mock arm with its camera, `active: arm` already said."""
    made = Stack(tmp_path, 'hardware', 'robot:=mock', f'camera_source:={frames}')
    made.wait_for('active: arm')
    yield made
    if made.process.poll() is None:
        made.process.kill()
        made.process.wait()


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_everything_promptly_with_status_0(stack, number):
    assert stack.end(number) == (0, 0)
    assert 'Traceback' not in stack.text
    assert 'still there' not in stack.text


def test_under_nohup_a_closed_terminal_ends_nothing(tmp_path, frames):
    stack = Stack(tmp_path, 'hardware', 'robot:=mock', f'camera_source:={frames}',
                  hangup=signal.SIG_IGN)
    try:
        stack.wait_for('active: arm')
        arm, camera = stack.child('arm'), stack.child('camera')
        for pid in (stack.process.pid, arm, camera):
            os.kill(pid, signal.SIGHUP)
        os.kill(camera, signal.SIGKILL)  # the launcher still does its work, and after the signal
        stack.wait_for('camera (process')
        assert 'starting it again in 2 s' in stack.text
        assert alive(arm)
        assert stack.end(signal.SIGTERM) == (0, 0)
    finally:
        stack.process.kill()
        stack.process.wait()


def test_no_child_survives_the_sudden_death_of_the_launcher(stack):
    pids = children(stack.process.pid)
    assert {stack.child('arm'), stack.child('camera')} <= set(pids)
    stack.process.kill()
    until(lambda: not any(alive(pid) for pid in pids), END_S, 'the end of arm and camera')


def test_crash_of_a_needed_node_ends_the_stack_and_names_it(stack):
    camera = stack.child('camera')
    os.kill(stack.child('arm'), signal.SIGSEGV)
    assert stack.process.wait(END_S) == 1
    assert 'arm (process' in stack.text
    assert 'SIGSEGV' in stack.text
    assert not alive(camera)


def test_camera_is_started_again_after_a_crash(stack):
    first = stack.child('camera')
    os.kill(first, signal.SIGKILL)
    stack.wait_for('camera (process')
    assert 'starting it again in 2 s' in stack.text
    until(lambda: stack.text.count('5 pictures of') == 2, 30.0, 'a second start')
    assert stack.child('camera') != first
    assert stack.end(signal.SIGINT) == (0, 0)


def test_a_second_stack_in_the_namespace_is_refused_and_the_first_named(stack, tmp_path, frames):
    second = Stack(tmp_path, 'hardware', 'robot:=mock', f'camera_source:={frames}')
    assert second.process.wait(30.0) == 2
    assert f'process {stack.process.pid}' in second.text
    assert 'namespace' in second.text
    other = Stack(tmp_path, 'hardware', 'robot:=mock', f'camera_source:={frames}',
                  'namespace:=left')
    other.wait_for('active: arm')
    assert other.end(signal.SIGINT) == (0, 0)


def test_nodes_know_every_parameter_they_are_given(stack):
    assert 'has no parameter' not in stack.text


def test_missing_goal_is_refused_before_anything_starts(tmp_path):
    refused = Stack(tmp_path, 'policy', 'goal:=no_such_goal.png', f'goal_directory:={tmp_path}')
    assert refused.process.wait(30.0) == 2
    assert "goal 'no_such_goal.png' not found" in refused.text
    assert '[goal]' not in refused.text


def test_refusal_of_a_node_ends_the_stack_with_its_reason():
    lines = []
    specs = [NodeSpec('arm', {'arm': {'driver': 'sim'}})]
    with Launcher(specs, output=lines.append) as stack, \
            pytest.raises(LaunchError, match=r'arm \(process \d+\) ended with status 1'):
        until(stack.poll, 60.0, 'the end of the arm')
    assert any("arm driver 'sim' lives in the sim process" in line for line in lines)


def test_a_stack_that_is_still_starting_ends_without_a_traceback(tmp_path, frames):
    starting = Stack(tmp_path, 'hardware', 'robot:=mock', f'camera_source:={frames}')
    until(lambda: len(children(starting.process.pid)) == 3, 30.0, 'three processes')
    assert starting.end(signal.SIGINT) == (0, 0)
    assert 'Traceback' not in starting.text


def test_in_a_terminal_teleop_gets_the_keys_and_ctrl_c_ends_all(tmp_path, frames):
    pid, terminal = pty.fork()
    if pid == 0:
        os.execv(sys.executable, [
            sys.executable, '-m', 'stable_crl_ros.cli', 'launch', 'collect', 'robot:=mock',
            f'camera_source:={frames}', f'dataset_path:={tmp_path / "data"}'])
    try:
        read_until(terminal, 'active: arm')
        read_until(terminal, 'YOU steer', keys=b'w')
        pids = children(pid)
        os.write(terminal, b'\x03')
        read_until(terminal, '[launch] stopping')
        until(lambda: not any(alive(child) for child in pids), END_S, 'the end of all nodes')
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        os.close(terminal)


def read_until(terminal, text, seconds=60.0, keys=b''):
    """Read what appears on a terminal until a text has, and go on pressing keys."""
    seen, end = '', time.monotonic() + seconds
    while text not in seen:
        assert time.monotonic() < end, f'{text!r} not in {seen!r}'
        os.write(terminal, keys)
        if select.select([terminal], [], [], 0.2)[0]:
            seen += os.read(terminal, 4096).decode(errors='replace')


def hardware(frames):
    return GRAPHS['hardware'].specs({'robot': 'mock', 'camera_source': str(frames)})


def test_used_as_a_library_it_ends_its_processes_on_leaving(frames):
    lines = []
    with Launcher(hardware(frames), output=lines.append) as stack:
        pids = stack.pids
        assert set(pids) == {'arm', 'camera', 'lifecycle_manager'}
        until(lambda: stack.poll() or any('active: arm' in line for line in lines), 30.0, 'arm')
        until(lambda: stack.poll() or 'lifecycle_manager' not in stack.pids, 30.0, 'its end')
    assert not any(alive(pid) for pid in pids.values())
    assert stack.pids == {}
    assert any(line.startswith('[camera] ') for line in lines)


def test_the_same_namespace_can_be_used_again_after_a_stop(frames):
    for _ in range(2):
        with Launcher(hardware(frames), output=lambda line: None):
            pass


def test_what_ends_soon_again_and_again_ends_the_stack(frames, monkeypatch):
    monkeypatch.setattr(launcher, 'RESPAWN_DELAY_S', 0.1)
    lines = []

    def crash():
        for pid in stack.pids.values():
            os.kill(pid, signal.SIGKILL)
    camera = NodeSpec('camera', {'camera': {'source': str(frames)}}, respawn=True)
    with Launcher([camera], output=lines.append) as stack, \
            pytest.raises(LaunchError, match='camera .* was ended by SIGKILL'):
        until(lambda: crash() or stack.poll(), 30.0, 'the end')
    assert sum('starting it again' in line for line in lines) == 2


def test_a_camera_that_was_never_there_is_not_tried_again(tmp_path):
    refused = Stack(tmp_path, 'hardware', 'robot:=mock', f'camera_source:={tmp_path / "nothing"}')
    assert refused.process.wait(60.0) == 1
    assert 'is no device, folder, video file' in refused.text
    assert '[launch] camera (process' in refused.text
    assert 'starting it again' not in refused.text


def test_a_closed_terminal_ends_everything_though_nothing_can_be_printed(tmp_path, frames):
    pid, terminal = pty.fork()
    if pid == 0:
        os.environ.pop('PYTHONUNBUFFERED', None)  # as people have it: a buffer to be flushed
        os.execv(sys.executable, [
            sys.executable, '-m', 'stable_crl_ros.cli', 'launch', 'hardware', 'robot:=mock',
            f'camera_source:={frames}'])
    read_until(terminal, 'active: arm')
    pids = children(pid)
    assert pids
    os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert not any(alive(child) for child in pids)


def test_a_process_that_does_not_listen_is_killed(frames, monkeypatch):
    monkeypatch.setattr(launcher, 'GRACE_S', 0.5)
    lines = []
    with Launcher(hardware(frames), output=lines.append) as stack:
        until(lambda: stack.poll() or any('active: arm' in line for line in lines), 30.0, 'arm')
        pid = stack.pids['arm']
        os.kill(pid, signal.SIGSTOP)
    assert not alive(pid)
    assert any('still there' in line and 'arm' in line for line in lines)


def test_user_s_own_dds_profile_and_discovery_range_are_kept():
    own = {PROFILE_VARIABLES[1]: '/lab.xml', 'ROS_AUTOMATIC_DISCOVERY_RANGE': 'SUBNET'}
    assert ros_environment(own) == own
    ours = ros_environment({})
    assert ours['ROS_AUTOMATIC_DISCOVERY_RANGE'] == 'LOCALHOST'
    assert Path(ours[PROFILE_VARIABLES[0]]).is_file()


def as_read_by_ros(name, *arguments):
    """Return the parameters that a node of this name gets out of `--ros-args` arguments."""
    rclpy = pytest.importorskip('rclpy')
    context = rclpy.context.Context()
    rclpy.init(args=['--ros-args', *arguments], context=context)
    try:
        node = rclpy.create_node(name, context=context,
                                 automatically_declare_parameters_from_overrides=True)
        found = {key: value.value for key, value in node._parameters.items()}
        namespace = node.get_namespace()
        node.destroy_node()
        return found, namespace
    finally:
        rclpy.try_shutdown(context=context)


@pytest.mark.parametrize('text', ['Y', 'n', 'on', '1e5', '08', '0o17', 'inf', 'NaN', '.5', '~',
                                  '', 'Zoë\'s "arm": no. 1', 'two\nlines'])
def test_a_text_reaches_a_node_as_the_text_it_is(tmp_path, text):
    spec = NodeSpec('episode_logger', {'episode_logger': {
        'operator': text, 'tags': [text], 'max_steps': 8, 'record_on_start': True}})
    file, = spec.write_overrides(tmp_path)
    found, _ = as_read_by_ros('episode_logger', '--params-file', str(file))
    assert (found['operator'], found['tags']) == (text, [text])
    assert (found['max_steps'], found['record_on_start']) == (8, True)


def test_a_node_that_is_started_by_hand_gets_what_its_stack_was_told():
    spec = {spec.name: spec for spec in GRAPHS['collect'].specs(
        {'robot': 'mock', 'teleop': 'keyboard', 'control_rate': '4'})}['teleop']
    program, verb, package, executable, flag, *arguments = shlex.split(spec.command('left'))
    assert [program, verb, package, executable, flag] == [
        'ros2', 'run', 'stable_crl_ros', 'teleop', '--ros-args']
    found, namespace = as_read_by_ros('teleop', *arguments)
    assert (found['device'], found['control_rate'], found['key_hold']) == ('keyboard', 4.0, 0.15)
    assert namespace == '/left'
