"""The loop in simulation: episodes and trials in processes of their own, without ROS."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
import shutil

from stable_crl_ros.checkpoint import load_checkpoint
from stable_crl_ros.evaluation import evaluate
from stable_crl_ros.improvement.history import Settings
from stable_crl_ros.improvement.loop import FINAL
from stable_crl_ros.improvement.rule import CANDIDATE, ImproveError, RUNNING
from stable_crl_ros.sim.autonomous import collect_autonomously
from stable_crl_ros.sim.tasks import TASKS
from stable_crl_ros.trials.scores import Outcome

SEED = 40_000  # finished runs and training runs are scored on other scenes
SEEDS = 1000  # per loop; a round takes one, the comparison in the end another
FINAL_SHARE = 2  # trials of the comparison in the end, per trial of a round


@dataclass(frozen=True)
class InSimulation:
    """
    Act and compare in the embedded simulator.

    :param workers: processes.
    :param live: has a running stack take a checkpoint over; told round and file, says what it
        did. None where none runs.
    :raises ImproveError: for goals that are no tasks, or no worker.
    """

    settings: Settings
    workers: int = 2
    live: Callable[[int, Path], str] | None = None

    paired = True

    def __post_init__(self) -> None:
        """Refuse goals that cannot be drawn."""
        if self.workers < 1:
            raise ImproveError(f'workers: {self.workers}; give 1 or more')
        unknown = sorted(set(self.settings.goals) - set(TASKS))
        if unknown or self.settings.rounds >= SEEDS:
            raise ImproveError(f'goals {", ".join(unknown)}: in simulation they are tasks: '
                               f'{", ".join(TASKS)}' if unknown else f'at most {SEEDS - 1} rounds')

    def collect(self, number: int, checkpoint: Path, dataset: Path) -> dict:
        """Record the episodes of a round anew: half a chain cannot be gone on with."""
        if dataset.exists():
            shutil.rmtree(dataset)
        found, settings = load_checkpoint(checkpoint), self.settings
        steps = collect_autonomously(
            dataset, str(checkpoint), found.sha256, settings.goals, settings.episodes,
            settings.reset_every, (settings.seed, number), self.workers, found.image_spec,
            {'round': number, 'collected_by': 'stable-crl improve'})
        return {'episodes': settings.episodes, 'steps': steps,
                'scenes_set': -(-settings.episodes // settings.reset_every)}

    def compare(self, name: str, running: Path, candidate: Path) -> list[Outcome]:
        """Show both the same new scenes."""
        final, settings = name == FINAL, self.settings
        seed = SEED + SEEDS * settings.seed + (0 if final else int(name.rpartition('_')[2]))
        count = settings.trials * (FINAL_SHARE if final else 1)
        outcomes = []
        for label, path in ((RUNNING, running), (CANDIDATE, candidate)):
            for goal in settings.goals:
                score = evaluate(str(path), goal, count, seed, self.workers)
                outcomes += [Outcome(label, goal, trial.seed, trial.success, None)
                             for trial in score.trials]
        return outcomes

    def adopt(self, number: int, checkpoint: Path) -> str:
        """Swap it in where a stack runs."""
        if self.live is not None:
            return self.live(number, checkpoint)
        return f'no stack runs (--live), so nothing was swapped; the checkpoint is {checkpoint}'
