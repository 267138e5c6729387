"""Camera sources: V4L2 device, video file, image folder, network stream; RGB with capture time."""

from pathlib import Path
import re
import threading
import time
from typing import Protocol

import cv2
import numpy as np
from stable_crl_ros.images import ImageError, read_image

DEVICE_RATE = 30.0  # Hz
FOLDER_RATE = 5.0  # Hz, BridgeData's control rate
STREAM_SCHEMES = ('rtsp://', 'rtsps://', 'http://', 'https://')
STREAM_TIMEOUT_MS = 5000
PICTURE_SUFFIXES = ('.png', '.jpg', '.jpeg', '.bmp')


class CameraError(RuntimeError):
    """A camera that cannot be opened or gives no image; the message lists what there is."""


class CameraEndedError(CameraError):
    """A recording has been played to its end."""


class Source(Protocol):
    """
    Where images come from.

    `description` names it in logs; `live` says whether opening it again may help after an error.
    """

    description: str
    live: bool

    def read(self) -> tuple[int, np.ndarray]:
        """
        Wait for the next image.

        :returns: capture time, ns of the system clock; uint8 RGB, shape (H, W, 3).
        :raises CameraError: when none came; CameraEndedError when none will ever come.
        """

    def close(self) -> None:
        """Release the device and wake a waiting `read`."""


def open_source(source: str, framerate: float = 0.0, width: int = 0, height: int = 0,
                loop: bool = True) -> Source:
    """
    Open what a string names.

    :param source: '/dev/v4l/by-id/...', '/dev/video0' or '0'; a folder of pictures; a video file;
        or the address of a network stream.
    :param framerate: Hz; 0 for the source's own (device 30, folder 5).
    :param width: columns asked of a device, pixels; 0 for its own. Other sources keep theirs.
    :param height: rows asked of a device, pixels.
    :param loop: whether a video or a folder starts again at its end.
    :raises CameraError: when it is nothing of these; lists the devices that exist.
    """
    if source.startswith(STREAM_SCHEMES):
        return StreamSource(source, framerate)
    if source.isdigit():
        source = f'/dev/video{source}'
    path = Path(source).expanduser()
    if str(path).startswith('/dev/'):
        return DeviceSource(path, framerate or DEVICE_RATE, width, height)
    if source and path.is_dir():
        return FolderSource(path, framerate or FOLDER_RATE, loop)
    if source and path.is_file():
        return VideoSource(path, framerate, loop)
    raise CameraError(f'camera source {source!r} is no device, folder, video file or stream '
                      f'address; {list_devices()}')


def list_devices(root: str | Path = '/dev') -> str:
    """Say which cameras are plugged in, by their lasting names where udev made some."""
    root = Path(root)
    lasting = sorted((root / 'v4l' / 'by-id').glob('*'))
    plain = sorted(root.glob('video[0-9]*'), key=_natural)
    if not plain:
        return 'no V4L2 device exists on this machine; plug the camera in and check `lsusb`'
    names = [*(f'{path} ({path.resolve().name})' for path in lasting), *map(str, plain)]
    return f'devices: {", ".join(names)}'


class _Paced:
    # Keeps a rate without drift; after a delay it goes on from now and never catches up.
    def __init__(self, rate: float) -> None:
        self._period = 1.0 / rate
        self._due = time.monotonic()
        self._ended = threading.Event()

    def _wait(self) -> None:
        if self._ended.wait(max(0.0, self._due - time.monotonic())):
            raise CameraError('closed')
        now = time.monotonic()
        self._due = (now if now > self._due + self._period else self._due) + self._period

    def close(self) -> None:
        """Wake a waiting `read`."""
        self._ended.set()


class PacedSource(_Paced):
    """
    Give a source that answers at once (a simulated camera) a frame rate.

    :param source: has `description` and `read`; stays open when this is closed.
    """

    live = True

    def __init__(self, source, framerate: float) -> None:
        super().__init__(framerate)
        self.description = f'{source.description}, {framerate:g} Hz'
        self._source = source

    def read(self) -> tuple[int, np.ndarray]:
        """Wait for the next turn, then read."""
        self._wait()
        return self._source.read()


class FolderSource(_Paced):
    """
    Replay a folder's pictures in the natural order of their names (im_2 before im_10).

    One that loops stands for a camera: after an error it may be opened again.

    :raises CameraError: when the folder holds no picture.
    """

    def __init__(self, folder: Path, framerate: float, loop: bool) -> None:
        self._paths = sorted((p for p in folder.iterdir()
                              if p.suffix.lower() in PICTURE_SUFFIXES), key=_natural)
        if not self._paths:
            raise CameraError(f'{folder} holds no picture; it needs {", ".join(PICTURE_SUFFIXES)}')
        self.description = f'{len(self._paths)} pictures of {folder}, {framerate:g} Hz'
        self._loop = self.live = loop
        self._next = 0
        super().__init__(framerate)

    def read(self) -> tuple[int, np.ndarray]:
        """Return the next picture when its turn comes."""
        if self._next == len(self._paths):
            if not self._loop:
                raise CameraEndedError(f'all {self.description} were shown')
            self._next = 0
        self._wait()
        path = self._paths[self._next]
        self._next += 1
        try:
            return time.time_ns(), read_image(path)
        except ImageError as error:
            raise CameraError(str(error)) from error


