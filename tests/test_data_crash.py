"""Crashes: a process killed at any moment loses nothing it had recorded, and no other episode."""

from contextlib import suppress
import multiprocessing
import os
import resource
import shutil
import signal
import time

from data_samples import action, assert_holds, observation, picture, record
from disks import run_unprivileged
import numpy as np
import pytest
from stable_crl_ros.data.dataset import Dataset, DatasetError
from stable_crl_ros.data.episode import EpisodeError, EpisodeWriter
from stable_crl_ros.data.verify import verify_dataset

# Children start in milliseconds: they are forked from a server that has imported everything.
CONTEXT = multiprocessing.get_context('forkserver')
CONTEXT.set_forkserver_preload(
    ['data_samples', 'pytest', 'stable_crl_ros.data.dataset', 'stable_crl_ros.data.verify'])
EPISODE_STEPS = 20


def record_for_ever(path, link):
    """Record episodes one after another; report every step and phase that is done."""
    dataset = Dataset(path)
    while True:
        with EpisodeWriter(dataset, sync_every=3) as writer:
            number = writer.episode_id
            for step in range(EPISODE_STEPS):
                writer.add_step(observation(number, step), action(number, step))
                link.send(('step', number, step + 1))
            link.send(('sealing', number, EPISODE_STEPS))
            writer.finish(observation(number, EPISODE_STEPS), True)
            link.send(('sealed', number, EPISODE_STEPS))


def recover(path, link):
    dataset = Dataset(path)
    link.send('started')
    link.send(dataset.recover())


@pytest.fixture
def child():
    """Start a child process; gives it and our end of its pipe; ends it afterwards."""
    started = []

    def start(function, path, *args):
        ours, theirs = CONTEXT.Pipe(duplex=False)
        process = CONTEXT.Process(target=function, args=(path, theirs, *args))
        process.start()
        theirs.close()
        started.append(process)
        return process, ours

    yield start
    for process in started:
        process.kill()
        process.join()


def drain(link):
    """Return everything a killed child still managed to report."""
    reports = []
    try:
        while link.poll(30.0):
            reports.append(link.recv())
    except EOFError:
        return reports
    raise AssertionError('the child still lives')


def kill_at(child, path, phase, number, count, delay):
    """Kill a recording child `delay` seconds after it reported; return all its reports."""
    process, link = child(record_for_ever, path)
    reports = []
    while not reports or reports[-1] != (phase, number, count):
        assert link.poll(60.0)
        reports.append(link.recv())
    time.sleep(delay)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    return reports + drain(link)


def check_after_kill(path, reports):
    """Recover a dataset and check it against what the killed process had reported."""
    recorded = {}
    for _, number, count in reports:
        recorded[number] = max(recorded.get(number, 0), count)
    sealed = {number for phase, number, _ in reports if phase == 'sealed'}
    dataset = Dataset(path)
    for number in sealed:
        assert_holds(dataset[number], EPISODE_STEPS)
    states = {item.state for item in dataset.recover()}
    assert states <= {'recovered', 'sealed', 'empty', 'reserved'}
    assert verify_dataset(path, integrity_only=True) == []
    for number, count in recorded.items():
        episode = dataset[number]
        # The step after the last reported one may be there too; its last action has no outcome.
        assert episode.steps >= count - 1
        assert_holds(episode, episode.steps)
        assert episode.attrs['interrupted'] == (episode.steps < EPISODE_STEPS)
    return recorded


@pytest.mark.parametrize('seed', range(6))
def test_killed_while_recording_keeps_every_reported_step(tmp_path, child, seed):
    rng = np.random.default_rng(seed)
    path = Dataset(tmp_path / 'dataset', create=True).path
    reports = kill_at(child, path, 'step', int(rng.integers(0, 3)),
                      int(rng.integers(1, EPISODE_STEPS)), float(rng.uniform(0, 0.003)))
    check_after_kill(path, reports)


@pytest.mark.parametrize('trial', range(8))
def test_killed_while_sealing_shows_a_whole_episode_or_none(tmp_path, child, trial):
    path = Dataset(tmp_path / 'dataset', create=True).path
    reports = kill_at(child, path, 'sealing', 1, EPISODE_STEPS, 0.015 * trial)
    visible = Dataset(path).ids
    assert visible and visible == list(range(len(visible)))  # the disk's pace says how far
    for number in visible:
        assert_holds(Dataset(path)[number], EPISODE_STEPS)
    check_after_kill(path, reports)
    assert not list(path.glob('.sealing-*'))
    episode = Dataset(path)[1]
    # Killed before the end was on disk, the last action has no outcome and nobody judged.
    assert (episode.steps, episode.attrs['success']) in (
        (EPISODE_STEPS, True), (EPISODE_STEPS - 1, None))


def test_what_an_interrupted_sealing_left_is_invisible_and_replaced(tmp_path):
    dataset = Dataset(tmp_path / 'dataset', create=True)
    cut_off(dataset)
    left = dataset.path / '.sealing-episode_000000.zarr'
    shutil.copytree(record(dataset), left)
    shutil.rmtree(left / 'action')
    assert dataset.ids == [1]
    assert dataset.recover()[0].state == 'recovered'
    assert_holds(dataset[0], EPISODE_STEPS - 1)
    assert not left.exists()


