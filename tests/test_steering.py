"""From input to actions: deadman, dead zone, speed, frames, gripper; and the status lines."""

import io
import math
import os

import numpy as np
import pytest
from stable_crl_ros.actions import BRIDGE_HIGH
from stable_crl_ros.robot.poses import apply_delta, pose_from
from stable_crl_ros.teleop.device import OperatorInput, Together
from stable_crl_ros.teleop.keyboard import Keyboard
from stable_crl_ros.teleop.screen import Screen
from stable_crl_ros.teleop.steering import in_base, LEVELS, Shape, Steering

FORWARD = np.array([1.0, 0, 0, 0, 0, 0])
LINEAR = Shape(dead_zone=0.0, curve=0.0)


def steering(axes=FORWARD, deadman=True, events=(), now=1.0, **options):
    """Return a steering that has just been given this."""
    made = Steering(shape=LINEAR, **options)
    made.take(OperatorInput(axes, deadman, tuple(events)), now)
    return made


def test_nothing_is_asked_for_without_the_deadman_and_holding_it_is_enough():
    assert steering(deadman=False).action(None) is None
    held = steering(np.zeros(6))
    held.follow(0.3)
    np.testing.assert_array_equal(held.action(None), [0, 0, 0, 0, 0, 0, 0.3])


def test_full_deflection_at_full_speed_is_the_largest_step():
    full = steering(np.ones(6), speed=1.0)
    np.testing.assert_allclose(full.action(None)[:6], BRIDGE_HIGH[:6])


def test_a_stick_within_the_dead_zone_does_nothing_and_there_is_no_step_at_its_edge():
    shape = Shape(dead_zone=0.2, curve=0.5)
    deflections = np.linspace(-1, 1, 4001)
    values = np.array([shape(np.full(6, x))[0] for x in deflections])
    assert not values[np.abs(deflections) <= 0.2].any()
    assert np.abs(np.diff(values)).max() < 0.005 and (np.diff(values) >= 0).all()
    np.testing.assert_allclose([values[0], values[-1]], [-1, 1])


@pytest.mark.parametrize('nonsense', [math.nan, math.inf, -math.inf])
def test_a_deflection_that_is_no_number_is_none(nonsense):
    assert not steering(np.full(6, nonsense)).action(None)[:6].any()


def test_speed_goes_through_its_levels_and_no_further():
    made, speeds = Steering(speed=0.3), []
    for event in ['slower'] * 3 + ['faster'] * 6:
        made.take(OperatorInput(events=(event,)), 1.0)
        speeds.append(made.speed)
    assert speeds == [0.2, 0.1, 0.1, 0.2, 0.4, 0.7, 1.0, 1.0, 1.0]
    assert set(speeds) == set(LEVELS)


def test_events_of_others_are_handed_on_in_order():
    made = Steering()
    given = OperatorInput(events=('start_episode', 'faster', 'home_arm', 'frame'))
    assert made.take(given, 1.0) == ['start_episode', 'home_arm']
    assert made.frame == 'tool'


def test_the_gripper_toggles_and_a_bouncing_button_counts_once():
    made = steering(np.zeros(6), events=['gripper'], now=1.0)
    assert made.gripper == 0.0
    for now, expected in ((1.1, 0.0), (1.2, 0.0), (1.6, 1.0), (2.0, 0.0)):
        made.take(OperatorInput(deadman=True, events=('gripper',)), now)
        assert made.gripper == expected


@pytest.mark.parametrize(('known', 'half_way', 'after_toggle'), [
    (0.9, 0.45, 0.0), (0.1, 0.55, 1.0), (0.9, 0.1, 1.0)])
def test_half_way_the_gripper_counts_as_what_it_was(known, half_way, after_toggle):
    made = steering(np.zeros(6))
    made.follow(known)
    made.follow(half_way)
    made.take(OperatorInput(deadman=True, events=('gripper',)), 1.0)
    assert made.gripper == after_toggle


def test_the_gripper_does_not_answer_without_the_deadman():
    made = steering(deadman=False)
    made.follow(1.0)
    made.take(OperatorInput(events=('gripper',)), 1.0)
    assert made.gripper == 1.0


