"""Run a suite: collect the data, train and score every run of the plan; stop and go on at will."""

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
import json
from pathlib import Path
import time

from stable_crl_ros.durable import write_atomic
from stable_crl_ros.evaluation import CONTROLS, evaluate, REPLAY, Score
from stable_crl_ros.experiments.plan import (
    Case,
    GOALS,
    in_order,
    LAST_CHECKPOINTS,
    PlanError,
    Row,
    RunSpec,
    SAVES,
)
from stable_crl_ros.experiments.trained_settings import changed_since, read_trained
from stable_crl_ros.parallel import spread

DATA_SEED = 0
CONTROL_SEED = 0  # of the controls' trials; those of a run have its own seed, so other scenes
SCORES = 'scores.json'


@dataclass(frozen=True)
class SuiteSettings:
    """
    How a suite is run.

    :param folder: of everything it makes.
    :param control_episodes: trials of each control on each goal.
    :param workers: runs at the same time, each on one CPU core.
    :param hours: no run begins after so many; None for no limit.
    :param device: of training, as for `crl.train.train`; trials run on the CPU.
    :raises PlanError: for hours that are none.
    """

    folder: Path
    control_episodes: int = 100
    workers: int = 2
    hours: float | None = None
    device: str = 'auto'

    def __post_init__(self) -> None:
        """Refuse a limit that never comes."""
        if self.hours is not None and not self.hours >= 0.0:
            raise PlanError(f'{self.hours:g} hours: give 0 or more')


