"""
Exports, read back by others than who wrote them.

LeRobot by pyarrow and Pillow along its documented layout (the library itself pulls gigabytes),
RLDS by the `tfrecord` package, diffusion_policy's Zarr v2 by its plain files and numcodecs.
"""

import fcntl
import io
import json
import os
from pathlib import Path

import cv2
from data_samples import record
from exchange_samples import import_real, write_raw
import numcodecs
import numpy as np
from PIL import Image
import pyarrow.parquet as parquet
import pytest
from stable_crl_ros.data.dataset import Dataset
from stable_crl_ros.data.schema import EpisodeMeta
from stable_crl_ros.exchange.exporting import export_dataset, FORMATS
from stable_crl_ros.exchange.importing import import_recordings
from stable_crl_ros.exchange.lerobot_video import VideoFiles
from stable_crl_ros.exchange.recording import ExchangeError
from stable_crl_ros.exchange.selection import ExportOptions, last_action, select
from tfrecord.reader import tfrecord_loader
import zarr

CAMERAS = ('image_0', 'image_1', 'image_2')


@pytest.fixture(scope='module')
def real(real_data, tmp_path_factory):
    """Give the 18 real recordings as a dataset."""
    return import_real(real_data, tmp_path_factory.mktemp('bridge') / 'dataset')


def decode(data):
    return np.asarray(Image.open(io.BytesIO(data)))


def read_lerobot(root):
    """Read a LeRobot v3.0 dataset along its layout: info, tasks, episodes, data files."""
    info = json.loads((root / 'meta' / 'info.json').read_text())
    tasks = parquet.read_table(root / 'meta' / 'tasks.parquet').to_pylist()
    words = {task['task_index']: task['task'] for task in tasks}
    episodes = []
    for row in parquet.read_table(root / 'meta' / 'episodes' / 'chunk-000' / 'file-000.parquet'
                                  ).to_pylist():
        path = root / info['data_path'].format(chunk_index=row['data/chunk_index'],
                                               file_index=row['data/file_index'])
        table = parquet.read_table(path).to_pylist()
        rows = [frame for frame in table if frame['episode_index'] == row['episode_index']]
        assert [frame['index'] for frame in rows] == list(
            range(row['dataset_from_index'], row['dataset_to_index']))
        assert [words[frame['task_index']] for frame in rows] == row['tasks'] * row['length']
        episodes.append((row, {name: np.array([frame[name] for frame in rows]) if not
                               name.startswith('observation.images') else
                               [frame[name] for frame in rows] for name in rows[0]}))
    return info, episodes


def recorded_actions(episode):
    last = last_action(episode)
    return episode['action'] if last is None else np.concatenate([episode['action'], last[None]])


def test_the_real_episodes_survive_lerobot(real, tmp_path):
    done = export_dataset(real.path, tmp_path / 'out', 'lerobot')
    info, episodes = read_lerobot(tmp_path / 'out')
    assert info['codebase_version'] == 'v3.0'
    assert (info['total_episodes'], info['total_frames'], info['fps']) == (18, 180, 5)
    assert (done.episodes, done.frames) == (list(range(18)), 180)
    for episode, (row, columns) in zip(real.episodes, episodes, strict=True):
        np.testing.assert_array_equal(columns['action'], recorded_actions(episode))
        np.testing.assert_array_equal(columns['observation.ee_pose'], episode['ee_pose'])
        np.testing.assert_array_equal(columns['observation.gripper'], episode['gripper'])
        np.testing.assert_allclose(columns['timestamp'], np.arange(10) / 5)
        assert columns['next.done'].tolist() == [False] * 9 + [True]
        assert row['tasks'] == [episode.attrs['instruction']]
        for camera in CAMERAS:
            images = [decode(item['bytes']) for item in columns[f'observation.images.{camera}']]
            np.testing.assert_array_equal(images, episode.images(camera))
    assert set(info['features']) == set(episodes[0][1])
    known = json.loads((tmp_path / 'out' / 'meta' / 'stable_crl_episodes.json').read_text())
    assert not any('sha256' in name for name in known[0])  # checksums of what is not there
    assert known[3]['licence'] == 'CC BY 4.0'


