"""Datasets of format 1, as an earlier version wrote them, still open, read, record and recover."""

from pathlib import Path
import shutil
import zipfile

from data_samples import action, observation, picture, record
import numpy as np
import pytest
from stable_crl_ros.data.dataset import Dataset
from stable_crl_ros.data.episode import EpisodeError
from stable_crl_ros.data.labels import discard, relabel

CAMERAS = ('front', 'wrist')
ARCHIVE = Path(__file__).parent / 'data' / 'version1.zip'


@pytest.fixture
def old(tmp_path):
    """Give two sealed episodes (the second in several chunks) and one that was cut off."""
    zipfile.ZipFile(ARCHIVE).extractall(tmp_path)
    return Dataset(tmp_path / 'version1')


def assert_is_what_was_recorded(episode, number, steps, cameras):
    assert episode.steps == steps
    for camera in cameras:
        seen = np.stack([picture(number, step, camera) for step in range(steps + 1)])
        np.testing.assert_array_equal(episode.images(camera), seen)
        np.testing.assert_array_equal(list(episode.frames(camera)), seen)
        np.testing.assert_array_equal(episode.image(camera, -2), seen[-2])
        np.testing.assert_array_equal(episode.encoded(camera, 1).decode(), seen[1])
        assert episode.damaged_images(camera) == []
    for step in range(steps):
        np.testing.assert_array_equal(episode['action'][step],
                                      np.float32(action(number, step).action))
        np.testing.assert_array_equal(episode['ee_pose'][step],
                                      np.float32(observation(number, step).ee_pose))


def test_sealed_episodes_read_as_they_were_recorded(old):
    assert old.ids == [0, 1]
    assert_is_what_was_recorded(old[0], 0, 4, CAMERAS)
    assert_is_what_was_recorded(old[1], 1, 5, ['front'])
    assert len(list((old[1].path / 'images/front/c').iterdir())) == 3
    attrs = old[0].attrs
    assert (attrs['format_version'], attrs['task'], attrs['checkpoint']) == (
        1, 'open_drawer', 'ab' * 6)
    np.testing.assert_array_equal(old[0].goal_image, picture(9, 9))


def test_what_format_1_lacks_has_a_value(old):
    attrs = old[0].attrs
    assert (attrs['tags'], attrs['drops'], attrs['degraded'], attrs['rate_hz']) == (
        [], {}, False, None)
    assert [entry['tags'] for entry in old.index()] == [[], []]


def test_a_journal_of_format_1_becomes_an_episode_of_format_2(old):
    assert [item.state for item in old.recover()] == ['recovered']
    assert_is_what_was_recorded(old[2], 2, 3, ['front'])
    assert old[2].attrs['format_version'] == 2
    assert old[2]['ages/front'].tolist() == [-1, -1, -1]
    assert old[2].attrs['stale'] == 0


def test_recording_goes_on_in_the_same_dataset(old):
    assert (old.id, str(old.codec)) == ('', 'lossless')
    dataset = Dataset(old.path, create=True)
    assert dataset.id
    path = record(dataset, steps=2)
    assert path.name == 'episode_000003.zarr'
    assert dataset.ids == [0, 1, 3]


def test_labels_and_tombstones_reach_old_episodes(old):
    relabel(old, 0, 'ada', success=False, tags=['old'])
    discard(old, 1, 'ada', 'too long')
    assert old.ids == [0]
    assert (old[0].attrs['success'], old[0].attrs['tags']) == (False, ['old'])
    assert_is_what_was_recorded(old[0], 0, 4, CAMERAS)


def test_damage_is_found_and_a_missing_chunk_is_never_read_as_zeros(old):
    chunk = old[1].path / 'images/front/c/1/0/0/0'
    lost = shutil.move(chunk, old.path.parent / 'lost')
    episode = old[1]
    assert episode.damaged_images('front')[0][0] is None
    with pytest.raises(EpisodeError, match='missing'):
        episode.image('front', 2)
    np.testing.assert_array_equal(episode.image('front', 4), picture(1, 4))
    data = bytearray(Path(lost).read_bytes())
    data[-9] ^= 1
    chunk.write_bytes(data)
    with pytest.raises(EpisodeError, match='images/front is damaged'):
        old[1].images()
