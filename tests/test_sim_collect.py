"""Collections of scripted demonstrations: contents, reproducibility, refusals."""

import math

import numpy as np
import pytest
from stable_crl_ros.data.dataset import Dataset
from stable_crl_ros.data.schema import Mode
from stable_crl_ros.images import ImageSpec
from stable_crl_ros.sim.collect import collect, CollectError
from stable_crl_ros.sim.tasks import TaskError

EPISODES = {'open_drawer': 2, 'close_drawer': 1}
TIMELESS = ('images/over_shoulder', 'goal_image', 'action', 'commanded_action',
            'joint_positions', 'joint_efforts', 'ee_pose', 'gripper', 'flags')


@pytest.fixture(scope='module')
def dataset(tmp_path_factory):
    return collect(tmp_path_factory.mktemp('data') / 'drawers', EPISODES, seed=5, workers=1)


def test_every_episode_is_sealed_and_nothing_is_left_over(dataset):
    assert [episode.attrs['task'] for episode in dataset.episodes] == [
        'open_drawer', 'close_drawer', 'open_drawer']
    assert dataset.unsealed() == []
    assert all(episode.steps == 50 for episode in dataset.episodes)


def test_episodes_hold_what_was_seen_and_really_done(dataset):
    for episode in dataset.episodes:
        images, poses = episode.images('over_shoulder'), episode['ee_pose']
        assert images.shape == (51, 48, 48, 3)
        assert episode.goal_image.shape == (48, 48, 3)
        assert episode.attrs['image_spec'] == ImageSpec().to_dict()
        assert set(episode['mode']) == {Mode.SCRIPT}
        moved = poses[-1, :3] - poses[0, :3]
        np.testing.assert_allclose(episode['action'][:, :3].sum(axis=0), moved, atol=0.02)
        assert (np.diff(episode['receive_stamp']) == 200_000_000).all()
        ages = episode['receive_stamp'] - episode['capture_stamp']
        assert set(ages) == {0, 20_000_000, 40_000_000, 60_000_000}


def test_successful_episodes_end_like_their_goal_picture(dataset):
    for episode in dataset.episodes:
        assert episode.attrs['success'] is True
        assert episode.attrs['final_error'] <= 0.01
        images, goal = episode.images().astype(int), episode.goal_image.astype(int)
        first, last = (np.abs(images[i] - goal).mean() for i in (0, -1))
        assert last < first / 2


def test_same_seed_gives_the_same_episodes_whatever_the_number_of_workers(dataset, tmp_path):
    reports = []
    again = collect(tmp_path / 'again', EPISODES, seed=5, workers=2,
                    progress=lambda done, successes: reports.append((done, successes)))
    assert sum(done for done, _ in reports) == sum(won for _, won in reports) == 3
    for first, second in zip(dataset.episodes, again.episodes, strict=True):
        for name in TIMELESS:
            np.testing.assert_array_equal(first[name], second[name], err_msg=name)


def test_collecting_again_adds_episodes_and_may_keep_full_pictures(tmp_path):
    collect(tmp_path / 'data', {'close_drawer': 1}, seed=1, workers=1, noise=(0.0,))
    both = collect(tmp_path / 'data', {'close_drawer': 1}, seed=2, workers=1, noise=(0.3,),
                   image_spec=None)
    first, second = both.episodes
    assert first.attrs['noise'] == 0.0 and second.attrs['noise'] == 0.3
    assert first.attrs['start_opening'] != second.attrs['start_opening']
    assert second.images().shape == (51, 240, 320, 3)
    assert second.attrs['image_spec'] is None


@pytest.mark.parametrize(('arguments', 'reason'), [
    ({'episodes': {}}, 'no episodes'),
    ({'episodes': {'open_drawer': -1}}, '-1'),
    ({'episodes': {'open_drawer': 1}, 'workers': 0}, 'workers'),
    ({'episodes': {'open_drawer': 1}, 'noise': ()}, 'noise'),
    ({'episodes': {'open_drawer': 1}, 'noise': (math.nan,)}, 'noise')])
def test_refuses_what_makes_no_sense_and_writes_nothing(tmp_path, arguments, reason):
    with pytest.raises(CollectError, match=reason):
        collect(tmp_path / 'data', **arguments)
    assert not (tmp_path / 'data').exists()


def test_unknown_task_lists_the_known_ones(tmp_path):
    with pytest.raises(TaskError, match='move_drawer'):
        collect(tmp_path / 'data', {'dance': 3})


def test_a_failing_worker_leaves_no_reserved_numbers_behind(tmp_path, monkeypatch):
    monkeypatch.setenv('MUJOCO_GL', 'disabled')  # workers are new processes: none can draw
    with pytest.raises(RuntimeError, match='libegl1'):
        collect(tmp_path / 'data', {'open_drawer': 20}, workers=2)
    assert list((tmp_path / 'data').glob('*.journal')) == []
    assert len(Dataset(tmp_path / 'data')) == 0
