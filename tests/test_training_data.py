"""What a run trains on: datasets, what is held out, action scale, and data beyond memory."""

import json
from pathlib import Path
import re

from learning_samples import draw_dot, OVERRIDES, SIZE, write_dots
import numpy as np
import pytest
from stable_crl_ros.actions import ActionScale, BRIDGE_MEAN
from stable_crl_ros.checkpoint import load_checkpoint
from stable_crl_ros.crl.presets import make_config
from stable_crl_ros.crl.run import Run
from stable_crl_ros.crl.run_folder import open_run, TrainError
from stable_crl_ros.crl.run_log import read_metrics
from stable_crl_ros.crl.training_data import make_scale
from stable_crl_ros.data.cache import TrainingCache
from stable_crl_ros.data.cache_build import build_cache
from stable_crl_ros.data.episode import EpisodeWriter
from stable_crl_ros.data.schema import Action, EpisodeMeta, NO_ACTIONS, Observation
from stable_crl_ros.images import ImageSpec


def test_validation_holds_out_the_named_episodes(short, tmp_path):
    latest = short(validation_episodes=[1, 3])
    assert load_checkpoint(latest).metadata['transitions'] == 4 * 12
    rows = read_metrics(tmp_path / 'run' / 'metrics.csv')
    assert float(rows[-1]['validation/squared_error']) > 0
    assert 'validation/categorical_accuracy' in rows[-1]


def test_validation_can_be_a_fraction_or_nothing(short, tmp_path):
    assert load_checkpoint(short(validation_fraction=0.5)).metadata['transitions'] == 3 * 12
    other = short(out_dir=tmp_path / 'all', validation_fraction=0.0)
    assert load_checkpoint(other).metadata['transitions'] == 6 * 12
    assert 'validation/squared_error' not in read_metrics(tmp_path / 'all' / 'metrics.csv')[0]


def anonymous_megabytes():
    status = Path('/proc/self/status').read_text()
    return int(re.search(r'RssAnon:\s+(\d+) kB', status)[1]) / 1024


def test_data_larger_than_memory_are_read_from_their_file(tmp_path):
    frames, steps = 1_000_000, 999_999  # 0.77 GB of 16 x 16 pictures, holes in a sparse file
    arrays = {'observations': ('u1', (frames, SIZE, SIZE, 3)), 'states': ('f4', (frames, 14)),
              'actions': ('f4', (steps, 7))}
    for name, (kind, shape) in arrays.items():
        np.lib.format.open_memmap(tmp_path / f'{name}.npy', 'w+', kind, shape)
    (tmp_path / 'cache.json').write_text(json.dumps({
        'version': 1, 'fingerprint': 'huge', 'image_spec': ImageSpec(SIZE, SIZE).to_dict(),
        'camera': 'camera', 'episodes': [{'dataset': 0, 'id': 0, 'steps': steps, 'task': 'dot',
                                          'success': None}]}))
    cache = TrainingCache.open(tmp_path)
    algorithm, config = make_config('laptop', {**OVERRIDES, 'batch_size': 512})
    described = {'algorithm': algorithm, 'seed': 0,
                 'action_scale': ActionScale.from_bounds().to_dict()}
    with open_run(tmp_path / 'run', described, resume=False) as folder:
        before = anonymous_megabytes()
        run = Run(folder, described, config, cache, None, 'cpu')
        for _ in range(20):
            run.agent.update(run.sampler.sample())
        grown = anonymous_megabytes() - before
    assert cache.observations.nbytes > 7e8
    assert grown < 300


def test_action_scale_follows_the_configuration(dots):
    actions = build_cache(dots, ImageSpec(SIZE, SIZE)).actions

    def scale(kind):
        return make_scale(make_config('laptop', {'action_scale': kind})[1], actions)
    assert scale('bounds') == ActionScale.from_bounds()
    assert scale('bridge').offset == BRIDGE_MEAN
    measured = scale('statistics')
    normalised = measured.normalise(actions)
    np.testing.assert_allclose(normalised.mean(0), np.zeros(7), atol=1e-5)
    np.testing.assert_allclose(normalised.std(0)[:2], np.ones(2), rtol=1e-5)
    # dz .. dyaw and the gripper never move in this data: 1 % of half of their range.
    assert measured.scale[2:] == pytest.approx([0.0005] + [0.0025] * 3 + [0.005])


def test_several_datasets_are_joined(short, dots, tmp_path):
    write_dots(tmp_path / 'more', episodes=2, seed=3)
    latest = short(dataset_paths=[dots, tmp_path / 'more'], validation_fraction=0.0,
                   cache_dir=tmp_path / 'cache')
    found = load_checkpoint(latest).metadata
    assert (found['datasets'], found['transitions']) == (['dots', 'more'], 8 * 12)
    assert Path(tmp_path / 'cache').is_dir()


def test_what_is_not_learned_from_may_have_another_control_rate(short, tmp_path):
    path = tmp_path / 'mixed'
    dataset = write_dots(path)
    with EpisodeWriter(dataset, EpisodeMeta(
            control_rate=30.0, extra={'actions': NO_ACTIONS})) as video:
        for _ in range(3):
            video.add_step(Observation({'camera': draw_dot((0.5, 0.5))}), Action(np.zeros(7)))
        video.finish(Observation({'camera': draw_dot((0.5, 0.5))}))
    found = load_checkpoint(short(dataset_paths=[path], validation_fraction=0.0)).metadata
    assert (found['control_rate'], found['transitions']) == (5.0, 6 * 12)


def test_pictures_that_are_enlarged_are_warned_of(short, tmp_path, capsys):
    short()
    assert 'warning' not in capsys.readouterr().err
    short(out_dir=tmp_path / 'larger', overrides={**OVERRIDES, 'image_size': 24}, steps=1)
    assert 'pictures stored at 16x16 are enlarged to 24x24' in capsys.readouterr().err


def test_episodes_of_different_control_rates_are_refused(short, dots, tmp_path):
    write_dots(tmp_path / 'fast', control_rate=10.0)
    with pytest.raises(TrainError, match=r'5\.0, 10\.0'):
        short(dataset_paths=[dots, tmp_path / 'fast'])
