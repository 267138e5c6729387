"""What all nodes inherit: parameters, lifecycle, diagnostics, and the process around them."""

import os
import signal
import subprocess
import sys
import time

import pytest

pytest.importorskip('rclpy')

from diagnostic_msgs.msg import DiagnosticArray
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState, GetState
from rcl_interfaces.srv import DescribeParameters, SetParameters
from rclpy.exceptions import InvalidParameterValueException
from rclpy.parameter import Parameter
from stable_crl_ros.nodes.common import (
    Diagnostics,
    ManagedNode,
    NotReadyError,
    param,
    StartupError,
    value,
    WARN,
)
from stable_crl_ros.nodes.process import refuse_duplicate
from waiting import alive, wait_for


class Device(ManagedNode):
    """A managed node whose every step can be made to fail."""

    def __init__(self, **kwargs):
        super().__init__('device', **kwargs)
        self.calls = []
        self.failure = {}
        param(self, 'rate', 5.0, 'Rate (Hz)', low=0.5, high=50.0)
        param(self, 'count', 3, 'Count', low=0)
        param(self, 'kind', 'soft', 'Kind', choices=('soft', 'hard'))
        param(self, 'fixed', 'a', 'Fixed', read_only=True)

    def _do(self, step):
        self.calls.append(step)
        if step in self.failure:
            raise self.failure[step]

    def setup(self):
        """Acquire."""
        self._do('setup')

    def start(self):
        """Begin."""
        self._do('start')

    def stop(self):
        """Cease."""
        self._do('stop')

    def teardown(self):
        """Release."""
        self._do('teardown')


@pytest.fixture
def device(ros):
    return ros.add(Device(context=ros.context))


def change(ros, name):
    transition = getattr(Transition, f'TRANSITION_{name}')
    request = ChangeState.Request(transition=Transition(id=transition))
    return ros.call(ChangeState, 'device/change_state', request).success


def state(ros):
    return ros.call(GetState, 'device/get_state').current_state.label


def test_the_full_cycle_runs_twice(ros, device):
    for _ in range(2):
        device.calls.clear()
        for name in ('CONFIGURE', 'ACTIVATE'):
            assert change(ros, name)
        assert device.active
        assert change(ros, 'DEACTIVATE')
        assert not device.active
        assert change(ros, 'CLEANUP')
        assert device.calls == ['setup', 'start', 'stop', 'teardown']
        assert state(ros) == 'unconfigured'


def test_an_illegal_transition_is_refused_and_the_node_lives_on(ros, device):
    assert not change(ros, 'ACTIVATE')
    assert state(ros) == 'unconfigured'
    assert change(ros, 'CONFIGURE')


def test_a_transition_of_an_unknown_name_is_refused(ros, device):
    request = ChangeState.Request(transition=Transition(label='levitate'))
    assert not ros.call(ChangeState, 'device/change_state', request).success
    assert change(ros, 'CONFIGURE')


def test_what_time_may_lift_is_warned_of_only_after_some_seconds(ros, device, capfd, monkeypatch):
    change(ros, 'CONFIGURE')
    device.failure = {'start': NotReadyError('no goal yet')}
    assert not change(ros, 'ACTIVATE') and not change(ros, 'ACTIVATE')
    assert device.refusal == 'cannot activate: no goal yet'
    assert 'WARN' not in capfd.readouterr().err
    monkeypatch.setattr('stable_crl_ros.nodes.common.PATIENCE_S', 0.0)
    assert not change(ros, 'ACTIVATE')
    assert 'cannot activate: no goal yet' in capfd.readouterr().err
    device.failure = {}
    assert change(ros, 'ACTIVATE')


@pytest.mark.parametrize(('step', 'before', 'after', 'undone'), [
    ('setup', [], 'unconfigured', 'teardown'), ('start', ['CONFIGURE'], 'inactive', 'stop')])
def test_a_refusal_is_kept_undone_and_can_be_tried_again(ros, device, step, before, after, undone):
    for name in before:
        change(ros, name)
    device.failure = {step: ValueError('no such thing; plug it in')}
    name = {'setup': 'CONFIGURE', 'start': 'ACTIVATE'}[step]
    assert not change(ros, name)
    assert state(ros) == after
    assert device.calls[-1] == undone
    assert 'plug it in' in device.refusal
    assert not device.active
    device.failure = {}
    assert change(ros, name)
    assert device.refusal == ''


def test_a_bug_in_a_transition_is_logged_and_leaves_the_node_unconfigured(ros, device, capfd):
    change(ros, 'CONFIGURE')
    device.failure = {'start': KeyError('bug')}
    assert not change(ros, 'ACTIVATE')
    assert state(ros) == 'unconfigured'
    assert device.calls[-2:] == ['stop', 'teardown']
    assert "KeyError: 'bug'" in capfd.readouterr().err


