"""What of a dataset is exported: its episodes, cameras and columns, the same for every format."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from stable_crl_ros.actions import ACTION_DIM, ACTION_NAMES
from stable_crl_ros.data.dataset import Dataset
from stable_crl_ros.data.episode import Episode
from stable_crl_ros.data.schema import ATTRIBUTES_CHECKSUM, NO_ACTIONS
from stable_crl_ros.exchange.bridge import states_to
from stable_crl_ros.exchange.parts import Part, parts_of
from stable_crl_ros.exchange.recording import ExchangeError
from stable_crl_ros.images import encode_image, ImageSpec
from stable_crl_ros.robot.kinematics import JOINT_NAMES

POSE_NAMES = ('x', 'y', 'z', 'qx', 'qy', 'qz', 'qw')
STATE_NAMES = ('x', 'y', 'z', 'roll', 'pitch', 'yaw', 'gripper')
_NOT_LABELS = ('checksums', 'checksum', ATTRIBUTES_CHECKSUM, 'unfinished_step', 'label_history')


@dataclass(frozen=True)
class Column:
    """
    One array with a row per frame.

    :param seen: whether it belongs to the observation, not to the action.
    :param dtype: of the export: float32, int64 or bool.
    :param names: of the numbers in a row; empty for a single number.
    """

    name: str
    seen: bool
    dtype: str
    names: tuple[str, ...] = ()

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one row."""
        return (len(self.names),) if self.names else ()


# BridgeData's seven numbers, which policies trained on it take, come from ee_pose and gripper.
COLUMNS = (
    Column('state', True, 'float32', STATE_NAMES),
    Column('ee_pose', True, 'float32', POSE_NAMES),
    Column('gripper', True, 'float32'),
    *(Column(f'joint_{kind}', True, 'float32', JOINT_NAMES)
      for kind in ('positions', 'velocities', 'efforts')),
    Column('action', False, 'float32', ACTION_NAMES),
    Column('commanded_action', False, 'float32', ACTION_NAMES),
    *(Column(f'{kind}_stamp', False, 'int64')
      for kind in ('capture', 'receive', 'command', 'applied')),
    Column('mode', False, 'int64'),
    Column('intervention', False, 'bool'),
    Column('flags', False, 'int64'),
    Column('progress', False, 'float32'),
)
_ALWAYS = ('action', 'mode', 'intervention', 'flags')
_SEEN_STAMPS = ('capture_stamp', 'receive_stamp')


@dataclass(frozen=True)
class ExportOptions:
    """
    What is exported, and how.

    :param episodes: their numbers; None for all.
    :param cameras: their names; empty for all.
    :param image_size: height and width (pixels) images are resized to; None keeps them.
    :param keep_last: export the last frame of every episode too, with an action that holds
        still; LeRobot and diffusion_policy know no frame without an action. It is exported
        anyway where its action was recorded, and to RLDS.
    :param video: LeRobot: images as mp4, which loses detail, instead of lossless ones.
    """

    episodes: Sequence[int] | None = None
    cameras: Sequence[str] = ()
    image_size: tuple[int, int] | None = None
    keep_last: bool = False
    video: bool = False


