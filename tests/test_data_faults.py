"""Faults of disks and processes: told by episode and step, and they cost nothing else."""

import builtins
import errno
import multiprocessing
import os
from pathlib import Path
import shutil
import signal
import tempfile
import time

from data_samples import action, assert_holds, observation, picture, record
import numpy as np
import pytest
from stable_crl_ros.data import journal_reader
from stable_crl_ros.data.dataset import Dataset, DatasetError
from stable_crl_ros.data.episode import Episode, EpisodeError, EpisodeWriter
from stable_crl_ros.data.journal_reader import JournalReader
from stable_crl_ros.data.recorder import EpisodeRecorder
from stable_crl_ros.data.schema import Action, EpisodeMeta, Observation
from stable_crl_ros.data.verify import errors, verify_dataset, verify_episode
from waiting import wait_for

CONTEXT = multiprocessing.get_context('forkserver')
CONTEXT.set_forkserver_preload(['data_samples', 'pytest', 'stable_crl_ros.data.recorder',
                                'stable_crl_ros.data.verify'])
CAMERAS = ('front', 'wrist')
STEPS = 8


@pytest.fixture(scope='module')
def memory():
    """Give a folder in memory where there is one: many trials, each forced to disk."""
    with tempfile.TemporaryDirectory(dir='/dev/shm' if Path('/dev/shm').is_dir() else None) as at:
        yield Path(at)


def flip(path, position, bit):
    data = bytearray(path.read_bytes())
    data[position] ^= 1 << bit
    path.write_bytes(data)


def everything(path):
    """Return what can be read of an episode: arrays by name, images by camera and row."""
    episode = Episode(path)
    found = {}
    for name in set(episode.names) - {f'images/{camera}' for camera in episode.cameras}:
        try:
            found[name] = episode[name].tobytes()
        except EpisodeError:
            continue
    for camera in episode.cameras:
        for row in range(episode.steps + 1):
            try:
                found[camera, row] = episode.image(camera, row).tobytes()
            except EpisodeError:
                continue
    return found


def where(path, file, position):
    """Say what a byte of a chunk file belongs to: array, and row where it is of an image."""
    parts = file.relative_to(path).parts
    name = '/'.join(parts[:parts.index('c')])
    if parts[0] != 'images':
        return name, None
    offsets = Episode(path)[f'image_offsets/{parts[1]}']
    row = int(np.searchsorted(offsets, position, 'right')) - 1
    return name, row if row <= STEPS else None


@pytest.mark.parametrize('trials', [60, pytest.param(2000, marks=pytest.mark.slow)])
@pytest.mark.parametrize('codec', ['lossless', 'jpeg:95'])
def test_a_flipped_byte_of_an_episode_is_found_by_step_and_costs_only_what_it_hit(
        memory, codec, trials):
    dataset = Dataset(memory / f'{codec}-{trials}', create=True, image_codec=codec)
    path = record(dataset, steps=STEPS, cameras=CAMERAS)
    whole = everything(path)
    files = sorted(file for file in path.rglob('*') if file.is_file() and file.name != 'zarr.json')
    assert len(whole) == len(Episode(path).names) - 2 + 2 * (STEPS + 1)
    rng = np.random.default_rng(0)
    for _ in range(trials):
        file = files[rng.integers(len(files))]
        position, bit = int(rng.integers(file.stat().st_size)), int(rng.integers(8))
        name, row = where(path, file, position)
        flip(file, position, bit)
        found = errors(verify_episode(path, integrity_only=True))
        kept = everything(path)
        flip(file, position, bit)
        assert {finding.episode for finding in found} == {path.name}, (file, position, bit)
        assert all(kept[key] == whole[key] for key in kept)
        lost = whole.keys() - kept.keys()
        kind, _, camera = name.partition('/')
        if kind == 'images':
            assert [finding.steps for finding in found] == [None if row is None else (row, row)]
            assert lost == (set() if row is None else {(camera, row)})
        elif kind in ('image_offsets', 'image_crcs') and codec != 'lossless':
            # Nothing else tells where a JPEG begins, and whether it is sound.
            assert lost == {name, *((camera, row) for row in range(STEPS + 1))}
            assert all(name in finding.what for finding in found)
        else:
            assert lost == {name}
            assert name in found[0].what
    assert errors(verify_episode(path, integrity_only=True)) == []


