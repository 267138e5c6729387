#!/usr/bin/env python3
"""Run the whole stack at several control rates; print how well each is kept and at what cost."""

import argparse
from collections.abc import Iterator
import contextlib
import json
import os
from pathlib import Path
import subprocess
import sys
import tempfile
import time

import cv2
from live_stack import (
    at_rate,
    camera_folder,
    CAMERA_RATE,
    LATE_S,
    memory_mib,
    milliseconds,
    running,
    seal,
    SIZE,
    spin,
)
from machine import going_first, Standstills
import numpy as np
from stable_crl_ros import SHIPPED_CHECKPOINT, SHIPPED_GOALS
from stable_crl_ros.data.dataset import Dataset
from stable_crl_ros.environment import ros_environment
from stable_crl_ros.images import read_image
from stable_crl_ros.policy import Policy
from stable_crl_ros.scheduling import POLICY

NAMESPACE = 'control_rate'
GOAL = 'drawer_open.png'


def cpu_seconds(pid: int) -> float:
    """Return the time that a process has computed."""
    fields = Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf('SC_CLK_TCK')


@contextlib.contextmanager
def busy(count: int) -> Iterator[None]:
    """Let so many other programs compute without a pause."""
    others = [subprocess.Popen([sys.executable, '-c', 'while True: pass']) for _ in range(count)]
    try:
        yield
    finally:
        for other in others:
            other.kill()
            other.wait()


def measure_stack(rate: float, seconds: float, options: argparse.Namespace,
                  folder: Path) -> dict:
    """Run camera, goal, policy, arm and logger; returns seconds by tick, and counts."""
    checkpoint = at_rate(folder / f'{rate:g}.safetensors', options.checkpoint, rate)
    values = {'goal': GOAL, 'robot': options.robot, 'record': 'true', 'namespace': NAMESPACE,
              'control_rate': str(rate), 'checkpoint': str(checkpoint),
              'dataset_path': str(folder / f'episodes_{rate:g}'),
              'image_codec': options.image_codec}
    if options.robot != 'sim':
        values['camera_source'] = str(folder / 'camera')
    with (Standstills() as standstills,
          running(values, priority=not options.no_priority) as (stack, listener, executor)):
        spin(executor, stack, 3.0)
        standstills.take()
        before = {name: cpu_seconds(pid) for name, pid in stack.pids.items()}
        start, first = time.monotonic(), len(listener.ticks)
        told = dict(listener.said['policy: control'])
        spin(executor, stack, seconds)
        took, ticks = time.monotonic() - start, listener.ticks[first:]
        stood = standstills.describe(LATE_S)
        cpu = {name: 100 * (cpu_seconds(pid) - before[name]) / took
               for name, pid in stack.pids.items() if name in before}
        memory = {name: memory_mib(pid) for name, pid in stack.pids.items()}
        spin(executor, stack, 1.5)  # what diagnostics say of the last second
        now = dict(listener.said['policy: control'])
        seal(executor, stack, listener)
    episode = Dataset(values['dataset_path'])[0]
    policy_steps = episode['mode'] == 1
    return {
        'rate': rate, 'seconds': took, 'ticks': len(ticks),
        'missed': int(now['missed']) - int(told['missed']),
        'holds': int(now['holds']) - int(told['holds']),
        'lateness': [tick.lateness_s for tick in ticks],
        'latency': [tick.latency_s for tick in ticks],
        'image_age': [tick.image_age_s for tick in ticks],
        'inference': [tick.inference_s for tick in ticks],
        'work': [tick.lateness_s + tick.latency_s - tick.image_age_s for tick in ticks],
        'transport': ((episode['receive_stamp'] - episode['capture_stamp']) * 1e-9).tolist(),
        'steps': int(policy_steps.sum()), 'dropped': episode.attrs['dropped'],
        'unnamed': int((episode['checkpoint'][policy_steps] == 0).sum()),
        'cpu': cpu, 'memory': memory, 'machine': stood}


