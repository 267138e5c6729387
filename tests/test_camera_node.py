"""The camera node over DDS: stamps, ends, absence, and coming back after a failure."""

from pathlib import Path
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

pytest.importorskip('rclpy')

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.exceptions import InvalidParameterValueException
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from stable_crl_ros.cameras import CameraError
from stable_crl_ros.images import write_image
from stable_crl_ros.nodes import camera as camera_module
from stable_crl_ros.nodes.camera import CameraNode
from stable_crl_ros.nodes.common import ERROR, IMAGE_IN, IMAGE_OUT, OK, WARN
from stable_crl_ros.nodes.conversions import message_to_image, to_nanoseconds


def flat(level):
    return np.full((24, 32, 3), (level, 255 - level, 90), np.uint8)


@pytest.fixture
def folder(tmp_path):
    for index in range(4):
        write_image(tmp_path / f'im_{index}.png', flat(50 * index))
    return tmp_path


class Listener:
    """Collect what a camera node publishes."""

    def __init__(self, ros, kind=Image, topic='image_raw', qos=IMAGE_OUT):
        self.messages = []
        ros.node(f'listener_{len(ros._nodes)}').create_subscription(
            kind, topic, self.messages.append, qos)

    def has(self, count):
        """Return whether that many messages came."""
        return lambda: len(self.messages) >= count


def make(ros, injected=None, **values):
    return ros.add(CameraNode(source=injected, context=ros.context,
                              parameter_overrides=ros.parameters(**values)))


def statuses(ros):
    found = []
    ros.node('health').create_subscription(
        DiagnosticArray, '/diagnostics', lambda m: found.extend(m.status), 10)
    return found


def test_publishes_a_folder_as_rgb8_with_the_time_of_capture(ros, folder):
    listener = Listener(ros)
    start_ns = time.time_ns()
    make(ros, source=str(folder), framerate=50.0, frame_id='over_shoulder')
    ros.spin_until(listener.has(5))
    shown = {int(message_to_image(m)[0, 0, 0]) for m in listener.messages}
    stamps = [to_nanoseconds(m.header.stamp) for m in listener.messages]
    assert shown <= {0, 50, 100, 150} and len(shown) >= 3
    assert start_ns <= stamps[0] < stamps[1] < stamps[2] <= time.time_ns()
    assert listener.messages[0].header.frame_id == 'over_shoulder'


def test_camera_info_carries_the_size_and_stamp_of_its_image(ros, folder):
    images, infos = Listener(ros), Listener(ros, CameraInfo, 'camera_info')
    make(ros, source=str(folder), framerate=50.0)
    ros.spin_until(lambda: {to_nanoseconds(m.header.stamp) for m in images.messages}
                   & {to_nanoseconds(m.header.stamp) for m in infos.messages})
    assert (infos.messages[0].width, infos.messages[0].height) == (32, 24)


def test_a_best_effort_subscriber_gets_compressed_images_too(ros, folder):
    listener = Listener(ros, CompressedImage, 'image_raw/compressed', IMAGE_IN)
    make(ros, source=str(folder), framerate=50.0)
    ros.spin_until(listener.has(2))
    assert message_to_image(listener.messages[0]).shape == (24, 32, 3)


def test_a_folder_that_does_not_loop_ends_quietly_and_says_so(ros, folder):
    listener, health = Listener(ros), statuses(ros)
    node = make(ros, source=str(folder), framerate=2.0, loop=False)
    ros.spin_until(lambda: any(s.level == WARN for s in health), what='a warning')
    assert 'all 4 pictures' in next(s.message for s in health if s.level == WARN)
    node._thread.join(timeout=5.0)
    assert not node._thread.is_alive()
    assert 1 <= len(listener.messages) <= 4


@pytest.mark.parametrize(('source', 'reason'), [
    ('/dev/video97', 'does not exist'), ('', 'is no device'), ('/nowhere', 'is no device')])
def test_an_absent_camera_is_refused_at_the_start(ros, source, reason):
    with pytest.raises(CameraError, match=reason):
        CameraNode(context=ros.context, parameter_overrides=ros.parameters(source=source))


@pytest.mark.parametrize('framerate', [-1.0, 1000.0, float('nan'), float('inf')])
def test_a_frame_rate_out_of_range_is_refused(ros, framerate):
    with pytest.raises(InvalidParameterValueException, match='framerate'):
        CameraNode(context=ros.context,
                   parameter_overrides=ros.parameters(source='/dev/null', framerate=framerate))


