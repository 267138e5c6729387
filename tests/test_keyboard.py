"""The keyboard as a device: keys to input and events, and reading a real terminal."""

import contextlib
import os
import termios

import numpy as np
import pytest
from stable_crl_ros.teleop.device import EVENTS
from stable_crl_ros.teleop.keyboard import EVENT_KEYS, HELP, Keyboard, MOTION_KEYS
from stable_crl_ros.teleop.terminal import parse_keys, Terminal, TerminalError


@pytest.fixture
def terminal():
    """Give both ends of a real terminal: what the keyboard types into, what a program reads."""
    typing, reading = os.openpty()
    yield typing, reading
    for end in (typing, reading):
        with contextlib.suppress(OSError):
            os.close(end)


def press(keyboard, keys, now):
    """Press keys one after the other; returns the events asked for."""
    return [keyboard.press(key, now) for key in keys]


@pytest.mark.parametrize(('key', 'axis', 'sign'), [
    ('w', 0, 1), ('s', 0, -1), ('a', 1, 1), ('d', 1, -1), ('r', 2, 1), ('f', 2, -1),
    ('l', 3, 1), ('j', 3, -1), ('i', 4, 1), ('k', 4, -1), ('u', 5, 1), ('o', 5, -1),
    ('up', 0, 1), ('left', 1, 1), ('W', 0, 1),
])
def test_a_key_moves_one_axis(key, axis, sign):
    keyboard = Keyboard()
    assert keyboard.press(key, 1.0) is None
    expected = np.zeros(6)
    expected[axis] = sign
    given = keyboard.poll(1.0)
    np.testing.assert_array_equal(given.axes, expected)
    assert given.deadman


def test_a_held_key_is_the_deadman():
    keyboard = Keyboard(hold_s=0.15)
    assert not keyboard.poll(5.0).deadman
    keyboard.press('w', 1.0)
    assert keyboard.poll(1.14).deadman
    keyboard.press('w', 1.14)
    assert keyboard.poll(1.28).deadman
    released = keyboard.poll(1.30)
    assert not released.deadman and not released.axes.any()


def test_two_keys_move_two_axes_and_the_later_of_two_opposites_wins():
    keyboard = Keyboard()
    press(keyboard, 'wrs', 1.0)
    np.testing.assert_array_equal(keyboard.poll(1.0).axes[:3], [-1, 0, 1])


def test_the_gripper_key_is_held_without_motion():
    keyboard = Keyboard()
    assert keyboard.press(' ', 1.0) == 'gripper'
    given = keyboard.poll(1.0)
    assert given.deadman and not given.axes.any()
    assert not keyboard.poll(2.0).deadman


def test_a_key_held_down_asks_once_but_a_stop_always_counts():
    keyboard = Keyboard()
    held = [keyboard.press('1', 1.0 + pause) for pause in (0.0, 0.5, 0.53, 0.56)]
    assert held == ['start_episode', None, None, None]
    assert keyboard.press('1', 3.0) == 'start_episode'
    assert press(keyboard, ('x', 'x', 'c', 'x'), 4.0) == ['stop_arm', 'stop_arm', 'resume_arm',
                                                          'stop_arm']


def test_stop_forgets_every_held_key():
    keyboard = Keyboard()
    keyboard.press('w', 1.0)
    assert keyboard.press('escape', 1.0) == 'stop_arm'
    assert not keyboard.poll(1.0).deadman


def test_beside_another_device_keys_ask_for_events_but_do_not_steer():
    keyboard = Keyboard(moves=False)
    assert press(keyboard, ('w', ' ', 'x'), 1.0) == [None, 'gripper', 'stop_arm']
    assert not keyboard.poll(1.0).deadman


def test_every_event_has_a_key_no_key_means_two_things_and_all_are_explained():
    assert set(EVENT_KEYS.values()) == set(EVENTS)
    assert not set(MOTION_KEYS) & set(EVENT_KEYS)
    words = {*HELP.replace('/', ' ').split(), ' ', '=', '_'}  # space is spelt out; = _ are + -
    assert {key for key in (*MOTION_KEYS, *EVENT_KEYS) if len(key) == 1} <= words


@pytest.mark.parametrize(('data', 'keys'), [
    (b'wa', ['w', 'a']),
    (b'\x1b[A\x1b[D', ['up', 'left']),
    (b'\x1bOB', ['down']),
    (b'\x1b', ['escape']),
    (b'\x1bw', ['escape', 'w']),
    (b'\x1b[15~w', ['w']),
    ('ä'.encode(), []),
    (b'', []),
])
def test_bytes_of_a_terminal_become_keys(data, keys):
    assert parse_keys(data) == keys


def test_a_terminal_is_read_key_by_key_and_restored(terminal):
    typing, reading = terminal
    before = termios.tcgetattr(reading)
    with Terminal(reading) as keys:
        os.write(typing, b'w\x1b[A ')
        assert keys.read_keys(1.0) == ['w', 'up', ' ']
        assert keys.read_keys() == []
        assert not termios.tcgetattr(reading)[3] & termios.ECHO
    assert termios.tcgetattr(reading) == before


def test_what_is_no_terminal_is_refused(tmp_path):
    with open(tmp_path / 'keys', 'w+') as file, \
            pytest.raises(TerminalError, match='terminal of its own'), Terminal(file.fileno()):
        pass


def test_a_closed_terminal_is_noticed(terminal):
    typing, reading = terminal
    with Terminal(reading) as keys:
        os.close(typing)
        with pytest.raises(TerminalError, match='closed'):
            keys.read_keys(1.0)
