"""What became of the trials: one file, replaced as a whole after every trial."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
import json
from pathlib import Path
from typing import TextIO

from stable_crl_ros.durable import write_atomic
from stable_crl_ros.locking import lock_file
from stable_crl_ros.trials.plan import Plan, TrialError

RESULTS = 'results.json'
LOCK = '.lock'


@dataclass(frozen=True)
class Result:
    """
    How one trial ended.

    :param trial: its number in the plan.
    :param success: as judged, once the arm was at rest; None where nobody judged.
    :param why: what ended it: 'judged', 'limit' (of time) or 'swapped back' (the policy node left
        the checkpoint, which counts as a failure).
    :param success_s: from the first action to the goal's being reached, s; None for a failure.
    :param seconds: from the first to the last action, s.
    :param steps: control steps that the policy made.
    :param judge: 'simulator', or who judged.
    :param began: local time.
    :param dataset: of the recorded episode, relative to the day's folder where it is inside;
        `episode` is its number there.
    :param errors: metres from the goal by object, at rest; empty where nothing measures them.
    :param interventions: steps in which a person steered.
    """

    trial: int
    goal: str
    checkpoint: str
    scene_seed: int
    success: bool | None
    why: str
    success_s: float | None
    seconds: float
    steps: int
    judge: str
    began: str
    dataset: str
    episode: int
    notes: str = ''
    errors: Mapping[str, float] = field(default_factory=dict)
    interventions: int = 0


@dataclass(frozen=True)
class Redo:
    """A trial that did not count and was repeated: which, when, and why."""

    trial: int
    when: str
    why: str


class Results:
    """
    The results of one plan, kept in the day's folder.

    :raises TrialError: when what is there belongs to another plan or cannot be read.
    """

    def __init__(self, folder: Path, plan: Plan) -> None:
        self.path, self._plan = folder / RESULTS, plan
        self.done: list[Result] = []
        self.redone: list[Redo] = []
        self.unblinded_after: int | None = None  # trials done when somebody looked
        if self.path.exists():
            self._read()

    @property
    def complete(self) -> bool:
        """Whether every trial of the plan is done."""
        return len(self.done) == len(self._plan.trials)

    def add(self, result: Result) -> None:
        """Keep a result, on disk before this returns; one of the same trial is replaced."""
        self.done = sorted([*(kept for kept in self.done if kept.trial != result.trial), result],
                           key=lambda kept: kept.trial)
        self._write()

    def add_redo(self, redo: Redo) -> None:
        """Keep that a trial does not count, and forget what it may have ended with."""
        self.done = [kept for kept in self.done if kept.trial != redo.trial]
        self.redone.append(redo)
        self._write()

    def unblind(self) -> None:
        """Keep, for ever, that somebody learned what is which before the end."""
        if self.unblinded_after is None and not self.complete:
            self.unblinded_after = len(self.done)
            self._write()

    def _write(self) -> None:
        write_atomic(self.path, json.dumps({
            'plan': self._plan.sha256, 'unblinded_after': self.unblinded_after,
            'results': [asdict(result) for result in self.done],
            'redone': [asdict(redo) for redo in self.redone]}, indent=1).encode())

    def _read(self) -> None:
        try:
            body = json.loads(self.path.read_bytes())
            plan = body['plan']
            self.done = [Result(**result) for result in body['results']]
            self.redone = [Redo(**redo) for redo in body['redone']]
            self.unblinded_after = body['unblinded_after']
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise TrialError(f'{self.path}: cannot be read as results ({error}); restore it, or '
                             'begin another day in another folder') from error
        if plan != self._plan.sha256:
            raise TrialError(f'{self.path}: belongs to another plan ({plan[:12]}, not '
                             f'{self._plan.sha256[:12]}); restore plan.json, or begin another '
                             'day in another folder')


def lock_day(folder: Path) -> TextIO:
    """
    Keep other processes out of a day's folder until the returned file is closed, or death.

    :raises TrialError: when another process runs trials there.
    """
    try:
        return lock_file(folder / LOCK)
    except BlockingIOError as error:
        raise TrialError(f'{folder}: another process runs trials here; end it first, its command '
                         'goes on later, or name another folder') from error