class Flaky:
    """A simulated camera that can be unplugged."""

    description = 'flaky camera'

    def __init__(self):
        self.plugged = True
        self.closed = False

    def read(self):
        """Return a picture while plugged in."""
        if not self.plugged:
            raise CameraError('gives no more frames; check its cable')
        return time.time_ns(), flat(7)

    def close(self):
        """Remember that it was closed."""
        self.closed = True


def test_a_camera_unplugged_in_mid_run_is_reported_and_comes_back(ros, monkeypatch):
    monkeypatch.setattr(camera_module, 'BACK_OFF_S', (0.05, 0.1))
    listener, health, source = Listener(ros), statuses(ros), Flaky()
    make(ros, source, framerate=50.0)
    ros.spin_until(lambda: any(s.level == OK for s in health), what='a healthy status')
    source.plugged = False
    ros.spin_until(lambda: any(s.level == ERROR and 'cable' in s.message for s in health),
                   what='an error')
    source.plugged = True
    count = len(listener.messages)
    ros.spin_until(listener.has(count + 5), what='images after the failure')
    health.clear()
    ros.spin_until(lambda: any(s.level == OK for s in health), what='a healthy status again')
    values = {v.key: v.value for v in next(s for s in health if s.level == OK).values}
    assert int(values['reconnects']) >= 1


def test_a_folder_that_vanishes_is_reported_and_comes_back(ros, folder, tmp_path):
    frames, away = tmp_path / 'frames', tmp_path / 'away'
    frames.mkdir()
    for picture in folder.glob('*.png'):
        picture.rename(frames / picture.name)
    listener, health = Listener(ros), statuses(ros)
    make(ros, source=str(frames), framerate=20.0)
    ros.spin_until(listener.has(2), what='images')
    frames.rename(away)
    ros.spin_until(lambda: any(s.level == ERROR and str(frames) in s.message for s in health),
                   what='an error')
    away.rename(frames)
    count = len(listener.messages)
    ros.spin_until(listener.has(count + 5), what='images after the failure')


def test_an_injected_source_is_paced_and_left_open(ros):
    source = Flaky()
    listener = Listener(ros)
    node = CameraNode(source=source, context=ros.context,
                      parameter_overrides=ros.parameters(framerate=20.0))
    ros.executor.add_node(node)
    ros.spin_until(listener.has(10))
    stamps = np.array([to_nanoseconds(m.header.stamp) for m in listener.messages])
    ros.executor.remove_node(node)
    node.destroy_node()
    assert not source.closed
    assert np.median(np.diff(stamps)) == pytest.approx(0.05e9, rel=0.3)


class Broken:
    """A source with a bug."""

    description = 'broken camera'

    def read(self):
        """Fail as no camera does."""
        raise KeyError('bug')


def test_a_bug_in_a_source_is_an_error_not_silence(ros):
    health = statuses(ros)
    make(ros, Broken())
    ros.spin_until(lambda: any(s.level == ERROR and 'KeyError' in s.message for s in health))


def test_destroying_the_node_ends_its_thread(ros, folder):
    node = CameraNode(context=ros.context, parameter_overrides=ros.parameters(
        source=str(folder), framerate=0.01))
    node.destroy_node()
    assert not [t for t in threading.enumerate() if t.name == 'capture']


def test_the_process_says_why_it_cannot_start_and_exits_1():
    result = subprocess.run(
        [sys.executable, '-m', 'stable_crl_ros.nodes.camera', '--ros-args', '-p',
         'source:=/dev/video97'], capture_output=True, text=True, timeout=30.0)
    assert result.returncode == 1
    assert 'camera /dev/video97 does not exist' in result.stderr
    assert 'Traceback' not in result.stderr


def test_the_process_runs_with_the_shipped_configuration_and_ends_with_0(ros, folder):
    path = Path(__file__).parents[1] / 'config' / 'camera.yaml'
    process = subprocess.Popen(
        [sys.executable, '-m', 'stable_crl_ros.nodes.camera', '--ros-args', '--params-file',
         str(path), '-p', f'source:={folder}'], stderr=subprocess.PIPE, text=True)
    listener = Listener(ros)
    try:
        ros.spin_until(listener.has(2), 20.0)
    finally:
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=20.0)
    assert process.returncode == 0
    assert 'has no parameter' not in err