def test_a_press_of_the_grippers_key_is_sent_once_although_it_was_let_go_before_its_turn():
    made = steering(events=['gripper'])
    made.take(OperatorInput(FORWARD), 1.1)
    assert made.steers  # what is measured does not replace it
    np.testing.assert_array_equal(made.action(None), np.zeros(7))
    assert made.action(None) is None


def test_a_press_of_the_grippers_key_is_forgotten_with_a_stop():
    made = steering(events=['gripper', 'stop_arm'])
    made.take(OperatorInput(), 1.1)
    assert made.action(None) is None


def test_after_a_stop_the_deadman_must_be_let_go_once():
    made = steering(events=['stop_arm'])
    assert made.action(None) is None
    for deadman, steers in ((True, False), (False, False), (True, True)):
        made.take(OperatorInput(FORWARD, deadman), 1.0)
        assert (made.action(None) is not None) == steers


def test_the_tools_axes_are_those_of_the_measured_pose():
    down = pose_from(np.zeros(3), np.array([0.0, np.pi / 2, 0.0]))[:3, :3]  # fingers down
    action = steering(FORWARD, frame='tool', speed=1.0).action(down)
    np.testing.assert_allclose(action[:6], [0, 0, -BRIDGE_HIGH[0], 0, 0, 0], atol=1e-12)


def test_without_a_measured_pose_nothing_is_sent_in_the_tools_frame():
    assert steering(frame='tool').action(None) is None


def test_a_turn_about_the_tools_axes_is_the_same_turn_about_those_of_the_base():
    rng = np.random.default_rng(0)
    for _ in range(50):
        pose = pose_from(rng.uniform(-0.5, 0.5, 3), rng.uniform(-1.4, 1.4, 3))
        delta = rng.uniform(-0.2, 0.2, 6)
        moved = apply_delta(pose, in_base(delta, pose[:3, :3]))  # about the tool point
        np.testing.assert_allclose(moved, pose @ apply_delta(np.eye(4), delta), atol=1e-9)


def test_a_slanted_tool_never_asks_for_more_than_the_largest_step():
    slanted = pose_from(np.zeros(3), np.array([0.4, 0.6, 0.8]))[:3, :3]
    action = steering(np.ones(6), frame='tool', speed=1.0).action(slanted)
    assert np.max(np.abs(action[:6]) / np.array(BRIDGE_HIGH[:6])) == pytest.approx(1.0)


def test_of_two_devices_the_one_whose_deadman_is_held_steers_and_events_of_both_count():
    first, second = Keyboard(moves=False), Keyboard()
    both = Together([first, second])
    first.press('w', 1.0)
    second.press('d', 1.0)
    given = both.poll(1.0)
    np.testing.assert_array_equal(given.axes, [0, -1, 0, 0, 0, 0])
    assert given.deadman and both.name == 'keyboard + keyboard'


class TestScreen:
    """The status on a real terminal, and where there is none."""

    @pytest.fixture
    def terminal(self):
        seen, drawn = os.openpty()
        with open(drawn, 'w') as stream:
            yield seen, stream
        os.close(seen)

    def test_lines_are_drawn_over_the_last_ones_and_cut_to_the_width(self, terminal):
        seen, stream = terminal
        screen = Screen(stream)
        screen.draw(['one', 'x' * 500])
        assert os.read(seen, 1000) == b'\r\x1b[Kone\r\n\r\x1b[K' + b'x' * 79 + b'\r\x1b[A'
        screen.draw(['two', 'three'])
        assert os.read(seen, 1000) == b'\r\x1b[Ktwo\r\n\r\x1b[Kthree\r\x1b[A'

    def test_clearing_leaves_an_empty_place_for_a_log_line(self, terminal):
        seen, stream = terminal
        screen = Screen(stream)
        screen.draw(['one', 'two'])
        os.read(seen, 1000)
        screen.clear()
        assert os.read(seen, 1000) == b'\r\x1b[J'

    def test_nothing_is_drawn_where_there_is_no_terminal(self):
        stream = io.StringIO()
        screen = Screen(stream)
        screen.draw(['one'])
        screen.clear()
        assert stream.getvalue() == '' and not screen.is_terminal
