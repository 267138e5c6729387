"""Write a checkpoint again, its progress calibrated on recorded episodes."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from stable_crl_ros.calibration import Calibration, CalibrationError
from stable_crl_ros.checkpoint import (
    check_fit,
    check_name,
    CheckpointError,
    load_checkpoint,
    save_checkpoint,
)
from stable_crl_ros.crl.calibrate import calibrate, Learner
from stable_crl_ros.crl.config import ConfigError
from stable_crl_ros.crl.training_data import find_control_rate, learned_entries, split
from stable_crl_ros.data.cache_build import build_cache
from stable_crl_ros.policy import load_networks


def calibrate_checkpoint(path: str | Path, datasets: Sequence[str | Path], out: str | Path,
                         camera: str | None = None, validation_fraction: float = 0.05,
                         seed: int | None = None) -> tuple[str, str, Calibration]:
    """
    Write a checkpoint again with a calibration fitted to datasets.

    :param datasets: best those it was trained on; at one control rate, its own.
    :param out: may be the same file.
    :param validation_fraction: of the episodes, held out as training on all of them with this
        seed and fraction does; others that the checkpoint was trained on make the check look good.
    :param seed: of all that is drawn; the checkpoint's own, or 0, when None.
    :returns: its identity before and after, and the calibration.
    :raises CheckpointError: for a file that cannot be used, or an `out` with another ending.
    :raises CalibrationError: without a critic, at another control rate, and as `calibrate`.
    """
    check_name(Path(out))
    checkpoint = load_checkpoint(path)
    metadata = checkpoint.metadata
    metadata.pop('calibration', None)  # one that cannot be used must not be in the way
    check_fit(path, checkpoint)
    try:
        agent, config, networks = load_networks(checkpoint)
    except (ConfigError, RuntimeError) as error:
        raise CheckpointError(f'{path}: {error}; train it again') from error
    rate = find_control_rate(learned_entries(datasets))
    if metadata.get('control_rate') not in (None, rate):
        raise CalibrationError(f'{path} acts at {metadata["control_rate"]:g} Hz, but the episodes '
                               f'were recorded at {rate:g} Hz; steps are not the same')
    if seed is None:
        seed = metadata.get('seed', 0)
    if seed < 0:
        raise CalibrationError(f'seed {seed}: give 0 or more')
    cache = build_cache(list(datasets), config.image_spec, camera)
    training, validation = split(cache, None, validation_fraction, seed)
    fitted = calibrate(Learner(agent, networks, config.pixel_range), training, validation, rate,
                       seed)
    if fitted is None:
        raise CalibrationError(f'{path}: {metadata["algorithm"]} has no critic, so that nothing '
                               'says how near a goal is')
    fitted = replace(fitted, checked={**fitted.checked, 'of': checkpoint.sha256,
                                      'dataset_fingerprint': cache.fingerprint})
    after = save_checkpoint(out, checkpoint.tensors,
                            {**metadata, 'calibration': fitted.to_dict()})
    return checkpoint.sha256, after, fitted
