"""Alignment: an action is stored with what was seen when it was decided on."""

import numpy as np
import pytest
from stable_crl_ros.data.alignment import Alignment, Sample, Track, UnseenError
from stable_crl_ros.robot.arm import ArmState

MS = 1_000_000


def picture(number):
    return np.full((2, 2, 3), number, np.uint8)


def state(stamp_ns):
    return ArmState(stamp_ns, np.full(6, stamp_ns / MS), np.zeros(6), np.zeros(6), 0.5)


def filled(*cameras, every_ms=100, offsets=(0, 7)):
    """Return an alignment with an image per 100 ms and camera, a state and a pose per 20 ms."""
    alignment = Alignment(cameras or ('main',), lambda camera, content: content)
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
    assert seen.ages == {'main': 0, 'joint_states': 0, 'ee_pose': 0}


def test_every_stream_gives_its_newest_sample_not_younger_than_the_tick_with_its_age():
    seen = filled('main', 'wrist', offsets=(0, 60)).seen_at(359 * MS, 0.5)
    assert seen.images['main'][0, 0, 0] == 3
    assert seen.images['wrist'][0, 0, 0] == 2  # 360 ms is nearer than 260 ms, but younger
    np.testing.assert_array_equal(seen.joint_positions, np.full(6, 340.0))
    np.testing.assert_array_equal(seen.ee_pose, np.full(7, 340.0))
    assert seen.gripper == 0.5
    assert seen.ages == {'main': 59 * MS, 'wrist': 99 * MS, 'joint_states': 19 * MS,
                         'ee_pose': 19 * MS}


@pytest.mark.parametrize('stamp_ms', [-1, 2000])
def test_nothing_is_made_up_when_no_image_fits(stamp_ms):
    with pytest.raises(UnseenError, match='main'):
        filled().seen_at(stamp_ms * MS, 0.5)


def test_a_step_needs_an_image_of_every_camera_and_the_missing_one_is_named():
    alignment = filled('main', 'wrist')
    alignment.images['wrist'] = Track(10 ** 9)
    with pytest.raises(UnseenError) as refused:
        alignment.seen_at(300 * MS, 0.5)
    assert refused.value.stream == 'wrist'


def test_states_that_were_not_measured_stay_unknown():
    alignment = filled()
    alignment.states, alignment.poses = Track(10 ** 9), Track(10 ** 9)
    seen = alignment.seen_at(300 * MS, 0.5)
    assert np.isnan(seen.joint_positions).all() and np.isnan(seen.ee_pose).all()
    assert np.isnan(seen.gripper)
    assert (seen.ages['joint_states'], seen.ages['ee_pose']) == (-1, -1)


def test_states_that_fell_silent_stay_unknown():
    alignment = filled()
    alignment.images['main'].add(Sample(1500 * MS, 1505 * MS, picture(15)))
    seen = alignment.seen_at(1500 * MS, 0.5)
    assert np.isnan(seen.joint_positions).all()
    assert seen.ages == {'main': 0, 'joint_states': -1, 'ee_pose': -1}


def test_what_came_after_is_the_first_image_not_older_with_what_belongs_to_it():
    alignment = filled('main', 'wrist')
    assert alignment.seen_after(301 * MS, 0.5).capture_stamp == 400 * MS
    assert alignment.seen_after(901 * MS, 0.5) is None
    alignment.images['main'].add(Sample(1000 * MS, 1005 * MS, picture(10)))
    assert alignment.seen_after(950 * MS, 0.5) is None  # the wrist may still give a nearer one
    assert alignment.seen_after(950 * MS, 0.5, waiting=False).ages['wrist'] == 93 * MS


def test_a_tick_has_passed_when_every_stream_gave_something_younger():
    alignment = filled('main', 'wrist', offsets=(0, 7))
    assert alignment.passed(899 * MS)
    assert not alignment.passed(900 * MS)
    alignment.poses = Track(10 ** 9)
    assert not alignment.passed(300 * MS)


def test_an_image_is_decoded_by_who_asks_for_it():
    decoded = []
    alignment = Alignment(['main'], lambda camera, content: decoded.append(camera) or content)
    alignment.images['main'].add(Sample(0, 0, picture(7)))
    seen = alignment.seen_at(0, 0.5)
    assert list(seen.images) == ['main'] and decoded == []
    assert seen.to_record()['images/main'][0, 0, 0] == 7
    assert decoded == ['main']


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


def test_what_came_before_a_standstill_is_still_known():
    track = Track(100)
    for stamp in (0, 10, 20, 5000):
        track.add(Sample(stamp, stamp, None))
    assert track.before(25).stamp_ns == 20


@pytest.mark.parametrize('wrong', [3600, -3600])
def test_a_clock_that_is_stepped_costs_the_history_and_nothing_else(wrong):
    track = Track(10 ** 9)
    for stamp in (10, 20, 30):
        track.add(Sample(stamp * MS, 0, stamp))
    track.add(Sample(wrong * 1000 * MS, 0, 'elsewhere'))
    assert track.newest.content == 'elsewhere'
    for stamp in (40, 50):
        track.add(Sample(stamp * MS, 0, stamp))
    assert track.before(45 * MS).content == 40
