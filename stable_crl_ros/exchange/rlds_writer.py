"""Export as RLDS: TFRecord files in the layout of TensorFlow Datasets."""

from collections.abc import Callable
import json
from pathlib import Path
import re

import numpy as np
from stable_crl_ros.data.episode import Episode
from stable_crl_ros.exchange.parts import Part
from stable_crl_ros.exchange.selection import Column, instruction, labels, Selection
from stable_crl_ros.exchange.tfrecord import make_example, write_record

VERSION = '1.0.0'
SHARD_BYTES = 200 << 20
_FEATURES = 'tensorflow_datasets.core.features'


def write(folder: Path, selection: Selection, name: str,
          progress: Callable[[int, int], None]) -> list[str]:
    """
    Write `VERSION/`, which `tfds.builder_from_directory` opens.

    Every observation is a step. The action of the last one is what was recorded, else holds
    still: RLDS says that none is to be read there.

    :param name: of the dataset; letters, digits and '_' of it are kept.
    :returns: what its user should know.
    """
    name = re.sub(r'\W+', '_', name).strip('_').lower() or 'episodes'
    place = folder / VERSION
    place.mkdir()
    lengths, sizes = _write_shards(place, selection, progress)
    for number in range(len(lengths)):
        (place / _part(number)).rename(
            place / f'{name}-train.tfrecord-{number:05d}-of-{len(lengths):05d}')
    _write_json(place / 'features.json', _describe(selection))
    _write_json(place / 'dataset_info.json', {
        'description': 'Recorded with stable_crl_ros.', 'fileFormat': 'tfrecord',
        'moduleName': 'stable_crl_ros', 'name': name, 'releaseNotes': {VERSION: 'Exported.'},
        'splits': [{'filepathTemplate': '{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}',
                    'name': 'train', 'numBytes': str(sum(sizes)),
                    'shardLengths': [str(length) for length in lengths]}],
        'version': VERSION})
    return ['not in RLDS: goal_image; an import of it also lacks image_spec and label_history, '
            'and its created_ns is when it was imported']


def _write_shards(place: Path, selection: Selection, progress: Callable[[int, int], None],
                  ) -> tuple[list[int], list[int]]:
    """Return the number of records and of bytes of every shard."""
    lengths, sizes = [], []
    for done, episode in enumerate(selection.episodes, 1):
        if not sizes or sizes[-1] > SHARD_BYTES:
            lengths.append(0)
            sizes.append(0)
        data = make_example(_example(selection, episode))
        with open(place / _part(len(sizes) - 1), 'ab') as file:
            sizes[-1] += write_record(file, data)
        lengths[-1] += 1
        progress(done, len(selection.episodes))
    return lengths, sizes


def _part(number: int) -> str:
    return f'part-{number:05d}'


def _example(selection: Selection, episode: Episode | Part) -> dict:
    count = selection.rows(episode, every_last=True)
    success = episode.attrs['success']
    last = np.arange(count) == count - 1
    words = instruction(episode).encode()
    values = {f'steps/{_key(column)}': array for column, array in zip(
        selection.columns, selection.arrays(episode, every_last=True).values(), strict=True)}
    for camera in selection.cameras:
        values[f'steps/observation/{camera}'] = [
            selection.picture(episode, camera, row) for row in range(count)]
    return {
        **values,
        'steps/is_first': np.arange(count) == 0, 'steps/is_last': last,
        'steps/is_terminal': last & (success is True),
        'steps/reward': np.float32(last & (success is True)),
        'steps/discount': np.ones(count, np.float32),
        'steps/language_instruction': [words] * count,
        'episode_metadata/episode_id': np.array([episode.id]),
        'episode_metadata/file_path': [str(episode.attrs.get('source_path', '')).encode()],
        'episode_metadata/success': np.array([-1 if success is None else int(success)]),
        'episode_metadata/attributes': [json.dumps(labels(episode)).encode()],
    }


def _key(column: Column) -> str:
    return f'observation/{column.name}' if column.seen else column.name


def _describe(selection: Selection) -> dict:
    """Return what `features.json` says; the names are those TensorFlow Datasets looks up."""
    seen = {column.name: _tensor(column) for column in selection.columns if column.seen}
    for camera, size in selection.cameras.items():
        seen[camera] = {
            'pythonClassName': f'{_FEATURES}.image_feature.Image',
            'image': {'shape': _shape((*size, 3)), 'dtype': 'uint8',
                      'encodingFormat': selection.kind}}
    steps = {column.name: _tensor(column) for column in selection.columns if not column.seen}
    steps.update({name: _tensor(Column(name, False, 'bool'))
                  for name in ('is_first', 'is_last', 'is_terminal')})
    steps.update({name: _tensor(Column(name, False, 'float32'))
                  for name in ('reward', 'discount')})
    steps.update(language_instruction=_text(), observation=_dictionary(seen))
    episode = {'episode_id': _tensor(Column('', False, 'int64')), 'file_path': _text(),
               'success': {**_tensor(Column('', False, 'int64')),
                           'description': '1 yes, 0 no, -1 nobody judged'},
               'attributes': {**_text(), 'description': 'JSON'}}
    return _dictionary({
        'steps': {'pythonClassName': f'{_FEATURES}.dataset_feature.Dataset',
                  'sequence': {'feature': _dictionary(steps), 'length': '-1'}},
        'episode_metadata': _dictionary(episode)})


def _dictionary(features: dict) -> dict:
    return {'pythonClassName': f'{_FEATURES}.features_dict.FeaturesDict',
            'featuresDict': {'features': features}}


def _tensor(column: Column) -> dict:
    kind = 'tensor_feature.Tensor' if column.shape else 'scalar.Scalar'
    return {'pythonClassName': f'{_FEATURES}.{kind}', 'description': ' '.join(column.names),
            'tensor': {'shape': _shape(column.shape), 'dtype': column.dtype, 'encoding': 'none'}}


def _shape(shape: tuple[int, ...]) -> dict:
    return {'dimensions': [str(size) for size in shape]} if shape else {}


def _text() -> dict:
    return {'pythonClassName': f'{_FEATURES}.text_feature.Text', 'text': {}}


def _write_json(path: Path, values: dict) -> None:
    path.write_text(json.dumps(values, indent=1))
