#!/usr/bin/env python3
"""Time reading: opening a dataset, building its cache, verifying it, and drawing batches."""

import argparse
from collections.abc import Callable
import json
import os
from pathlib import Path
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np
from stable_crl_ros.data.cache import TrainingCache
from stable_crl_ros.data.cache_build import build_cache
from stable_crl_ros.data.dataset import Dataset
from stable_crl_ros.data.episode import EpisodeWriter
from stable_crl_ros.data.sampling import BatchSampler
from stable_crl_ros.data.schema import Action, EpisodeMeta, Mode, Observation
from stable_crl_ros.data.verify import verify_dataset
from stable_crl_ros.images import ImageSpec

RECORDED = 10  # different episodes; the others are copies of them under other numbers
PERIOD_NS = 200_000_000

# In a process of its own: what somebody waits for who opens a dataset.
OPENING = """
import json, sys, time
from stable_crl_ros.data.cache import TrainingCache
from stable_crl_ros.data.cache_build import build_cache
from stable_crl_ros.data.dataset import Dataset
from stable_crl_ros.images import ImageSpec
dataset, spec, found = sys.argv[1], ImageSpec(int(sys.argv[2]), int(sys.argv[2])), {}
def timed(name, function):
    started = time.perf_counter()
    result = function()
    found[name] = time.perf_counter() - started
    return result
opened = timed('`Dataset(path)`', lambda: Dataset(dataset))
timed('`Dataset.index()`', opened.index)
timed('`Dataset.fingerprint()`', opened.fingerprint)
path = timed('`build_cache`, which finds it up to date', lambda: build_cache(opened, spec)).path
timed('`TrainingCache.open`', lambda: TrainingCache.open(path))
print(json.dumps(found))
"""


def picture(size: int, episode: int, step: int) -> np.ndarray:
    """Draw a smooth scene with something that moves, and a camera's noise."""
    rng = np.random.default_rng([episode, step])
    y, x = np.mgrid[:size, :size] * (256 / size)
    scene = np.stack([x, y, (x + y) / 2 + episode], 2)
    scene[(x - 5 * step % 256) ** 2 + (y - 90) ** 2 < 900] = 220
    return np.clip(scene + rng.normal(0, 2, scene.shape), 0, 255).astype(np.uint8)


def observe(size: int, episode: int, step: int) -> Observation:
    """Make what is seen at a step."""
    stamp = 1_700_000_000_000_000_000 + (1000 * episode + step) * PERIOD_NS
    reach = np.full(6, 0.2 * np.sin(0.1 * step))
    return Observation(
        {'front': picture(size, episode, step)}, joint_positions=reach, joint_velocities=reach,
        joint_efforts=reach, gripper=0.5 + 0.3 * np.sin(0.2 * step), capture_stamp=stamp,
        ee_pose=[0.2 + 0.01 * np.sin(0.1 * step), 0, 0.1, 0, 0, 0, 1], receive_stamp=stamp + 1)


def record(dataset: Dataset, steps: int, size: int) -> Path:
    """Record one episode."""
    with EpisodeWriter(dataset, EpisodeMeta(task='benchmark'), sync_every=0) as writer:
        number = writer.episode_id
        for step in range(steps):
            seen = observe(size, number, step)
            small = 0.01 * np.random.default_rng([step, number]).normal(size=7)
            writer.add_step(seen, Action(small, mode=Mode.TELEOP, applied_stamp=(
                seen.capture_stamp + 3), command_stamp=seen.capture_stamp + 2))
        return writer.finish(observe(size, number, steps), True)


def copy(source: Path, target: Path, number: int) -> None:
    """Give an episode another number; the arrays are the same files."""
    shutil.copytree(source, target, copy_function=os.link)
    description = json.loads((target / 'zarr.json').read_bytes())
    description['attributes']['episode_id'] = number
    (target / 'zarr.json').unlink()
    (target / 'zarr.json').write_text(json.dumps(description))


def make(path: Path, options: argparse.Namespace) -> Dataset:
    """Make the dataset, unless it is there."""
    dataset = Dataset(path, create=True, image_codec=options.codec)
    while len(dataset) < min(RECORDED, options.episodes):
        record(dataset, options.steps, options.size)
    for number in range(len(dataset), options.episodes):
        copy(dataset.episode_path(number % RECORDED), dataset.episode_path(number), number)
    return dataset


def seconds(function: Callable[[], object]) -> float:
    """Time one call."""
    started = time.perf_counter()
    function()
    return time.perf_counter() - started


