"""Export as a LeRobot dataset, version 3.0: Parquet tables, images in them or beside as mp4."""

from collections.abc import Callable
import json
from pathlib import Path

import numpy as np
from stable_crl_ros.data.episode import Episode
from stable_crl_ros.exchange.lerobot_stats import ColumnStats, flatten_stats, Histogram
from stable_crl_ros.exchange.lerobot_video import CODEC, VideoFiles
from stable_crl_ros.exchange.parts import Part
from stable_crl_ros.exchange.recording import need
from stable_crl_ros.exchange.selection import Column, instruction, labels, Selection

VERSION = 'v3.0'
ROBOT_TYPE = 'widowx_250s'
FILE_MB, VIDEO_MB, FILES_PER_CHUNK = 100, 200, 1000
DATA_PATH = 'data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet'
VIDEO_PATH = 'videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4'
EPISODES_PATH = 'meta/episodes/chunk-000/file-000.parquet'
_COUNTERS = {'timestamp': 'float32', 'frame_index': 'int64', 'episode_index': 'int64',
             'index': 'int64', 'task_index': 'int64'}


def write(folder: Path, selection: Selection, name: str,
          progress: Callable[[int, int], None]) -> list[str]:
    """
    Write the dataset.

    LeRobot wants frame i of an episode at exactly i / rate seconds, so `timestamp` says that;
    what was measured is in `capture_stamp` and its like.

    :returns: what its user should know.
    """
    writer = _Writer(folder, selection)
    for done, episode in enumerate(selection.episodes, 1):
        writer.add(episode)
        progress(done, len(selection.episodes))
    writer.finish()
    return ['timestamp is frame_index / fps, as LeRobot demands; what was measured is in '
            'capture_stamp, receive_stamp, command_stamp and applied_stamp']


