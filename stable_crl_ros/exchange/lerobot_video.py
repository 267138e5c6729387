"""Videos of a LeRobot dataset: the episodes of a camera one after the other, in a few files."""

from pathlib import Path

import cv2
import numpy as np
from stable_crl_ros.exchange.recording import ExchangeError

CODEC = 'mpeg4'
_FOURCC = 'mp4v'
FILES_PER_CHUNK = 1000


class VideoFiles:
    """
    Write the frames of one camera.

    :param template: path below `folder` with video_key, chunk_index and file_index.
    :param size: height and width, pixels; even, because colours are stored at half of it.
    :param file_mb: a new file begins with the episode after it has grown beyond this.
    :raises ExchangeError: for a size no mp4 can have, or a rate OpenCV cannot write.
    """

    def __init__(self, folder: Path, template: str, key: str, size: tuple[int, int],
                 rate: float, file_mb: int) -> None:
        if size[0] % 2 or size[1] % 2:
            raise ExchangeError(f'{key}: an mp4 needs even sizes, not {size[1]}x{size[0]}; '
                                f'resize with --image-size or leave --video out')
        if round(rate, 3) != rate:
            raise ExchangeError(f'{key}: OpenCV writes videos of {round(rate, 3):g} Hz for '
                                f'{rate!r}, so that their frames would drift away from the '
                                f'timestamps; leave --video out')
        self._folder, self._template, self._key = folder, template, key
        self._size, self._rate, self._limit = size, rate, file_mb << 20
        self._file, self._frames = -1, 0
        self._path, self._writer = folder, None

    def begin_episode(self, count: int) -> dict:
        """
        Say where the next frames will be.

        :returns: the columns of `meta/episodes` that tell.
        """
        if self._writer is None or self._path.stat().st_size > self._limit:
            self._next_file()
        start = self._frames / self._rate
        chunk, file = divmod(self._file, FILES_PER_CHUNK)
        values = {'chunk_index': chunk, 'file_index': file, 'from_timestamp': start,
                  'to_timestamp': start + count / self._rate}
        return {f'videos/{self._key}/{name}': value for name, value in values.items()}

    def add(self, image: np.ndarray) -> None:
        """Write a frame, uint8 RGB (H, W, 3)."""
        self._writer.write(cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
        self._frames += 1

    def close(self) -> None:
        """
        Complete the file.

        :raises ExchangeError: when not all of its frames are in it; OpenCV tells of no failure.
        """
        if self._writer is None:
            return
        self._writer.release()
        self._writer, video = None, cv2.VideoCapture(str(self._path))
        written = int(video.get(cv2.CAP_PROP_FRAME_COUNT)) if video.isOpened() else 0
        video.release()
        if written != self._frames:
            raise ExchangeError(f'{self._path}: {written} of {self._frames} frames were written; '
                                f'is the disk full?')

    def _next_file(self) -> None:
        self.close()
        self._file, self._frames = self._file + 1, 0
        chunk, file = divmod(self._file, FILES_PER_CHUNK)
        self._path = self._folder / self._template.format(
            video_key=self._key, chunk_index=chunk, file_index=file)
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._writer = cv2.VideoWriter(str(self._path), cv2.VideoWriter.fourcc(*_FOURCC),
                                       self._rate, self._size[::-1])
        if not self._writer.isOpened():
            raise ExchangeError(f'{self._path}: OpenCV cannot write {_FOURCC} videos here; '
                                f'leave --video out')
