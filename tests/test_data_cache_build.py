"""Building the training cache: resumable at any instant, wherever the dataset lies."""

from functools import partial
import json
import multiprocessing
import os
from pathlib import Path
import pty
import shutil
import subprocess
import sys
import termios
import time
import zipfile

from data_samples import action, picture, record
from disks import run_unprivileged
import numpy as np
import pytest
from stable_crl_ros.data.cache import CacheError, TrainingCache
from stable_crl_ros.data.cache_build import build_cache
from stable_crl_ros.data.dataset import Dataset
from stable_crl_ros.data.episode import EpisodeError, EpisodeWriter
from stable_crl_ros.data.labels import discard, restore
from stable_crl_ros.data.schema import Observation
from stable_crl_ros.data.union import open_datasets
from stable_crl_ros.images import ImageSpec

SPEC = ImageSpec(12, 16)
CONTEXT = multiprocessing.get_context('forkserver')
CONTEXT.set_forkserver_preload(['data_samples', 'pytest', 'stable_crl_ros.data.cache_build'])


STEPS = (3, 1, 4, 1, 5, 9, 2, 6)
FRAMES = sum(STEPS) + len(STEPS)


@pytest.fixture(scope='module')
def recorded(tmp_path_factory):
    dataset = Dataset(tmp_path_factory.mktemp('recorded') / 'dataset', create=True)
    for steps in STEPS:
        record(dataset, steps=steps)
    return dataset.path


@pytest.fixture
def dataset(recorded, tmp_path):
    return Dataset(shutil.copytree(recorded, tmp_path / 'dataset'))


def contents(cache):
    return {path.name: path.read_bytes() for path in cache.path.iterdir()}


def calls_of(dataset, **kwargs):
    calls = []
    cache = build_cache(dataset, SPEC, progress=lambda *call: calls.append(call), **kwargs)
    return cache, calls


def test_tells_how_many_frames_are_done(dataset):
    _, calls = calls_of(dataset)
    assert calls == [(done, FRAMES) for done in range(FRAMES + 1)]
    assert calls_of(dataset)[1] == []  # nothing to do


def interrupt(at, done, total):
    if done >= at:
        raise KeyboardInterrupt


@pytest.mark.parametrize(('at', 'kept'), [(0, 0), (4, 0), (5, 4), (20, 19), (39, 32)])
def test_goes_on_after_the_last_whole_episode_and_ends_byte_for_byte_the_same(
        dataset, tmp_path, at, kept):
    whole = contents(build_cache(dataset, SPEC, out_dir=tmp_path / 'whole'))
    with pytest.raises(KeyboardInterrupt):
        build_cache(dataset, SPEC, progress=partial(interrupt, at))
    cache, calls = calls_of(dataset)
    assert calls[0] == (kept, FRAMES)
    assert contents(cache) == whole


def build_and_tell(path, link):
    """Build a cache slowly enough to be killed; tell what is done."""
    def tell(done, total):
        link.send(done)
        time.sleep(0.002)
    build_cache(path, SPEC, progress=tell)
    link.send('built')


def last_report(link):
    reports = []
    try:
        while True:
            reports.append(link.recv())
    except EOFError:
        return reports


def test_killed_at_any_moment_it_goes_on_and_ends_byte_for_byte_the_same(dataset, tmp_path):
    whole = contents(build_cache(dataset, SPEC, out_dir=tmp_path / 'whole'))
    ends = np.cumsum([entry['steps'] + 1 for entry in dataset.index()])
    rng = np.random.default_rng(0)
    kept = kills = 0
    while kills < 6:
        ours, theirs = CONTEXT.Pipe(duplex=False)
        child = CONTEXT.Process(target=build_and_tell, args=(dataset.path, theirs))
        child.start()
        theirs.close()
        first = ours.recv()
        assert first == 'built' or first >= kept
        time.sleep(rng.uniform(0, 0.03))
        child.kill()
        reports = [first, *last_report(ours)]
        child.join()
        if reports[-1] == 'built':  # too late; once more from the beginning
            shutil.rmtree(dataset.path / '.cache')
            kept = 0
            continue
        kills += 1
        # An episode may have been finished without being told any more.
        kept = max(kept, *ends[ends < reports[-1]], 0)
    assert contents(build_cache(dataset, SPEC)) == whole


def cut(path, share):
    path.write_bytes(path.read_bytes()[:int(path.stat().st_size * share)])


def flip(path, share):
    data = bytearray(path.read_bytes())
    data[int(len(data) * share)] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize('damage', [cut, flip])
@pytest.mark.parametrize('name', ['observations.npy', 'states.npy', 'actions.npy',
                                  'episodes.log'])
@pytest.mark.parametrize('share', [0.001, 0.5, 0.99])
def test_what_a_power_cut_left_half_written_is_written_again(
        dataset, tmp_path, damage, name, share):
    whole = contents(build_cache(dataset, SPEC, out_dir=tmp_path / 'whole'))
    with pytest.raises(KeyboardInterrupt):
        build_cache(dataset, SPEC, progress=partial(interrupt, 20))
    building, = (dataset.path / '.cache').glob('.building-*')
    damage(building / name, share)
    assert contents(build_cache(dataset, SPEC)) == whole


