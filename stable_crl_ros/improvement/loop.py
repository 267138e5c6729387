"""Rounds of improvement: act, learn from it, compare, adopt or not; stop and go on at will."""

from collections.abc import Callable, Sequence
import os
from pathlib import Path
import shutil
from typing import Protocol

from stable_crl_ros.checkpoint import peek_checkpoint
from stable_crl_ros.data.union import open_datasets
from stable_crl_ros.durable import replace_atomically
from stable_crl_ros.improvement.history import History, Settings
from stable_crl_ros.improvement.rule import Decision, ImproveError
from stable_crl_ros.trials.scores import Outcome, rates

ADOPTED = 'adopted.safetensors'
FINAL = 'final'


class Ground(Protocol):
    """Where a loop acts and compares: the simulator, or a robot with an operator."""

    paired: bool  # whether both checkpoints of a comparison meet the same scenes

    def collect(self, number: int, checkpoint: Path, dataset: Path) -> dict:
        """
        Record the autonomous episodes of a round; whatever is there of them already counts.

        :returns: what is to be said about them, plain values.
        """

    def compare(self, name: str, running: Path, candidate: Path) -> Sequence[Outcome]:
        """Run trials of both, labelled `RUNNING` and `CANDIDATE`."""

    def adopt(self, number: int, checkpoint: Path) -> str:
        """Have the robot act by another checkpoint from now on; say what was done."""


def improve(folder: Path, settings: Settings, ground: Ground, threads: int | None = None,
            say: Callable[[str], None] = print) -> History:
    """
    Run the rounds that are missing, then compare what was adopted with what it began with.

    :param threads: of torch, while it learns.
    :param say: told of every step.
    :raises ImproveError: when the folder holds another loop, or a checkpoint changed; before
        anything is written, `ConfigError`, `TrainError` or `DatasetError` for what could not be
        learned from.
    """
    folder = folder.absolute()
    _check_learning(settings, threads)
    history = History(folder, settings)
    if peek_checkpoint(settings.checkpoint)['sha256'] != settings.sha256:
        raise ImproveError(f'{settings.checkpoint} is another checkpoint than the loop began with')
    for number in range(1, settings.rounds + 1):
        entry = history.rounds[number - 1] if number <= len(history.rounds) else {}
        if 'adopted' not in entry:
            _run_round(history, number, ground, threads, say)
            history.final = None
    if history.final is None:
        _compare_with_start(history, ground, say)
    return history


def _check_learning(settings: Settings, threads: int | None) -> None:
    """Refuse before hours of episodes what learning would refuse after them."""
    from stable_crl_ros.crl.train import check_numbers, POSITIVE, THREADS
    from stable_crl_ros.crl.training_data import find_control_rate, learned_entries
    from stable_crl_ros.crl.warm_start import read_start
    check_numbers({'steps': settings.steps}, POSITIVE)
    check_numbers({'threads': threads}, THREADS)
    start = read_start(settings.checkpoint, None, settings.overrides)
    if settings.datasets:
        open_datasets(settings.datasets)
        if entries := learned_entries(settings.datasets):
            start.check_rate(find_control_rate(entries))


def _run_round(history: History, number: int, ground: Ground, threads: int | None,
               say: Callable[[str], None]) -> None:
    folder, (running, sha256) = history.folder / f'round_{number:02d}', history.running
    folder.mkdir(exist_ok=True)
    entry = history.note(number, running=running, running_sha256=sha256)
    if 'collected' not in entry:
        said = ground.collect(number, Path(running), folder / 'episodes')
        entry = history.note(number, collected=said)
        say(f'round {number}: {said["episodes"]} autonomous episodes, {said["steps"]} steps')
    if 'candidate' not in entry:
        candidate = _fine_tune(history, number, Path(running), folder / 'run', threads)
        entry = history.note(number, candidate=str(candidate),
                             candidate_sha256=peek_checkpoint(candidate)['sha256'])
        say(f'round {number}: trained {history.settings.steps} steps: {candidate}')
    if 'decision' not in entry:
        decision, found = compare(history.settings, ground, f'round_{number:02d}',
                                  Path(running), Path(entry['candidate']))
        entry = history.note(number, rates=found, decision=decision.to_dict())
        say(f'round {number}: running {_share(decision.running)}, candidate '
            f'{_share(decision.candidate)}; {decision.why}: '
            f'{"adopted" if decision.adopt else "kept what runs"}')
    words = ''
    if entry['decision']['adopt']:
        _copy(Path(entry['candidate']), history.folder / ADOPTED)
        words = ground.adopt(number, history.folder / ADOPTED)
        say(f'round {number}: {words}')
    history.note(number, adopted=words)


def _fine_tune(history: History, number: int, running: Path, run: Path,
               threads: int | None) -> Path:
    """Train from the running checkpoint on all there is; go on where an earlier try ended."""
    from stable_crl_ros.crl.run_folder import STATE_FILE
    from stable_crl_ros.crl.train import train
    settings = history.settings
    own = [history.folder / f'round_{earlier:02d}' / 'episodes'
           for earlier in range(1, number + 1)]
    return train([*settings.datasets, *own], run, overrides=settings.overrides,
                 steps=settings.steps, seed=settings.seed + number, init_from=running,
                 resume=(run / STATE_FILE).exists(), device='auto', threads=threads,
                 log_every=min(100, settings.steps), save_every=settings.steps, keep_last=1,
                 validation_fraction=0.0, cache_dir=history.folder / 'cache', progress=False)


def compare(settings: Settings, ground: Ground, name: str, running: Path,
            candidate: Path) -> tuple[Decision, list[dict]]:
    """Compare two checkpoints; return what the rule says, and their rates by goal."""
    outcomes = ground.compare(name, running, candidate)
    found = [{key: value for key, value in vars(rate).items() if not key.endswith('_s')}
             for rate in rates(outcomes)]
    return settings.rule.decide(outcomes, ground.paired), found


def _compare_with_start(history: History, ground: Ground, say: Callable[[str], None]) -> None:
    """Score the end against the beginning, on scenes that decided nothing."""
    path, sha256 = history.running
    if sha256 == history.settings.sha256:
        history.finish({'checkpoint': path, 'sha256': sha256})
        say('nothing was adopted')
        return
    decision, found = compare(history.settings, ground, FINAL,
                              Path(history.settings.checkpoint), Path(path))
    history.finish({'checkpoint': path, 'sha256': sha256, 'rates': found,
                    'decision': decision.to_dict()})
    say(f'in the end: {_share(decision.candidate)}, in the beginning '
        f'{_share(decision.running)}, on scenes that decided nothing; p = {decision.p:.2g}')


def _share(counts: Sequence[int]) -> str:
    return f'{counts[0]}/{counts[1]}'


def _copy(source: Path, target: Path) -> None:
    replace_atomically(target, lambda temporary: shutil.copyfile(source, temporary))
    os.chmod(target, 0o644)
