"""Importing BridgeData: the real recordings, its raw and numpy layouts, and its conventions."""

import numpy as np
import pytest
from stable_crl_ros.data.dataset import Dataset
from stable_crl_ros.data.schema import Mode
from stable_crl_ros.data.verify import verify_dataset
from stable_crl_ros.exchange.importing import import_recordings
from stable_crl_ros.exchange.recording import ExchangeError
from stable_crl_ros.robot.poses import (
    DOWN,
    pose_from_xyz_quaternion,
    rotation_from,
    rotation_vector,
)


@pytest.fixture(scope='module')
def imported(real_data, tmp_path_factory):
    """Import all real recordings once; give the dataset and the source arrays."""
    source = real_data / 'bridge_v1_octo'
    path = tmp_path_factory.mktemp('bridge') / 'dataset'
    ids = import_recordings(source, path).episodes
    assert ids == list(range(18))
    return Dataset(path), [np.load(source / f'episode_{number:03d}' / 'episode.npz')
                           for number in ids]


def test_images_and_actions_are_those_recorded(imported):
    dataset, sources = imported
    assert verify_dataset(dataset.path) == []
    for episode, source in zip(dataset.episodes, sources, strict=True):
        assert episode.steps == len(source['actions']) - 1 == 9
        for camera in range(3):
            np.testing.assert_array_equal(episode.images(f'image_{camera}'),
                                          source[f'images{camera}'])
        np.testing.assert_array_equal(episode['action'], source['actions'][:-1])
        np.testing.assert_array_equal(episode['gripper'], source['state'][:, 6])
        np.testing.assert_array_equal(
            np.float32(episode.attrs['unfinished_step']['action']), source['actions'][-1])
        assert episode.attrs['instruction'] == source['language']


def test_says_where_it_comes_from_and_makes_up_nothing(imported):
    for episode in imported[0].episodes:
        assert episode.attrs['licence'] == 'CC BY 4.0'
        assert episode.attrs['stamps'] == 'none recorded'
        assert episode.attrs['success'] is None
        assert 'toysink2_bww' in episode.attrs['source_path']
        for stamp in ('capture_stamp', 'receive_stamp', 'command_stamp', 'applied_stamp'):
            assert not episode[stamp].any()
        assert np.isnan(episode['joint_positions']).all()
        assert (episode['mode'] == Mode.TELEOP).all()


def test_poses_are_those_of_the_state_with_the_gripper_down_at_zero_angles(imported):
    dataset, sources = imported
    for episode, source in zip(dataset.episodes, sources, strict=True):
        for values, state in zip(episode['ee_pose'], source['state'], strict=True):
            pose = pose_from_xyz_quaternion(values)
            np.testing.assert_allclose(pose[:3, 3], state[:3], atol=1e-7)
            np.testing.assert_allclose(pose[:3, :3] @ DOWN.T, rotation_from(state[3:6]), atol=1e-6)
            assert pose[2, 0] < -0.5  # the gripper's forward axis points down


def test_the_arm_moved_the_way_the_actions_say_in_base_axes(imported):
    asked, moved = [], []
    for episode in imported[0].episodes:
        poses = [pose_from_xyz_quaternion(values) for values in episode['ee_pose']]
        for before, after, action in zip(poses, poses[1:], episode['action'], strict=False):
            asked.append(action[:6])
            turned = rotation_vector(after[:3, :3] @ before[:3, :3].T)
            moved.append(np.concatenate([after[:3, 3] - before[:3, 3], turned]))
    asked, moved = np.array(asked), np.array(moved)
    for axis in range(6):  # in axes of the gripper, yaw would correlate by -0.01, roll by 0.46
        assert np.corrcoef(asked[:, axis], moved[:, axis])[0, 1] > 0.75


def test_importing_again_adds_only_what_is_new(real_data, tmp_path):
    some = tmp_path / 'some'
    for number in (0, 1, 2):
        (some / f'episode_{number:03d}').mkdir(parents=True)
        source = real_data / 'bridge_v1_octo' / f'episode_{number:03d}' / 'episode.npz'
        (some / f'episode_{number:03d}' / 'episode.npz').write_bytes(source.read_bytes())
    third = (some / 'episode_002').rename(tmp_path / 'third')
    assert import_recordings(some, tmp_path / 'dataset').episodes == [0, 1]
    third.rename(some / 'episode_002')
    assert import_recordings(some, tmp_path / 'dataset').episodes == [2]
    again = import_recordings(some, tmp_path / 'dataset')
    assert again.episodes == []
    assert [finding.why for finding in again.findings] == [
        f'is episode {number} already' for number in range(3)]


def write_recording(folder, **changes):
    rng = np.random.default_rng(0)
    arrays = {'images0': np.zeros((4, 8, 8, 3), np.uint8), 'actions': rng.normal(size=(4, 7)),
              'state': rng.normal(size=(4, 7)), 'language': 'push', 'source_path': 'here',
              'source_episode_id': 3, **changes}
    folder.mkdir(parents=True)
    np.savez(folder / 'episode.npz',
             **{name: value for name, value in arrays.items() if value is not None})


@pytest.mark.parametrize(('changes', 'message'), [
    ({'actions': np.zeros((4, 6)), 'state': np.zeros((4, 6))}, r'must be \(T, 7\)'),
    ({'state': np.zeros((3, 7))}, r'must both be \(T, 7\)'),
    ({'actions': np.full((4, 7), np.nan)}, 'action 0 is not finite'),
    ({'state': np.full((4, 7), np.inf)}, 'state 0 is not finite'),
    ({'images0': np.zeros((2, 8, 8, 3), np.uint8)}, r'actions \(4, 7\); 2 images need'),
    ({'images0': np.zeros((4, 8, 8, 3))}, 'image_0 must be uint8'),
    ({'images0': None}, '0 images'),
    ({'language': None}, 'language'),
    ({'language': np.array([{}], object)}, 'not a BridgeData recording'),
])
def test_refuses_a_recording_that_does_not_fit_before_writing_any(tmp_path, changes, message):
    write_recording(tmp_path / 'source' / 'episode_000')
    write_recording(tmp_path / 'source' / 'episode_001', **changes)
    with pytest.raises(ExchangeError, match=f'episode_001.*{message}.*nothing was imported'):
        import_recordings(tmp_path / 'source', tmp_path / 'dataset')
    assert not (tmp_path / 'dataset').exists()


def test_bad_recordings_may_be_left_out_and_are_said(tmp_path):
    write_recording(tmp_path / 'source' / 'episode_000')
    write_recording(tmp_path / 'source' / 'episode_001', language=None)
    result = import_recordings(tmp_path / 'source', tmp_path / 'dataset', skip_bad=True)
    assert result.episodes == [0]
    assert [finding.state for finding in result.findings] == ['new', 'bad']


def test_refuses_a_cut_file_and_a_directory_without_recordings(tmp_path):
    with pytest.raises(ExchangeError, match='nothing to import; give --format.*bridge-raw: FOLD'):
        import_recordings(tmp_path, tmp_path / 'dataset')
    write_recording(tmp_path / 'source' / 'episode_000')
    file = tmp_path / 'source' / 'episode_000' / 'episode.npz'
    file.write_bytes(file.read_bytes()[:200])
    with pytest.raises(ExchangeError, match='not a BridgeData recording'):
        import_recordings(tmp_path / 'source', tmp_path / 'dataset')
