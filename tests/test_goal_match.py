"""How like a goal is to the view: what is noticed, what is not, and what cannot be compared."""

import math

import cv2
import numpy as np
import pytest
from stable_crl_ros import SHIPPED_GOALS
from stable_crl_ros.goal_match import (
    compare_views,
    incomparable,
    is_black,
    is_grey,
    light,
    other_camera,
    other_proportions,
)
from stable_crl_ros.images import read_image


def room(seed=0, height=240, width=320):
    """Draw a scene of boxes and lines of many colours."""
    rng = np.random.default_rng(seed)
    image = np.full((height, width, 3), 150, np.uint8)
    for _ in range(60):
        corner, size = rng.integers((0, 0), (width, height)), rng.integers(10, 60, 2)
        colour = tuple(int(value) for value in rng.integers(30, 200, 3))
        cv2.rectangle(image, corner, corner + size, colour, -1)
    return image


def with_arm(image, column):
    """Put a dark arm before a quarter of the picture."""
    image = image.copy()
    image[:180, column:column + 80] = (20, 20, 25)
    return image


def moved(image, right, down):
    return np.roll(image, (down, right), axis=(0, 1))


def test_the_same_view_is_alike_whatever_the_arm_does():
    match = compare_views(with_arm(room(), 20), with_arm(room(), 200))
    assert match.differences() == {}
    assert 0.25 < match.background < 0.9
    assert math.hypot(*match.shift) < 1.0
    assert match.brightness == pytest.approx(1.0, abs=0.02)


def test_a_picture_matches_itself_at_any_size():
    small = cv2.resize(room(), (64, 48), interpolation=cv2.INTER_AREA)
    assert compare_views(room(), room()).background == 1.0
    assert compare_views(room(), small).differences() == {}
    assert compare_views(small, room()).differences() == {}


def test_another_scene_is_told_by_its_background():
    found = compare_views(room(0), room(1)).differences()
    assert list(found) == ['background']
    assert 'another view' in found['background']


@pytest.mark.parametrize(('right', 'down', 'says'), [
    (8, 0, '8 px right of'), (-5, 4, '5 px left and 4 px down of'), (0, -10, '10 px up of'),
    (20, 12, '20 px right and 12 px down of')])
def test_a_camera_that_was_moved_is_told_in_pixels(right, down, says):
    match = compare_views(with_arm(room(), 20), with_arm(moved(room(), right, down), 200))
    assert match.shift == pytest.approx((right, down), abs=1.0)
    assert says in match.differences()['shift']


def test_pixels_are_those_of_the_view_not_of_the_goal():
    view = cv2.resize(moved(room(), 8, 0), (640, 480), interpolation=cv2.INTER_LINEAR)
    assert compare_views(room(), view).shift == pytest.approx((16, 0), abs=2.0)


@pytest.mark.parametrize(('gain', 'kind'), [
    ((0.6, 0.6, 0.6), 'brightness'), ((1.25, 1.25, 1.25), 'brightness'),
    ((1.25, 1.0, 1.0), 'colour'), ((1.0, 1.0, 0.75), 'colour')])
def test_other_light_is_told_apart_from_other_colours(gain, kind):
    view = (with_arm(room(), 200) * np.array(gain)).clip(0, 255).astype(np.uint8)
    match = compare_views(with_arm(room(), 20), view)
    assert list(match.differences()) == [kind]
    if kind == 'brightness':
        assert match.brightness == pytest.approx(gain[0], abs=0.05)
        assert f'{match.brightness:.0%}' in match.differences()[kind]


def test_a_goal_without_structure_is_not_compared():
    found = compare_views(np.full((48, 64, 3), 99, np.uint8), room()).differences()
    assert list(found) == ['structure']


def test_a_black_view_is_no_match_and_no_crash():
    assert list(compare_views(room(), np.zeros((240, 320, 3), np.uint8)).differences()) \
        == ['background']


@pytest.mark.parametrize('shape', [(1, 1, 3), (3, 4000, 3), (4000, 3, 3), (15, 20, 3)])
def test_pictures_of_any_shape_are_compared_without_a_crash(shape):
    image = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    compare_views(image, image).differences()


@pytest.mark.parametrize(('goal', 'view', 'says'), [
    ((480, 640), (240, 320), ''), ((480, 640), (479, 640), ''), ((480, 640), (488, 640), ''),
    ((480, 640), (500, 640), '640x480 but the camera gives 640x500'),
    ((256, 256), (480, 640), '256x256 but the camera gives 640x480'),
    ((640, 480), (480, 640), '480x640 but')])
def test_other_proportions_are_told_beyond_a_small_tolerance(goal, view, says):
    assert says in other_proportions(goal, view) and bool(other_proportions(goal, view)) \
        == bool(says)


@pytest.mark.parametrize(('taken_by', 'camera', 'frame_id', 'same'), [
    ('front', 'front', 'camera_optical_frame', True), ('front', 'side', 'front', True),
    (None, 'front', 'x', True), ('', 'front', 'x', True), ('front', '', '', True),
    ('front', 'side', 'camera_optical_frame', False), ('front', 'side', None, False),
    ('camera_optical_frame', 'side', None, True), ('camera_optical_frame', 'side', 'x', False)])
def test_a_goal_of_another_camera_is_told_by_its_name_or_frame(taken_by, camera, frame_id, same):
    assert (other_camera(taken_by, camera, frame_id) == '') == same


def test_what_cannot_be_compared_says_why():
    grey = cv2.cvtColor(cv2.cvtColor(room(), cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    assert incomparable(room(), room()) == incomparable(grey, grey) == ''
    assert 'grey but the camera gives colours' in incomparable(grey, room())
    assert 'coloured but the camera grey' in incomparable(room(), grey)
    assert 'px' not in incomparable(room(), room()[:, :100])
    assert "camera 'front'" in incomparable(room(), room(), 'front', 'side')


def test_black_and_grey_pictures_are_known():
    noise = np.random.default_rng(0).integers(0, 12, (48, 64, 3), np.uint8)
    assert is_black(noise) and not is_black(room())
    assert not is_grey(room()) and is_grey(np.full((48, 64, 3), 99, np.uint8))


def test_light_is_measured():
    image = np.zeros((10, 10, 3), np.uint8)
    image[:5] = 255
    assert light(image) == {'brightness': 127.5, 'clipped': 0.5, 'colour': [127.5, 127.5, 127.5]}


def test_real_goals_and_rollouts_of_one_drawer_are_alike_and_other_scenes_are_not(real_data):
    drawer = real_data / 'bridge_v2_drawer_eval_video'
    goal = read_image(drawer / 'goal.png')
    for rollout in ('act_fail', 'act_success', 'crl_success'):
        for path in sorted((drawer / rollout).glob('im_*.jpg'))[::25]:
            assert compare_views(goal, read_image(path)).differences() == {}, path
    for folder in sorted((real_data / 'bridge_trajectories_video').iterdir()):
        path = next(folder.glob('im_*.jpg'))
        assert 'background' in compare_views(goal, read_image(path)).differences(), path


def test_the_shipped_goals_are_alike_where_only_the_drawer_moved():
    drawer = [read_image(path) for path in sorted(SHIPPED_GOALS.glob('drawer_*.png'))]
    for goal in drawer:
        assert all(compare_views(goal, other).differences() == {} for other in drawer)
