"""One episode: written step by step to a journal, read back as a Zarr group."""

from collections.abc import Iterator
from contextlib import contextmanager
import hashlib
from pathlib import Path
import warnings

import numpy as np
from stable_crl_ros.data.attributes import EpisodeError as EpisodeError
from stable_crl_ros.data.attributes import read_attributes
from stable_crl_ros.data.codecs import CodecError, Encoded, ImageCodec, LOSSLESS
from stable_crl_ros.data.frames import find_offsets, FrameError, FrameReader
from stable_crl_ros.data.schema import (
    absent_rows,
    GOAL_IMAGE,
    IMAGE_CRCS,
    IMAGE_OFFSETS,
    IMAGES,
    widened,
)
from stable_crl_ros.data.version1 import ArrayReader
from stable_crl_ros.data.writer import EpisodeWriter as EpisodeWriter
from stable_crl_ros.data.zarr_files import read_array
import zarr
from zarr.errors import ZarrUserWarning


class Episode:
    """
    A sealed episode; arrays are read when asked for and checked against their checksums.

    `episode['action']` is (steps, 7), `episode['ee_pose']` (steps + 1, 7); every name, type and
    unit is in `schema.STATE_FIELDS` and `schema.STEP_FIELDS`; older narrower types are widened,
    and what an earlier version did not store reads as 'not recorded'.
    Images are decoded, whatever the dataset's codec.

    :param path: the group's directory.
    :raises EpisodeError: when it is no episode, damaged, or of a newer format.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.attrs = read_attributes(self.path)
        self._group: zarr.Group | None = None
        self._readers: dict[str, FrameReader | ArrayReader] = {}

    @property
    def id(self) -> int:
        """Number of the episode in its dataset."""
        return self.attrs['episode_id']

    @property
    def steps(self) -> int:
        """Number of actions; there is one observation more."""
        return self.attrs['steps']

    @property
    def cameras(self) -> list[str]:
        """Names of the cameras, sorted."""
        return sorted(self.attrs['cameras'])

    @property
    def names(self) -> list[str]:
        """Names of the arrays."""
        return sorted(self.attrs['checksums'])

    def array(self, name: str) -> zarr.Array:
        """
        Return an array as it is stored, without reading it.

        :raises EpisodeError: when the episode has none of that name.
        """
        self._check_name(name)
        try:
            if self._group is None:
                self._group = zarr.open_group(self.path, mode='r')
            with warnings.catch_warnings():  # Zarr has no specification of the delta codec yet
                warnings.simplefilter('ignore', ZarrUserWarning)
                return self._group[name]
        except (OSError, ValueError, KeyError) as error:
            raise self._damaged(name, error) from error

    def __getitem__(self, name: str) -> np.ndarray:
        if name.startswith(f'{IMAGES}/'):
            return self._all_images(name.removeprefix(f'{IMAGES}/'))
        if name not in self.attrs['checksums']:
            absent = absent_rows(name, self.steps)
            if absent is not None:
                return absent
        self._check_name(name)
        try:
            values = read_array(self.path / name)
            if values is None:
                array = self.array(name)
                values = np.ascontiguousarray(array[...]).reshape(array.shape)
        except (OSError, ValueError, RuntimeError, KeyError, TypeError) as error:
            raise self._damaged(name, error) from error
        # A missing chunk reads as zeros without any error: only the checksum notices.
        if hashlib.sha256(values).hexdigest() != self.attrs['checksums'][name]:
            raise self._damaged(name, 'it differs from its checksum')
        return widened(name, values)

    def _all_images(self, camera: str) -> np.ndarray:
        images = self.images(camera)
        with self._naming(camera):
            self._reader(camera).check_end()
        return images

    def images(self, camera: str | None = None) -> np.ndarray:
        """
        Read all images of a camera; `frames` reads them one by one.

        :param camera: may be left out when there is one only.
        :returns: uint8 RGB, shape (steps + 1, H, W, 3).
        :raises EpisodeError: for an unknown camera, none named where there are several, or
            damage.
        """
        camera = self._camera(camera)
        images = np.empty((len(self._reader(camera)), *self.attrs['cameras'][camera], 3), np.uint8)
        for row, image in enumerate(self.frames(camera)):
            images[row] = image
        return images

    def frames(self, camera: str | None = None) -> Iterator[np.ndarray]:
        """
        Read the images of a camera one after another, holding few of them.

        :param camera: may be left out when there is one only.
        :returns: steps + 1 images, uint8 RGB (H, W, 3).
        :raises EpisodeError: as `images`; for damage only when it is reached.
        """
        camera = self._camera(camera)
        with self._naming(camera):
            yield from self._reader(camera).images()

    def image(self, camera: str | None, row: int) -> np.ndarray:
        """
        Read one image, and only its bytes.

        :param camera: None when there is one only.
        :param row: 0 to steps; a negative one counts from the end.
        :returns: uint8 RGB (H, W, 3).
        :raises EpisodeError: as `images`, or when there is no such row.
        """
        camera, row = self._camera(camera), self._row(row)
        with self._naming(camera):
            return self._reader(camera).image(row)

    def encoded(self, camera: str | None, row: int) -> Encoded:
        """
        Read one image as it is stored, to be copied; arguments as those of `image`.

        An image of format 1 is encoded losslessly.
        """
        camera, row = self._camera(camera), self._row(row)
        with self._naming(camera):
            return self._reader(camera).encoded(row)

    def damaged_images(self, camera: str) -> list[tuple[int | None, str]]:
        """
        Find every damaged image of a camera.

        :returns: (row, what is wrong); None where it is not a single image.
        :raises EpisodeError: for an unknown camera, or when not even the offsets can be read.
        """
        return self._reader(self._camera(camera)).damage()

    @property
    def goal_image(self) -> np.ndarray | None:
        """The goal image, uint8 RGB (H, W, 3), None where none was stored."""
        return self[GOAL_IMAGE] if GOAL_IMAGE in self.attrs['checksums'] else None

    def _check_name(self, name: str) -> None:
        if name not in self.attrs['checksums']:
            raise EpisodeError(f'{self.path}: no array {name!r}; it has {self.names}')

    def _camera(self, camera: str | None) -> str:
        if camera is None and len(self.cameras) == 1:
            camera = self.cameras[0]
        if camera not in self.cameras:
            raise EpisodeError(f'{self.path}: no camera {camera!r}; choose one of {self.cameras}')
        return camera

    def _row(self, row: int) -> int:
        if not -self.steps - 1 <= row <= self.steps:
            raise EpisodeError(f'{self.path}: no image {row}; give 0 to {self.steps}')
        return row % (self.steps + 1)

    def _reader(self, camera: str) -> FrameReader | ArrayReader:
        if camera not in self._readers:
            self._readers[camera] = self._open_images(camera)
        return self._readers[camera]

    def _open_images(self, camera: str) -> FrameReader | ArrayReader:
        name = f'{IMAGES}/{camera}'
        if self.attrs['format_version'] == 1:
            return ArrayReader(self.array(name), self.attrs['checksums'][name])
        try:
            codec = ImageCodec.parse(self.attrs.get('image_codec'))
        except CodecError as error:
            raise self._damaged('zarr.json', error) from error
        try:
            offsets = self[f'{IMAGE_OFFSETS}/{camera}']
            crcs = self[f'{IMAGE_CRCS}/{camera}']
        except EpisodeError:
            if codec.kind != LOSSLESS:  # nothing else tells a sound JPEG from a damaged one
                raise
            with self._naming(camera):
                offsets, crcs = find_offsets(self.path / name, codec, self.steps + 1), None
        return FrameReader(self.path / name, codec, self.attrs['cameras'][camera], offsets, crcs)

    @contextmanager
    def _naming(self, camera: str) -> Iterator[None]:
        try:
            yield
        except FrameError as error:
            raise self._damaged(f'{IMAGES}/{camera}', error) from error

    def _damaged(self, name: str, reason: object) -> EpisodeError:
        return EpisodeError(f'{self.path}: {name} is damaged ({reason}); restore it from a copy '
                            f'or move the episode away')


def read_episode(path: str | Path) -> Episode:
    """Open a sealed episode; see `Episode`."""
    return Episode(path)
