"""Importing BridgeData: the real recordings, its raw and numpy layouts, and its conventions."""

import pickle
import subprocess
import sys

from exchange_samples import write_numpy, write_raw
import numpy as np
import pytest
from stable_crl_ros.data.dataset import Dataset
from stable_crl_ros.data.schema import Mode
from stable_crl_ros.data.verify import verify_dataset
from stable_crl_ros.exchange.bridge import binarised, relabelled
from stable_crl_ros.exchange.importing import (
    examine,
    find_recordings,
    import_recordings,
    write_recording,
)
from stable_crl_ros.exchange.options import ImportOptions
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


def copy_some(real_data, folder):
    """Copy the first three real recordings."""
    for number in range(3):
        name = f'episode_{number:03d}'
        (folder / name).mkdir(parents=True)
        source = real_data / 'bridge_v1_octo' / name / 'episode.npz'
        (folder / name / 'episode.npz').write_bytes(source.read_bytes())
    return folder


def test_importing_again_adds_only_what_is_new(real_data, tmp_path):
    some = copy_some(real_data, tmp_path / 'some')
    third = (some / 'episode_002').rename(tmp_path / 'third')
    assert import_recordings(some, tmp_path / 'dataset').episodes == [0, 1]
    third.rename(some / 'episode_002')
    assert import_recordings(some, tmp_path / 'dataset').episodes == [2]
    again = import_recordings(some, tmp_path / 'dataset')
    assert again.episodes == []
    assert [finding.why for finding in again.findings] == [
        f'is episode {number} already' for number in range(3)]


def write_npz(folder, **changes):
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
    write_npz(tmp_path / 'source' / 'episode_000')
    write_npz(tmp_path / 'source' / 'episode_001', **changes)
    with pytest.raises(ExchangeError, match=f'episode_001.*{message}.*nothing was imported'):
        import_recordings(tmp_path / 'source', tmp_path / 'dataset')
    assert not (tmp_path / 'dataset').exists()


def test_bad_recordings_may_be_left_out_and_are_said(tmp_path):
    write_npz(tmp_path / 'source' / 'episode_000')
    write_npz(tmp_path / 'source' / 'episode_001', language=None)
    result = import_recordings(tmp_path / 'source', tmp_path / 'dataset', skip_bad=True)
    assert result.episodes == [0]
    assert [finding.state for finding in result.findings] == ['new', 'bad']


def test_refuses_a_cut_file_and_a_directory_without_recordings(tmp_path):
    with pytest.raises(ExchangeError, match='nothing to import; give --format.*bridge-raw: FOLD'):
        import_recordings(tmp_path, tmp_path / 'dataset')
    write_npz(tmp_path / 'source' / 'episode_000')
    file = tmp_path / 'source' / 'episode_000' / 'episode.npz'
    file.write_bytes(file.read_bytes()[:200])
    with pytest.raises(ExchangeError, match='not a BridgeData recording'):
        import_recordings(tmp_path / 'source', tmp_path / 'dataset')


def test_raw_trajectories_come_in_as_recorded(real_data, tmp_path):
    folder = tmp_path / 'raw' / 'toykitchen2' / 'set_table' / '00' / '2022-01-01_00-00-00' / 'raw'
    arrays = write_raw(folder / 'traj_group0' / 'traj10', real_data, 1)
    write_raw(folder / 'traj_group0' / 'traj9', real_data, 0, language='')
    result = import_recordings(tmp_path / 'raw', tmp_path / 'dataset')
    assert result.format == 'bridge-raw'
    first, second = Dataset(tmp_path / 'dataset').episodes
    assert first.attrs['task'] == 'set table'  # traj9 comes before traj10
    assert second.attrs['instruction'] == 'put it there'
    assert second.attrs['source_path'].startswith('raw/toykitchen2')
    assert second.steps == 9
    assert second.attrs['unfinished_step'] is None
    np.testing.assert_array_equal(second.images('image_0'), arrays['images0'])
    np.testing.assert_array_equal(second['action'], arrays['actions'][:9])
    np.testing.assert_array_equal(second['joint_positions'], np.arange(60.0).reshape(10, 6))
    assert np.isnan(second['joint_velocities']).all()
    assert second['receive_stamp'][1] == 1_600_000_000_200_000_000
    assert not second['capture_stamp'].any()


def test_the_date_of_the_lag_is_seen_from_below_it(real_data, tmp_path, monkeypatch):
    write_raw(tmp_path / '2021-05-01_12-00-00' / 'raw' / 'traj_group0' / 'traj0', real_data)
    monkeypatch.chdir(tmp_path / '2021-05-01_12-00-00' / 'raw')
    import_recordings('traj_group0', tmp_path / 'dataset')
    assert Dataset(tmp_path / 'dataset')[0].attrs['lag'] == 1


