"""A recording of another format on its way into a dataset: what every reader gives."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
import hashlib
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Protocol

import cv2
import numpy as np
from stable_crl_ros.actions import ACTION_DIM
from stable_crl_ros.data.codecs import Encoded
from stable_crl_ros.data.schema import (
    Action,
    EpisodeMeta,
    Mode,
    Observation,
    STATE_FIELDS,
    STEP_FIELDS,
)
from stable_crl_ros.images import decode_image, ImageError, ImageSpec

JPEG_START = b'\xff\xd8\xff'
_STATES = {item.name: item for item in STATE_FIELDS}
_STEPS = {item.name: item for item in STEP_FIELDS if item.name != 'action'}


class ExchangeError(ValueError):
    """A recording that cannot be imported, or a dataset that cannot be exported as asked."""


def need(package: str) -> ModuleType:
    """
    Import a package that only exchange needs.

    :raises ExchangeError: when it is not installed.
    """
    try:
        return import_module(package)
    except ImportError as error:
        raise ExchangeError(f'this needs {package.partition(".")[0]}, which is not installed; '
                            f"pip install 'stable_crl_ros[exchange]'") from error


class Frames(Protocol):
    """The images of one camera, in order; a uint8 array (N, H, W, 3) is one."""

    def __len__(self) -> int:
        """Return how many there are."""

    def __getitem__(self, row: int) -> np.ndarray:
        """Return one, uint8 RGB (H, W, 3)."""


class Pictures(Sequence):
    """
    Pictures that stay encoded until one is asked for.

    :param sources: files, or the bytes of files.
    :param where: how an error names them.
    """

    def __init__(self, sources: Sequence[Path | bytes], where: str = '') -> None:
        self._sources = sources
        self._where = where

    def __len__(self) -> int:
        return len(self._sources)

    def __getitem__(self, row: int) -> np.ndarray:
        try:
            return decode_image(self.data(row), self._name(row))
        except ImageError as error:
            raise ExchangeError(str(error)) from error

    def data(self, row: int) -> bytes:
        """Return one as it is in its file."""
        source = self._sources[row]
        if isinstance(source, bytes):
            return source
        try:
            return source.read_bytes()
        except OSError as error:
            raise ExchangeError(f'{source}: cannot be read ({error.strerror})') from error

    def _name(self, row: int) -> str:
        source = self._sources[row]
        return f'{self._where}, image {row}' if isinstance(source, bytes) else str(source)


@dataclass
class Recording:
    """
    One recording: N observations, and M = N - 1 actions or, its last outcome unseen, M = N.

    What was not recorded is left out, never made up.

    :param name: where it lies, for messages.
    :param images: camera name -> N images.
    :param actions: (M, 7) as in `schema.STEP_FIELDS`; None when the source has none.
    :param states: field of `schema.STATE_FIELDS` -> (N, ...).
    :param steps: other fields of `schema.STEP_FIELDS` -> (M, ...), stamps of observations (N,).
    :param ages: camera, 'joint_states' or 'ee_pose' -> (N,), see `Observation.ages`.
    :param meta: what becomes attributes of the episode.
    :param success: None when nobody judged.
    :param mode: who commanded, where `steps` has no 'mode'.
    :param dropped: steps that could not be put together.
    """

    name: str
    images: dict[str, Frames]
    actions: np.ndarray | None
    meta: EpisodeMeta
    states: dict[str, np.ndarray] = field(default_factory=dict)
    steps: dict[str, np.ndarray] = field(default_factory=dict)
    ages: dict[str, np.ndarray] = field(default_factory=dict)
    success: bool | None = None
    mode: Mode = Mode.TELEOP
    dropped: int = 0

    def __len__(self) -> int:
        return len(next(iter(self.images.values()), ()))

    @property
    def transitions(self) -> int:
        """Number of actions whose outcome was seen."""
        return len(self) - 1

    def check(self, resized: bool = False) -> dict[str, tuple[int, int]]:
        """
        Look at everything, every image included.

        :param resized: the images will be, so they may differ in size.
        :returns: camera -> height and width of its images.
        :raises ExchangeError: for whatever would not make a sound episode.
        """
        self.check_lengths()
        self._check_numbers()
        return {camera: self._check_images(camera, resized) for camera in self.images}

    def digest(self) -> str:
        """Return what tells it from other recordings: numbers, first and last images, count."""
        digest = hashlib.sha256(str(len(self)).encode())
        arrays = [np.zeros(0) if self.actions is None else self.actions,
                  *(self.states[name] for name in sorted(self.states))]
        for array in arrays:
            digest.update(np.ascontiguousarray(array, np.float32))
        for camera in sorted(self.images):
            for row in (0, len(self) - 1):
                digest.update(np.ascontiguousarray(self.images[camera][row]))
        return digest.hexdigest()

    def observation(self, row: int, spec: ImageSpec | None = None,
                    keep_jpeg: bool = False) -> Observation:
        """
        Return what was seen before action `row`.

        :param spec: resize the images with it.
        :param keep_jpeg: hand JPEG files on as they are, where they are not resized.
        """
        images = {camera: _image(frames, row, spec, keep_jpeg)
                  for camera, frames in self.images.items()}
        stamps = {name: int(self.steps[name][row]) for name in ('capture_stamp', 'receive_stamp')
                  if name in self.steps}
        return Observation(images, **{name: values[row] for name, values in self.states.items()},
                           ages={name: int(ages[row]) for name, ages in self.ages.items()},
                           **stamps)

    def action(self, row: int) -> Action:
        """Return action `row`; one that was not recorded is no motion, commanded by nobody."""
        if self.actions is None:
            return Action(np.zeros(ACTION_DIM), np.full(ACTION_DIM, np.nan), mode=Mode.IDLE)
        values = {name: rows[row] for name, rows in self.steps.items()
                  if name not in ('capture_stamp', 'receive_stamp')}
        return Action(self.actions[row], **{'mode': self.mode, **_plain(values)})

    def check_lengths(self) -> None:
        """
        Compare how many there are of everything; no image is read.

        :raises ExchangeError: when they do not belong together.
        """
        count = len(self)
        if not self.images or count < 2:
            raise ExchangeError(f'{self.name}: {count} images; a recording needs a camera with '
                                f'2 images or more')
        lengths = {camera: len(frames) for camera, frames in self.images.items()}
        if len(set(lengths.values())) > 1:
            raise ExchangeError(f'{self.name}: cameras with different numbers of images: '
                                f'{lengths}')
        if self.actions is not None:
            shape = self.actions.shape
            if len(shape) != 2 or shape[1] != ACTION_DIM or shape[0] not in (count, count - 1):
                raise ExchangeError(f'{self.name}: actions {shape}; {count} images need '
                                    f'({count} or {count - 1}, {ACTION_DIM})')
        for name, values in self.states.items():
            if values.shape != (count, *_STATES[name].shape):
                raise ExchangeError(f'{self.name}: {name} {values.shape}; {count} images need '
                                    f'{(count, *_STATES[name].shape)}')
        for name, values in self.steps.items():
            if len(values) < (0 if self.actions is None else len(self.actions)) \
                    or values.shape[1:] != _STEPS[name].shape:
                raise ExchangeError(f'{self.name}: {name} {values.shape} does not fit '
                                    f'{count} images')

    def _check_numbers(self) -> None:
        if self.actions is not None and not np.isfinite(self.actions).all():
            row = int(np.argmin(np.isfinite(self.actions).all(axis=1)))
            raise ExchangeError(f'{self.name}: action {row} is not finite: '
                                f'{self.actions[row].tolist()}')

    def _check_images(self, camera: str, resized: bool) -> tuple[int, int]:
        frames, size = self.images[camera], None
        for row in range(len(frames)):
            image = frames[row]
            if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim != 3 \
                    or image.shape[2] != 3 or min(image.shape) < 2:
                raise ExchangeError(f'{self.name}: {camera} must be uint8 (H, W, 3), image {row} '
                                    f'is {getattr(image, "dtype", type(image).__name__)} '
                                    f'{getattr(image, "shape", "")}')
            size = size or image.shape[:2]
            if image.shape[:2] != size and not resized:
                raise ExchangeError(f'{self.name}: {camera} changes its size at image {row}, '
                                    f'from {size} to {image.shape[:2]}; give --image-size')
        return size


@dataclass(frozen=True)
class Item:
    """
    One recording that was found.

    :param name: where it lies, for messages.
    :param read: reads it; may raise ExchangeError.
    """

    name: str
    read: Callable[[], Recording]


def _image(frames: Frames, row: int, spec: ImageSpec | None,
           keep_jpeg: bool) -> np.ndarray | Encoded:
    image = frames[row]
    if spec is not None and image.shape != spec.shape:
        return spec.resize(image)
    if keep_jpeg and isinstance(frames, Pictures):
        data = frames.data(row)
        if data.startswith(JPEG_START) and _is_colour(data):
            return Encoded(data, image.shape)
    return image


def _is_colour(jpeg: bytes) -> bool:
    return cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_UNCHANGED).ndim == 3


def _plain(values: dict) -> dict:
    """Turn numbers of arrays into what `Action` takes."""
    kinds = {'mode': lambda value: Mode(int(value)), 'intervention': bool, 'flags': int,
             'progress': float, 'command_stamp': int, 'applied_stamp': int}
    return {name: kinds.get(name, np.asarray)(value) for name, value in values.items()}
