"""Run a suite: collect the data, train and score every run of the plan; stop and go on at will."""

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
import time

from stable_crl_ros.crl.run_folder import find_checkpoints
from stable_crl_ros.durable import write_atomic
from stable_crl_ros.evaluation import CONTROLS, evaluate, REPLAY
from stable_crl_ros.experiments.failures import failure_of, forget_failure, note_failure
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
from stable_crl_ros.experiments.tallies import read_tallies, SCORES, Tally, write_tallies
from stable_crl_ros.experiments.trained_settings import changed_since, read_trained
from stable_crl_ros.parallel import spread
from stable_crl_ros.refusal import is_refusal

DATA_SEED = 0
CONTROL_SEED = 0  # of the controls' trials; those of a run have its own seed, so other scenes


@dataclass(frozen=True)
class SuiteSettings:
    """
    How a suite is run.

    :param folder: of everything it makes.
    :param control_episodes: trials of each control on each goal.
    :param workers: runs at the same time, each on one CPU core, 1 or more.
    :param hours: no run begins after so many; None for no limit.
    :param device: of training, as for `crl.train.train`; trials run on the CPU.
    :raises PlanError: for hours or workers that are none.
    :raises stable_crl_ros.crl.config.ConfigError: for a device that is not there.
    """

    folder: Path
    control_episodes: int = 100
    workers: int = 2
    hours: float | None = None
    device: str = 'auto'

    def __post_init__(self) -> None:
        """Refuse what would be found out after hours of work."""
        from stable_crl_ros.crl.train import choose_device
        if self.hours is not None and not self.hours >= 0.0:
            raise PlanError(f'{self.hours:g} hours: give 0 or more')
        if self.workers < 1:
            raise PlanError(f'{self.workers} workers: give 1 or more')
        choose_device(self.device)


def run_suite(rows: Sequence[Row], settings: SuiteSettings,
              say: Callable[[str], None] = print) -> bool:
    """
    Collect, train and score whatever of a plan is not there yet.

    A run that fails leaves a note of why in its folder, and the others go on. What can only fail
    again, as losses that are not finite, is not tried again while the note is there.

    :param say: told of every step.
    :returns: whether everything is there now.
    :raises PlanError: see `check_settings`.
    """
    deadline = None if settings.hours is None else time.time() + 3600 * settings.hours
    runs = in_order(rows)
    check_settings(settings.folder, runs)
    waiting = [run for run in runs if missing_cases(settings.folder, run)
               and not ((failure := failure_of(settings.folder, run)) and failure.final)]
    unscored = {run.recipe for run in runs if _missing_controls(settings, run.recipe)}
    for recipe, transitions in sorted(_sizes(
            [run for run in runs if run in waiting or run.recipe in unscored]).items()):
        collect_data(settings.folder, recipe, transitions, settings.workers, say)
    for recipe in sorted({run.recipe for run in runs}):
        score_controls(settings, recipe, say)
    complete = sum(not missing_cases(settings.folder, run) for run in runs)
    say(f'{complete} of {len(runs)} runs are done')
    done = _perform_all(settings, waiting, deadline, say)
    return complete + done == len(runs)


def _perform_all(settings: SuiteSettings, waiting: Sequence[RunSpec], deadline: float | None,
                 say: Callable[[str], None]) -> int:
    """Perform runs; return how many are done, and say of the others why."""
    done, late = 0, 0
    calls = [(settings, run, deadline) for run in waiting]
    try:
        with closing(spread(_attempt, calls, settings.workers)) as reports:
            for number, (run, minutes) in enumerate(zip(waiting, reports, strict=True), 1):
                if minutes is not None:
                    done += 1
                    say(f'{run.key}: {minutes:.1f} min; {len(waiting) - number} to go')
                elif failure := failure_of(settings.folder, run):
                    say(f'{run.key} failed, the others go on: {failure.text}')
                else:
                    late += 1
    except KeyboardInterrupt:
        say('stopped; the same command goes on')
        raise
    if late:
        say(f'out of time for {late} runs; the same command goes on')
    return done


def _attempt(settings: SuiteSettings, run: RunSpec, deadline: float | None) -> float | None:
    """Perform a run; note why where that fails, and return None."""
    from stable_crl_ros.crl.run import NotFiniteError, StoppedError
    try:
        minutes = perform(settings, run, deadline)
    except StoppedError as error:  # by Ctrl-C, which training makes a refusal of
        raise KeyboardInterrupt from error
    except Exception as error:
        if not is_refusal(error):
            raise
        note_failure(settings.folder, run, str(error), isinstance(error, NotFiniteError))
        return None
    forget_failure(settings.folder, run)
    return minutes


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
    if _collected(mark) < transitions:
        say(f'collecting {transitions} transitions of {recipe}')
        collect_recipe(path, recipe, transitions, DATA_SEED, workers)
        write_atomic(mark, str(transitions).encode())
    return path


def _collected(mark: Path) -> int:
    try:
        return int(mark.read_text()) if mark.exists() else 0
    except ValueError as error:
        raise PlanError(f'{mark} does not say how many transitions were collected; delete it, and '
                        'those there are are counted anew') from error


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
    if not checkpoints:
        raise PlanError(f'{path}: trained, but its checkpoints are gone; delete this folder to '
                        'train it again')
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
    return [found for step, found in find_checkpoints(path).items()
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
