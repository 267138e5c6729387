"""Record episodes without ever waiting for the disk: a bounded queue and one writer thread."""

from dataclasses import dataclass
from pathlib import Path
import queue
import threading

from stable_crl_ros.data.dataset import Dataset
from stable_crl_ros.data.episode import EpisodeError, EpisodeWriter
from stable_crl_ros.data.schema import Action, EpisodeMeta, Observation


@dataclass(frozen=True)
class RecordingSummary:
    """
    What `stop` saved.

    :param steps: transitions in the sealed episode.
    :param dropped: steps that were handed over but are not in it.
    :param bytes: size on disk.
    :param error: why steps were dropped, '' when none were refused.
    """

    episode_id: int
    steps: int
    dropped: int
    bytes: int
    path: Path
    error: str = ''

    def __str__(self) -> str:
        line = (f'saved episode {self.episode_id}: {self.steps} steps, {self.dropped} dropped, '
                f'{self.bytes / 1e6:.2f} MB, {self.path}')
        return f'{line} ({self.error})' if self.error else line


class EpisodeRecorder:
    """
    Hand steps to a thread that writes them; `record` neither blocks nor touches the disk.

    One episode at a time. The thread that records and the one that stops may differ.

    :param dataset: where episodes go.
    :param capacity: steps that may wait for the disk; further ones are dropped and counted.
    :param sync_every: see `EpisodeWriter`.
    """

    def __init__(self, dataset: Dataset, capacity: int = 64, sync_every: int = 5) -> None:
        self._dataset = dataset
        self._capacity = capacity
        self._sync_every = sync_every
        self._lock = threading.Lock()
        self._session: _Session | None = None

    @property
    def recording(self) -> bool:
        """Tell whether an episode is being recorded."""
        return self._session is not None

    @property
    def steps(self) -> int:
        """Steps written so far to the running episode, 0 without one."""
        session = self._session
        return session.writer.steps if session else 0

    @property
    def dropped(self) -> int:
        """Steps lost so far in the running episode, 0 without one."""
        session = self._session
        return session.dropped if session else 0

    @property
    def error(self) -> str:
        """The last reason a step of the running episode could not be written, '' if none."""
        session = self._session
        return session.error if session else ''

    def start(self, meta: EpisodeMeta | None = None) -> int:
        """
        Begin an episode; its journal is created before this returns.

        :returns: the episode's number.
        :raises EpisodeError: while one is being recorded, or when the disk refuses.
        :raises DatasetError: when the dataset is not writable.
        """
        with self._lock:
            if self._session is not None:
                raise EpisodeError(f'episode {self._session.writer.episode_id} is being '
                                   f'recorded; stop or discard it first')
            writer = EpisodeWriter(self._dataset, meta, sync_every=self._sync_every)
            self._session = _Session(writer, self._capacity)
            return writer.episode_id

    def record(self, observation: Observation, action: Action) -> bool:
        """
        Hand over one step; its arrays must not be changed afterwards.

        :returns: False when it was dropped: the queue is full, or nothing is being recorded.
        """
        session = self._session
        return session is not None and session.offer(observation, action)

    def lose(self, reason: str) -> None:
        """Count a step that could not be put together; the next one follows a gap."""
        session = self._session
        if session is not None:
            session.lose(reason)

    def stop(self, success: bool | None = None, final_observation: Observation | None = None, *,
             interrupted: bool = False, late: int = 0,
             attributes: dict | None = None) -> RecordingSummary:
        """
        Write what waits, seal the episode and say what was saved.

        :param attributes: see `EpisodeWriter.finish`; so are the others.
        :raises EpisodeError: when nothing is being recorded, no step was, or the disk refuses.
        """
        session = self._end()
        path = session.writer.finish(
            final_observation, success, interrupted=interrupted, late=late,
            dropped=session.dropped, attributes={'gaps': session.gaps, **(attributes or {})})
        size = sum(file.stat().st_size for file in path.rglob('*') if file.is_file())
        steps = session.writer.steps - (final_observation is None)
        return RecordingSummary(session.writer.episode_id, steps, session.dropped, size, path,
                                session.error)

    def discard(self) -> int:
        """
        Throw the running episode away.

        :returns: its number, which may be given to another episode.
        :raises EpisodeError: when nothing is being recorded.
        """
        writer = self._end().writer
        writer.discard()
        return writer.episode_id

    def _end(self) -> '_Session':
        with self._lock:
            session, self._session = self._session, None
        if session is None:
            raise EpisodeError('no episode is being recorded; start one first')
        session.join()
        return session


class _Session:
    """One episode's queue and thread."""

    def __init__(self, writer: EpisodeWriter, capacity: int) -> None:
        self.writer = writer
        self.error = ''
        self.gaps: list[int] = []  # steps just before which others were dropped
        self._overflowed = self._failed = 0
        self._gap = self._ended = False
        self._lock = threading.Lock()
        self._queue: queue.Queue = queue.Queue(capacity)
        # A daemon: a process that exits without `stop` leaves a journal, which is recovered.
        self._thread = threading.Thread(target=self._write, name='episode writer', daemon=True)
        self._thread.start()

    @property
    def dropped(self) -> int:
        return self._overflowed + self._failed

    def offer(self, observation: Observation, action: Action) -> bool:
        with self._lock:  # an offer after the end would be accepted and never written
            if self._ended:
                return False
            try:
                self._queue.put_nowait((observation, action, self._gap))
            except queue.Full:
                self._overflowed += 1
                self._gap = True
                self.error = f'the disk is too slow: {self._queue.maxsize} steps were waiting'
                return False
            self._gap = False
            return True

    def lose(self, reason: str) -> None:
        with self._lock:
            self._overflowed += 1
            self._gap = True
            self.error = reason

    def join(self) -> None:
        with self._lock:
            self._ended = True
        self._queue.put(None)
        self._thread.join()

    def _write(self) -> None:
        gap = False
        while (item := self._queue.get()) is not None:
            observation, action, dropped_before = item
            gap = gap or dropped_before
            index = self.writer.steps
            try:
                self.writer.add_step(observation, action)
            except Exception as error:  # a dead thread would let `stop` wait for ever
                self._failed += 1
                self.error = str(error)
                gap = True
                continue
            if gap:
                self.gaps.append(index)
                gap = False
