"""An episode as an mp4: the cameras and the goal, below them what was done so far."""

from collections.abc import Callable, Iterator
import contextlib
from pathlib import Path

import cv2
from stable_crl_ros.data.episode import Episode, EpisodeError
from stable_crl_ros.data.page import Page
from stable_crl_ros.data.sheet import describe
from stable_crl_ros.data.timeline import Track, VERDICT_COLOURS

HEIGHTS = 16, 2160  # pixels
SPEEDS = 0.01, 100.0


def write_video(episode: Episode, path: str | Path, camera: str | None = None,
                height: int = 240, speed: float = 1.0,
                progress: Callable[[int, int], None] | None = None) -> None:
    """
    Write an mp4: observations and goal above, actions, gripper and progress below.

    :param path: the .mp4 file.
    :param camera: all of them when left out.
    :param height: of the pictures, pixels.
    :param speed: 1: as fast as it was recorded.
    :param progress: called with the frames done and their total.
    :raises EpisodeError: when OpenCV cannot write it, or an image is damaged; for a height or a
        speed that makes no video.
    """
    for name, value, (low, high) in (('height', height, HEIGHTS), ('speed', speed, SPEEDS)):
        if not low <= value <= high:
            raise EpisodeError(f'{name} {value:g} makes no video; give {low:g} to {high:g}')
    cameras = [camera] if camera else episode.cameras
    goal = episode.goal_image
    headline, facts = describe(episode)
    page = Page(Track.of(episode), episode.attrs['control_rate'],
                {name: episode.attrs['cameras'][name] for name in cameras}, goal, height,
                (headline, facts, VERDICT_COLOURS[episode.attrs['success']]))
    with _writer(Path(path), episode.attrs['control_rate'] * speed, page.size) as write:
        frames = zip(*map(episode.frames, cameras), strict=True)
        for step, images in enumerate(frames):
            write(page.frame(step, images))
            if progress:
                progress(step + 1, episode.steps + 1)


@contextlib.contextmanager
def _writer(path: Path, rate: float, size: tuple[int, int]) -> Iterator[Callable]:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*'mp4v'), rate, size)
    if not writer.isOpened():
        raise EpisodeError(f'{path}: OpenCV cannot write this video; give a writable .mp4 path')
    try:
        yield lambda frame: writer.write(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
    finally:
        writer.release()