def test_the_state_is_bridge_datas_own(real, real_data, tmp_path):
    export_dataset(real.path, tmp_path / 'out', 'lerobot', ExportOptions(episodes=[4]))
    _, ((_, columns),) = read_lerobot(tmp_path / 'out')
    with np.load(real_data / 'bridge_v1_octo' / 'episode_004' / 'episode.npz') as source:
        np.testing.assert_allclose(columns['observation.state'], source['state'], atol=2e-7)


def test_lerobot_statistics_are_those_of_the_data(real, tmp_path):
    export_dataset(real.path, tmp_path / 'out', 'lerobot')
    stats = json.loads((tmp_path / 'out' / 'meta' / 'stats.json').read_text())
    actions = np.concatenate([recorded_actions(episode) for episode in real.episodes])
    images = np.concatenate([episode.images('image_0') for episode in real.episodes]) / 255
    assert stats['action']['count'] == stats['observation.images.image_0']['count'] == [180]
    for name, measure in (('mean', np.mean), ('std', np.std), ('min', np.min), ('max', np.max)):
        np.testing.assert_allclose(stats['action'][name], measure(actions, axis=0), atol=1e-6)
        np.testing.assert_allclose(np.squeeze(stats['observation.images.image_0'][name]),
                                   measure(images, axis=(0, 1, 2)), atol=1e-6)
    np.testing.assert_allclose(stats['action']['q90'], np.quantile(actions, 0.9, axis=0))
    row, _ = read_lerobot(tmp_path / 'out')[1][2]
    np.testing.assert_allclose(row['stats/action/mean'], recorded_actions(real[2]).mean(axis=0),
                               atol=1e-6)


def test_lerobot_videos_hold_every_frame_where_the_episodes_say(real, tmp_path):
    done = export_dataset(real.path, tmp_path / 'out', 'lerobot', ExportOptions(video=True))
    info, episodes = read_lerobot(tmp_path / 'out')
    key = 'observation.images.image_1'
    assert info['features'][key]['dtype'] == 'video'
    row = episodes[7][0]
    path = tmp_path / 'out' / info['video_path'].format(
        video_key=key, chunk_index=row[f'videos/{key}/chunk_index'],
        file_index=row[f'videos/{key}/file_index'])
    capture, frames = cv2.VideoCapture(str(path)), []
    while (read := capture.read())[0]:
        frames.append(cv2.cvtColor(read[1], cv2.COLOR_BGR2RGB))
    first = round(row[f'videos/{key}/from_timestamp'] * info['fps'])
    assert round(row[f'videos/{key}/to_timestamp'] * info['fps']) == first + 10
    assert len(frames) == 180
    error = np.square(np.float64(frames[first:first + 10]) - real[7].images('image_1')).mean()
    assert 10 * np.log10(255**2 / error) > 30  # dB, against the frames of its own episode
    assert done.bytes < 2_000_000


def test_a_video_of_a_rate_that_would_be_rounded_is_refused(tmp_path):
    dataset = Dataset(tmp_path / 'dataset', create=True)
    record(dataset, meta=EpisodeMeta(control_rate=10 / 3))
    with pytest.raises(ExchangeError, match='OpenCV writes videos of 3.333 Hz for 3.3333333333'):
        export_dataset(dataset.path, tmp_path / 'out', 'lerobot', ExportOptions(video=True))
    export_dataset(dataset.path, tmp_path / 'out', 'lerobot')


def test_a_video_that_is_not_written_whole_is_found(small_disk):
    files = VideoFiles(small_disk, '{video_key}.mp4', 'front', (64, 64), 5.0, 100)
    files.begin_episode(1500)
    rng = np.random.default_rng(0)
    for _ in range(1500):  # of noise, for which the disk is too small
        files.add(rng.integers(0, 256, (64, 64, 3), np.uint8))
    with pytest.raises(ExchangeError, match='of 1500 frames were written; is the disk full'):
        files.close()