def test_a_journal_whose_episode_was_sealed_is_only_removed(tmp_path):
    dataset = Dataset(tmp_path / 'dataset', create=True)
    data = cut_off(dataset, steps=6)
    dataset.recover()
    modified = (dataset.episode_path(0) / 'zarr.json').stat().st_mtime_ns
    dataset.journal_path(0).write_bytes(data)
    assert [item.state for item in dataset.unsealed()] == ['sealed']
    assert [item.state for item in dataset.recover()] == ['sealed']
    assert dataset.unsealed() == []
    assert (dataset.episode_path(0) / 'zarr.json').stat().st_mtime_ns == modified


def cut_off(dataset, steps=EPISODE_STEPS):
    """Leave a journal as a killed process does; return its bytes."""
    writer = EpisodeWriter(dataset)
    number = writer.episode_id
    for step in range(steps):
        writer.add_step(observation(number, step), action(number, step))
    writer._journal.close()
    return dataset.journal_path(number).read_bytes()


@pytest.mark.parametrize('trial', range(4))
def test_recovery_that_is_killed_can_be_repeated(tmp_path, child, trial):
    dataset = Dataset(tmp_path / 'dataset', create=True)
    record(dataset)
    cut_off(dataset)
    process, link = child(recover, dataset.path)
    assert link.recv() == 'started'
    time.sleep(0.004 * trial)
    process.kill()  # which, unlike os.kill, takes it for granted that it may be done
    process.join()
    dataset.recover()
    assert_holds(dataset[0], 5)
    assert_holds(dataset[1], EPISODE_STEPS - 1)
    assert sorted(os.listdir(dataset.path)) == [
        '.lock', 'dataset.json', 'episode_000000.zarr', 'episode_000001.zarr', 'index.json']


