#!/usr/bin/env python3
"""Time servo cycles (one read, one write) on the emulated bus, alone and beside a recording."""

import argparse
import contextlib
import os
from pathlib import Path
import subprocess
import sys
import tempfile
import time

from machine import going_first
import numpy as np
from stable_crl_ros import servo_bus
from stable_crl_ros.robot.arm import ArmError
from stable_crl_ros.robot.dynamixel import DynamixelArm
from stable_crl_ros.robot.kinematics import JOINT_NAMES, START
from stable_crl_ros.scheduling import ARM

LOAD = Path(__file__).with_name('recording_load.py')
SWING = np.array([0.4, 0.1, -0.1, 0.3, 0.2, 0.5])  # rad
SPIN_UP_S = 5.0  # of a recording, before anything is measured beside it
ROW = '{:>9} {:>5} {:>7} {:>7} {:>7} {:>7} {:>7} {:>7} {:>8} {:>8}'
TITLE = ('load', 'Hz', 'cycles', 'p50 ms', 'p99 ms', 'worst', 'late', 'missed', 'arm %', 'bus %')


def cpu_s(process: int) -> float:
    """Return the processor time another process has used (s)."""
    ticks = Path(f'/proc/{process}/stat').read_text().rpartition(')')[2].split()[11:13]
    return sum(map(int, ticks)) / os.sysconf('SC_CLK_TCK')


def measure(rate: float, seconds: float, timed: bool, priority: int) -> tuple:
    """
    Swing the arm and time every cycle.

    :param rate: cycles per second (Hz).
    :param priority: of this process, see `machine.going_first`.
    :returns: the row's figures: cycles, ms at p50, p99 and worst, cycles longer than their
        period, cycles without a whole reading, and the CPU share of driver and bus (%).
    """
    pose = dict(zip(JOINT_NAMES, START.tolist(), strict=True))
    with servo_bus.start(pose=pose, timed=timed) as bus, going_first(priority):
        arm = DynamixelArm(bus.port, cycle_s=1.0 / rate, watchdog_s=2.0)
        arm.connect()
        used, bus_used = time.process_time(), cpu_s(bus.process.pid)
        took, missed, begun = [], 0, time.monotonic()
        due = begun
        while (now := time.monotonic()) - begun < seconds:
            try:
                arm.read()
            except ArmError:
                missed += 1
            with contextlib.suppress(ArmError):
                arm.write(START + SWING * np.sin(now - begun), 0.5)
            took.append(1e3 * (time.monotonic() - now))
            due = max(due + 1.0 / rate, time.monotonic() - 1.0 / rate)
            time.sleep(max(0.0, due - time.monotonic()))
        shares = [100 * share / (time.monotonic() - begun) for share in
                  (time.process_time() - used, cpu_s(bus.process.pid) - bus_used)]
        arm.close()
    late = sum(each > 1e3 / rate for each in took)
    return len(took), *np.percentile(took, (50, 99, 100)), late, missed, *shares


@contextlib.contextmanager
def recording(seconds: float):
    """Record three cameras at 30 Hz meanwhile; `recording_load.py` prints what that cost."""
    with tempfile.TemporaryDirectory() as folder:
        minutes = (SPIN_UP_S + seconds) / 60
        process = subprocess.Popen(
            [sys.executable, str(LOAD), '--minutes', f'{minutes:.3f}', '--codec', 'jpeg:90',
             '--folder', folder], stdout=subprocess.PIPE, text=True)
        if not process.stdout.readline():  # it says when it records
            raise SystemExit(f'{LOAD.name} ended with status {process.wait()}')
        time.sleep(SPIN_UP_S)
        yield
        process.communicate()


def main() -> int:
    """Measure at each rate, alone and loaded, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--seconds', type=float, default=10.0, help='of each measurement')
    parser.add_argument('--rates', type=float, nargs='+', default=[50.0, 100.0], help='Hz')
    parser.add_argument('--untimed', action='store_true',
                        help='leave out the time that packets take on a wire of 1 Mbps')
    parser.add_argument('--no-load', action='store_true', help='measure alone only')
    parser.add_argument('--no-priority', action='store_true',
                        help='without the real-time priority of the arm node, to compare')
    options = parser.parse_args()
    print(ROW.format(*TITLE))
    for load in ('none',) if options.no_load else ('none', 'recording'):
        for rate in options.rates:
            with recording(options.seconds) if load != 'none' else contextlib.nullcontext():
                count, p50, p99, worst, *rest = measure(rate, options.seconds,
                                                        not options.untimed,
                                                        0 if options.no_priority else ARM)
            late, missed, arm, bus = rest
            print(ROW.format(load, f'{rate:g}', count, f'{p50:.1f}', f'{p99:.1f}',
                             f'{worst:.1f}', late, missed, f'{arm:.0f}', f'{bus:.0f}'),
                  flush=True)
    return 0


if __name__ == '__main__':
    raise SystemExit(main())
