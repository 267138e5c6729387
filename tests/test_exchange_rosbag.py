"""Bags: topics aligned to steps by their stamps, in every way a bag can hold actions."""

import tempfile

from exchange_samples import Bag, make, real_arrays, SECOND
import numpy as np
import pytest
from rosbags.rosbag2 import StoragePlugin
from stable_crl_ros.actions import ACTION_NAMES
from stable_crl_ros.data.dataset import Dataset
from stable_crl_ros.data.schema import Mode
from stable_crl_ros.exchange.importing import examine, import_recordings
from stable_crl_ros.exchange.options import ImportOptions, Topics
from stable_crl_ros.exchange.recording import ExchangeError
from stable_crl_ros.message_reading import LABELS
from stable_crl_ros.robot.flags import StepFlag
from stable_crl_ros.robot.kinematics import JOINT_NAMES
from stable_crl_ros.robot.poses import pose_from, pose_to_xyz_quaternion

START = 1_700_000_000 * SECOND
MS = 10 ** 6
PLUGINS = (StoragePlugin.SQLITE3, StoragePlugin.MCAP)


@pytest.fixture(scope='module')
def frames(real_data):
    return real_arrays(real_data)['images0']


def write_session(path, frames, plugin=StoragePlugin.SQLITE3, *, commands=True, compressed=False,
                  gripper=True, poses=True):
    """Write 10 images at 5 Hz, states at 50 Hz, and a command 20 ms after each image."""
    with Bag(path, plugin) as bag:
        for row, image in enumerate(frames):
            stamp = START + row * 200 * MS
            bag.image('/widowx/image_raw' + '/compressed' * compressed, stamp, image, compressed)
            if commands:
                bag.twist('/widowx/delta_twist_cmds', stamp, command(row), stamp + 20 * MS)
                if gripper:
                    bag.add('/widowx/gripper_cmd', 'std_msgs/msg/Float64', stamp + 19 * MS,
                            data=row / 10)
        for tick in range(100):
            stamp = START - 5 * MS + tick * 20 * MS
            bag.joints('/widowx/joint_states', stamp, [*JOINT_NAMES[::-1], 'left_finger'],
                       [*np.arange(6.0)[::-1] + tick, 0.015 + 0.022 * tick / 100])
            if poses:
                bag.pose('/widowx/ee_pose', stamp, pose_to_xyz_quaternion(
                    pose_from([0.2 + tick * 0.001, 0, 0.1], [0, 1.5, tick * 0.01])))
    return path


def command(row):
    return 0.1 + np.arange(6.0) * (row + 1) / 100


@pytest.mark.parametrize('plugin', PLUGINS)
@pytest.mark.parametrize('compressed', [False, True])
def test_commands_meet_the_images_they_were_computed_from(tmp_path, frames, plugin, compressed):
    bag = write_session(tmp_path / 'bag', frames, plugin, compressed=compressed)
    result = import_recordings(bag, tmp_path / 'dataset', ImportOptions(instruction='push'))
    assert result.format == 'rosbag'
    episode, = Dataset(tmp_path / 'dataset').episodes
    assert episode.steps == 9  # the outcome of the last command was not seen
    assert episode.cameras == ['widowx_image_raw']
    np.testing.assert_array_equal(episode.images(), frames)
    expected = np.float32([[*command(row) * 0.2, row / 10] for row in range(9)])
    np.testing.assert_allclose(episode['action'], expected, rtol=1e-6)
    np.testing.assert_array_equal(episode['capture_stamp'],
                                  START + 200 * MS * np.arange(9))
    np.testing.assert_array_equal(episode['receive_stamp'], episode['capture_stamp'] + MS)
    np.testing.assert_array_equal(episode['command_stamp'], episode['capture_stamp'] + 20 * MS)
    # At 50 Hz from 5 ms before the first image on, the newest state is 5 ms old.
    np.testing.assert_array_equal(episode['ages/joint_states'], np.full(9, 5 * MS))
    np.testing.assert_array_equal(episode['ages/widowx_image_raw'], np.zeros(9))
    np.testing.assert_array_equal(episode['joint_positions'],
                                  np.arange(6) + 10.0 * np.arange(10)[:, None])
    np.testing.assert_allclose(episode['ee_pose'][:, 0], 0.2 + 0.01 * np.arange(10), atol=1e-6)
    np.testing.assert_allclose(episode['gripper'], np.arange(10) / 10, atol=1e-6)
    assert np.isnan(episode['joint_efforts']).all()
    assert episode.attrs['actions'] == 'commanded twists times the control period'


