"""The recorder: never waits for the disk, counts what it drops, says what it saved."""

import threading
import time

from data_samples import action, assert_holds, observation
import numpy as np
import pytest
from stable_crl_ros.data.dataset import Dataset
from stable_crl_ros.data.episode import EpisodeError
from stable_crl_ros.data.labels import restore
from stable_crl_ros.data.recorder import EpisodeRecorder
from stable_crl_ros.data.schema import Action, EpisodeMeta, Observation, SchemaError


@pytest.fixture
def dataset(tmp_path):
    return Dataset(tmp_path / 'dataset', create=True)


def hand_over(recorder, number, steps):
    return [recorder.record(observation(number, step), action(number, step))
            for step in range(steps)]


def test_saves_what_it_was_given_and_says_so(dataset):
    recorder = EpisodeRecorder(dataset)
    assert recorder.start(EpisodeMeta(task='open_drawer')) == 0
    assert recorder.recording
    assert all(hand_over(recorder, 0, 20))
    summary = recorder.stop(True, observation(0, 20), late=2, attributes={'note': 'x'})
    assert not recorder.recording
    assert (summary.episode_id, summary.steps, summary.dropped) == (0, 20, 0)
    assert summary.bytes > 1000
    assert str(summary) == (f'saved episode 0: 20 steps, 0 dropped, {summary.bytes / 1e6:.2f} '
                            f'MB, {summary.path}')
    assert_holds(dataset[0], 20)
    attributes = dataset[0].attrs
    assert (attributes['task'], attributes['late'], attributes['note']) == ('open_drawer', 2, 'x')
    assert (attributes['success'], attributes['gaps']) == (True, [])


def test_the_reported_steps_are_those_on_disk_without_a_final_observation(dataset):
    recorder = EpisodeRecorder(dataset)
    recorder.start()
    hand_over(recorder, 0, 5)
    assert recorder.stop().steps == dataset[0].steps == 4


def test_a_burst_faster_than_the_disk_drops_counts_and_marks_but_never_waits(dataset):
    recorder = EpisodeRecorder(dataset, capacity=3, sync_every=1)
    recorder.start()
    large = Observation({'front': np.zeros((1200, 1600, 3), np.uint8)})
    accepted = sum(recorder.record(large, Action(np.full(7, step))) for step in range(40))
    summary = recorder.stop(final_observation=large)
    assert accepted < 40  # had it waited for the disk, all would have been accepted
    assert summary.steps == accepted == dataset[0].steps
    assert summary.dropped == 40 - accepted == dataset[0].attrs['dropped']
    assert 'disk is too slow: 3 steps' in summary.error
    assert summary.drops == dataset[0].attrs['drops'] == {'queue full': summary.dropped}
    steps = dataset[0]['action'][:, 0]
    gaps = [row for row in range(accepted) if steps[row] != (steps[row - 1] + 1 if row else 0)]
    gaps += [accepted] if steps[-1] != 39 else []
    assert dataset[0].attrs['gaps'] == gaps


@pytest.mark.parametrize('lost', [
    lambda recorder: recorder.lose('no image', 'wrist'),
    lambda recorder: recorder.record(observation(0, 4, size=(5, 5)), action(0, 4))])
def test_what_is_lost_after_the_last_step_lies_before_the_final_observation(dataset, lost):
    recorder = EpisodeRecorder(dataset)
    recorder.start()
    hand_over(recorder, 0, 4)
    lost(recorder)
    summary = recorder.stop(final_observation=observation(0, 5))
    assert (summary.steps, summary.dropped) == (4, 1)
    assert dataset[0].attrs['gaps'] == [4]


def test_what_is_lost_at_the_end_leaves_no_gap_where_no_observation_follows(dataset):
    recorder = EpisodeRecorder(dataset)
    recorder.start()
    hand_over(recorder, 0, 4)
    recorder.lose('no image', 'wrist')
    assert recorder.stop().steps == 3
    assert dataset[0].attrs['gaps'] == []


def test_a_step_that_does_not_fit_is_dropped_named_and_marked(dataset):
    recorder = EpisodeRecorder(dataset)
    recorder.start()
    hand_over(recorder, 0, 2)
    recorder.record(observation(0, 2, size=(5, 5)), action(0, 2))
    recorder.record(observation(0, 2), Action(np.full(7, np.nan)))
    recorder.record(None, None)
    for step in (2, 3):
        recorder.record(observation(0, step), action(0, step))
    summary = recorder.stop(final_observation=observation(0, 4))
    assert (summary.steps, summary.dropped) == (4, 3)
    assert summary.drops == {'front': 1, 'refused': 1, 'error': 1}
    assert summary.error
    assert dataset[0].attrs['gaps'] == [2]
    assert_holds(dataset[0], 4)