def measure_plain(rate: float, seconds: float, options: argparse.Namespace,
                  folder: Path) -> dict:
    """Run the same policy on the same pictures in a loop that sleeps until the next tick."""
    cv2.setNumThreads(1)
    policy = Policy.load(folder / f'{rate:g}.safetensors', threads=1)
    policy.set_goal(read_image(SHIPPED_GOALS / GOAL))
    pictures = [read_image(path) for path in sorted((folder / 'camera').iterdir())]
    policy.warm_up()
    lateness, inference, count = [], [], 0
    start = time.monotonic()
    with going_first(0 if options.no_priority else POLICY):
        while time.monotonic() - start < seconds:
            count = max(count + 1, int((time.monotonic() - start) * rate))
            due = start + count / rate
            time.sleep(max(0.0, due - time.monotonic()))
            began = time.monotonic()
            policy.step(pictures[count % len(pictures)])
            lateness.append(began - due)
            inference.append(time.monotonic() - began)
    return {'lateness': lateness, 'inference': inference,
            'work': (np.array(lateness) + inference).tolist()}


def report(stack: dict, plain: dict) -> None:
    """Print one rate."""
    late = np.mean(np.array(stack['lateness']) > LATE_S)
    print(f'\n## {stack["rate"]:g} Hz, {stack["seconds"]:.0f} s\n')
    print(f'{stack["ticks"]} ticks, {stack["missed"]} missed, {stack["holds"]} held, '
          f'{100 * late:.2f} % later than {1e3 * LATE_S:g} ms; recorded {stack["steps"]} steps, '
          f'{stack["dropped"]} dropped, {stack["unnamed"]} without a checkpoint\n')
    print('| ms | median | 99th percentile | worst |\n|---|---|---|---|')
    rows = [('tick begins later than due', stack['lateness']),
            ('decode, resize, encode, act', stack['inference']),
            ('tick due to command published', stack['work']),
            ('plain loop: begins later than due', plain['lateness']),
            ('plain loop: resize, encode, act', plain['inference']),
            ('plain loop: tick due to action', plain['work']),
            ('image captured to command published', stack['latency']),
            ('image captured to received by the logger', stack['transport'])]
    for name, seconds in rows:
        print(f'| {name} | {" | ".join(milliseconds(seconds))} |')
    difference = 1e3 * (np.median(stack['work']) - np.median(plain['work']))
    print(f'\nThe stack costs {difference:.2f} ms more per tick than the plain loop (medians), '
          f'and {1e3 * np.median(stack["transport"]):.2f} ms for the way of the image.')
    print(stack['machine'])
    print('CPU (% of a core): '
          + ', '.join(f'{name} {share:.0f}' for name, share in stack['cpu'].items()))


def main() -> int:
    """Measure one rate after the other."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--rates', type=float, nargs='+', default=[5.0, 10.0, 20.0, 50.0])
    parser.add_argument('--minutes', type=float, default=10.0, help='of the stack, per rate')
    parser.add_argument('--plain-minutes', type=float, default=1.0, help='of the plain loop')
    parser.add_argument('--robot', default='mock', choices=('mock', 'sim'), help='mock: an arm '
                        'that follows, and a camera that plays pictures; sim: both in MuJoCo, '
                        'whose rendering on the CPU is a load of its own')
    parser.add_argument('--checkpoint', default=str(SHIPPED_CHECKPOINT))
    parser.add_argument('--image-codec', default='jpeg:95')
    parser.add_argument('--load', type=int, default=0, help='other programs that compute '
                        'without a pause beside the stack')
    parser.add_argument('--no-priority', action='store_true', help='take the real-time '
                        'priorities from the nodes, to compare')
    parser.add_argument('--json', type=Path, help='gets every number')
    options = parser.parse_args()
    os.environ.update(ros_environment())
    results = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        what = camera_folder(folder / 'camera')
        print(f'{os.cpu_count()} cores; camera: {SIZE[1]}x{SIZE[0]} at {CAMERA_RATE:g} Hz, '
              f'{what}; robot {options.robot}; recording as {options.image_codec}')
        for rate in options.rates:
            with busy(options.load):
                stack = measure_stack(rate, 60.0 * options.minutes, options, folder)
                plain = measure_plain(rate, 60.0 * options.plain_minutes, options, folder)
            report(stack, plain)
            results.append({'stack': stack, 'plain': plain})
    if options.json:
        options.json.write_text(json.dumps(results))
    return 0


if __name__ == '__main__':
    raise SystemExit(main())
