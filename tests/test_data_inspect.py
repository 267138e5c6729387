"""Inspection: tables, verification that finds damage, pictures that show the right frames."""

import json

import cv2
from data_samples import action, observation, picture, record
import numpy as np
import pytest
from stable_crl_ros.data.dataset import Dataset
from stable_crl_ros.data.episode import EpisodeError, EpisodeWriter
from stable_crl_ros.data.inspect import (
    describe_episode,
    list_episodes,
    verify_dataset,
    verify_episode,
    write_strip,
    write_video,
)
from stable_crl_ros.data.schema import Action, EpisodeMeta, Observation
from stable_crl_ros.images import read_image


@pytest.fixture
def dataset(tmp_path):
    return Dataset(tmp_path / 'dataset', create=True)


def test_lists_episodes_damage_and_what_is_not_sealed(dataset):
    record(dataset, steps=4, meta=EpisodeMeta(task='open_drawer', source='robot'))
    record(dataset, steps=3, success=None)
    (record(dataset) / 'zarr.json').write_text('{')
    writer = EpisodeWriter(dataset)
    writer.add_step(observation(3, 0), action(3, 0))
    writer._journal.close()
    lines = list_episodes(dataset.path).splitlines()
    assert lines[1].split() == ['0', '4', 'yes', 'open_drawer', 'robot', 'front', '16x12']
    assert lines[2].split()[:3] == ['1', '3', '-']
    assert lines[3] == '2 episodes, 7 steps'
    assert 'episode_000002.zarr' in lines[4]
    assert lines[5] == 'not sealed: episode_000003.journal: cut off, 1 complete steps'


def test_describes_an_episode(dataset):
    text = describe_episode(record(dataset, steps=8, meta=EpisodeMeta(operator='ada')))
    assert 'operator: ada' in text
    assert 'modes: 2 idle, 2 policy, 2 teleop, 2 script' in text
    assert 'interventions: 3' in text
    assert 'clipped or refused: 7' in text


def test_a_sound_dataset_verifies(dataset):
    record(dataset, cameras=('front', 'wrist'), meta=EpisodeMeta(goal_image=picture(0, 0)))
    record(dataset, steps=1)
    assert verify_dataset(dataset.path) == []


def test_names_every_damaged_array(dataset):
    path = record(dataset)
    for name in ('images/front/c/0/0/0/0', 'action/c/0/0'):
        data = bytearray((path / name).read_bytes())
        data[-1] ^= 1
        (path / name).write_bytes(data)
    (path / 'mode/c/0').unlink()
    problems = verify_episode(path)
    assert len(problems) == 3
    for problem, name in zip(problems, ('action', 'images/front', 'mode'), strict=True):
        assert name in problem
        assert 'restore it from a copy' in problem


def change_attributes(path, **changes):
    values = json.loads((path / 'zarr.json').read_bytes())
    values['attributes'].update(changes)
    (path / 'zarr.json').write_text(json.dumps(values))


def test_names_arrays_that_do_not_fit_the_format(dataset):
    path = record(dataset, steps=5)
    change_attributes(path, steps=4)
    problems = verify_episode(path)
    assert any("action is ((5, 7), 'float32'), must be ((4, 7)" in item for item in problems)
    assert verify_episode(dataset.path / 'episode_000009.zarr')[0].endswith('(no zarr.json)')


def test_names_stamps_that_go_backwards(dataset):
    with EpisodeWriter(dataset) as writer:
        for stamp in (5, 4, 6):
            writer.add_step(Observation({'front': picture(0, 0)}, capture_stamp=stamp),
                            Action(np.zeros(7)))
        writer.finish(Observation({'front': picture(0, 0)}))
    assert verify_dataset(dataset.path) == [
        f'{dataset.episode_path(0)}: capture_stamp goes backwards 1 times']


def plain(colour, size=(60, 80)):
    return np.full((*size, 3), colour, np.uint8)


@pytest.fixture
def colourful(dataset):
    """Record an episode that fades from black to red, with a blue goal."""
    goal = EpisodeMeta(goal_image=plain((0, 0, 200), (120, 160)))
    with EpisodeWriter(dataset, goal) as writer:
        for step in range(10):
            writer.add_step(Observation({'front': plain((step * 20, 0, 0))}),
                            Action(np.zeros(7)))
        writer.finish(Observation({'front': plain((200, 0, 0))}))
    return dataset[0]


def test_the_strip_shows_observations_in_order_and_the_goal_beside_them(colourful, tmp_path):
    write_strip(colourful, tmp_path / 'strip.png', count=3, height=60)
    strip = read_image(tmp_path / 'strip.png')
    assert strip.shape == (60, 3 * 80 + 8 + 80, 3)
    middles = [strip[45, x].tolist() for x in (40, 120, 200, 244, 288)]
    assert middles == [[0, 0, 0], [100, 0, 0], [200, 0, 0], [255, 255, 255], [0, 0, 200]]


def test_a_strip_of_an_episode_without_a_goal_shows_its_frames(dataset, tmp_path):
    record(dataset, steps=2)
    write_strip(dataset[0], tmp_path / 'strip.png', height=24)
    assert read_image(tmp_path / 'strip.png').shape == (24, 3 * 32, 3)


def test_the_video_has_every_frame_beside_the_goal(colourful, tmp_path):
    write_video(colourful, tmp_path / 'episode.mp4', height=120)
    video = cv2.VideoCapture(str(tmp_path / 'episode.mp4'))
    assert video.get(cv2.CAP_PROP_FPS) == 5.0
    frames = []
    while (read := video.read())[0]:
        frames.append(read[1][..., ::-1])
    video.release()
    assert len(frames) == 11
    assert frames[0].shape == (120, 320, 3)
    np.testing.assert_allclose(frames[10][90, 80], (200, 0, 0), atol=12)
    np.testing.assert_allclose(frames[0][90, 240], (0, 0, 200), atol=12)


def test_explains_a_video_that_cannot_be_written(colourful, tmp_path):
    with pytest.raises(EpisodeError, match='cannot write this video'):
        write_video(colourful, tmp_path / 'none' / 'episode.mp4')