def cut_off(dataset):
    """Record without an end, as a killed process leaves it; return the journal's bytes."""
    writer = EpisodeWriter(dataset, EpisodeMeta(task='test'), sync_every=0)
    number = writer.episode_id
    for step in range(STEPS):
        writer.add_step(observation(number, step), action(number, step))
    data = dataset.journal_path(number).read_bytes()
    writer.discard()
    return number, data


def assert_steps(episode, number, kept):
    """Check that an episode holds just those steps, the last one without its outcome."""
    assert episode.steps == len(kept) - 1
    np.testing.assert_array_equal(episode.images(), [picture(number, step) for step in kept])
    for name in ('action', 'commanded_action', 'command_stamp', 'progress'):
        expected = [action(number, step).to_record()[name] for step in kept[:-1]]
        np.testing.assert_array_equal(episode[name], expected)


@pytest.mark.parametrize('trials', [60, pytest.param(2000, marks=pytest.mark.slow)])
def test_a_flipped_byte_of_a_journal_is_told_by_step_and_costs_only_that_step(memory, trials):
    dataset = Dataset(memory / f'journals-{trials}', create=True)
    first = record(dataset, steps=3)
    number, data = cut_off(dataset)
    journal, sealed = dataset.journal_path(number), dataset.episode_path(number)
    journal.write_bytes(data)
    with JournalReader(journal) as reader:
        begins = [offset for offset, _ in reader.located()]
    untouched = everything(first)
    rng = np.random.default_rng(0)
    for position in [*range(8), *begins, *rng.integers(len(data), size=trials).tolist()]:
        journal.write_bytes(data)
        flip(journal, position, int(rng.integers(8)))
        hit = int(np.searchsorted(begins, position, 'right')) - 2  # -1: the description
        before, = verify_dataset(dataset.path, integrity_only=True)
        found, = dataset.recover()
        assert before.episode == journal.name
        assert found.state == 'recovered', found
        if 0 <= hit < STEPS - 1 or (hit == -1 and position >= 8):
            assert found.damaged == (hit,)
            assert ('its description' if hit < 0 else f'step {hit}') in before.what
        assert_steps(Episode(sealed), number, [step for step in range(STEPS) if step != hit])
        if hit != STEPS - 1:  # the last record may look as if it was only cut off
            assert journal.with_name(f'{journal.name}.damaged').exists()
        assert everything(first) == untouched
        for left in dataset.path.glob(f'{journal.stem}.*'):
            shutil.rmtree(left) if left.is_dir() else left.unlink()


