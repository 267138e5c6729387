"""The training cache: the same transitions as the episodes, rebuilt exactly when they change."""

import os

from data_samples import action, observation, picture, record
import numpy as np
import pytest
from stable_crl_ros.data.cache import CacheError, TrainingCache
from stable_crl_ros.data.cache_build import build_cache
from stable_crl_ros.data.dataset import Dataset, DatasetError
from stable_crl_ros.data.episode import EpisodeWriter
from stable_crl_ros.images import ImageSpec

SPEC = ImageSpec(12, 16)


@pytest.fixture
def dataset(tmp_path):
    dataset = Dataset(tmp_path / 'dataset', create=True)
    for steps in (3, 1, 4):
        record(dataset, steps=steps)
    return dataset


def assert_transition(cache, index, number, step):
    """Compare a transition of the cache with what was recorded, number by number."""
    frame = cache.frames[index]
    np.testing.assert_array_equal(cache.observations[frame], picture(number, step))
    np.testing.assert_array_equal(cache.observations[frame + 1], picture(number, step + 1))
    np.testing.assert_array_equal(cache.actions[index], np.float32(action(number, step).action))
    seen = observation(number, step)
    state = np.concatenate([seen.joint_positions, [seen.gripper], seen.ee_pose])
    np.testing.assert_array_equal(cache.states[frame], np.float32(state))
    assert frame - cache.starts[index] == step


def test_every_transition_is_that_of_its_episode(dataset):
    cache = build_cache(dataset, SPEC)
    expected = [(0, 0), (0, 1), (0, 2), (1, 0), (2, 0), (2, 1), (2, 2), (2, 3)]
    assert len(cache) == len(expected)
    assert cache.observations.shape == (11, 12, 16, 3)
    for index, (number, step) in enumerate(expected):
        assert_transition(cache, index, number, step)
    assert cache.ends.tolist() == [3, 3, 3, 5, 10, 10, 10, 10]
    assert cache.episode.tolist() == [0, 0, 0, 1, 2, 2, 2, 2]
    assert [(item.id, item.steps) for item in cache.episodes] == [(0, 3), (1, 1), (2, 4)]


def test_no_transition_and_no_goal_leads_over_lost_steps(dataset):
    with EpisodeWriter(dataset) as writer:
        for step in range(7):
            writer.add_step(observation(3, step), action(3, step))
        writer.finish(observation(3, 7), attributes={'gaps': [2, 3]})
    cache = build_cache(dataset, SPEC)
    mine = np.flatnonzero(cache.episode == 3)
    first = 11  # frame
    assert (cache.frames[mine] - first).tolist() == [0, 3, 4, 5, 6]
    assert (cache.starts[mine] - first).tolist() == [0, 3, 3, 3, 3]
    assert (cache.ends[mine] - first).tolist() == [1, 7, 7, 7, 7]
    for index, step in zip(mine, (0, 3, 4, 5, 6), strict=True):
        np.testing.assert_array_equal(cache.actions[index], np.float32(action(3, step).action))
        np.testing.assert_array_equal(cache.observations[cache.frames[index]], picture(3, step))
    assert len(build_cache(dataset, SPEC)) == 8 + 5  # and when it is there already


def test_frames_are_resized_with_the_one_definition(dataset):
    spec = ImageSpec(8, 9, 'linear')
    cache = build_cache(dataset, spec)
    np.testing.assert_array_equal(cache.observations[1], spec.resize(picture(0, 1)))
    assert cache.image_spec == spec


def test_several_datasets_are_concatenated(dataset, tmp_path):
    other = Dataset(tmp_path / 'other', create=True)
    record(other, steps=2)
    cache = build_cache([dataset, other.path], SPEC)
    assert len(cache) == 10
    assert_transition(cache, 9, 0, 1)
    assert [item.dataset for item in cache.episodes] == [0, 0, 0, 1]
    assert cache.ends[-1] == 13


def test_episodes_without_a_transition_are_left_out(dataset):
    with EpisodeWriter(dataset) as writer:
        writer.add_step(observation(3, 0), action(3, 0))
        writer.finish()
    record(dataset, steps=2)
    cache = build_cache(dataset, SPEC)
    assert [item.id for item in cache.episodes] == [0, 1, 2, 4]
    assert_transition(cache, 9, 4, 1)


def inode(cache):
    return os.stat(cache.path / 'observations.npy').st_ino


def test_is_built_once_and_again_only_when_something_differs(dataset):
    first = build_cache(dataset, SPEC)
    assert inode(build_cache(dataset, SPEC)) == inode(first)
    other_size = build_cache(dataset, ImageSpec(8, 8))
    assert other_size.fingerprint != first.fingerprint
    assert inode(build_cache(dataset, SPEC)) == inode(first)  # the sizes live side by side
    record(dataset, steps=2)
    longer = build_cache(dataset, SPEC)
    assert longer.fingerprint != first.fingerprint
    assert len(longer) == len(first) + 2
    assert_transition(first, 7, 2, 3)  # a trainer that maps the old one keeps it


