"""One .safetensors file = weights + everything needed to use them: save, verify, load."""

from collections.abc import Mapping
from dataclasses import dataclass
import hashlib
import json
import math
from pathlib import Path
import platform

import numpy as np
from safetensors import SafetensorError
from safetensors.torch import load, save_file
from stable_crl_ros import __version__
from stable_crl_ros.actions import ACTION_DIM, ActionError, ActionScale
from stable_crl_ros.calibration import Calibration, CalibrationError
from stable_crl_ros.checkpoint_file import CheckpointError as CheckpointError
from stable_crl_ros.checkpoint_file import read_header
from stable_crl_ros.durable import replace_atomically
from stable_crl_ros.images import ImageError, ImageSpec
import torch

FORMAT_VERSION = 1
# The layer whose rows are the action's dimensions, in every algorithm's actor.
ACTION_LAYER = 'actor.head.output.weight'
REQUIRED = ('format_version', 'algorithm', 'config', 'image_spec', 'action_scale',
            'dataset_fingerprint', 'step', 'metrics', 'versions', 'sha256')
SUFFIX = '.safetensors'
KINDS = {'algorithm': str, 'config': dict, 'image_spec': dict, 'action_scale': dict, 'sha256': str}


@dataclass(frozen=True)
class Checkpoint:
    """
    What a checkpoint file holds.

    :param tensors: weights by name, on the device asked for.
    :param metadata: plain values under the names of `REQUIRED`, and whatever else was saved.
    :param sha256: 64 hexadecimal digits over weights and metadata; the checkpoint's identity.
    """

    tensors: dict[str, torch.Tensor]
    metadata: dict
    sha256: str

    @property
    def image_spec(self) -> ImageSpec:
        """What the network must be shown."""
        return ImageSpec.from_dict(self.metadata['image_spec'])

    @property
    def action_scale(self) -> ActionScale:
        """How its outputs become metres and radians."""
        return ActionScale.from_dict(self.metadata['action_scale'])

    @property
    def calibration(self) -> Calibration | None:
        """
        How its critic's measures become progress; None where nobody calibrated it.

        :raises CalibrationError: when it cannot be used.
        """
        values = self.metadata.get('calibration')
        return None if values is None else Calibration.from_dict(values)


def software_versions() -> dict[str, str]:
    """Return the versions that a checkpoint records."""
    return {'stable_crl_ros': __version__, 'torch': torch.__version__,
            'numpy': np.__version__, 'python': platform.python_version()}


def save_checkpoint(path: str | Path, tensors: Mapping[str, torch.Tensor],
                    metadata: Mapping) -> str:
    """
    Write a checkpoint so that its name never shows a half-written file.

    :param path: ends in .safetensors; its folder exists.
    :param tensors: weights by name, all finite.
    :param metadata: JSON values for every name of `REQUIRED` but those that are filled in
        here: format_version, versions, sha256.
    :returns: the checkpoint's sha256.
    :raises CheckpointError: for a missing key, weights that are not finite, or a path that
        ends otherwise or cannot be written.
    """
    path = Path(path)
    check_name(path)
    values = {'versions': software_versions(), **metadata, 'format_version': FORMAT_VERSION}
    values.pop('sha256', None)
    missing = set(REQUIRED) - set(values) - {'sha256'}
    if missing:
        raise CheckpointError(f'{path}: metadata lacks {sorted(missing)}')
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    _check_finite(path, weights)
    values['sha256'] = _digest(weights, values)
    encoded = {name: json.dumps(value) for name, value in values.items()}

    def write(temporary: Path) -> None:
        save_file(weights, temporary, encoded)
        temporary.chmod(0o644)  # safetensors makes its files private
    try:
        replace_atomically(path, write)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f'{path}: cannot be written ({error})') from error
    return values['sha256']


def check_name(path: Path) -> None:
    """
    Check that a file may be called a checkpoint.

    :raises CheckpointError: when its name ends otherwise.
    """
    if path.suffix != SUFFIX:
        raise CheckpointError(f'{path}: a checkpoint must be called something{SUFFIX}')


def load_checkpoint(path: str | Path, device: str = 'cpu', *, name: str | Path | None = None,
                    verified: bool = False) -> Checkpoint:
    """
    Read a checkpoint and check that it is whole.

    :param device: where the weights go, such as 'cpu' or 'cuda'.
    :param name: how a refusal calls the file; `path` when left out.
    :param verified: these very bytes passed before; look at their description only.
    :raises CheckpointError: when it is missing, a directory, cut off, of another kind or
        version, without a needed key, altered, or holds weights that are not finite.
    """
    path = Path(path)
    name = path if name is None else name
    try:
        metadata = _decode(name, read_header(path).metadata)
        tensors = load(path.read_bytes())  # `safe_open` (0.8.0) leaks with every tensor
    except (OSError, SafetensorError) as error:
        raise CheckpointError(
            f'{name}: not a whole .safetensors file ({error}); copy or train it again') from error
    sha256 = metadata['sha256']
    if not verified:
        _check_finite(name, tensors)
        if _digest(tensors, metadata) != sha256:
            raise CheckpointError(f'{name}: contents do not match the recorded sha256 '
                                  f'{str(sha256)[:12]}; copy the file again from its source')
    return Checkpoint({key: t.to(device) for key, t in tensors.items()}, metadata, sha256)


