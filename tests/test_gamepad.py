"""Gamepads: real input_event structs through evdev's own parser, from a terminal line's end."""

import errno
import os

import numpy as np
from pad_line import CROSS, ecodes, FACE, Line, PADS, XBOX
import pytest
from stable_crl_ros.teleop import udev
from stable_crl_ros.teleop.device import AbsentError, DeviceError, EVENTS, HotPlug
from stable_crl_ros.teleop.gamepad import explain, fingerprint, Gamepad, open_gamepad
from stable_crl_ros.teleop.pad import BUTTONS, HELP, SHIFTED_EVENTS
from stable_crl_ros.teleop.pad import EVENTS as PAD_EVENTS


@pytest.fixture
def plug():
    """Give a function that plugs a pad in: (line, gamepad)."""
    lines = []

    def make(pad='xbox', **options):
        lines.append(Line(*PADS[pad], **options))
        return lines[-1], Gamepad(lines[-1])
    yield make
    for line in lines:
        line.close()


def rest(line, *axes):
    """Say that these axes are in the middle of their range."""
    line.send(*((axis, sum(line._ranges[ecodes.ecodes[axis]]) // 2) for axis in axes))


@pytest.mark.parametrize(('pad', 'right', 'shoulder'), [
    ('xbox', ('ABS_RX', 'ABS_RY'), 'BTN_TL'), ('dualsense', ('ABS_RX', 'ABS_RY'), 'BTN_TL'),
    ('switch', ('ABS_RX', 'ABS_RY'), 'BTN_TL'), ('bluetooth', ('ABS_Z', 'ABS_RZ'), 'BTN_TL'),
    ('direct input', ('ABS_Z', 'ABS_RZ'), 'BTN_TOP2')])
def test_sticks_of_every_pad_mean_the_same(plug, pad, right, shoulder):
    line, gamepad = plug(pad)
    rest(line, 'ABS_X', 'ABS_Y', *right)
    low = {axis: line._ranges[ecodes.ecodes[axis]][0] for axis in ('ABS_X', 'ABS_Y', *right)}
    high = {axis: line._ranges[ecodes.ecodes[axis]][1] for axis in ('ABS_X', 'ABS_Y', *right)}
    line.send((shoulder, 1), ('ABS_Y', low['ABS_Y']), ('ABS_X', high['ABS_X']),
              (right[0], low[right[0]]), (right[1], low[right[1]]))
    given = gamepad.poll(0.0)
    # Left stick forward and right: forward, right. Right stick up and left: up, yaw to the left.
    np.testing.assert_allclose(given.axes, [1, -1, 1, 0, 0, 1], atol=0.01)
    assert given.deadman


def test_with_the_right_shoulder_button_the_left_stick_turns(plug):
    line, gamepad = plug()
    line.send(('BTN_TL', 1), ('BTN_TR', 1), ('ABS_Y', -32768), ('ABS_X', 32767))
    # Forward is nose down, +pitch about left; right is right side down, +roll about forward.
    np.testing.assert_allclose(gamepad.poll(0.0).axes, [0, 0, 0, 1, 1, 0], atol=0.01)


def test_without_the_shoulder_button_nothing_steers(plug):
    line, gamepad = plug()
    line.send(('ABS_Y', -32768))
    assert not gamepad.poll(0.0).deadman
    line.send(('BTN_TL', 1))
    assert gamepad.poll(0.1).deadman
    line.send(('BTN_TL', 0))
    assert not gamepad.poll(0.2).deadman


@pytest.mark.parametrize(('events', 'asked'), [
    ([('BTN_EAST', 1)], 'stop_arm'), ([('BTN_START', 1)], 'start_episode'),
    ([('ABS_HAT0X', 1)], 'end_success'), ([('ABS_HAT0X', -1)], 'end_failure'),
    ([('BTN_SELECT', 1)], 'discard_episode'), ([('ABS_HAT0Y', -1)], 'faster'),
    ([('BTN_NORTH', 1)], 'frame'), ([('BTN_WEST', 1)], 'frame'), ([('ABS_RZ', 255)], 'gripper'),
    ([('ABS_Z', 255), ('ABS_HAT0X', 1)], 'label_success'),
    ([('ABS_Z', 255), ('ABS_HAT0Y', -1)], 'home_arm'),
    ([('ABS_Z', 255), ('BTN_SOUTH', 1)], 'clear_faults')])
def test_buttons_ask_for_events_once(plug, events, asked):
    line, gamepad = plug()
    line.send(*events)
    assert gamepad.poll(0.0).events == (asked,)
    line.send(*events)
    assert gamepad.poll(0.1).events == ()


def test_a_trigger_that_trembles_at_the_threshold_asks_once(plug):
    line, gamepad = plug()
    for value in (140, 160, 150, 158, 130, 160, 110, 170):
        line.send(('ABS_RZ', value))
    assert gamepad.poll(0.0).events == ('gripper',)
    line.send(('ABS_RZ', 50))
    line.send(('ABS_RZ', 200))
    assert gamepad.poll(0.1).events == ('gripper',)


def test_a_press_shorter_than_a_poll_still_counts(plug):
    line, gamepad = plug()
    line.send(('BTN_EAST', 1))
    line.send(('BTN_EAST', 0))
    assert gamepad.poll(0.0).events == ('stop_arm',)


def test_every_event_has_a_button():
    assert {*PAD_EVENTS.values(), *SHIFTED_EVENTS.values()} == set(EVENTS)
    assert {*PAD_EVENTS, *SHIFTED_EVENTS} <= set(BUTTONS)
    assert all(word in HELP for word in ('STOP', 'home', 'sleep', 'discard', 'label', 'faults'))


def test_events_the_kernel_dropped_are_made_up_for_by_asking_it(plug):
    line, gamepad = plug()
    line.send(('BTN_TL', 1))
    assert gamepad.poll(0.0).deadman
    # The release is lost: the kernel's buffer ran over. What it says when asked counts.
    line.state[ecodes.ABS_Y] = -32768
    line.send(('SYN_DROPPED', 0), ('BTN_EAST', 1))
    given = gamepad.poll(0.1)
    assert not given.deadman and given.events == ()
    assert given.axes[0] == pytest.approx(1.0)


@pytest.mark.parametrize(('buttons', 'axes'), [
    (('KEY_A', 'KEY_ENTER'), {}), (FACE, CROSS), (('BTN_LEFT',), XBOX[1]),
    (('BTN_SOUTH',), XBOX[1])])
def test_what_is_no_gamepad_is_refused_with_a_way_out(buttons, axes):
    line = Line(buttons, axes, name='Odd Thing')
    try:
        with pytest.raises(DeviceError, match='Odd Thing has no (two sticks|shoulder).*joy'):
            Gamepad(line)
    finally:
        line.close()


def test_a_pad_that_goes_lets_go_says_so_once_and_comes_back(plug):
    said, here, lines = [], ['event3'], []

    def opening():
        if not here:
            raise AbsentError('no gamepad is plugged in')
        line, gamepad = plug(name='Pad')
        lines.append(line)
        return gamepad
    device = HotPlug(opening, lambda: tuple(here), said.append)
    device.connect()
    device.poll(0.0)
    lines[0].send(('BTN_TL', 1))
    assert device.poll(0.1).deadman
    here.clear()
    lines[0].unplug()
    assert not any(device.poll(0.1 * i).deadman for i in range(2, 9))
    assert len(said) == 1 and 'Pad is gone' in said[0] and device.name == ''
    here.append('event3')
    device.poll(1.0)
    assert device.name == 'Pad' and len(said) == 2 and 'let go' in said[1]
    lines[1].send(('BTN_TL', 1))
    device.poll(1.1)
    assert len(lines) == 2


def test_a_pad_that_comes_with_its_deadman_held_does_not_steer_before_it_was_let_go(plug):
    line = Line(*XBOX)
    line.pressed = {ecodes.BTN_TL}
    device = HotPlug(lambda: Gamepad(line), lambda: None, lambda text: None)
    device.connect()
    line.send(('ABS_Y', -32768))
    steers = [device.poll(0.0).deadman]
    for value in (0, 1):
        line.send(('BTN_TL', value))
        steers.append(device.poll(0.1).deadman)
    line.close()
    assert steers == [False, False, True]


def test_an_empty_machine_has_no_gamepad(tmp_path):
    with pytest.raises(AbsentError, match='no gamepad is plugged in'):
        open_gamepad(tmp_path)
    (tmp_path / 'event0').touch()  # no input device at all
    with pytest.raises(AbsentError):
        open_gamepad(tmp_path)


def test_a_refusal_names_what_was_found_and_how_to_get_permission():
    text = explain(['AT Keyboard (/dev/input/event0)'], ['Xbox Pad (/dev/input/event5)'])
    for part in ('AT Keyboard', 'Xbox Pad (/dev/input/event5)', udev.FILE, 'usermod -aG input'):
        assert part in text
    assert 'usermod' not in explain(['AT Keyboard'], [])


def test_a_device_that_becomes_readable_changes_the_fingerprint(tmp_path):
    look = fingerprint(tmp_path)
    before = look()
    (tmp_path / 'event0').touch()
    there = look()
    os.chmod(tmp_path / 'event0', 0o600)
    assert len({before, there, look()}) == 3


def test_a_read_that_fails_means_unplugged(plug):
    class Failing:
        def __init__(self, line):
            self.__dict__.update(line.__dict__)
            self.capabilities, self.absinfo = line.capabilities, line.absinfo
            self.active_keys, self.close = line.active_keys, line.close

        def read(self):
            raise OSError(errno.ENODEV, os.strerror(errno.ENODEV))
    line, _ = plug()
    gamepad = Gamepad(Failing(line))
    line.send(('BTN_TL', 1))
    with pytest.raises(DeviceError, match='unplugged: .*No such device'):
        gamepad.poll(0.0)
