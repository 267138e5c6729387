"""TFRecord files: RLDS episodes of others, BridgeData's own records, and damage."""

import json

from exchange_samples import real_arrays
import numpy as np
import pytest
from stable_crl_ros.data.dataset import Dataset
from stable_crl_ros.exchange.importing import examine, import_recordings
from stable_crl_ros.exchange.options import ImportOptions
from stable_crl_ros.exchange.recording import ExchangeError
from stable_crl_ros.exchange.tfrecord import masked_crc, parse_tensor
from stable_crl_ros.images import encode_image
from tfrecord import TFRecordWriter

NAME = 'bridge_dataset-train.tfrecord-00000-of-00001'


def as_steps(arrays, **changes):
    """Give a real recording as the values of an RLDS episode, one step per observation."""
    count = len(arrays['actions'])
    black = encode_image(np.zeros((64, 64, 3), np.uint8), '.jpg')
    values = {
        'steps/action': (arrays['actions'].ravel().tolist(), 'float'),
        'steps/observation/state': (arrays['state'].ravel().tolist(), 'float'),
        'steps/observation/image_0': ([encode_image(image) for image in arrays['images0']],
                                      'byte'),
        'steps/observation/image_3': ([black] * count, 'byte'),
        'steps/language_instruction': ([str(arrays['language']).encode()] * count, 'byte'),
        'steps/is_first': ([1] + [0] * (count - 1), 'int'),
        'steps/is_last': ([0] * count, 'int'), 'steps/done': ([1] * count, 'int'),
        'episode_metadata/file_path': ([b'bridge/out.npy'], 'byte'), **changes}
    return {name: value for name, value in values.items() if value is not None}


def write(path, *episodes):
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = TFRecordWriter(str(path))
    for values in episodes:
        writer.write(values)
    writer.close()
    return path


def test_episodes_written_by_another_library_come_in_as_they_are(real_data, tmp_path):
    sources = [real_arrays(real_data, number) for number in range(3)]
    write(tmp_path / 'tfds' / '1.0.0' / NAME, *map(as_steps, sources))
    result = import_recordings(tmp_path / 'tfds', tmp_path / 'dataset')
    assert result.format == 'rlds'
    for episode, arrays in zip(Dataset(tmp_path / 'dataset').episodes, sources, strict=True):
        assert episode.cameras == ['image_0']
        assert episode.attrs['left_out'] == ['image_3: black, so no camera']
        assert episode.attrs['instruction'] == arrays['language']
        assert episode.attrs['file_path'] == 'bridge/out.npy'
        np.testing.assert_array_equal(episode.images(), arrays['images0'])
        np.testing.assert_array_equal(episode['action'], arrays['actions'][:9])
        assert not episode['done'].any()  # theirs are the ends of episodes
        np.testing.assert_array_equal(
            np.float32(episode.attrs['unfinished_step']['action']), arrays['actions'][9])
        np.testing.assert_allclose(episode['ee_pose'][:, :3], arrays['state'][:, :3], atol=1e-7)
    assert import_recordings(tmp_path / 'tfds', tmp_path / 'dataset').episodes == []


@pytest.mark.parametrize('state', ['auto', 'bridge'])
def test_rlds_of_others_is_not_taken_for_bridge_data(real_data, tmp_path, state):
    arrays = real_arrays(real_data)
    write(tmp_path / 'fractal-train.tfrecord-00000-of-00001', as_steps(
        arrays, **{'episode_metadata/file_path': ([b'/robots/drawer.npy'], 'byte')}))
    found = examine(tmp_path, tmp_path / 'dataset')
    assert 'nothing says at what rate it was recorded; give --rate' in found.findings[0].why
    import_recordings(tmp_path, tmp_path / 'dataset', ImportOptions(rate=3.0, state=state))
    episode, = Dataset(tmp_path / 'dataset').episodes
    assert episode.attrs['control_rate'] == 3.0
    assert not {'licence', 'attribution'} & set(episode.attrs)
    np.testing.assert_array_equal(episode['action'], arrays['actions'][:9])
    assert np.isnan(episode['ee_pose']).all() == np.isnan(episode['gripper']).all() \
        == (state == 'auto')


