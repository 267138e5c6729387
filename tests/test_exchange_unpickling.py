"""Pickles from strangers: arrays come out, nothing they ask for is run."""

from collections import OrderedDict
import io
import os
from pathlib import Path
import pickle
import pickletools

from exchange_samples import as_numpy_1
import numpy as np
import pytest
from stable_crl_ros.exchange.recording import ExchangeError
from stable_crl_ros.exchange.unpickling import ALLOWED, load_array, load_pickle

CONTENT = {
    'floats': np.arange(6.0).reshape(2, 3), 'bytes': np.array([[1, 2]], np.uint8, order='F'),
    'words': np.array(['a', 'bc']), 'flags': np.array([True]), 'empty': np.zeros((0, 7)),
    'objects': np.array([{'x': 1}, None], object), 'scalar': np.float32(1.5),
    'nothing': None, 'list': [1, 2.5, 'ü', b'raw', (True,)], 'set': {1}, 'complex': 1 + 2j,
}


def same(left, right):
    if isinstance(left, np.ndarray):
        return left.dtype == right.dtype and left.shape == right.shape and bool(np.all(
            left == right))
    return type(left) is type(right) and left == right


@pytest.mark.parametrize('numpy_1', [False, True])
@pytest.mark.parametrize('protocol', range(pickle.HIGHEST_PROTOCOL + 1))
def test_reads_what_numpy_and_python_write(tmp_path, protocol, numpy_1):
    data = pickle.dumps(CONTENT, protocol)
    if numpy_1 and protocol < 4:  # later ones name modules by length
        data = as_numpy_1(data)
        assert b'numpy._core' not in data
    (tmp_path / 'content.pkl').write_bytes(data)
    read = load_pickle(tmp_path / 'content.pkl')
    assert read.keys() == CONTENT.keys()
    for name, value in CONTENT.items():
        assert same(read[name], value), name


class Asks:
    def __init__(self, *call):
        self._call = call

    def __reduce__(self):
        return self._call


MARK = 'stable_crl_was_here'


@pytest.mark.parametrize(('content', 'name'), [
    (Asks(os.system, (f'touch {MARK}',)), 'posix.system'),
    (Asks(eval, (f'open({MARK!r}, "w")',)), r'\w*builtin\w*.eval'),
    (Asks(getattr, (1, 'real')), r'\w*builtin\w*.getattr'),
    (Asks(np.save, (f'{MARK}.npy', [1])), r'numpy.*save'),
    (Asks(np.load, (f'{MARK}.npy',)), r'numpy.*load'),
    (Path(MARK), 'pathlib'),
    ({'inside': [Asks(os.remove, (MARK,))]}, 'posix.remove'),
    (np.array([Asks(os.system, (f'touch {MARK}',))], object), 'posix.system'),
    (OrderedDict(a=1), 'collections.OrderedDict'),
])
@pytest.mark.parametrize('protocol', [0, 2, 4])
def test_names_and_refuses_whatever_else_a_pickle_asks_for(
        tmp_path, monkeypatch, content, name, protocol):
    monkeypatch.chdir(tmp_path)
    Path('content.pkl').write_bytes(pickle.dumps(content, protocol))
    with pytest.raises(ExchangeError, match=f'content.pkl.*asks for {name}.*refused'):
        load_pickle(Path('content.pkl'))
    np.save('content.npy', np.array([content], object), allow_pickle=True)
    with pytest.raises(ExchangeError, match=f'content.npy.*asks for {name}.*refused'):
        load_array(Path('content.npy'))
    assert not list(tmp_path.glob(f'{MARK}*'))


def reduce(function, *arguments):
    """Give a pickle that calls a permitted function as it likes."""
    module, name = function
    body = pickle.dumps(arguments, 2)[2:-1]
    return b'\x80\x02' + b'c' + module.encode() + b'\n' + name.encode() + b'\n' + body + b'R.'


CORE = 'numpy._core.multiarray'


@pytest.mark.parametrize('data', [
    reduce((CORE, '_reconstruct'), int, (0,), b'b'),
    reduce((CORE, '_reconstruct'), np.ndarray, (10**6,), b'b'),
    reduce((CORE, 'scalar'), np.dtype('O'), b'12345678'),
    reduce((CORE, 'scalar'), np.dtype('f8'), b'123'),
    reduce(('numpy._core.numeric', '_frombuffer'), b'12345678', np.dtype('O'), (1,), 'C'),
    reduce(('numpy', 'dtype'), 'no such type'),
    reduce(('builtins', 'list'), 5),
])
def test_refuses_permitted_functions_with_arguments_no_array_has(tmp_path, data):
    pickletools.dis(data, out=io.StringIO())  # well formed, so it is the call that is refused
    (tmp_path / 'content.pkl').write_bytes(data)
    with pytest.raises(ExchangeError, match='not a readable pickle'):
        load_pickle(tmp_path / 'content.pkl')


def test_a_pickle_cannot_change_the_functions_for_the_next_one(tmp_path):
    # GLOBAL, empty dictionary of attributes, BUILD with (None, {'x': 1})
    data = f'\x80\x02c{CORE}\nscalar\n(N}}X\x01\x00\x00\x00xK\x01stb.'.encode('latin1')
    (tmp_path / 'content.pkl').write_bytes(data)
    with pytest.raises(ExchangeError, match='no attribute'):
        load_pickle(tmp_path / 'content.pkl')


@pytest.mark.parametrize('size', [0, 1, 10, 100, -1])
def test_refuses_a_pickle_and_an_array_that_break_off(tmp_path, size):
    (tmp_path / 'content.pkl').write_bytes(pickle.dumps(CONTENT)[:size])
    with pytest.raises(ExchangeError, match='not a readable pickle'):
        load_pickle(tmp_path / 'content.pkl')
    np.save(tmp_path / 'content.npy', np.array([CONTENT], object), allow_pickle=True)
    file = tmp_path / 'content.npy'
    file.write_bytes(file.read_bytes()[:size])
    with pytest.raises(ExchangeError, match='content.npy: not a'):
        load_array(file)


def test_plain_arrays_need_no_pickle(tmp_path):
    np.save(tmp_path / 'plain.npy', np.arange(3))
    np.testing.assert_array_equal(load_array(tmp_path / 'plain.npy'), [0, 1, 2])


def test_nothing_that_runs_code_is_allowed():
    assert {name.partition('.')[0] for name in ALLOWED} <= {
        'numpy', '_codecs', 'list', 'dict', 'tuple', 'set', 'frozenset', 'bytes', 'bytearray',
        'complex'}