def test_twists_of_another_rate_need_it_to_be_named(tmp_path, frames):
    with Bag(tmp_path / 'bag', StoragePlugin.SQLITE3) as bag:
        for row, image in enumerate(frames):
            stamp = START + row * 100 * MS
            bag.image('/image_raw', stamp, image)
            bag.twist('/delta_twist_cmds', stamp, command(row))
            bag.add('/gripper_cmd', 'std_msgs/msg/Float64', stamp, data=1.0)
    with pytest.raises(ExchangeError, match='its twists come at 10 Hz.*give --rate 10'):
        import_recordings(tmp_path / 'bag', tmp_path / 'dataset')
    import_recordings(tmp_path / 'bag', tmp_path / 'dataset', ImportOptions(rate=10.0))
    episode, = Dataset(tmp_path / 'dataset').episodes
    np.testing.assert_allclose(episode['action'][3, :6], command(3) * 0.1, rtol=1e-6)


def test_without_commands_actions_are_differences_of_poses(tmp_path, frames):
    bag = write_session(tmp_path / 'bag', frames, commands=False)
    import_recordings(bag, tmp_path / 'dataset')
    episode, = Dataset(tmp_path / 'dataset').episodes
    assert episode.attrs['actions'] == 'differences of ee_pose'
    assert episode.attrs['unfinished_step'] is None
    expected = np.tile(np.float32([0.01, 0, 0, 0, 0, 0.1]), (9, 1))
    np.testing.assert_allclose(episode['action'][:, :6], expected, atol=1e-5)
    np.testing.assert_allclose(episode['action'][:, 6], episode['gripper'][1:], atol=1e-6)
    assert not episode['command_stamp'].any()


def write_report(bag, row, stamp, mode=Mode.POLICY, flags=0):
    """Write what the arm says of a command that it received 20 ms after its image was taken."""
    numbers = {f'applied.{name}': 0.01 * row for name in ACTION_NAMES}
    numbers.update({f'commanded.{name}': 0.02 * row for name in ACTION_NAMES})
    numbers.update(mode=mode, flags=flags)
    for name, delay in (('capture', 0), ('receive', 20 * MS), ('applied', 30 * MS)):
        sec, nanosec = divmod(stamp + delay, SECOND)
        numbers.update({f'{name}.sec': sec, f'{name}.nanosec': nanosec})
    dim = make('std_msgs/msg/MultiArrayDimension', label=','.join(LABELS), size=len(LABELS),
               stride=len(LABELS))
    bag.add('/widowx/applied_action', 'std_msgs/msg/Float64MultiArray', stamp + 30 * MS,
            layout=make('std_msgs/msg/MultiArrayLayout', dim=[dim], data_offset=0),
            data=np.array([numbers[label] for label in LABELS], float))


def test_what_the_arm_really_applied_goes_before_commands(tmp_path, frames):
    path = tmp_path / 'bag'
    with Bag(path, StoragePlugin.MCAP) as bag:
        for row, image in enumerate(frames):
            stamp = START + row * 200 * MS
            bag.image('/widowx/image_raw', stamp, image)
            bag.twist('/widowx/delta_twist_cmds', stamp, command(row), stamp + 20 * MS)
            write_report(bag, row, stamp)
    import_recordings(path, tmp_path / 'dataset')
    episode, = Dataset(tmp_path / 'dataset').episodes
    np.testing.assert_allclose(episode['action'][:, 0], 0.01 * np.arange(9), rtol=1e-6)
    np.testing.assert_allclose(episode['commanded_action'][:, 0], 0.02 * np.arange(9), rtol=1e-6)
    assert (episode['mode'] == Mode.POLICY).all()
    np.testing.assert_array_equal(episode['applied_stamp'], episode['capture_stamp'] + 30 * MS)


