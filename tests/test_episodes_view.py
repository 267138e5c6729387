"""Pictures of episodes: they show the right frames, and what was done below them."""

import cv2
from data_samples import record
from episode_samples import in_memory, record_good
import numpy as np
import pytest
from stable_crl_ros.data.dataset import Dataset
from stable_crl_ros.data.episode import EpisodeError, EpisodeWriter
from stable_crl_ros.data.schema import Action, EpisodeMeta, Observation
from stable_crl_ros.data.sheet import describe, write_sheet
from stable_crl_ros.data.timeline import Track
from stable_crl_ros.data.video import write_video

BLUE = (0, 0, 200)


@pytest.fixture
def dataset():
    with in_memory() as folder:
        yield Dataset(folder / 'dataset', create=True)


def plain(colour, size=(60, 80)):
    return np.full((*size, 3), colour, np.uint8)


@pytest.fixture
def colourful(dataset):
    """Record an episode that fades from black to red, with a blue goal."""
    goal = EpisodeMeta(task='paint', goal_image=plain(BLUE, (120, 160)))
    with EpisodeWriter(dataset, goal) as writer:
        for step in range(10):
            writer.add_step(Observation({'front': plain((step * 20, 0, 0))}),
                            Action(np.array([0.05, 0, 0, 0, 0, 0, 1.0]) * (step == 5)))
        writer.finish(Observation({'front': plain((200, 0, 0))}), True)
    return dataset[0]


def read_picture(path):
    return cv2.imread(str(path))[..., ::-1]


def rows_of(picture, colour):
    """Return where a colour is, one (left, right) per connected patch, left to right."""
    mask = (np.abs(picture.astype(int) - colour).max(2) < 6).astype(np.uint8)
    count, _, stats, _ = cv2.connectedComponentsWithStats(mask)
    patches = [stats[i] for i in range(1, count) if stats[i][cv2.CC_STAT_AREA] > 2000]
    return sorted((int(patch[0]), int(patch[1])) for patch in patches)


def test_the_sheet_shows_every_frame_once_in_order_and_the_goal_last(colourful, tmp_path):
    write_sheet(colourful, tmp_path / 'sheet.png')
    sheet = read_picture(tmp_path / 'sheet.png')
    places = [rows_of(sheet, (red, 0, 0)) for red in range(20, 201, 20)]
    assert [len(place) for place in places] == [1] * 10
    places = [place[0] for place in places]  # frame 0 is as black as the letters
    lines = sorted({y for _, y in places})
    assert len(lines) == 2
    assert sorted(places, key=lambda place: (place[1], place[0])) == places
    goal, = rows_of(sheet, BLUE)
    assert goal[1] == lines[1]
    assert goal[0] > max(x for x, y in places if y == lines[1])


def test_the_sheet_has_a_row_for_every_camera(dataset, tmp_path):
    record_good(dataset, cameras=('front', 'wrist'))
    write_sheet(dataset[0], tmp_path / 'both.png')
    write_sheet(dataset[0], tmp_path / 'one.png', 'wrist')
    both, one = (read_picture(tmp_path / name) for name in ('both.png', 'one.png'))
    assert both.shape[1] == one.shape[1]
    with pytest.raises(EpisodeError, match=r"choose one of \['front', 'wrist'\]"):
        write_sheet(dataset[0], tmp_path / 'none.png', 'back')


def test_an_episode_without_steps_or_goal_has_a_sheet(dataset, tmp_path):
    with EpisodeWriter(dataset) as writer:
        writer.finish(Observation({'front': plain(BLUE)}))
    write_sheet(dataset[0], tmp_path / 'sheet.png')
    assert len(rows_of(read_picture(tmp_path / 'sheet.png'), BLUE)) == 1


def read_video(path):
    video = cv2.VideoCapture(str(path))
    rate, frames = video.get(cv2.CAP_PROP_FPS), []
    while (read := video.read())[0]:
        frames.append(read[1][..., ::-1])
    video.release()
    return rate, frames


def test_the_video_has_every_frame_beside_the_goal_with_its_action_below(colourful, tmp_path):
    told = []
    write_video(colourful, tmp_path / 'episode.mp4', height=120,
                progress=lambda done, total: told.append((done, total)))
    rate, frames = read_video(tmp_path / 'episode.mp4')
    assert rate == 5.0
    assert len(frames) == 11
    assert told[-1] == (11, 11)
    left = (800 - 2 * 160 - 8) // 2
    np.testing.assert_allclose(frames[10][130, left + 80], (200, 0, 0), atol=14)
    np.testing.assert_allclose(frames[0][130, left + 80], (0, 0, 0), atol=14)
    np.testing.assert_allclose(frames[0][130, left + 168 + 80], BLUE, atol=14)
    changed = [np.abs(frame.astype(int) - frames[4]).max(2)[225:, 640:] > 60 for frame in frames]
    assert changed[5].sum() > 500  # the bars of the only action
    assert changed[6].sum() < 100


def test_a_video_may_run_faster_and_show_several_cameras(dataset, tmp_path):
    record(dataset, steps=3, cameras=('front', 'wrist'))
    write_video(dataset[0], tmp_path / 'fast.mp4', speed=2.0)
    rate, frames = read_video(tmp_path / 'fast.mp4')
    assert (rate, len(frames)) == (10.0, 4)


def test_explains_a_video_that_cannot_be_written(colourful, tmp_path):
    with pytest.raises(EpisodeError, match='cannot write this video'):
        write_video(colourful, tmp_path / 'none' / 'episode.mp4')


def test_bars_are_parts_of_the_largest_motion_and_small_motion_stays_small(colourful, dataset):
    bars = Track.of(colourful).bars
    np.testing.assert_allclose(bars[5], [1, 0, 0, 0, 0, 0, 1])
    with EpisodeWriter(dataset) as writer:
        writer.add_step(Observation({'front': plain(BLUE)}),
                        Action(np.array([0.001, 0, 0, 0, 0, 0.25, 0])))
        writer.finish(Observation({'front': plain(BLUE)}))
    np.testing.assert_allclose(Track.of(dataset[1]).bars[0], [0.1, 0, 0, 0, 0, 1, 0], atol=1e-6)


def test_steps_that_were_said_to_be_done_are_green(dataset, tmp_path):
    shares = []
    for done in (False, True):
        with EpisodeWriter(dataset) as writer:
            for step in range(10):
                writer.add_step(Observation({'front': plain(BLUE)}),
                                Action(np.zeros(7), at_goal=0.1, done=done and step > 4))
            writer.finish(Observation({'front': plain(BLUE)}))
        write_sheet(dataset[int(done)], tmp_path / 'sheet.png')
        sheet = read_picture(tmp_path / 'sheet.png').astype(int)
        shares.append((np.minimum(sheet[..., 1] - sheet[..., 0],
                                  sheet[..., 1] - sheet[..., 2]) > 10).mean())
    assert shares[0] < 0.001 < 0.005 < shares[1]


def test_the_headline_says_how_it_ended(colourful, dataset):
    headline, facts = describe(colourful)
    assert headline.split() == ['episode', '0', 'paint', 'success']
    assert facts.startswith('10 steps, 2.0 s')
    record_good(dataset, success=False, interrupted=True)
    headline, facts = describe(dataset[1])
    assert headline.endswith('failure')
    assert 'interrupted' in facts