def test_the_real_episodes_survive_rlds(real, tmp_path):
    export_dataset(real.path, tmp_path / 'my_data', 'rlds')
    place = tmp_path / 'my_data' / '1.0.0'
    info = json.loads((place / 'dataset_info.json').read_text())
    assert info['name'] == 'my_data'
    shard = place / 'my_data-train.tfrecord-00000-of-00001'
    assert info['splits'][0]['shardLengths'] == ['18']
    records = list(tfrecord_loader(str(shard), None, None))
    for episode, values in zip(real.episodes, records, strict=True):
        np.testing.assert_array_equal(values['steps/action'].reshape(10, 7),
                                      recorded_actions(episode))
        np.testing.assert_array_equal(values['steps/observation/ee_pose'].reshape(10, 7),
                                      episode['ee_pose'])
        assert values['steps/is_last'].tolist() == [0] * 9 + [1]
        assert bytes(values['steps/language_instruction'][0]).decode() == \
            episode.attrs['instruction']
        assert values['episode_metadata/success'].tolist() == [-1]
        for camera in CAMERAS:
            # NumPy strips zero bytes from the ends of strings; a PNG ends with its checksum.
            images = [decode(data) for data in values[f'steps/observation/{camera}']]
            np.testing.assert_array_equal(images, episode.images(camera))


def test_what_is_exported_to_rlds_comes_in_again_as_it_was(real, tmp_path):
    export_dataset(real.path, tmp_path / 'out', 'rlds')
    import_recordings(tmp_path / 'out', tmp_path / 'again')
    for before, after in zip(real.episodes, Dataset(tmp_path / 'again').episodes, strict=True):
        for name in before.names:
            if name.startswith('images/'):
                camera = name.removeprefix('images/')
                np.testing.assert_array_equal(after.images(camera), before.images(camera))
            else:
                np.testing.assert_array_equal(after[name], before[name], err_msg=name)
        for name in ('task', 'instruction', 'control_rate', 'success', 'licence'):
            assert after.attrs[name] == before.attrs[name]


def test_what_is_known_of_an_episode_comes_back_from_rlds_and_the_rest_is_named(tmp_path):
    dataset = Dataset(tmp_path / 'dataset', create=True)
    known = {'stamps': 'simulated time', 'seed': 7, 'start_block': [0.3, 0.1, 0.0],
             'final_error': 0.004}
    record(dataset, 5, meta=EpisodeMeta(tags=['new'], goal_id='open', extra=known))
    record(dataset, 5)
    notes = export_dataset(dataset.path, tmp_path / 'out', 'rlds').notes
    assert any('not in RLDS: goal_image' in note and 'created_ns' in note for note in notes)
    import_recordings(tmp_path / 'out', tmp_path / 'again')
    ours, robots = Dataset(tmp_path / 'again').episodes
    assert {name: ours.attrs[name] for name in known} == known
    assert (ours.attrs['tags'], ours.attrs['goal_id']) == (['new'], 'open')
    assert ours['command_stamp'].all() and 'stamps' not in robots.attrs


def test_no_stamps_are_claimed_that_rlds_did_not_hold(real, tmp_path):
    assert real[0].attrs['stamps'] == 'none recorded'
    export_dataset(real.path, tmp_path / 'out', 'rlds')
    import_recordings(tmp_path / 'out', tmp_path / 'again')
    assert Dataset(tmp_path / 'again')[0].attrs['stamps'] == 'none recorded'


def read_zarr_2(path):
    """Read an array of Zarr's version 2 by its description and its chunk files."""
    description = json.loads((path / '.zarray').read_text())
    assert description['zarr_format'] == 2
    codec = numcodecs.get_codec(description['compressor'])
    shape, chunks = description['shape'], description['chunks']
    array = np.full(shape, description['fill_value'], description['dtype'])
    for file in path.iterdir():
        if not file.name.startswith('.'):
            index = [int(part) for part in file.name.split('.')]
            block = np.frombuffer(codec.decode(file.read_bytes()), array.dtype).reshape(chunks)
            place = tuple(slice(number * size, min((number + 1) * size, limit))
                          for number, size, limit in zip(index, chunks, shape, strict=True))
            array[place] = block[tuple(slice(0, part.stop - part.start) for part in place)]
    return array


