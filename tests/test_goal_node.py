"""The goal node over DDS: the latched goal, selecting and capturing one, and every refusal."""

import json
from pathlib import Path
import re
import signal
import subprocess
import sys

import cv2
import numpy as np
import pytest

pytest.importorskip('rclpy')

from geometry_msgs.msg import PoseStamped
from goal_bench import Bench
from sensor_msgs.msg import Image
from stable_crl_ros.goals import GoalError, GoalStore
from stable_crl_ros.images import write_image
from stable_crl_ros.nodes.common import LATCHED
from stable_crl_ros.nodes.conversions import (
    image_to_compressed,
    image_to_message,
    message_to_image,
    to_stamp,
)


def halves(level, height=24, width=32):
    """Return a picture whose right half is brighter than its left one."""
    image = np.full((height, width, 3), (level // 2, 127 - level // 2, 45), np.uint8)
    image[:, width // 2:] += 40
    return image


@pytest.fixture
def store(tmp_path):
    store = GoalStore(tmp_path / 'goals')
    store.save('drawer_open', halves(10), {})
    store.save('drawer_shut', halves(200), {'stamp_ns': 5_000_000_007})
    return store


def test_a_late_joiner_gets_the_active_goal_pixel_by_pixel(ros, store):
    goals = Bench(ros, store, active_goal='drawer_shut').listen()
    ros.spin_until(lambda: goals)
    np.testing.assert_array_equal(message_to_image(goals[0]), halves(200))
    assert goals[0].header.frame_id == 'drawer_shut'
    assert (goals[0].header.stamp.sec, goals[0].header.stamp.nanosec) == (5, 7)


def test_setting_the_active_goal_publishes_it(ros, store):
    bench = Bench(ros, store, active_goal='drawer_shut')
    goals = bench.listen()
    assert bench.set(active_goal='drawer_open.png') == ''
    ros.spin_until(lambda: goals and goals[-1].header.frame_id == 'drawer_open')


def test_no_goal_is_published_before_one_is_chosen(ros, store):
    goals = Bench(ros, store).listen()
    ros.spin_for(0.5)
    assert goals == []


def test_an_unknown_goal_is_refused_with_the_goals_there_are(ros, store):
    bench = Bench(ros, store, active_goal='drawer_open')
    reason = bench.set(active_goal='drawer_opne')
    assert "'drawer_opne' not found" in reason
    assert 'drawer_open' in reason and 'drawer_shut' in reason
    assert bench.node.get_parameter('active_goal').value == 'drawer_open'


def test_what_is_no_picture_or_no_path_is_refused_as_goal(ros, store, tmp_path):
    bench = Bench(ros, store, active_goal='drawer_open')
    cv2.imwrite(str(tmp_path / 'alpha.png'), np.zeros((8, 8, 4), np.uint8))
    (tmp_path / 'broken.png').write_bytes(b'no picture')
    assert 'no such user' in bench.set(goal_directory='~nobody_here/goals')
    assert 'too long' in bench.set(active_goal='x' * 300)
    assert '4 channels' in bench.set(active_goal=str(tmp_path / 'alpha.png'))
    assert 'not a readable image' in bench.set(active_goal=str(tmp_path / 'broken.png'))


def test_a_published_goal_cannot_be_unset(ros, store):
    bench = Bench(ros, store, active_goal='drawer_open')
    assert 'cannot be taken back' in bench.set(active_goal='')


def test_the_node_does_not_start_with_a_goal_that_is_missing(ros, store):
    with pytest.raises(GoalError, match='drawer_open, drawer_shut'):
        Bench(ros, store, active_goal='nothing')


def test_a_goal_name_that_is_no_file_name_is_refused(ros, store):
    assert 'not valid' in Bench(ros, store).set(goal_name='../secret')


def test_an_age_out_of_range_is_refused(ros, store):
    assert 'out of range' in Bench(ros, store).set(max_image_age=-1.0)


@pytest.mark.parametrize('transport', ['raw', 'compressed'])
def test_captures_the_newest_image_with_its_stamp_and_the_arms_pose(ros, store, transport):
    bench = Bench(ros, store, goal_name='cup_left', image_transport=transport)
    stamp_ns = bench.now_ns()
    pose = PoseStamped()
    pose.header.stamp = to_stamp(stamp_ns)
    pose.pose.position.x, pose.pose.orientation.w = 0.25, 1.0
    ros.spin_until(lambda: bench.arm.get_subscription_count() > 0)
    bench.arm.publish(pose)
    ros.spin_until(lambda: bench.node._pose is not None)
    wrap = image_to_message if transport == 'raw' else image_to_compressed
    bench.show(wrap(halves(77), stamp_ns, 'over_shoulder'))
    answer = bench.capture()
    assert answer.success, answer.message
    goal = store.load('cup_left')
    assert str(goal.path) in answer.message
    assert np.abs(goal.image.astype(int) - halves(77)).max() <= (0 if transport == 'raw' else 3)
    assert goal.metadata['stamp_ns'] == stamp_ns
    assert goal.metadata['camera'] == 'over_shoulder'
    assert goal.metadata['ee_pose'] == [0.25, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0]
    assert json.loads(goal.path.with_suffix('.json').read_text())['sha256'] == goal.sha256


def test_a_capture_without_a_name_counts(ros, store):
    bench = Bench(ros, store)
    bench.show(image_to_message(halves(1), bench.now_ns()))
    assert 'captured goal_0001' in bench.capture().message
    assert 'captured goal_0002' in bench.capture().message


def test_a_pose_of_another_moment_is_not_recorded(ros, store):
    bench = Bench(ros, store)
    pose = PoseStamped()
    pose.header.stamp = to_stamp(bench.now_ns() - 2_000_000_000)
    ros.spin_until(lambda: bench.arm.get_subscription_count() > 0)
    bench.arm.publish(pose)
    ros.spin_until(lambda: bench.node._pose is not None)
    bench.show(image_to_message(halves(1), bench.now_ns()))
    bench.capture()
    assert store.load('goal_0001').metadata['ee_pose'] is None


def test_capturing_refuses_when_no_image_has_come(ros, store):
    answer = Bench(ros, store).capture()
    assert not answer.success
    assert 'no image on /image_raw yet' in answer.message


@pytest.mark.parametrize(('age_s', 'reason'), [
    (3.0, ' s old; max_image_age is 1.00 s'), (-60.0, 'stamped in the future')])
def test_capturing_refuses_an_image_of_another_time(ros, store, age_s, reason):
    bench = Bench(ros, store, max_image_age=1.0)
    bench.show(image_to_message(halves(1), bench.now_ns() - int(age_s * 1e9)))
    answer = bench.capture()
    assert not answer.success
    assert re.search(reason, answer.message), answer.message


def test_capturing_refuses_images_without_a_stamp(ros, store):
    bench = Bench(ros, store)
    bench.show(image_to_message(halves(1), 0))
    assert 'carry no stamp' in bench.capture().message


def test_capturing_refuses_an_unknown_encoding_by_name(ros, store):
    bench = Bench(ros, store)
    message = image_to_message(halves(1), bench.now_ns())
    message.encoding = 'bayer_rggb8'
    bench.show(message)
    answer = bench.capture()
    assert not answer.success
    assert "/image_raw: encoding 'bayer_rggb8' is not supported" in answer.message


def test_capturing_never_overwrites_a_goal(ros, store):
    bench = Bench(ros, store, goal_name='drawer_open')
    bench.show(image_to_message(halves(1), bench.now_ns()))
    answer = bench.capture()
    assert not answer.success
    assert "'drawer_open' exists" in answer.message
    np.testing.assert_array_equal(store.load('drawer_open').image, halves(10))


def test_an_image_from_the_future_does_not_hide_the_right_ones(ros, store):
    bench = Bench(ros, store)
    bench.show(image_to_message(halves(1), bench.now_ns() + 60_000_000_000))
    bench.show(image_to_message(halves(2), bench.now_ns()))
    assert bench.capture().success
    np.testing.assert_array_equal(store.load('goal_0001').image, halves(2))


def test_an_older_image_that_arrives_late_is_not_taken(ros, store):
    bench = Bench(ros, store)
    now_ns = bench.now_ns()
    bench.show(image_to_message(halves(2), now_ns))
    bench.show(image_to_message(halves(1), now_ns - 100_000_000))
    bench.capture()
    np.testing.assert_array_equal(store.load('goal_0001').image, halves(2))


def test_the_process_says_which_goals_exist_and_exits_1(store, tmp_path):
    write_image(tmp_path / 'other.png', halves(1))
    result = subprocess.run(
        [sys.executable, '-m', 'stable_crl_ros.nodes.goal', '--ros-args', '-p',
         f'goal_directory:={store.directory}', '-p', 'active_goal:=missing'],
        capture_output=True, text=True, timeout=30.0)
    assert result.returncode == 1
    assert 'drawer_open, drawer_shut' in result.stderr
    assert 'Traceback' not in result.stderr


def test_the_process_runs_with_the_shipped_configuration_and_ends_with_0(store, ros):
    path = Path(__file__).parents[1] / 'config' / 'goal.yaml'
    process = subprocess.Popen(
        [sys.executable, '-m', 'stable_crl_ros.nodes.goal', '--ros-args', '--params-file',
         str(path), '-p', f'goal_directory:={store.directory}', '-p', 'active_goal:=drawer_open'],
        stderr=subprocess.PIPE, text=True)
    goals = []
    ros.node().create_subscription(Image, 'goal/image', goals.append, LATCHED)
    try:
        ros.spin_until(lambda: goals, 20.0)
    finally:
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=20.0)
    assert process.returncode == 0
    assert 'has no parameter' not in err
