"""What a training run writes while it learns: metrics.csv, evaluations.csv and TensorBoard."""

from collections.abc import Mapping
import csv
import io
import os
from pathlib import Path

from stable_crl_ros.crl.run_folder import EVALUATIONS, METRICS


class Table:
    """
    A CSV file that grows by rows and, when a row brings a new name, by columns.

    :param path: of the file; made when it is not there.
    :param step: rows beyond it, left by a run that was cut off, are dropped.
    """

    def __init__(self, path: Path, step: int) -> None:
        self.path = path
        self.rows: list[dict] = [row for row in read_metrics(path) if int(row['step']) <= step]
        self._columns: list[str] = list(self.rows[0]) if self.rows else []
        if path.exists():
            self._rewrite()

    def _rewrite(self) -> None:
        temporary = self.path.with_name(f'.{self.path.name}.tmp')
        with open(temporary, 'w', newline='') as file:
            if self._columns:
                writer = csv.DictWriter(file, self._columns)
                writer.writeheader()
                writer.writerows(self.rows)
        os.replace(temporary, self.path)

    def write(self, row: Mapping[str, float]) -> None:
        """Add a row, `step` among its names."""
        self.rows.append({name: str(value) for name, value in row.items()})
        added = [name for name in row if name not in self._columns]
        if added:
            self._columns += added
            self._rewrite()
            return
        with open(self.path, 'a', newline='') as file:
            csv.DictWriter(file, self._columns).writerow(row)


class RunLog:
    """
    Append to `metrics.csv`, `evaluations.csv` and TensorBoard's event file.

    :param folder: of the run.
    :param step: rows beyond it, left by a run that was cut off, are dropped.
    """

    def __init__(self, folder: Path, step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter
        self._metrics = Table(folder / METRICS, step)
        self._evaluations = Table(folder / EVALUATIONS, step)
        self._board = SummaryWriter(str(folder / 'tensorboard'), purge_step=step + 1)

    @property
    def evaluations(self) -> dict[int, dict[str, float]]:
        """What closed-loop evaluation measured, by the checkpoint's step."""
        return {int(row['step']): {name: float(value) for name, value in row.items()
                                   if name != 'step' and value}
                for row in self._evaluations.rows}

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        """Add one row of metrics."""
        self._metrics.write({'step': step, **metrics})
        for name, value in metrics.items():
            self._board.add_scalar(name, value, step)

    def write_evaluation(self, step: int, scores: Mapping[str, float]) -> None:
        """Add what a checkpoint scored in closed loop, under the step it was saved at."""
        self._evaluations.write({'step': step, **scores})
        for name, value in scores.items():
            self._board.add_scalar(f'evaluation/{name}', value, step)

    def close(self) -> None:
        """Flush and close what is open."""
        self._board.close()


def read_metrics(path: str | Path) -> list[dict[str, str]]:
    """Read a CSV of a run; an empty list where there is none. A torn last row is left out."""
    try:
        text = Path(path).read_text()
    except FileNotFoundError:
        return []
    rows = list(csv.DictReader(io.StringIO(text[:text.rfind('\n') + 1], newline='')))
    return [row for row in rows if None not in row.values() and None not in row]