@pytest.mark.parametrize(('date', 'option', 'lag'), [
    ('2021-07-22_23-59-59', 'auto', 1), ('2021-07-23_00-00-00', 'auto', 0),
    ('2021-07-22_23-59-59', '0', 0), ('2022-01-01_00-00-00', '1', 1)])
def test_images_that_came_a_step_late_are_paired_with_the_action_before(
        real_data, tmp_path, date, option, lag):
    arrays = write_raw(tmp_path / 'raw' / date / 'traj_group0' / 'traj0', real_data)
    import_recordings(tmp_path / 'raw', tmp_path / 'dataset', ImportOptions(lag=option))
    episode, = Dataset(tmp_path / 'dataset').episodes
    assert episode.attrs['lag'] == lag
    assert episode.steps == 9 - lag
    np.testing.assert_array_equal(episode.images('image_0'), arrays['images0'][lag:])
    np.testing.assert_array_equal(episode['action'], arrays['actions'][:9 - lag])
    if lag:  # the last action's outcome was not seen
        np.testing.assert_array_equal(np.float32(episode.attrs['unfinished_step']['action']),
                                      arrays['actions'][8])


def test_jpeg_files_come_into_a_jpeg_dataset_as_they_are(real_data, tmp_path):
    folder = tmp_path / 'raw' / 'traj_group0' / 'traj0'
    write_raw(folder, real_data)
    import_recordings(tmp_path / 'raw', tmp_path / 'dataset', image_codec='jpeg:90')
    episode, = Dataset(tmp_path / 'dataset').episodes
    for row in range(10):
        assert episode.encoded('image_0', row).data == \
            (folder / 'images0' / f'im_{row}.jpg').read_bytes()


def test_the_numpy_layout_comes_in_as_recorded(real_data, tmp_path):
    sources = write_numpy(tmp_path / 'numpy' / 'open_drawer' / '00' / 'train' / 'out.npy',
                          real_data)
    result = import_recordings(tmp_path / 'numpy', tmp_path / 'dataset')
    assert result.format == 'bridge-numpy'
    for episode, arrays in zip(Dataset(tmp_path / 'dataset').episodes, sources, strict=True):
        assert episode.attrs['instruction'] == arrays['language']
        np.testing.assert_array_equal(episode.images('image_0'), arrays['images0'])
        np.testing.assert_array_equal(episode['action'], arrays['actions'][:9])
        np.testing.assert_array_equal(episode['gripper'], arrays['state'][:, 6])


def test_relabelled_actions_are_differences_of_states_and_keep_what_was_recorded(
        real_data, tmp_path):
    arrays = write_raw(tmp_path / 'raw' / 'traj0', real_data)
    import_recordings(tmp_path / 'raw', tmp_path / 'dataset',
                      ImportOptions(actions='relabelled', gripper='binarised'))
    episode, = Dataset(tmp_path / 'dataset').episodes
    np.testing.assert_allclose(episode['action'][:, :6],
                               np.diff(arrays['state'][:, :6], axis=0), atol=1e-6)
    assert set(episode['action'][:, 6]) <= {0.0, 1.0}
    np.testing.assert_array_equal(episode['commanded_action'], arrays['actions'][:9])
    assert episode.attrs['actions'] == 'motion relabelled, gripper binarised'


def test_a_relabelled_turn_is_the_short_way_round():
    states = np.zeros((2, 7))
    states[:, 5] = 3.1, -3.1
    moved = relabelled(np.zeros((1, 7)), states)
    assert moved[0, 5] == pytest.approx(2 * np.pi - 6.2, abs=1e-6)


@pytest.mark.parametrize(('recorded', 'expected'), [
    ([1.0, 0.7, 0.3, 0.0], [1, 0, 0, 0]), ([0.0, 0.4, 0.96], [0, 1, 1]),
    ([1.0, 0.6], [1, 0.6]), ([], [])])
def test_gripper_values_in_between_become_what_they_lead_to(recorded, expected):
    np.testing.assert_allclose(binarised(np.array(recorded)), expected)


@pytest.mark.parametrize(('options', 'message'), [
    (ImportOptions(lag='1'), 'lag means nothing to bridge-npz, only to bridge-raw'),
    (ImportOptions(ros_actions='poses'), 'ros_actions means nothing to bridge-npz'),
])
def test_an_option_that_would_do_nothing_is_refused(real_data, tmp_path, options, message):
    with pytest.raises(ExchangeError, match=message):
        import_recordings(real_data / 'bridge_v1_octo', tmp_path / 'dataset', options)


@pytest.mark.parametrize('change', [
    {'lag': '2'}, {'actions': 'guessed'}, {'gripper': 'open'}, {'ros_actions': 'all'},
    {'rate': 0.0}, {'rate': float('nan')}])
def test_a_choice_that_does_not_exist_is_refused(change):
    with pytest.raises(ExchangeError, match=next(iter(change))):
        ImportOptions(**change)