@pytest.mark.parametrize('read', [read_zarr_2, lambda path: zarr.open_array(path, mode='r')[...]],
                         ids=['plain files', 'zarr'])
def test_the_real_episodes_survive_diffusion_policy(real, tmp_path, read):
    export_dataset(real.path, tmp_path / 'out.zarr', 'diffusion_policy')
    root = tmp_path / 'out.zarr'
    ends = read(root / 'meta' / 'episode_ends')
    assert ends.dtype == np.int64
    np.testing.assert_array_equal(ends, np.arange(10, 181, 10))
    arrays = {name: read(root / 'data' / name) for name in (*CAMERAS, 'action', 'ee_pose')}
    for episode, start in zip(real.episodes, [0, *ends], strict=False):
        rows = slice(start, start + 10)
        np.testing.assert_array_equal(arrays['action'][rows], recorded_actions(episode))
        np.testing.assert_array_equal(arrays['ee_pose'][rows], episode['ee_pose'])
        for camera in CAMERAS:
            np.testing.assert_array_equal(arrays[camera][rows], episode.images(camera))


@pytest.fixture(scope='module')
def recorded(tmp_path_factory):
    """Give three episodes of our own recorder, of 5, 6 and 7 steps with a final observation."""
    dataset = Dataset(tmp_path_factory.mktemp('own') / 'dataset', create=True)
    for steps in (5, 6, 7):
        record(dataset, steps, success=steps == 6)
    return dataset


@pytest.mark.parametrize(('keep_last', 'rows'), [(False, [5, 6, 7]), (True, [6, 7, 8])])
def test_a_last_frame_without_an_action_is_left_out_or_holds_still(
        recorded, tmp_path, keep_last, rows):
    options = ExportOptions(keep_last=keep_last)
    export_dataset(recorded.path, tmp_path / 'out', 'lerobot', options)
    _, episodes = read_lerobot(tmp_path / 'out')
    assert [row['length'] for row, _ in episodes] == rows
    for episode, (_, columns) in zip(recorded.episodes, episodes, strict=True):
        np.testing.assert_array_equal(columns['action'][:episode.steps], episode['action'])
        np.testing.assert_array_equal(columns['observation.joint_positions'],
                                      episode['joint_positions'][:len(columns['action'])])
        np.testing.assert_array_equal(columns['applied_stamp'][:episode.steps],
                                      episode['applied_stamp'])
        if keep_last:
            assert not columns['action'][-1, :6].any()
            assert columns['action'][-1, 6] == episode['gripper'][-1]


def test_success_is_the_reward_and_the_end_of_an_rlds_episode(recorded, tmp_path):
    export_dataset(recorded.path, tmp_path / 'out', 'rlds')
    shard, = (tmp_path / 'out' / '1.0.0').glob('*tfrecord*')
    records = list(tfrecord_loader(str(shard), None, None))
    assert [record['steps/reward'].tolist() for record in records] == [
        [0] * 6, [0] * 6 + [1], [0] * 8]
    assert [record['steps/is_terminal'].any() for record in records] == [False, True, False]
    again = import_recordings(tmp_path / 'out', tmp_path / 'again')
    assert [finding.steps for finding in again.findings] == [5, 6, 7]
    assert [episode.attrs['success'] for episode in Dataset(tmp_path / 'again').episodes] == [
        False, True, False]


@pytest.fixture
def with_gaps(tmp_path):
    """Give an episode of 8 steps; before the steps 3 and 4, so around frame 3, some were lost."""
    dataset = Dataset(tmp_path / 'dataset', create=True)
    record(dataset, 8, meta=EpisodeMeta(task='test', extra={'gaps': [3, 4]}))
    return dataset


