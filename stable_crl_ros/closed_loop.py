"""Score the checkpoints of a run that is still training, in the simulator."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from stable_crl_ros.evaluation import evaluate, EvaluationError

# Not the seed that finished runs are scored with: the best of many checkpoints on the same
# episodes would look better than it is.
SELECTION_SEED = 20_000


@dataclass(frozen=True)
class ClosedLoop:
    """
    Closed-loop trials on some tasks, as `crl.train` wants them.

    :param tasks: names of `sim.tasks.TASKS`.
    :param episodes: trials per task.
    :param workers: processes.
    :param seed: of starts and goals: the same for every checkpoint.
    :raises EvaluationError: for an unknown task, or a number that makes no sense.
    """

    tasks: tuple[str, ...]
    episodes: int = 50
    workers: int = 1
    seed: int = SELECTION_SEED

    def __post_init__(self) -> None:
        """Refuse before hours of training what would fail in their midst."""
        from stable_crl_ros.sim.tasks import TASKS
        unknown = sorted(set(self.tasks) - set(TASKS))
        if unknown or not self.tasks:
            raise EvaluationError(f'unknown task {", ".join(map(repr, unknown)) or "(none)"}; '
                                  f'choose some of {sorted(TASKS)}')
        if self.episodes < 1 or self.workers < 1 or self.seed < 0:
            raise EvaluationError('evaluating needs episodes >= 1, workers >= 1 and seed >= 0; '
                                  f'got {self.episodes}, {self.workers} and {self.seed}')

    def __call__(self, checkpoint: Path) -> dict[str, float]:
        """
        Score a checkpoint.

        :returns: `success` and `success_loose`, 0 .. 1, and `error`, the median distance from
            the goal (m), each the mean over the tasks; `TASK/success` and so on for each.
        """
        scores = {}
        for task in self.tasks:
            done = evaluate(str(checkpoint), task, self.episodes, self.seed, self.workers)
            scores[task] = {
                'success': done.successes() / self.episodes,
                'success_loose': done.successes(loose=True) / self.episodes,
                'error': float(np.median([trial.error for trial in done.trials]))}
        means = {name: float(np.mean([score[name] for score in scores.values()]))
                 for name in ('success', 'success_loose', 'error')}
        return means | {f'{task}/{name}': value for task, score in scores.items()
                        for name, value in score.items()}
