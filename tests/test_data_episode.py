"""Episodes and datasets: what goes in comes out, bit by bit; what does not fit is refused."""

import json
import os
import subprocess
import sys
import tracemalloc

from data_samples import action, assert_holds, observation, picture, record
import numpy as np
import pytest
from stable_crl_ros.data.dataset import Dataset, DatasetError
from stable_crl_ros.data.episode import Episode, EpisodeError, EpisodeWriter, read_episode
from stable_crl_ros.data.schema import Action, EpisodeMeta, Mode, Observation, SchemaError
from stable_crl_ros.images import ImageError

BARE = {'dataset.json', 'index.json'}  # a dataset without episodes


@pytest.fixture
def dataset(tmp_path):
    return Dataset(tmp_path / 'dataset', create=True)


def test_an_episode_reads_back_bit_by_bit(dataset):
    path = record(dataset, steps=7, cameras=('front', 'wrist'))
    assert path.name == 'episode_000000.zarr'
    assert_holds(read_episode(path), 7, ('front', 'wrist'))


def test_attributes_say_where_the_episode_comes_from(dataset):
    goal = picture(99, 0, size=(20, 30))
    meta = EpisodeMeta(task='open_drawer', instruction='open the drawer', operator='ada',
                       notes='lamp on', goal_id='drawer_open', goal_image=goal,
                       checkpoint='ab' * 32, image_spec={'height': 12}, source='robot',
                       extra={'seed': 4})
    with EpisodeWriter(dataset, meta) as writer:
        writer.add_step(observation(0, 0), action(0, 0))
        writer.finish(observation(0, 1), False, dropped=3, late=2, attributes={'notes': 'off'})
    episode = dataset[0]
    assert episode.attrs['task'] == 'open_drawer'
    assert episode.attrs['notes'] == 'off'
    assert episode.attrs['seed'] == 4
    assert episode.attrs['success'] is False
    assert episode.attrs['interrupted'] is False
    assert (episode.attrs['dropped'], episode.attrs['late']) == (3, 2)
    assert episode.attrs['final_capture_stamp'] == 10**18 + 1
    assert episode.attrs['cameras'] == {'front': [12, 16]}
    assert set(episode.attrs['versions']) == {'stable_crl_ros', 'numpy', 'python'}
    np.testing.assert_array_equal(episode.goal_image, goal)


READ_PLAINLY = """
import json, sys, zarr
group = zarr.open_group(sys.argv[1], mode='r')
assert 'stable_crl_ros' not in sys.modules
print(json.dumps({
    'arrays': sorted(group.array_keys()), 'cameras': sorted(group['images'].array_keys()),
    'steps': group.attrs['steps'], 'action': group['action'][...].tolist(),
    'image': group['images/front'][-1].tolist(), 'meaning': group['action'].attrs['meaning'],
    'chunks': group['images/front'].chunks, 'goal': group['goal_image'].shape}))
"""


def test_plain_zarr_reads_a_sealed_episode(dataset):
    path = record(dataset, steps=4, meta=EpisodeMeta(goal_image=picture(1, 1)))
    done = subprocess.run([sys.executable, '-c', READ_PLAINLY, path], text=True, timeout=60,
                          capture_output=True, check=True, cwd='/')
    found = json.loads(done.stdout)
    assert found['steps'] == 4
    assert found['cameras'] == ['front']
    assert {'action', 'ee_pose', 'mode', 'flags', 'goal_image'} < set(found['arrays'])
    np.testing.assert_array_equal(np.float32(found['action'][3]),
                                  np.float32(action(0, 3).action))
    np.testing.assert_array_equal(found['image'], picture(0, 4))
    assert 'really applied' in found['meaning']
    assert found['chunks'] == [1, 12, 16, 3]  # one image may be read without the others
    assert found['goal'] == [12, 16, 3]


def test_sealing_holds_one_record_at_a_time(dataset):
    with EpisodeWriter(dataset, sync_every=0) as writer:
        for step in range(60):
            writer.add_step(observation(0, step, size=(120, 160)), action(0, step))
        assert writer.bytes_written > 3_000_000
        tracemalloc.start()
        writer.finish(observation(0, 60, size=(120, 160)))
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 1_000_000


def test_what_was_not_recorded_is_nan_or_zero_never_made_up(dataset):
    with EpisodeWriter(dataset) as writer:
        writer.add_step(Observation({'front': picture(0, 0)}), Action(np.zeros(7)))
        writer.finish(Observation({'front': picture(0, 1)}))
    episode = dataset[0]
    for name in ('joint_positions', 'ee_pose', 'gripper', 'progress'):
        assert np.isnan(episode[name]).all()
    assert episode['capture_stamp'].tolist() == [0]
    assert episode.attrs['success'] is None


