#!/usr/bin/env python3
"""Measure how long the arm still gets moving goals after `~/stop`, and after the last command."""

import argparse
from pathlib import Path
import random
import subprocess
import sys
import tempfile
import time

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / 'tests'))

from conftest import Ros  # noqa: E402
from fault_rig import POSE, Rig, STEP_S  # noqa: E402
import numpy as np  # noqa: E402
from stable_crl_ros.servo_bus import start  # noqa: E402
from std_srvs.srv import Trigger  # noqa: E402


class Remote(Rig):
    """A rig whose arm node is a process of its own, as in service."""

    def __init__(self, ros, bus):
        super().__init__(ros, bus, remote=True)
        self.stop, self.resume = (self.cell.probe.create_client(Trigger, f'arm/{name}')
                                  for name in ('stop', 'resume'))
        ros.spin_until(lambda: self.stop.service_is_ready() and self.resume.service_is_ready())

    def measure(self, stop: bool) -> float:
        """Swing, stop at a random moment, and return the seconds to the last moving goal."""
        self.silent = False
        self.ros.spin_for(2 * STEP_S + random.uniform(0.0, 2 * STEP_S))
        at = time.monotonic() if stop else self.sent_at
        if stop:
            future = self.stop.call_async(Trigger.Request())
            self.ros.spin_until(future.done)
        self.silent = True
        self.ros.spin_for(0.4)
        moved = self.last_moving_goal(at)
        if stop:
            future = self.resume.call_async(Trigger.Request())
            self.ros.spin_until(future.done)
        return moved - at


def main() -> int:
    """Measure both, and print percentiles."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--count', type=int, default=100)
    parser.add_argument('--servo-rate', type=float, default=50.0)
    options = parser.parse_args()
    ros = Ros()
    with tempfile.TemporaryDirectory() as folder, start(pose=POSE, link=f'{folder}/bus') as bus:
        arm = subprocess.Popen(
            [sys.executable, '-m', 'stable_crl_ros.nodes.arm', '--ros-args', '-p',
             'driver:=dynamixel', '-p', f'port:={folder}/bus', '-p',
             f'servo_rate:={options.servo_rate}', '--log-level', 'warn'])
        try:
            rig = Remote(ros, bus)
            for name, stop in (('~/stop', True), ('silence', False)):
                ms = 1e3 * np.array([rig.measure(stop) for _ in range(options.count)])
                p50, p99, worst = np.percentile(ms, (50, 99, 100))
                print(f'{name}: {len(ms)} trials at {options.servo_rate:g} Hz, last moving goal '
                      f'after p50 {p50:.1f} ms, p99 {p99:.1f} ms, worst {worst:.1f} ms')
        finally:
            arm.terminate()
            arm.wait()
            ros.close()
    return 0


if __name__ == '__main__':
    sys.exit(main())