class VideoSource(_Paced):
    """
    Replay a video file; one that loops stands for a camera, as a folder does.

    :raises CameraError: when OpenCV cannot read it.
    """

    def __init__(self, path: Path, framerate: float, loop: bool) -> None:
        self._path = path
        self._loop = self.live = loop
        self._capture = self._open()
        rate = framerate or self._capture.get(cv2.CAP_PROP_FPS)
        if not 0.01 <= rate <= 1000.0:
            raise CameraError(f'{path} names no frame rate; set framerate')
        self.description = f'video {path}, {rate:g} Hz'
        super().__init__(rate)
        self._shown = 0

    def _open(self) -> cv2.VideoCapture:
        capture = cv2.VideoCapture(str(self._path))
        if not capture.isOpened():
            raise CameraError(f'{self._path} is no video that OpenCV can read; convert it to '
                              'H.264 or MJPG, or give a folder of pictures')
        return capture

    def read(self) -> tuple[int, np.ndarray]:
        """Return the next frame when its turn comes."""
        self._wait()
        done, frame = self._capture.read()
        if not done and self._shown and self._loop:
            self._capture = self._open()  # seeking back is inexact with many codecs
            done, frame = self._capture.read()
        if not done and not self._shown:
            raise CameraError(f'{self._path} holds no frame that OpenCV can decode')
        if not done:
            raise CameraEndedError(f'{self.description}: all {self._shown} frames were shown')
        self._shown += 1
        return time.time_ns(), cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)


class _LiveCapture:
    # Frames above the wanted rate are grabbed and dropped: the buffer must never fill.
    live = True

    def __init__(self, capture: cv2.VideoCapture, description: str, framerate: float) -> None:
        self._capture = capture
        self.description = description
        self._closed = False
        self._interval_ns = int(0.9e9 / framerate) if framerate else 0
        self._newest_ns = 0

    def read(self) -> tuple[int, np.ndarray]:
        """Wait for the next frame."""
        while not self._closed:
            if not self._capture.grab():
                raise CameraError(f'{self.description} gives no more frames; check its cable')
            stamp_ns = self._capture_time()
            if not 0 <= stamp_ns - self._newest_ns < self._interval_ns:
                break
        else:
            raise CameraError('closed')
        done, frame = self._capture.retrieve()
        if not done:
            raise CameraError(f'{self.description} sent a frame that cannot be decoded')
        self._newest_ns = stamp_ns
        return stamp_ns, cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)

    def _capture_time(self) -> int:
        return time.time_ns()

    def close(self) -> None:
        """End `read`; the device is released with the object, never under a running `read`."""
        self._closed = True


class DeviceSource(_LiveCapture):
    """
    A V4L2 camera in MJPG, which every USB 2 port can carry; what it granted is read back.

    :raises CameraError: when the device is absent, busy or no camera; lists what exists.
    """

    def __init__(self, path: Path, framerate: float, width: int, height: int) -> None:
        if not path.exists():
            raise CameraError(f'camera {path} does not exist; {list_devices()}')
        # OpenCV knows devices by number only.
        capture = cv2.VideoCapture(_device_number(path), cv2.CAP_V4L2)
        if not capture.isOpened():
            raise CameraError(
                f'camera {path} cannot be opened: another program uses it, it is no capture '
                f'device, or you are not in the group `video`; {list_devices()}')
        capture.set(cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*'MJPG'))
        wishes = {cv2.CAP_PROP_FRAME_WIDTH: width, cv2.CAP_PROP_FRAME_HEIGHT: height,
                  cv2.CAP_PROP_FPS: framerate, cv2.CAP_PROP_BUFFERSIZE: 1}
        for quantity, wanted in wishes.items():
            if wanted:
                capture.set(quantity, wanted)
        super().__init__(capture, f'{path} {_granted(capture)}', framerate)

    def _capture_time(self) -> int:
        # V4L2 stamps a frame on the monotonic clock when it arrived; OpenCV hands that on.
        now_ns, monotonic_ns = time.time_ns(), time.monotonic_ns()
        age_ns = monotonic_ns - int(self._capture.get(cv2.CAP_PROP_POS_MSEC) * 1e6)
        return now_ns - age_ns if 0 <= age_ns < 10 ** 9 else now_ns


class StreamSource(_LiveCapture):
    """A network camera (RTSP, HTTP); its frames carry the time they arrived."""

    def __init__(self, address: str, framerate: float) -> None:
        shown = re.sub(r'//[^/@]*@', '//', address)  # logs hold no password
        capture = cv2.VideoCapture(address, cv2.CAP_FFMPEG, [
            cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, STREAM_TIMEOUT_MS,
            cv2.CAP_PROP_READ_TIMEOUT_MSEC, STREAM_TIMEOUT_MS])
        if not capture.isOpened():
            raise CameraError(f'{shown} does not answer; check address, user and network')
        super().__init__(capture, shown, framerate)


def _device_number(path: Path) -> int:
    match = re.fullmatch(r'video(\d+)', path.resolve().name)
    if match is None:
        raise CameraError(f'{path} is no camera; {list_devices()}')
    return int(match[1])


def _granted(capture: cv2.VideoCapture) -> str:
    code = int(capture.get(cv2.CAP_PROP_FOURCC))
    letters = ''.join(chr((code >> shift) & 255) for shift in (0, 8, 16, 24))
    width, height, rate = (capture.get(quantity) for quantity in (
        cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT, cv2.CAP_PROP_FPS))
    return f'{letters} {width:g}x{height:g} {rate:g} Hz'


def _natural(path: Path) -> list:
    return [(int(part), '') if part.isdigit() else (-1, part)
            for part in re.split(r'(\d+)', path.name)]