def test_refused_commands_are_no_steps_and_the_operator_intervenes(tmp_path, frames):
    with Bag(tmp_path / 'bag', StoragePlugin.MCAP) as bag:
        for row, image in enumerate(frames):
            stamp = START + row * 200 * MS
            bag.image('/widowx/image_raw', stamp, image)
            write_report(bag, row, stamp, Mode.TELEOP)
            if row == 2:  # the policy still sends, the arm does not heed it
                write_report(bag, 99, stamp + 50 * MS, Mode.POLICY, StepFlag.OVERRIDDEN)
    import_recordings(tmp_path / 'bag', tmp_path / 'dataset')
    episode, = Dataset(tmp_path / 'dataset').episodes
    np.testing.assert_allclose(episode['action'][:, 0], 0.01 * np.arange(9), rtol=1e-6)
    assert (episode['mode'] == Mode.TELEOP).all()
    assert episode['intervention'].tolist() == [False] * 3 + [True] * 5 + [False]
    assert episode.attrs['dropped'] == 0
    assert 'gaps' not in episode.attrs


def test_a_bag_of_nothing_but_refused_commands_is_refused(tmp_path, frames):
    with Bag(tmp_path / 'bag', StoragePlugin.MCAP) as bag:
        for row, image in enumerate(frames):
            bag.image('/widowx/image_raw', START + row * 200 * MS, image)
            write_report(bag, row, START + row * 200 * MS, flags=StepFlag.STALE)
    with pytest.raises(ExchangeError, match='the arm refused all of the 10 commands in it'):
        import_recordings(tmp_path / 'bag', tmp_path / 'dataset')


def test_an_arm_that_was_not_to_be_steered_leaves_a_gap(tmp_path, frames):
    with Bag(tmp_path / 'bag', StoragePlugin.MCAP) as bag:
        for row, image in enumerate(frames):
            stamp = START + row * 200 * MS
            bag.image('/widowx/image_raw', stamp, image)
            if row == 3:
                write_report(bag, row, stamp, flags=StepFlag.HELD)
            else:
                write_report(bag, row, stamp)
            if row in (0, 5):
                for mode in ('policy', ('resetting', 'policy')[row == 0]):
                    bag.add('/widowx/mode', 'std_msgs/msg/String', stamp + 100 * MS, data=mode)
    import_recordings(tmp_path / 'bag', tmp_path / 'dataset')
    episode, = Dataset(tmp_path / 'dataset').episodes
    np.testing.assert_allclose(episode['action'][:, 0],
                               np.float32([0, 0.01, 0.02, 0.04, 0.05, 0.06, 0.07, 0.08]))
    assert episode.attrs['gaps'] == [3, 5]  # held before row 4, put back before row 6


def test_every_stream_gives_its_newest_sample_not_younger_than_the_tick(tmp_path, frames):
    with Bag(tmp_path / 'bag', StoragePlugin.SQLITE3) as bag:
        for row, image in enumerate(frames):
            bag.image('/front/image_raw', START + row * 200 * MS, image)
            bag.image('/wrist/image_raw', START + row * 200 * MS - 30 * MS, 255 - image)
            bag.image('/wrist/image_raw', START + row * 200 * MS + MS, np.zeros_like(image))
        for row in range(9):
            stamp = START + row * 200 * MS + 150 * MS * (row == 4)
            bag.twist('/delta_twist_cmds', stamp, command(row))
            bag.add('/gripper_cmd', 'std_msgs/msg/Float64', stamp, data=1.0)
    topics = Topics({'front': '/front/image_raw', 'wrist': '/wrist/image_raw'})
    import_recordings(tmp_path / 'bag', tmp_path / 'dataset', ImportOptions(topics=topics))
    episode, = Dataset(tmp_path / 'dataset').episodes
    assert episode['ages/front'].tolist() == [0, 0, 0, 0, 150 * MS, 0, 0, 0]
    assert episode['ages/wrist'].tolist() == [30 * MS] * 4 + [149 * MS] + [30 * MS] * 3
    np.testing.assert_array_equal(episode.images('front'), frames[:9])
    assert not episode.image('wrist', 4).any()  # the newest one there was
    np.testing.assert_array_equal(episode.image('wrist', 5), 255 - frames[5])