def test_without_a_final_observation_the_last_action_is_kept_aside(dataset):
    with EpisodeWriter(dataset) as writer:
        for step in range(4):
            writer.add_step(observation(0, step), action(0, step))
        writer.finish()
    episode = dataset[0]
    assert_holds(episode, 3)
    kept = episode.attrs['unfinished_step']
    np.testing.assert_array_equal(np.float32(kept['action']), np.float32(action(0, 3).action))
    assert kept['applied_stamp'] == 10**18 + 6


def test_a_black_episode_reads_back_although_all_its_chunks_are_zero(dataset):
    with EpisodeWriter(dataset) as writer:
        for _ in range(3):
            writer.add_step(Observation({'front': np.zeros((9, 9, 3), np.uint8)}),
                            Action(np.zeros(7)))
        writer.finish(Observation({'front': np.zeros((9, 9, 3), np.uint8)}))
    assert not dataset[0].images().any()
    assert (dataset.episode_path(0) / 'images/front/c/0/0/0/0').exists()


@pytest.mark.parametrize(('change', 'message'), [
    ({'images': {'front': np.zeros((12, 16, 4), np.uint8)}}, 'RGB'),
    ({'ages': {'wrist': 3}}, 'no such stream.*front'),
    ({'images': {'front': np.zeros((12, 16, 3), np.float32)}}, 'uint8'),
    ({'images': {'a/b': picture(0, 0)}}, 'camera name'),
    ({'images': {'front': np.zeros((6, 16, 3), np.uint8)}}, 'differs.*start another'),
    ({'images': {}, 'ages': {}}, 'differs.*start another'),
    ({'joint_positions': np.zeros(5)}, r'joint_positions must have shape \(6,\)'),
    ({'ee_pose': 'here'}, 'ee_pose'),
])
def test_refuses_an_observation_that_does_not_fit_and_goes_on(dataset, change, message):
    with EpisodeWriter(dataset) as writer:
        writer.add_step(observation(0, 0), action(0, 0))
        wrong = observation(0, 1)
        vars(wrong).update(change)
        with pytest.raises(SchemaError, match=message):
            writer.add_step(wrong, action(0, 1))
        writer.finish(observation(0, 1))
    assert_holds(dataset[0], 1)


@pytest.mark.parametrize(('wrong', 'message'), [
    (Action(np.full(7, np.nan)), 'not finite'),
    (Action(np.zeros(6)), r'shape \(7,\)'),
    (Action(np.zeros(7), mode=9), 'unknown mode'),
    (Action(np.zeros(7), flags=-1), 'flags'),
])
def test_refuses_an_action_that_does_not_fit(dataset, wrong, message):
    with EpisodeWriter(dataset) as writer, pytest.raises(SchemaError, match=message):
        writer.add_step(observation(0, 0), wrong)


def test_keeps_a_commanded_nan_beside_the_zeros_that_were_applied(dataset):
    with EpisodeWriter(dataset) as writer:
        writer.add_step(observation(0, 0), Action(np.zeros(7), np.full(7, np.nan)))
        writer.finish(observation(0, 1))
    assert np.isnan(dataset[0]['commanded_action']).all()


@pytest.mark.parametrize('extra', [{'steps': 3}, {'task': 'x'}, {'bad': {1, 2}},
                                   {'bad': float('nan')}])
def test_refuses_attributes_that_collide_or_are_not_json(dataset, extra):
    with pytest.raises(SchemaError, match='attributes'):
        EpisodeWriter(dataset, EpisodeMeta(extra=extra))
    assert set(os.listdir(dataset.path)) - {'.lock'} == BARE


def test_refuses_a_goal_that_is_no_image(dataset):
    with pytest.raises(ImageError, match='goal'):
        EpisodeWriter(dataset, EpisodeMeta(goal_image=np.zeros((4, 4))))


def test_an_episode_left_early_is_sealed_as_interrupted(dataset):
    with pytest.raises(KeyboardInterrupt), EpisodeWriter(dataset) as writer:
        for step in range(3):
            writer.add_step(observation(0, step), action(0, step))
        raise KeyboardInterrupt
    assert_holds(dataset[0], 2)
    assert dataset[0].attrs['interrupted'] is True


def test_an_episode_without_steps_leaves_nothing(dataset):
    with EpisodeWriter(dataset), pytest.raises(EpisodeError, match='no step'):
        EpisodeWriter(dataset).finish()
    assert set(os.listdir(dataset.path)) - {'.lock'} == BARE


def test_discarding_leaves_nothing(dataset):
    with EpisodeWriter(dataset) as writer:
        writer.add_step(observation(0, 0), action(0, 0))
        writer.discard()
    assert set(os.listdir(dataset.path)) - {'.lock'} == BARE


