"""TFRecord files and the messages in them, without TensorFlow."""

from collections.abc import Iterator
from pathlib import Path
import struct
from typing import BinaryIO

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError
import google_crc32c
import numpy as np
from stable_crl_ros.exchange.recording import ExchangeError

MAX_RECORD = 4 << 30  # bytes; a longer length is damage
Value = list[bytes] | np.ndarray

_LENGTH = struct.Struct('<Q')
_CRC = struct.Struct('<I')
_FIELD = descriptor_pb2.FieldDescriptorProto
# DataType of a tensor -> NumPy's; only what recordings are made of.
_TYPES = {1: np.float32, 2: np.float64, 3: np.int32, 4: np.uint8, 9: np.int64, 10: np.bool_}
_STRING = 7


def masked_crc(data: bytes) -> int:
    """Return the checksum that TFRecord files hold: a rotated crc32c."""
    crc = google_crc32c.value(data)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def write_record(file: BinaryIO, data: bytes) -> int:
    """
    Append one record.

    :returns: how many bytes it took.
    """
    length = _LENGTH.pack(len(data))
    return file.write(b''.join([length, _CRC.pack(masked_crc(length)), data,
                                _CRC.pack(masked_crc(data))]))


def record_offsets(path: Path) -> list[int]:
    """
    Find the records of a file without reading them.

    :raises ExchangeError: when it is no TFRecord file, or breaks off.
    """
    offsets, offset = [], 0
    try:
        size = path.stat().st_size
        with open(path, 'rb') as file:
            while offset < size:
                offsets.append(offset)
                offset += _LENGTH.size + 2 * _CRC.size + _read_length(file, path, offset)
                if offset > size:
                    raise ExchangeError(f'{path}: breaks off in record {len(offsets) - 1}; fetch '
                                        f'it again')
                file.seek(offset)
    except OSError as error:
        raise ExchangeError(f'{path}: cannot be read ({error.strerror})') from error
    return offsets


def read_record(path: Path, offset: int) -> bytes:
    """
    Read one record.

    :raises ExchangeError: when it differs from its checksum.
    """
    try:
        with open(path, 'rb') as file:
            file.seek(offset)
            data = file.read(_read_length(file, path, offset))
            if file.read(_CRC.size) != _CRC.pack(masked_crc(data)):
                raise ExchangeError(f'{path}: the record at byte {offset} differs from its '
                                    f'checksum; fetch the file again')
    except OSError as error:
        raise ExchangeError(f'{path}: cannot be read ({error.strerror})') from error
    return data


def _read_length(file: BinaryIO, path: Path, offset: int) -> int:
    length, crc = file.read(_LENGTH.size), file.read(_CRC.size)
    if len(crc) < _CRC.size:
        raise ExchangeError(f'{path}: breaks off at byte {offset}; fetch it again')
    size, = _LENGTH.unpack(length)
    if crc != _CRC.pack(masked_crc(length)) or size > MAX_RECORD:
        raise ExchangeError(f'{path}: no TFRecord at byte {offset}; the file is damaged, or of '
                            f'another format')
    return size


