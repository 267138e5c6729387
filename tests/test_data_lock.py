"""One writing process per dataset: the second is refused with the first one named."""

import multiprocessing
import os
import shutil
import signal
import socket

from data_samples import action, assert_holds, observation, record
import pytest
from stable_crl_ros.data.dataset import Dataset, DatasetError
from stable_crl_ros.data.episode import EpisodeWriter
from stable_crl_ros.data.labels import compact, discard, relabel
from stable_crl_ros.data.recorder import EpisodeRecorder

CONTEXT = multiprocessing.get_context('forkserver')
CONTEXT.set_forkserver_preload(['data_samples', 'pytest', 'stable_crl_ros.data.labels'])


def hold(path, link):
    recorder = EpisodeRecorder(Dataset(path), minimum_free_bytes=0)
    link.send('holding')
    if link.recv() == 'close':
        recorder.close()
    link.send('closed')
    link.recv()


@pytest.fixture
def dataset(tmp_path):
    return Dataset(tmp_path / 'dataset', create=True)


@pytest.fixture
def holder(dataset):
    """Give a process that holds the lock, and our end of its pipe."""
    record(dataset)
    ours, theirs = CONTEXT.Pipe()
    process = CONTEXT.Process(target=hold, args=(dataset.path, theirs))
    process.start()
    assert ours.recv() == 'holding'
    yield process, ours
    process.kill()
    process.join()


def test_the_second_writer_is_refused_with_the_first_one_named(dataset, holder):
    name = f'process {holder[0].pid} on {socket.gethostname()} since'
    for write in (lambda: EpisodeWriter(dataset), lambda: EpisodeRecorder(dataset),
                  lambda: dataset.reserve_ids(2), lambda: EpisodeWriter(dataset, episode_id=9),
                  lambda: dataset.acquire_lock()):
        with pytest.raises(DatasetError, match=name):
            write()
    discard(dataset, 0, 'ada')
    with pytest.raises(DatasetError, match=name):
        compact(dataset)
    assert len(Dataset(dataset.path).discarded) == 1


def test_reading_and_labelling_need_no_lock(dataset, holder):
    assert_holds(Dataset(dataset.path)[0], 5)
    relabel(dataset, 0, 'ada', success=False)
    assert Dataset(dataset.path).index()[0]['success'] is False
    assert dataset.recover() == []


def test_a_recorder_that_is_closed_frees_the_dataset(dataset, holder):
    holder[1].send('close')
    assert holder[1].recv() == 'closed'
    assert record(dataset).name == 'episode_000001.zarr'


def test_a_killed_holder_blocks_nobody(dataset, holder):
    with pytest.raises(DatasetError, match='being written'):
        EpisodeWriter(dataset)
    os.kill(holder[0].pid, signal.SIGKILL)
    holder[0].join()
    assert record(dataset).name == 'episode_000001.zarr'


def test_one_process_may_write_with_several_objects(dataset):
    with dataset.lock(), Dataset(dataset.path).lock():
        recorder = EpisodeRecorder(Dataset(dataset.path), minimum_free_bytes=0)
        recorder.start()
        record(dataset)
        recorder.discard()
    assert dataset.ids == [1]


def write_reserved(path, number):
    record(Dataset(path), episode_id=number)


def test_a_worker_records_under_a_number_the_holder_reserved(dataset):
    with dataset.lock():
        number = dataset.reserve_id()
        process = CONTEXT.Process(target=write_reserved, args=(dataset.path, number))
        process.start()
        process.join()
        assert process.exitcode == 0
    assert_holds(dataset[number], 5)


def try_to_write(path, link):
    try:
        EpisodeWriter(Dataset(path)).discard()
        link.send('wrote')
    except DatasetError as error:
        link.send(str(error))


def attempt(path):
    """Say what happens when another process tries to write."""
    ours, theirs = CONTEXT.Pipe()
    process = CONTEXT.Process(target=try_to_write, args=(path, theirs))
    process.start()
    answer = ours.recv()
    process.join()
    return answer


def test_a_running_episode_holds_the_lock_and_its_end_gives_it_back(dataset):
    writer = EpisodeWriter(dataset)
    writer.add_step(observation(0, 0), action(0, 0))
    assert f'process {os.getpid()}' in attempt(dataset.path)
    writer.finish(observation(0, 1))
    assert attempt(dataset.path) == 'wrote'
    with pytest.raises(ValueError, match='in the middle'), EpisodeWriter(dataset):
        raise ValueError('in the middle')
    assert attempt(dataset.path) == 'wrote'


def test_a_recorder_that_was_forgotten_gives_the_lock_back(dataset):
    recorder = EpisodeRecorder(dataset)
    assert 'being written' in attempt(dataset.path)
    del recorder
    assert attempt(dataset.path) == 'wrote'


def test_a_dataset_that_moved_away_and_its_copy_are_other_datasets(dataset, tmp_path):
    record(dataset)
    with dataset.lock():
        copy = shutil.copytree(dataset.path, tmp_path / 'copy')
        assert attempt(copy) == 'wrote'
    moved = Dataset(shutil.move(dataset.path, tmp_path / 'moved'))
    assert_holds(moved[0], 5)
    assert record(moved).name == 'episode_000001.zarr'
