"""Checkpoints: whole or refused, with what is wrong and what to do."""

import gc
import json
import os
import pickle
import tracemalloc

from learning_samples import metadata, small_agent, small_config, write_checkpoint
import pytest
from safetensors.torch import load_file, save_file
from stable_crl_ros.actions import ActionScale
from stable_crl_ros.checkpoint import (
    CheckpointError,
    load_checkpoint,
    save_checkpoint,
    verify_checkpoint,
)
from stable_crl_ros.crl.presets import make_agent
from stable_crl_ros.images import ImageSpec
import torch


@pytest.fixture
def path(tmp_path):
    return tmp_path / 'policy.safetensors'


def rewrite(path, change):
    """Change the file's tensors and encoded metadata without touching its sha256."""
    from safetensors import safe_open
    with safe_open(path, framework='pt') as file:
        encoded = dict(file.metadata())
    tensors = load_file(path)
    change(tensors, encoded)
    save_file(tensors, path, encoded)


def test_what_was_saved_is_loaded(path):
    agent = write_checkpoint(path, step=7, metrics={'critic/loss': 0.25})
    loaded = load_checkpoint(path)
    assert loaded.tensors.keys() == agent.tensors().keys()
    assert all(torch.equal(loaded.tensors[name], tensor)
               for name, tensor in agent.tensors().items())
    assert (loaded.metadata['step'], loaded.metadata['metrics']) == (7, {'critic/loss': 0.25})
    assert loaded.image_spec == agent.config.image_spec
    assert loaded.action_scale == ActionScale.from_bounds()
    assert {'torch', 'stable_crl_ros', 'python'} <= loaded.metadata['versions'].keys()


def test_loading_again_and_again_keeps_nothing(path):
    write_checkpoint(path)
    load_checkpoint(path)
    tracemalloc.start()
    kept = []
    for _ in range(2):
        for _ in range(20):
            tensors = len(load_checkpoint(path).tensors)
        gc.collect()
        kept.append(tracemalloc.get_traced_memory()[0])
    tracemalloc.stop()
    assert kept[1] - kept[0] < 20 * tensors  # bytes; two numbers per tensor would be 56


def test_identity_depends_on_weights_and_metadata(tmp_path):
    names = ['a', 'b', 'c', 'd']
    paths = [tmp_path / f'{name}.safetensors' for name in names]
    write_checkpoint(paths[0])
    write_checkpoint(paths[1])
    write_checkpoint(paths[2], agent=small_agent(seed=1))
    write_checkpoint(paths[3], step=1)
    sums = [load_checkpoint(path).sha256 for path in paths]
    assert sums[0] == sums[1]
    assert len(set(sums)) == 3


def test_verify_returns_the_metadata(path):
    write_checkpoint(path)
    found = verify_checkpoint(path, image_spec=small_config().image_spec)
    assert found['algorithm'] == 'stable_crl'


def test_no_temporary_file_is_left(path):
    write_checkpoint(path)
    assert os.listdir(path.parent) == [path.name]
    assert path.stat().st_mode & 0o777 == 0o644


def test_failed_save_keeps_the_earlier_checkpoint(path):
    write_checkpoint(path)
    before = path.read_bytes()
    agent = small_agent(seed=1)
    agent.actor.head.output.weight.data[0, 0] = float('nan')
    with pytest.raises(CheckpointError, match='not finite in actor.head.output.weight'):
        write_checkpoint(path, agent=agent)
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == [path.name]


def test_save_refuses_missing_metadata(path):
    with pytest.raises(CheckpointError, match="lacks .*'action_scale'.*'config'"):
        save_checkpoint(path, {}, {'algorithm': 'gcbc'})


def test_save_into_a_missing_folder_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match='cannot be written'):
        write_checkpoint(tmp_path / 'nowhere' / 'a.safetensors')


def test_missing_file_lists_what_is_there(path):
    write_checkpoint(path)
    with pytest.raises(CheckpointError, match='other.*no such file; .*policy.safetensors'):
        load_checkpoint(path.with_name('other.safetensors'))


def test_directory_lists_what_is_in_it(path):
    write_checkpoint(path)
    with pytest.raises(CheckpointError, match='is a directory.*policy.safetensors'):
        load_checkpoint(path.parent)


@pytest.mark.parametrize('kept', [0, 4, 8, 100, 0.5, -1])
def test_truncated_file_is_refused(path, kept):
    write_checkpoint(path)
    data = path.read_bytes()
    path.write_bytes(data[:int(len(data) * kept) if isinstance(kept, float) else kept])
    with pytest.raises(CheckpointError, match='not a whole .safetensors file'):
        load_checkpoint(path)


@pytest.mark.parametrize('protocol', [2, 4, 5])
def test_renamed_pickle_is_refused_without_opening_it(path, protocol):
    class Bomb:
        def __reduce__(self):
            return os.mkdir, (str(path.parent / 'exploded'),)

    path.write_bytes(pickle.dumps(Bomb(), protocol))
    with pytest.raises(CheckpointError, match='is a pickle'):
        load_checkpoint(path)
    assert not (path.parent / 'exploded').exists()


