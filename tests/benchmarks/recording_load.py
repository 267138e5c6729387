#!/usr/bin/env python3
"""Record three 640x480 cameras at 30 Hz and arm states at 50 Hz; print what it cost."""

import argparse
import multiprocessing
import os
from pathlib import Path
import subprocess
import sys
import tempfile
import time

from diagnostic_msgs.msg import DiagnosticArray
import numpy as np
import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from stable_crl_ros.data.dataset import Dataset
from stable_crl_ros.environment import ros_environment
from stable_crl_ros.nodes.client import Client
from std_srvs.srv import SetBool

TESTS = Path(__file__).resolve().parents[1]
NAMESPACE = 'recording_load'
CAMERAS = ('over_shoulder', 'wrist', 'side')
SAMPLE_S = 5.0
SEALED_WITHIN_S = 1200.0
COSTS = ('callback_p50_ms', 'callback_p99_ms', 'callback_worst_ms', 'callback_worst_cpu_ms',
         'callbacks', 'callbacks_over_2_ms_cpu')
YARDSTICK_S = 0.0033  # between two pieces of fixed work: as often as the logger is called


class Watcher(Node):
    """Remember what the logger last said of itself, and the worst it said."""

    def __init__(self) -> None:
        super().__init__('recording_load')
        self.said: dict[str, str] = {}
        self.fullest = 0.0
        self.stopping = self.create_client(SetBool, f'/{NAMESPACE}/episode_logger/stop')
        self.create_subscription(DiagnosticArray, '/diagnostics', self._on_diagnostics, 20)

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            if status.name.endswith('episode_logger: recording'):
                self.said = {item.key: item.value for item in status.values}
                self.fullest = max(self.fullest, float(self.said.get('queue_fill', 0.0)))


def start(options: argparse.Namespace, dataset: Path) -> dict[str, subprocess.Popen]:
    """Start the robot that is played and the real logger."""
    where = ['--ros-args', '-r', f'__ns:=/{NAMESPACE}']
    topics = ['image_raw', *(f'{name}/image_raw' for name in CAMERAS[1:])]
    parameters = {
        'dataset_path': dataset, 'image_codec': options.codec,
        'cameras': f'[{", ".join(CAMERAS)}]', 'image_topics': f'[{", ".join(topics)}]',
        'control_rate': options.control_rate}
    words = [word for name, value in parameters.items() for word in ('-p', f'{name}:={value}')]
    commands = {
        'robot': [str(TESTS / 'recording_source.py'), '--control-rate',
                  str(options.control_rate), *where],
        'logger': ['-m', 'stable_crl_ros.nodes.episode_logger', *where, *words]}
    return {name: subprocess.Popen([sys.executable, *words], stderr=subprocess.DEVNULL)
            for name, words in commands.items()}


class Yardstick:
    """
    Time a fixed piece of arithmetic, as long as a median callback, in a process of its own.

    What it takes at the worst is what this machine takes from anybody while the load runs: a
    callback cannot do better.
    """

    def __init__(self) -> None:
        self._stolen_s = stolen_s()
        self._stop, self._results = multiprocessing.Event(), multiprocessing.SimpleQueue()
        self._process = multiprocessing.Process(target=self._run, daemon=True)
        self._process.start()

    def _run(self) -> None:
        busy = []
        while not self._stop.wait(YARDSTICK_S):
            begun = time.thread_time()
            sum(number * number for number in range(1000))
            busy.append(1e3 * (time.thread_time() - begun))
        self._results.put(busy)

    def finish(self) -> str:
        """Return the figures in one line."""
        self._stop.set()
        busy = self._results.get()
        self._process.join()
        return (f'a fixed loop beside it: p50 {np.percentile(busy, 50):.2f} ms, p99 '
                f'{np.percentile(busy, 99):.2f}, worst {max(busy):.1f} ms of CPU; '
                f'{sum(each > 2.0 for each in busy)} of {len(busy)} over 2 ms; the host took '
                f'{stolen_s() - self._stolen_s:.1f} s from all cores')