def test_shutting_down_while_active_stops_and_releases(ros, device):
    change(ros, 'CONFIGURE')
    change(ros, 'ACTIVATE')
    assert change(ros, 'ACTIVE_SHUTDOWN')
    assert device.calls[-2:] == ['stop', 'teardown']
    assert not device.active


def test_destroying_an_active_node_stops_and_releases(ros):
    device = Device(context=ros.context)
    device.trigger_configure()
    device.trigger_activate()
    device.destroy_node()
    assert device.calls == ['setup', 'start', 'stop', 'teardown']


@pytest.mark.parametrize(('name', 'wrong', 'reason'), [
    ('rate', 0.4, 'out of range'), ('rate', 51.0, 'out of range'), ('rate', float('nan'), 'range'),
    ('rate', float('inf'), 'out of range'), ('count', -1, 'out of range'),
    ('kind', 'wet', 'choose one of soft, hard'), ('fixed', 'b', 'read-only'),
    ('rate', 5, 'type')])
def test_a_wrong_value_is_refused_with_the_reason_and_changes_nothing(
        ros, device, name, wrong, reason):
    before = value(device, name)
    request = SetParameters.Request(parameters=[Parameter(name, value=wrong).to_parameter_msg()])
    result = ros.call(SetParameters, 'device/set_parameters', request).results[0]
    assert not result.successful
    assert reason in result.reason
    assert value(device, name) == before


def test_a_right_value_is_taken(ros, device):
    request = SetParameters.Request(parameters=[
        Parameter('rate', value=50.0).to_parameter_msg(),
        Parameter('kind', value='hard').to_parameter_msg()])
    results = ros.call(SetParameters, 'device/set_parameters', request).results
    assert all(result.successful for result in results)
    assert (value(device, 'rate'), value(device, 'kind')) == (50.0, 'hard')


def test_parameters_describe_themselves(ros, device):
    answer = ros.call(DescribeParameters, 'device/describe_parameters',
                      DescribeParameters.Request(names=['rate', 'kind']))
    rate, kind = answer.descriptors
    assert rate.description == 'Rate (Hz)'
    assert rate.floating_point_range[0].to_value == 50.0
    assert kind.additional_constraints == 'one of soft, hard'


@pytest.mark.parametrize(('name', 'wrong'), [
    ('rate', 0.1), ('count', -5), ('kind', 'wet'), ('rate', float('nan'))])
def test_a_wrong_override_is_refused_at_the_start(ros, name, wrong):
    with pytest.raises(InvalidParameterValueException, match=name):
        Device(context=ros.context, parameter_overrides=[Parameter(name, value=wrong)])


def test_a_whole_number_for_a_float_is_refused_with_the_way_to_write_it(ros):
    with pytest.raises(StartupError, match='write 5.0 rather than 5'):
        Device(context=ros.context, parameter_overrides=[Parameter('rate', value=5)])


def test_diagnostics_name_their_node_and_carry_values(ros):
    node = ros.node('worker', namespace='widowx')
    found = []
    ros.node('health').create_subscription(
        DiagnosticArray, '/diagnostics', lambda m: found.extend(m.status), 10)
    Diagnostics(node, 'servo 7').add('queue', lambda: (WARN, 'nearly full', {'length': 9}))
    status = ros.spin_until(lambda: found)[0]
    assert status.name == '/widowx/worker: queue'
    assert (status.level, status.message, status.hardware_id) == (WARN, 'nearly full', 'servo 7')
    assert [(v.key, v.value) for v in status.values] == [('length', '9')]


def test_a_second_node_of_the_same_name_is_refused_until_the_first_is_gone(ros):
    first, second = ros.node('twin', namespace='a'), ros.node('twin', namespace='a')
    other = ros.node('twin', namespace='b')
    claim = refuse_duplicate(first)
    with pytest.raises(StartupError, match='/a/twin already runs on this machine'):
        refuse_duplicate(second)
    refuse_duplicate(other).close()
    claim.close()
    refuse_duplicate(second).close()


SCRIPT = """
import sys
from rclpy.node import Node
from stable_crl_ros.nodes.common import param, spin_node

class Sleeper(Node):
    def __init__(self):
        super().__init__('sleeper')
        param(self, 'mood', 'calm', 'Mood', choices=('calm', 'cross', 'buggy'))
        param(self, 'rate', 1.0, 'Rate (Hz)', low=0.1)
        self.create_timer(0.05, self.tick)

    def tick(self):
        print('ticking', flush=True)
        if self.get_parameter('mood').value == 'buggy':
            raise KeyError('bug')

    def destroy_node(self):
        print('closed', flush=True)
        super().destroy_node()

sys.exit(spin_node(Sleeper))
"""


def run(*arguments, environment=None):
    process = subprocess.Popen(
        [sys.executable, '-c', SCRIPT, '--ros-args', *arguments], stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True, env={**os.environ, **(environment or {})})
    return process