def test_bridge_data_is_known_by_where_it_was_made_from(real_data, tmp_path):
    made_from = b'/data/bridge_data_v2/put/out.npy'
    write(tmp_path / 'mine-train.tfrecord-00000-of-00001', as_steps(
        real_arrays(real_data), **{'episode_metadata/file_path': ([made_from], 'byte')}))
    import_recordings(tmp_path, tmp_path / 'dataset')
    episode, = Dataset(tmp_path / 'dataset').episodes
    assert (episode.attrs['licence'], episode.attrs['control_rate']) == ('CC BY 4.0', 5.0)
    assert np.isfinite(episode['ee_pose']).all()


def test_no_motion_after_the_last_observation_only_fills_the_row(real_data, tmp_path):
    arrays = real_arrays(real_data)
    arrays['actions'][9, :6] = 0
    write(tmp_path / NAME, as_steps(arrays, **{'steps/is_last': ([0] * 9 + [1], 'int')}))
    import_recordings(tmp_path / NAME, tmp_path / 'dataset')
    episode, = Dataset(tmp_path / 'dataset').episodes
    assert episode.steps == 9
    assert episode.attrs['unfinished_step'] is None


def test_actions_in_parts_are_put_together(real_data, tmp_path):
    arrays = real_arrays(real_data)
    parts = {'world_vector': slice(0, 3), 'rotation_delta': slice(3, 6), 'open_gripper': 6}
    write(tmp_path / NAME, as_steps(arrays, **{'steps/action': None, **{
        f'steps/action/{part}': (arrays['actions'][:, columns].ravel().tolist(), 'float')
        for part, columns in parts.items()}}))
    import_recordings(tmp_path, tmp_path / 'dataset')
    episode, = Dataset(tmp_path / 'dataset').episodes
    np.testing.assert_array_equal(episode['action'], arrays['actions'][:9])


def tensor(array):
    """Serialise as `tf.io.serialize_tensor` does: fields 1 type, 2 shape, 4 content."""
    kinds = {np.float32: 1, np.uint8: 4, np.bool_: 10}
    dims = b''.join(b'\x12' + bytes([len(size)]) + size for size in (
        b'\x08' + varint(number) for number in array.shape))
    content = array.tobytes()
    return (b'\x08' + varint(kinds[array.dtype.type]) + b'\x12' + varint(len(dims)) + dims
            + b'\x22' + varint(len(content)) + content)


def varint(number):
    parts = [number & 127 | 128]
    while number := number >> 7:
        parts.append(number & 127 | 128)
    return bytes([*parts[:-1], parts[-1] & 127])


def test_bridge_data_records_of_whole_trajectories_come_in(real_data, tmp_path):
    arrays = real_arrays(real_data, 4)
    values = {f'{seen}observations/{key}': source[rows] for key, source in (
        ('images0', arrays['images0']), ('state', arrays['state']))
        for seen, rows in (('', slice(0, 9)), ('next_', slice(1, 10)))}
    values.update(actions=arrays['actions'][:9], terminals=np.zeros(9, bool))
    write(tmp_path / 'out.tfrecord',
          {name: ([tensor(array)], 'byte') for name, array in values.items()})
    import_recordings(tmp_path / 'out.tfrecord', tmp_path / 'dataset')
    episode, = Dataset(tmp_path / 'dataset').episodes
    np.testing.assert_array_equal(episode.images('image_0'), arrays['images0'])
    np.testing.assert_array_equal(episode['action'], arrays['actions'][:9])
    np.testing.assert_array_equal(episode['gripper'], arrays['state'][:, 6])


def test_the_checksum_is_that_of_the_published_example():
    assert masked_crc(b'123456789') == (
        (0xE3069283 >> 15 | 0xE3069283 << 17) + 0xA282EAD8) & 0xFFFFFFFF


