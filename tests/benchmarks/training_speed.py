#!/usr/bin/env python3
"""Time our update against the published one at the exact sizes; say where the time goes."""

import argparse
from collections.abc import Callable
from dataclasses import replace
from itertools import cycle
from pathlib import Path
import statistics
import time

import numpy as np
from published_update import PADDING, PublishedData, PublishedTrainer
from stable_crl_ros.actions import ACTION_DIM
from stable_crl_ros.crl.augment import augment
from stable_crl_ros.crl.device_data import make_sampler
from stable_crl_ros.crl.presets import make_agent, make_config
from stable_crl_ros.data.cache import TrainingCache
import torch
from torch.autograd import DeviceType
from torch.profiler import profile, ProfilerActivity
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

EPISODES, STEPS = 60, 75  # of the data both sides sample from


def make_cache(image_size: int) -> TrainingCache:
    """Make random images, laid out as recorded episodes are."""
    rng = np.random.default_rng(0)
    count = EPISODES * (STEPS + 1)
    episode = np.repeat(np.arange(EPISODES), STEPS)
    starts = episode * (STEPS + 1)
    actions = rng.uniform(-1, 1, (EPISODES * STEPS, ACTION_DIM)).astype(np.float32)
    images = rng.integers(0, 256, (count, image_size, image_size, 3), np.uint8)
    return TrainingCache(
        Path(), None, '', '', (), images, np.zeros((count, 14), np.float32), actions,
        np.arange(len(episode)) + episode, starts, starts + STEPS, episode)


def make_ours(options: argparse.Namespace, cache: TrainingCache,
              precision: str) -> Callable[[], object]:
    """
    Return a function that samples a batch and updates our agent once.

    Every other batch is augmented, on both sides: a coin would spread the times.
    """
    overrides = dict(word.split('=', 1) for word in options.set)
    if options.batch:
        overrides['batch_size'] = options.batch
    algorithm, config = make_config(options.preset, overrides | {'precision': precision})
    agent = make_agent(algorithm, config, device=options.device)
    coins = cycle([replace(config, augment_probability=share) for share in (0.0, 1.0)])
    agent.augment = lambda images: augment(images, next(coins), agent.generator)
    sampler = make_sampler(cache, config.batch_size, 0, config.discount, options.device,
                           **agent.sampling(config))
    return lambda: agent.update(sampler.sample())


def make_published(options: argparse.Namespace, cache: TrainingCache) -> Callable[[], object]:
    """Return a function that samples a batch and takes the published update once."""
    config = make_config(options.preset)[1]
    size = options.batch or config.batch_size
    trainer = PublishedTrainer(
        side=config.image_size, channels=config.channels, hidden=config.critic_hidden,
        device=options.device)
    data = PublishedData(cache.observations, cache.frames, cache.ends, cache.actions)
    rng = np.random.default_rng(0)
    draw = torch.Generator().manual_seed(0)
    coins = cycle([False, config.augmentation == 'crop'])

    def update() -> object:
        batch = data.sample(size, rng, trainer.device)
        shifts = torch.randint(-PADDING, PADDING + 1, (2, size), generator=draw)
        noises = [torch.randn(size, ACTION_DIM, generator=draw) for _ in range(2)]
        drawn = (x.to(trainer.device) for x in (shifts, *noises))
        return trainer.update(batch, next(coins), *drawn)
    return update


def seconds(update: Callable[[], object], options: argparse.Namespace, times: int) -> float:
    """Time one update, the mean of several."""
    clock = time.process_time if options.clock == 'processor' else time.perf_counter
    started = clock()
    for _ in range(times):
        update()
    if options.device != 'cpu':
        torch.cuda.synchronize()
    return (clock() - started) / times


def measure(sides: dict[str, Callable[[], object]],
            options: argparse.Namespace) -> dict[str, list[float]]:
    """Take all sides in turn, every round in another order; they have warmed up."""
    found: dict[str, list[float]] = {name: [] for name in sides}
    names = list(sides)
    for turn in range(options.rounds):
        for name in names[turn % len(names):] + names[:turn % len(names)]:
            found[name].append(seconds(sides[name], options, options.times))
    return found


class Work(TorchDispatchMode):
    """Count what an update must at least do: arithmetic, and operands and results moved once."""

    COUNTED = ('mm', 'addmm', 'bmm', 'convolution', 'convolution_backward')

    def __init__(self) -> None:
        super().__init__()
        self.moved = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        """Add the bytes of products and convolutions; all else could be fused into them."""
        result = func(*args, **(kwargs or {}))
        if func.overloadpacket.__name__ in self.COUNTED:
            results = result if isinstance(result, tuple) else (result,)
            self.moved += sum(x.nbytes for x in (*args, *results) if isinstance(x, torch.Tensor))
        return result


def count_work(update: Callable[[], object], parameters: int) -> tuple[float, float]:
    """Count (FLOP, bytes) of one update; Adam moves 7 float32 numbers per parameter."""
    with FlopCounterMode(display=False) as arithmetic, Work() as work:
        update()
        update()  # one of both is augmented
    return arithmetic.get_total_flops() / 2, work.moved / 2 + 28.0 * parameters


def measure_machine(options: argparse.Namespace) -> dict[str, float]:
    """Measure FLOP/s of a matrix product at each precision, and bytes/s of a copy."""
    device, found = options.device, {}
    side = 1024 if device == 'cpu' else 8192
    for name, kind in (('fp32', torch.float32), ('bf16', torch.bfloat16)):
        first, second = torch.rand(2, side, side, device=device).to(kind)
        best = min(seconds(lambda a=first, b=second: a @ b, options, 3) for _ in range(5))
        found[name] = 2 * side**3 / best
    source = torch.rand(2**26 if device == 'cpu' else 2**30, device=device)
    target = torch.empty_like(source)
    best = min(seconds(lambda: target.copy_(source), options, 2) for _ in range(3))
    return found | {'copy': 2 * source.nbytes / best}


