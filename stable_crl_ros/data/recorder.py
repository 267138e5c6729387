"""Record episodes without ever waiting for the disk: a bounded queue and one writer thread."""

from dataclasses import dataclass, field
import math
from pathlib import Path
import shutil
import threading

from stable_crl_ros.data.attributes import change_attributes, checked_attributes, read_attributes
from stable_crl_ros.data.dataset import Dataset
from stable_crl_ros.data.episode import EpisodeError, EpisodeWriter
from stable_crl_ros.data.health import told_pauses
from stable_crl_ros.data.schema import Action, EpisodeMeta, Observation
from stable_crl_ros.data.session import Session


@dataclass(frozen=True)
class RecordingSummary:
    """
    What `stop` saved.

    :param steps: transitions in the sealed episode.
    :param dropped: steps that were handed over but are not in it.
    :param bytes: size on disk.
    :param error: why steps were dropped, '' when none were refused.
    :param drops: the dropped steps by stream or reason.
    :param degraded: why the episode is marked as degraded, '' when it is not.
    :param ended_why: what ended the episode before `stop` did, '' when nothing.
    """

    episode_id: int
    steps: int
    dropped: int
    bytes: int
    path: Path
    error: str = ''
    drops: dict[str, int] = field(default_factory=dict)
    degraded: str = ''
    ended_why: str = ''
    pauses: str = ''

    def __str__(self) -> str:
        line = (f'saved episode {self.episode_id}: {self.steps} steps, {self.dropped} dropped, '
                f'{self.bytes / 1e6:.2f} MB, {self.path}')
        remarks = [text for text in (self.error, self.degraded, self.pauses) if text]
        return f'{line} ({"; ".join(remarks)})' if remarks else line


