"""What a training run writes while it learns: metrics.csv, evaluations.csv and TensorBoard."""

from collections.abc import Callable, Mapping
import csv
import io
from itertools import count
import os
from pathlib import Path
import socket
import time

from stable_crl_ros.crl.run_folder import EVALUATIONS, METRICS, RunFolder
from stable_crl_ros.durable import replace_atomically


class Table:
    """
    A CSV file that grows by rows and, when a row brings a new name, by columns.

    One that cannot be read is moved aside: it keeps nobody from resuming.

    :param name: of the file; made when it is not there.
    :param step: rows beyond it, left by a run that was cut off, are dropped.
    :param warn: told of what is moved aside.
    """

    def __init__(self, folder: RunFolder, name: str, step: int,
                 warn: Callable[[str], None]) -> None:
        self._folder, self.path = folder, folder.path / name
        try:
            self.rows = [row for row in read_metrics(self.path) if int(row['step']) <= step]
        except (ValueError, csv.Error):
            self.rows = []
            warn(f'{self.path}: is no log of a run; moved to {_move_aside(self.path).name}, '
                 'and begun anew')
        self._columns: list[str] = list(self.rows[0]) if self.rows else []
        if self.path.exists():
            self._rewrite()

    def _rewrite(self) -> None:
        def write(temporary: Path) -> None:
            with open(temporary, 'w', newline='') as file:
                if self._columns:
                    writer = csv.DictWriter(file, self._columns)
                    writer.writeheader()
                    writer.writerows(self.rows)
        with self._folder.writing(self.path):
            replace_atomically(self.path, write)

    def write(self, row: Mapping[str, float]) -> None:
        """Add a row, `step` among its names."""
        self.rows.append({name: str(value) for name, value in row.items()})
        added = [name for name in row if name not in self._columns]
        if added:
            self._columns += added
            self._rewrite()
            return
        with self._folder.writing(self.path), open(self.path, 'a', newline='') as file:
            csv.DictWriter(file, self._columns).writerow(row)


class Board:
    """
    TensorBoard's event file; where it cannot be written, training goes on without.

    Written at once: torch's own writer fails in a thread, and again whenever it is used.

    :param step: events beyond it, in the files of earlier parts of a run, count no longer.
    :param warn: told once of what cannot be written.
    """

    def __init__(self, folder: Path, step: int, warn: Callable[[str], None]) -> None:
        from tensorboard.compat.proto.event_pb2 import SessionLog
        # TensorBoard reads the files in the order of their names.
        self._path: Path | None = folder / (
            f'events.out.tfevents.{time.time_ns()}.{socket.gethostname()}.{os.getpid()}')
        self._warn = warn
        self._add(file_version='brain.Event:2')
        self._add(step=step + 1, session_log=SessionLog(status=SessionLog.START))

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Add values by their names."""
        from tensorboard.compat.proto.summary_pb2 import Summary
        self._add(step=step, summary=Summary(value=[
            Summary.Value(tag=name, simple_value=float(value)) for name, value in values.items()]))

    def _add(self, **event) -> None:
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.summary.writer.record_writer import RecordWriter
        if self._path is None:
            return
        try:
            self._path.parent.mkdir(exist_ok=True)
            with open(self._path, 'ab') as file:
                RecordWriter(file).write(Event(wall_time=time.time(), **event).SerializeToString())
        except OSError as error:
            self._warn(f'{self._path}: cannot be written ({error.strerror}); training goes on '
                       'without TensorBoard')
            self._path = None


class RunLog:
    """
    Append to `metrics.csv`, `evaluations.csv` and TensorBoard's event file.

    :param folder: of the run.
    :param step: rows beyond it, left by a run that was cut off, are dropped.
    :param warn: told of what cannot be read, or not be written to TensorBoard.
    """

    def __init__(self, folder: RunFolder, step: int, warn: Callable[[str], None] = print) -> None:
        self._metrics = Table(folder, METRICS, step, warn)
        self._evaluations = Table(folder, EVALUATIONS, step, warn)
        self._board = Board(folder.path / 'tensorboard', step, warn)

    @property
    def evaluations(self) -> dict[int, dict[str, float]]:
        """What closed-loop evaluation measured, by the checkpoint's step."""
        return {int(row['step']): {name: float(value) for name, value in row.items()
                                   if name != 'step' and value}
                for row in self._evaluations.rows}

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        """Add one row of metrics."""
        self._metrics.write({'step': step, **metrics})
        self._board.write(step, metrics)

    def write_evaluation(self, step: int, scores: Mapping[str, float]) -> None:
        """Add what a checkpoint scored in closed loop, under the step it was saved at."""
        self._evaluations.write({'step': step, **scores})
        self._board.write(step, {f'evaluation/{name}': value for name, value in scores.items()})


def read_metrics(path: str | Path) -> list[dict[str, str]]:
    """
    Read a CSV of a run; an empty list where there is none. A torn last row is left out.

    :raises ValueError: when it is no such file; `csv.Error` likewise.
    """
    try:
        text = Path(path).read_text()
    except FileNotFoundError:
        return []
    reader = csv.DictReader(io.StringIO(text[:text.rfind('\n') + 1], newline=''))
    if text and 'step' not in (reader.fieldnames or ()):
        raise ValueError(f'{path}: has no column "step"')
    rows = [row for row in reader if None not in row.values() and None not in row]
    for value in (value for row in rows for value in row.values() if value):
        float(value)
    return rows


def _move_aside(path: Path) -> Path:
    names = (f'{path.name}.unreadable{number or ""}' for number in count())
    aside = next(path.with_name(name) for name in names if not path.with_name(name).exists())
    return path.rename(aside)
