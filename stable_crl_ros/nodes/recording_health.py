"""How recording goes: what its callbacks cost, how much disk is left, and what was lost."""

from collections.abc import Callable
from pathlib import Path
import shutil
import threading
import time

from stable_crl_ros.nodes.common import ERROR, OK, REFUSALS, WARN
from stable_crl_ros.nodes.timing import Spread

DISK_PERIOD_S = 1.0
LITTLE_TIME_MIN = 10.0
QUEUE_ALARM = 0.5
SLOW_S = 0.002  # a callback that computes longer would be felt at control rate


class CallbackCost:
    """Measure how long callbacks keep the executor, and how much of that they compute."""

    def __init__(self) -> None:
        self.spread = Spread()
        self.worst_s = self.worst_busy_s = 0.0
        self.calls = self.slow = 0

    def timed(self, callback: Callable) -> Callable:
        """Return the callback with a clock around it."""
        def measured(*args):
            start, busy = time.perf_counter(), time.thread_time()
            try:
                return callback(*args)
            finally:
                seconds = time.perf_counter() - start
                busy = time.thread_time() - busy
                self.calls += 1
                self.slow += busy > SLOW_S
                self.worst_busy_s = max(self.worst_busy_s, busy)
                self.spread.add(seconds)
                self.worst_s = max(self.worst_s, seconds)
        return measured

    def values(self) -> dict[str, str]:
        """Return what /diagnostics shows."""
        return {'callback_p50_ms': self.spread.milliseconds(50),
                'callback_p99_ms': self.spread.milliseconds(99),
                'callback_worst_ms': f'{1e3 * self.worst_s:.1f}',
                'callback_worst_cpu_ms': f'{1e3 * self.worst_busy_s:.1f}',
                'callbacks': str(self.calls), 'callbacks_over_2_ms_cpu': str(self.slow)}


class DiskWatch:
    """
    Look at the free space once a second, in a thread: a disk that hangs must not stop a callback.

    :param path: says which directory; it need not be there yet.
    """

    def __init__(self, path: Callable[[], Path]) -> None:
        self._path = path
        self.free = 0  # bytes
        self.problem = 'not looked at yet'
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name='disk watch', daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop to look; a disk that hangs is not waited for."""
        self._stopping.set()
        self._thread.join(timeout=0.5)

    def _run(self) -> None:
        while True:
            try:
                path = self._path()
                existing = next(place for place in (path, *path.parents) if place.exists())
                self.free, self.problem = shutil.disk_usage(existing).free, ''
            except REFUSALS as error:  # what was set may be no path at all
                self.problem = str(error)
            if self._stopping.wait(DISK_PERIOD_S):
                return


def judge(recording, disk: DiskWatch, missing: list[str], minimum_free: float,
          ) -> tuple[bytes, str, dict]:
    """
    Say how it goes, for /diagnostics.

    :param recording: the running `Recording`, None for none.
    :param missing: what an episode needs and nobody sends.
    :param minimum_free: bytes of free disk below which nothing is recorded.
    :returns: level, one line, values by name.
    """
    if disk.problem:
        return ERROR, f'dataset_path: {disk.problem}', {}
    values = {'disk_free_gb': f'{disk.free / 1e9:.1f}'}
    if recording is not None:
        recorder = recording.recorder
        values |= recording.health(disk.free)
        if recorder.ended_why:
            return ERROR, f'the episode ended: {recorder.ended_why}', values
        if recorder.dropped:
            return ERROR, f'{recorder.dropped} steps dropped: {recorder.error}', values
    if disk.free < minimum_free:
        return WARN, f'only {disk.free / 1e6:.0f} MB of disk free: nothing is recorded', values
    if recording is None:
        return OK, f'waiting: {"; ".join(missing)}' if missing else 'ready', values
    minutes = recorder.minutes_left(disk.free)
    if minutes < LITTLE_TIME_MIN:
        return WARN, f'the disk is full in {minutes:.1f} minutes', values
    if recorder.queue_fill > QUEUE_ALARM:
        return WARN, f'the disk is slow: the queue is {recorder.queue_fill:.0%} full', values
    return OK, f'recording: {recording.steps} steps', values
