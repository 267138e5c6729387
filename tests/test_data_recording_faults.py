"""Faults while recording: each has an answer, and what was recorded before stays readable."""

import math
import threading
import time

from data_samples import action, assert_holds, observation
from disks import run_unprivileged
import numpy as np
import pytest
from stable_crl_ros.data.dataset import Dataset
from stable_crl_ros.data.episode import EpisodeError
from stable_crl_ros.data.recorder import EpisodeRecorder
from stable_crl_ros.data.schema import Action, EpisodeMeta, Observation
from stable_crl_ros.data.session import MOST_REASONS
from waiting import wait_for

CAMERAS = ('front', 'wrist')


@pytest.fixture
def dataset(tmp_path):
    return Dataset(tmp_path / 'dataset', create=True)


@pytest.fixture
def recorder(dataset):
    recorder = EpisodeRecorder(dataset, minimum_free_bytes=0)
    recorder.start(EpisodeMeta(operator='ada'))
    return recorder


def hand_over(recorder, number, steps, cameras=('front',)):
    for step in steps:
        assert recorder.record(observation(number, step, cameras), action(number, step))


def test_a_start_on_a_disk_that_is_nearly_full_is_refused_and_leaves_nothing(dataset):
    recorder = EpisodeRecorder(dataset, minimum_free_bytes=1 << 60)
    with pytest.raises(EpisodeError, match='nearly full.*free space'):
        recorder.start()
    assert (recorder.recording, dataset.unsealed()) == (False, [])


@pytest.fixture
def filling_disk(small_disk, monkeypatch):
    """Give a recorder on a disk of 1 MB, of which it must leave a part free."""
    monkeypatch.setattr('stable_crl_ros.data.session.DISK_CHECK_S', 0.01)
    dataset = Dataset(small_disk / 'dataset', create=True)
    recorder = EpisodeRecorder(dataset, minimum_free_bytes=400_000)
    recorder.start(EpisodeMeta(operator='ada'))
    yield dataset, recorder
    recorder.close()  # or the disk cannot be unmounted


def fill(recorder):
    """Record until the recorder ends the episode; return the steps it took."""
    noise = np.random.default_rng(0).integers(0, 256, (60, 100, 3), np.uint8)
    taken = 0
    while not recorder.ended_why:
        taken += recorder.record(Observation({'front': noise}), Action(np.full(7, taken)))
        time.sleep(0.02)
        assert taken < 60  # 18 kB each
    return taken


def test_an_episode_ends_and_is_sealed_while_there_is_room_to_seal_it(filling_disk):
    dataset, recorder = filling_disk
    taken = fill(recorder)
    assert recorder.record(observation(0, 0), action(0, 0)) is False
    assert recorder.recording
    summary = recorder.stop(True, attributes={'checkpoints': [[0, 'x']]}, late=3)
    assert summary.ended_why == 'disk nearly full'
    assert (summary.steps, summary.dropped) == (taken - 1, 0)
    attrs = dataset[0].attrs
    assert (attrs['interrupted'], attrs['ended_why']) == (True, 'disk nearly full')
    assert (attrs['success'], attrs['checkpoints'], attrs['late']) == (True, [[0, 'x']], 3)
    assert dataset[0]['action'][:, 0].tolist() == list(range(taken - 1))
    assert dataset.unsealed() == []


def test_an_episode_that_ended_by_itself_can_be_discarded(filling_disk):
    dataset, recorder = filling_disk
    fill(recorder)
    assert recorder.discard('too long') == 0
    assert dataset.ids == []
    assert dataset.discarded[0]['discarded']['why'] == 'too long'


def test_what_waits_is_bounded_by_bytes_too(dataset):
    recorder = EpisodeRecorder(dataset, capacity=1000, capacity_bytes=20_000_000,
                               minimum_free_bytes=0, sync_every=1)
    recorder.start()
    large = Observation({'front': np.zeros((1200, 1600, 3), np.uint8)})  # 5.76 MB
    accepted = sum(recorder.record(large, Action(np.zeros(7))) for _ in range(30))
    assert 3 <= accepted < 30
    assert 0 < recorder.queue_fill <= 1
    summary = recorder.stop(final_observation=large)
    assert summary.drops == {'queue full': 30 - accepted}
    assert summary.steps == accepted


