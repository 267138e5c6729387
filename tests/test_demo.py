"""The demo end to end: processes, goal photograph, ground truth, recording, pictures."""

import re
import signal
import subprocess
import sys

import cv2
import numpy as np
import pytest
from stable_crl_ros.data.dataset import Dataset
from stable_crl_ros.data.schema import Mode
from stable_crl_ros.data.verify import errors, verify_dataset

RESULT = re.compile(r'seed 0, drawer ([\d.]+) mm from the goal \(limit 10 mm\)')


@pytest.fixture(scope='module')
def demo(tmp_path_factory):
    """Run the demo once; give its exit status, its words and its folder."""
    out = tmp_path_factory.mktemp('runs')
    done = subprocess.run(
        [sys.executable, '-m', 'stable_crl_ros.cli', 'demo', '--seed', '0', '--out', str(out)],
        capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=200)
    folders = list(out.iterdir())
    assert len(folders) == 1, done.stderr
    return done, folders[0]


def test_the_drawer_ends_near_the_goal_and_the_status_follows_the_truth(demo):
    done, _ = demo
    found = RESULT.search(done.stdout)
    assert found, done.stdout + done.stderr
    error = float(found.group(1))
    assert error < 25.0
    assert done.returncode == (0 if error <= 10.0 else 1)
    assert ('GOAL REACHED' in done.stdout) == (done.returncode == 0)


def test_the_recorded_episode_is_whole_and_names_what_produced_it(demo):
    done, folder = demo
    assert errors(verify_dataset(folder / 'episodes')) == []
    dataset = Dataset(folder / 'episodes')
    episode, = dataset.episodes
    attributes = episode.attrs
    assert attributes['success'] == (done.returncode == 0)
    assert attributes['task'] == 'open_drawer'
    # A step is dropped only where the machine stood still, which its stamps show.
    standstills = (np.diff(episode['capture_stamp']) > 0.5e9).sum()
    assert attributes['dropped'] <= 2 * standstills
    assert not attributes['interrupted']
    assert (episode['mode'] == Mode.POLICY).all()
    assert (episode['applied_stamp'] >= episode['capture_stamp']).all()
    assert episode.goal_image.shape == (240, 320, 3)
    assert abs(episode['action'][:, :3]).sum() > 0.05  # the arm really moved


def test_it_leaves_a_contact_sheet_and_a_video_that_open(demo):
    _, folder = demo
    assert cv2.imread(str(folder / 'sheet.png')).shape[1] > 1000
    video = cv2.VideoCapture(str(folder / 'episode.mp4'))
    assert video.read()[0]
    assert video.get(cv2.CAP_PROP_FRAME_COUNT) > 10


def test_ctrl_c_ends_it_promptly_without_a_traceback(tmp_path):
    process = subprocess.Popen(
        [sys.executable, '-m', 'stable_crl_ros.cli', 'demo', '--out', str(tmp_path)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        # What a script starts in the background ignores Ctrl-C, and so do its children.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))
    for line in process.stdout:
        if line.startswith('step'):
            break
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 130
    assert 'Traceback' not in errors


@pytest.mark.parametrize(('options', 'reason'), [
    (['--checkpoint', 'nowhere.safetensors'], 'nowhere.safetensors'),
    (['--out', '/proc/runs'], '--out'),
    (['--task', 'fold_cloth'], 'open_drawer'),
    (['--seed', '-1'], '0 or more'),
    (['--seed', '-1'], '--seed: -1 is too small; give 0 or more'),
    (['--steps', '0'], '--steps: 0 is too small; give 1 or more'),
])
def test_what_cannot_run_is_refused_before_anything_starts(options, reason, tmp_path):
    done = subprocess.run(
        [sys.executable, '-m', 'stable_crl_ros.cli', 'demo', '--out', str(tmp_path), *options],
        capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert reason in done.stderr
    assert 'Traceback' not in done.stderr


def test_a_checkpoint_that_the_policy_refuses_is_named_with_its_reason(tmp_path):
    broken = tmp_path / 'broken.safetensors'
    broken.write_bytes(b'no weights')
    done = subprocess.run(
        [sys.executable, '-m', 'stable_crl_ros.cli', 'demo', '--out', str(tmp_path / 'runs'),
         '--checkpoint', str(broken)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 2
    assert f'{broken}: not a whole .safetensors file' in done.stderr
    assert 'nodes.log' in done.stderr
    assert 'Traceback' not in done.stderr