def test_refuses_to_record_over_an_episode(dataset):
    record(dataset)
    with pytest.raises(EpisodeError, match='exists'):
        EpisodeWriter(dataset, episode_id=0)


def test_names_the_arrays_and_cameras_there_are(dataset):
    record(dataset, cameras=('front', 'wrist'))
    with pytest.raises(EpisodeError, match="no array 'depth'.*'action'"):
        dataset[0]['depth']
    with pytest.raises(EpisodeError, match="choose one of .'front', 'wrist'"):
        dataset[0].images()
    with pytest.raises(DatasetError, match=r'no episode 5; it has \[0\]'):
        dataset[5]


def damage(path, how):
    if how == 'byte':
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
    elif how == 'cut':
        path.write_bytes(path.read_bytes()[:path.stat().st_size * 2 // 3])
    else:
        path.unlink()


@pytest.mark.parametrize('how', ['byte', 'cut', 'lost'])
@pytest.mark.parametrize('name', ['images/front', 'action', 'mode'])
def test_a_damaged_chunk_is_never_read_as_data(dataset, name, how):
    path = record(dataset)
    chunks = [file for file in (path / name / 'c').rglob('*') if file.is_file()]
    damage(chunks[0], how)
    with pytest.raises(EpisodeError, match=name):
        dataset[0][name]


@pytest.mark.parametrize('how', ['cut', 'lost'])
def test_damaged_metadata_is_named_and_other_episodes_stay_readable(dataset, how):
    record(dataset)
    damage(record(dataset) / 'zarr.json', how)
    record(dataset)
    assert list(dataset.broken) == ['episode_000001.zarr']
    with pytest.raises(DatasetError, match='episode_000001.zarr'):
        _ = dataset.episodes
    assert_holds(dataset[0], 5)
    assert_holds(dataset[2], 5)


def test_the_index_is_rebuilt_when_it_is_lost_damaged_or_stale(dataset):
    for _ in range(2):
        record(dataset)
    whole = dataset.index()
    for content in (b'', b'{"format_version": 1}', b'[', None):
        if content is None:
            (dataset.path / 'index.json').unlink()
        else:
            (dataset.path / 'index.json').write_bytes(content)
        assert Dataset(dataset.path).index() == whole
        assert json.loads((dataset.path / 'index.json').read_bytes())['episodes'] == whole
    record(dataset)
    assert [entry['episode_id'] for entry in dataset.index()] == [0, 1, 2]
    os.rename(dataset.episode_path(1), dataset.path.parent / 'moved_away')
    assert [episode.id for episode in dataset.episodes] == [0, 2]


def test_the_fingerprint_follows_the_data_and_nothing_else(dataset, tmp_path):
    twin = Dataset(tmp_path / 'twin', create=True)
    record(dataset)
    record(twin, meta=EpisodeMeta(task='other', notes='other'))
    assert dataset.fingerprint() == twin.fingerprint()
    record(dataset)
    assert dataset.fingerprint() != twin.fingerprint()


def test_refuses_what_is_no_dataset_and_says_why(tmp_path):
    (tmp_path / 'file').write_text('x')
    (tmp_path / 'home').mkdir()
    (tmp_path / 'home' / 'letter.txt').write_text('x')
    with pytest.raises(DatasetError, match='does not exist'):
        Dataset(tmp_path / 'none')
    with pytest.raises(DatasetError, match='is a file'):
        Dataset(tmp_path / 'file')
    with pytest.raises(DatasetError, match='is not a dataset'):
        Dataset(tmp_path / 'home')
    with pytest.raises(DatasetError, match='holds other files'):
        Dataset(tmp_path / 'home', create=True)
    with pytest.raises(DatasetError, match='not writable'):
        Dataset(tmp_path / 'file' / 'dataset', create=True)


def test_refuses_newer_formats_and_says_to_update(dataset):
    path = record(dataset)
    values = json.loads((path / 'zarr.json').read_bytes())
    values['attributes']['format_version'] = 3
    (path / 'zarr.json').write_text(json.dumps(values))
    with pytest.raises(EpisodeError, match='newer.*update'):
        Episode(path)
    (dataset.path / 'index.json').write_text('{"format_version": 3, "episodes": []}')
    with pytest.raises(DatasetError, match='newer.*update'):
        Dataset(dataset.path)


def test_modes_have_the_numbers_that_are_stored():
    assert [mode.value for mode in Mode] == [0, 1, 2, 3]
    assert [mode.name for mode in Mode] == ['IDLE', 'POLICY', 'TELEOP', 'SCRIPT']
