"""Notes of the suite's runs that failed, each in the run's folder, so that the others go on."""

from dataclasses import asdict, dataclass
import json
from pathlib import Path

from stable_crl_ros.durable import write_atomic
from stable_crl_ros.experiments.plan import RunSpec

NOTE = 'failed.json'


@dataclass(frozen=True)
class Failure:
    """
    Why a run could not be trained or scored.

    :param final: whether it would fail again, and is not tried while the note is there.
    """

    text: str
    final: bool


def failure_of(folder: Path, run: RunSpec) -> Failure | None:
    """
    Read the note of a run.

    :param folder: of the suite.
    :returns: None where there is none, or none to read.
    """
    try:
        return Failure(**json.loads(_path(folder, run).read_text()))
    except (OSError, ValueError, TypeError):
        return None


def note_failure(folder: Path, run: RunSpec, text: str, final: bool) -> None:
    """Leave a note; see `Failure`."""
    path = _path(folder, run)
    path.parent.mkdir(parents=True, exist_ok=True)
    if final:
        text = f'{text} (not tried again while {path} is there)'
    write_atomic(path, json.dumps(asdict(Failure(text, final)), indent=1).encode())


def forget_failure(folder: Path, run: RunSpec) -> None:
    """Take the note away."""
    _path(folder, run).unlink(missing_ok=True)


def _path(folder: Path, run: RunSpec) -> Path:
    return folder / 'runs' / run.key / NOTE
