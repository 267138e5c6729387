"""What an episode holds: one definition for the journal, the sealer and every reader."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
import platform

import numpy as np
from stable_crl_ros import __version__
from stable_crl_ros.data.codecs import Encoded
from stable_crl_ros.data.fields import (
    absent_rows,
    age_field,
    AGES,
    CHECKPOINT_DIGITS,
    checkpoint_id,
    checkpoint_number,
    Field,
    Mode,
    OLDER_TYPES,
    STAMP_FIELDS,
    STATE_FIELDS,
    STATE_STREAMS,
    STEP_FIELDS,
    widened,
)
from stable_crl_ros.images import check_rgb, ImageError

__all__ = [  # the arrays are described in `fields`; whoever uses a schema finds both here
    'absent_rows', 'Action', 'age_field', 'AGES', 'ATTRIBUTES_CHECKSUM', 'CHECKPOINT_DIGITS',
    'checkpoint_id', 'checkpoint_number', 'EpisodeMeta', 'Field', 'FORMAT_VERSION',
    'GOAL_IMAGE', 'IMAGE_CRCS', 'IMAGE_OFFSETS', 'IMAGES', 'Mode', 'NO_ACTIONS', 'Observation',
    'OLDER_TYPES', 'RESERVED_ATTRIBUTES', 'SchemaError', 'software_versions', 'STAMP_FIELDS',
    'STATE_FIELDS', 'STATE_STREAMS', 'STEP_FIELDS', 'VERSION_1_ATTRIBUTES', 'widened',
]
FORMAT_VERSION = 2
IMAGES = 'images'  # group of the image arrays, one per camera
IMAGE_OFFSETS = 'image_offsets'  # per camera (T + 2,): where each encoded image begins
IMAGE_CRCS = 'image_crcs'  # per camera (T + 1,): crc32 of each encoded image
GOAL_IMAGE = 'goal_image'
ATTRIBUTES_CHECKSUM = 'attributes_sha256'
NO_ACTIONS = 'none recorded'  # the attribute 'actions' of a video; its zeros are not to be learned


class SchemaError(ValueError):
    """
    An observation, an action or a description that does not fit an episode.

    :param stream: the camera whose image does not fit, '' when it is something else.
    """

    def __init__(self, message: str, stream: str = '') -> None:
        super().__init__(message)
        self.stream = stream


def _unknown(size: int) -> np.ndarray:
    return np.full(size, np.nan, np.float32)


@dataclass
class Observation:
    """
    What is seen before an action.

    :param images: camera name -> uint8 RGB (H, W, 3), or an `Encoded` one; same cameras and
        sizes all episode long.
    :param joint_positions: (6,) rad; the others below as in `STATE_FIELDS`.
    :param capture_stamp: int ns of the system clock, 0 when unknown.
    :param ages: camera name, 'joint_states' or 'ee_pose' -> ns by which that sample is older
        than the step's tick; left out where it is not known.
    """

    images: Mapping[str, np.ndarray | Encoded]
    joint_positions: np.ndarray = field(default_factory=lambda: _unknown(6))
    joint_velocities: np.ndarray = field(default_factory=lambda: _unknown(6))
    joint_efforts: np.ndarray = field(default_factory=lambda: _unknown(6))
    gripper: float = float('nan')
    ee_pose: np.ndarray = field(default_factory=lambda: _unknown(7))
    capture_stamp: int = 0
    receive_stamp: int = 0
    ages: Mapping[str, int] = field(default_factory=dict)

    def to_record(self) -> dict[str, np.ndarray | Encoded]:
        """
        Return one row of every state field, image, stamp and age, in the stored types.

        :raises SchemaError: for a wrong shape, a camera name with '/', no RGB image, or the age
            of a stream there is not.
        """
        record = {}
        for camera, image in self.images.items():
            _check_image(camera, image)
            record[f'{IMAGES}/{camera}'] = image
        for item in STATE_FIELDS:
            record[item.name] = _row(item, getattr(self, item.name))
        for name in STAMP_FIELDS:
            record[name] = np.int64(getattr(self, name))
        streams = (*self.images, *STATE_STREAMS)
        if unknown := sorted(set(self.ages) - set(streams)):
            raise SchemaError(f'ages of {unknown}: no such stream; there are {list(streams)}')
        for stream in streams:
            item = age_field(stream)
            record[item.name] = _row(item, self.ages.get(stream, -1))
        return record


@dataclass
class Action:
    """
    What was done after an observation; units in `STEP_FIELDS`.

    :param action: (7,) really applied, finite.
    :param commanded_action: (7,) asked for, `action` when left out; may hold NaN.
    """

    action: np.ndarray
    commanded_action: np.ndarray | None = None
    mode: Mode = Mode.IDLE
    command_stamp: int = 0
    applied_stamp: int = 0
    intervention: bool = False
    flags: int = 0
    progress: float = float('nan')
    steps_to_go: float = float('nan')
    at_goal: float = float('nan')
    done: bool = False
    checkpoint: int = 0
    image_age: float = float('nan')
    inference_time: float = float('nan')
    lateness: float = float('nan')

    def to_record(self) -> dict[str, np.ndarray]:
        """
        Return one row of every step field but the stamps of the observation.

        :raises SchemaError: for a wrong shape or an applied action that is not finite.
        """
        if self.mode not in list(Mode):
            raise SchemaError(f'unknown mode {self.mode!r}; choose one of '
                              f'{[mode.name for mode in Mode]}')
        values = dict(vars(self))
        if self.commanded_action is None:
            values['commanded_action'] = self.action
        record = {item.name: _row(item, values[item.name])
                  for item in STEP_FIELDS if item.name not in STAMP_FIELDS}
        if not np.isfinite(record['action']).all():
            raise SchemaError(f'applied action {record["action"].tolist()} is not finite; '
                              f'store zeros for a refused step, and what was asked for as '
                              f'commanded_action')
        return record


def _check_image(camera: str, image: np.ndarray | Encoded) -> None:
    if not camera or '/' in camera or camera.startswith('.') or camera in STATE_STREAMS:
        raise SchemaError(f'camera name {camera!r}: use letters, digits and _, and not '
                          f'{" or ".join(STATE_STREAMS)}')
    try:
        if not isinstance(image, Encoded):
            check_rgb(image, f'image of camera {camera!r}')
        elif not image.data or len(image.shape) != 3 or image.shape[2] != 3:
            raise ImageError(f'encoded image of camera {camera!r}: {len(image.data)} bytes of '
                             f'shape {image.shape}; give the bytes of an (H, W, 3) image')
    except ImageError as error:
        raise SchemaError(str(error), camera) from error


def _row(item: Field, value) -> np.ndarray:
    try:
        row = np.asarray(value, item.dtype)
    except (TypeError, ValueError, OverflowError) as error:
        raise SchemaError(f'{item.name}: {error}; give {item.dtype} {item.shape}') from error
    if row.shape != item.shape:
        raise SchemaError(f'{item.name} must have shape {item.shape}, got {row.shape}')
    return row


@dataclass
class EpisodeMeta:
    """
    What is known of an episode when it starts; stored as attributes of its Zarr group.

    :param task: short name of the task, for example 'open_drawer'.
    :param goal_image: uint8 RGB (H, W, 3), stored as the array 'goal_image'.
    :param tags: words to find the episode by.
    :param checkpoint: that acted, as its sha256; '' when none did.
    :param image_spec: `ImageSpec.to_dict()` the images were resized with; None: full size.
    :param action_scale: `ActionScale.to_dict()` of the policy; None: none.
    :param control_rate: Hz.
    :param minimum_rate_share: an episode recorded at less than this share of `control_rate` is
        marked as degraded.
    :param source: where the episode comes from: 'robot', 'simulation', a data set's name.
    :param extra: further plain values (seed, goal opening, licence); they become attributes.
    """

    task: str = ''
    instruction: str = ''
    operator: str = ''
    notes: str = ''
    tags: list[str] = field(default_factory=list)
    goal_id: str = ''
    goal_image: np.ndarray | None = None
    checkpoint: str = ''
    image_spec: dict | None = None
    action_scale: dict | None = None
    control_rate: float = 5.0
    minimum_rate_share: float = 0.9
    source: str = ''
    extra: dict = field(default_factory=dict)

    def to_attributes(self) -> dict:
        """
        Return the attributes, without the goal image.

        :raises SchemaError: when `extra` uses a name the format itself uses.
        """
        values = asdict(self)
        del values['goal_image'], values['extra']
        taken = sorted(set(self.extra) & (set(values) | RESERVED_ATTRIBUTES))
        if taken:
            raise SchemaError(f'extra attributes {taken} are names of the format; rename them')
        return {**values, **self.extra}


# Attributes the sealer writes; see `episode.seal`.
RESERVED_ATTRIBUTES = {
    'format_version', 'episode_id', 'steps', 'success', 'interrupted', 'dropped', 'late',
    'created_ns', 'versions', 'checksum', 'checksums', 'cameras', 'final_capture_stamp',
    'final_receive_stamp', 'unfinished_step', 'lost_bytes', 'image_codec', 'label_history',
    'discarded', 'drops', 'ended_why', 'rate_hz', 'jitter_ms', 'stale', 'clock_steps',
    'invalid_states', 'degraded', 'degraded_why', 'pauses', 'pause_s', ATTRIBUTES_CHECKSUM,
}

# What episodes of format 1 lack.
VERSION_1_ATTRIBUTES = {
    'image_codec': None, 'tags': [], 'label_history': [], 'drops': {}, 'ended_why': '',
    'rate_hz': None, 'jitter_ms': None, 'stale': 0, 'clock_steps': 0, 'invalid_states': {},
    'degraded': False, 'degraded_why': '', 'pauses': 0, 'pause_s': 0.0,
}


def software_versions() -> dict[str, str]:
    """Return what wrote an episode."""
    return {'stable_crl_ros': __version__, 'numpy': np.__version__,
            'python': platform.python_version()}
