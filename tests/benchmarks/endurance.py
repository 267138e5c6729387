#!/usr/bin/env python3
"""Run the policy stack for minutes; print its rate, its latency and how its memory grows."""

import argparse
import os
from pathlib import Path
import sys
import time

from diagnostic_msgs.msg import DiagnosticArray
import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from stable_crl_ros.bringup import GRAPHS
from stable_crl_ros.environment import ros_environment
from stable_crl_ros.launcher import Launcher

SHOWN = ('ticks', 'late', 'missed', 'commands', 'holds', 'inference_p50_ms', 'inference_p99_ms',
         'latency_p50_ms', 'latency_p99_ms')


class Watcher(Node):
    """Remember what the policy last said about its control loop."""

    def __init__(self) -> None:
        super().__init__('endurance')
        self.control: dict[str, str] = {}
        self.create_subscription(DiagnosticArray, '/diagnostics', self._on_diagnostics, 20)

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            if status.name.endswith('/policy: control'):
                self.control = {item.key: item.value for item in status.values}


def resident_mib(pid: int) -> float:
    """Return the memory a process holds."""
    for line in Path(f'/proc/{pid}/status').read_text().splitlines():
        if line.startswith('VmRSS'):
            return int(line.split()[1]) / 1024
    return 0.0


def main() -> int:
    """Run, watch and report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--minutes', type=float, default=10.0)
    parser.add_argument('--goal', default='drawer_open.png')
    parser.add_argument('arguments', nargs='*', metavar='name:=value')
    options = parser.parse_args()
    os.environ.update(ros_environment())
    graph = GRAPHS['policy']
    values = graph.complete({'goal': options.goal, 'robot': 'sim'} | dict(
        word.split(':=', 1) for word in options.arguments))
    rclpy.init()
    watcher = Watcher()
    executor = SingleThreadedExecutor()
    executor.add_node(watcher)
    samples: list[dict[str, float]] = []
    with Launcher(graph.specs(values), values['namespace'], output=lambda line: None) as stack:
        while not watcher.control:
            stack.poll()
            executor.spin_once(timeout_sec=0.1)
        start = time.monotonic()
        while time.monotonic() - start < 60.0 * options.minutes:
            stack.poll()
            executor.spin_once(timeout_sec=0.1)
            if time.monotonic() - start > 30.0 * len(samples):
                samples.append({name: resident_mib(pid) for name, pid in stack.pids.items()})
        seconds = time.monotonic() - start
    report(samples, watcher.control, seconds)
    rclpy.try_shutdown()
    return 0


def report(samples: list[dict[str, float]], control: dict[str, str], seconds: float) -> None:
    """Print a table of memory and the policy's own figures."""
    print(f'{seconds:.0f} s; policy: '
          + ', '.join(f'{name} {control[name]}' for name in SHOWN if name in control))
    settled = samples[min(2, len(samples) - 1)]
    for name, end in samples[-1].items():
        first = settled.get(name, 0.0)
        print(f'{name:18s} {first:7.1f} MiB after a minute, {end:7.1f} at the end')


if __name__ == '__main__':
    sys.exit(main())
