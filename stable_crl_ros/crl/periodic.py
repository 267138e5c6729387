"""Score checkpoints while training goes on: one at a time, in a process of its own."""

from collections.abc import Callable, Iterator, Mapping
import contextlib
from dataclasses import dataclass
import math
import multiprocessing
from multiprocessing.connection import Connection, wait
import os
from pathlib import Path
import pickle
import signal

from stable_crl_ros.crl.run_folder import TrainError
from stable_crl_ros.parallel import end_with_parent

SUCCESS = 'success'  # the score every evaluator gives: 0 .. 1
ERROR = 'error'  # breaks ties; metres or anything that is better when smaller
STEP = 'step'  # no score: what evaluations.csv calls the checkpoint's own
POLL_S = 0.2

Evaluator = Callable[[Path], Mapping[str, float]]


def quality(scores: Mapping[str, float]) -> tuple[float, float]:
    """Give what is larger for the better of two checkpoints; without an error a tie is lost."""
    return scores[SUCCESS], -scores.get(ERROR, math.inf)


@dataclass
class Job:
    """A checkpoint under evaluation."""

    step: int
    process: multiprocessing.Process
    results: Connection


class PeriodicEvaluation:
    """
    Evaluate checkpoints beside training, never more than one at a time.

    :param evaluator: takes a checkpoint's path, returns scores by name, `success` among them; it
        is called in another process, so it has to be picklable.
    :param say: is given a line, and whether it is a warning.
    :raises TrainError: for an evaluator that cannot be sent to a process.
    """

    def __init__(self, evaluator: Evaluator, say: Callable[[str, bool], None]) -> None:
        try:
            pickle.dumps(evaluator)
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            raise TrainError(f'the evaluator cannot be sent to another process ({error}); give a '
                             "module's function or a dataclass of plain values") from error
        self._evaluator = evaluator
        self._say = say
        self._running: Job | None = None
        self._waiting: tuple[int, Path] | None = None

    @property
    def steps(self) -> set[int]:
        """Steps of the checkpoints that are still needed."""
        running = {self._running.step} if self._running else set()
        return running | ({self._waiting[0]} if self._waiting else set())

    def submit(self, step: int, path: Path) -> None:
        """Evaluate a checkpoint now, or after the one that is being evaluated."""
        if self._waiting:
            self._say(f'step {self._waiting[0]} is not evaluated: step {self._running.step} still '
                      'is; evaluate less often, with fewer episodes or more workers', False)
        self._waiting = (step, path)
        self._start_next()

    def _start_next(self) -> None:
        if self._running or not self._waiting:
            return
        (step, path), self._waiting = self._waiting, None
        context = multiprocessing.get_context('spawn')  # torch and OpenGL do not survive a fork
        results, theirs = context.Pipe(duplex=False)
        process = context.Process(target=_serve, args=(self._evaluator, path, theirs),
                                  name=f'evaluation of step {step}')
        try:
            process.start()
        except OSError as error:
            self._say(f'step {step} is not evaluated: no process could be started ({error})', True)
            return
        theirs.close()
        self._running = Job(step, process, results)

    def collect(self) -> Iterator[tuple[int, dict[str, float]]]:
        """Give what has been measured since, as (step, scores); do not wait."""
        if self._running and self._running.results.poll():
            job, self._running = self._running, None
            scores = self._receive(job)
            self._start_next()
            if scores is not None:
                yield job.step, scores

    def _receive(self, job: Job) -> dict[str, float] | None:
        try:
            scores, problem = job.results.recv()
        except EOFError:  # killed, such as for want of memory
            job.process.join()
            scores, problem = None, f'its process ended with status {job.process.exitcode}'
        job.process.join()
        job.results.close()
        if problem is None and not math.isfinite(scores.get(SUCCESS, math.nan)):
            problem = f'it gave no {SUCCESS!r} but {scores}'
        if problem is not None:
            self._say(f'the evaluation of step {job.step} failed: {problem}; training goes on',
                      True)
            return None
        return self._without_strange(job.step, scores)

    def _without_strange(self, step: int, scores: Mapping[str, float]) -> dict[str, float]:
        """Leave out what would be taken for the checkpoint's step, or could not be compared."""
        strange = [name for name, value in scores.items()
                   if name == STEP or name == ERROR and not math.isfinite(value)]
        if strange:
            told = ', '.join(f'{name!r} of {scores[name]:g}' for name in strange)
            self._say(f'the evaluation of step {step} gave {told}, which is left out', True)
        return {name: value for name, value in scores.items() if name not in strange}

    def finish(self, interrupted: Callable[[], bool],
               ) -> Iterator[tuple[int, dict[str, float]]]:
        """Wait for what is left, unless interrupted."""
        while self._running and not interrupted():
            wait([self._running.results], timeout=POLL_S)
            yield from self.collect()

    def close(self) -> None:
        """Abandon what still runs."""
        if not self._running:
            return
        process = self._running.process
        self._say(f'the evaluation of step {self._running.step} is abandoned; resuming repeats '
                  'it', False)
        with contextlib.suppress(ProcessLookupError):  # it has no group yet, or has ended
            os.killpg(process.pid, signal.SIGKILL)
        process.kill()
        process.join()
        self._running = self._waiting = None


def _serve(evaluator: Evaluator, path: Path, results: Connection) -> None:
    os.setsid()  # a group that can be ended with all its workers, and that Ctrl-C does not reach
    end_with_parent(whole_group=True)
    try:
        results.send(({name: float(value) for name, value in evaluator(path).items()}, None))
    except Exception as error:  # whatever it is, training must hear of it and go on
        results.send((None, f'{type(error).__name__}: {error}'))
