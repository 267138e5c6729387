"""Read pickles that hold arrays and plain containers, and run nothing that a pickle asks for."""

import builtins
from pathlib import Path
import pickle
from typing import Any, BinaryIO

import numpy as np
from stable_crl_ros.exchange.recording import ExchangeError

MAX_BYTES = 32 << 30  # of one file; a larger one is no recording
_CONTAINERS = {name: getattr(builtins, name) for name in (
    'list', 'dict', 'tuple', 'set', 'frozenset', 'bytes', 'bytearray', 'complex')}
# What a truncated, damaged or malicious pickle may raise.
_FAILURES = (pickle.UnpicklingError, EOFError, AttributeError, ImportError, LookupError,
             ValueError, TypeError, OverflowError, MemoryError, RecursionError, RuntimeError)


# Each of these stands for a function of NumPy. Without attributes, so that a pickle cannot
# change them for whoever loads the next one.
class _Reconstruct:
    __slots__ = ()

    def __call__(self, kind: type, shape: tuple, code: bytes) -> np.ndarray:
        if kind is not np.ndarray or tuple(shape) not in ((0,), ()):
            raise pickle.UnpicklingError('an array that is not begun empty')
        return np.ndarray.__new__(np.ndarray, shape, code)


class _FromBuffer:
    __slots__ = ()

    def __call__(self, data: bytes, dtype: np.dtype, shape: tuple, order: str) -> np.ndarray:
        if dtype.hasobject:
            raise pickle.UnpicklingError('an array of objects made of bytes')
        return np.frombuffer(data, dtype).reshape(shape, order=order)


class _Scalar:
    __slots__ = ()

    def __call__(self, dtype: np.dtype, data: bytes) -> Any:
        if dtype.hasobject or not isinstance(data, bytes) or len(data) != dtype.itemsize:
            raise pickle.UnpicklingError('a number that is not made of its own bytes')
        return np.frombuffer(data, dtype)[0]


class _Latin1:
    __slots__ = ()

    def __call__(self, text: str, encoding: str = 'latin1') -> bytes:
        return text.encode('latin1')


# The modules NumPy 1 and NumPy 2 name in their pickles.
_NUMPY = {
    **{(f'numpy.{core}.multiarray', '_reconstruct'): _Reconstruct()
       for core in ('core', '_core')},
    **{(f'numpy.{core}.multiarray', 'scalar'): _Scalar() for core in ('core', '_core')},
    **{(f'numpy.{core}.numeric', '_frombuffer'): _FromBuffer() for core in ('core', '_core')},
    ('numpy', 'ndarray'): np.ndarray,
    ('numpy', 'dtype'): np.dtype,
    ('_codecs', 'encode'): _Latin1(),  # bytes, in pickles of protocol 2
}
ALLOWED = sorted({f'{module}.{name}' for module, name in _NUMPY} | set(_CONTAINERS))


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in _NUMPY:
            return _NUMPY[module, name]
        if module in ('builtins', '__builtin__') and name in _CONTAINERS:
            return _CONTAINERS[name]
        raise pickle.UnpicklingError(f'it asks for {module}.{name}, which is refused; only '
                                     f'NumPy arrays and plain containers are read')


def load_pickle(path: Path) -> Any:
    """
    Read one pickle.

    :raises ExchangeError: when it is damaged, or asks for anything but NumPy arrays, their
        types and numbers, and builtin containers; the name of what it asked for is said.
    """
    with _opened(path) as file:
        return _load(file, path)


def load_array(path: Path) -> np.ndarray:
    """
    Read a `.npy` file, one of objects too.

    :raises ExchangeError: as `load_pickle`.
    """
    with _opened(path) as file:
        try:
            version = np.lib.format.read_magic(file)
            read_header = {(1, 0): np.lib.format.read_array_header_1_0,
                           (2, 0): np.lib.format.read_array_header_2_0}[version]
            shape, _, dtype = read_header(file)
            if not dtype.hasobject:
                file.seek(0)
                return np.load(file, allow_pickle=False)
        except Exception as error:  # a damaged header makes NumPy raise many kinds
            raise ExchangeError(f'{path}: not a .npy file ({error})') from error
        array = _load(file, path)
    if not isinstance(array, np.ndarray) or array.shape != shape:
        raise ExchangeError(f'{path}: does not hold the array its header promises')
    return array


def _opened(path: Path) -> BinaryIO:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ExchangeError(f'{path}: {path.stat().st_size} bytes are no recording')
        return open(path, 'rb')
    except OSError as error:
        raise ExchangeError(f'{path}: cannot be read ({error.strerror})') from error


def _load(file: BinaryIO, path: Path) -> Any:
    try:
        return _Unpickler(file, encoding='latin1').load()
    except _FAILURES as error:
        raise ExchangeError(f'{path}: not a readable pickle ({error})') from error