def verify_checkpoint(path: str | Path, action_dim: int = ACTION_DIM,
                      image_spec: ImageSpec | None = None) -> dict:
    """
    Check that a checkpoint is whole and fits this robot.

    :param action_dim: numbers in one action.
    :param image_spec: what the network must expect; any when None.
    :returns: its metadata.
    :raises CheckpointError: as `load_checkpoint`, and for another action or image.
    """
    checkpoint = load_checkpoint(path)
    check_fit(path, checkpoint, action_dim, image_spec)
    return checkpoint.metadata


def peek_checkpoint(path: str | Path, action_dim: int = ACTION_DIM) -> dict:
    """
    Check what can be checked without reading the weights: milliseconds, whatever the size.

    :param action_dim: numbers in one action.
    :returns: its metadata.
    :raises CheckpointError: when it is missing, a directory, cut off, of another kind or version,
        without a needed key, or for another action.
    """
    header = read_header(Path(path))
    metadata = _decode(path, header.metadata)
    actor = {name: torch.empty(shape, device='meta') for name, shape in header.shapes.items()
             if name == ACTION_LAYER}
    check_fit(path, Checkpoint(actor, metadata, metadata['sha256']), action_dim)
    return metadata


def check_fit(path: str | Path, checkpoint: Checkpoint, action_dim: int = ACTION_DIM,
              image_spec: ImageSpec | None = None) -> None:
    """
    Check that a loaded checkpoint's action and image are the ones wanted, and its calibration.

    :raises CheckpointError: when they are not, with both values, or when it cannot be used.
    """
    layer = checkpoint.tensors.get(ACTION_LAYER)
    if layer is None or layer.dim() != 2:
        raise CheckpointError(f'{path}: no actor ({ACTION_LAYER} is missing); train it again')
    if layer.shape[0] != action_dim:
        raise CheckpointError(f'{path}: its actions have {layer.shape[0]} dimensions, this robot '
                              f'needs {action_dim}; use a checkpoint trained on its data')
    try:
        spec, _ = checkpoint.image_spec, checkpoint.action_scale
    except (ActionError, ImageError, TypeError, AttributeError) as error:
        raise CheckpointError(f'{path}: {error}; train it again') from error
    try:
        _ = checkpoint.calibration
    except CalibrationError as error:
        raise CheckpointError(f'{path}: {error}; `stable-crl checkpoint calibrate` makes a usable '
                              'one') from error
    if image_spec is not None and spec != image_spec:
        raise CheckpointError(f'{path}: trained on {spec}, but {image_spec} is wanted; '
                              'use a checkpoint trained on such images')


def _decode(path: str | Path, encoded: Mapping[str, str]) -> dict:
    missing = set(REQUIRED) - set(encoded)
    if missing:
        raise CheckpointError(f'{path}: not a checkpoint of this package; its metadata lacks '
                              f'{sorted(missing)}')
    try:
        metadata = {name: json.loads(value) for name, value in encoded.items()}
    except json.JSONDecodeError as error:
        raise CheckpointError(f'{path}: metadata is not JSON ({error})') from error
    version = metadata['format_version']
    if version != FORMAT_VERSION:
        raise CheckpointError(f'{path}: format version {version!r}, this software reads '
                              f'{FORMAT_VERSION}; update the older of the two')
    wrong = [name for name, kind in KINDS.items() if not isinstance(metadata[name], kind)]
    rate = metadata.get('control_rate')
    if rate is not None and not (isinstance(rate, (int, float)) and 0.0 < rate < math.inf):
        wrong.append('control_rate')
    if not isinstance(metadata.get('seed', 0), int):
        wrong.append('seed')
    if wrong:
        raise CheckpointError(f'{path}: metadata of the wrong kind: {", ".join(wrong)}; train it '
                              'again')
    return metadata


def _check_finite(path: str | Path, tensors: Mapping[str, torch.Tensor]) -> None:
    bad = [name for name, tensor in tensors.items()
           if tensor.is_floating_point() and not torch.isfinite(tensor).all()]
    if bad:
        raise CheckpointError(f'{path}: weights that are not finite in {", ".join(bad[:4])}'
                              f'{" and more" if len(bad) > 4 else ""}; use an earlier checkpoint')


def _digest(tensors: Mapping[str, torch.Tensor], metadata: Mapping) -> str:
    described = {name: value for name, value in metadata.items() if name != 'sha256'}
    digest = hashlib.sha256(json.dumps(described, sort_keys=True).encode())
    for name in sorted(tensors):
        tensor = tensors[name].contiguous()
        digest.update(f'{name} {tensor.dtype} {tuple(tensor.shape)}'.encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