@pytest.mark.parametrize('name', ['cache.json', 'observations.npy', 'actions.npy'])
def test_a_lost_or_cut_file_is_named_and_rebuilt(dataset, name):
    cache = build_cache(dataset, SPEC)
    file = cache.path / name
    file.write_bytes(file.read_bytes()[:-9])
    with pytest.raises(CacheError, match='build it again'):
        TrainingCache.open(cache.path)
    assert_transition(build_cache(dataset, SPEC), 7, 2, 3)


def test_chooses_the_camera_asked_for_and_names_those_there_are(tmp_path):
    dataset = Dataset(tmp_path / 'dataset', create=True)
    record(dataset, cameras=('front', 'wrist'))
    cache = build_cache(dataset, SPEC, camera='wrist')
    np.testing.assert_array_equal(cache.observations[2], picture(0, 2, 'wrist'))
    for camera in (None, 'rear'):
        with pytest.raises(CacheError, match=r"\['front', 'wrist'\]"):
            build_cache(dataset, SPEC, camera)
    record(dataset, cameras=('wrist',))
    assert len(build_cache(dataset, SPEC)) == 10  # the one camera all episodes share


def test_splits_whole_episodes(dataset):
    cache = build_cache(dataset, SPEC)
    train, validation = cache.split([1, 2])
    assert train.episode.tolist() == [0, 0, 0]
    assert validation.episode.tolist() == [1, 2, 2, 2, 2]
    assert_transition(train, 2, 0, 2)
    assert_transition(validation, 4, 2, 3)
    assert np.shares_memory(train.observations, validation.observations)


def test_splits_by_dataset_where_numbers_repeat(dataset, tmp_path):
    other = Dataset(tmp_path / 'other', create=True)
    record(other, steps=2)
    cache = build_cache([dataset, other], SPEC)
    with pytest.raises(CacheError, match='several datasets have an episode 0'):
        cache.split([0])
    assert cache.split([(1, 0)])[1].episode.tolist() == [3, 3]


@pytest.mark.parametrize(('held_out', 'message'), [
    ([9], r'episode 9 is unknown; give one of \[0, 1, 2\]'),
    ([], 'leave some on both sides'),
    ([0, 1, 2], 'leave some on both sides'),
])
def test_refuses_a_split_that_makes_no_sense(dataset, held_out, message):
    with pytest.raises(CacheError, match=message):
        build_cache(dataset, SPEC).split(held_out)


def test_keeps_the_first_whole_episodes_of_a_smaller_size(dataset):
    cache = build_cache(dataset, SPEC)  # episodes of 3, 1 and 4 transitions
    small = cache.head(7)
    assert small.episode.tolist() == [0, 0, 0, 1]
    assert [item.id for item in small.episodes] == [0, 1]
    assert len(cache.head(8)) == len(cache) == 8
    with pytest.raises(CacheError, match='first episode alone has 3'):
        cache.head(2)


def test_the_first_episodes_are_known_again_after_the_dataset_grew(dataset):
    cache = build_cache(dataset, SPEC)
    before, whole = cache.head(7).fingerprint, cache.fingerprint
    record(dataset, steps=2)
    grown = build_cache(dataset, SPEC)
    assert grown.fingerprint != whole
    assert grown.head(7).fingerprint == before
    assert grown.head(4).fingerprint == before  # the same two episodes
    assert grown.head(8).fingerprint != before
    assert build_cache(dataset, ImageSpec(16, 16)).head(7).fingerprint != before


def test_refuses_datasets_without_transitions(tmp_path):
    empty = Dataset(tmp_path / 'empty', create=True)
    with pytest.raises(CacheError, match='record or collect episodes first'):
        build_cache(empty, SPEC)
    with pytest.raises(CacheError, match='name at least one'):
        build_cache([], SPEC)
    with pytest.raises(DatasetError, match='does not exist'):
        build_cache(tmp_path / 'none', SPEC)


def test_explains_a_place_that_cannot_be_written_and_takes_another(dataset, tmp_path):
    (tmp_path / 'file').write_text('x')
    with pytest.raises(CacheError, match='give another out_dir'):
        build_cache(dataset, SPEC, out_dir=tmp_path / 'file')
    cache = build_cache(dataset, SPEC, out_dir=tmp_path / 'caches')
    assert cache.path.parent == tmp_path / 'caches'
    assert not (dataset.path / '.cache').exists()
