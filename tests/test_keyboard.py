"""Keyboard teleoperation: keys to actions and events, and reading a real terminal."""

import contextlib
import math
import os
import termios

import numpy as np
import pytest
from stable_crl_ros.actions import BRIDGE_HIGH
from stable_crl_ros.teleop.keyboard import (
    EVENT_KEYS,
    HELP,
    Keyboard,
    MOTION_KEYS,
    parse_keys,
    Terminal,
    TerminalError,
)


@pytest.fixture
def terminal():
    """Give both ends of a real terminal: what the keyboard types into, what a program reads."""
    typing, reading = os.openpty()
    yield typing, reading
    for end in (typing, reading):
        with contextlib.suppress(OSError):
            os.close(end)


@pytest.mark.parametrize(('key', 'axis', 'sign'), [
    ('w', 0, 1), ('s', 0, -1), ('a', 1, 1), ('d', 1, -1), ('r', 2, 1), ('f', 2, -1),
    ('l', 3, 1), ('j', 3, -1), ('i', 4, 1), ('k', 4, -1), ('u', 5, 1), ('o', 5, -1),
    ('up', 0, 1), ('left', 1, 1), ('W', 0, 1),
])
def test_a_key_moves_one_axis_of_base_link(key, axis, sign):
    keyboard = Keyboard(speed=0.5, gripper=1.0)
    assert keyboard.press(key, 1.0) is None
    expected = np.array([0, 0, 0, 0, 0, 0, 1.0])
    expected[axis] = sign * 0.5 * BRIDGE_HIGH[axis]
    np.testing.assert_allclose(keyboard.action(1.0), expected)


def test_nothing_is_asked_for_without_a_key():
    assert Keyboard().action(5.0) is None


def test_letting_go_lets_the_arm_go():
    keyboard = Keyboard(hold_s=0.15)
    keyboard.press('w', 1.0)
    assert keyboard.action(1.14) is not None
    keyboard.press('w', 1.14)
    assert keyboard.action(1.28) is not None
    assert keyboard.action(1.30) is None


def test_two_keys_move_two_axes_and_the_later_of_two_opposites_wins():
    keyboard = Keyboard(speed=1.0, gripper=0.0)
    for key in 'wrs':
        keyboard.press(key, 1.0)
    np.testing.assert_allclose(keyboard.action(1.0)[:3], [-0.05, 0, 0.05])


def test_the_gripper_key_toggles_and_is_sent_without_motion():
    keyboard = Keyboard(gripper=1.0)
    keyboard.press(' ', 1.0)
    np.testing.assert_array_equal(keyboard.action(1.0), np.zeros(7))
    keyboard.press(' ', 1.1)
    assert keyboard.action(1.1)[6] == 1.0
    assert keyboard.action(2.0) is None


def test_an_unknown_gripper_is_not_commanded_until_the_key_is_pressed():
    keyboard = Keyboard()
    keyboard.press('w', 1.0)
    assert math.isnan(keyboard.action(1.0)[6])
    keyboard.press(' ', 1.0)
    assert keyboard.action(1.0)[6] == 0.0


def test_speed_stays_within_its_range():
    keyboard = Keyboard()
    for _ in range(20):
        keyboard.press('+', 1.0)
    assert keyboard.speed == 1.0
    keyboard.press('w', 1.0)
    assert keyboard.action(1.0)[0] == pytest.approx(BRIDGE_HIGH[0])
    for _ in range(40):
        keyboard.press('-', 1.0)
    assert keyboard.speed == pytest.approx(0.1)


def test_stop_forgets_every_held_key():
    keyboard = Keyboard()
    keyboard.press('w', 1.0)
    assert keyboard.press('escape', 1.0) == 'stop_arm'
    assert keyboard.action(1.0) is None


def test_no_key_means_two_things_and_all_are_explained():
    assert not set(MOTION_KEYS) & set(EVENT_KEYS)
    words = set(HELP.replace('/', ' ').split())
    single = {key for key in (*MOTION_KEYS, *EVENT_KEYS) if len(key) == 1}
    assert single <= words


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
