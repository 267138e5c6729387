"""The journal: what was appended survives cuts, damage, full disks and second writers."""

import errno
import os
import resource
import threading

import numpy as np
import pytest
from stable_crl_ros.data.journal import JournalError, JournalWriter
from stable_crl_ros.data.journal_reader import read_journal

RECORDS = [
    {'kind': 'step', 'step': 0, 'image': np.arange(12, dtype=np.uint8).reshape(2, 2, 3)},
    {'kind': 'step', 'step': 1, 'scalar': np.float32(np.nan), 'flag': np.bool_(True)},
    {'kind': 'end', 'success': None, 'note': 'Mitte é', 'stamp': np.int64(2**62 + 1)},
    {'kind': 'empty', 'none': np.zeros((0, 3), np.float32)},
]


@pytest.fixture
def journal(tmp_path):
    """Write a small journal; give its path and the size after the header and each record."""
    path = tmp_path / 'episode_000000.journal'
    writer = JournalWriter(path, {'episode_id': 0})
    sizes = [writer.size]
    for record in RECORDS:
        writer.append(record)
        sizes.append(writer.size)
    writer.close()
    return path, sizes


def assert_same(found, expected):
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert one.keys() == other.keys()
        for name, value in other.items():
            np.testing.assert_array_equal(one[name], value)
            if isinstance(value, np.ndarray | np.generic):
                assert (one[name].dtype, one[name].shape) == (value.dtype, value.shape)


def test_reads_back_what_was_appended(journal):
    found = read_journal(journal[0])
    assert found.header == {'episode_id': 0}
    assert (found.truncated_bytes, found.damaged) == (0, False)
    assert_same(found.records, RECORDS)


def test_a_cut_at_every_byte_keeps_every_complete_record(journal):
    path, sizes = journal
    data = path.read_bytes()
    for length in range(len(data)):
        path.write_bytes(data[:length])
        found = read_journal(path)
        complete = sum(size <= length for size in sizes)
        assert (found.header is None) == (complete == 0)
        assert_same(found.records, RECORDS[:max(0, complete - 1)])
        assert not found.damaged
        end = sizes[complete - 1] if complete else min(length, 8)
        assert found.truncated_bytes == length - end


def test_a_changed_byte_anywhere_is_detected_and_costs_one_record_at_most(journal):
    path, sizes = journal
    data = path.read_bytes()
    for position in range(len(data)):
        changed = bytearray(data)
        changed[position] ^= 0x41
        path.write_bytes(changed)
        found = read_journal(path)
        assert found.damaged or found.truncated_bytes > 0
        hit = sum(size <= position for size in sizes)  # record 0 is the header
        assert (found.header is None) == (hit == 0 and position >= 8)
        assert_same(found.records, [record for number, record in enumerate(RECORDS, 1)
                                    if number != hit])


def test_what_no_record_was_ever_in_is_no_journal(tmp_path):
    path = tmp_path / 'a.journal'
    path.write_bytes(b'something else altogether')
    with pytest.raises(JournalError, match='not a journal'):
        read_journal(path)


def test_zeros_after_a_power_cut_are_no_record(journal):
    path, sizes = journal
    path.write_bytes(path.read_bytes() + bytes(4096))
    found = read_journal(path)
    assert_same(found.records, RECORDS)
    assert (found.truncated_bytes, found.damaged) == (4096, True)


def test_refuses_a_second_writer_while_the_first_lives(tmp_path):
    path = tmp_path / 'a.journal'
    writer = JournalWriter(path, {})
    with pytest.raises(JournalError, match='recorded by another'):
        JournalWriter(path, {})
    writer.close()


def test_refuses_to_write_over_a_recording(journal):
    before = journal[0].read_bytes()
    with pytest.raises(JournalError, match='already holds a recording'):
        JournalWriter(journal[0], {})
    assert journal[0].read_bytes() == before


@pytest.mark.parametrize('content', [b'PK\x03\x04 some zip file', b'SCRLJNL9' + bytes(30)])
def test_refuses_a_file_that_is_no_journal(tmp_path, content):
    path = tmp_path / 'a.journal'
    path.write_bytes(content)
    with pytest.raises(JournalError, match='not a journal'):
        read_journal(path)


def test_names_a_missing_file_and_a_missing_directory(tmp_path):
    with pytest.raises(JournalError, match='No such file'):
        read_journal(tmp_path / 'none.journal')
    with pytest.raises(JournalError, match='No such file'):
        JournalWriter(tmp_path / 'none' / 'a.journal', {})


def test_refuses_to_append_after_closing(tmp_path):
    writer = JournalWriter(tmp_path / 'a.journal', {})
    writer.close()
    with pytest.raises(JournalError, match='closed'):
        writer.append({'step': 0})


@pytest.fixture
def file_size_limit():
    """Give a function that limits this process's files, as a full disk would."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_refused_write_keeps_earlier_records_and_the_next_one_may_succeed(
        tmp_path, file_size_limit):
    path = tmp_path / 'a.journal'
    writer = JournalWriter(path, {})
    writer.append(RECORDS[0])
    file_size_limit(writer.size + 100)  # the next record fits in part
    with pytest.raises(JournalError, match='File too large.*free space'):
        writer.append({'image': np.zeros(1000, np.uint8)})
    assert path.stat().st_size == writer.size
    file_size_limit(10**6)
    writer.append(RECORDS[1])
    writer.close()
    assert_same(read_journal(path).records, RECORDS[:2])


@pytest.fixture
def busy_disk(monkeypatch):
    """Let nothing be forced to disk until the event that is given is set."""
    free, force = threading.Event(), os.fsync

    def force_when_free(file):
        assert free.wait(60)
        force(file)
    monkeypatch.setattr(os, 'fsync', force_when_free)
    yield free
    free.set()


def test_a_busy_disk_holds_no_record_up(tmp_path, journal, busy_disk):
    writer = JournalWriter(tmp_path / 'a.journal', {}, sync_every=1)
    for record in RECORDS:
        writer.append(record)
    assert_same(read_journal(writer.path).records, RECORDS)  # what a killed process leaves
    busy_disk.set()
    writer.close()


def test_what_could_not_be_forced_to_disk_is_told_once_and_recording_goes_on(
        tmp_path, monkeypatch):
    writer = JournalWriter(tmp_path / 'a.journal', {}, sync_every=1)
    writer.sync()
    refused = threading.Event()

    def refuse(file):
        refused.set()
        raise OSError(errno.EIO, 'Input/output error')
    with monkeypatch.context() as disk:
        disk.setattr(os, 'fsync', refuse)
        writer.append(RECORDS[0])
        assert refused.wait(60)
    with pytest.raises(JournalError, match='forced to disk.*Input/output'):
        writer.sync()
    for record in RECORDS[1:]:
        writer.append(record)
    writer.sync()
    writer.close()
    assert_same(read_journal(writer.path).records, RECORDS)
