"""What an episode says of its own recording: rate, jitter, stale images, clock, states."""

import numpy as np
import pytest
from stable_crl_ros.data.dataset import Dataset
from stable_crl_ros.data.episode import EpisodeWriter
from stable_crl_ros.data.health import (
    invalid_states,
    measured_rate,
    stale_steps,
    told_pauses,
)
from stable_crl_ros.data.listing import seconds
from stable_crl_ros.data.schema import Action, EpisodeMeta, Mode, Observation

IMAGE = np.zeros((4, 4, 3), np.uint8)
SECOND = 10**9


@pytest.fixture
def dataset(tmp_path):
    return Dataset(tmp_path / 'dataset', create=True)


def record(dataset, intervals_ms, ages=(), states=(), mode=Mode.IDLE, attributes=None, **meta):
    """Record steps with these intervals; ages and states by step; return the attributes."""
    stamps = 10**18 + np.cumsum([0, *intervals_ms]) * 10**6
    with EpisodeWriter(dataset, EpisodeMeta(**meta)) as writer:
        for step, stamp in enumerate(stamps):
            seen = Observation({'front': IMAGE})
            seen.ages = ages[step] if step < len(ages) else {}
            vars(seen).update(states[step] if step < len(states) else {})
            writer.add_step(seen, Action(np.zeros(7), mode=mode, command_stamp=int(stamp)))
        writer.finish(Observation({'front': IMAGE}), attributes=attributes)
    return dataset[writer.episode_id].attrs


def test_a_steady_recording_has_its_rate_and_no_jitter(dataset):
    attrs = record(dataset, [200] * 20, control_rate=5.0)
    assert attrs['rate_hz'] == pytest.approx(5.0)
    assert attrs['jitter_ms'] == pytest.approx(0.0, abs=1e-6)
    assert (attrs['degraded'], attrs['degraded_why'], attrs['clock_steps']) == (False, '', 0)


@pytest.mark.parametrize(('interval_ms', 'share', 'degraded'), [
    (200, 0.9, False), (220, 0.9, False), (225, 0.9, True), (225, 0.8, False), (400, 0.0, False)])
def test_a_recording_below_the_configured_share_of_its_rate_is_degraded(
        dataset, interval_ms, share, degraded):
    attrs = record(dataset, [interval_ms] * 10, control_rate=5.0, minimum_rate_share=share)
    assert attrs['degraded'] is degraded
    if degraded:
        assert attrs['degraded_why'] == 'recorded at 4.44 Hz, less than 90% of 5 Hz'
    assert dataset.index()[0]['degraded'] is degraded


def test_pauses_of_an_operator_are_counted_and_leave_the_rate_alone(dataset):
    attrs = record(dataset, ([200] * 10 + [1000]) * 5, mode=Mode.TELEOP)
    assert (attrs['pauses'], attrs['pause_s']) == (5, 5.0)
    assert (attrs['rate_hz'], attrs['jitter_ms']) == (5.0, 0.0)
    assert attrs['degraded'] is False
    assert told_pauses(attrs) == '5 pauses of the operator, 5.0 s'
    assert seconds(attrs) == pytest.approx(15.0, abs=0.3)


@pytest.mark.parametrize('lost', [
    {'mode': Mode.POLICY},  # nobody let go: it held, or what it sent was lost
    {'mode': Mode.TELEOP, 'attributes': {'gaps': [11, 22, 33]}},
    {'mode': Mode.TELEOP, 'ages': [{'front': SECOND // 5 + 1}] * 34}])
def test_a_long_interval_in_which_something_was_lost_is_no_pause(dataset, lost):
    attrs = record(dataset, ([200] * 10 + [1000]) * 3, **lost)
    assert (attrs['pauses'], attrs['pause_s'], told_pauses(attrs)) == (0, 0.0, '')
    assert attrs['degraded_why'] == 'recorded at 3.67 Hz, less than 90% of 5 Hz'


def test_jitter_is_the_deviation_of_the_intervals(dataset):
    assert record(dataset, [190, 210] * 10)['jitter_ms'] == pytest.approx(10.0)


def test_without_stamps_no_rate_is_made_up():
    assert measured_rate(np.zeros(10, np.int64)) == (None, None, 0)
    assert measured_rate(np.array([10**18])) == (None, None, 0)
    assert measured_rate(np.array([], np.int64)) == (None, None, 0)


def test_a_clock_set_back_is_counted_and_does_not_spoil_the_rate(dataset):
    attrs = record(dataset, [200] * 5 + [-3_600_000] + [200] * 5)
    assert attrs['clock_steps'] == 1
    assert attrs['rate_hz'] == pytest.approx(5.0)
    stamps = dataset[0]['command_stamp']
    assert stamps[6] - stamps[5] == -3_600 * SECOND  # as measured


def test_a_step_is_stale_when_an_image_is_older_than_a_control_period(dataset):
    ages = [{'front': 0}, {'front': SECOND // 5}, {'front': SECOND // 5 + 1},
            {'front': SECOND, 'ee_pose': 0}, {'ee_pose': 9 * SECOND}]
    assert record(dataset, [200] * 4, ages=ages, control_rate=5.0)['stale'] == 2


def test_without_ages_the_capture_stamp_tells_what_is_stale():
    command = np.array([10, 10, 10, 0]) * SECOND
    capture = np.array([10, 9, 0, 9]) * SECOND
    found = stale_steps({'command_stamp': command, 'capture_stamp': capture}, 5.0)
    assert found.tolist() == [False, True, False, False]


def test_a_state_with_nan_or_infinity_is_stored_as_it_came_and_counted(dataset):
    broken = np.array([0, 1, np.nan, 3, 4, 5])
    endless = np.array([0, 0, np.inf, 0, 0, 0, 1])
    attrs = record(dataset, [200] * 4, states=[
        {}, {'joint_positions': broken}, {'ee_pose': endless}, {'joint_efforts': broken},
        {'gripper': np.inf, 'joint_positions': broken}])
    assert attrs['invalid_states'] == {'joint_states': 3, 'ee_pose': 1}
    np.testing.assert_array_equal(dataset[0]['joint_positions'][1], np.float32(broken))
    np.testing.assert_array_equal(dataset[0]['ee_pose'][2], np.float32(endless))


def test_all_nan_is_not_recorded_unless_a_sample_was_there():
    arrays = {'joint_positions': np.full((3, 6), np.nan), 'joint_velocities': np.zeros((3, 6)),
              'joint_efforts': np.zeros((3, 6)), 'gripper': np.full(3, np.nan),
              'ee_pose': np.full((3, 7), np.nan)}
    assert invalid_states(arrays) == {}
    arrays['ages/joint_states'] = np.array([-1, 5])
    assert invalid_states(arrays) == {'joint_states': 1}