def test_another_size_does_not_go_on_with_frames_of_this_one(dataset, tmp_path):
    for spec in (SPEC, ImageSpec(12, 16, 'linear')):
        whole = contents(build_cache(dataset, spec, out_dir=tmp_path / 'whole'))
        with pytest.raises(KeyboardInterrupt):
            build_cache(dataset, spec, progress=partial(interrupt, 20))
        assert contents(build_cache(dataset, spec)) == whole


def test_appended_episodes_are_added_without_reading_the_others(dataset, tmp_path):
    first = build_cache(dataset, SPEC)
    number = len(dataset)
    record(dataset, steps=2)
    hidden = dataset.episode_path(0) / 'images'
    hidden.rename(tmp_path / 'images')  # decoding it again would fail
    grown = build_cache(dataset, SPEC)
    (tmp_path / 'images').rename(hidden)
    np.testing.assert_array_equal(grown.observations[-2], picture(number, 1))
    assert contents(grown) == contents(build_cache(dataset, SPEC, out_dir=tmp_path / 'whole'))
    np.testing.assert_array_equal(first.observations, grown.observations[:-3])


def test_a_removed_episode_leaves_the_cache_without_reading_the_others(dataset, tmp_path):
    build_cache(dataset, SPEC)
    shutil.rmtree(dataset.episode_path(2))
    (dataset.episode_path(0) / 'images').rename(tmp_path / 'images')
    smaller = build_cache(dataset, SPEC)
    (tmp_path / 'images').rename(dataset.episode_path(0) / 'images')
    assert [item.id for item in smaller.episodes] == [0, 1, 3, 4, 5, 6, 7]
    assert contents(smaller) == contents(build_cache(dataset, SPEC, out_dir=tmp_path / 'whole'))


def test_damage_in_an_old_cache_is_not_carried_over(dataset, tmp_path):
    flip(build_cache(dataset, SPEC).path / 'observations.npy', 0.5)
    record(dataset, steps=2)
    assert contents(build_cache(dataset, SPEC)) == contents(
        build_cache(dataset, SPEC, out_dir=tmp_path / 'whole'))


def test_a_damaged_episode_is_named_and_what_was_built_before_it_is_kept(dataset, tmp_path):
    (dataset.episode_path(4) / 'images').rename(tmp_path / 'images')
    with pytest.raises(EpisodeError, match='episode_000004'):
        build_cache(dataset, SPEC)
    (tmp_path / 'images').rename(dataset.episode_path(4) / 'images')
    assert calls_of(dataset)[1][0] == (13, FRAMES)


@pytest.mark.parametrize('move', [shutil.move, shutil.copytree])
def test_a_dataset_that_was_moved_or_copied_keeps_its_cache(dataset, tmp_path, move):
    built = build_cache(dataset, SPEC)
    move(dataset.path, tmp_path / 'elsewhere')
    cache, calls = calls_of(tmp_path / 'elsewhere')
    assert calls == []
    assert cache.path == tmp_path / 'elsewhere' / '.cache' / built.path.name


def test_a_dataset_on_a_read_only_disk_is_read_through_the_users_cache(
        dataset, tmp_path, read_only, monkeypatch):
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'user'))
    whole = contents(build_cache(dataset, SPEC, out_dir=tmp_path / 'whole'))
    read_only(dataset.path)
    cache = build_cache(dataset.path, SPEC)
    assert cache.path.parent == tmp_path / 'user' / 'stable_crl_ros'
    assert contents(cache) == whole
    assert calls_of(dataset.path)[1] == []


def test_a_cache_on_a_read_only_disk_is_used_where_it_lies(dataset, read_only):
    built = build_cache(dataset, SPEC)
    read_only(dataset.path)
    cache, calls = calls_of(dataset.path)
    assert (cache.path, calls) == (built.path, [])


def test_names_every_place_that_refused_and_asks_for_another(dataset, tmp_path):
    for parent in (tmp_path, *tmp_path.parents[:3]):  # pytest's own are private
        parent.chmod(0o755)
    (tmp_path / 'user').mkdir(0o755)
    places = {'XDG_CACHE_HOME': str(tmp_path / 'user')}

    def build():
        os.environ.update(places)
        build_cache(dataset.path, SPEC)
    dataset.path.chmod(0o555)
    (tmp_path / 'user').chmod(0o555)
    message = run_unprivileged(build)
    dataset.path.chmod(0o755)
    assert message.startswith('CacheError: the training cache cannot be written')
    for part in (f'{dataset.path}/.cache (Permission denied)',
                 f'{tmp_path}/user/stable_crl_ros (Permission denied)', 'give another out_dir'):
        assert part in message


def test_a_disk_without_room_is_told_before_anything_is_written(dataset, small_disk):
    with pytest.raises(CacheError, match=r'it needs .* GB more, .* GB are free'):
        build_cache(dataset, ImageSpec(128, 128), out_dir=small_disk / 'caches')
    assert [path.suffix for path in (small_disk / 'caches').iterdir()] == ['.lock']


