"""The goal node beside a camera: it warns of a view that differs, refuses what cannot be one."""

import cv2
import numpy as np
import pytest

pytest.importorskip('rclpy')

from goal_bench import Bench
from stable_crl_ros.goals import GoalError, GoalStore
from stable_crl_ros.nodes.conversions import image_to_message
from test_goal_match import moved, room, with_arm


@pytest.fixture
def store(tmp_path):
    store = GoalStore(tmp_path / 'goals')
    store.save('room', room(), {'camera': 'front'})
    store.save('square', room()[:, :240], {})
    store.save('side_view', room(3), {'camera': 'side'})
    return store


def start(ros, store, **values):
    return Bench(ros, store, compare_period=0.1, **values)


def matches(bench):
    """Say whether the node has compared, as far as /diagnostics tells."""
    found = bench.reports.get('view')
    return found and any(pair.key == 'background' for pair in found.values)


def test_a_like_view_is_measured_and_not_warned_of(ros, store, capfd):
    bench = start(ros, store, active_goal='room', camera='front')
    bench.report('view', 'room, not compared: no image on /image_raw yet')
    bench.see(with_arm(room(), 100), lambda: matches(bench))
    status = bench.reports['view']
    assert status.message == 'room' and status.level == b'\0'
    values = {pair.key: pair.value for pair in status.values}
    assert 0.4 < float(values['background']) < 1.0 and float(values['brightness']) == 1.0
    assert 'WARN' not in capfd.readouterr().err


@pytest.mark.parametrize(('view', 'says'), [
    (room(1), 'another view'), (moved(room(), 9, 0), '9 px right of'),
    ((room() * 0.6).astype(np.uint8), 'of the brightness of the goal'),
    (np.zeros((240, 320, 3), np.uint8), 'lens covered')])
def test_a_view_that_differs_is_warned_of_once_with_the_number(ros, store, capfd, view, says):
    bench = start(ros, store, active_goal='room')
    bench.see(view, lambda: (status := bench.reports.get('view')) and says in status.message)
    assert bench.reports['view'].level == b'\1'
    log = capfd.readouterr().err
    assert log.count(says) == 1 and 'goal room: ' in log


def test_a_view_that_is_like_the_goal_again_is_reported(ros, store, capfd):
    bench = start(ros, store, active_goal='room')
    bench.see(room(1), lambda: (s := bench.reports.get('view')) and s.level == b'\1')
    bench.see(room(), lambda: bench.reports['view'].level == b'\0')
    assert 'the view is like it again' in capfd.readouterr().err


def test_what_shows_in_one_comparison_alone_is_not_reported(ros, store, capfd):
    bench = start(ros, store, active_goal='room')
    bench.see(room(), lambda: bench.node._view._found == {} and bench.node._view._match)
    bench.see(room(1), lambda: bench.node._view._found)
    bench.see(room(), lambda: not bench.node._view._found)
    assert 'WARN' not in capfd.readouterr().err


def test_a_goal_that_cannot_be_compared_is_refused_while_a_camera_shows_something(ros, store):
    bench = start(ros, store, active_goal='room', camera='front')
    bench.show(image_to_message(room(), bench.now_ns(), 'camera_optical_frame'))
    assert '240x240 but the camera gives 320x240' in bench.set(active_goal='square')
    assert "taken by camera 'side', and this one is 'front'" in bench.set(active_goal='side_view')
    assert 'goal square: ' in bench.set(goals=['room', 'square'])
    grey = cv2.cvtColor(cv2.cvtColor(room(), cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    store.save('grey', grey, {})
    assert 'grey but the camera gives colours' in bench.set(active_goal='grey')
    assert bench.node.get_parameter('active_goal').value == 'room'


def test_the_node_does_not_start_with_a_goal_of_another_camera(ros, store):
    with pytest.raises(GoalError, match="'side', and this one is 'front'"):
        start(ros, store, active_goal='side_view', camera='front')


def test_a_goal_given_before_the_first_image_is_an_error_once_that_shows_it(ros, store, capfd):
    bench = start(ros, store, active_goal='square')
    bench.see(room(), lambda: (s := bench.reports.get('view')) and s.level == b'\2')
    assert '240x240' in bench.reports['view'].message
    assert capfd.readouterr().err.count('240x240 but the camera gives') == 1


def test_a_captured_goal_names_the_camera_and_its_light(ros, store):
    bench = start(ros, store, camera='front', goal_name='mine')
    bench.show(image_to_message(room(), bench.now_ns(), 'camera_optical_frame'))
    assert bench.capture().success
    metadata = store.load('mine').metadata
    assert (metadata['camera'], metadata['frame_id']) == ('front', 'camera_optical_frame')
    assert metadata['light']['brightness'] == pytest.approx(room().mean(), abs=10)
    assert bench.set(active_goal='mine') == ''


def test_a_covered_lens_is_not_captured(ros, store):
    bench = start(ros, store, goal_name='dark')
    bench.show(image_to_message(np.zeros((240, 320, 3), np.uint8), bench.now_ns()))
    answer = bench.capture()
    assert not answer.success and 'is the lens covered' in answer.message
