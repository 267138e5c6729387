"""Write Zarr v3 groups, arrays and shards file by file, streaming and without re-encoding."""

from collections.abc import Iterable, Mapping
import json
from pathlib import Path
import zlib

import google_crc32c
from numcodecs.zstd import Zstd
import numpy as np

ZSTD_LEVEL = 3
STORED_CRC = 'stored_crc32'  # attribute of an array: crc32 of its chunk's file
CHUNK_KEYS = {'name': 'default', 'configuration': {'separator': '/'}}
INDEX_CODECS = [{'name': 'bytes', 'configuration': {'endian': 'little'}}, {'name': 'crc32c'}]


def write_group(path: Path, attributes: Mapping[str, object] | None = None) -> None:
    """Write a group's metadata; its directory is made."""
    path.mkdir(parents=True, exist_ok=True)
    _write_json(path, {'zarr_format': 3, 'node_type': 'group',
                       'attributes': dict(attributes or {})})


def write_array(path: Path, values: np.ndarray, meaning: str) -> None:
    """Write an array as one chunk with a checksum that every Zarr reader checks."""
    values = np.ascontiguousarray(values)
    chunk = tuple(max(1, size) for size in values.shape)
    one_byte = values.dtype.itemsize == 1
    codecs = [{'name': 'bytes', **({} if one_byte else {'configuration': {'endian': 'little'}})},
              {'name': 'zstd', 'configuration': {'level': ZSTD_LEVEL, 'checksum': True}}]
    file = chunk_file(path, values.ndim)
    file.parent.mkdir(parents=True)
    data = Zstd(ZSTD_LEVEL, checksum=True).encode(values) if values.size else b''
    if data:
        file.write_bytes(data)
    write_metadata(path, values.shape, values.dtype, chunk, codecs,
                   {'meaning': meaning, STORED_CRC: zlib.crc32(data)})


def read_array(path: Path) -> np.ndarray | None:
    """
    Read an array as `write_array` writes it, in a tenth of the time Zarr takes.

    :returns: None for an array of any other layout.
    :raises OSError: when a file is missing or unreadable.
    :raises ValueError: when they are damaged; KeyError, TypeError and RuntimeError likewise.
    """
    metadata = json.loads((path / 'zarr.json').read_bytes())
    shape, codecs = tuple(metadata['shape']), [item['name'] for item in metadata['codecs']]
    chunk = metadata['chunk_grid']['configuration']['chunk_shape']
    endian = metadata['codecs'][0].get('configuration', {}).get('endian', 'little')
    if codecs != ['bytes', 'zstd'] or endian != 'little' \
            or metadata['chunk_key_encoding'] != CHUNK_KEYS \
            or tuple(chunk) != tuple(max(1, size) for size in shape):
        return None
    data = chunk_file(path, len(shape)).read_bytes() if 0 not in shape else b''
    # Some bits of a zstd frame may change without its content changing.
    if zlib.crc32(data) != metadata['attributes'].get(STORED_CRC, zlib.crc32(data)):
        raise ValueError('it differs from its checksum')
    values = Zstd().decode(data) if data else b''
    return np.frombuffer(values, metadata['data_type']).reshape(shape).copy()  # to be written to


def write_metadata(path: Path, shape: tuple[int, ...], dtype: np.dtype, chunk: tuple[int, ...],
                   codecs: list[dict], attributes: Mapping[str, object]) -> None:
    """Write an array's metadata."""
    zero = np.zeros((), dtype).item()
    _write_json(path, {
        'zarr_format': 3, 'node_type': 'array', 'shape': shape,
        'data_type': np.dtype(dtype).name, 'fill_value': zero,
        'chunk_grid': {'name': 'regular', 'configuration': {'chunk_shape': chunk}},
        'chunk_key_encoding': CHUNK_KEYS,
        'codecs': codecs, 'storage_transformers': [], 'attributes': dict(attributes)})


def chunk_file(path: Path, dimensions: int) -> Path:
    """Return the file of an array's first chunk."""
    return path.joinpath('c', *['0'] * dimensions)


def sharding(inner_chunk: Iterable[int], codecs: Iterable[dict]) -> list[dict]:
    """Return the codecs of an array whose chunk is a shard of inner chunks."""
    return [{'name': 'sharding_indexed', 'configuration': {
        'chunk_shape': list(inner_chunk), 'codecs': list(codecs), 'index_codecs': INDEX_CODECS,
        'index_location': 'end'}}]


def shard_index_bytes(count: int) -> int:
    """Return the length of what `shard_index` gives for so many chunks."""
    return 16 * count + 4


def shard_index(offsets: np.ndarray) -> bytes:
    """
    Return what follows the inner chunks of a shard.

    :param offsets: int, shape (N + 1,): where each chunk begins, and the last one ends.
    """
    pairs = np.stack([offsets[:-1], np.diff(offsets)], 1).astype('<u8').tobytes()
    return pairs + google_crc32c.value(pairs).to_bytes(4, 'little')


def _write_json(path: Path, metadata: dict) -> None:
    (path / 'zarr.json').write_text(json.dumps(metadata, indent=1, allow_nan=False))