def test_a_disk_that_fills_up_gets_its_room_back(dataset, small_disk):
    def fill(done, total):
        if done == 2:
            (small_disk / 'ballast').write_bytes(bytes(os.statvfs(small_disk).f_bavail * 4096))
    with pytest.raises(CacheError, match='No space left on device'):
        build_cache(dataset, ImageSpec(64, 64), out_dir=small_disk / 'caches', progress=fill)
    assert not list((small_disk / 'caches').glob('.building-*'))
    (small_disk / 'ballast').unlink()
    assert len(build_cache(dataset, ImageSpec(64, 64), out_dir=small_disk / 'caches')) == 31


def test_labels_of_today_are_told_although_no_frame_changed(dataset):
    build_cache(dataset, SPEC)
    file = dataset.episode_path(1) / 'zarr.json'
    group = json.loads(file.read_bytes())
    group['attributes'] |= {'success': False, 'task': 'another'}
    file.write_text(json.dumps(group))
    cache, calls = calls_of(dataset)
    assert calls == []
    assert (cache.episodes[1].task, cache.episodes[1].success) == ('another', False)


SCRIPT = """
import sys, time
from stable_crl_ros.data import cache_build
from stable_crl_ros.images import ImageSpec
cache_build.BAR_DELAY_S = 0
cache_build.build_cache(sys.argv[1], ImageSpec(12, 16))
print('built')
"""


def test_a_terminal_shows_a_bar_on_stderr_and_nothing_else_does(dataset):
    command = [sys.executable, '-c', SCRIPT, dataset.path]
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 80))
    seen = subprocess.run(command, stdout=subprocess.PIPE, stderr=theirs, check=True)
    assert seen.stdout == b'built\n'
    assert b'reading data' in os.read(ours, 10_000)
    os.close(theirs)
    os.close(ours)
    shutil.rmtree(dataset.path / '.cache')
    silent = subprocess.run(command, capture_output=True, check=True)
    assert (silent.stdout, silent.stderr) == (b'built\n', b'')


def test_processes_that_want_the_same_cache_build_it_once(dataset):
    pipes = []
    for _ in range(3):
        ours, theirs = CONTEXT.Pipe(duplex=False)
        CONTEXT.Process(target=build_and_tell, args=(dataset.path, theirs)).start()
        theirs.close()
        pipes.append(ours)
    reports = [last_report(link) for link in pipes]
    assert sorted(map(len, reports)) == [1, 1, FRAMES + 2]
    assert len(TrainingCache.open(next((dataset.path / '.cache').glob('front-*[!k]')))) == 31


def test_discarded_episodes_are_left_out_and_come_back(dataset):
    whole = contents(build_cache(dataset, SPEC))
    discard(dataset, 2, 'ann', 'the cup fell')
    assert [item.id for item in build_cache(dataset, SPEC).episodes] == [0, 1, 3, 4, 5, 6, 7]
    restore(dataset, 2, 'ann')
    assert contents(build_cache(dataset, SPEC)) == whole


def test_episodes_of_every_format_and_codec_are_read_alike(dataset, tmp_path):
    with zipfile.ZipFile(Path(__file__).parent / 'data' / 'version1.zip') as archive:
        archive.extractall(tmp_path)
    first = next(tmp_path.rglob('episode_*.zarr')).parent
    jpeg = Dataset(tmp_path / 'jpeg', create=True, image_codec='jpeg:95')
    record(jpeg, steps=4)
    union = open_datasets([Dataset(first), dataset, jpeg])
    camera = 'front'
    assert {episode.attrs['format_version'] for episode in union.episodes} == {1, 2}
    cache = build_cache(union.datasets, SPEC, camera)
    frames, actions = [], []
    for episode in union.episodes:
        frames += [SPEC.resize(image) for image in episode.images(camera)]
        actions.append(episode['action'])
    np.testing.assert_array_equal(cache.observations, frames)
    np.testing.assert_array_equal(cache.actions, np.concatenate(actions))


MEASURE = """
import re, sys
from pathlib import Path
from stable_crl_ros.data.cache_build import build_cache
from stable_crl_ros.images import ImageSpec
def peak():
    return int(re.search(r'VmHWM:\\s+(\\d+)', Path('/proc/self/status').read_text())[1]) / 1024
before = []
build_cache(sys.argv[1], ImageSpec(16, 16), progress=lambda *_: before or before.append(peak()))
print(peak() - before[0])
"""


def test_a_long_episode_is_not_held_in_memory(tmp_path):
    dataset = Dataset(tmp_path / 'dataset', create=True)
    image = np.zeros((480, 640, 3), np.uint8)
    with EpisodeWriter(dataset, sync_every=0) as writer:
        for step in range(80):
            writer.add_step(Observation({'front': image}), action(0, step))
        writer.finish(Observation({'front': image}))
    done = subprocess.run([sys.executable, '-c', MEASURE, dataset.path], capture_output=True,
                          check=True)
    assert float(done.stdout) < 30  # MB; the images are 75 MB
