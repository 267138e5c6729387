"""Turn observations and actions into the records of a journal, images encoded."""

import time

import numpy as np
from stable_crl_ros.data.attributes import checked_attributes
from stable_crl_ros.data.codecs import Encoded, ImageCodec
from stable_crl_ros.data.schema import (
    Action,
    EpisodeMeta,
    FORMAT_VERSION,
    GOAL_IMAGE,
    IMAGES,
    Observation,
    SchemaError,
    software_versions,
)
from stable_crl_ros.images import check_rgb


def header_record(meta: EpisodeMeta, codec: ImageCodec) -> dict:
    """
    Return the first record of a journal, without the episode's number.

    :raises SchemaError: for attributes that are not plain values, or use names of the format.
    """
    header = {'format_version': FORMAT_VERSION, 'created_ns': time.time_ns(),
              'versions': software_versions(), 'image_codec': str(codec),
              'attributes': checked_attributes(meta.to_attributes())}
    if meta.goal_image is not None:
        check_rgb(meta.goal_image, 'goal image')
        header[GOAL_IMAGE] = meta.goal_image
    return header


class StepRecords:
    """
    Check and encode the steps of one episode.

    :param codec: of its dataset.
    """

    def __init__(self, codec: ImageCodec) -> None:
        self._codec = codec
        self._sizes: dict[str, list[int]] | None = None

    def step(self, observation: Observation, action: Action) -> dict[str, object]:
        """
        Return the record of one step.

        :raises SchemaError: when it does not fit the format, or the episode's first step.
        """
        return {'kind': 'step', **self.observation(observation), **action.to_record()}

    def observation(self, observation: Observation) -> dict[str, object]:
        """Return what an observation adds to a record; raises as `step`."""
        record = observation.to_record()
        sizes = {camera: list(record[f'{IMAGES}/{camera}'].shape[:2])
                 for camera in observation.images}
        self._check(sizes)
        for camera in sizes:
            name = f'{IMAGES}/{camera}'
            record[name] = np.frombuffer(self._encode(record[name], camera), np.uint8)
        self._sizes = sizes
        return {**record, 'sizes': sizes}

    def _check(self, sizes: dict[str, list[int]]) -> None:
        first = sizes if self._sizes is None else self._sizes
        for camera in sorted(sizes.keys() | first.keys()):
            if sizes.get(camera) != first.get(camera):
                raise SchemaError(
                    f'camera {camera!r} gives images of {_shown(sizes.get(camera))}, which '
                    f'differs from the first step, {_shown(first.get(camera))}; stop the '
                    f'episode and start another', camera)

    def _encode(self, image: np.ndarray | Encoded, camera: str) -> bytes:
        try:
            if not isinstance(image, Encoded):
                return self._codec.encode(image)
            return image.data if self._codec.takes(image) else self._codec.encode(image.decode())
        except ValueError as error:
            raise SchemaError(f'image of camera {camera!r}: {error}', camera) from error


def _shown(size: list[int] | None) -> str:
    return 'none' if size is None else f'{size[1]}x{size[0]}'
