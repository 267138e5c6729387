"""One training run: its agent, data and log, step by step; what resuming it needs."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
import time

import numpy as np
from stable_crl_ros.actions import ActionScale
from stable_crl_ros.calibration import CalibrationError
from stable_crl_ros.crl.calibrate import calibrate, Learner
from stable_crl_ros.crl.config import AgentConfig
from stable_crl_ros.crl.device_data import make_sampler
from stable_crl_ros.crl.distributed import ALONE, Ranks
from stable_crl_ros.crl.health import CriticWatch, GRACE_STEPS
from stable_crl_ros.crl.judge import BEST_RULES, Judge, Schedule
from stable_crl_ros.crl.metrics import Failure, FiniteWatch, Metrics
from stable_crl_ros.crl.periodic import Evaluator
from stable_crl_ros.crl.presets import make_agent
from stable_crl_ros.crl.progress import Progress
from stable_crl_ros.crl.run_folder import LATEST, RunFolder, TrainError
from stable_crl_ros.crl.run_log import RunLog
from stable_crl_ros.data.cache import TrainingCache
from stable_crl_ros.data.sampling import BatchSampler
import torch

AGREE_EVERY = 10  # steps between the ranks' asking each other whether to stop


class StoppedError(TrainError):
    """A run that was interrupted; all of it is saved."""


class NotFiniteError(TrainError):
    """A run in which something was not finite: the same again gives the same."""


class Run:
    """
    One training run and everything its next step depends on.

    :param described: what goes into every checkpoint's metadata; must match to resume.
    """

    def __init__(self, folder: RunFolder, described: dict, config: AgentConfig,
                 training: TrainingCache, validation: TrainingCache | None,
                 device: str, ranks: Ranks = ALONE) -> None:
        self.folder = folder
        self.described = described
        self.scale = ActionScale.from_dict(described['action_scale'])
        seed = described['seed']
        self.agent = make_agent(described['algorithm'], config, device=device, seed=seed)
        self.ranks = ranks
        self.agent.join(ranks)
        drawing = {'batch_size': config.batch_size, 'seed': seed, 'discount': config.discount,
                   **self.agent.sampling(config)}
        self.sampler = make_sampler(self._normalise(training), device=device, ranks=ranks,
                                    **drawing)
        self.sampler.rows = ranks.rows(config.batch_size)
        self._episodes = training, validation
        self.validation = None
        if validation is not None:  # one fixed batch: rows of the log differ by learning alone
            self.validation = BatchSampler(self._normalise(validation), **drawing).sample()
        self.watch = CriticWatch(config.batch_size, GRACE_STEPS + config.warmup_steps)
        self.seconds = 0.0  # spent learning, over all resumes
        self.metrics: dict[str, float] = {}
        self._finite = FiniteWatch.on(self.agent.device)
        self._batch: Mapping = {}  # of the last step
        self._saved: int | None = None  # step

    def learn(self, schedule: Schedule, progress: Progress, interrupted: Callable[[], bool],
              evaluator: Evaluator | None = None) -> None:
        """Take gradient steps until the schedule's last; save at the end or when interrupted."""
        log = RunLog(self.folder, self.agent.step, partial(progress.say, warning=True))
        judge = Judge(self.folder, log, schedule, progress, evaluator,
                      self.validation is not None)
        try:
            judge.resume(self.agent.step, self.metrics)
            while self.agent.step < schedule.steps and not self._stops(interrupted):
                self._step(log, schedule, progress)
                if schedule.saves(self.agent.step):
                    self.save(schedule, judge, progress)
                judge.collect()
            if self._saved != self.agent.step:
                self.save(schedule, judge, progress)
            progress.close()
            judge.finish(interrupted)
        finally:
            progress.close()
            judge.close()
        if self.agent.step < schedule.steps:
            raise StoppedError(f'stopped at step {self.agent.step} of {schedule.steps}; '
                             f'continue with resume (everything is in {self.folder.path})')

    def follow(self, schedule: Schedule, interrupted: Callable[[], bool]) -> None:
        """Take the same steps as the first rank, which alone writes."""
        while self.agent.step < schedule.steps and not self._stops(interrupted):
            self._update(schedule)

    def _stops(self, interrupted: Callable[[], bool]) -> bool:
        if self.ranks.size == 1:
            return interrupted()
        return self.agent.step % AGREE_EVERY == 0 and self.ranks.any(interrupted())

    def _update(self, schedule: Schedule) -> Metrics:
        self._batch = self.sampler.sample()
        logs = (self.agent.step + 1) % schedule.log_every == 0
        metrics = self.agent.update(self._batch, detailed=logs)
        self._refuse(self._finite.observe(self.agent.step, metrics, self._batch))
        return metrics

    def _step(self, log: RunLog, schedule: Schedule, progress: Progress) -> None:
        started = time.monotonic()
        metrics = self._update(schedule)
        step, message = self.agent.step, None
        logs = step % schedule.log_every == 0
        if logs:
            health, message = self.watch.observe(step, metrics)
            self.metrics = {**metrics, **self._validate(), **health}
        self.seconds += time.monotonic() - started
        progress.advance()
        if message:
            progress.say(message, warning=self.watch.collapsed)
        if logs:
            progress.show(self.metrics)
            log.write(step, {'seconds': round(self.seconds, 3), **self.metrics})

    def _validate(self) -> dict[str, float]:
        if self.validation is None:
            return {}
        return {f'validation/{name}': value
                for name, value in self.agent.validate(self.validation).items()}

    def _normalise(self, cache: TrainingCache) -> TrainingCache:
        return replace(cache, actions=self.scale.normalise(cache.actions))

    def _refuse(self, failure: Failure | None) -> None:
        """Stop where something is not finite; the checkpoints there are stay."""
        if failure is None:
            return
        rank = '' if self.ranks.first else f'_rank{self.ranks.rank}'
        path = self.folder.path / f'not_finite_{failure.step:06d}{rank}.npz'
        np.savez_compressed(path, **{name: torch.as_tensor(values).cpu().numpy()
                                     for name, values in failure.batch.items()})
        begin = f'from {self.folder.path / LATEST} or one before it (init_from)' \
            if self.folder.steps else 'anew'
        raise NotFiniteError(
            f'step {failure.step}: {", ".join(failure.names[:4])} not finite; the batch is in '
            f'{path}; begin {begin} in another folder, with a lower learning_rate')

    def save(self, schedule: Schedule, judge: Judge, progress: Progress) -> None:
        """
        Write a checkpoint, calibrated where the schedule says so, and the state for resuming.

        The judge takes it up and deletes old ones.
        """
        step, tensors = self.agent.step, self.agent.tensors()
        self._refuse(self._finite.flush())
        bad = [name for name, tensor in tensors.items() if not torch.isfinite(tensor).all()]
        self._refuse(Failure(step, bad, self._batch) if bad else None)
        if step % schedule.log_every:  # the last log row is of an earlier step
            self.metrics = {**self.metrics, **self._validate()}
        # A resume that is stopped at once saves again what an earlier schedule asked for.
        interrupted = schedule.cut_short(step) and self.folder.interrupted(step) is not False
        self.folder.save(
            step, tensors, self.described | {
                'step': step, 'metrics': self.metrics, 'seconds': self.seconds,
                'health': self.watch.describe(), 'best_rule': BEST_RULES[judge.rule],
                'interrupted': interrupted,
                'calibration': self._calibrate(progress) if schedule.calibrates else None},
            self.agent.state_dict(), {
                'described': self.described, 'seconds': self.seconds, 'metrics': self.metrics,
                'sampler': self.sampler.state_dict(), 'watch': self.watch.state_dict()})
        self._saved = step
        judge.take(step, self.metrics)

    def _calibrate(self, progress: Progress) -> dict | None:
        """Say what the critic's measures mean; training goes on where they mean nothing yet."""
        described = self.described
        learner = Learner(type(self.agent), self.agent.networks, self.agent.config.pixel_range)
        try:
            fitted = calibrate(learner, *self._episodes, described['control_rate'],
                               described['seed'])
        except CalibrationError as error:
            progress.say(f'step {self.agent.step}: no calibration of progress ({error})',
                         warning=True)
            return None
        return fitted and fitted.to_dict()

    def load(self) -> None:
        """Continue where `save` was last called."""
        agent, run = self.folder.load(self.described)
        try:
            self.agent.load_state_dict(agent)
            self.sampler.load_state_dict(run['sampler'])
            self.watch.load_state_dict(run['watch'])
            self.seconds, self.metrics = run['seconds'], run['metrics']
        except (KeyError, RuntimeError) as error:
            raise TrainError(f'{self.folder.path}: its state is of another version of this '
                             f'software ({error}); train into another folder') from error