@pytest.mark.parametrize(('place', 'message'), [
    (3, 'no TFRecord at byte 0'), (9, 'no TFRecord at byte 0'),
    (100, 'record at byte 0 differs from its checksum'), (-2, 'differs from its checksum')])
def test_a_flipped_bit_is_found(real_data, tmp_path, place, message):
    path = write(tmp_path / NAME, as_steps(real_arrays(real_data)))
    data = bytearray(path.read_bytes())
    data[place] ^= 4
    path.write_bytes(data)
    with pytest.raises(ExchangeError, match=message):
        import_recordings(path, tmp_path / 'dataset')
    assert not (tmp_path / 'dataset').exists()


@pytest.mark.parametrize('size', [1, 11, 500, -1])
def test_a_file_that_breaks_off_is_refused(real_data, tmp_path, size):
    path = write(tmp_path / NAME, as_steps(real_arrays(real_data)))
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(ExchangeError, match='breaks off'):
        import_recordings(path, tmp_path / 'dataset')


def test_a_shard_with_fewer_records_than_its_description_says_is_refused(real_data, tmp_path):
    write(tmp_path / NAME, as_steps(real_arrays(real_data)))
    info = {'splits': [{'name': 'train', 'shardLengths': ['2']}]}
    (tmp_path / 'dataset_info.json').write_text(json.dumps(info))
    with pytest.raises(ExchangeError, match='holds 1 records, dataset_info.json says 2'):
        import_recordings(tmp_path, tmp_path / 'dataset')
    (tmp_path / 'dataset_info.json').write_text('{')
    with pytest.raises(ExchangeError, match='not a dataset_info.json'):
        import_recordings(tmp_path, tmp_path / 'dataset')


def test_the_shapes_of_features_json_are_kept_to(real_data, tmp_path):
    write(tmp_path / NAME, as_steps(real_arrays(real_data)))
    shape = {'tensor': {'shape': {'dimensions': ['8']}, 'dtype': 'float32'}}
    description = {'featuresDict': {'features': {'steps': {'sequence': {'feature': {
        'featuresDict': {'features': {'action': shape}}}}}}}}
    (tmp_path / 'features.json').write_text(json.dumps(description))
    with pytest.raises(ExchangeError, match=r'steps/action: 7 numbers per step.*says \(8,\)'):
        import_recordings(tmp_path, tmp_path / 'dataset')


@pytest.mark.parametrize(('changes', 'message'), [
    ({'steps/action': None}, 'no steps/action, nor'),
    ({'steps/action': ([0.0] * 60, 'float')}, r'must be \(T, 7\)'),
    ({'steps/action': ([0.0] * 71, 'float')}, '71 numbers for 10 steps'),
    ({'steps/action': ([float('nan')] * 70, 'float')}, 'action 0 is not finite'),
    ({'steps/observation/image_0': None}, '0 images'),
    ({'steps/observation/image_0': ([b'\xff\xd8\xffrubbish'] * 10, 'byte')}, 'not a readable'),
    ({'steps/is_first': ([1], 'int')}, r'actions \(1, 70\)'),
])
def test_refuses_an_episode_that_does_not_fit(real_data, tmp_path, changes, message):
    write(tmp_path / NAME, as_steps(real_arrays(real_data), **changes))
    with pytest.raises(ExchangeError, match=message):
        import_recordings(tmp_path, tmp_path / 'dataset')
    assert not (tmp_path / 'dataset').exists()


def test_relabelling_needs_states(real_data, tmp_path):
    write(tmp_path / NAME, as_steps(real_arrays(real_data), **{'steps/observation/state': None}))
    found = examine(tmp_path, tmp_path / 'dataset', ImportOptions(actions='relabelled'))
    assert 'no states to relabel' in found.findings[0].why
    assert examine(tmp_path, tmp_path / 'dataset').count('new') == 1


@pytest.mark.parametrize('data', [
    b'', b'rubbish', b'\x08\x63', tensor(np.zeros(3, np.uint8))[:-1]])
def test_refuses_what_is_no_tensor(data):
    with pytest.raises(ExchangeError, match='here: not a serialised tensor'):
        parse_tensor(data, 'here')