class EpisodeRecorder:
    """
    Hand steps to a thread that encodes and writes them; `record` never waits for the disk.

    One episode at a time. The thread that records and the one that stops may differ. While the
    recorder lives, no other process may write the dataset; `close` ends that.

    An episode ends by itself, sealed as interrupted, while there is still room to seal it:
    `ended_why` says so and `stop` returns what was saved.

    :param dataset: where episodes go.
    :param capacity: steps that may wait for the disk; further ones are dropped and counted.
    :param sync_every: see `EpisodeWriter`.
    :param capacity_bytes: of the images that may wait.
    :param minimum_free_bytes: of the disk; with less none is started, and a running one ends.
    :raises DatasetError: when another process writes the dataset, or nobody may.
    """

    def __init__(self, dataset: Dataset, capacity: int = 256, sync_every: int = 5, *,
                 capacity_bytes: int = 512_000_000,
                 minimum_free_bytes: int = 1_000_000_000) -> None:
        self._dataset = dataset
        self._capacity, self._capacity_bytes = capacity, int(capacity_bytes)
        self._sync_every = sync_every
        self._minimum_free_bytes = int(minimum_free_bytes)
        self._lock = threading.Lock()
        self._session: Session | None = None
        self._dataset_lock = dataset.acquire_lock()

    @property
    def recording(self) -> bool:
        """Tell whether an episode is being recorded, or has ended by itself and waits for stop."""
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
    def drops(self) -> dict[str, int]:
        """Steps lost so far in the running episode, by stream or reason."""
        session = self._session
        return dict(session.drops) if session else {}

    @property
    def error(self) -> str:
        """The last reason a step of the running episode could not be written, '' if none."""
        session = self._session
        return session.error if session else ''

    @property
    def ended_why(self) -> str:
        """What ended the running episode by itself; '' while it goes on."""
        session = self._session
        return session.ended_why if session else ''

    @property
    def queue_fill(self) -> float:
        """Share of the queue that is taken, 0 to 1."""
        session = self._session
        return session.queue_fill if session else 0.0

    @property
    def bytes_written(self) -> int:
        """Bytes the running episode's journal holds."""
        session = self._session
        return session.writer.bytes_written if session else 0

    @property
    def write_rate(self) -> float:
        """Bytes per second written over the last seconds."""
        session = self._session
        return session.write_rate if session else 0.0

    def minutes_left(self, free: int) -> float:
        """
        Say for how long the running episode can go on at the present rate.

        :param free: bytes of the disk that are free; sealing needs as many as were recorded.
        :returns: minutes, infinite while nothing is written.
        """
        rate = self.write_rate
        usable = free - self._minimum_free_bytes - self.bytes_written
        return max(0.0, usable / (2 * rate * 60)) if rate > 0 else math.inf

    def start(self, meta: EpisodeMeta | None = None) -> int:
        """
        Begin an episode; its journal is created before this returns.

        :returns: the episode's number.
        :raises EpisodeError: while one is being recorded, when the disk is nearly full, or when
            it refuses.
        :raises DatasetError: when the dataset is not writable.
        """
        with self._lock:
            if self._session is not None:
                raise EpisodeError(f'episode {self._session.writer.episode_id} is being '
                                   f'recorded; stop or discard it first')
            self._check_disk()
            writer = EpisodeWriter(self._dataset, meta, sync_every=self._sync_every)
            self._session = Session(writer, self._capacity, self._capacity_bytes,
                                    self._minimum_free_bytes)
            return writer.episode_id

    def record(self, observation: Observation, action: Action) -> bool:
        """
        Hand over one step; its arrays must not be changed afterwards.

        :returns: False when it was dropped: the queue is full, or nothing is being recorded.
        """
        session = self._session
        return session is not None and session.offer(observation, action)

    def lose(self, reason: str, stream: str = '') -> None:
        """
        Count a step that could not be put together; the next one follows a gap.

        :param stream: what was missing: a camera, a topic; by default the reason is counted.
        """
        session = self._session
        if session is not None:
            session.lose(reason, stream)

    def stop(self, success: bool | None = None, final_observation: Observation | None = None, *,
             interrupted: bool = False, late: int = 0, ended_why: str = '',
             attributes: dict | None = None) -> RecordingSummary:
        """
        Write what waits, seal the episode and say what was saved.

        :param attributes: see `EpisodeWriter.finish`; so are the others.
        :raises EpisodeError: when nothing is being recorded, no step was, or the disk refuses.
        :raises SchemaError: for attributes that are none; the episode goes on.
        """
        attributes = checked_attributes(attributes or {})  # before anything ends
        session = self._end()
        if session.failure is not None:
            raise session.failure
        if session.path is None:
            path = session.finish(final_observation, success, interrupted=interrupted, late=late,
                                  ended_why=ended_why, attributes=attributes)
        else:
            path = session.path
            told = {**attributes, 'success': success, 'late': late}
            change_attributes(path, lambda known: {**known, **told})
        return _summary(session, path)

    def discard(self, why: str = '') -> int:
        """
        End the running episode as one that nobody wants; `labels.restore` brings it back.

        One without a step leaves nothing.

        :returns: its number.
        :raises EpisodeError: when nothing is being recorded, or the disk refuses.
        """
        session = self._end()
        why = why or 'discarded while it was recorded'
        if session.failure is not None:
            raise session.failure
        if session.path is not None:
            tombstone = session.writer.tombstone(why)
            change_attributes(session.path, lambda known: {**known, 'discarded': tombstone})
        elif session.writer.steps:
            session.finish(interrupted=True, discarded=why)
        else:
            session.writer.discard()
        return session.writer.episode_id

    def close(self) -> None:
        """Let other processes write the dataset, unless an episode is being recorded."""
        self._dataset_lock.release()

    def _check_disk(self) -> None:
        try:
            free = shutil.disk_usage(self._dataset.path).free
        except OSError as error:
            raise EpisodeError(f'{self._dataset.path}: cannot be read ({error.strerror}); give '
                               f'another directory') from error
        if free < self._minimum_free_bytes:
            raise EpisodeError(
                f'{self._dataset.path}: disk nearly full, {free / 1e9:.2f} GB are free and '
                f'{self._minimum_free_bytes / 1e9:.2f} GB must be; free space or record '
                f'elsewhere')

    def _end(self) -> Session:
        with self._lock:
            session, self._session = self._session, None
        if session is None:
            raise EpisodeError('no episode is being recorded; start one first')
        session.join()
        return session


def _summary(session: Session, path: Path) -> RecordingSummary:
    attributes = read_attributes(path)
    size = sum(file.stat().st_size for file in path.rglob('*') if file.is_file())
    return RecordingSummary(
        session.writer.episode_id, attributes['steps'], session.dropped, size, path,
        session.error, dict(session.drops), attributes['degraded_why'], session.ended_why,
        told_pauses(attributes))