def test_an_episode_ends_in_lerobot_where_steps_were_lost(with_gaps, tmp_path):
    done = export_dataset(with_gaps.path, tmp_path / 'out', 'lerobot')
    assert (done.episodes, done.frames) == ([0, 0], 7)
    assert 'split where steps were lost: episode 0 into 2' in done.notes
    _, episodes = read_lerobot(tmp_path / 'out')
    # The action before a gap was recorded, what it led to was not; frame 3 stands alone.
    for (_, columns), rows in zip(episodes, (slice(3), slice(4, 8)), strict=True):
        np.testing.assert_array_equal(columns['action'], with_gaps[0]['action'][rows])
        np.testing.assert_array_equal(columns['capture_stamp'],
                                      with_gaps[0]['capture_stamp'][rows])
        np.testing.assert_array_equal(columns['observation.ee_pose'],
                                      with_gaps[0]['ee_pose'][rows])
        images = [decode(item['bytes']) for item in columns['observation.images.front']]
        np.testing.assert_array_equal(images, with_gaps[0].images()[rows])
        assert columns['next.done'].tolist() == [False] * (len(images) - 1) + [True]
    known = json.loads((tmp_path / 'out' / 'meta' / 'stable_crl_episodes.json').read_text())
    assert [(part['part'], part['success']) for part in known] == [
        ('1 of 3', None), ('3 of 3', True)]


def test_an_episode_ends_in_rlds_where_steps_were_lost(with_gaps, tmp_path):
    export_dataset(with_gaps.path, tmp_path / 'out', 'rlds')
    shard, = (tmp_path / 'out' / '1.0.0').glob('*tfrecord*')
    records = list(tfrecord_loader(str(shard), None, None))
    assert [record['steps/is_last'].tolist() for record in records] == [
        [0, 0, 1], [0, 0, 0, 0, 1]]
    assert [record['steps/reward'].sum() for record in records] == [0, 1]
    import_recordings(tmp_path / 'out', tmp_path / 'again')
    first, last = Dataset(tmp_path / 'again').episodes
    np.testing.assert_array_equal(first['action'], with_gaps[0]['action'][:2])
    np.testing.assert_array_equal(last['action'], with_gaps[0]['action'][4:])
    np.testing.assert_array_equal(last.images(), with_gaps[0].images()[4:])


def test_an_episode_ends_in_diffusion_policy_where_steps_were_lost(with_gaps, tmp_path):
    export_dataset(with_gaps.path, tmp_path / 'out', 'diffusion_policy',
                   ExportOptions(keep_last=True))
    root = zarr.open_group(tmp_path / 'out', mode='r')
    assert root['meta']['episode_ends'][...].tolist() == [3, 8]
    np.testing.assert_array_equal(root['data']['front'][...],
                                  with_gaps[0].images()[[0, 1, 2, 4, 5, 6, 7, 8]])


def test_an_episode_of_nothing_but_gaps_is_left_out(recorded, tmp_path):
    dataset = Dataset(tmp_path / 'dataset', create=True)
    record(dataset, 2, meta=EpisodeMeta(task='test', extra={'gaps': [1, 2]}))
    record(dataset)
    done = export_dataset(dataset.path, tmp_path / 'out', 'lerobot')
    assert done.episodes == [1]
    assert done.left_out == {0: 'between its gaps it has no transition'}


def test_jpeg_files_are_exported_as_they_were_recorded(real_data, tmp_path):
    folder = tmp_path / 'raw' / 'traj0'
    write_raw(folder, real_data)
    import_recordings(tmp_path / 'raw', tmp_path / 'dataset', image_codec='jpeg:95')
    export_dataset(tmp_path / 'dataset', tmp_path / 'out', 'lerobot')
    _, ((_, columns),) = read_lerobot(tmp_path / 'out')
    files = [item['bytes'] for item in columns['observation.images.image_0']]
    assert files == [(folder / 'images0' / f'im_{row}.jpg').read_bytes() for row in range(9)]


def test_images_are_resized_and_cameras_chosen(real, tmp_path):
    options = ExportOptions([0, 5], ['image_2'], (32, 48))
    export_dataset(real.path, tmp_path / 'out', 'diffusion_policy', options)
    data = zarr.open_group(tmp_path / 'out', mode='r')['data']
    assert data['image_2'].shape == (20, 32, 48, 3)
    assert 'image_0' not in data