def test_ticks_without_a_fresh_image_are_counted_and_leave_a_gap(tmp_path, frames):
    with Bag(tmp_path / 'bag', StoragePlugin.SQLITE3) as bag:
        for row, image in enumerate(frames):
            if row not in (4, 5):
                bag.image('/image_raw', START + row * 200 * MS, image)
            bag.twist('/delta_twist_cmds', START + row * 200 * MS, command(row))
            bag.add('/gripper_cmd', 'std_msgs/msg/Float64', START + row * 200 * MS, data=1.0)
    import_recordings(tmp_path / 'bag', tmp_path / 'dataset', ImportOptions(max_image_age=0.1))
    episode, = Dataset(tmp_path / 'dataset').episodes
    assert (episode.steps, episode.attrs['dropped'], episode.attrs['gaps']) == (7, 2, [4])
    np.testing.assert_array_equal(episode.images(), frames[[0, 1, 2, 3, 6, 7, 8, 9]])


def test_a_full_disk_for_the_images_is_told(tmp_path, frames, small_disk, monkeypatch):
    bag = write_session(tmp_path / 'bag', np.tile(frames, (10, 1, 1, 1)))
    monkeypatch.setattr(tempfile, 'tempdir', str(small_disk))
    with pytest.raises(ExchangeError, match=f'{small_disk}: no room for 1 MB of images'):
        import_recordings(bag, tmp_path / 'dataset')


def test_several_bags_of_a_folder_are_several_recordings(tmp_path, frames):
    for number in range(2):
        write_session(tmp_path / 'bags' / f'take_{number}', np.roll(frames, number, 0))
    found = examine(tmp_path / 'bags', tmp_path / 'dataset')
    assert [finding.state for finding in found.findings] == ['new', 'new']
    assert examine(tmp_path / 'bags' / 'take_0' / 'take_0.db3', tmp_path / 'x').count('new') == 1


@pytest.mark.parametrize(('options', 'message'), [
    (ImportOptions(topics=Topics({'front': '/nowhere'})),
     r"no images on '/nowhere'; images are on \['/widowx/image_raw'\]"),
    (ImportOptions(topics=Topics({'front': 'joint_states'})), 'no images on'),
    (ImportOptions(topics=Topics(joint_states='ee_pose')), 'as joint_states it must carry'),
    (ImportOptions(ros_actions='applied'), 'no applied actions in it; it has'),
    (ImportOptions(max_image_age=-1), '0 of 10 ticks'),
])
def test_refuses_topics_that_are_not_there(tmp_path, frames, options, message):
    bag = write_session(tmp_path / 'bag', frames)
    with pytest.raises(ExchangeError, match=message):
        import_recordings(bag, tmp_path / 'dataset', options)
    assert not (tmp_path / 'dataset').exists()


def test_a_gripper_nobody_recorded_is_not_made_up(tmp_path, frames):
    with Bag(tmp_path / 'bag', StoragePlugin.SQLITE3) as bag:
        for row, image in enumerate(frames):
            bag.image('/image_raw', START + row * 200 * MS, image)
            bag.twist('/delta_twist_cmds', START + row * 200 * MS, command(row))
    with pytest.raises(ExchangeError, match='the gripper of the actions is unknown'):
        import_recordings(tmp_path / 'bag', tmp_path / 'dataset')


def test_a_bag_without_actions_or_images_is_refused(tmp_path, frames):
    bag = write_session(tmp_path / 'still', frames, commands=False, poses=False)
    with pytest.raises(ExchangeError, match='neither applied_action nor twist nor ee_pose'):
        import_recordings(bag, tmp_path / 'dataset')
    bag = write_session(tmp_path / 'blind', frames[:0])
    with pytest.raises(ExchangeError, match='holds no images; its topics'):
        import_recordings(bag, tmp_path / 'dataset')


@pytest.mark.parametrize('plugin', PLUGINS)
@pytest.mark.parametrize('size', [0, 100, 4000, -2000])
def test_a_damaged_bag_is_refused(tmp_path, frames, plugin, size):
    bag = write_session(tmp_path / 'bag', frames, plugin)
    file = next(path for path in bag.iterdir() if path.suffix in ('.db3', '.mcap'))
    file.write_bytes(file.read_bytes()[:size])
    with pytest.raises(ExchangeError, match=f'{bag}'):
        import_recordings(bag, tmp_path / 'dataset')
    assert not (tmp_path / 'dataset').exists()
