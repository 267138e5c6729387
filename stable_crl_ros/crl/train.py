"""Train an agent from recorded datasets: data, agent, loop, log, checkpoint, resume."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager
import math
from pathlib import Path
import signal
import threading
import time

import numpy as np
from stable_crl_ros.actions import ActionScale, BRIDGE_HIGH, BRIDGE_LOW
from stable_crl_ros.crl.config import AgentConfig, ConfigError
from stable_crl_ros.crl.presets import make_agent, make_config
from stable_crl_ros.crl.run_folder import LATEST, open_run, RunFolder, TrainError
from stable_crl_ros.crl.run_log import RunLog
from stable_crl_ros.data.cache import build_cache, TrainingCache
from stable_crl_ros.data.dataset import Dataset
from stable_crl_ros.data.sampling import BatchSampler
import torch
from tqdm import tqdm

# A dimension that hardly moves must not be blown up: 1 % of half of Bridge's box.
SMALLEST_STD = 0.005 * (np.asarray(BRIDGE_HIGH) - np.asarray(BRIDGE_LOW))


def train(dataset_paths: Sequence[str | Path], out_dir: str | Path, preset: str = 'laptop',
          overrides: Mapping | None = None, steps: int | None = None, seed: int = 0,
          resume: bool = False, device: str = 'auto', threads: int | None = None,
          camera: str | None = None, validation_episodes: Sequence | None = None,
          validation_fraction: float = 0.05, log_every: int = 100, save_every: int = 1000,
          keep_last: int = 3, cache_dir: str | Path | None = None,
          progress: bool = True) -> Path:
    """
    Train until `steps`, logging and saving on the way.

    The run's folder holds `step_001000.safetensors` and so on, `latest.safetensors`,
    `trainer_state.pt` (what resuming needs), `metrics.csv` and `tensorboard/`. Ctrl-C saves
    before it ends.

    :param preset: a name of `presets.PRESETS`.
    :param overrides: settings of the preset to change, values or strings by name.
    :param steps: gradient steps in all; the preset's when None.
    :param resume: continue the run in `out_dir`, on one CPU bit for bit as if never stopped.
    :param device: 'cpu', 'cuda', or 'auto' for a GPU where there is one.
    :param threads: of torch on the CPU; torch's own choice when None.
    :param camera: which one's images; may be left out when there is one.
    :param validation_episodes: episode numbers held out for validation.
    :param validation_fraction: of the episodes held out where none are named, drawn with `seed`.
    :param keep_last: checkpoints kept besides `latest`.
    :param cache_dir: where the flat copy of the images goes; beside the data when None.
    :returns: path of `latest.safetensors`.
    :raises TrainError: for a number that makes no sense, a folder in use, a resume that does not
        fit, a loss that is not finite; and what config, data and checkpoint raise.
    """
    _check_numbers({'steps': steps, 'threads': threads, 'save_every': save_every,
                    'log_every': log_every, 'keep_last': keep_last}, low=1)
    _check_numbers({'seed': seed}, low=0)
    if threads:
        torch.set_num_threads(threads)
    algorithm, config = make_config(preset, overrides)
    device = choose_device(device)
    cache = _show_build(dataset_paths, config, camera, cache_dir, progress)
    training, validation = _split(cache, validation_episodes, validation_fraction, seed)
    described = {
        'algorithm': algorithm, 'config': config.to_dict(), 'preset': preset, 'seed': seed,
        'image_spec': config.image_spec.to_dict(),
        'action_scale': make_scale(config, training.actions).to_dict(),
        'control_rate': find_control_rate(dataset_paths),
        'dataset_fingerprint': cache.fingerprint, 'transitions': len(training),
        'datasets': [Path(path).name for path in dataset_paths]}
    with open_run(Path(out_dir), resume) as folder, _interruptible() as interrupted:
        run = Run(folder, described, config, training, validation, device)
        if resume:
            run.load()
        run.learn(config.steps if steps is None else steps, log_every, save_every, keep_last,
                  progress, interrupted)
    return Path(out_dir) / LATEST


def find_control_rate(dataset_paths: Sequence[str | Path]) -> float:
    """
    Return the rate (Hz) at which all episodes were recorded: that of one action.

    :raises TrainError: when there are several: the same action is another speed at each.
    """
    rates = {entry['control_rate'] for path in dataset_paths for entry in Dataset(path).index()}
    if len(rates) != 1:
        raise TrainError(f'the episodes were recorded at different control rates: '
                         f'{sorted(rates)} Hz; train on those of one rate')
    return float(rates.pop())


class Run:
    """
    One training run and everything its next step depends on.

    :param described: what goes into every checkpoint's metadata; must match to resume.
    """

    def __init__(self, folder: RunFolder, described: dict, config: AgentConfig,
                 training: TrainingCache, validation: TrainingCache | None,
                 device: str) -> None:
        self.folder = folder
        self.described = described
        self.scale = ActionScale.from_dict(described['action_scale'])
        seed = described['seed']
        self.agent = make_agent(described['algorithm'], config, device=device, seed=seed)
        self.sampler = BatchSampler(training, config.batch_size, seed, config.discount,
                                    config.actor_goal)
        self.validation = None
        if validation is not None:  # one fixed batch: rows of the log differ by learning alone
            self.validation = self._normalise(BatchSampler(
                validation, config.batch_size, seed, config.discount,
                config.actor_goal).sample())
        self.seconds = 0.0  # spent learning, over all resumes
        self.metrics: dict[str, float] = {}

    def learn(self, steps: int, log_every: int, save_every: int, keep_last: int,
              progress: bool, interrupted: Callable[[], bool]) -> None:
        """Take gradient steps until `steps`; save at the end or when interrupted."""
        log = RunLog(self.folder.path, self.agent.step)
        bar = tqdm(total=steps, initial=self.agent.step, unit='step', disable=not progress,
                   desc=self.described['algorithm'], smoothing=0.05)
        try:
            while self.agent.step < steps and not interrupted():
                self._step(log, log_every, bar)
                if self.agent.step % save_every == 0 and self.agent.step < steps:
                    self.save(keep_last)
            self.save(keep_last)
        finally:
            bar.close()
            log.close()
        if self.agent.step < steps:
            raise TrainError(f'stopped at step {self.agent.step} of {steps}; '
                             f'continue with resume (everything is in {self.folder.path})')

    def _step(self, log: RunLog, log_every: int, bar: tqdm) -> None:
        started = time.monotonic()
        batch = self._normalise(self.sampler.sample())
        logs = (self.agent.step + 1) % log_every == 0
        metrics = self.agent.update(batch, detailed=logs)
        self._check_finite(batch, metrics)
        bar.update()
        if logs:
            if self.validation is not None:
                metrics |= {f'validation/{name}': value for name, value
                            in self.agent.validate(self.validation).items()}
            self.metrics = metrics
            bar.set_postfix({name: f'{value:.3g}' for name, value in metrics.items()
                             if name.endswith('loss') or name == 'validation/squared_error'})
        self.seconds += time.monotonic() - started
        if logs:
            log.write(self.agent.step, {'seconds': round(self.seconds, 3), **metrics})

    def _normalise(self, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        return batch | {'actions': self.scale.normalise(batch['actions'])}

    def _check_finite(self, batch: dict[str, np.ndarray], metrics: Mapping[str, float]) -> None:
        bad = [name for name, value in metrics.items() if not math.isfinite(value)]
        if not bad:
            return
        path = self.folder.path / f'not_finite_{self.agent.step:06d}.npz'
        np.savez_compressed(path, **batch)
        raise TrainError(f'step {self.agent.step}: {", ".join(bad)} not finite; the batch is in '
                         f'{path}; resume from the last checkpoint with a lower learning_rate')

    def save(self, keep_last: int) -> None:
        """Write a checkpoint and the state for resuming."""
        step = self.agent.step
        self.folder.save(
            step, self.agent.tensors(), self.described | {
                'step': step, 'metrics': self.metrics, 'seconds': self.seconds},
            self.agent.state_dict(), {
                'described': self.described, 'seconds': self.seconds, 'metrics': self.metrics,
                'sampler': self.sampler.state_dict()}, keep_last)

    def load(self) -> None:
        """Continue where `save` was last called."""
        agent, run = self.folder.load(self.described)
        self.agent.load_state_dict(agent)
        self.sampler.load_state_dict(run['sampler'])
        self.seconds, self.metrics = run['seconds'], run['metrics']


def make_scale(config: AgentConfig, actions: np.ndarray) -> ActionScale:
    """
    Make the action scale that a configuration asks for.

    :param actions: physical, shape (N, 7), of the training data.
    """
    if config.action_scale == 'bounds':
        return ActionScale.from_bounds()
    if config.action_scale == 'bridge':
        return ActionScale.from_statistics()
    mean, std = actions.mean(0, dtype=float), actions.std(0, dtype=float)
    return ActionScale.from_statistics(mean.tolist(), np.maximum(std, SMALLEST_STD).tolist())


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


def _show_build(dataset_paths: Sequence[str | Path], config: AgentConfig, camera: str | None,
                cache_dir: str | Path | None, progress: bool) -> TrainingCache:
    with tqdm(unit='episode', desc='reading data', disable=not progress, leave=False) as bar:
        def show(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)
        return build_cache(list(dataset_paths), config.image_spec, camera, cache_dir, show)


def _split(cache: TrainingCache, episodes: Sequence | None, fraction: float,
           seed: int) -> tuple[TrainingCache, TrainingCache | None]:
    if episodes is None:
        if not 0.0 <= fraction < 1.0:
            raise TrainError(f'validation_fraction must lie in 0 .. 1 (excluded), got {fraction}')
        known = [(episode.dataset, episode.id) for episode in cache.episodes]
        count = int(round(fraction * len(known)))
        drawn = np.random.default_rng([seed, len(known)]).permutation(len(known))[:count]
        episodes = [known[index] for index in drawn]
    return cache.split(episodes) if len(episodes) else (cache, None)


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
