"""A dataset: a directory of sealed episodes, and an index that can always be rebuilt."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
import hashlib
import os
from pathlib import Path
import re
import tempfile

from stable_crl_ros.data.codecs import ImageCodec, LOSSLESS
from stable_crl_ros.data.description import (
    DatasetError,
    DESCRIPTION,
    not_writable,
    parse_codec,
    read_description,
    write_description,
)
from stable_crl_ros.data.episode import Episode
from stable_crl_ros.data.index import episode_entry, INDEX, read_index, write_index
from stable_crl_ros.data.lock import DatasetLock, LockError
from stable_crl_ros.data.numbering import first_free
from stable_crl_ros.data.recovery import inspect_journal, recover_journal, Unsealed

EPISODE = re.compile(r'episode_(\d{6,})\.zarr')
JOURNAL = re.compile(r'episode_(\d{6,})\.journal')


def check_recordable(path: Path) -> None:
    """
    Refuse a directory to which no episode can be recorded; none is made yet.

    :raises DatasetError: when it is not writable, or holds something else.
    """
    try:
        existing = next(place for place in (path, *path.parents) if place.exists())
        with tempfile.TemporaryFile(dir=existing):
            pass
    except OSError as error:
        raise not_writable(path, error) from error
    if path.is_dir():
        Dataset(path, create=True)


class Dataset:
    """
    Sealed episodes in one directory: one process writes, any number read.

    :param path: the directory.
    :param create: make it, or an empty one into a dataset, when it is not there.
    :param image_codec: how its images are stored, 'lossless' or 'jpeg:QUALITY'; it is chosen
        when the dataset is made ('lossless' when left out) and stays.
    :raises DatasetError: when it is none, is not writable (with `create`), is newer, or has
        another codec.
    """

    def __init__(self, path: str | Path, create: bool = False,
                 image_codec: str | None = None) -> None:
        self.path = Path(path)
        if create:
            self._create(image_codec or LOSSLESS)
        if not self.path.is_dir():
            kind = 'is a file' if self.path.exists() else 'does not exist'
            raise DatasetError(f'{self.path} {kind}; name the directory of a dataset')
        if not self._is_dataset():
            raise DatasetError(f'{self.path} is not a dataset: it holds no {INDEX} and no '
                               f'episode_NNNNNN.zarr; name the directory that does')
        self.id, self.codec = read_description(self.path)
        if image_codec not in (None, str(self.codec)):
            raise DatasetError(f'{self.path} stores its images as {self.codec}, not as '
                               f'{image_codec}; ask for {self.codec} or give a new directory')
        self._entries()

    def episode_path(self, episode_id: int) -> Path:
        """Return where a sealed episode lies."""
        return self.path / f'episode_{episode_id:06d}.zarr'

    def journal_path(self, episode_id: int) -> Path:
        """Return where an episode is recorded."""
        return self.path / f'episode_{episode_id:06d}.journal'

    def __len__(self) -> int:
        return len(self.index())

    def __getitem__(self, episode_id: int) -> Episode:
        """
        Open one episode by its number.

        :raises DatasetError: when there is none.
        :raises EpisodeError: when it is damaged.
        """
        path = self.episode_path(episode_id)
        if not path.exists():
            raise DatasetError(f'{self.path}: no episode {episode_id}; it has '
                               f'{self.ids}')
        return Episode(path)

    @property
    def ids(self) -> list[int]:
        """
        Return the numbers of the sealed episodes, sorted.

        Damaged ones are included, discarded ones are not.
        """
        return [int(EPISODE.fullmatch(entry['name'])[1]) for entry in self._entries()
                if not entry.get('discarded')]

    @property
    def episodes(self) -> list[Episode]:
        """
        Return every sealed episode, sorted by number.

        :raises DatasetError: when one cannot be read.
        """
        return [Episode(self.episode_path(entry['episode_id'])) for entry in self.index()]

    def index(self) -> list[dict]:
        """
        Return one summary per sealed episode (the attributes in `SUMMARY`), sorted by number.

        Discarded ones are left out.

        :raises DatasetError: when an episode cannot be read; `broken` lists all of them.
        """
        entries = [entry for entry in self._entries() if not entry.get('discarded')]
        broken = [entry for entry in entries if 'error' in entry]
        if broken:
            raise DatasetError(f'{len(broken)} damaged episode(s): {broken[0]["error"]}; restore '
                               f'it from a copy or move it out of the dataset')
        return entries

    @property
    def discarded(self) -> list[dict]:
        """Return the summaries of the discarded episodes, which nothing else returns."""
        return [entry for entry in self._entries() if entry.get('discarded')]

    @property
    def broken(self) -> dict[str, str]:
        """Return the episodes that cannot be opened, with the reason."""
        return {entry['name']: entry['error'] for entry in self._entries() if 'error' in entry}

    def fingerprint(self) -> str:
        """Return the sha256 over numbers, lengths and checksums of the episodes."""
        lines = [f'{entry["episode_id"]} {entry["steps"]} {entry["checksum"]}\n'
                 for entry in self.index()]
        return hashlib.sha256(''.join(lines).encode()).hexdigest()

    @contextmanager
    def lock(self) -> Iterator[None]:
        """
        Be the process that writes this dataset; reading it needs no lock.

        Recording takes it by itself. A program whose workers record holds it while they do, and
        reserves their episode numbers.

        :raises DatasetError: when another process writes it, which is named.
        """
        lock = self.acquire_lock()
        try:
            yield
        finally:
            lock.release()

    def acquire_lock(self) -> DatasetLock:
        """Take the lock as `lock` does, for as long as the caller does not release it."""
        lock = DatasetLock(self.path)
        try:
            lock.acquire()
        except LockError as error:
            raise DatasetError(str(error)) from error
        except OSError as error:
            raise not_writable(self.path, error) from error
        return lock

    def reserve_id(self) -> int:
        """Reserve the next free episode number; see `reserve_ids`."""
        return self.reserve_ids(1)[0]

    def reserve_ids(self, count: int) -> list[int]:
        """
        Reserve the next numbers that no episode ever had, by creating their empty journals.

        Whoever is given one may record it, in this process or another.

        :raises DatasetError: when the directory is not writable, or another process writes it.
        """
        with self.lock():
            first = max(first_free(self.path),
                        max(self._ids(EPISODE) | self._ids(JOURNAL), default=-1) + 1)
            reserved = list(range(first, first + count))
            self.reserve(reserved)
        return reserved

    def reserve(self, episode_ids: Iterable[int]) -> None:
        """
        Reserve certain numbers; see `reserve_ids`.

        :raises DatasetError: as `reserve_ids`, or when one is taken.
        """
        with self.lock():
            for episode_id in episode_ids:
                if not self._reserve(episode_id):
                    raise DatasetError(f'{self.path}: episode {episode_id} is there or being '
                                       f'recorded; reserve another number')

    def is_reserved(self, episode_id: int) -> bool:
        """Tell whether a number is reserved and nothing recorded under it."""
        path = self.journal_path(episode_id)
        return path.exists() and path.stat().st_size == 0

    def release_ids(self, episode_ids: Iterable[int]) -> None:
        """Give back reserved numbers nothing was recorded under."""
        for episode_id in episode_ids:
            if self.is_reserved(episode_id):
                self.journal_path(episode_id).unlink()

    def unsealed(self) -> list[Unsealed]:
        """List the journals, changing nothing: being recorded, reserved, or cut off."""
        return self._for_each_journal(inspect_journal)

    def recover(self) -> list[Unsealed]:
        """
        Seal every journal that a crash cut off; leave those of living processes alone.

        Reserved numbers stay reserved; `release_ids` frees those nobody will use.

        :returns: what was found and what became of it.
        :raises DatasetError: when the directory is not writable.
        """
        try:
            return self._for_each_journal(recover_journal)
        except OSError as error:
            raise not_writable(self.path, error) from error

    def _for_each_journal(self, function: Callable) -> list[Unsealed]:
        found = [function(self.journal_path(episode_id), self.episode_path(episode_id))
                 for episode_id in sorted(self._ids(JOURNAL))]
        return [item for item in found if item is not None]

    def _create(self, image_codec: str) -> None:
        codec = parse_codec(image_codec)
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            if self._is_dataset():
                if not (self.path / DESCRIPTION).exists():  # of format 1
                    write_description(self.path, ImageCodec())
                return
            foreign = [name for name in os.listdir(self.path) if not name.startswith('.')]
            if foreign:
                raise DatasetError(f'{self.path} holds other files ({foreign[0]}, ...); give a '
                                   f'new or empty directory')
            write_description(self.path, codec)
            write_index(self.path, [])
        except OSError as error:
            raise not_writable(self.path, error) from error

    def _is_dataset(self) -> bool:
        if (self.path / DESCRIPTION).exists() or (self.path / INDEX).exists():
            return True
        return bool(self._ids(EPISODE) | self._ids(JOURNAL))

    def _ids(self, pattern: re.Pattern) -> set[int]:
        try:
            matches = map(pattern.fullmatch, os.listdir(self.path))
        except OSError as error:
            raise DatasetError(f'{self.path} cannot be read ({error.strerror})') from error
        return {int(match[1]) for match in matches if match}

    def _entries(self) -> list[dict]:
        """Return the index, brought up to date with the directory."""
        old = read_index(self.path)
        paths = [self.episode_path(number) for number in sorted(self._ids(EPISODE))]
        entries = [episode_entry(path, old.get(path.name, {})) for path in paths]
        if entries != list(old.values()) or not (self.path / INDEX).exists():
            with suppress(OSError):  # reading a dataset needs no right to write it
                write_index(self.path, entries)
        return entries

    def _reserve(self, episode_id: int) -> bool:
        path = self.journal_path(episode_id)
        try:
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644))
        except FileExistsError:
            return False
        except OSError as error:
            raise not_writable(self.path, error) from error
        # Sealed by a worker between our listing and here? Sealing puts the episode in place
        # before it removes the journal, so looking after the creation is enough.
        if self.episode_path(episode_id).exists():
            path.unlink()
            return False
        return True
