"""Flags of 32 bits are recorded; episodes that an earlier version wrote with 16 still serve."""

from pathlib import Path
import zipfile

from data_samples import action, assert_holds, observation, record
import numpy as np
import pytest
from stable_crl_ros.data.cache_build import build_cache
from stable_crl_ros.data.copying import copy_episode
from stable_crl_ros.data.dataset import Dataset
from stable_crl_ros.data.episode import EpisodeWriter
from stable_crl_ros.data.listing import describe_episode
from stable_crl_ros.data.schema import EpisodeMeta
from stable_crl_ros.data.verify import errors, verify_episode
from stable_crl_ros.images import ImageSpec
from stable_crl_ros.robot.flags import StepFlag

ARCHIVE = Path(__file__).parent / 'data' / 'flags16.zip'


@pytest.fixture
def old(tmp_path):
    """Give a dataset of format 2 with 16 bit flags: two sealed episodes and one cut off."""
    zipfile.ZipFile(ARCHIVE).extractall(tmp_path)
    return Dataset(tmp_path / 'flags16')


def test_sealed_episodes_read_as_they_were_recorded_in_the_wider_type(old):
    assert old[0].array('flags').dtype == np.uint16
    assert old[0]['flags'].dtype == np.uint32
    for number, steps in ((0, 6), (1, 3)):
        assert_holds(old[number], steps)


def test_what_was_not_stored_yet_reads_as_not_recorded(old):
    assert 'checkpoint' not in old[0].names
    np.testing.assert_array_equal(old[0]['checkpoint'], np.zeros(6, np.uint64))
    assert np.isnan(old[0]['steps_to_go']).all() and old[0]['lateness'].shape == (6,)
    assert old[0]['done'].dtype == bool and not old[0]['done'].any()


def test_they_verify_and_are_described(old):
    assert errors(verify_episode(old[0].path)) == []
    assert describe_episode(old[0])['flags'] == {
        'translation_clipped': 3, 'rotation_clipped': 2, 'workspace_clipped': 2}


def test_a_journal_with_narrow_flags_becomes_an_episode_with_wide_ones(old):
    assert [item.state for item in old.recover()] == ['recovered']
    assert old[2].array('flags').dtype == np.uint32
    assert_holds(old[2], 2)
    assert old[2].attrs['unfinished_step']['flags'] == 2


def test_old_and_new_episodes_are_trained_on_together(old):
    record(old, steps=4)
    cache = build_cache(old, ImageSpec(12, 16))
    assert [(item.id, item.steps) for item in cache.episodes] == [(0, 6), (1, 3), (3, 4)]
    assert [errors(verify_episode(old[number].path)) for number in old.ids] == [[], [], []]


def test_a_copy_of_an_old_episode_holds_the_same(old, tmp_path):
    other = Dataset(tmp_path / 'other', create=True)
    number = copy_episode(old[0], other)
    assert other[number].array('flags').dtype == np.uint32
    assert_holds(other[number], 6, number=0)


def test_every_flag_is_recorded_and_named(tmp_path):
    dataset = Dataset(tmp_path / 'new', create=True)
    with EpisodeWriter(dataset, EpisodeMeta(task='test')) as writer:
        for step, flag in enumerate(StepFlag):
            flagged = action(0, step)
            flagged.flags = int(flag)
            writer.add_step(observation(0, step), flagged)
        writer.finish(observation(0, len(StepFlag)), True)
    assert dataset[0]['flags'].tolist() == [int(flag) for flag in StepFlag]
    assert describe_episode(dataset[0])['flags'] == {flag.name.lower(): 1 for flag in StepFlag}
