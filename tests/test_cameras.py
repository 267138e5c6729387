"""Camera sources on real files and sockets: what they give, how they end, what they refuse."""

from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
import threading
import time

import cv2
import numpy as np
import pytest
from stable_crl_ros.cameras import (
    CameraEndedError,
    CameraError,
    list_devices,
    open_source,
    PacedSource,
)
from stable_crl_ros.images import encode_image, write_image

FAST = 200.0  # Hz, so that tests do not wait


def flat(level, height=32, width=48):
    return np.full((height, width, 3), (level, 255 - level, 90), np.uint8)


def write_pictures(folder, levels, suffix='.png'):
    folder.mkdir(exist_ok=True)
    for index, level in enumerate(levels):
        write_image(folder / f'im_{index}{suffix}', flat(level))
    return folder


@pytest.fixture
def video(tmp_path):
    path = tmp_path / 'clip.avi'
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*'MJPG'), 40.0, (48, 32))
    for level in (10, 120, 240):
        writer.write(cv2.cvtColor(flat(level), cv2.COLOR_RGB2BGR))
    writer.release()
    return path


def levels(source, count):
    return [int(source.read()[1][0, 0, 0]) for _ in range(count)]


def test_a_folder_is_shown_in_the_natural_order_of_its_names(tmp_path):
    folder = write_pictures(tmp_path / 'episode', range(0, 240, 20))  # im_0 .. im_11
    assert levels(open_source(str(folder), FAST), 12) == list(range(0, 240, 20))


def test_a_folder_starts_again_when_it_loops(tmp_path):
    folder = write_pictures(tmp_path / 'episode', [1, 2])
    assert levels(open_source(str(folder), FAST, loop=True), 5) == [1, 2, 1, 2, 1]


def test_a_folder_ends_when_it_does_not_loop(tmp_path):
    source = open_source(str(write_pictures(tmp_path / 'episode', [1, 2])), FAST, loop=False)
    levels(source, 2)
    with pytest.raises(CameraEndedError, match='all 2 pictures'):
        source.read()


def test_a_folder_keeps_its_rate_and_stamps_the_time_of_showing(tmp_path):
    folder = str(write_pictures(tmp_path / 'episode', range(6)))
    before_ns = time.time_ns()
    source = open_source(folder, 25.0)
    stamps = [source.read()[0] for _ in range(6)]
    assert before_ns <= stamps[0] <= stamps[-1] <= time.time_ns()
    assert stamps[-1] - before_ns >= 0.19e9  # five periods of 40 ms


def test_does_not_catch_up_after_a_delay(tmp_path):
    source = open_source(str(write_pictures(tmp_path / 'episode', range(6))), 20.0)
    source.read()
    time.sleep(0.3)
    late_ns = time.time_ns()
    source.read()
    assert source.read()[0] - late_ns >= 0.04e9


def test_a_folder_without_pictures_is_refused(tmp_path):
    (tmp_path / 'notes.txt').write_text('nothing to see')
    with pytest.raises(CameraError, match='holds no picture'):
        open_source(str(tmp_path))


def test_a_broken_picture_in_a_folder_is_named(tmp_path):
    folder = write_pictures(tmp_path / 'episode', [1, 2])
    (folder / 'im_1.png').write_bytes(b'no picture')
    source = open_source(str(folder), FAST)
    source.read()
    with pytest.raises(CameraError, match='im_1.png: not a readable image'):
        source.read()


def test_a_video_is_shown_in_rgb_at_its_own_rate(video):
    begun_ns = time.time_ns()
    source = open_source(str(video))
    assert '40 Hz' in source.description
    stamp_ns, image = source.read()
    assert np.abs(image.astype(int) - flat(10)).max() <= 8
    assert begun_ns <= stamp_ns <= time.time_ns()


def test_a_video_starts_again_when_it_loops(video):
    shown = levels(open_source(str(video), FAST, loop=True), 7)
    np.testing.assert_allclose(shown, [10, 120, 240, 10, 120, 240, 10], atol=8)


def test_a_video_ends_when_it_does_not_loop(video):
    source = open_source(str(video), FAST, loop=False)
    levels(source, 3)
    with pytest.raises(CameraEndedError, match='all 3 frames'):
        source.read()


def test_a_file_that_is_no_video_is_refused(tmp_path):
    (tmp_path / 'clip.mp4').write_bytes(b'not a video')
    with pytest.raises(CameraError, match='no video that OpenCV can read'):
        open_source(str(tmp_path / 'clip.mp4'))


