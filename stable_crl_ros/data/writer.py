"""Write one episode, step by step, to a journal; seal it at the end."""

from pathlib import Path
import time
from typing import TYPE_CHECKING

from stable_crl_ros.data.attributes import checked_attributes, EpisodeError
from stable_crl_ros.data.journal import JournalError, JournalWriter
from stable_crl_ros.data.records import header_record, StepRecords
from stable_crl_ros.data.schema import Action, EpisodeMeta, Observation
from stable_crl_ros.data.seal import seal, SealError

if TYPE_CHECKING:
    from stable_crl_ros.data.dataset import Dataset


class EpisodeWriter:
    """
    Record one episode: every step goes to a journal, `finish` seals it into a Zarr group.

    What `add_step` returned from survives the death of the process; `Dataset.recover` seals
    what a crash cut off. Used as a context manager, an episode left without `finish` is sealed
    as interrupted.

    :param dataset: where the episode belongs.
    :param meta: what is known at the start.
    :param episode_id: one that `dataset.reserve_ids` gave; left out, the next free one.
    :param sync_every: force the journal to disk after so many steps; 0 never (see journal).
    :param kept: what a copy takes over of the original: 'created_ns', 'versions',
        'label_history', 'unfinished_step', 'lost_bytes'.
    :raises EpisodeError: when the episode exists or the journal cannot be written.
    :raises DatasetError: when another process writes the dataset, unless the number was reserved.
    """

    def __init__(self, dataset: 'Dataset', meta: EpisodeMeta | None = None,
                 episode_id: int | None = None, sync_every: int = 5,
                 kept: dict | None = None) -> None:
        meta = meta or EpisodeMeta()
        header = {**header_record(meta, dataset.codec), **(kept or {})}
        self.steps = 0
        self._sync_every = sync_every
        self._operator = meta.operator
        self._records = StepRecords(dataset.codec)
        given = episode_id is not None and dataset.is_reserved(episode_id)
        # Who reserved the number holds the lock, or held it then.
        self._lock = None if given else dataset.acquire_lock()
        try:
            self.episode_id = dataset.reserve_id() if episode_id is None else int(episode_id)
            self.path = dataset.episode_path(self.episode_id)
            self._journal = self._begin(dataset, header, own=episode_id is None)
        except BaseException:
            self._unlock()
            raise

    def _begin(self, dataset: 'Dataset', header: dict, own: bool) -> JournalWriter:
        if self.path.exists():
            raise EpisodeError(f'{self.path} exists; reserve another episode id')
        header['episode_id'] = self.episode_id
        try:
            return JournalWriter(dataset.journal_path(self.episode_id), header, self._sync_every)
        except JournalError as error:
            if own:
                dataset.release_ids([self.episode_id])
            raise EpisodeError(str(error)) from error

    def _unlock(self) -> None:
        if self._lock is not None:
            self._lock.release()

    def __enter__(self) -> 'EpisodeWriter':
        return self

    def __exit__(self, *_) -> None:
        if not self.closed and self.steps:
            self.finish(interrupted=True)
        elif not self.closed:
            self.discard()

    @property
    def closed(self) -> bool:
        """Tell whether the episode was finished, discarded or given up."""
        return self._journal.closed

    @property
    def bytes_written(self) -> int:
        """Bytes the journal holds."""
        return self._journal.size

    def add_step(self, observation: Observation, action: Action) -> None:
        """
        Record one control step.

        :raises SchemaError: when it does not fit the format; nothing is recorded then.
        :raises EpisodeError: when the disk refuses; every earlier step is kept.
        """
        record = self._records.step(observation, action)
        try:
            self._journal.append(record)
        except JournalError as error:
            raise EpisodeError(str(error)) from error
        self.steps += 1

    def finish(self, final_observation: Observation | None = None,
               success: bool | None = None, *, interrupted: bool = False, dropped: int = 0,
               late: int = 0, drops: dict[str, int] | None = None, ended_why: str = '',
               discarded: str = '', attributes: dict | None = None) -> Path:
        """
        Seal the episode.

        :param final_observation: what was seen after the last action. Left out, the last step
            has no outcome: its observation becomes the final one and its action is kept in the
            attribute 'unfinished_step'.
        :param success: None when nobody judged.
        :param dropped: steps lost before they reached the writer.
        :param late: control ticks that came late.
        :param drops: the dropped steps by stream or reason.
        :param ended_why: what ended it, when it was not its operator.
        :param discarded: why nobody wants it: it is born discarded (see `labels.discard`).
        :param attributes: plain values that replace or extend those of the start.
        :returns: the sealed group's directory.
        :raises EpisodeError: when there is nothing to seal or the disk refuses; the journal
            keeps what was recorded and `Dataset.recover` seals it later.
        """
        record = {'kind': 'end', 'success': None if success is None else bool(success),
                  'interrupted': bool(interrupted), 'dropped': int(dropped), 'late': int(late),
                  'drops': dict(drops or {}), 'ended_why': ended_why,
                  'attributes': checked_attributes(attributes or {})}
        if discarded:
            record['discarded'] = self.tombstone(discarded)
        if final_observation is not None:
            record.update(self._records.observation(final_observation))
        elif not self.steps:
            self.discard()
            raise EpisodeError(f'{self.path.name}: no step was recorded, nothing to save')
        self._seal(record)
        return self.path

    def tombstone(self, why: str) -> dict:
        """Return the attribute 'discarded' of an episode nobody wants."""
        return {'when_ns': time.time_ns(), 'by': self._operator, 'why': why}

    def _seal(self, end: dict) -> None:
        try:
            self._journal.append(end)
            self._journal.sync()
            seal(self._journal.path, self.path)
            self._journal.path.unlink()
        except (JournalError, SealError, OSError) as error:
            raise EpisodeError(f'{error}; the recording is kept in {self._journal.path}; '
                               f'fix the cause, then repair the dataset') from error
        finally:
            self._journal.close()
            self._unlock()

    def discard(self) -> None:
        """Throw the recording away."""
        self._journal.path.unlink(missing_ok=True)
        self._journal.close()
        self._unlock()
