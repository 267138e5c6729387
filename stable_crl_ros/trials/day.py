"""Work off a plan, trial by trial: prepare, act, judge, keep; stop and go on at will."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
import time
from typing import Protocol

from stable_crl_ros.data.dataset import Dataset
from stable_crl_ros.data.labels import discard
from stable_crl_ros.trials.plan import CheckpointEntry, GoalEntry, Plan, Trial, TrialError
from stable_crl_ros.trials.results import Redo, Result, Results

SUCCESS, FAILURE, REDO, STOP = WORDS = ('success', 'failure', 'redo', 'stop')
UNKNOWN = 'unknown'  # a verdict: nobody judged
BY = 'stable-crl trials'


@dataclass(frozen=True)
class Acted:
    """
    One run of the policy, from its first action to rest.

    :param word: of `WORDS` that ended it; '' for the limit of time.
    :param seconds: from the first to the last action, s; so is `reached_s`, to the moment from
        which the goal was reached for good, None where it was not or nobody measures it.
    :param reached: whether it is, at rest; None where nobody measures it.
    :param errors: metres from the goal, by object, at rest.
    :param checkpoint: sha256 of the one that acted in the end.
    :param interventions: steps in which a person steered.
    """

    word: str
    seconds: float
    steps: int
    checkpoint: str
    reached: bool | None = None
    reached_s: float | None = None
    errors: Mapping[str, float] = field(default_factory=dict)
    interventions: int = 0


class Stage(Protocol):
    """Where trials happen: a robot, or the simulator, with the stack that runs it."""

    dataset: Path  # of the episodes recorded

    def prepare(self, trial: Trial, goal: GoalEntry, checkpoint: CheckpointEntry) -> None:
        """Bring everything to where a trial begins, the arm at rest."""

    def act(self, limit_s: float, watch: Callable[[], str]) -> Acted:
        """Record and let the policy act until `watch` says a word, or the limit."""

    def keep(self, success: bool | None) -> int:
        """End the recording; return the episode's number."""

    def drop(self, why: str) -> None:
        """Throw the recording away."""


class Judge(Protocol):
    """Who says when a trial begins, how it ended, and whether the day goes on."""

    name: str

    def ready(self, trial: Trial, of: int, goal: str) -> str:
        """Wait until the scene is set; return '' to begin, or `STOP`."""

    def watch(self) -> str:
        """Return one of `WORDS` as soon as a running trial shall end, '' until then."""

    def verdict(self, acted: Acted) -> tuple[str, str]:
        """Return one of `WORDS`, or `UNKNOWN`, on a trial that ended, and notes."""


class SimulatorJudge:
    """The simulator's own measure, unattended."""

    name = 'simulator'

    def ready(self, trial: Trial, of: int, goal: str) -> str:
        """Begin at once."""
        return ''

    def watch(self) -> str:
        """Leave it to the stage, which ends a trial once the goal stays reached."""
        return ''

    def verdict(self, acted: Acted) -> tuple[str, str]:
        """Succeed where everything is in place at rest."""
        return (SUCCESS if acted.reached else FAILURE), ''


def run_day(folder: Path, plan: Plan, stage: Stage, judge: Judge,
            say: Callable[[str], None] = print) -> Results:
    """
    Run every trial that has no result yet.

    Nothing said here tells which checkpoint acts, nor how one did: success is said where the
    simulator judges, whom nobody can sway.

    :param say: told of every trial.
    :returns: the results; incomplete when the judge stopped the day.
    """
    results = Results(folder, plan)
    _drop_strays(folder, stage.dataset, results)
    done = {result.trial for result in results.done}
    if done:
        say(f'{len(done)} of {len(plan.trials)} trials are done; going on')
    for trial in plan.trials:
        while trial.number not in done:
            word = _run_trial(folder, plan, trial, stage, judge, results, say)
            if word == STOP:
                say(f'stopped; {len(results.done)} of {len(plan.trials)} trials are done. The '
                    'same command goes on')
                return results
            if word != REDO:
                done.add(trial.number)
    return results


