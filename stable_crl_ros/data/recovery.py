"""What a crash left behind: journals told apart, and sealed where they were cut off."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
import os
from pathlib import Path

from stable_crl_ros.data.journal import JournalError, lock
from stable_crl_ros.data.journal_reader import JournalReader
from stable_crl_ros.data.seal import seal, SealError
from stable_crl_ros.durable import sync_directory


@dataclass(frozen=True)
class Unsealed:
    """
    A journal found in a dataset, or what became of it.

    :param state: 'recording' (a living process writes it), 'reserved' (empty, an id that is
        taken), 'cut off' (can be recovered), 'recovered', 'empty' (nothing was recorded, it is
        removed), 'sealed' (it had been; the journal is removed), 'unreadable' (kept as it is).
    :param steps: complete steps found.
    :param lost_bytes: bytes of an incomplete or damaged record at the end.
    :param message: one line for the operator.
    :param damaged: steps whose record is damaged; -1 is the record before the first step.
    """

    path: Path
    state: str
    steps: int = 0
    lost_bytes: int = 0
    message: str = ''
    damaged: tuple[int, ...] = ()


def inspect_journal(path: Path, episode_path: Path) -> Unsealed | None:
    """
    Say what a journal is, changing nothing.

    :returns: None when it was sealed and removed meanwhile.
    """
    with _locked(path) as state:
        return _found(path, episode_path, state)


def recover_journal(path: Path, episode_path: Path) -> Unsealed | None:
    """
    Seal a journal that was cut off; leave one that a living process holds alone.

    A journal with damage before its end is kept beside its episode as '.journal.damaged'.

    :returns: None when it was sealed and removed meanwhile.
    """
    with _locked(path) as state:
        found = _found(path, episode_path, state)
        if found is None or found.state not in ('sealed', 'empty', 'cut off'):
            return found
        if found.state == 'cut off':
            try:
                attributes = seal(path, episode_path)
            except SealError as error:
                return Unsealed(path, 'cut off', found.steps, found.lost_bytes,
                                f'{error}; fix the cause, then repair the dataset')
            found = Unsealed(
                path, 'recovered', attributes['steps'], found.lost_bytes,
                f'{episode_path.name}: recovered {attributes["steps"]} steps with an outcome of '
                f'{found.steps} recorded; {found.lost_bytes} bytes of a '
                f'{"damaged" if found.damaged else "cut"} record lost'
                f'{_where(found.damaged)}', found.damaged)
        path.unlink()
        sync_directory(path.parent)
        return found


def _found(path: Path, episode_path: Path, state: str) -> Unsealed | None:
    if state != 'free':
        return None if state == 'gone' else Unsealed(path, state, message={
            'recording': f'{path.name}: being recorded by a living process',
            'reserved': f'{path.name}: reserved, nothing recorded yet'}[state])
    if episode_path.exists():
        return Unsealed(path, 'sealed', message=f'{episode_path.name}: already sealed')
    steps = observations = 0
    try:
        with JournalReader(path) as journal:
            for record in journal:
                steps += record.get('kind') == 'step'
                observations += 'joint_positions' in record
    except JournalError as error:
        return Unsealed(path, 'unreadable', message=str(error))
    state = 'cut off' if observations else 'unreadable' if journal.damaged else 'empty'
    # One record per stretch; the header is record 0, step t was record t + 1.
    damaged = tuple(records + before - 1 for before, records in enumerate(journal.lost))
    if journal.damaged and journal.truncated_bytes:
        damaged += (steps + len(journal.lost),)
    lost = journal.lost_bytes + journal.truncated_bytes
    return Unsealed(path, state, steps, lost, f'{path.name}: {state}, {steps} complete steps'
                    f'{_where(damaged)}', damaged)


def _where(damaged: tuple[int, ...]) -> str:
    names = ['its description' if step < 0 else f'step {step}' for step in damaged]
    return f', damaged at {", ".join(names)}' if names else ''


@contextmanager
def _locked(path: Path) -> Iterator[str]:
    """Hold the writer's lock; yields 'free', 'recording', 'reserved' or 'gone'."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        yield 'gone'
        return
    try:
        if not lock(file):
            yield 'recording'
        elif not os.fstat(file).st_nlink:  # sealed between our opening and locking it
            yield 'gone'
        else:
            yield 'free' if os.fstat(file).st_size else 'reserved'
    finally:
        os.close(file)
