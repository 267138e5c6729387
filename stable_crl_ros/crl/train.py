"""Train an agent from recorded datasets: check what was asked for, open the run, let it learn."""

from collections.abc import Mapping, Sequence
from contextlib import contextmanager
import os
from pathlib import Path
import signal
import threading

from stable_crl_ros.crl.agent import learning_rate
from stable_crl_ros.crl.config import AgentConfig, ConfigError
from stable_crl_ros.crl.distributed import own_device, ranks_of_torchrun
from stable_crl_ros.crl.judge import Schedule
from stable_crl_ros.crl.periodic import Evaluator
from stable_crl_ros.crl.presets import make_config
from stable_crl_ros.crl.progress import Progress
from stable_crl_ros.crl.run import Run
from stable_crl_ros.crl.run_folder import LATEST, open_run, TrainError
from stable_crl_ros.crl.training_data import (
    describe_enlarging,
    find_control_rate,
    learned_entries,
    make_scale,
    name_episodes,
    show_build,
    split,
)
from stable_crl_ros.crl.warm_start import read_start
from stable_crl_ros.ending import ending_signals
import torch

DEFAULT_PRESET = 'laptop'
POSITIVE = range(1, 2 ** 31)  # counts that torch takes
THREADS = range(1, 4 * (os.cpu_count() or 1) + 1)  # more help nobody; far more end the process


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
    `evaluations.csv` and `tensorboard/`; until it has saved, `begun.json`. Ctrl-C saves before it
    ends. Started by `torchrun`, the ranks share every batch and the first one writes.

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
    check_numbers({'steps': steps, 'save_every': save_every, 'log_every': log_every,
                   'keep_last': keep_last, 'transitions': transitions,
                   'evaluate_every': evaluate_every}, POSITIVE)
    check_numbers({'threads': threads}, THREADS)
    check_numbers({'seed': seed}, range(2 ** 63))
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
    entries = learned_entries(dataset_paths)
    described = {
        'algorithm': algorithm, 'config': config.to_dict(), 'preset': preset, 'seed': seed,
        'image_spec': config.image_spec.to_dict(),
        'action_scale': (start.action_scale if start else
                         make_scale(config, training.actions)).to_dict(),
        'control_rate': (start.check_rate if start else float)(find_control_rate(entries)),
        'dataset_fingerprint': cache.fingerprint, 'transitions': len(training),
        'held_out': name_episodes(validation),
        'datasets': [Path(path).name for path in dataset_paths],
        **(start.described if start else {})}
    schedule = Schedule(config.steps if steps is None else steps, log_every, save_every,
                        keep_last, evaluate_every or 0, calibrates)
    with (ranks_of_torchrun(device) as ranks,
          open_run(Path(out_dir), described, resume, ranks.first) as folder,
          _interruptible() as interrupted):
        run = Run(folder, described, config, training, validation, device, ranks)
        if start and not resume:
            start.apply(run.agent)
        if resume:
            run.load()
        if ranks.first:
            shown = Progress(schedule.steps, run.agent.step, algorithm, progress)
            for doubt in (describe_enlarging(entries, cache),
                          _describe_rates(config, schedule.steps)):
                if doubt:
                    shown.say(doubt, warning=True)
            run.learn(schedule, shown, interrupted, evaluator)
        else:
            run.follow(schedule, interrupted)
    return Path(out_dir) / LATEST


def _describe_rates(config: AgentConfig, steps: int) -> str | None:
    """
    Say so where a run ends before its learning rate is up, or not with the fall of the actor's.

    The latter is not fitted to the run: a run may be resumed with more steps, and must then have
    learned as one that was never stopped.

    :param steps: of the run.
    """
    if steps <= config.warmup_steps:
        reached = learning_rate(config, steps - 1) / config.learning_rate
        return (f'the learning rate rises over {config.warmup_steps} steps, and this run ends '
                f'after {steps}, at {100 * reached:.0f} % of the full rate; train for longer, or '
                'begin with warmup_steps=0')
    decay = config.actor_decay_steps
    if decay in (0, steps):
        return None
    if decay < steps:
        outcome = f'over the last {steps - decay} of this run the actor learns nothing'
    else:
        left = learning_rate(config, steps - 1, decay) / config.learning_rate
        outcome = f'this run ends after {steps}, at {100 * left:.0f} % of the full rate'
    return (f"the actor's learning rate falls to 0 over {decay} steps, and {outcome}; begin with "
            f'actor_decay_steps={steps} to have both end together')


def choose_device(device: str) -> str:
    """
    Turn 'auto' into a device that is there, and 'cuda' into this rank's own.

    :raises ConfigError: for any but a CPU and a GPU that torch has.
    """
    if device == 'auto':
        device = 'cuda' if torch.cuda.is_available() else 'cpu'
    device = own_device(device)
    try:
        if device.partition(':')[0] not in ('cpu', 'cuda'):
            raise RuntimeError('it is neither a CPU nor a GPU')
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(f'device {device!r} cannot be used ({str(error).splitlines()[0]}); '
                          'choose cpu, cuda or auto') from error
    return device


def check_numbers(numbers: Mapping[str, int | None], valid: range) -> None:
    """
    Check numbers by their names; None passes.

    :raises TrainError: naming those that are not valid.
    """
    wrong = [f'{name} is {number}' for name, number in numbers.items()
             if number is not None and number not in valid]
    if wrong:
        raise TrainError(f'{", ".join(wrong)}; give {valid[0]} or more, up to {valid[-1]}')


@contextmanager
def _interruptible():
    """
    Give a function that tells whether to stop: after Ctrl-C, SIGTERM or a closed terminal.

    A second signal ends at once.
    """
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked.is_set
        return

    def ask(number, frame) -> None:
        if asked.is_set():
            raise KeyboardInterrupt
        asked.set()
    before = {number: signal.signal(number, ask)
              for number in (signal.SIGINT, *ending_signals())}
    try:
        yield asked.is_set
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
