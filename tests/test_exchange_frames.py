"""Videos and folders of pictures: material without actions."""

from pathlib import Path

from exchange_samples import write_raw
import numpy as np
import pytest
from stable_crl_ros.data.cache import CacheError
from stable_crl_ros.data.cache_build import build_cache
from stable_crl_ros.data.dataset import Dataset
from stable_crl_ros.exchange.frames import Video
from stable_crl_ros.exchange.goal_frames import save_goal
from stable_crl_ros.exchange.importing import examine, import_recordings
from stable_crl_ros.exchange.options import ImportOptions
from stable_crl_ros.exchange.recording import ExchangeError
from stable_crl_ros.goals import GoalStore
from stable_crl_ros.images import ImageSpec, read_image, write_image


@pytest.fixture(scope='module')
def rollout(real_data):
    return real_data / 'simpler_bridge_real_video' / 'bridge_real_1'


def test_a_folder_of_pictures_says_that_no_actions_were_recorded(rollout, tmp_path):
    result = import_recordings(rollout, tmp_path / 'dataset', ImportOptions(instruction='pick'))
    assert (result.format, result.findings[0].actions) == ('frames', False)
    episode, = Dataset(tmp_path / 'dataset').episodes
    pictures = sorted(rollout.glob('*.jpg'))
    assert episode.attrs['actions'] == 'none recorded'
    assert episode.steps == len(pictures) - 1
    assert not episode['action'].any()
    assert np.isnan(episode['commanded_action']).all()
    for row in (0, 20, episode.steps):
        np.testing.assert_array_equal(episode.image(None, row), read_image(pictures[row]))


def test_training_learns_from_no_video(rollout, real_data, tmp_path):
    dataset = tmp_path / 'dataset'
    import_recordings(rollout, dataset)
    with pytest.raises(CacheError, match='videos have no actions to learn'):
        build_cache(dataset, ImageSpec(8, 8))
    write_raw(tmp_path / 'raw' / 'traj0', real_data)
    import_recordings(tmp_path / 'raw', dataset)
    cache = build_cache(dataset, ImageSpec(8, 8))
    assert [episode.id for episode in cache.episodes] == [1]


def test_a_video_gives_every_frame_in_any_order(rollout):
    video = Video(rollout / 'source.mp4')
    assert (len(video), video.rate) == (37, 5.0)
    in_order = [video[row] for row in range(37)]
    for row in (36, 3, 3, 2, 20):
        np.testing.assert_array_equal(video[row], in_order[row])


def test_a_video_comes_in_once(rollout, tmp_path):
    options = ImportOptions(image_size=(48, 64))
    assert import_recordings(rollout / 'source.mp4', tmp_path / 'dataset', options).episodes == [0]
    assert import_recordings(rollout / 'source.mp4', tmp_path / 'dataset', options).episodes == []
    episode, = Dataset(tmp_path / 'dataset').episodes
    assert episode.images().shape == (37, 48, 64, 3)


def test_every_folder_of_a_folder_is_a_recording(real_data, tmp_path):
    source = real_data / 'bridge_v2_drawer_eval_video'  # with a goal photograph beside them
    found = examine(source, tmp_path / 'dataset', ImportOptions(image_size=(24, 32)))
    assert [Path(finding.name).name for finding in found.findings] == [
        'act_fail', 'act_success', 'crl_success']
    assert [finding.steps for finding in found.findings] == [158, 162, 77]


def test_any_frame_becomes_a_goal_photograph(rollout, tmp_path):
    import_recordings(rollout, tmp_path / 'dataset')
    episode, = Dataset(tmp_path / 'dataset').episodes
    store = GoalStore(tmp_path / 'goals')
    last = save_goal(episode, -1, None, 'done', store)
    np.testing.assert_array_equal(store.load('done').image, episode.image(None, episode.steps))
    assert last.metadata['frame'] == episode.steps
    with pytest.raises(ExchangeError, match='has the frames 0 to 36, not 37'):
        save_goal(episode, 37, None, '', store)
    with pytest.raises(ExchangeError, match='choose one of image_0'):
        save_goal(episode, 0, 'wrist', '', store)


@pytest.mark.parametrize('content', [b'', b'rubbish' * 100])
def test_refuses_a_file_that_is_no_video(tmp_path, content):
    (tmp_path / 'film.mp4').write_bytes(content)
    with pytest.raises(ExchangeError, match='no video that OpenCV can read'):
        import_recordings(tmp_path / 'film.mp4', tmp_path / 'dataset')


def test_refuses_one_picture_and_pictures_of_several_sizes(tmp_path):
    folder = tmp_path / 'pictures'
    folder.mkdir()
    write_image(folder / 'a_1.png', np.zeros((8, 8, 3), np.uint8))
    with pytest.raises(ExchangeError, match='1 images; a recording needs'):
        import_recordings(folder, tmp_path / 'dataset')
    write_image(folder / 'a_2.png', np.ones((9, 8, 3), np.uint8))
    with pytest.raises(ExchangeError, match='changes its size at image 1.*--image-size'):
        import_recordings(folder, tmp_path / 'dataset')
    resized = ImportOptions(image_size=(8, 8))
    assert import_recordings(folder, tmp_path / 'dataset', resized).episodes == [0]