def _run_trial(folder: Path, plan: Plan, trial: Trial, stage: Stage, judge: Judge,
               results: Results, say: Callable[[str], None]) -> str:
    goal, checkpoint = plan.goal(trial), plan.checkpoint(trial)
    if judge.ready(trial, len(plan.trials), goal.name) == STOP:
        return STOP
    began = time.strftime('%Y-%m-%d %H:%M:%S')
    stage.prepare(trial, goal, checkpoint)
    acted = stage.act(plan.design.limit_s, judge.watch)
    try:
        word, notes = judge.verdict(acted) if acted.word in ('', SUCCESS, FAILURE) else (
            acted.word, '')
    except BaseException:  # Ctrl-C, or a terminal that is gone
        stage.drop(f'trial {trial.number}: nobody judged it')
        raise
    if word in (REDO, STOP):
        stage.drop(f'trial {trial.number}: {word}')
        results.add_redo(Redo(trial.number, began, notes or word))
        return word
    success = None if word == UNKNOWN else word == SUCCESS
    why = 'judged' if acted.word else 'limit'
    if acted.checkpoint != checkpoint.sha256:
        success, why = success and False, 'swapped back'
    episode = stage.keep(success)
    results.add(Result(
        trial.number, goal.name, checkpoint.sha256, trial.scene_seed, success, why,
        _success_time(acted) if success else None, acted.seconds, acted.steps, judge.name, began,
        _relative(stage.dataset, folder), episode, notes, dict(acted.errors), acted.interventions))
    say(f'trial {trial.number} of {len(plan.trials)}: {goal.name}, {acted.steps} steps, '
        f'{acted.seconds:.1f} s, {word}; episode {episode}')
    return word


def _success_time(acted: Acted) -> float:
    # Who judges by eye calls it reached when it is.
    return acted.seconds if acted.reached_s is None else acted.reached_s


def _relative(path: Path, folder: Path) -> str:
    # A day that is moved keeps its own episodes.
    inside = path.is_relative_to(folder.absolute())
    return str(path.relative_to(folder.absolute()) if inside else path)


def _drop_strays(folder: Path, path: Path, results: Results) -> None:
    """Discard what a killed day recorded of a trial that has no result and will be repeated."""
    if not path.is_relative_to(folder.absolute()) or not path.is_dir():
        return
    dataset = Dataset(path)
    dataset.recover()
    known = {result.episode for result in results.done}
    for number in dataset.ids:
        if number not in known:
            discard(dataset, number, BY, 'of a trial that was cut off, and is repeated')


def check_checkpoint(path: str | Path) -> CheckpointEntry:
    """
    Read a checkpoint's identity.

    :raises stable_crl_ros.checkpoint.CheckpointError: for a file that cannot act.
    """
    from stable_crl_ros.checkpoint import peek_checkpoint
    from stable_crl_ros.policy import peek_policy
    path = Path(path).expanduser().absolute()
    peek_policy(path)
    return CheckpointEntry(str(path), peek_checkpoint(path)['sha256'])


def check_goal(name: str, judge: str, directory: str | Path) -> GoalEntry:
    """
    Read a goal's identity: a task's where the simulator judges, else a picture's.

    :raises TrialError: for a task that is none.
    :raises stable_crl_ros.goals.GoalError: for a picture that is not there.
    """
    from stable_crl_ros.goals import GoalStore
    from stable_crl_ros.sim.tasks import TASKS
    if judge == SimulatorJudge.name:
        if name not in TASKS:
            raise TrialError(f'goal {name!r}: the simulator judges its own tasks, each trial with '
                             f'a scene and goal photograph of its own: {", ".join(TASKS)}; '
                             'pictures need --judge operator')
        return GoalEntry(name)
    goal = GoalStore(directory).load(name)
    return GoalEntry(goal.name, str(goal.path.absolute()), goal.sha256)