class _Writer:
    def __init__(self, folder: Path, selection: Selection) -> None:
        self._arrow, self._parquet = need('pyarrow'), need('pyarrow.parquet')
        self._folder, self._selection = folder, selection
        self._rate = selection.rate
        self._tasks: dict[str, int] = {}
        self._rows: list[dict] = []  # of meta/episodes
        self._frames = 0
        self._file, self._file_bytes, self._table_writer = -1, 0, None
        self._stats = {name: ColumnStats() for name in self._dtypes()}
        self._image_stats = {_camera_key(camera): Histogram() for camera in selection.cameras}
        self._schema = self._make_schema()
        self._videos = {_camera_key(camera): VideoFiles(
            folder, VIDEO_PATH, _camera_key(camera), size, self._rate, VIDEO_MB)
            for camera, size in selection.cameras.items()} if selection.options.video else {}

    def _dtypes(self) -> dict[str, str]:
        return {**{_key(column): column.dtype for column in self._selection.columns},
                'next.done': 'bool', **_COUNTERS}

    def add(self, episode: Episode | Part) -> None:
        """Write one episode."""
        count, number = self._selection.rows(episode), len(self._rows)
        arrays = {_key(column): values for column, values in zip(
            self._selection.columns, self._selection.arrays(episode).values(), strict=True)}
        task = self._tasks.setdefault(instruction(episode), len(self._tasks))
        arrays.update({
            'next.done': np.arange(count) == count - 1,
            'timestamp': np.float32(np.arange(count) / self._rate),
            'frame_index': np.arange(count), 'episode_index': np.full(count, number),
            'index': self._frames + np.arange(count), 'task_index': np.full(count, task)})
        stats = {name: self._stats[name].add(values) for name, values in arrays.items()}
        row = {'episode_index': number, 'tasks': [instruction(episode)], 'length': count,
               'dataset_from_index': self._frames, 'dataset_to_index': self._frames + count,
               'meta/episodes/chunk_index': 0, 'meta/episodes/file_index': 0}
        columns = self._images(episode, count, stats, row)
        chunk, file = self._write_table(arrays, columns)
        row.update({'data/chunk_index': chunk, 'data/file_index': file}, **flatten_stats(stats))
        self._rows.append(row)
        self._frames += count

    def _images(self, episode: Episode | Part, count: int, stats: dict, row: dict,
                ) -> dict[str, list]:
        """Write or collect an episode's images; returns those for the table."""
        columns = {}
        for camera in self._selection.cameras:
            key, seen = _camera_key(camera), Histogram()
            video = self._videos.get(key)
            if video is not None:
                row.update(video.begin_episode(count))
            for frame in range(count):
                image = self._selection.image(episode, camera, frame)
                seen.add(image)
                if video is not None:
                    video.add(image)
                else:
                    columns.setdefault(key, []).append(
                        self._selection.picture(episode, camera, frame))
            stats[key] = seen.statistics()
            self._image_stats[key].merge(seen)
        return columns

    def _write_table(self, arrays: dict[str, np.ndarray], images: dict[str, list],
                     ) -> tuple[int, int]:
        """Write one row group; returns the chunk and file it went to."""
        if self._table_writer is None or self._file_bytes > FILE_MB << 20:
            self._next_file()
        columns = [self._arrow.array([{'bytes': data, 'path': None} for data in pictures],
                                     self._schema.field(key).type)
                   for key, pictures in images.items()]
        columns += [self._column(name, values) for name, values in arrays.items()]
        table = self._arrow.Table.from_arrays(columns, schema=self._schema)
        self._table_writer.write_table(table)
        self._file_bytes += table.nbytes
        return divmod(self._file, FILES_PER_CHUNK)

    def _next_file(self) -> None:
        if self._table_writer is not None:
            self._table_writer.close()
        self._file, self._file_bytes = self._file + 1, 0
        chunk, file = divmod(self._file, FILES_PER_CHUNK)
        path = self._folder / DATA_PATH.format(chunk_index=chunk, file_index=file)
        path.parent.mkdir(parents=True, exist_ok=True)
        self._table_writer = self._parquet.ParquetWriter(path, self._schema)

    def _make_schema(self):
        """Describe the table, to Arrow and to the `datasets` library LeRobot reads it with."""
        image = self._arrow.struct([('bytes', self._arrow.binary()),
                                    ('path', self._arrow.string())])
        images = [] if self._selection.options.video else list(self._image_stats)
        shapes = {_key(column): column.shape for column in self._selection.columns}
        fields = [(key, image) for key in images]
        kinds = {key: {'_type': 'Image'} for key in images}
        for name, dtype in self._dtypes().items():
            number = getattr(self._arrow, 'bool_' if dtype == 'bool' else dtype)()
            value = {'dtype': dtype, '_type': 'Value'}
            if shape := shapes.get(name):
                fields.append((name, self._arrow.list_(number, shape[0])))
                kinds[name] = {'feature': value, 'length': shape[0], '_type': 'Sequence'}
            else:
                fields.append((name, number))
                kinds[name] = value
        return self._arrow.schema(fields, {'huggingface': json.dumps(
            {'info': {'features': kinds}})})

    def _column(self, name: str, values: np.ndarray):
        if values.ndim == 1:
            return self._arrow.array(values)
        return self._arrow.FixedSizeListArray.from_arrays(
            self._arrow.array(values.ravel()), values.shape[1])

    def finish(self) -> None:
        """Write everything below `meta`."""
        self._table_writer.close()
        for video in self._videos.values():
            video.close()
        meta = self._folder / 'meta'
        (self._folder / EPISODES_PATH).parent.mkdir(parents=True)
        self._parquet.write_table(self._arrow.Table.from_pylist(self._rows),
                                  self._folder / EPISODES_PATH)
        self._write_tasks(meta / 'tasks.parquet')
        stats = {**{key: seen.statistics() for key, seen in self._image_stats.items()},
                 **{name: column.total() for name, column in self._stats.items()}}
        _write_json(meta / 'stats.json', stats)
        _write_json(meta / 'info.json', self._info())
        # LeRobot has no place for what else is known of an episode, and looks past this file.
        _write_json(meta / 'stable_crl_episodes.json',
                    [labels(episode) for episode in self._selection.episodes])

    def _write_tasks(self, path: Path) -> None:
        # LeRobot looks tasks up by the index of a pandas table, which is described so.
        table = self._arrow.table({'task_index': list(self._tasks.values()),
                                   'task': list(self._tasks)})
        description = {'index_columns': ['task'], 'column_indexes': [], 'columns': [
            {'name': 'task_index', 'field_name': 'task_index', 'pandas_type': 'int64',
             'numpy_type': 'int64', 'metadata': None},
            {'name': 'task', 'field_name': 'task', 'pandas_type': 'unicode',
             'numpy_type': 'object', 'metadata': None}]}
        self._parquet.write_table(
            table.replace_schema_metadata({'pandas': json.dumps(description)}), path)

    def _info(self) -> dict:
        return {
            'codebase_version': VERSION, 'robot_type': ROBOT_TYPE,
            'total_episodes': len(self._rows), 'total_frames': self._frames,
            'total_tasks': len(self._tasks), 'chunks_size': FILES_PER_CHUNK,
            'data_files_size_in_mb': FILE_MB, 'video_files_size_in_mb': VIDEO_MB,
            'fps': int(self._rate) if float(self._rate).is_integer() else self._rate,
            'splits': {'train': f'0:{len(self._rows)}'}, 'data_path': DATA_PATH,
            'video_path': VIDEO_PATH if self._videos else None, 'features': self._features()}

    def _features(self) -> dict:
        images = {_camera_key(camera): {
            'dtype': 'image', 'shape': [*size, 3], 'names': ['height', 'width', 'channels']}
            for camera, size in self._selection.cameras.items()}
        for key in self._videos:
            height, width, _ = images[key]['shape']
            images[key].update(dtype='video', info={
                'video.height': height, 'video.width': width, 'video.codec': CODEC,
                'video.pix_fmt': 'yuv420p', 'video.is_depth_map': False,
                'video.fps': self._rate, 'video.channels': 3, 'has_audio': False})
        numbers = {_key(column): {'dtype': column.dtype, 'shape': list(column.shape) or [1],
                                  'names': list(column.names) or None}
                   for column in self._selection.columns}
        return {**images, **numbers, 'next.done': {'dtype': 'bool', 'shape': [1], 'names': None},
                **{name: {'dtype': dtype, 'shape': [1], 'names': None}
                   for name, dtype in _COUNTERS.items()}}


def _key(column: Column) -> str:
    return f'observation.{column.name}' if column.seen else column.name


def _camera_key(camera: str) -> str:
    return f'observation.images.{camera}'


def _write_json(path: Path, values: object) -> None:
    path.write_text(json.dumps(values, indent=1))
