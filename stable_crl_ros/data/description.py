"""What never changes of a dataset: its identity, its format and its image codec."""

from contextlib import suppress
import json
from pathlib import Path
import uuid

import numpy as np
from stable_crl_ros.data.codecs import CodecError, ImageCodec
from stable_crl_ros.data.schema import FORMAT_VERSION
from stable_crl_ros.durable import write_atomic

DESCRIPTION = 'dataset.json'


class DatasetError(RuntimeError):
    """A dataset that cannot be opened, read or written."""


def read_description(path: Path) -> tuple[str, ImageCodec]:
    """
    Return a dataset's identity, '' for one of format 1, and its codec.

    :raises DatasetError: when they are damaged, or of a newer format.
    """
    file = path / DESCRIPTION
    try:
        description = json.loads(file.read_bytes())
        version = description['format_version']
        if version > FORMAT_VERSION:
            raise newer(path, version)
        return description['id'], ImageCodec.parse(description['image_codec'])
    except FileNotFoundError:
        return '', ImageCodec()
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DatasetError(f'{file} is damaged ({error!r}); restore it from a copy') from error


def write_description(path: Path, codec: ImageCodec) -> None:
    """Give a dataset an identity and a codec, unless it has them."""
    description = {'format_version': FORMAT_VERSION, 'id': str(uuid.uuid4()),
                   'image_codec': str(codec)}
    with suppress(FileExistsError):  # another process made the dataset meanwhile
        write_atomic(path / DESCRIPTION, json.dumps(description).encode(), new=True)


def parse_codec(text: str) -> ImageCodec:
    """
    Return a codec a dataset can be made with.

    :raises DatasetError: for an unknown one.
    """
    try:
        codec = ImageCodec.parse(text)
        codec.encode(np.zeros((2, 2, 3), np.uint8))  # it must be able to
        return codec
    except CodecError as error:
        raise DatasetError(str(error)) from error


def newer(path: Path, version: int) -> DatasetError:
    """Return the refusal of a newer format."""
    return DatasetError(f'{path}: format {version} is newer than {FORMAT_VERSION}, the newest '
                        f'this version reads; update stable_crl_ros')


def not_writable(path: Path, error: OSError) -> DatasetError:
    """Return the refusal of a directory that cannot be written."""
    return DatasetError(f'{path} is not writable ({error.strerror or error}); give a directory '
                        'you may write to, or free space')