def _describe() -> descriptor_pool.DescriptorPool:
    # The field numbers are those of tensorflow.Example and tensorflow.TensorProto. The names are
    # our own, so that both can live in a process that has TensorFlow.
    file = descriptor_pb2.FileDescriptorProto(
        name='stable_crl_ros/example.proto', package='stable_crl_ros', syntax='proto3')
    for kind, number_type in (('BytesList', _FIELD.TYPE_BYTES), ('FloatList', _FIELD.TYPE_FLOAT),
                              ('Int64List', _FIELD.TYPE_INT64)):
        _add(file.message_type.add(name=kind), 'value', 1, number_type, repeated=True)
    feature = file.message_type.add(name='Feature')
    feature.oneof_decl.add(name='kind')
    for number, kind in enumerate(('BytesList', 'FloatList', 'Int64List'), 1):
        field = _add(feature, f'{kind[:-4].lower()}_list', number, _FIELD.TYPE_MESSAGE, kind)
        field.oneof_index = 0
    features = file.message_type.add(name='Features')
    entry = features.nested_type.add(name='FeatureEntry')
    entry.options.map_entry = True
    _add(entry, 'key', 1, _FIELD.TYPE_STRING)
    _add(entry, 'value', 2, _FIELD.TYPE_MESSAGE, 'Feature')
    _add(features, 'feature', 1, _FIELD.TYPE_MESSAGE, 'Features.FeatureEntry', repeated=True)
    _add(file.message_type.add(name='Example'), 'features', 1, _FIELD.TYPE_MESSAGE, 'Features')
    shape = file.message_type.add(name='TensorShape')
    _add(shape.nested_type.add(name='Dim'), 'size', 1, _FIELD.TYPE_INT64)
    _add(shape, 'dim', 2, _FIELD.TYPE_MESSAGE, 'TensorShape.Dim', repeated=True)
    tensor = file.message_type.add(name='Tensor')
    _add(tensor, 'dtype', 1, _FIELD.TYPE_INT32)
    _add(tensor, 'tensor_shape', 2, _FIELD.TYPE_MESSAGE, 'TensorShape')
    _add(tensor, 'tensor_content', 4, _FIELD.TYPE_BYTES)
    _add(tensor, 'string_val', 8, _FIELD.TYPE_BYTES, repeated=True)
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    return pool


def _add(message, name: str, number: int, kind: int, type_name: str = '', *,
         repeated: bool = False):
    field = message.field.add(
        name=name, number=number, type=kind,
        label=_FIELD.LABEL_REPEATED if repeated else _FIELD.LABEL_OPTIONAL)
    if type_name:
        field.type_name = f'.stable_crl_ros.{type_name}'
    return field


_POOL = _describe()
_EXAMPLE, _TENSOR = (
    message_factory.GetMessageClass(_POOL.FindMessageTypeByName(f'stable_crl_ros.{name}'))
    for name in ('Example', 'Tensor'))


def parse_example(data: bytes, where: str) -> dict[str, Value]:
    """
    Read a tf.train.Example.

    :returns: name -> list of bytes, or float32 or int64 array (K,).
    :raises ExchangeError: when it is none.
    """
    try:
        example = _EXAMPLE.FromString(data)
    except DecodeError as error:
        raise ExchangeError(f'{where}: not a tf.train.Example ({error})') from error
    return dict(_values(example))


def _values(example) -> Iterator[tuple[str, Value]]:
    for name, feature in example.features.feature.items():
        kind = feature.WhichOneof('kind')
        if kind == 'bytes_list':
            yield name, list(feature.bytes_list.value)
        elif kind == 'float_list':
            yield name, np.array(feature.float_list.value, np.float32)
        elif kind == 'int64_list':
            yield name, np.array(feature.int64_list.value, np.int64)


def make_example(values: dict[str, Value]) -> bytes:
    """
    Write a tf.train.Example.

    :param values: name -> list of bytes, or array: floating point numbers, or whole ones.
    """
    example = _EXAMPLE()
    for name, value in values.items():
        feature = example.features.feature[name]
        if isinstance(value, list):
            feature.bytes_list.value.extend(value)
        elif value.dtype.kind == 'f':
            feature.float_list.value.extend(value.ravel().tolist())
        else:
            feature.int64_list.value.extend(value.ravel().astype(np.int64).tolist())
    return example.SerializeToString(deterministic=True)


def parse_tensor(data: bytes, where: str) -> Value:
    """
    Read a serialised tensor; one of strings becomes a list.

    :raises ExchangeError: when it is none, or of a type no recording is made of.
    """
    try:
        tensor = _TENSOR.FromString(data)
        if tensor.dtype == _STRING:
            return list(tensor.string_val)
        return np.frombuffer(tensor.tensor_content, _TYPES[tensor.dtype]).reshape(
            [dim.size for dim in tensor.tensor_shape.dim])
    except (DecodeError, KeyError, ValueError) as error:
        raise ExchangeError(f'{where}: not a serialised tensor ({error!r})') from error