def test_a_damaged_archive_is_refused_whatever_its_damage(real_data, tmp_path):
    source = copy_some(real_data, tmp_path / 'some')
    file = source / 'episode_001' / 'episode.npz'
    whole, rng = file.read_bytes(), np.random.default_rng(0)
    for _ in range(30):
        spoilt = bytearray(whole)
        for place in rng.integers(0, len(whole), 20):
            spoilt[place] ^= 0xFF
        file.write_bytes(spoilt)
        states = [finding.state for finding in examine(source, tmp_path / 'dataset').findings]
        assert states == ['new', 'bad', 'new']


def spoil(folder, name, content):
    (folder / name).write_bytes(content if isinstance(content, bytes) else pickle.dumps(content))


@pytest.mark.parametrize(('name', 'content', 'message'), [
    ('obs_dict.pkl', {'state': 1}, 'no full_state'),
    ('obs_dict.pkl', {'full_state': np.zeros((9, 7))}, '10 images of a camera, but 9 states'),
    ('obs_dict.pkl', {'full_state': [[1, 2], [3]]}, 'not numbers of one shape'),
    ('obs_dict.pkl', {'full_state': 'words'}, 'not numbers'),
    ('policy_out.pkl', [], 'no list of actions'),
    ('policy_out.pkl', [{'policy_type': 'x'}], 'a step without actions'),
    ('policy_out.pkl', np.zeros(3), 'no list of actions'),
    ('policy_out.pkl', [np.zeros(4)] * 9, r'must be \(T, 7\)'),
    ('policy_out.pkl', [np.zeros(7)] * 5, r'actions \(5, 7\); 10 images need'),
    ('policy_out.pkl', b'\x80\x04rubbish', 'not a readable pickle'),
    ('images0/im_4.jpg', b'rubbish', 'im_4.jpg: not a readable image'),
    ('lang.txt', b'\xff\xfe', 'lang.txt: cannot be read'),
])
def test_refuses_raw_rubbish_with_its_reason_and_imports_nothing(
        real_data, tmp_path, name, content, message):
    write_raw(tmp_path / 'raw' / 'traj0', real_data)
    write_raw(tmp_path / 'raw' / 'traj1', real_data, 1)
    spoil(tmp_path / 'raw' / 'traj1', name, content)
    with pytest.raises(ExchangeError, match=message):
        import_recordings(tmp_path / 'raw', tmp_path / 'dataset')
    assert not (tmp_path / 'dataset').exists()


@pytest.mark.parametrize('missing', ['obs_dict.pkl', 'policy_out.pkl', 'images0/im_3.jpg'])
def test_refuses_a_trajectory_that_lacks_a_file(real_data, tmp_path, missing):
    write_raw(tmp_path / 'raw' / 'traj0', real_data)
    (tmp_path / 'raw' / 'traj0' / missing).unlink()
    with pytest.raises(ExchangeError, match=missing.replace('images0/', '')):
        import_recordings(tmp_path / 'raw', tmp_path / 'dataset')


def test_an_import_that_breaks_off_leaves_no_half_episode_and_goes_on(real_data, tmp_path):
    options = ImportOptions()
    source = copy_some(real_data, tmp_path / 'some')
    _, items = find_recordings(source, options)
    dataset = Dataset(tmp_path / 'dataset', create=True)
    recording = items[0].read()
    recording.images['image_1'] = recording.images['image_1'][:5]  # breaks off in the middle
    with pytest.raises(IndexError):
        write_recording(dataset, recording, options, 'bridge-npz')
    assert dataset.ids == []
    assert dataset.unsealed() == []
    assert import_recordings(source, dataset.path).episodes == [0, 1, 2]


def test_what_a_killed_import_left_half_done_comes_in_whole(real_data, tmp_path):
    program = (
        'import os, sys\n'
        'from stable_crl_ros.data.episode import EpisodeWriter\n'
        'from stable_crl_ros.exchange.importing import import_recordings\n'
        'add, count = EpisodeWriter.add_step, [0]\n'
        'def add_step(self, *step):\n'
        '    add(self, *step)\n'
        '    count[0] += 1\n'
        '    count[0] < 14 or os.kill(os.getpid(), 9)\n'
        'EpisodeWriter.add_step = add_step\n'
        'import_recordings(*sys.argv[1:])\n')
    source, path = copy_some(real_data, tmp_path / 'some'), tmp_path / 'dataset'
    killed = subprocess.run([sys.executable, '-c', program, source, path])
    assert killed.returncode == -9
    assert Dataset(path).ids == [0]
    import_recordings(source, path)
    dataset = Dataset(path)
    assert len(dataset) == 3
    assert {episode.steps for episode in dataset.episodes} == {9}
    assert [entry['episode_id'] for entry in dataset.discarded] == [1]
    assert import_recordings(source, path).episodes == []