@pytest.mark.parametrize(('options', 'message'), [
    (ExportOptions(episodes=[0, 99]), r'no episode \[99\]; it has \[0, 1, 2\]'),
    (ExportOptions(cameras=['wrist']), r"has the cameras \['front'\], not \['wrist'\]"),
    (ExportOptions(video=True, image_size=(11, 12)), 'an mp4 needs even sizes, not 12x11'),
])
@pytest.mark.filterwarnings('ignore')
def test_refuses_what_does_not_fit_and_leaves_nothing(recorded, tmp_path, options, message):
    with pytest.raises(ExchangeError, match=message):
        export_dataset(recorded.path, tmp_path / 'out', 'lerobot', options)
    assert list(tmp_path.iterdir()) == []


def test_refuses_episodes_that_differ(tmp_path):
    dataset = Dataset(tmp_path / 'dataset', create=True)
    record(dataset)
    record(dataset, size=(8, 8))
    with pytest.raises(ExchangeError, match=r'episode 1: front is \(8, 8\).*--image-size'):
        export_dataset(dataset.path, tmp_path / 'out', 'rlds')
    record(dataset, cameras=('front', 'wrist'))
    with pytest.raises(ExchangeError, match='choose common ones with --camera'):
        export_dataset(dataset.path, tmp_path / 'out', 'rlds', ExportOptions([0, 2]))
    record(dataset, meta=EpisodeMeta(control_rate=10.0))
    with pytest.raises(ExchangeError, match=r'episodes of \[5.0, 10.0\] Hz'):
        export_dataset(dataset.path, tmp_path / 'out', 'lerobot', ExportOptions([0, 3]))


def test_an_interrupted_export_leaves_nothing_under_its_name_and_can_be_repeated(
        recorded, tmp_path):
    def stop(done, total):
        assert not (tmp_path / 'out').exists()
        raise KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt):
        export_dataset(recorded.path, tmp_path / 'out', 'lerobot', progress=stop)
    assert list(tmp_path.iterdir()) == []
    left = tmp_path / '.exporting-out'  # as a killed one leaves it
    (left / 'data').mkdir(parents=True)
    (left / 'data' / 'half.parquet').write_bytes(b'half')
    export_dataset(recorded.path, tmp_path / 'out', 'lerobot')
    assert [path.name for path in tmp_path.iterdir()] == ['out']
    assert not (tmp_path / 'out' / 'data' / 'half.parquet').exists()


@pytest.mark.parametrize('kind', FORMATS)
def test_nobody_else_can_export_to_the_same_place_meanwhile(recorded, tmp_path, kind):
    refusals = []

    def export_too(done, total):
        try:
            export_dataset(recorded.path, tmp_path / 'out', kind)
        except ExchangeError as error:
            refusals.append(str(error))
    export_dataset(recorded.path, tmp_path / 'out', kind, progress=export_too)
    assert refusals == [f'{tmp_path}/out is being exported by another process'] * 3


def test_what_kind_pictures_are_is_found_once(recorded):
    class Counted(list):
        seen = 0

        def __iter__(self):
            Counted.seen += 1
            return super().__iter__()

    selection = select(recorded, ExportOptions())
    selection.episodes = Counted(selection.episodes)
    for row in range(5):
        selection.picture(recorded[0], 'front', row)
    assert Counted.seen <= 2


def test_refuses_a_place_that_is_taken_or_being_written(recorded, tmp_path):
    (tmp_path / 'out').mkdir()
    (tmp_path / 'out' / 'mine').write_text('keep')
    with pytest.raises(ExchangeError, match='exists; name a folder that is not there'):
        export_dataset(recorded.path, tmp_path / 'out', 'rlds')
    assert (tmp_path / 'out' / 'mine').read_text() == 'keep'
    other = tmp_path / '.exporting-new'
    other.mkdir()
    (other / 'half').write_text('being written')
    lock = os.open(other, os.O_RDONLY)
    fcntl.flock(lock, fcntl.LOCK_EX)
    with pytest.raises(ExchangeError, match='being exported by another process'):
        export_dataset(recorded.path, tmp_path / 'new', 'rlds')
    os.close(lock)
    assert (other / 'half').exists()


def test_a_folder_that_cannot_be_made_is_refused(recorded):
    with pytest.raises(ExchangeError, match='cannot be written'):
        export_dataset(recorded.path, Path('/proc/none/out'), 'rlds')
