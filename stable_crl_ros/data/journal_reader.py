"""Read a journal record by record: every whole one, also behind a damaged one."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
import os
from pathlib import Path
import struct
import zlib

from stable_crl_ros.data.journal import (
    decode_payload,
    INDEX,
    JournalError,
    MAGIC,
    MAX_RECORD,
    PREFIX,
)

RECORD_START = b'{"arrays": ['  # of the JSON part, behind PREFIX and INDEX
SEARCH_BYTES = 4096  # of a sector: what lies behind an unreadable one is found


class JournalReader:
    """
    Read the records of a journal one after another, holding no more than one of them.

    A damaged record is passed over, and counted, where a whole one follows it. Iterating ends
    before an incomplete record; then `truncated_bytes` says what is left. Iterating again
    begins anew.

    :param path: the file.
    :raises JournalError: when it is missing, unreadable or no journal.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.truncated_bytes = 0  # after the last complete record
        self.damaged = False  # a checksum or length is wrong; not just a record cut short
        self.records = 0  # complete ones read so far, the header included
        self.lost: list[int] = []  # for every damaged stretch, complete records before it
        self.lost_bytes = 0  # of those stretches
        try:
            self._file = open(path, 'rb')  # noqa: SIM115 `close` closes it
            self.size = os.fstat(self._file.fileno()).st_size
            magic = self._file.read(len(MAGIC))
        except OSError as error:
            raise JournalError(f'{path}: cannot be read ({error.strerror})') from error
        self._foreign = magic != MAGIC[:self.size]
        if self._foreign and self._read(len(MAGIC)) is None:
            self.close()
            raise JournalError(f'{path}: not a journal of this package')

    def __enter__(self) -> 'JournalReader':
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __iter__(self) -> Iterator[dict[str, object]]:
        for _, record in self.located():
            yield record

    def located(self) -> Iterator[tuple[int, dict[str, object]]]:
        """Read the records, each with the position of its first byte; the first is the header."""
        self.damaged, self.records, self.lost, self.lost_bytes = self._foreign, 0, [], 0
        offset = min(len(MAGIC), self.size)
        while offset < self.size:
            record = self._read(offset)
            if record is not None:
                self.records += 1
                yield offset, record[1]
                offset += record[0]
                continue
            following = self._find_whole(offset + 1)
            if following is None:
                break
            self.damaged = True
            self.lost.append(self.records)
            self.lost_bytes += following - offset
            offset = following
        self.truncated_bytes = self.size - offset

    def record(self, offset: int) -> dict[str, object]:
        """
        Read the record at a position that `located` gave.

        :raises JournalError: when it is not there any more.
        """
        found = self._read(offset)
        if found is None:
            raise JournalError(f'{self.path}: the record at byte {offset} cannot be read again')
        return found[1]

    def _find_whole(self, start: int) -> int | None:
        """Return where the next whole record begins, at `start` or behind it."""
        ahead = PREFIX.size + INDEX.size
        for block in range(start, self.size, SEARCH_BYTES):
            try:
                self._file.seek(block)
                # Blocks overlap by what may begin in one and end in the next.
                data = self._file.read(SEARCH_BYTES + ahead + len(RECORD_START))
            except OSError:  # an unreadable sector; there may be others behind it
                continue
            found = data.find(RECORD_START, ahead)
            while found >= 0:
                if self._read(block + found - ahead) is not None:
                    return block + found - ahead
                found = data.find(RECORD_START, found + 1)
        return None

    def _read(self, offset: int) -> tuple[int, dict[str, object]] | None:
        """Return a record and its size, None at the end or at damage."""
        try:
            self._file.seek(offset)
            prefix = self._file.read(PREFIX.size)
            if len(prefix) < PREFIX.size:
                return None
            length, crc = PREFIX.unpack(prefix)
            if not INDEX.size <= length <= MAX_RECORD:
                raise ValueError(f'a record of {length} bytes')
            payload = self._file.read(length)
            if len(payload) < length:
                return None
            if zlib.crc32(payload, zlib.crc32(prefix[:4])) != crc:
                raise ValueError('a wrong checksum')
            return PREFIX.size + length, decode_payload(memoryview(payload))
        # An unreadable sector is damage as well: what comes before it can be saved.
        except (OSError, ValueError, KeyError, TypeError, struct.error):
            self.damaged = True
            return None


class _Records(Sequence):
    """Records that are read when asked for."""

    def __init__(self, reader: JournalReader, offsets: list[int]) -> None:
        self._reader, self._offsets = reader, offsets

    def __len__(self) -> int:
        return len(self._offsets)

    def __getitem__(self, index: int) -> dict[str, object]:
        return self._reader.record(self._offsets[index])


@dataclass
class Journal:
    """
    What could be read of a journal.

    :param header: the first record, None when it was not complete.
    :param records: every complete record after it, each read anew when it is asked for.
    :param truncated_bytes: bytes after the last complete record, 0 for a clean end.
    :param damaged: not just a record cut short: a checksum or length is wrong.
    """

    header: dict[str, object] | None
    records: Sequence[dict[str, object]]
    truncated_bytes: int
    damaged: bool = False


def read_journal(path: str | Path) -> Journal:
    """
    Read every whole record of a journal.

    :raises JournalError: when the file is missing, unreadable or no journal.
    """
    reader = JournalReader(path)
    header, offsets = None, []
    for offset, record in reader.located():
        if not offsets and not reader.lost:
            header = record
        offsets.append(offset)
    return Journal(header, _Records(reader, offsets[header is not None:]),
                   reader.truncated_bytes, reader.damaged)