def time_opening(dataset: Dataset, size: int) -> dict[str, float]:
    """Time opening in fresh processes; the medians of five."""
    found = [json.loads(subprocess.run(
        [sys.executable, '-c', OPENING, dataset.path, str(size)], capture_output=True,
        check=True, text=True).stdout) for _ in range(5)]
    return {name: statistics.median(one[name] for one in found) for name in found[0]}


def time_whole(dataset: Dataset, options: argparse.Namespace) -> dict[str, float]:
    """Time what reads every episode."""
    spec = ImageSpec(options.size, options.size)
    (dataset.path / 'index.json').unlink(missing_ok=True)
    found = {'index made anew': seconds(dataset.index)}
    shutil.rmtree(dataset.path / '.cache', ignore_errors=True)
    found['building the cache'] = seconds(lambda: build_cache(dataset, spec))
    found['verifying, checksums only'] = seconds(
        lambda: verify_dataset(dataset.path, integrity_only=True))
    found['verifying everything'] = seconds(lambda: verify_dataset(dataset.path))
    return found


def time_batches(cache: TrainingCache, options: argparse.Namespace) -> dict[str, list[list]]:
    """
    Time batches and a bare gather of as many frames in turn, every round both.

    :returns: what a batch holds -> [seconds of our batch, seconds of the bare gather] per round.
    """
    bare = np.load(cache.path / 'observations.npy', mmap_mode='r')
    bare.sum()  # all of it is in memory, for both
    rng = np.random.default_rng(0)
    found = {}
    for batch, images in options.batches:
        sampler = BatchSampler(cache, batch, images=images)
        frames = batch * len(images)
        found[f'{batch} x {" + ".join(images)}'] = rounds = []
        for _ in range(options.rounds):
            chosen = rng.integers(0, len(bare), frames)
            rounds.append([seconds(sampler.sample), seconds(lambda: bare[chosen])])  # noqa: B023
    return found


def report_batches(found: dict[str, list[list]]) -> None:
    """Print a Markdown table."""
    print('\n| batch | frames | ours, ms | bare gather, ms | ratio |\n|---|---|---|---|---|')
    for name, rounds in found.items():
        ours, bare = (statistics.median(column) * 1e3 for column in zip(*rounds, strict=True))
        ratio = statistics.median(one / other for one, other in rounds)
        frames = int(name.split()[0]) * (name.count('+') + 1)
        print(f'| {name} | {frames} | {ours:.1f} | {bare:.1f} | {ratio:.2f} |')


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--episodes', type=int, default=2000)
    parser.add_argument('--steps', type=int, default=50, help='of every episode')
    parser.add_argument('--size', type=int, default=64, help='of the images, pixels')
    parser.add_argument('--codec', default='lossless')
    parser.add_argument('--batch', type=int, default=4096, help='frames, and transitions')
    parser.add_argument('--rounds', type=int, default=31)
    parser.add_argument('--folder', type=Path, help='where the data goes, and stays')
    options = parser.parse_args()
    pair = ('observations', 'actor_goals')
    options.batches = [(options.batch, pair[:1]), (options.batch // 2, pair),
                       (options.batch, pair), (options.batch, (*pair, 'next_observations'))]
    return options


def measure(folder: Path, options: argparse.Namespace) -> None:
    """Measure and print."""
    dataset = make(folder / 'dataset', options)
    steps = options.episodes * options.steps
    print(f'{platform.machine()}, {os.cpu_count()} cores, NumPy {np.__version__}; '
          f'{options.episodes} episodes of {options.steps} steps ({steps} steps), '
          f'{options.size}x{options.size}, {options.codec}; files in the page cache.\n')
    print('| what | s | steps/s |\n|---|---|---|')
    for name, duration in {**time_whole(dataset, options),
                           **time_opening(dataset, options.size)}.items():
        print(f'| {name} | {duration:.3f} | {steps / duration:.0f} |')
    cache = build_cache(dataset, ImageSpec(options.size, options.size))
    report_batches(time_batches(cache, options))
    print('\nThe bare gather is `memmap[indices]` of as many frames, its indices drawn before; '
          'ours draws transitions and goals as well. Ratios are medians over the rounds.')


def main() -> None:
    """Measure in a temporary folder, or where asked."""
    options = parse()
    if options.folder:
        options.folder.mkdir(parents=True, exist_ok=True)
        measure(options.folder, options)
        return
    with tempfile.TemporaryDirectory() as folder:
        measure(Path(folder), options)


if __name__ == '__main__':
    main()
