"""The running episode of a recorder: its bounded queue, its writer thread and what it counts."""

from collections import Counter, deque
from pathlib import Path
import queue
import shutil
import threading
import time

from stable_crl_ros.data.codecs import Encoded
from stable_crl_ros.data.episode import EpisodeError, EpisodeWriter
from stable_crl_ros.data.schema import Action, Observation, SchemaError

DISK_NEARLY_FULL = 'disk nearly full'
RATE_WINDOW_S = 5.0
DISK_CHECK_S = 0.5
MOST_REASONS = 32  # further reasons are counted together


class Session:
    """
    Write one episode in a thread of its own.

    :param capacity: steps that may wait.
    :param capacity_bytes: and their images' bytes.
    :param minimum_free_bytes: the episode ends before less of the disk is free.
    """

    def __init__(self, writer: EpisodeWriter, capacity: int, capacity_bytes: int,
                 minimum_free_bytes: int) -> None:
        self.writer = writer
        self.error = self.ended_why = ''
        self.gaps: list[int] = []  # steps just before which others were dropped
        self.drops: Counter[str] = Counter()
        self.path: Path | None = None  # of the episode, when it had to end by itself
        self.failure: EpisodeError | None = None  # that kept it from being sealed then
        self._capacity, self._capacity_bytes = capacity, capacity_bytes
        self._minimum_free_bytes = minimum_free_bytes
        self._waiting_bytes = 0
        self._gap = False  # steps were lost since the last one that was accepted, at last written
        self._ended = False
        self._written: deque[tuple[float, int]] = deque([(time.monotonic(), 0)])
        self._disk_checked_s = 0.0
        self._lock = threading.Lock()
        self._queue: queue.Queue = queue.Queue(capacity)
        # A daemon: a process that exits without `stop` leaves a journal, which is recovered.
        self._thread = threading.Thread(target=self._write, name='episode writer', daemon=True)
        self._thread.start()

    @property
    def dropped(self) -> int:
        """Steps lost so far."""
        return sum(self.drops.values())

    @property
    def queue_fill(self) -> float:
        """Share of the queue that is taken, 0 to 1."""
        return max(self._queue.qsize() / self._capacity,
                   self._waiting_bytes / self._capacity_bytes)

    @property
    def write_rate(self) -> float:
        """Bytes per second written over the last seconds."""
        written = tuple(self._written)
        seconds = time.monotonic() - written[0][0]
        return (written[-1][1] - written[0][1]) / seconds if seconds > 0 else 0.0

    def offer(self, observation: Observation, action: Action) -> bool:
        """Take a step without waiting; False when there is no room, or the episode has ended."""
        size = _bytes(observation)
        with self._lock:  # an offer after the end would be accepted and never written
            if self._ended:
                return False
            # One step is taken however large it is.
            full = self._waiting_bytes and self._waiting_bytes + size > self._capacity_bytes
            if full or self._queue.full():
                self._count('queue full', f'the disk is too slow: {self._queue.qsize()} steps '
                            'were waiting')
                return False
            self._waiting_bytes += size
            self._queue.put_nowait((observation, action, self._gap, size))
            self._gap = False
            return True

    def lose(self, reason: str, stream: str) -> None:
        """Count a step that could not be put together."""
        with self._lock:
            if not self._ended:
                self._count(stream or reason, reason)

    def join(self) -> None:
        """Write what waits, and end."""
        with self._lock:
            self._ended = True
        if self._thread.is_alive():
            self._queue.put(None)
        self._thread.join()

    def finish(self, final_observation: Observation | None = None,
               success: bool | None = None, **kwargs) -> Path:
        """
        Seal the episode with what was counted; arguments as those of `EpisodeWriter.finish`.

        A final observation that does not fit is left out, and named in `error`. One that follows
        lost steps lies behind a gap.
        """
        given = kwargs.pop('attributes', None) or {}
        kwargs |= {'dropped': self.dropped, 'drops': dict(self.drops)}
        if final_observation is not None:
            gaps = [*self.gaps, *([self.writer.steps] if self._gap else [])]
            try:
                return self.writer.finish(final_observation, success, **kwargs,
                                          attributes={'gaps': gaps, **given})
            except ValueError as error:
                self.error = f'the last action has no outcome: {error}'
        return self.writer.finish(None, success, **kwargs,
                                  attributes={'gaps': self.gaps, **given})

    def _count(self, what: str, error: str) -> None:
        known = what in self.drops or len(self.drops) < MOST_REASONS
        self.drops[what if known else 'other'] += 1
        self._gap = True
        self.error = error

    def _write(self) -> None:
        gap = False
        while (item := self._next()) is not None:
            observation, action, dropped_before, size = item
            gap = gap or dropped_before
            index = self.writer.steps
            try:
                self.writer.add_step(observation, action)
                if gap:
                    self.gaps.append(index)
                gap = False
            except Exception as error:  # a dead thread would let `stop` wait for ever
                gap = True
                self._refused(error)
            self._note(size)
        with self._lock:
            self._gap = self._gap or gap
        if self.ended_why:
            self._seal()

    def _next(self) -> tuple | None:
        """Return what is to be written next, None when nothing more is."""
        if not self.ended_why:
            return self._queue.get()
        try:
            return self._queue.get_nowait()
        except queue.Empty:
            return None

    def _refused(self, error: Exception) -> None:
        what = 'error'
        if isinstance(error, SchemaError):
            what = error.stream or 'refused'
        elif isinstance(error, EpisodeError):
            what = 'disk'
        with self._lock:
            self.drops[what] += 1
            self.error = str(error)

    def _note(self, size: int) -> None:
        now = time.monotonic()
        with self._lock:
            self._waiting_bytes -= size
        self._written.append((now, self.writer.bytes_written))
        while now - self._written[0][0] > RATE_WINDOW_S and len(self._written) > 2:
            self._written.popleft()
        if now - self._disk_checked_s >= DISK_CHECK_S and not self.ended_why:
            self._disk_checked_s = now
            self._check_disk()

    def _check_disk(self) -> None:
        try:
            free = shutil.disk_usage(self.writer.path.parent).free
        except OSError as error:
            self.error = f'{self.writer.path.parent}: {error.strerror}'
            return
        # Sealing writes the episode once more before the journal goes.
        if free < self._minimum_free_bytes + self.writer.bytes_written:
            with self._lock:
                self._ended = True
                self.ended_why = DISK_NEARLY_FULL
                self.error = f'{DISK_NEARLY_FULL}: {free / 1e9:.2f} GB free'

    def _seal(self) -> None:
        try:
            self.path = self.finish(interrupted=True, ended_why=self.ended_why)
        except EpisodeError as error:
            self.failure = error


def _bytes(observation: Observation) -> int:
    images = getattr(observation, 'images', {})
    if hasattr(images, 'nbytes'):  # known without decoding them, which is the writer's part
        return images.nbytes
    return sum(len(image.data) if isinstance(image, Encoded) else image.nbytes
               for image in images.values())
