"""The thread that runs the servo cycle at its rate, whatever the executor is busy with."""

from collections.abc import Callable
import threading
import time

from stable_crl_ros.nodes.timing import Spread, TickMonitor

_PAUSE_S = 0.001  # for others to get the bus, however late a cycle is


class ServoLoop:
    """
    Call a function at a fixed rate from a thread of its own; late calls are skipped, not queued.

    :param cycle: one servo cycle; must not raise.
    :param rate: Hz.
    """

    def __init__(self, cycle: Callable[[], None], rate: float) -> None:
        self._cycle, self._period_s = cycle, 1.0 / rate
        self._monitor = TickMonitor(self._period_s)
        self._durations, self._delays = Spread(), Spread()
        self._worst_s = self._worst_delay_s = 0.0
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, name='servo', daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the thread after the cycle under way."""
        self._end.set()
        self._thread.join()

    def health(self) -> dict[str, str | int]:
        """Return rate and jitter for diagnostics; the worst are those since the last call."""
        values = {
            'servo_cycles': self._monitor.ticks, 'servo_late': self._monitor.late,
            'servo_missed': self._monitor.missed,
            'servo_p50_ms': self._durations.milliseconds(50),
            'servo_p99_ms': self._durations.milliseconds(99),
            'worst_servo_ms': f'{1e3 * self._worst_s:.2f}',
            'jitter_p99_ms': self._delays.milliseconds(99),
            'worst_jitter_ms': f'{1e3 * self._worst_delay_s:.2f}'}
        self._worst_s = self._worst_delay_s = 0.0
        return values

    def _run(self) -> None:
        due = time.monotonic() + self._period_s
        self._monitor.start(due - self._period_s)
        while not self._end.wait(max(_PAUSE_S, due - time.monotonic())):
            start = time.monotonic()
            self._monitor.tick(start)
            self._cycle()
            self._note(start - due, time.monotonic() - start)
            late = max(0.0, time.monotonic() - due)
            due += self._period_s * (1 + int(late / self._period_s))

    def _note(self, delay_s: float, duration_s: float) -> None:
        self._delays.add(max(0.0, delay_s))
        self._durations.add(duration_s)
        self._worst_s = max(self._worst_s, duration_s)
        self._worst_delay_s = max(self._worst_delay_s, delay_s)
