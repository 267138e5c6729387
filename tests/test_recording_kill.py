"""Kill the real episode logger at random instants: at most 0.2 s is lost, and nothing before."""

from collections import Counter
import contextlib
import fcntl
import hashlib
import os
from pathlib import Path
import select
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

pytest.importorskip('rclpy')

from recording_source import CAMERAS
from stable_crl_ros.data.dataset import Dataset
from stable_crl_ros.data.journal import JournalError
from stable_crl_ros.data.journal_reader import JournalReader
from stable_crl_ros.environment import ros_environment

HERE = Path(__file__).resolve().parent
RATE = 30  # Hz, of cameras and control
STEPS = 15  # of an episode: one is sealed every half second
LONGEST_LOSS_S = 0.2
KILLS_PER_DATASET = 8
START_LIMIT_S = 20.0
MOMENTS = ('any', 'sealing', 'index', 'any')
# Imports take longest, so they are done while the one before is still recording.
PROGRAM = ('import sys; from stable_crl_ros.nodes import episode_logger; '
           'print("imported", flush=True); sys.stdin.readline(); '
           'sys.exit(episode_logger.main())')
TOPICS = ['image_raw', *(f'{name}/image_raw' for name in CAMERAS[1:])]


class Logger:
    """A process that is ready to become an episode logger, and records without end once it is."""

    def __init__(self, path, codec, number):
        parameters = {
            'dataset_path': path, 'image_codec': codec, 'cameras': f'[{", ".join(CAMERAS)}]',
            'image_topics': f'[{", ".join(TOPICS)}]', 'control_rate': float(RATE),
            'record_on_start': 'true', 'record_again': 'true', 'max_steps': STEPS}
        words = [word for name, value in parameters.items() for word in ('-p', f'{name}:={value}')]
        self.process = subprocess.Popen(
            [sys.executable, '-c', PROGRAM, '--ros-args', '-r', f'__node:=logger_{number}',
             *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            env=ros_environment())

    def record(self):
        select.select([self.process.stdout], [], [], START_LIMIT_S)
        self.process.stdin.write(b'go\n')
        self.process.stdin.flush()

    def kill(self):
        """Return when it was killed, ns."""
        now = time.time_ns()
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            with contextlib.suppress(BrokenPipeError):
                pipe.close()
        return now


def names(path):
    try:
        return os.listdir(path)
    except FileNotFoundError:
        return []


def wait_for(path, condition, limit_s=START_LIMIT_S):
    """Look at a directory again and again, without a pause: some states last a millisecond."""
    end = time.monotonic() + limit_s
    while not condition(names(path)):
        assert time.monotonic() < end, f'{path} holds {names(path)}'


def recording(found):
    return any(name.endswith('.journal') for name in found)


def sealing(found):
    return any(name.startswith('.sealing') for name in found)


def index_write(found):
    return any(name.startswith('.index') for name in found)


def kill_at(logger, path, moment, rng):
    """Let it record, kill it at a moment, and return when that was, ns."""
    logger.record()
    wait_for(path, recording)
    time.sleep(rng.uniform(0.0, 1.2))
    if moment != 'any':
        wait_for(path, sealing)
        if moment == 'index':
            wait_for(path, index_write)
        time.sleep(rng.choice([0.0, rng.uniform(0.0, 0.02)]))
    return logger.kill()


def digest(path):
    """Return the sha256 of all that an episode consists of."""
    whole = hashlib.sha256()
    for file in sorted(path.rglob('*')):
        whole.update(str(file.relative_to(path)).encode())
        if file.is_file():
            whole.update(file.read_bytes())
    return whole.hexdigest()


def begun_ns(path):
    """Return when the newest journal was begun; None when there is none or not even that."""
    for journal in sorted(path.glob('*.journal'), reverse=True):
        with contextlib.suppress(JournalError, OSError), JournalReader(journal) as reader:
            for header in reader:
                return header['created_ns']
    return None


def check(path, known, ticks):
    """
    Open what a killed logger left.

    :param known: number -> digest of the episodes that were there before; brought up to date.
    :param ticks: stamps of the control steps before the kill, ns.
    :returns: what was found, and the seconds of the current episode that are lost.
    """
    sealed = {number: digest(Dataset(path).episode_path(number)) for number in Dataset(path).ids}
    assert known.items() <= sealed.items()
    begun = begun_ns(path)
    found = [item.state for item in Dataset(path).recover()]
    assert set(found) <= {'recovered', 'empty', 'reserved', 'sealed'}
    dataset = Dataset(path)
    assert sealed.items() <= {n: digest(dataset.episode_path(n)) for n in dataset.ids}.items()
    assert not sealing(names(path))
    new = [dataset[number] for number in dataset.ids if number not in sealed]
    lost_ns = [lost_of(episode, ticks) for episode in new]
    if found and found[-1] == 'empty' and begun is not None:  # nothing was recorded yet
        lost_ns.append(ticks[-1] - begun)
    known.update({number: digest(dataset.episode_path(number)) for number in dataset.ids})
    return found, max(0, *lost_ns, 0) * 1e-9


def lost_of(episode, ticks):
    """Read all of a recovered episode; return how much is missing since it was begun, ns."""
    assert sorted(episode.cameras) == sorted(CAMERAS)
    for camera in CAMERAS:
        assert episode.images(camera).shape == (episode.steps + 1, 480, 640, 3)
        assert (episode[f'ages/{camera}'] >= 0).all()
    numbers = (episode['action'][:, 0] * 1e6).round().astype(int)
    assert (np.diff(numbers) >= 1).all()
    if not episode.attrs['interrupted']:
        return 0  # it had ended, and was only not yet sealed
    if not episode.steps:
        numbers = np.searchsorted(ticks, [episode.attrs['final_capture_stamp']])
    last = ticks[min(numbers[0] + STEPS - 1, len(ticks) - 1)]  # it was to have
    return last - max(episode.attrs['final_capture_stamp'], episode.attrs['created_ns'])


def clean_shared_memory():
    """Remove the segments that killed processes left: 17 MB each. The ports are used again."""
    for lock in Path('/dev/shm').glob(f'fastrtps_{"[0-9a-f]" * 16}_el'):
        with contextlib.suppress(OSError), open(lock) as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            lock.with_name(lock.name.removesuffix('_el')).unlink(missing_ok=True)
            lock.unlink(missing_ok=True)


@pytest.fixture
def robot(tmp_path):
    """Play three cameras, arm states and control ticks; gives the file of the ticks' stamps."""
    log = tmp_path / 'ticks'
    process = subprocess.Popen(
        [sys.executable, HERE / 'recording_source.py', '--cameras', '3', '--camera-rate',
         str(RATE), '--control-rate', str(RATE), '--log', log],
        stdout=subprocess.PIPE, env=ros_environment())
    process.stdout.readline()
    yield log
    process.kill()
    process.wait()
    process.stdout.close()
    clean_shared_memory()


def kill_repeatedly(folder, ticks, kills, rng):
    """Kill that many loggers, some per dataset; return what was lost each time and found."""
    losses, found = [], Counter()
    plan = [(folder / f'dataset_{number // KILLS_PER_DATASET}',
             ('lossless', 'jpeg:90')[number // KILLS_PER_DATASET % 2], number)
            for number in range(kills)]
    known, waiting = {}, [Logger(*plan[0])]
    try:
        for path, _, number in plan:
            if number and number % KILLS_PER_DATASET == 0:
                shutil.rmtree(plan[number - 1][0], ignore_errors=True)  # else it fills the disk
                known = {}
            logger = waiting.pop()
            if number + 1 < kills:
                waiting.append(Logger(*plan[number + 1]))
            try:
                killed_ns = kill_at(logger, path, MOMENTS[number % len(MOMENTS)], rng)
            finally:
                logger.kill()
            stamps = np.fromfile(ticks, np.int64)
            states, lost_s = check(path, known, stamps[stamps <= killed_ns])
            losses.append(lost_s)
            found.update(states or ['nothing to recover'])
            clean_shared_memory()
    finally:
        for logger in waiting:
            logger.kill()
    print(f'{kills} kills: {dict(found)}, lost at most {max(losses):.3f} s, in the middle '
          f'{np.median(losses):.3f} s')
    return losses, found


def test_a_killed_recording_loses_at_most_its_last_moment(robot, tmp_path):
    losses, found = kill_repeatedly(tmp_path, robot, 3, np.random.default_rng())
    assert max(losses) <= LONGEST_LOSS_S, losses
    assert found['recovered']


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_two_hundred_kills_lose_at_most_the_last_moment(robot, tmp_path):
    losses, found = kill_repeatedly(tmp_path, robot, 200, np.random.default_rng(4))
    assert max(losses) <= LONGEST_LOSS_S, sorted(losses)[-10:]
    assert found['recovered'] > 50
