"""What a training run writes while it learns: metrics.csv and TensorBoard."""

from collections.abc import Mapping
import csv
import os
from pathlib import Path


class RunLog:
    """
    Append metrics to `metrics.csv` and to TensorBoard's event file.

    :param folder: of the run.
    :param step: rows beyond it, left by a run that was cut off, are dropped.
    """

    def __init__(self, folder: Path, step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter
        self.path = folder / 'metrics.csv'
        self._rows = [row for row in read_metrics(self.path) if int(row['step']) <= step]
        self._columns: list[str] = list(self._rows[0]) if self._rows else []
        self._rewrite()
        self._file = open(self.path, 'a', newline='')  # noqa: SIM115 closed by `close`
        self._board = SummaryWriter(str(folder / 'tensorboard'), purge_step=step + 1)

    def _rewrite(self) -> None:
        temporary = self.path.with_name('.metrics.csv.tmp')
        with open(temporary, 'w', newline='') as file:
            if self._rows:
                writer = csv.DictWriter(file, self._columns)
                writer.writeheader()
                writer.writerows(self._rows)
        os.replace(temporary, self.path)

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        """
        Add one row.

        :param metrics: the same names every time.
        """
        row = {'step': step, **metrics}
        if not self._columns:
            self._columns = list(row)
            csv.DictWriter(self._file, self._columns).writeheader()
        csv.DictWriter(self._file, self._columns, extrasaction='ignore').writerow(row)
        self._file.flush()
        for name, value in metrics.items():
            self._board.add_scalar(name, value, step)

    def close(self) -> None:
        """Flush and close both files."""
        self._file.close()
        self._board.close()


def read_metrics(path: str | Path) -> list[dict[str, str]]:
    """Read a metrics.csv; an empty list where there is none. A torn last row is left out."""
    try:
        with open(path, newline='') as file:
            rows = list(csv.DictReader(file))
    except FileNotFoundError:
        return []
    return [row for row in rows if None not in row.values() and None not in row]
