"""The lifecycle manager as a process, bringing up managed nodes of this process."""

import subprocess
import sys

import pytest
from stable_crl_ros.nodes.common import ManagedNode


class Managed(ManagedNode):
    """A managed node that notes what happens, and refuses as often as it is told."""

    def __init__(self, name, events, refuse_setup=0, refuse_start=0, **kwargs):
        super().__init__(name, **kwargs)
        self._events, self._refuse = events, {'setup': refuse_setup, 'start': refuse_start}

    def _note(self, what):
        if self._refuse[what]:
            self._refuse[what] -= 1
            raise ValueError(f'no {what} yet')
        self._events.append((self.get_name(), what))

    def setup(self):
        self._note('setup')

    def start(self):
        self._note('start')


@pytest.fixture
def events():
    return []


@pytest.fixture
def manage(ros):
    """Run the manager on the nodes added so far; return its exit status and what it said."""
    started = []

    def run(names, **parameters):
        values = {'managed_nodes': f'[{", ".join(names)}]', **parameters}
        words = [word for name, value in values.items() for word in ('-p', f'{name}:={value}')]
        process = subprocess.Popen(
            [sys.executable, '-m', 'stable_crl_ros.nodes.lifecycle_manager', '--ros-args',
             *words],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        started.append(process)
        ros.spin_until(lambda: process.poll() is not None, 40.0, 'the end of the manager')
        return process.returncode, process.stdout.read()
    yield run
    for process in started:
        process.kill()
        process.communicate()


def test_configures_all_before_it_activates_any_in_the_order_given(ros, events, manage):
    for name in ('policy', 'arm'):
        ros.add(Managed(name, events, context=ros.context))
    status, text = manage(['arm', 'policy'], autostart='true')
    assert status == 0, text
    assert events == [('arm', 'setup'), ('policy', 'setup'), ('arm', 'start'),
                      ('policy', 'start')]


def test_only_configures_without_autostart(ros, events, manage):
    ros.add(Managed('arm', events, context=ros.context))
    status, text = manage(['arm'], autostart='false')
    assert status == 0
    assert events == [('arm', 'setup')]
    assert 'stable-crl lifecycle NAME activate' in text


def test_waits_for_what_an_activation_needs(ros, events, manage):
    ros.add(Managed('policy', events, refuse_start=2, context=ros.context))
    status, text = manage(['policy'], autostart='true')
    assert status == 0, text
    assert events == [('policy', 'setup'), ('policy', 'start')]


def test_leaves_an_active_node_alone(ros, events, manage):
    node = ros.add(Managed('arm', events, context=ros.context))
    node.trigger_configure()
    node.trigger_activate()
    events.clear()
    assert manage(['arm'], autostart='true')[0] == 0
    assert events == []


def test_refused_configuration_ends_it_and_names_the_node(ros, events, manage):
    ros.add(Managed('policy', events, refuse_setup=9, context=ros.context))
    status, text = manage(['policy'], autostart='true')
    assert status == 1
    assert 'policy refused to configure' in text


def test_refused_activation_ends_it_after_a_while(ros, events, manage):
    ros.add(Managed('policy', events, refuse_start=99, context=ros.context))
    status, text = manage(['policy'], autostart='true', activate_timeout='1.0')
    assert status == 1
    assert 'policy refused to activate for 1 s' in text


def test_absent_node_ends_it_and_is_named(manage):
    status, text = manage(['ghost'], appear_timeout='1.0')
    assert status == 1
    assert '/ghost/get_state gave no answer within 1 s' in text


def test_waits_for_a_path_before_it_configures_anything(ros, events, manage, tmp_path):
    ros.add(Managed('arm', events, context=ros.context))
    port = tmp_path / 'port'
    appears = ros.node('world').create_timer(1.0, port.touch)
    assert manage(['arm'], awaited_path=str(port))[0] == 0
    appears.cancel()
    assert port.exists() and events == [('arm', 'setup')]
    status, text = manage(['arm'], awaited_path=str(tmp_path / 'none'), appear_timeout=0.2)
    assert status == 1 and 'did not appear within 0.2 s' in text
