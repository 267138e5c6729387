"""Copies of episodes: bit by bit where the codec is the same, with their history."""

from pathlib import Path
import zipfile

from data_samples import action, assert_holds, observation, picture, record
import numpy as np
import pytest
from stable_crl_ros.data.cache_build import build_cache
from stable_crl_ros.data.copying import copy_episode
from stable_crl_ros.data.dataset import Dataset
from stable_crl_ros.data.episode import EpisodeError, EpisodeWriter
from stable_crl_ros.data.labels import relabel
from stable_crl_ros.data.schema import EpisodeMeta
from stable_crl_ros.images import ImageSpec

CAMERAS = ('front', 'wrist')
VERSION_1 = Path(__file__).parent / 'data' / 'version1.zip'


@pytest.fixture
def dataset(tmp_path):
    return Dataset(tmp_path / 'dataset', create=True)


@pytest.fixture
def other(tmp_path):
    return Dataset(tmp_path / 'other', create=True)


def test_a_copy_has_the_same_checksum_labels_and_origin(dataset, other):
    meta = EpisodeMeta(task='push', tags=['a'], goal_image=picture(9, 9), extra={'seed': 3})
    record(dataset, steps=6, cameras=CAMERAS, meta=meta)
    relabel(dataset, 0, 'ada', success=False)
    original = dataset[0]
    copy = other[copy_episode(original, other, attributes={'note': 'x'})]
    assert_holds(copy, 6, CAMERAS, number=0)
    changed = {name for name in copy.attrs if copy.attrs[name] != original.attrs.get(name)}
    assert changed == {'note', 'copied_from', 'attributes_sha256'}
    assert copy.attrs['copied_from'] == {
        'dataset': dataset.id, 'episode': 0, 'rows': [0, 6],
        'checksum': original.attrs['checksum']}
    np.testing.assert_array_equal(copy.goal_image, original.goal_image)


def test_a_part_keeps_its_rows_and_counts_steps_from_its_own_first(dataset, other):
    with EpisodeWriter(dataset) as writer:
        for step in range(8):
            writer.add_step(observation(0, step), action(0, step))
        writer.finish(observation(0, 8), True, attributes={
            'checkpoints': [[0, 'a'], [2, 'b'], [4, 'c'], [7, 'd']], 'gaps': [1, 3, 5, 6, 7]})
    copy = other[copy_episode(dataset[0], other, rows=slice(3, 6))]
    assert copy.steps == 3
    for name in ('action', 'ages/front', 'capture_stamp'):
        np.testing.assert_array_equal(copy[name], dataset[0][name][3:6])
    np.testing.assert_array_equal(copy.images(), dataset[0].images()[3:7])
    assert copy.attrs['final_capture_stamp'] == dataset[0]['capture_stamp'][6]
    assert copy.attrs['checkpoints'] == [[0, 'b'], [1, 'c']]
    assert copy.attrs['gaps'] == [2, 3]  # what it ends with lies behind the one at its end
    assert copy.attrs['copied_from']['rows'] == [3, 6]


@pytest.mark.parametrize(('rows', 'learnable'), [
    (slice(0, 3), 2), (slice(0, 2), 2), (slice(3, 5), 1), (slice(None), 3)])
def test_no_copy_makes_a_transition_over_a_gap_learnable(dataset, other, rows, learnable):
    with EpisodeWriter(dataset) as writer:
        for step in range(5):
            writer.add_step(observation(0, step), action(0, step))
        writer.finish(observation(0, 5), attributes={'gaps': [3, 5]})
    copy_episode(dataset[0], other, rows=rows)
    assert len(build_cache(other, ImageSpec(8, 8))) == learnable


def test_jpegs_are_copied_byte_by_byte_and_never_encoded_again(tmp_path):
    source = Dataset(tmp_path / 'source', create=True, image_codec='jpeg:80')
    target = Dataset(tmp_path / 'target', create=True, image_codec='jpeg:95')
    record(source)
    copy = target[copy_episode(source[0], target)]
    for row in range(6):
        assert copy.encoded('front', row).data == source[0].encoded('front', row).data


def test_another_kind_of_codec_encodes_what_the_original_shows(tmp_path, other):
    source = Dataset(tmp_path / 'source', create=True, image_codec='jpeg:80')
    record(source)
    copy = other[copy_episode(source[0], other)]
    np.testing.assert_array_equal(copy.images(), source[0].images())


def test_an_episode_of_format_1_becomes_one_of_format_2(tmp_path, other):
    zipfile.ZipFile(VERSION_1).extractall(tmp_path)
    old = Dataset(tmp_path / 'version1')
    for number, cameras, steps in ((0, CAMERAS, 4), (1, ('front',), 5)):
        copy = other[copy_episode(old[number], other)]
        np.testing.assert_array_equal(copy.images('front'), old[number].images('front'))
        np.testing.assert_array_equal(copy['action'], old[number]['action'])
        assert (copy.attrs['format_version'], copy.steps) == (2, steps)
        assert copy.cameras == list(cameras)
        assert copy['ages/front'].tolist() == [-1] * steps
        assert copy.attrs['created_ns'] == old[number].attrs['created_ns']


@pytest.mark.parametrize('rows', [slice(3, 3), slice(5, None), slice(0, 5, 2)])
def test_refuses_rows_that_are_none(dataset, other, rows):
    record(dataset)
    with pytest.raises(EpisodeError, match='steps 0 to 4'):
        copy_episode(dataset[0], other, rows=rows)
    assert other.ids == []


def test_a_damaged_original_leaves_nothing_behind(dataset, other):
    file = record(dataset) / 'images/front/c/0/0/0/0'
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    with pytest.raises(EpisodeError, match='image [23] differs'):
        copy_episode(dataset[0], other)
    assert (other.ids, other.unsealed()) == ([], [])