def test_an_image_of_another_size_costs_its_own_step(dataset, recorder):
    hand_over(recorder, 0, range(3))
    for _ in range(2):
        recorder.record(observation(0, 3, size=(24, 32)), action(0, 3))
    hand_over(recorder, 0, range(3, 6))
    summary = recorder.stop(final_observation=observation(0, 6))
    assert (summary.steps, summary.drops) == (6, {'front': 2})
    assert "camera 'front' gives images of 32x24" in summary.error
    assert dataset[0].attrs['gaps'] == [3]
    assert_holds(dataset[0], 6)


def test_a_camera_that_is_gone_and_comes_back_leaves_a_gap_that_is_listed(dataset, recorder):
    hand_over(recorder, 0, range(3), CAMERAS)
    recorder.record(observation(0, 3), action(0, 3))  # without the wrist camera
    wait_for(lambda: recorder.dropped == 1)
    for _ in range(4):
        recorder.lose('no image that belongs to the command', 'wrist')
    assert recorder.drops == {'wrist': 5}
    hand_over(recorder, 0, range(3, 5), CAMERAS)
    recorder.lose('the arm was stopped')
    hand_over(recorder, 0, range(5, 6), CAMERAS)
    recorder.stop(final_observation=observation(0, 6, CAMERAS))
    attrs = dataset[0].attrs
    assert (attrs['drops'], attrs['dropped']) == ({'wrist': 5, 'the arm was stopped': 1}, 6)
    assert attrs['gaps'] == [3, 5]
    assert_holds(dataset[0], 6, CAMERAS)


def test_reasons_without_end_are_counted_together(dataset, recorder):
    hand_over(recorder, 0, range(2))
    for number in range(100):
        recorder.lose(f'reason {number}')
    assert len(recorder.drops) == MOST_REASONS + 1
    assert recorder.stop().dropped == 100


def test_rate_of_writing_and_minutes_left_follow_what_is_written(dataset, recorder):
    assert (recorder.write_rate, recorder.minutes_left(10**12)) == (0.0, math.inf)
    began = time.monotonic()
    hand_over(recorder, 0, range(50))
    wait_for(lambda: recorder.steps == 50)
    written = recorder.bytes_written
    assert written > 50 * 12 * 16 * 3 / 2
    passed = time.monotonic() - began
    assert 0 < recorder.write_rate <= written / passed
    fastest = recorder.write_rate  # the more time passes, the lower
    left = recorder.minutes_left(10**12)
    least, most = ((10**12 - written) / rate / 120 for rate in (fastest, recorder.write_rate))
    assert 0.8 * least < left < 1.2 * most
    assert recorder.minutes_left(written) == 0.0
    recorder.discard()
    assert (recorder.write_rate, recorder.bytes_written, recorder.queue_fill) == (0.0, 0, 0.0)


def test_permission_lost_in_mid_episode_is_explained_and_costs_nothing(tmp_path):
    for parent in (tmp_path, *tmp_path.parents[:3]):  # pytest's own are private
        parent.chmod(0o755)
    path = tmp_path / 'dataset'
    path.mkdir()
    path.chmod(0o777)

    def run():
        recorder = EpisodeRecorder(Dataset(path, create=True), minimum_free_bytes=0)
        recorder.start()
        hand_over(recorder, 0, range(4))
        wait_for(lambda: recorder.steps == 4)
        (path / 'ready').mkdir()
        wait_for((path / 'gone').exists)
        hand_over(recorder, 0, range(4, 6))
        recorder.stop()

    message = run_beside(run, path)
    assert 'Permission denied' in message
    assert 'the recording is kept in' in message
    dataset = Dataset(path)
    assert dataset.recover()[0].state == 'recovered'
    assert_holds(dataset[0], 5)


def run_beside(function, path):
    """Run a function without root's rights; take the directory's rights away when it is ready."""
    def lock_out():
        wait_for((path / 'ready').exists)
        (path / 'gone').mkdir()
        path.chmod(0o555)

    thread = threading.Thread(target=lock_out)
    thread.start()
    try:
        return run_unprivileged(function)
    finally:
        thread.join()
        path.chmod(0o777)
