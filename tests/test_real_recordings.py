"""Real WidowX recordings through the whole package: import, train, nodes, record, score."""

import os
from pathlib import Path
import subprocess
import sys
import time

import numpy as np
import pytest
from stable_crl_ros.bringup import GRAPHS
from stable_crl_ros.crl.train import train
from stable_crl_ros.data.dataset import Dataset
from stable_crl_ros.data.verify import errors, verify_dataset
from stable_crl_ros.exchange.importing import import_recordings
from stable_crl_ros.exchange.options import ImportOptions
from stable_crl_ros.images import ImageSpec, read_image
from stable_crl_ros.launcher import Launcher
from stable_crl_ros.nodes.client import Client
from stable_crl_ros.open_loop import evaluate_open_loop

HELD_OUT = (15, 16, 17)
CAMERA = 'image_0'
SCRIPT = Path(__file__).parents[1] / 'data_collection' / 'score_real_recordings.sh'


@pytest.fixture(scope='module')
def dataset(real_data, tmp_path_factory):
    """Give the 18 real episodes as a dataset, with actions as BridgeData V2 trains on."""
    path = tmp_path_factory.mktemp('bridge')
    import_recordings(real_data / 'bridge_v1_octo', path,
                      ImportOptions(actions='relabelled', gripper='binarised'))
    return Dataset(path)


@pytest.fixture(scope='module')
def checkpoint(dataset, tmp_path_factory):
    """Give the real-robot recipe after two small steps on 15 episodes."""
    return train(
        [dataset.path], tmp_path_factory.mktemp('run') / 'bridge', 'bridge',
        {'image_size': 64, 'batch_size': 4, 'warmup_steps': 0}, steps=2, device='cpu', threads=1,
        camera=CAMERA, validation_episodes=HELD_OUT, progress=False, calibrates=False)


def test_the_script_of_the_recipe_learns_from_relabelled_and_binarised_actions(
        real_data, dataset, tmp_path):
    command = tmp_path / 'stable-crl'  # the real one, up to the training
    command.write_text(f'#!/bin/sh\n[ "$1" = episodes ] || exit 3\n'
                       f'exec {sys.executable} -m stable_crl_ros.cli "$@"\n')
    command.chmod(0o755)
    ended = subprocess.run(
        ['bash', SCRIPT, real_data / 'bridge_v1_octo', tmp_path / 'run'], check=False,
        env=os.environ | {'PATH': f'{tmp_path}:{os.environ["PATH"]}'})
    assert ended.returncode == 3
    imported = Dataset(tmp_path / 'run' / 'dataset')
    assert imported.ids == dataset.ids
    for number in imported.ids:
        np.testing.assert_array_equal(imported[number]['action'], dataset[number]['action'])
    grippers = np.concatenate([imported[number]['action'][:, 6] for number in imported.ids])
    assert set(grippers) == {0.0, 1.0}


def test_held_out_episodes_are_scored_beside_both_baselines(dataset, checkpoint):
    others = [number for number in dataset.ids if number not in HELD_OUT]
    actions = np.concatenate([dataset[number]['action'] for number in others])
    scores = evaluate_open_loop(str(checkpoint), [dataset[n] for n in HELD_OUT], actions, CAMERA)
    policy, zero, mean = scores
    assert [score.policy for score in scores[1:]] == ['zero action', 'mean action']
    assert {score.transitions for score in scores} == {27}  # 3 episodes of 10 frames
    assert np.isfinite(policy.normalised_error)
    recorded = np.concatenate([dataset[number]['action'] for number in HELD_OUT])
    np.testing.assert_allclose(mean.mean_absolute_error,
                               np.abs(recorded - actions.mean(0)).mean(0), rtol=1e-5)
    assert zero.mean_absolute_error[0] == pytest.approx(np.abs(recorded[:, 0]).mean(), rel=1e-5)


def test_nodes_act_on_real_frames_towards_a_real_goal_and_record_it(
        real_data, checkpoint, tmp_path):
    frames = real_data / 'bridge_v1_octo' / 'episode_015' / 'images0'
    values = GRAPHS['policy'].complete({
        'goal': str(frames / 'im_9.jpg'), 'robot': 'mock', 'camera_source': str(frames),
        'checkpoint': str(checkpoint), 'record': 'true', 'namespace': 'real_frames',
        'dataset_path': str(tmp_path / 'recorded'), 'task': 'replay'})
    lines: list[str] = []
    with Launcher(GRAPHS['policy'].specs(values), values['namespace'],
                  output=lines.append) as launcher, Client(values['namespace']) as client:
        _poll_until(launcher, lambda: any('recording episode' in line for line in lines), lines)
        end = time.monotonic() + 3.0
        _poll_until(launcher, lambda: time.monotonic() > end, lines)
        client.transition('policy', 'deactivate')
        saved, message = client.call('episode_logger/stop', False)
        assert saved, message
    recorded = Dataset(tmp_path / 'recorded')
    assert errors(verify_dataset(recorded.path)) == []
    episode, = recorded.episodes
    assert episode.steps >= 5
    # Every frame in the episode is one of the real ones, in their channel order.
    spec = ImageSpec(*episode.images()[0].shape[:2])
    real = [spec.resize(read_image(path)) for path in sorted(frames.iterdir())]
    for image in episode.images():
        assert min(np.abs(image.astype(int) - one).max() for one in real) == 0
    assert np.abs(episode.goal_image.astype(int) - read_image(frames / 'im_9.jpg')).max() == 0


def _poll_until(launcher, condition, lines, seconds=60.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, '\n'.join(lines)
        launcher.poll()
        time.sleep(0.05)