def test_a_byte_flipped_before_the_recording_is_finished_costs_only_that_step(tmp_path):
    dataset = Dataset(tmp_path / 'dataset', create=True)
    with EpisodeWriter(dataset) as writer:
        for step in range(STEPS):
            writer.add_step(observation(0, step), action(0, step))
        journal = dataset.journal_path(0)
        with open(journal, 'r+b') as file:  # a new file would not be the one being written
            file.seek(journal.stat().st_size // 2)
            byte = file.read(1)
            file.seek(-1, os.SEEK_CUR)
            file.write(bytes([byte[0] ^ 1]))
        writer.finish(observation(0, STEPS), True)
    gap, = dataset[0].attrs['gaps']
    assert_steps(dataset[0], 0, [step for step in range(STEPS + 1) if step != gap])
    assert dataset[0].attrs['success'] is True
    assert dataset[0].attrs['drops'] == {'damaged on disk': 1}
    assert [finding.episode for finding in verify_dataset(dataset.path, integrity_only=True)] == [
        'episode_000000.journal.damaged']


@pytest.fixture
def disk_calls(monkeypatch):
    """Give a function that puts another one in front of what the system writes with."""
    def front(name, before):
        real = getattr(os, name)

        def call(*args):
            before()
            return real(*args)
        monkeypatch.setattr(os, name, call)
    return front


def test_steps_that_meet_an_io_error_are_counted_and_recording_goes_on(tmp_path, disk_calls):
    dataset = Dataset(tmp_path / 'dataset', create=True)
    record(dataset)
    broken = False

    def fail():
        if broken:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
    recorder = EpisodeRecorder(dataset, minimum_free_bytes=0)
    recorder.start()
    disk_calls('pwrite', fail)
    for step in range(STEPS):
        broken = step in (3, 4)
        assert recorder.record(observation(1, step), action(1, step))
        wait_for(lambda done=step: recorder.steps + recorder.dropped == done + 1)
    assert 'Input/output error' in recorder.error
    summary = recorder.stop(True, observation(1, STEPS))
    assert (summary.dropped, summary.drops) == (2, {'disk': 2})
    assert_steps(dataset[1], 1, [0, 1, 2, 5, 6, 7, 8])
    assert dataset[1].attrs['gaps'] == [3]
    assert_holds(dataset[0], 5)
    assert errors(verify_dataset(dataset.path, integrity_only=True)) == []


def test_an_io_error_while_sealing_leaves_the_recording_to_be_sealed_later(tmp_path, disk_calls):
    dataset = Dataset(tmp_path / 'dataset', create=True)
    writer = EpisodeWriter(dataset)
    for step in range(STEPS):
        writer.add_step(observation(0, step), action(0, step))
    broken = True

    def fail():
        if broken and list(dataset.path.glob('.sealing-*')):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
    disk_calls('fsync', fail)
    with pytest.raises(EpisodeError, match=r'Input/output error.*the recording is kept in'):
        writer.finish(observation(0, STEPS), True)
    assert dataset.ids == []
    broken = False
    assert [item.state for item in dataset.recover()] == ['recovered']
    assert_holds(dataset[0], STEPS)
    assert dataset[0].attrs['success'] is True


def test_a_shard_that_cannot_be_read_is_named_and_nothing_else_is_affected(tmp_path):
    dataset = Dataset(tmp_path / 'dataset', create=True)
    path = record(dataset, cameras=CAMERAS)
    record(dataset)
    shard, = (file for file in (path / 'images/wrist/c').rglob('*') if file.is_file())
    shard.unlink()
    shard.symlink_to('/proc/self/mem')  # whose first page nobody has: the kernel answers EIO
    found = errors(verify_dataset(dataset.path, integrity_only=True))
    assert found
    for finding in found:
        assert finding.episode == path.name
        assert 'wrist' in finding.what
    np.testing.assert_array_equal(dataset[0].images('front')[0], picture(0, 0, 'front'))
    assert_holds(dataset[1], 5)


class BadSector:
    """A file of which some bytes cannot be read."""

    def __init__(self, file, sector):
        self._file, self._sector = file, sector

    def __getattr__(self, name):
        return getattr(self._file, name)

    def read(self, size):
        at = self._file.tell()
        if at < self._sector.stop and at + size > self._sector.start:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return self._file.read(size)


def test_a_bad_sector_under_a_journal_costs_the_steps_it_holds(tmp_path, monkeypatch):
    dataset = Dataset(tmp_path / 'dataset', create=True)
    number, data = cut_off(dataset)
    journal = dataset.journal_path(number)
    journal.write_bytes(data)
    with JournalReader(journal) as reader:
        begins = [offset for offset, _ in reader.located()]
    sector = range(begins[4] + 100, begins[4] + 200)  # of step 3
    monkeypatch.setattr(journal_reader, 'open', lambda *args: BadSector(
        builtins.open(*args), sector), raising=False)  # noqa: SIM115 the reader closes it
    found, = dataset.recover()
    assert found.state == 'recovered'
    assert found.damaged[0] == 3
    images = dataset[number].images()
    np.testing.assert_array_equal(images[:3], [picture(number, step) for step in range(3)])
    np.testing.assert_array_equal(images[-1], picture(number, STEPS - 1))
    assert (dataset.path / f'{journal.name}.damaged').read_bytes() == data


def fill(disk):
    """Leave no room on a disk; return what takes it."""
    with pytest.raises(OSError), open(disk / 'ballast', 'wb', buffering=0) as file:
        while True:
            file.write(bytes(4096))
    return disk / 'ballast'


def test_a_disk_that_fills_up_all_at_once_costs_nothing_that_was_written(small_disk):
    dataset = Dataset(small_disk / 'dataset', create=True)
    record(dataset)
    recorder = EpisodeRecorder(dataset, minimum_free_bytes=0)
    recorder.start()
    for step in range(1000):
        recorder.record(observation(1, step), action(1, step))
        wait_for(lambda done=step: recorder.steps + recorder.dropped == done + 1)
        if step == 20:
            ballast = fill(small_disk)
        if recorder.error:
            break
    written = recorder.steps
    assert written >= 20
    with pytest.raises(EpisodeError, match=r'No space left.*the recording is kept in'):
        recorder.stop(True)
    assert [item.state for item in dataset.recover()] == ['cut off']
    ballast.unlink()
    assert [item.state for item in dataset.recover()] == ['recovered']
    assert_holds(dataset[1], written - 1)
    assert_holds(dataset[0], 5)


def test_without_room_for_the_index_the_episodes_are_read_all_the_same(small_disk):
    dataset = Dataset(small_disk / 'dataset', create=True)
    record(dataset)
    (dataset.path / 'index.json').unlink()
    fill(small_disk)
    assert Dataset(dataset.path).ids == [0]
    assert_holds(Dataset(dataset.path)[0], 5)
    assert not (dataset.path / 'index.json').exists()


def test_a_disk_too_slow_delays_nobody_and_every_step_it_cost_is_counted(tmp_path, disk_calls):
    dataset = Dataset(tmp_path / 'dataset', create=True)
    recorder = EpisodeRecorder(dataset, capacity=4, minimum_free_bytes=0)
    recorder.start()
    disk_calls('pwrite', lambda: time.sleep(0.03))
    samples = [(observation(0, step), action(0, step)) for step in range(60)]
    accepted, delays = [], []
    for step, sample in enumerate(samples):
        begun = time.monotonic()
        if recorder.record(*sample):
            accepted.append(step)
        delays.append(time.monotonic() - begun)
        time.sleep(0.003)
    assert np.median(delays) < 0.03 / 2
    lost = 60 - len(accepted)
    assert lost > 10
    assert recorder.drops == {'queue full': lost}
    summary = recorder.stop(None)
    assert (summary.dropped, summary.drops) == (lost, {'queue full': lost})
    assert_steps(dataset[0], 0, accepted)
    missing = [row for row in range(1, len(accepted)) if accepted[row] > accepted[row - 1] + 1]
    assert dataset[0].attrs['gaps'] == missing
    assert dataset[0].attrs['dropped'] == lost


PERIOD_S = 0.02


def record_in_real_time(path, link):
    """Record with the stamps of the clock until told to end; tell every step."""
    recorder = EpisodeRecorder(Dataset(path), minimum_free_bytes=0)
    number = recorder.start(EpisodeMeta(task='test', control_rate=1 / PERIOD_S))
    steps = 0
    while not link.poll():
        now = time.time_ns()
        recorder.record(Observation({'front': picture(number, steps)}, capture_stamp=now),
                        Action(np.zeros(7), command_stamp=now, applied_stamp=now))
        steps += 1
        link.send(steps)
        time.sleep(PERIOD_S)
    summary = recorder.stop(True, Observation({'front': picture(number, steps)}))
    link.send((summary.steps, summary.dropped))
    link.recv()


@pytest.mark.parametrize('seconds', [1.0, pytest.param(5.0, marks=pytest.mark.slow)])
def test_a_recording_process_that_was_stopped_goes_on_and_says_so(tmp_path, seconds):
    dataset = Dataset(tmp_path / 'dataset', create=True)
    untouched = everything(record(dataset))
    ours, theirs = CONTEXT.Pipe()
    process = CONTEXT.Process(target=record_in_real_time, args=(dataset.path, theirs))
    process.start()
    while ours.recv() < 20:
        pass
    os.kill(process.pid, signal.SIGSTOP)
    time.sleep(seconds)
    other = Dataset(dataset.path)
    assert [item.state for item in other.recover()] == ['recording']
    assert everything(other.episode_path(0)) == untouched
    with pytest.raises(DatasetError, match=f'process {process.pid}'):
        EpisodeRecorder(other)
    os.kill(process.pid, signal.SIGCONT)
    while (steps := ours.recv()) < 40:
        pass
    ours.send('end')
    while isinstance(steps, int):
        told, steps = steps, ours.recv()
    ours.send('bye')
    process.join()
    assert steps == (told, 0)
    episode = dataset[1]
    pauses = np.diff(episode['command_stamp']) / 1e9
    assert pauses.max() > seconds
    assert (pauses > 0).all()
    np.testing.assert_array_equal(episode.images(), [picture(1, step) for step in range(told + 1)])
    assert episode.attrs['jitter_ms'] > 50
    assert episode.attrs['degraded'] is True
    assert everything(other.episode_path(0)) == untouched
    assert errors(verify_dataset(dataset.path, integrity_only=True)) == []