def report(found: dict[str, list[float]], options: argparse.Namespace,
           work: dict[str, tuple[float, float]]) -> None:
    """Print a Markdown table."""
    machine = measure_machine(options)
    name = torch.cuda.get_device_name() if options.device != 'cpu' else 'CPU'
    print(f'\n{name}, {torch.get_num_threads()} threads, torch {torch.__version__}, preset '
          f'{" ".join([options.preset, *options.set])}, batch '
          f'{options.batch or "of the preset"}; {options.rounds} rounds '
          f'of {options.times}, {options.clock} time.\nMeasured: float32 product '
          f'{machine["fp32"] / 1e9:.0f} GFLOP/s, bfloat16 {machine["bf16"] / 1e9:.0f}, copy '
          f'{machine["copy"] / 1e9:.1f} GB/s.\n')
    print('| update | updates/s | ms, median (lowest .. highest) | ratio to published | GFLOP | '
          'arithmetic, ms | GB | memory, ms | share of the larger floor |')
    print('|' + '---|' * 9)
    for side, times in found.items():
        middle = statistics.median(times)
        ratio = statistics.median(p / t for p, t in zip(found['published'], times, strict=True))
        flops, moved = work[side]
        compute = flops / machine['bf16' if 'bf16' in side else 'fp32']
        memory = moved / machine['copy']
        print(f'| {side} | {1 / middle:.3g} | {middle * 1e3:.0f} ({min(times) * 1e3:.0f} .. '
              f'{max(times) * 1e3:.0f}) | {ratio:.2f} | {flops / 1e9:.0f} | {compute * 1e3:.0f} | '
              f'{moved / 1e9:.2f} | {memory * 1e3:.0f} | {max(compute, memory) / middle:.0%} |')
    print('\nRatios are medians over the rounds. The floors count products and convolutions of '
          'one update, at what this machine measures on a large product and a copy.')


def show_profile(update: Callable[[], object], name: str, options: argparse.Namespace) -> None:
    """Print the operators that take the most time themselves, on the device that computes."""
    activities = [ProfilerActivity.CPU]
    if options.device != 'cpu':
        activities.append(ProfilerActivity.CUDA)
    times, kind = options.times, 'cpu' if options.device == 'cpu' else 'device'
    clock = f'self_{kind}_time_total'
    with profile(activities=activities) as found:
        for _ in range(times):
            update()
        if options.device != 'cpu':
            torch.cuda.synchronize()
    # A GPU's kernels come once more, in rows of their own, beside what launched them.
    operators = sorted((row for row in found.key_averages() if row.device_type == DeviceType.CPU),
                       key=lambda row: -getattr(row, clock))
    total = sum(getattr(row, clock) for row in operators)
    print(f'\n{name}: {total / times / 1e3:.0f} ms per update\n\n| operator | calls | ms | share |'
          '\n|---|---|---|---|')
    for row in operators[:12]:
        print(f'| `{row.key}` | {row.count / times:.0f} | '
              f'{getattr(row, clock) / times / 1e3:.1f} | {getattr(row, clock) / total:.1%} |')
    rest = operators[12:]
    left = sum(getattr(row, clock) for row in rest)
    print(f'| the other {len(rest)} | {sum(row.count for row in rest) / times:.0f} | '
          f'{left / times / 1e3:.1f} | {left / total:.1%} |')


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--preset', default='sim', choices=('sim', 'laptop'))
    parser.add_argument('--batch', type=int, help="instead of the preset's")
    parser.add_argument('--set', nargs='+', default=[], metavar='NAME=VALUE',
                        help='settings of ours alone; critic_loss=td lets laptop do as published')
    parser.add_argument('--devices', nargs='+', metavar='DEVICE',
                        default=['cpu', 'cuda'] if torch.cuda.is_available() else ['cpu'],
                        help='one after another (default: all there are)')
    parser.add_argument('--threads', type=int, help='of torch on the CPU')
    parser.add_argument('--precision', nargs='+', default=['fp32', 'bf16'])
    parser.add_argument('--rounds', type=int, default=5)
    parser.add_argument('--times', type=int, default=2, help='updates per round and side')
    parser.add_argument('--clock', default='wall', choices=('wall', 'processor'),
                        help='processor time suits a shared machine and one thread')
    parser.add_argument('--profile', action='store_true', help='show where the time goes')
    return parser.parse_args()


def measure_device(options: argparse.Namespace) -> None:
    """Time both sides on `options.device`, and print."""
    cache = make_cache(make_config(options.preset)[1].image_size)
    sides = {'published': make_published(options, cache)} | {
        f'ours, {precision}': make_ours(options, cache, precision)
        for precision in options.precision}
    agent = make_agent(*make_config(options.preset))
    parameters = sum(tensor.numel() for tensor in agent.tensors().values())
    work = {name: count_work(update, parameters) for name, update in sides.items()}
    found = measure(sides, options)
    report(found, options, work)
    if options.profile:
        for name, update in sides.items():
            show_profile(update, name, options)


def main() -> None:
    """Measure and print."""
    options = parse()
    if options.threads:
        torch.set_num_threads(options.threads)
    for device in options.devices:
        measure_device(argparse.Namespace(**vars(options), device=device))


if __name__ == '__main__':
    main()