@dataclass
class Selection:
    """
    Episodes that fit together; those with gaps in parts, each an episode of the export.

    :param cameras: camera -> height and width as exported, pixels.
    :param columns: those of `COLUMNS` that anything was recorded for.
    :param left_out: episode number -> why.
    """

    dataset: Dataset
    options: ExportOptions
    episodes: list[Episode | Part]
    cameras: dict[str, tuple[int, int]]
    columns: list[Column]
    left_out: dict[int, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def rate(self) -> float:
        """
        The control rate of every episode, Hz.

        :raises ExchangeError: when they differ.
        """
        rates = {episode.attrs['control_rate'] for episode in self.episodes}
        if len(rates) > 1:
            raise ExchangeError(f'episodes of {sorted(rates)} Hz do not go into one such '
                                f'dataset; choose those of one rate with --episodes')
        return rates.pop()

    def rows(self, episode: Episode | Part, every_last: bool = False) -> int:
        """
        Return how many frames of an episode are exported.

        :param every_last: the format has a place for a frame without an action.
        """
        last = every_last or self.options.keep_last or last_action(episode) is not None
        return episode.steps + last

    def arrays(self, episode: Episode | Part, every_last: bool = False) -> dict[str, np.ndarray]:
        """
        Read the columns of an episode.

        :returns: name -> (rows, ...), in the types of the columns.
        :raises EpisodeError: when it is damaged.
        """
        count = self.rows(episode, every_last)
        arrays = {}
        for column in self.columns:
            values = _read(episode, column, count)
            arrays[column.name] = np.ascontiguousarray(values.astype(column.dtype))
        return arrays

    def image(self, episode: Episode | Part, camera: str, row: int) -> np.ndarray:
        """Return one image as exported, uint8 RGB (H, W, 3)."""
        image = episode.image(camera, row)
        size = self.cameras[camera]
        return image if image.shape[:2] == size else ImageSpec(*size).resize(image)

    def picture(self, episode: Episode | Part, camera: str, row: int) -> bytes:
        """Return one image as a file: the recorded JPEG as it is, else a PNG."""
        if self.kind == 'jpeg':
            return episode.encoded(camera, row).data
        return encode_image(self.image(episode, camera, row), '.png')

    @cached_property
    def kind(self) -> str:
        """What `picture` returns: 'jpeg' or 'png'."""
        kept = all(tuple(episode.attrs['cameras'][camera]) == size
                   for camera, size in self.cameras.items() for episode in self.episodes)
        jpeg = all(str(episode.attrs.get('image_codec')).startswith('jpeg')
                   for episode in self.episodes)
        return 'jpeg' if kept and jpeg else 'png'


def select(dataset: Dataset, options: ExportOptions) -> Selection:
    """
    Choose what is exported.

    :raises ExchangeError: when an episode or a camera is not there, episodes have different
        cameras or image sizes, or nothing remains.
    """
    chosen = dataset.ids if options.episodes is None else list(options.episodes)
    unknown = sorted(set(chosen) - set(dataset.ids))
    if unknown:
        raise ExchangeError(f'{dataset.path}: no episode {unknown}; it has {dataset.ids}')
    episodes, left_out, split = [], {}, []
    for number in chosen:
        episode = dataset[number]
        if episode.attrs.get('actions') == NO_ACTIONS:
            left_out[number] = 'no actions were recorded'
        elif episode.steps == 0:
            left_out[number] = 'it has no step'
        elif parts := parts_of(episode):
            episodes += parts
            if isinstance(parts[0], Part):
                split.append(f'episode {number} into {len(parts)}')
        else:
            left_out[number] = 'between its gaps it has no transition'
    if not episodes:
        raise ExchangeError(f'{dataset.path}: no episode to export'
                            + ''.join(f'; {number}: {why}' for number, why in left_out.items()))
    columns, notes = _recorded(episodes)
    if split:
        notes.append(f'split where steps were lost: {", ".join(split)}')
    return Selection(dataset, options, episodes, _cameras(episodes, options), columns, left_out,
                     notes)


def labels(episode: Episode | Part) -> dict:
    """Return what is known of an episode as a whole, as plain values."""
    return {name: value for name, value in episode.attrs.items() if name not in _NOT_LABELS}


def instruction(episode: Episode | Part) -> str:
    """Return what the episode shows, in words."""
    return episode.attrs['instruction'] or episode.attrs['task']


def last_action(episode: Episode | Part) -> np.ndarray | None:
    """Return the action after the last observation, (7,), None where none was recorded."""
    step = episode.attrs.get('unfinished_step')
    if not step or any(value is None for value in step['action']):
        return None
    return np.float32(step['action'])


def _cameras(episodes: list[Episode | Part], options: ExportOptions) -> dict[str, tuple[int, int]]:
    names = list(options.cameras) or episodes[0].cameras
    sizes: dict[str, tuple[int, int]] = {}
    for episode in episodes:
        if set(names) - set(episode.cameras) or not options.cameras \
                and set(episode.cameras) != set(names):
            raise ExchangeError(f'episode {episode.id} has the cameras {episode.cameras}, not '
                                f'{names}; choose common ones with --camera')
        for name in names:
            size = options.image_size or tuple(episode.attrs['cameras'][name])
            if sizes.setdefault(name, size) != size:
                raise ExchangeError(f'episode {episode.id}: {name} is {size}, earlier ones are '
                                    f'{sizes[name]}; make them one with --image-size')
    return sizes


def _recorded(episodes: list[Episode | Part]) -> tuple[list[Column], list[str]]:
    """Return the columns anything was recorded for, and which hold gaps."""
    columns, notes = [], []
    for column in COLUMNS:
        if column.name in _ALWAYS:
            columns.append(column)
            continue
        there = [_is_recorded(_read(episode, column, episode.steps)) for episode in episodes]
        if any(part > 0 for part in there):
            columns.append(column)
        if any(part > 0 for part in there) and min(there) < 1:
            notes.append(f'{column.name} was not recorded everywhere; it holds '
                         f'{"NaN" if column.dtype == "float32" else "0"} there')
    return columns, notes


def _is_recorded(values: np.ndarray) -> float:
    """Return the share of numbers that were recorded."""
    return float((np.isfinite(values) if values.dtype.kind == 'f' else values != 0).mean())


def _read(episode: Episode | Part, column: Column, count: int) -> np.ndarray:
    """Return so many rows; past the recorded actions stands what is known of them."""
    if column.name == 'state':
        return states_to(episode['ee_pose'], episode['gripper'])[:count]
    values = episode[column.name]
    if len(values) >= count:
        return values[:count]
    return np.concatenate([values, _last_row(episode, column, values.dtype)[None]])


def _last_row(episode: Episode | Part, column: Column, dtype: np.dtype) -> np.ndarray:
    """Return the row of the last frame: what was recorded, else an action that holds still."""
    step = episode.attrs.get('unfinished_step')
    if step and last_action(episode) is not None:
        value = np.array(step[column.name], float)  # None becomes NaN
        return value.astype(dtype) if np.issubdtype(dtype, np.floating) else \
            np.array(step[column.name], dtype)
    if column.name in _SEEN_STAMPS:
        return np.array(episode.attrs.get(f'final_{column.name}', 0), dtype)
    if column.name not in ('action', 'commanded_action'):
        return np.array(np.nan if np.issubdtype(dtype, np.floating) else 0, dtype)
    still = np.zeros(ACTION_DIM, dtype)
    gripper = episode['gripper'][-1]
    still[-1] = episode['action'][-1, -1] if np.isnan(gripper) else gripper
    return still