def test_one_episode_after_another(dataset):
    recorder = EpisodeRecorder(dataset)
    for number in range(3):
        assert recorder.start() == number
        hand_over(recorder, number, 4)
        recorder.stop(None, observation(number, 4))
    for number in range(3):
        assert_holds(dataset[number], 4)


def test_refuses_calls_out_of_order(dataset):
    recorder = EpisodeRecorder(dataset)
    assert recorder.record(observation(0, 0), action(0, 0)) is False
    for call in (recorder.stop, recorder.discard):
        with pytest.raises(EpisodeError, match='start one first'):
            call()
    recorder.start()
    with pytest.raises(EpisodeError, match='episode 0 is being recorded'):
        recorder.start()
    recorder.discard()


def test_refuses_a_start_with_a_bad_description_and_can_start_again(dataset):
    recorder = EpisodeRecorder(dataset)
    with pytest.raises(SchemaError, match='attributes'):
        recorder.start(EpisodeMeta(extra={'steps': 1}))
    assert not recorder.recording
    recorder.start()
    recorder.discard()


def test_stopping_without_steps_is_refused_and_leaves_nothing(dataset):
    recorder = EpisodeRecorder(dataset)
    recorder.start()
    with pytest.raises(EpisodeError, match='no step was recorded'):
        recorder.stop(True)
    assert (dataset.ids, dataset.unsealed(), recorder.recording) == ([], [], False)


def test_discarding_before_the_first_step_leaves_nothing(dataset):
    recorder = EpisodeRecorder(dataset)
    recorder.start()
    assert recorder.discard() == 0
    assert (dataset.ids, dataset.discarded, dataset.unsealed()) == ([], [], [])


def test_a_discarded_episode_is_left_out_and_can_be_restored(dataset):
    recorder = EpisodeRecorder(dataset)
    recorder.start(EpisodeMeta(operator='ada'))
    hand_over(recorder, 0, 10)
    assert recorder.discard('the cup fell') == 0
    assert (dataset.ids, dataset.unsealed()) == ([], [])
    tombstone = dataset.discarded[0]['discarded']
    assert (tombstone['by'], tombstone['why']) == ('ada', 'the cup fell')
    restore(dataset, 0, 'ada')
    assert dataset.ids == [0]
    assert_holds(dataset[0], 9)


def test_stopping_in_mid_episode_saves_it_as_interrupted(dataset):
    recorder = EpisodeRecorder(dataset)
    recorder.start()
    hand_over(recorder, 0, 6)
    assert recorder.stop(interrupted=True).steps == 5
    assert_holds(dataset[0], 5)
    assert dataset[0].attrs['interrupted'] is True


def test_every_accepted_step_is_written_when_stop_comes_from_another_thread(dataset):
    recorder = EpisodeRecorder(dataset, capacity=1000)
    for number in range(5):
        recorder.start()
        accepted = []
        feeder = threading.Thread(
            target=lambda number=number, accepted=accepted: accepted.extend(
                hand_over(recorder, number, 200)))
        feeder.start()
        while not recorder.steps:
            time.sleep(0.001)
        summary = recorder.stop()
        feeder.join()
        assert summary.steps + 1 == sum(accepted)
        assert summary.dropped == 0
        assert_holds(dataset[number], summary.steps)


def test_a_disk_that_refuses_is_named_while_recording_and_at_the_end(dataset, monkeypatch):
    recorder = EpisodeRecorder(dataset)
    recorder.start()
    hand_over(recorder, 0, 3)
    while recorder.steps < 3:
        time.sleep(0.001)
    recorder._session.writer._journal.close()  # every later write is refused
    recorder.record(observation(0, 3), action(0, 3))
    while not recorder.error:
        time.sleep(0.001)
    assert 'journal is closed' in recorder.error
    assert recorder.drops == {'disk': 1}
    with pytest.raises(EpisodeError, match='kept in .*episode_000000.journal'):
        recorder.stop()
    assert [item.state for item in dataset.recover()] == ['recovered']
    assert_holds(dataset[0], 2)


def test_a_final_observation_that_does_not_fit_costs_the_last_outcome_only(dataset):
    recorder = EpisodeRecorder(dataset)
    recorder.start()
    hand_over(recorder, 0, 4)
    summary = recorder.stop(True, observation(0, 4, size=(6, 6)))
    assert 'the last action has no outcome' in summary.error
    assert_holds(dataset[0], 3)
    assert dataset[0].attrs['success'] is True


def test_attributes_that_are_none_are_refused_and_the_episode_goes_on(dataset):
    recorder = EpisodeRecorder(dataset)
    recorder.start()
    hand_over(recorder, 0, 3)
    with pytest.raises(SchemaError, match='names of the format'):
        recorder.stop(attributes={'steps': 9})
    recorder.record(observation(0, 3), action(0, 3))
    recorder.stop(final_observation=observation(0, 4))
    assert_holds(dataset[0], 4)
