"""What a path may name instead of a checkpoint, and how soon and how clearly it is refused."""

import json
import os
import struct
import threading

from learning_samples import write_checkpoint
import pytest
from stable_crl_ros.checkpoint_file import CheckpointError, read_header
from stable_crl_ros.policy import peek_policy


@pytest.fixture
def path(tmp_path):
    return tmp_path / 'policy.safetensors'


def write_raw(path, header, body=b''):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack('<Q', len(text)) + text + body)


def test_a_header_tells_shapes_and_metadata(path):
    agent = write_checkpoint(path)
    header = read_header(path)
    assert header.shapes == {name: tuple(t.shape) for name, t in agent.tensors().items()}
    assert json.loads(header.metadata['algorithm']) == 'stable_crl'
    assert peek_policy(path)['algorithm'] == 'stable_crl'


def loop(path):
    path.symlink_to(path.name)


def dangling(path):
    path.symlink_to('nowhere.safetensors')


def huge(path):
    write_checkpoint(path)
    os.truncate(path, 4_000_000_000)


def grown(path):
    write_checkpoint(path)
    os.truncate(path, path.stat().st_size + 1)


@pytest.mark.parametrize(('make', 'reason'), [
    (loop, 'leads back to itself'), (dangling, 'no such file'),
    (lambda path: path.mkdir(), 'is a directory'), (os.mkfifo, 'is no regular file'),
    (huge, '4.0 GB, but no checkpoint of this package is larger than 2 GB'),
    (grown, 'should be'),
    (lambda path: write_raw(path, b'{' + b' ' * 2_000_000), '1000000 at most are read'),
    (lambda path: write_raw(path, b'[' * 100_000), 'not a whole'),
    (lambda path: write_raw(path, {'a': {'shape': [2]}}), 'not a whole'),
    (lambda path: write_raw(path, {'a': {'shape': [-1], 'data_offsets': [0, 0]}}), 'shapes'),
    (lambda path: write_raw(path, {'a': {'shape': [1], 'data_offsets': [4, 8]}}, bytes(8)),
     'overlap or have gaps'),
    (lambda path: write_raw(path, {'__metadata__': {'step': 3}}), 'not texts'),
    (lambda path: write_raw(path, [1, 2]), 'not a whole'),
    (lambda path: write_raw(path, b'\xff\xfe'), 'not a whole')])
def test_whatever_else_a_path_names_is_refused(path, make, reason):
    make(path)
    with pytest.raises(CheckpointError, match=reason) as refusal:
        peek_policy(path)
    assert str(path) in str(refusal.value)


def test_a_path_with_a_null_character_is_refused():
    with pytest.raises(CheckpointError, match='cannot be a path'):
        peek_policy('a\0b')


def test_a_file_that_may_not_be_read_is_refused(path):
    write_checkpoint(path)
    path.chmod(0)
    for folder in path.parents[:3]:
        folder.chmod(0o755)
    reader, writer = os.pipe()
    child = os.fork()
    if not child:  # root may read everything; nobody may not
        try:
            if not os.geteuid():
                os.setuid(65534)
            peek_policy(path)
        except CheckpointError as error:
            os.write(writer, str(error).encode())
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    assert os.read(reader, 1000).decode() == f'{path}: cannot be read (Permission denied)'
    os.close(reader)
    os.close(writer)


def test_a_pipe_nobody_writes_to_is_not_waited_for(path):
    os.mkfifo(path)
    done = threading.Event()

    def look():
        with pytest.raises(CheckpointError):
            read_header(path)
        done.set()
    threading.Thread(target=look, daemon=True).start()
    assert done.wait(10.0)
