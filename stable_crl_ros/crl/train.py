"""Train an agent from recorded datasets: data, agent, loop, log, checkpoint, resume."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
import signal
import threading
import time

import numpy as np
from stable_crl_ros.actions import ActionScale
from stable_crl_ros.calibration import CalibrationError
from stable_crl_ros.crl.calibrate import calibrate, Learner
from stable_crl_ros.crl.config import AgentConfig, ConfigError
from stable_crl_ros.crl.device_data import make_sampler
from stable_crl_ros.crl.distributed import ALONE, Ranks, ranks_of_torchrun
from stable_crl_ros.crl.health import CriticWatch, GRACE_STEPS
from stable_crl_ros.crl.judge import BEST_RULES, Judge, Schedule
from stable_crl_ros.crl.metrics import Failure, FiniteWatch, Metrics
from stable_crl_ros.crl.periodic import Evaluator
from stable_crl_ros.crl.presets import make_agent, make_config
from stable_crl_ros.crl.progress import Progress
from stable_crl_ros.crl.run_folder import LATEST, open_run, RunFolder, TrainError
from stable_crl_ros.crl.run_log import RunLog
from stable_crl_ros.crl.training_data import find_control_rate, make_scale, show_build, split
from stable_crl_ros.crl.warm_start import read_start
from stable_crl_ros.data.cache import TrainingCache
from stable_crl_ros.data.sampling import BatchSampler
import torch

DEFAULT_PRESET = 'laptop'
AGREE_EVERY = 10  # steps between the ranks' asking each other whether to stop


def train(dataset_paths: Sequence[str | Path], out_dir: str | Path, preset: str | None = None,
          overrides: Mapping | None = None, steps: int | None = None, seed: int = 0,
          resume: bool = False, device: str = 'auto', threads: int | None = None,
          camera: str | None = None, validation_episodes: Sequence | None = None,
          validation_fraction: float = 0.05, log_every: int = 100, save_every: int = 1000,
          keep_last: int = 3, cache_dir: str | Path | None = None, progress: bool = True,
          transitions: int | None = None, evaluate_every: int | None = None,
          evaluator: Evaluator | None = None, init_from: str | Path | None = None,
          calibrates: bool = True) -> Path:
    """
    Train until `steps`, logging and saving on the way.

    The run's folder holds `step_001000.safetensors` and so on, `latest.safetensors`,
    `best.safetensors`, `trainer_state.pt` (what resuming needs), `metrics.csv`,
    `evaluations.csv` and `tensorboard/`. Ctrl-C saves before it ends. Started by `torchrun`, the
    ranks share every batch and the first one writes.

    :param preset: a name of `presets.PRESETS`; None for 'laptop', or `init_from`'s own settings.
    :param overrides: settings of the preset to change, values or strings by name.
    :param steps: gradient steps in all; the preset's when None.
    :param resume: continue the run in `out_dir`, on one CPU bit for bit as if never stopped.
    :param device: 'cpu', 'cuda', or 'auto' for a GPU where there is one.
    :param threads: of torch on the CPU; torch's own choice when None.
    :param camera: which one's images; may be left out when there is one.
    :param validation_episodes: episode numbers held out for validation.
    :param validation_fraction: of the episodes held out where none are named, drawn with `seed`.
    :param keep_last: checkpoints kept besides `latest` and `best`.
    :param cache_dir: where the flat copy of the images goes; beside the data when None.
    :param progress: False shows nothing but warnings.
    :param transitions: train on the first episodes, as many as fit into so many; all when None.
    :param evaluate_every: steps between checkpoints that `evaluator` scores while training goes
        on, in a process of its own; the best of them becomes `best.safetensors`.
    :param evaluator: see `periodic.PeriodicEvaluation`; picklable.
    :param init_from: checkpoint whose weights the run begins with, and whose action scale it
        keeps; optimisers and steps begin anew.
    :param calibrates: False saves checkpoints that know no progress: what nobody will run needs
        none, and `recalibration.calibrate_checkpoint` makes up for it.
    :returns: path of `latest.safetensors`.
    :raises TrainError: for a number that makes no sense, a folder in use, a resume that does not
        fit, a loss that is not finite; and what config, data and checkpoint raise.
    """
    _check_numbers({'steps': steps, 'threads': threads, 'save_every': save_every,
                    'log_every': log_every, 'keep_last': keep_last, 'transitions': transitions,
                    'evaluate_every': evaluate_every}, low=1)
    _check_numbers({'seed': seed}, low=0)
    if (evaluate_every is None) != (evaluator is None):
        raise TrainError('evaluating while training needs both: how often (evaluate_every) and '
                         'on what (evaluator; --evaluate-task on the command line)')
    if threads:
        torch.set_num_threads(threads)
    start = None if init_from is None else read_start(init_from, preset, overrides)
    preset = preset or DEFAULT_PRESET
    algorithm, config = (start.algorithm, start.config) if start else make_config(
        preset, overrides)
    device = choose_device(device)
    cache = show_build(dataset_paths, config, camera, cache_dir, progress)
    if transitions is not None:
        cache = cache.head(transitions)
    training, validation = split(cache, validation_episodes, validation_fraction, seed)
    described = {
        'algorithm': algorithm, 'config': config.to_dict(), 'preset': preset, 'seed': seed,
        'image_spec': config.image_spec.to_dict(),
        'action_scale': (start.action_scale if start else
                         make_scale(config, training.actions)).to_dict(),
        'control_rate': (start.check_rate if start else float)(find_control_rate(dataset_paths)),
        'dataset_fingerprint': cache.fingerprint, 'transitions': len(training),
        'datasets': [Path(path).name for path in dataset_paths],
        **(start.described if start else {})}
    schedule = Schedule(config.steps if steps is None else steps, log_every, save_every,
                        keep_last, evaluate_every or 0, calibrates)
    with (ranks_of_torchrun(device) as (ranks, device),
          open_run(Path(out_dir), resume, ranks.first) as folder,
          _interruptible() as interrupted):
        run = Run(folder, described, config, training, validation, device, ranks)
        if start and not resume:
            start.apply(run.agent)
        if resume:
            run.load()
        if ranks.first:
            shown = Progress(schedule.steps, run.agent.step, algorithm, progress)
            run.learn(schedule, shown, interrupted, evaluator)
        else:
            run.follow(schedule, interrupted)
    return Path(out_dir) / LATEST


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
        self.sampler = make_sampler(self._normalise(training), device=device, **drawing)
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
        log = RunLog(self.folder.path, self.agent.step)
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
            log.close()
        if self.agent.step < schedule.steps:
            raise TrainError(f'stopped at step {self.agent.step} of {schedule.steps}; '
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
        raise TrainError(f'step {failure.step}: {", ".join(failure.names[:4])} not finite; the '
                         f'batch is in {path}; resume from the last checkpoint with a lower '
                         'learning_rate')

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
        self.folder.save(
            step, tensors, self.described | {
                'step': step, 'metrics': self.metrics, 'seconds': self.seconds,
                'health': self.watch.describe(), 'best_rule': BEST_RULES[judge.rule],
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


def choose_device(device: str) -> str:
    """
    Turn 'auto' into a device that is there.

    :raises ConfigError: for a device torch does not know or have.
    """
    if device == 'auto':
        return 'cuda' if torch.cuda.is_available() else 'cpu'
    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(f'device {device!r} cannot be used ({str(error).splitlines()[0]}); '
                          'choose cpu, cuda or auto') from error
    return device


def _check_numbers(numbers: Mapping[str, int | None], low: int) -> None:
    wrong = [f'{name} is {number}' for name, number in numbers.items()
             if number is not None and number < low]
    if wrong:
        raise TrainError(f'{", ".join(wrong)}; give {low} or more')


@contextmanager
def _interruptible():
    """Give a function that tells whether Ctrl-C or SIGTERM came; a second one ends at once."""
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked.is_set
        return

    def ask(number, frame) -> None:
        if asked.is_set():
            raise KeyboardInterrupt
        asked.set()
    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked.is_set
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
