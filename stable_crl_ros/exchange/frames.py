"""Videos and folders of pictures: recordings without actions, for goals and evaluation."""

from functools import partial
from pathlib import Path
import re

import cv2
import numpy as np
from stable_crl_ros.cameras import PICTURE_SUFFIXES
from stable_crl_ros.data.schema import EpisodeMeta, Mode
from stable_crl_ros.exchange.bridge import CONTROL_RATE
from stable_crl_ros.exchange.options import ImportOptions
from stable_crl_ros.exchange.recording import ExchangeError, Item, Pictures, Recording

LAYOUT = 'a video, a folder of pictures, or a folder of such folders and videos; no actions'
VIDEO_SUFFIXES = ('.mp4', '.avi', '.mov', '.mkv', '.webm', '.gif')
SUFFIXES = VIDEO_SUFFIXES
PATTERNS = tuple(f'{folder}*{suffix}' for folder in ('', '*/')
                 for suffix in (*PICTURE_SUFFIXES, *VIDEO_SUFFIXES))
CAMERA = 'image_0'


def find(source: Path, options: ImportOptions) -> list[Item]:
    """
    List the videos and folders of pictures.

    Where folders hold some, pictures beside these folders are none of their frames. Where a
    folder holds pictures, a video in it shows the same.
    """
    if source.is_file():
        return [Item(str(source), partial(_read_video, source, options))]
    folders = [item for path in sorted(source.iterdir(), key=_natural) if path.is_dir()
               for item in _in_folder(path, options)]
    return folders or _in_folder(source, options)


def _in_folder(folder: Path, options: ImportOptions) -> list[Item]:
    if _pictures(folder):
        return [Item(str(folder), partial(_read_folder, folder, options))]
    return [Item(str(path), partial(_read_video, path, options))
            for path in sorted(folder.iterdir(), key=_natural) if _is_video(path)]


def _read_folder(folder: Path, options: ImportOptions) -> Recording:
    return _recording(folder, Pictures(_pictures(folder)), options, options.rate or CONTROL_RATE)


def _read_video(path: Path, options: ImportOptions) -> Recording:
    frames = Video(path)
    return _recording(path, frames, options, options.rate or frames.rate)


def _recording(path: Path, frames, options: ImportOptions, rate: float) -> Recording:
    meta = EpisodeMeta(
        task=options.task or options.instruction or path.stem.replace('_', ' '),
        instruction=options.instruction, operator=options.operator, control_rate=rate,
        source='video', extra={'source_path': path.name, 'stamps': 'none recorded'})
    return Recording(str(path), {CAMERA: frames}, None, meta, mode=Mode.IDLE)


class Video:
    """
    The frames of a video, decoded one after the other; going back begins again.

    :raises ExchangeError: when OpenCV cannot read it, or it breaks off.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._capture = self._open()
        rate = self._capture.get(cv2.CAP_PROP_FPS)
        self.rate = rate if 0.1 <= rate <= 1000.0 else CONTROL_RATE
        self._next, self._shown = 0, None
        self._count = 0
        while self._capture.grab():  # what a file says of its length is often wrong
            self._count += 1
        self._capture = self._open()

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, row: int) -> np.ndarray:
        if row + 1 < self._next or self._shown is None and row < self._next:
            self._capture, self._next, self._shown = self._open(), 0, None
        while self._next <= row:
            done, frame = self._capture.read()
            if not done:
                raise ExchangeError(f'{self._path}: frame {self._next} cannot be decoded')
            self._next, self._shown = self._next + 1, frame
        return cv2.cvtColor(self._shown, cv2.COLOR_BGR2RGB)

    def _open(self) -> cv2.VideoCapture:
        capture = cv2.VideoCapture(str(self._path))
        if not capture.isOpened():
            raise ExchangeError(f'{self._path} is no video that OpenCV can read; convert it to '
                                f'H.264 or MJPG, or give a folder of pictures')
        return capture


def _pictures(folder: Path) -> list[Path]:
    return sorted((path for path in folder.iterdir()
                   if path.suffix.lower() in PICTURE_SUFFIXES and path.is_file()), key=_natural)


def _is_video(path: Path) -> bool:
    return path.suffix.lower() in VIDEO_SUFFIXES and path.is_file()


def _natural(path: Path) -> list:
    return [(int(part), '') if part.isdigit() else (-1, part)
            for part in re.split(r'(\d+)', path.name)]