def test_a_journal_cut_at_any_byte_recovers_every_complete_step(tmp_path):
    dataset = Dataset(tmp_path / 'dataset', create=True)
    data = cut_off(dataset, steps=4)
    step_size = len(data) // 5  # so that cuts fall before, into and between all records
    previous = 0
    for length in sorted({*range(0, len(data), step_size * 2 // 3), len(data) - 1, len(data)}):
        shutil.rmtree(dataset.episode_path(0), ignore_errors=True)
        dataset.journal_path(0).write_bytes(data[:length])
        found = dataset.recover()[0]
        if found.state == 'recovered':
            assert found.steps >= previous
            assert_holds(dataset[0], found.steps)
            previous = found.steps
        else:
            assert found.state in ('empty', 'reserved')
            assert previous == 0
    assert previous == 3


def test_damage_inside_a_journal_costs_its_step_and_the_file_is_kept(tmp_path):
    dataset = Dataset(tmp_path / 'dataset', create=True)
    data = bytearray(cut_off(dataset, steps=8))
    data[len(data) // 2] ^= 1
    dataset.journal_path(0).write_bytes(data)
    found = dataset.recover()[0]
    assert (found.state, found.steps) == ('recovered', 6)
    step, = found.damaged
    assert f'damaged at step {step}' in found.message
    assert found.lost_bytes > 0
    episode = dataset[0]
    assert (episode.attrs['gaps'], episode.attrs['dropped']) == ([step], 1)
    assert episode.attrs['drops'] == {'damaged on disk': 1}
    kept = [number for number in range(8) if number != step]
    for row, number in enumerate(kept[:-1]):
        np.testing.assert_array_equal(episode['action'][row],
                                      np.float32(action(0, number).action))
    np.testing.assert_array_equal(episode.images(), [picture(0, number) for number in kept])
    assert (dataset.path / 'episode_000000.journal.damaged').read_bytes() == data
    assert dataset.recover() == []


def test_a_journal_that_is_none_is_listed_and_left_alone(tmp_path):
    dataset = Dataset(tmp_path / 'dataset', create=True)
    record(dataset)
    dataset.journal_path(1).write_bytes(b'something else altogether')
    for found in (dataset.unsealed(), dataset.recover(), dataset.recover()):
        assert [item.state for item in found] == ['unreadable']
        assert 'not a journal' in found[0].message
    assert dataset.journal_path(1).read_bytes() == b'something else altogether'
    assert_holds(dataset[0], 5)


def test_recovery_leaves_a_living_recording_and_reserved_ids_alone(tmp_path, child):
    dataset = Dataset(tmp_path / 'dataset', create=True)
    reserved = dataset.reserve_ids(2)
    _, link = child(record_for_ever, dataset.path)
    assert link.recv() == ('step', 2, 1)
    states = {item.path.name: item.state for item in dataset.recover()}
    assert states.pop('episode_000000.journal') == 'reserved'
    assert states.pop('episode_000001.journal') == 'reserved'
    assert set(states.values()) <= {'recording'}
    while (report := link.recv()) != ('sealed', 2, EPISODE_STEPS):
        assert report[0] in ('step', 'sealing')
    assert_holds(dataset[2], EPISODE_STEPS)
    dataset.release_ids(reserved)
    assert not dataset.journal_path(0).exists()


def record_share(path, link, ids):
    dataset = Dataset(path)
    for number in ids:
        record(dataset, steps=3, episode_id=number)
    link.send(len(ids))


def test_workers_record_at_once_under_numbers_that_the_lock_holder_reserved(tmp_path, child):
    dataset = Dataset(tmp_path / 'dataset', create=True)
    with dataset.lock():
        ids = dataset.reserve_ids(12)
        links = [child(record_share, dataset.path, ids[worker::4])[1] for worker in range(4)]
        for _ in range(20):
            dataset.recover()  # must not take anything from a living process
            dataset.index()
        assert [link.recv() for link in links] == [3] * 4
    assert dataset.ids == list(range(12))
    assert verify_dataset(dataset.path, integrity_only=True) == []
    for number in dataset.ids:
        assert_holds(dataset[number], 3)


def reserve(path, link):
    dataset = Dataset(path)
    link.send('ready')
    reserved = []
    while len(reserved) < 20:
        with suppress(DatasetError):  # another process holds the lock at this instant
            reserved.append(dataset.reserve_id())
    link.send(reserved)


def test_no_two_processes_get_the_same_id(tmp_path, child):
    path = Dataset(tmp_path / 'dataset', create=True).path
    links = [child(reserve, path)[1] for _ in range(3)]
    assert [link.recv() for link in links] == ['ready'] * 3
    ids = [number for link in links for number in link.recv()]
    assert len(set(ids)) == 60


def record_with_limit(path, link, size):
    """Record with a limit on file sizes, which refuses writes as a full disk does."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
    record_until_refused(path, link)


def record_until_refused(path, link):
    writer = EpisodeWriter(Dataset(path))
    number = writer.episode_id
    try:
        for step in range(10_000):
            writer.add_step(observation(number, step), action(number, step))
    except EpisodeError as error:
        link.send((step, str(error)))
    try:
        writer.finish()
    except EpisodeError as error:
        link.send(str(error))


def test_a_refused_write_is_explained_and_what_was_recorded_is_kept(tmp_path, child):
    dataset = Dataset(tmp_path / 'dataset', create=True)
    record(dataset)
    _, link = child(record_with_limit, dataset.path, 50_000)
    steps, message = link.recv()
    assert 'File too large' in message
    assert 'free space' in message
    assert drain(link) == []  # there was room to seal what had been recorded
    assert dataset.recover() == []
    assert steps > 10
    assert_holds(dataset[0], 5)
    assert_holds(dataset[1], steps - 1)


def test_a_full_disk_is_explained_and_nothing_recorded_is_lost(small_disk, child):
    dataset = Dataset(small_disk / 'dataset', create=True)
    record(dataset)
    ballast = small_disk / 'ballast'
    ballast.write_bytes(bytes(400_000))
    _, link = child(record_until_refused, dataset.path)
    steps, message = link.recv()
    assert 'No space left on device' in message
    assert 'the recording is kept in' in link.recv()
    assert drain(link) == []
    assert_holds(dataset[0], 5)
    refused = dataset.recover()  # sealing needs space too
    assert refused[0].state == 'cut off'
    assert 'No space left' in refused[0].message
    assert dataset.ids == [0]
    ballast.unlink()
    shutil.move(dataset.path, small_disk.parent / 'larger')
    larger = Dataset(small_disk.parent / 'larger')
    assert [item.state for item in larger.recover()] == ['recovered']
    assert_holds(larger[1], steps - 1)


def refuse(message):
    raise RuntimeError(message)


def test_a_directory_without_write_permission_is_read_but_not_written(tmp_path):
    for parent in (tmp_path, *tmp_path.parents[:3]):  # pytest's own are private
        parent.chmod(0o755)
    dataset = Dataset(tmp_path / 'dataset', create=True)
    record(dataset)
    cut_off(dataset, steps=3)
    dataset.path.chmod(0o555)
    try:
        assert 'not writable' in run_unprivileged(lambda: EpisodeWriter(Dataset(dataset.path)))
        assert 'not writable' in run_unprivileged(
            lambda: Dataset(dataset.path / 'new', create=True))
        assert 'Permission denied' in run_unprivileged(
            lambda: refuse(Dataset(dataset.path).recover()[0].message))
        assert dataset.unsealed()[0].state == 'cut off'
        assert run_unprivileged(
            lambda: assert_holds(Dataset(dataset.path)[0], 5)) == 'nothing was raised'
    finally:
        dataset.path.chmod(0o755)


def test_a_writer_explains_a_directory_that_vanished(tmp_path):
    dataset = Dataset(tmp_path / 'dataset', create=True)
    shutil.rmtree(dataset.path)
    with pytest.raises(DatasetError, match='No such file'):
        EpisodeWriter(dataset)