def stolen_s() -> float:
    """Return the processor time that a virtual machine's host has kept for itself (s)."""
    return int(Path('/proc/stat').read_text().split(maxsplit=9)[8]) / os.sysconf('SC_CLK_TCK')


def usage(process: subprocess.Popen) -> tuple[float, float]:
    """Return the memory a process holds (MiB) and the processor time it has used (s)."""
    folder = Path(f'/proc/{process.pid}')
    ticks = (folder / 'stat').read_text().rpartition(')')[2].split()[11:13]
    pages = int((folder / 'statm').read_text().split()[1])
    return (pages * os.sysconf('SC_PAGESIZE') / 2 ** 20,
            sum(map(int, ticks)) / os.sysconf('SC_CLK_TCK'))


def record(options: argparse.Namespace, processes: dict, executor, client: Client) -> list[float]:
    """Record for as long as asked; return the logger's memory over time (MiB)."""
    done = False
    while not done:  # until the logger has heard all streams
        done, message = client.call('episode_logger/start')
        if not done and 'no fresh' not in message and 'no arm' not in message:
            raise SystemExit(message)
    print(message, flush=True)
    memory, begun = [], time.monotonic()
    while time.monotonic() - begun < 60.0 * options.minutes:
        executor.spin_once(timeout_sec=0.2)
        if time.monotonic() - begun > SAMPLE_S * len(memory):
            memory.append(usage(processes['logger'])[0])
    return memory


def report(options: argparse.Namespace, watcher: Watcher, memory: list[float], busy_s: float,
           message: str, dataset: Path) -> None:
    """Print the figures."""
    attributes = Dataset(dataset).episodes[-1].attrs
    minute = min(len(memory) - 1, round(60.0 / SAMPLE_S))
    print(f'{message}\n'
          f'rate {attributes["rate_hz"]:.2f} Hz, jitter {attributes["jitter_ms"]:.1f} ms, late '
          f'{attributes["late"]}, stale {attributes["stale"]}, drops {attributes["drops"]}\n'
          + ', '.join(f'{name} {watcher.said.get(name)}' for name in COSTS)
          + f'; queue at most {watcher.fullest:.0%} full\n'
          f'memory {memory[minute]:.0f} MiB after {minute * SAMPLE_S:.0f} s, {memory[-1]:.0f} at '
          f'the end; logger {100 * busy_s / (60 * options.minutes):.0f} % of one core')


def main() -> int:
    """Play, record and report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--minutes', type=float, default=10.0)
    parser.add_argument('--codec', default='lossless')
    parser.add_argument('--control-rate', type=float, default=30.0)
    parser.add_argument('--folder', help='of the dataset; it needs 3 GB a minute when lossless')
    options = parser.parse_args()
    os.environ.update(ros_environment())
    if options.folder:
        Path(options.folder).mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        dataset = Path(folder) / 'dataset'
        yardstick = Yardstick()  # a fork, so before ROS has threads
        rclpy.init()
        watcher, executor = Watcher(), SingleThreadedExecutor()
        executor.add_node(watcher)
        processes = start(options, dataset)
        try:
            with Client(NAMESPACE, discovery_s=20.0) as client:
                memory = record(options, processes, executor, client)
                busy_s = usage(processes['logger'])[1]
                begun = time.monotonic()
                future = watcher.stopping.call_async(SetBool.Request(data=True))
                executor.spin_until_future_complete(future, timeout_sec=SEALED_WITHIN_S)
                message = future.result().message
            message += f'; sealed in {time.monotonic() - begun:.1f} s'
            report(options, watcher, memory, busy_s, message, dataset)
            print(yardstick.finish())
        finally:
            for process in processes.values():
                process.terminate()
                process.wait(timeout=20)
            rclpy.try_shutdown()
    return 0


if __name__ == '__main__':
    raise SystemExit(main())