@pytest.mark.parametrize('source', ['/dev/video97', '97', '/dev/v4l/by-id/usb-unplugged'])
def test_an_absent_device_is_refused_with_the_devices_there_are(source):
    with pytest.raises(CameraError, match='does not exist; (devices: |no V4L2 device exists)'):
        open_source(source)


def test_a_device_that_is_no_camera_is_refused():
    with pytest.raises(CameraError, match='/dev/null is no camera'):
        open_source('/dev/null')


@pytest.mark.parametrize('source', ['', '/nowhere/at/all', 'webcam'])
def test_a_source_that_is_nothing_is_refused_by_name(source):
    with pytest.raises(CameraError, match=f"'{source}' is no device, folder, video"):
        open_source(source)


def test_devices_are_listed_by_their_lasting_names_first(tmp_path):
    for number in (10, 2):
        (tmp_path / f'video{number}').touch()
    lasting = tmp_path / 'v4l' / 'by-id'
    lasting.mkdir(parents=True)
    (lasting / 'usb-046d_C920-video-index0').symlink_to(tmp_path / 'video2')
    found = list_devices(tmp_path)
    assert found.index('C920-video-index0 (video2)') < found.index(f'{tmp_path}/video2')
    assert found.index(f'{tmp_path}/video2') < found.index(f'{tmp_path}/video10')


def test_closing_wakes_a_source_that_waits(tmp_path):
    source = open_source(str(write_pictures(tmp_path / 'episode', [1, 2])), 0.01)
    source.read()
    threading.Timer(0.1, source.close).start()
    start = time.monotonic()
    with pytest.raises(CameraError, match='closed'):
        source.read()
    assert time.monotonic() - start < 50.0  # a picture's turn comes every 100 s


class Counter:
    """Answer at once with a picture that counts."""

    description = 'counter'

    def __init__(self):
        self.count = 0

    def read(self):
        """Return the next picture."""
        self.count += 1
        return time.time_ns(), flat(self.count)


def test_a_source_that_answers_at_once_is_slowed_to_the_frame_rate():
    source = PacedSource(Counter(), 50.0)
    start = time.monotonic()
    assert levels(source, 6) == [1, 2, 3, 4, 5, 6]
    assert time.monotonic() - start >= 0.09


class StreamHandler(BaseHTTPRequestHandler):
    """Serve an endless MJPEG stream, as network cameras do."""

    def do_GET(self):
        """Send frames until the client goes or the server ends."""
        self.send_response(200)
        self.send_header('Content-Type', 'multipart/x-mixed-replace; boundary=frame')
        self.end_headers()
        data = encode_image(flat(200, 64, 64), '.jpg')
        try:
            for _ in range(self.server.frames):
                self.wfile.write(b'--frame\r\nContent-Type: image/jpeg\r\nContent-Length: '
                                 + str(len(data)).encode() + b'\r\n\r\n' + data + b'\r\n')
                time.sleep(0.01)
        except OSError:
            pass

    def log_message(self, *args):
        """Keep quiet."""


@pytest.fixture
def stream():
    server = ThreadingHTTPServer(('127.0.0.1', 0), StreamHandler)
    server.frames = 60
    thread = threading.Thread(target=server.serve_forever, kwargs={'poll_interval': 0.05})
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_network_stream_is_read_and_its_end_is_an_error_one_can_retry(stream):
    begun_ns = time.time_ns()
    source = open_source(f'http://user:secret@127.0.0.1:{stream.server_port}/stream.mjpg')
    stamp_ns, image = source.read()
    assert np.abs(image.astype(int) - flat(200, 64, 64)).max() <= 8
    assert begun_ns <= stamp_ns <= time.time_ns()
    assert source.live
    assert 'secret' not in source.description
    with pytest.raises(CameraError, match='gives no more frames'):
        for _ in range(200):
            source.read()


def test_frames_above_the_wanted_rate_are_dropped(stream):
    source = open_source(f'http://127.0.0.1:{stream.server_port}/stream.mjpg', framerate=20.0)
    stamps = np.array([source.read()[0] for _ in range(4)])
    assert np.diff(stamps).min() >= 0.045e9


def test_a_closed_stream_gives_no_more(stream):
    source = open_source(f'http://127.0.0.1:{stream.server_port}/stream.mjpg')
    source.close()
    with pytest.raises(CameraError, match='closed'):
        source.read()


def test_a_stream_that_nobody_serves_is_refused():
    with pytest.raises(CameraError, match='does not answer'):
        open_source('http://127.0.0.1:9/stream.mjpg')
