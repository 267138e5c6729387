"""The plan of an evaluation day: which checkpoint faces which goal when, fixed beforehand."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
import hashlib
import json
from pathlib import Path
import time

import numpy as np
from stable_crl_ros.durable import write_atomic

PLAN = 'plan.json'
FORMAT_VERSION = 1
SIMULATOR, OPERATOR = JUDGES = ('simulator', 'operator')
SCENE_STREAM = 2_000_000  # evaluation and collection draw their scenes elsewhere


class TrialError(RuntimeError):
    """A day of trials that cannot be run, or not as asked."""


@dataclass(frozen=True)
class GoalEntry:
    """
    One goal.

    :param name: of a picture or, where the simulator judges, of the task that draws scene and
        goal.
    :param path: of the picture; '' for a task.
    :param sha256: of the picture's bytes; '' for a task.
    """

    name: str
    path: str = ''
    sha256: str = ''


@dataclass(frozen=True)
class CheckpointEntry:
    """
    One checkpoint.

    :param path: absolute.
    :param sha256: its identity, as the policy node names it.
    """

    path: str
    sha256: str


@dataclass(frozen=True)
class Design:
    """
    What is compared on what, and how; another design is another day.

    :param n: trials of each checkpoint on each goal.
    :param seed: of the order and of the scenes.
    :param limit_s: after which a trial ends, s; 0 for the task's own number of steps, which
        needs the simulator as judge.
    :param judge: one of `JUDGES`.
    :param robot: as `stable-crl launch` takes it.
    :param alternating: keep the goals' order and leave the scene as it is: each undoes the last.
    :raises TrialError: for what makes no sense.
    """

    goals: tuple[GoalEntry, ...]
    checkpoints: tuple[CheckpointEntry, ...]
    n: int
    seed: int
    limit_s: float
    judge: str
    robot: str
    alternating: bool = False

    def __post_init__(self) -> None:
        """Refuse what could not be compared."""
        if self.n < 1 or self.seed < 0 or not 0.0 <= self.limit_s < 3600.0:
            raise TrialError(f'trials need n >= 1, a seed >= 0 and a limit below an hour; got '
                             f'{self.n}, {self.seed} and {self.limit_s:g} s')
        if self.judge not in JUDGES:
            raise TrialError(f'judge {self.judge!r}: choose {" or ".join(JUDGES)}')
        if not self.goals or not self.checkpoints:
            raise TrialError('trials need at least one goal and one checkpoint')
        for what, keys in (('goal', [goal.name for goal in self.goals]),
                           ('checkpoint', [entry.sha256 for entry in self.checkpoints])):
            twice = sorted({key for key in keys if keys.count(key) > 1})
            if twice:
                raise TrialError(f'{what} {", ".join(twice)} is there twice; name each once')

    @property
    def paired(self) -> bool:
        """Whether all checkpoints meet the very same scenes."""
        return self.judge == SIMULATOR

    @classmethod
    def from_dict(cls, values: dict) -> 'Design':
        """Read what `dataclasses.asdict` gave."""
        return cls(**values | {
            'goals': tuple(GoalEntry(**goal) for goal in values['goals']),
            'checkpoints': tuple(CheckpointEntry(**entry) for entry in values['checkpoints'])})


@dataclass(frozen=True)
class Trial:
    """
    One trial of the plan.

    :param number: 1 for the first.
    :param block: 0 for the first; a block holds every goal with every checkpoint once.
    :param goal: index into the design's goals; `checkpoint` into its checkpoints.
    :param scene_seed: of the scene; the same for all checkpoints of a block and goal.
    """

    number: int
    block: int
    goal: int
    checkpoint: int
    scene_seed: int


@dataclass(frozen=True)
class Plan:
    """
    A design and the order of its trials.

    :param sha256: over both; what the results name.
    """

    design: Design
    trials: tuple[Trial, ...]
    created: str
    sha256: str

    def goal(self, trial: Trial) -> GoalEntry:
        """Return what a trial shall bring about."""
        return self.design.goals[trial.goal]

    def checkpoint(self, trial: Trial) -> CheckpointEntry:
        """Return what acts in a trial."""
        return self.design.checkpoints[trial.checkpoint]


def draw_trials(design: Design) -> tuple[Trial, ...]:
    """
    Draw the order: in every block each goal meets each checkpoint once, shuffled.

    What drifts over a day (light, batteries, the operator) so meets all checkpoints alike.
    """
    rng = np.random.default_rng([design.seed, SCENE_STREAM])
    trials: list[Trial] = []
    for block in range(design.n):
        pairs = [(goal, checkpoint) for goal in range(len(design.goals))
                 for checkpoint in range(len(design.checkpoints))]
        order = range(len(pairs)) if design.alternating else rng.permutation(len(pairs))
        for goal, checkpoint in (pairs[index] for index in order):
            trials.append(Trial(len(trials) + 1, block, goal, checkpoint,
                                _scene_seed(design.seed, block, goal)))
    return tuple(trials)


def _scene_seed(seed: int, block: int, goal: int) -> int:
    stream = np.random.SeedSequence([seed, SCENE_STREAM, block, goal])
    return int(stream.generate_state(1)[0] >> 1)  # a ROS parameter is a signed number


def open_plan(folder: Path, design: Design | None) -> Plan:
    """
    Write the plan of a new day, or read that of a day that goes on.

    :param design: None for whatever is there.
    :raises TrialError: when another design is there, none at all, or one that was changed.
    """
    path = folder / PLAN
    if path.exists():
        plan = read_plan(folder)
        if design is not None and design != plan.design:
            raise TrialError(f'{path}: another plan is being worked off here ('
                             f'{"; ".join(_differences(plan.design, design))}); repeat its '
                             'arguments, or none of them, or name another folder')
        return plan
    if design is None:
        raise TrialError(f'{path}: no such file, so there is no day to go on with; name goals '
                         'and checkpoints to begin one')
    return _write_plan(folder, design)


def _write_plan(folder: Path, design: Design) -> Plan:
    body = {'format_version': FORMAT_VERSION,
            'created': time.strftime('%Y-%m-%d %H:%M:%S'), 'design': asdict(design),
            'trials': [asdict(trial) for trial in draw_trials(design)]}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_atomic(folder / PLAN, json.dumps(
            body | {'sha256': _digest(body)}, indent=1).encode(), new=True)
    except OSError as error:
        raise TrialError(f'{folder}: no plan can be written there ({error.strerror}); name '
                         'another folder') from error
    return read_plan(folder)


def read_plan(folder: Path) -> Plan:
    """
    Read a day's plan.

    :raises TrialError: when there is none, or it is not as it was written.
    """
    path = folder / PLAN
    try:
        body = json.loads(path.read_bytes())
        sha256 = body.pop('sha256')
        if _digest(body) != sha256:
            raise TrialError(f'{path}: was changed after it was made, and a plan must not be; '
                             'restore it, or begin another day in another folder')
        return Plan(Design.from_dict(body['design']),
                    tuple(Trial(**trial) for trial in body['trials']), body['created'], sha256)
    except FileNotFoundError:
        raise TrialError(f'{folder}: holds no {PLAN}; name the folder of a day of trials') \
            from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise TrialError(f'{path}: cannot be read as a plan ({error})') from error


def _digest(body: dict) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


def _differences(before: Design, now: Design) -> Sequence[str]:
    found = []
    for name, old in asdict(before).items():
        new = asdict(now)[name]
        if old != new:
            found.append(f'{name}: {_short(old)} then, {_short(new)} now')
    return found


def _short(value: object) -> str:
    if not isinstance(value, tuple | list):
        return str(value)
    return ' '.join(entry.get('name') or entry['sha256'][:12] for entry in value)
