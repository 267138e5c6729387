"""Alignment: an action is stored with what was seen when it was decided on."""

import numpy as np
import pytest
from stable_crl_ros.data.alignment import Alignment, Sample, Track
from stable_crl_ros.robot.arm import ArmState

MS = 1_000_000


def picture(number):
    return np.full((2, 2, 3), number, np.uint8)


def state(stamp_ns):
    return ArmState(stamp_ns, np.full(6, stamp_ns / MS), np.zeros(6), np.zeros(6), 0.5)


def filled(*cameras, every_ms=100, offsets=(0, 7)):
    """Return an alignment with an image per 100 ms and camera, a state and a pose per 20 ms."""
    alignment = Alignment(cameras or ('main',), lambda content: content)
    for index, camera in enumerate(alignment.cameras):
        for number in range(10):
            stamp = (number * every_ms + offsets[index]) * MS
            alignment.images[camera].add(Sample(stamp, stamp + 5 * MS, picture(number)))
    for stamp in range(0, 1000 * MS, 20 * MS):
        alignment.states.add(Sample(stamp, stamp + MS, state(stamp)))
        alignment.poses.add(Sample(stamp, stamp + MS, np.full(7, stamp / MS)))
    return alignment


def test_the_image_whose_stamp_the_command_carries_is_the_one():
    seen = filled().seen_at(300 * MS, 0.5)
    assert seen.images['main'][0, 0, 0] == 3
    assert (seen.capture_stamp, seen.receive_stamp) == (300 * MS, 305 * MS)


def test_an_operators_command_gets_the_newest_image_it_could_have_been_made_on():
    assert filled().seen_at(399 * MS, 0.5).capture_stamp == 300 * MS


def test_states_are_those_of_the_moment_of_the_image():
    seen = filled().seen_at(399 * MS, 0.5)
    np.testing.assert_array_equal(seen.joint_positions, np.full(6, 300.0))
    np.testing.assert_array_equal(seen.ee_pose, np.full(7, 300.0))
    assert seen.gripper == 0.5


def test_a_second_camera_is_matched_to_the_first():
    seen = filled('main', 'wrist', offsets=(0, 60)).seen_at(300 * MS, 0.5)
    assert seen.images['main'][0, 0, 0] == 3
    assert seen.images['wrist'][0, 0, 0] == 2  # 260 ms is nearer than 360 ms


@pytest.mark.parametrize('stamp_ms', [-1, 2000])
def test_nothing_is_made_up_when_no_image_fits(stamp_ms):
    assert filled().seen_at(stamp_ms * MS, 0.5) is None


def test_a_step_needs_an_image_of_every_camera():
    alignment = filled('main', 'wrist')
    alignment.images['wrist'] = Track(10 ** 9)
    assert alignment.seen_at(300 * MS, 0.5) is None


def test_states_that_were_not_measured_stay_unknown():
    alignment = filled()
    alignment.states, alignment.poses = Track(10 ** 9), Track(10 ** 9)
    seen = alignment.seen_at(300 * MS, 0.5)
    assert np.isnan(seen.joint_positions).all() and np.isnan(seen.ee_pose).all()
    assert np.isnan(seen.gripper)


def test_what_came_after_is_the_first_image_not_older():
    alignment = filled()
    assert alignment.seen_after(301 * MS, 0.5).capture_stamp == 400 * MS
    assert alignment.seen_after(901 * MS, 0.5) is None


def test_samples_may_arrive_out_of_order():
    track = Track(10 ** 9)
    for stamp in (30, 10, 20):
        track.add(Sample(stamp, stamp, None))
    assert [track.before(25).stamp_ns, track.after(25).stamp_ns, track.newest.stamp_ns] == \
        [20, 30, 30]
    assert track.before(5) is None and track.after(31) is None


def test_old_samples_are_forgotten():
    track = Track(100)
    for stamp in range(0, 1000, 10):
        track.add(Sample(stamp, stamp, None))
    assert track.before(880) is None
    assert track.before(890).stamp_ns == 890
