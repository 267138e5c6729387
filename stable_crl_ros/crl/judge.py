"""When checkpoints are due, which of them is the best, and which are kept."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from stable_crl_ros.crl.periodic import ERROR, Evaluator, PeriodicEvaluation, quality, SUCCESS
from stable_crl_ros.crl.progress import Progress
from stable_crl_ros.crl.run_folder import RunFolder
from stable_crl_ros.crl.run_log import RunLog

HELD_OUT_ERROR = 'validation/squared_error'
BEST_RULES = {
    'evaluation': f'the highest {SUCCESS!r} in evaluations.csv, of equals the smallest {ERROR!r}',
    'validation': f'the smallest {HELD_OUT_ERROR} of the saved checkpoints',
    'none': 'there is none: nothing is held out and nothing evaluated',
}


@dataclass(frozen=True)
class Schedule:
    """
    When a run logs, saves and evaluates, in gradient steps.

    :param steps: in all.
    :param keep_last: checkpoints kept besides `latest` and `best`.
    :param evaluate_every: 0 for never.
    :param calibrates: whether checkpoints are calibrated when they are saved.
    """

    steps: int
    log_every: int = 100
    save_every: int = 1000
    keep_last: int = 3
    evaluate_every: int = 0
    calibrates: bool = True

    def saves(self, step: int) -> bool:
        """Say whether a checkpoint is due."""
        return step % self.save_every == 0 or step == self.steps or self.evaluates(step)

    def evaluates(self, step: int) -> bool:
        """Say whether the checkpoint of a step is to be evaluated; the last one always is."""
        return bool(self.evaluate_every) and (
            step % self.evaluate_every == 0 or step == self.steps)

    def cut_short(self, step: int) -> bool:
        """Say whether a checkpoint is saved only because the run is stopped there."""
        return step < self.steps and not self.saves(step)


class Judge:
    """
    Keep the best checkpoint by closed-loop success, or by held-out error where none is measured.

    What was best before a resume follows from the run's files: nothing else is remembered.

    :param evaluator: of periodic evaluation; None for none.
    :param held_out: whether there are episodes for validation.
    """

    def __init__(self, folder: RunFolder, log: RunLog, schedule: Schedule, progress: Progress,
                 evaluator: Evaluator | None, held_out: bool) -> None:
        self.rule = 'evaluation' if evaluator else 'validation' if held_out else 'none'
        self._folder, self._log, self._schedule = folder, log, schedule
        self._say = progress.say
        self._evaluation = PeriodicEvaluation(evaluator, progress.say) if evaluator else None

    def resume(self, step: int, metrics: Mapping[str, float]) -> None:
        """Make up for what a kill after the last checkpoint prevented."""
        if step not in self._folder.steps:
            return
        if self.rule == 'validation':
            self._compare_held_out(step, metrics)
        done = max(self._log.evaluations, default=0)
        due = [found for found in self._folder.steps
               if done < found <= step and self._schedule.evaluates(found)]
        if self._evaluation and due:
            self._evaluation.submit(due[-1], self._folder.checkpoint(due[-1]))

    def take(self, step: int, metrics: Mapping[str, float]) -> None:
        """Judge the checkpoint just saved, or begin to; delete old ones."""
        if self.rule == 'validation':
            self._compare_held_out(step, metrics)
        if self._evaluation and self._schedule.evaluates(step):
            self._evaluation.submit(step, self._folder.checkpoint(step))
        self._prune()

    def _prune(self) -> None:
        needed = self._evaluation.steps if self._evaluation else ()
        self._folder.prune(self._schedule.keep_last, needed,
                           list(filter(self._interrupted, self._folder.steps)))

    def _interrupted(self, step: int) -> bool:
        marked = self._folder.interrupted(step)
        return not self._schedule.saves(step) if marked is None else marked

    def _compare_held_out(self, step: int, metrics: Mapping[str, float]) -> None:
        best = self._folder.best()
        known = best['metrics'].get(HELD_OUT_ERROR) if best else None
        if known is None or metrics[HELD_OUT_ERROR] < known:
            self._folder.mark_best(step)

    def collect(self) -> None:
        """Record what evaluation has finished since; do not wait."""
        if self._evaluation:
            for step, scores in self._evaluation.collect():
                self._record(step, scores)

    def _record(self, step: int, scores: Mapping[str, float]) -> None:
        best = self._folder.best()
        known = self._log.evaluations.get(best['step']) if best else None
        better = known is None or quality(scores) > quality(known)
        if better:  # first, so that a kill in between has the evaluation repeated
            self._folder.mark_best(step)
        self._log.write_evaluation(step, scores)
        self._say(f'step {step}: {100 * scores[SUCCESS]:.0f} % success in closed loop'
                  f'{", the best so far" if better else ""}')

    def finish(self, interrupted: Callable[[], bool]) -> None:
        """Wait for the evaluations that are left, unless interrupted."""
        if not self._evaluation:
            return
        if self._evaluation.steps and not interrupted():
            self._say('waiting for the evaluation of step '
                      f'{", ".join(map(str, sorted(self._evaluation.steps)))}')
        for step, scores in self._evaluation.finish(interrupted):
            self._record(step, scores)
            self._prune()

    def close(self) -> None:
        """Abandon what is still being evaluated."""
        if self._evaluation:
            self._evaluation.close()