@dataclass(frozen=True)
class Tally:
    """
    What became of a policy's trials on one case; the counts that tables are made of.

    :param arm_only: trials that ended with the arm within 3 cm of the goal picture's and an
        object outside the loose tolerance.
    :param median_error: metres, of the object that is furthest off.
    """

    case: Case
    trials: int
    strict: int
    loose: int
    arm_only: int
    median_error: float

    ARM_NEAR = 0.03  # m

    @classmethod
    def of(cls, case: Case, score: Score) -> 'Tally':
        """Count a score's trials."""
        errors = sorted(trial.error for trial in score.trials)
        return cls(case, len(errors), score.successes(), score.successes(loose=True),
                   sum(trial.arm_error <= cls.ARM_NEAR and not trial.success_loose
                       for trial in score.trials), errors[len(errors) // 2])

    def to_dict(self) -> dict:
        """Return plain values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict) -> 'Tally':
        """Read what `to_dict` wrote."""
        return cls(**values | {'case': Case(**values['case'])})


def run_suite(rows: Sequence[Row], settings: SuiteSettings,
              say: Callable[[str], None] = print) -> bool:
    """
    Collect, train and score whatever of a plan is not there yet.

    :param say: told of every step.
    :returns: whether everything is there now.
    :raises PlanError: see `check_settings`.
    """
    deadline = None if settings.hours is None else time.time() + 3600 * settings.hours
    runs = in_order(rows)
    check_settings(settings.folder, runs)
    waiting = [run for run in runs if missing_cases(settings.folder, run)]
    unscored = {run.recipe for run in runs if _missing_controls(settings, run.recipe)}
    for recipe, transitions in sorted(_sizes(
            [run for run in runs if run in waiting or run.recipe in unscored]).items()):
        collect_data(settings.folder, recipe, transitions, settings.workers, say)
    for recipe in sorted({run.recipe for run in runs}):
        score_controls(settings, recipe, say)
    say(f'{len(runs) - len(waiting)} of {len(runs)} runs are done')
    done = 0
    calls = [(settings, run, deadline) for run in waiting]
    with closing(spread(perform, calls, settings.workers)) as reports:
        for run, minutes in zip(waiting, reports, strict=True):
            done += minutes is not None
            if minutes is not None:
                say(f'{run.key}: {minutes:.1f} min; {len(waiting) - done} to go')
    return done == len(waiting)


def _sizes(runs: Sequence[RunSpec]) -> dict[str, int]:
    sizes: dict[str, int] = {}
    for run in runs:
        sizes[run.recipe] = max(run.transitions, sizes.get(run.recipe, 0))
    return sizes


def collect_data(folder: Path, recipe: str, transitions: int, workers: int,
                 say: Callable[[str], None]) -> Path:
    """Record a recipe's episodes, or those that are still missing; return the dataset's path."""
    from stable_crl_ros.sim.recipes import collect_recipe
    path = folder / 'data' / recipe
    mark = path.with_suffix('.complete')
    if not mark.exists() or int(mark.read_text()) < transitions:
        say(f'collecting {transitions} transitions of {recipe}')
        collect_recipe(path, recipe, transitions, DATA_SEED, workers)
        write_atomic(mark, str(transitions).encode())
    return path


def score_controls(settings: SuiteSettings, recipe: str, say: Callable[[str], None]) -> None:
    """Score the policies that learned nothing: no action, one action, the data's own actions."""
    for name in _missing_controls(settings, recipe):
        path = controls_path(settings.folder, name)
        policy = name if name in CONTROLS else f'{REPLAY}{settings.folder / "data" / recipe}'
        found = read_tallies(path)
        say(f'scoring the control: {"" if name in CONTROLS else "actions of "}{name}')
        for case in _unscored(settings, name):
            found[case] = Tally.of(case, evaluate(
                policy, case.task, settings.control_episodes, CONTROL_SEED,
                settings.workers))
            write_tallies(path, found)


def controls_path(folder: Path, name: str) -> Path:
    """Return the scores file of a control, or of a recipe's own actions."""
    return folder / 'controls' / name / SCORES


def _missing_controls(settings: SuiteSettings, recipe: str) -> list[str]:
    return [name for name in (*CONTROLS, recipe) if _unscored(settings, name)]


def _unscored(settings: SuiteSettings, control: str) -> list[Case]:
    found = read_tallies(controls_path(settings.folder, control))
    return [case for case in map(Case, GOALS)
            if case not in found or found[case].trials < settings.control_episodes]


def missing_cases(folder: Path, run: RunSpec) -> list[Case]:
    """Return what a run has still to be scored on, or in more trials."""
    found = read_tallies(folder / 'runs' / run.key / SCORES)
    return [case for case in run.cases
            if case not in found or found[case].trials < run.episodes]


def perform(settings: SuiteSettings, run: RunSpec, deadline: float | None) -> float | None:
    """
    Train one run and score it, in this process; go on where an earlier attempt was cut off.

    :param deadline: on the system's clock (s), after which nothing begins.
    :returns: minutes it took; None where the deadline had passed.
    """
    began = time.time()
    if deadline is not None and began > deadline:
        return None
    path = settings.folder / 'runs' / run.key
    _train(settings, run, path)
    checkpoints = [str(found) for found in last_checkpoints(path, _save_every(run), _steps(run))]
    found = read_tallies(path / SCORES)
    for case in missing_cases(settings.folder, run):
        found[case] = Tally.of(case, evaluate(
            checkpoints, case.task, run.episodes, run.seed, 1,
            sampled=case.sampled, appearance=case.appearance))
        write_tallies(path / SCORES, found)
    return (time.time() - began) / 60


def last_checkpoints(path: Path, every: int, steps: int) -> list[Path]:
    """
    Return the last few checkpoints of a run: its score is theirs, never the best one's.

    :param every: steps at which the run saved; where it was stopped is no matter.
    :param steps: of the whole run, whose last one is saved in any case.
    """
    found = {int(file.stem.removeprefix('step_')): file
             for file in path.glob('step_*.safetensors')}
    return [found[step] for step in sorted(found)
            if step % every == 0 or step == steps][-LAST_CHECKPOINTS:]


def check_settings(folder: Path, runs: Sequence[RunSpec]) -> None:
    """
    Refuse runs whose preset has been changed since they were trained: one table, one preset.

    :raises PlanError: naming the run and what differs.
    """
    for run in runs:
        path = folder / 'runs' / run.key
        trained = read_trained(path)
        if trained and (differing := changed_since(trained, run)):
            raise PlanError(f'{path}: trained with other settings ({"; ".join(differing)}); '
                            'move it away, or make the suite in another folder')


def _steps(run: RunSpec) -> int:
    from stable_crl_ros.crl.presets import make_config
    return run.steps or make_config(run.preset, dict(run.overrides))[1].steps


def _save_every(run: RunSpec) -> int:
    return max(_steps(run) // SAVES, 1)


def _train(settings: SuiteSettings, run: RunSpec, path: Path) -> None:
    from stable_crl_ros.crl.train import train
    steps = _steps(run)
    if path.joinpath('trained').exists():
        return
    train([settings.folder / 'data' / run.recipe], path, run.preset, dict(run.overrides),
          steps=steps, seed=run.seed, resume=(path / 'trainer_state.pt').exists(),
          device=settings.device, threads=1, transitions=run.transitions,
          save_every=_save_every(run), keep_last=LAST_CHECKPOINTS, progress=False,
          calibrates=False)  # scored by what they do; nobody asks them how far it is
    write_atomic(path / 'trained', str(steps).encode())


def read_tallies(path: Path) -> dict[Case, Tally]:
    """Read a scores file; empty where there is none."""
    if not path.exists():
        return {}
    tallies = [Tally.from_dict(values) for values in json.loads(path.read_text())]
    return {tally.case: tally for tally in tallies}


def write_tallies(path: Path, tallies: dict[Case, Tally]) -> None:
    """Write a scores file, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, json.dumps([tallies[case].to_dict() for case in sorted(tallies)],
                                  indent=1).encode())
