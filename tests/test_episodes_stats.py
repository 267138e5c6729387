"""Statistics: the numbers of whole datasets, by dimension, as values, tables and a picture."""

import json

import cv2
from data_samples import record
from episode_samples import in_memory, record_rows, rows
import numpy as np
import pytest
from stable_crl_ros.data.dataset import Dataset
from stable_crl_ros.data.schema import EpisodeMeta
from stable_crl_ros.data.statistics import (
    draw_histograms,
    format_statistics,
    measure,
    StatisticsError,
)


@pytest.fixture
def datasets():
    """Record two datasets whose actions are all different."""
    with in_memory() as folder:
        made = [Dataset(folder / name, create=True) for name in ('one', 'two')]
        for dataset, steps in zip(made, (8, 5), strict=True):
            record(dataset, steps=steps, meta=EpisodeMeta(task='push', operator='ada'))
        record(made[1], steps=3, success=None, meta=EpisodeMeta(task='lift'))
        yield made


def test_every_dimension_is_that_of_all_episodes_together(datasets):
    told = measure([dataset.path for dataset in datasets]).to_dict()
    actions = np.concatenate([episode['action'] for dataset in datasets
                              for episode in dataset.episodes]).astype(float)
    for index, name in enumerate(('dx', 'dy', 'dz', 'droll', 'dpitch', 'dyaw', 'gripper')):
        column, found = actions[:, index], told['dimensions'][f'action/{name}']
        assert found['count'] == 16
        assert found['mean'] == pytest.approx(column.mean())
        assert found['std'] == pytest.approx(column.std())
        assert (found['min'], found['max']) == (column.min(), column.max())
        for share, value in found['quantiles'].items():
            assert value == pytest.approx(np.quantile(column, float(share)))
    assert told['dimensions']['ee_pose/x']['count'] == 16 + 3  # one state more per episode


def test_tasks_successes_and_modes_are_counted(datasets):
    told = measure([dataset.path for dataset in datasets]).to_dict()
    assert (told['episodes'], told['steps']) == (3, 16)
    assert told['success'] == {'yes': 2, 'unknown': 1}
    assert told['tasks'] == {'lift': {'episodes': 1, 'steps': 3, 'unknown': 1},
                             'push': {'episodes': 2, 'steps': 13, 'yes': 2}}
    assert sum(told['modes'].values()) == 16
    assert told['interventions'] == 3 + 2 + 1
    assert told['flags']['rotation_clipped'] == 4 + 2 + 1
    text = format_statistics(json.loads(json.dumps(told)))
    assert text.startswith('3 episodes, 16 steps, ')
    assert 'success: yes 2, unknown 1' in text
    assert [line.split()[:3] for line in text.splitlines() if line.startswith('push')] == [
        ['push', '2', '13']]


def test_what_was_not_recorded_is_left_out_or_counted_as_missing(tmp_path):
    dataset = Dataset(tmp_path / 'dataset', create=True)
    observations, actions = rows(6)
    for step, seen in enumerate(observations):
        seen.joint_efforts = np.full(6, np.nan)
        seen.gripper = np.nan if step == 2 else 0.5
    record_rows(dataset, observations, actions)
    dimensions = measure([dataset.path]).to_dict()['dimensions']
    assert 'joint_efforts/waist' not in dimensions
    assert dimensions['gripper'] == {
        'count': 6, 'mean': 0.5, 'std': 0.0, 'min': 0.5, 'max': 0.5, 'missing': 1,
        'quantiles': dict.fromkeys(dimensions['gripper']['quantiles'], 0.5)}


def test_histograms_are_a_picture(datasets, tmp_path):
    draw_histograms(measure([datasets[0].path]), tmp_path / 'histograms.png')
    picture = cv2.imread(str(tmp_path / 'histograms.png'))
    blue = (np.abs(picture.astype(int) - (178, 114, 0)).max(2) < 6).mean()
    assert 0.01 < blue < 0.5


def test_datasets_without_a_step_are_refused(tmp_path):
    Dataset(tmp_path / 'empty', create=True)
    with pytest.raises(StatisticsError, match='no steps'):
        measure([tmp_path / 'empty'])