def test_renamed_torch_file_is_refused(path):
    torch.save({'actor': torch.zeros(3)}, path)
    with pytest.raises(CheckpointError, match='is a pickle'):
        load_checkpoint(path)


@pytest.mark.parametrize('length', [0x0280, 0x4B50])
def test_header_whose_length_looks_like_a_pickle_is_read(path, length):
    agent = small_agent()
    padding = 0
    for _ in range(2):  # the second write has the right length: padding is plain JSON
        write_checkpoint(path, agent=agent, notes='n' * padding)
        found = int.from_bytes(path.read_bytes()[:8], 'little')
        wanted = length if length > found else length + 0x10000
        padding += wanted - found
    assert path.read_bytes()[:2] in (b'\x80\x02', b'PK')
    assert load_checkpoint(path).metadata['notes'].startswith('n')


@pytest.mark.parametrize('junk', [b'', b'hello', b'\x00' * 64, b'\xff' * 64])
def test_junk_is_refused(path, junk):
    path.write_bytes(junk)
    with pytest.raises(CheckpointError, match=str(path)):
        load_checkpoint(path)


def test_foreign_safetensors_file_is_refused(path):
    save_file({'weight': torch.zeros(2)}, path)
    with pytest.raises(CheckpointError, match='not a checkpoint of this package'):
        load_checkpoint(path)


def test_missing_metadata_is_named(path):
    write_checkpoint(path)
    rewrite(path, lambda tensors, encoded: encoded.pop('action_scale'))
    with pytest.raises(CheckpointError, match=r"lacks \['action_scale'\]"):
        load_checkpoint(path)


def test_other_version_is_refused(path):
    write_checkpoint(path)
    rewrite(path, lambda tensors, encoded: encoded.update(format_version='99'))
    with pytest.raises(CheckpointError, match='format version 99, this software reads 1'):
        load_checkpoint(path)


def test_metadata_that_is_no_json_is_refused(path):
    write_checkpoint(path)
    rewrite(path, lambda tensors, encoded: encoded.update(config='{'))
    with pytest.raises(CheckpointError, match='not JSON'):
        load_checkpoint(path)


def test_one_changed_weight_is_noticed(path):
    write_checkpoint(path)

    def change(tensors, encoded):
        tensors['actor.head.output.bias'][0] += 1e-3
    rewrite(path, change)
    with pytest.raises(CheckpointError, match='do not match the recorded sha256'):
        load_checkpoint(path)


def test_changed_action_scale_is_noticed(path):
    write_checkpoint(path)
    scale = ActionScale.from_statistics().to_dict()
    rewrite(path, lambda tensors, encoded: encoded.update(action_scale=json.dumps(scale)))
    with pytest.raises(CheckpointError, match='do not match the recorded sha256'):
        load_checkpoint(path)


@pytest.mark.parametrize('value', [float('nan'), float('inf')])
def test_weights_that_are_not_finite_are_refused(path, value):
    write_checkpoint(path)

    def change(tensors, encoded):
        tensors['actor.head.output.bias'][3] = value
    rewrite(path, change)
    with pytest.raises(CheckpointError, match='not finite in actor.head.output.bias'):
        load_checkpoint(path)


def test_other_action_dimension_is_refused(path):
    write_checkpoint(path, agent=make_agent('stable_crl', small_config(), action_dim=5))
    with pytest.raises(CheckpointError, match='5 dimensions, this robot needs 7'):
        verify_checkpoint(path)


def test_other_image_spec_is_refused(path):
    write_checkpoint(path)
    with pytest.raises(CheckpointError, match='height=16.*height=64.*is wanted'):
        verify_checkpoint(path, image_spec=ImageSpec(64, 64))


@pytest.mark.parametrize('changes, reason', [
    ({'action_scale': {'offset': [0] * 7}}, 'action scale lacks'),
    ({'action_scale': None}, 'train it again'),
    ({'image_spec': {'height': 2, 'width': 2, 'interpolation': 'area'}}, 'image height'),
    ({'image_spec': {'rows': 48}}, 'image spec needs'),
])
def test_unusable_description_is_refused(path, changes, reason):
    write_checkpoint(path, **changes)
    with pytest.raises(CheckpointError, match=reason):
        verify_checkpoint(path)


def test_checkpoint_without_an_actor_is_refused(path):
    save_checkpoint(path, {'critic': torch.zeros(1)}, metadata(small_config()))
    with pytest.raises(CheckpointError, match='no actor'):
        verify_checkpoint(path)


def test_file_being_read_stays_whole_while_it_is_replaced(path):
    write_checkpoint(path)
    before = path.read_bytes()
    with open(path, 'rb') as reader:
        write_checkpoint(path, agent=small_agent(seed=1))
        assert reader.read() == before
    assert path.read_bytes() != before


def test_missing_file_of_a_relative_path_names_the_folder_in_full(path, monkeypatch):
    monkeypatch.chdir(path.parent)
    with pytest.raises(CheckpointError, match=f'checkpoints in {path.parent}: '):
        load_checkpoint('other.safetensors')
