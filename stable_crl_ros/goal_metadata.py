"""What NAME.json says about a goal: written when it is saved, checked whenever it is read."""

import json
import math
from pathlib import Path

import numpy as np
from stable_crl_ros.goal_match import light
from stable_crl_ros.goal_picture import size_of

LAST_STAMP_NS = 2 ** 31 * 10 ** 9  # a ROS stamp holds no later time
MOST_BYTES = 2 ** 20


class MetadataError(ValueError):
    """A NAME.json that cannot be read, or that says what cannot be."""


def describe_image(image: np.ndarray) -> dict:
    """Return what a picture says of itself: `image_spec` (its size, pixels) and `light`."""
    return {'image_spec': size_of(image), 'light': light(image)}


def read_metadata(path: Path) -> dict:
    """
    Read a goal's NAME.json.

    :returns: its values; empty where there is no such file.
    :raises MetadataError: when it is not readable, or a value that is used cannot be right.
    """
    try:
        if path.stat().st_size > MOST_BYTES:
            raise MetadataError(f'{path}: larger than {MOST_BYTES} bytes; mend or delete it')
        metadata = json.loads(path.read_bytes())
    except FileNotFoundError:
        return {}
    except MetadataError:
        raise
    except (OSError, ValueError, RecursionError) as error:
        raise MetadataError(f'{path}: not readable as JSON ({error}); mend or delete it') \
            from error
    if not isinstance(metadata, dict):
        raise MetadataError(f'{path}: holds no JSON object; mend or delete it')
    for name, (valid, meaning) in _VALUES.items():
        if name in metadata and not valid(metadata[name]):
            raise MetadataError(f'{path}: {name} is {metadata[name]!r:.80}, {meaning}; mend or '
                                'delete it')
    return metadata


def contradiction(metadata: dict, sha256: str, shape: tuple[int, ...]) -> str:
    """
    Say in what the metadata describe another picture, '' when they do not.

    :param sha256: of the picture's bytes.
    :param shape: of the picture, rows first.
    """
    if metadata.get('sha256', sha256) != sha256:
        return 'its sha256 is another'
    claimed = metadata.get('image_spec', {})
    found = {'height': shape[0], 'width': shape[1]}
    wrong = [f'{name} {claimed[name]}, not {found[name]}' for name in found
             if claimed.get(name, found[name]) != found[name]]
    return f'it says {" and ".join(wrong)}' if wrong else ''


def _is_stamp(value: object) -> bool:
    return isinstance(value, int) and 0 <= value < LAST_STAMP_NS


def _is_text(value: object) -> bool:
    return value is None or (isinstance(value, str) and len(value) < 1000)


def _is_pose(value: object) -> bool:
    return value is None or (isinstance(value, list) and len(value) == 7 and all(
        isinstance(number, int | float) and math.isfinite(number) for number in value))


_VALUES = {  # name -> check, and what it is not when that fails
    'stamp_ns': (_is_stamp, 'no time in ns'),
    'sha256': (_is_text, 'no text'),
    'camera': (_is_text, 'no name'),
    'frame_id': (_is_text, 'no name'),
    'ee_pose': (_is_pose, 'not x, y, z (m) and a quaternion x, y, z, w'),
    'image_spec': (lambda value: isinstance(value, dict), 'no height and width'),
}
