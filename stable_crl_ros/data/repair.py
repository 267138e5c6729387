"""Repair a dataset: seal what was cut off, rebuild the index, say what stays damaged."""

from dataclasses import dataclass
from pathlib import Path

from stable_crl_ros.data.dataset import Dataset, INDEX
from stable_crl_ros.data.recovery import Unsealed

DONE = ('recovered', 'empty', 'sealed')
ALIVE = ('recording', 'reserved')


@dataclass(frozen=True)
class Repair:
    """
    What a repair found, and what became of it.

    :param journals: every journal that was there.
    :param damaged: name of an episode that cannot be opened -> why.
    :param kept: journals with damage in the middle, kept beside what could be read of them.
    """

    path: str
    journals: tuple[Unsealed, ...]
    damaged: dict[str, str]
    kept: tuple[str, ...]
    dry_run: bool = False

    @property
    def sound(self) -> bool:
        """Tell whether nothing stays damaged or unsealed."""
        done = all(item.state in DONE + ALIVE for item in self.journals)
        return not self.damaged and (done or self.dry_run)

    def lines(self) -> list[str]:
        """Return it for people."""
        lines = [item.message for item in self.journals]
        lines += [f'damaged: {why}' for why in self.damaged.values()]
        lines += [f'{name}: kept because it is damaged in the middle; what could be read is in '
                  'the episode' for name in self.kept]
        return lines or [f'{self.path}: nothing to repair']

    def to_dict(self) -> dict:
        """Return it for machines."""
        return {'path': self.path, 'sound': self.sound, 'damaged': self.damaged,
                'kept': list(self.kept), 'journals': [
                    {'name': item.path.name, 'state': item.state, 'steps': item.steps,
                     'lost_bytes': item.lost_bytes, 'message': item.message}
                    for item in self.journals]}


def repair(path: str | Path, dry_run: bool = False) -> Repair:
    """
    Seal every journal that a crash cut off, and write the index anew from the episodes.

    Reserved numbers and journals of living processes stay as they are.

    :param dry_run: only look.
    :raises DatasetError: when it is no dataset, or not writable.
    """
    dataset = Dataset(path)
    journals = dataset.unsealed() if dry_run else dataset.recover()
    if not dry_run:
        (dataset.path / INDEX).unlink(missing_ok=True)
    kept = tuple(sorted(item.name for item in dataset.path.glob('*.journal.damaged')))
    return Repair(str(path), tuple(journals), dataset.broken, kept, dry_run)