def finish(process):
    out, err = process.communicate(timeout=60.0)
    return process.returncode, out, err


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_process_closes_its_node_and_exits_0(number):
    process = run()
    assert process.stdout.readline() == 'ticking\n'
    process.send_signal(number)
    code, out, err = finish(process)
    assert (code, err) == (0, '')
    assert out.endswith('closed\n')


def test_a_second_interrupt_while_closing_changes_nothing():
    process = run()
    assert process.stdout.readline() == 'ticking\n'
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGINT)
    code, out, err = finish(process)
    assert (code, err) == (0, '')
    assert out.endswith('closed\n')


@pytest.mark.parametrize(('arguments', 'reason'), [
    (('-p', 'mood:=odd'), 'choose one of calm, cross'), (('-p', 'rate:=0.01'), 'out of range'),
    (('-p', 'rate:=3'), 'write 5.0 rather than 5'),
    (('--params-file', '/nowhere.yaml'), '/nowhere.yaml'),
    (('mood:=calm',), "not understood: ['mood:=calm']")])
def test_a_process_that_cannot_start_says_why_and_exits_1(arguments, reason):
    code, _, err = finish(run(*arguments))
    assert code == 1
    assert reason in err
    assert 'Traceback' not in err


@pytest.mark.parametrize('moment', ['before', 'after'])
def test_a_process_that_is_ended_while_it_starts_says_nothing_and_exits_0(moment):
    end = 'os.kill(os.getpid(), 15)\n        while rclpy.ok(): time.sleep(0.01)\n'
    made = "super().__init__('sleeper')\n"
    script = 'import os, rclpy, time\n' + SCRIPT.replace(
        made, f'{end}        {made}' if moment == 'before' else f'{made}        {end}')
    process = subprocess.Popen([sys.executable, '-c', script], stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, text=True)
    code, _, err = finish(process)
    assert (code, err) == (0, '')


def test_a_bug_while_running_is_shown_and_exits_1():
    code, out, err = finish(run('-p', 'mood:=buggy'))
    assert code == 1
    assert "KeyError: 'bug'" in err
    assert out.endswith('closed\n')


def test_a_misspelt_parameter_is_refused_with_the_known_ones():
    code, _, err = finish(run('-p', 'moood:=calm'))
    assert code == 1
    assert "/sleeper has no parameter 'moood'; it has mood, rate" in err


def test_a_second_process_of_the_same_name_is_refused():
    first = run()
    first.stdout.readline()
    code, _, err = finish(run())
    assert code == 1
    assert '/sleeper already runs on this machine' in err
    first.send_signal(signal.SIGINT)
    assert finish(first)[0] == 0


def test_a_killed_process_can_be_started_again_at_once():
    first = run()
    first.stdout.readline()
    first.kill()
    first.communicate()
    second = run()
    assert second.stdout.readline() == 'ticking\n'
    time.sleep(1.0)  # the graph still shows the first one
    assert second.poll() is None
    second.send_signal(signal.SIGINT)
    assert finish(second)[0] == 0


LAUNCHER = """
import os, subprocess, sys, time
environment = {**os.environ, 'STABLE_CRL_PARENT_PID': str(os.getpid())}
with open(sys.argv[2], 'w') as log:
    child = subprocess.Popen([sys.executable, '-c', sys.argv[1]], stdout=log, env=environment)
print(child.pid, flush=True)
time.sleep(60)
"""


def test_a_node_ends_when_its_launcher_is_killed(tmp_path):
    log = tmp_path / 'log'
    launcher = subprocess.Popen([sys.executable, '-c', LAUNCHER, SCRIPT, str(log)],
                                stdout=subprocess.PIPE, text=True)
    child = int(launcher.stdout.readline())
    wait_for(lambda: 'ticking' in log.read_text())
    launcher.kill()
    launcher.communicate()
    wait_for(lambda: not alive(child))
    assert log.read_text().endswith('closed\n')


def test_a_parent_that_is_no_process_id_is_refused():
    code, _, err = finish(run(environment={'STABLE_CRL_PARENT_PID': 'me'}))
    assert code == 1
    assert "STABLE_CRL_PARENT_PID is 'me'" in err


def test_plain_nodes_may_be_several_in_one_process():
    script = SCRIPT.replace('spin_node(Sleeper)', 'spin_node(lambda: [Sleeper(), Node("other")])')
    meant_for_one = ['--ros-args', '-p', 'mood:=cross']
    process = subprocess.Popen([sys.executable, '-c', script, *meant_for_one],
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout.readline() == 'ticking\n'
    process.send_signal(signal.SIGINT)
    assert finish(process)[0] == 0


def test_waiting_outlives_a_machine_that_stands_still(ros):
    probe, turns = ros.node(), []

    def turn():
        time.sleep(0 if turns else 0.5)  # the first one stands still beyond the wait's seconds
        turns.append(True)
    probe.create_timer(0.01, turn)
    ros.spin_until(lambda: len(turns) > 3, timeout_s=0.3)
