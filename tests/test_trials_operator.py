"""The operator's keys on a real terminal."""

import os
import threading
import time

import pytest
from stable_crl_ros.teleop.terminal import Terminal, TerminalError
from stable_crl_ros.trials.day import Acted, FAILURE, REDO, STOP, SUCCESS
from stable_crl_ros.trials.operator import Operator
from stable_crl_ros.trials.plan import Trial

pytestmark = pytest.mark.timeout(60)
TRIAL = Trial(7, 1, 0, 1, 12345)


@pytest.fixture
def desk():
    """Give an operator at a pseudo-terminal, what types on it, and what was said."""
    typing, reading = os.openpty()
    said = []
    with Terminal(reading) as terminal:
        yield Operator(terminal, said.append, 'anna'), lambda keys: os.write(typing, keys), said
    os.close(typing)
    os.close(reading)


@pytest.mark.parametrize(('keys', 'word'), [
    (b's', SUCCESS), (b'f', FAILURE), (b'r', REDO), (b'x', STOP), (b'\x1b', STOP),
    (b'zs', SUCCESS), (b'z', ''), (b'', ''), (b'\x1b[A', ''),
])
def test_a_key_ends_a_running_trial(desk, keys, word):
    operator, type_keys, _ = desk
    if keys:
        type_keys(keys)
    time.sleep(0.01)
    assert operator.watch() == word


@pytest.mark.parametrize(('keys', 'answer'), [(b'\n', ''), (b'sfx ', ''), (b'q', STOP)])
def test_a_trial_begins_on_a_key_that_comes_after_the_question(desk, keys, answer):
    operator, type_keys, said = desk
    type_keys(b'\n')  # too early: the scene was not set
    threading.Timer(0.1, lambda: type_keys(keys)).start()
    assert operator.ready(TRIAL, 40, 'drawer_open') == answer
    assert 'trial 7 of 40: goal drawer_open' in said[0]


def test_waiting_looks_after_the_stack(desk):
    operator, type_keys, _ = desk
    looked = []

    def look():
        looked.append(1)
        if len(looked) == 2:
            type_keys(b'\n')
    operator._idle = look
    operator.ready(TRIAL, 40, 'drawer_open')
    assert len(looked) > 1


def acted(word):
    return Acted(word, 3.0, 15, 'a' * 64)


@pytest.mark.parametrize(('word', 'keys', 'verdict'), [
    (SUCCESS, b'\n', (SUCCESS, '')),
    (SUCCESS, b'f\n', (FAILURE, '')),  # pressed the wrong one
    (FAILURE, b'r\n', (REDO, '')),
    ('', b's\n', (SUCCESS, '')),  # time was up
    ('', b'xf\n', (FAILURE, '')),
    (FAILURE, b'nhandle sk\x7flipped\n\n', (FAILURE, 'handle slipped')),
    (SUCCESS, b'nbad light\rf ', (FAILURE, 'bad light')),
])
def test_the_verdict_can_be_changed_and_noted_before_it_is_kept(desk, word, keys, verdict):
    operator, type_keys, _ = desk
    type_keys(keys)
    assert operator.verdict(acted(word)) == verdict


def test_what_is_said_never_tells_which_checkpoint_acts(desk):
    operator, type_keys, said = desk
    threading.Timer(0.1, lambda: type_keys(b'\n')).start()
    operator.ready(TRIAL, 40, 'drawer_open')
    type_keys(b's\n')
    operator.verdict(acted(''))
    text = ' '.join(said)
    assert 'aaa' not in text and '12345' not in text and 'checkpoint' not in text


def test_without_a_terminal_nobody_can_judge():
    reading, writing = os.pipe()
    with pytest.raises(TerminalError), Terminal(reading):
        pass
    os.close(reading)
    os.close(writing)
