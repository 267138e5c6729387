"""How well a fixed rate is kept, and the spread of recent durations."""

from collections import deque
import gc
import threading
import time

import numpy as np

LATE_SHARE = 0.1  # of a period
REMEMBERED = 500
YOUNG, ALL = 1, 2  # generations of the garbage collector
GARBAGE_PERIODS = ((YOUNG, 1.0), (ALL, 60.0))  # s


class TickMonitor:
    """
    Count the ticks of a fixed rate against its phase.

    :param period_s: s between ticks.
    """

    def __init__(self, period_s: float) -> None:
        self._period_s = period_s
        self._start_s, self._last = 0.0, 0
        self.ticks, self.late, self.missed = 0, 0, 0

    def start(self, now_s: float) -> None:
        """
        Begin to count; the first tick is due one period from now.

        :param now_s: monotonic time.
        """
        self._start_s, self._last = now_s, 0
        self.ticks, self.late, self.missed = 0, 0, 0

    def tick(self, now_s: float) -> float:
        """
        Count one tick that came now.

        :returns: how late it is against its phase, s; negative when it is early.
        """
        phase = (now_s - self._start_s) / self._period_s
        index = max(self._last + 1, int(phase + LATE_SHARE))
        self.missed += index - self._last - 1
        self.late += phase - index > LATE_SHARE
        self.ticks += 1
        self._last = index
        return (phase - index) * self._period_s

    def spare_s(self, now_s: float) -> float:
        """Return how long it is until the next tick is due, s."""
        return self._start_s + (self._last + 1) * self._period_s - now_s


class Gaps:
    """
    Let another thread begin a piece of work only when no tick is due for a while.

    :param period_s: between two ticks, s.
    """

    ENOUGH_S = 0.03  # where no gap is as long, a piece begins with the gap
    MISSED = 3  # periods without a tick, after which none is waited for

    def __init__(self, period_s: float) -> None:
        self._patience_s = self.MISSED * period_s
        self._opened = threading.Condition()
        self._due_s = -np.inf

    def open(self, due_s: float) -> None:
        """
        Say that a tick is over.

        :param due_s: monotonic time of the next.
        """
        with self._opened:
            self._due_s = due_s
            self._opened.notify_all()

    def wait(self) -> None:
        """Return in a gap; at once where ticks have stopped."""
        with self._opened:
            spare_s = self._due_s - time.monotonic()
            if -self._patience_s < spare_s < self.ENOUGH_S:
                self._opened.wait(self._patience_s)


class GarbageCollection:
    """
    Collect garbage after a tick, when there is time, instead of in the middle of one.

    What is there at the start is taken for permanent and not looked through again.
    """

    def __init__(self) -> None:
        self._due_s = {YOUNG: 0.0, ALL: 0.0}
        self._cost_s = {YOUNG: 0.0, ALL: 0.0}
        self._running = False

    def start(self) -> None:
        """Clean up, and keep the collector off until `stop`."""
        gc.collect()
        gc.freeze()
        gc.disable()
        self._running = True
        now_s = time.monotonic()
        self._due_s = {generation: now_s + period for generation, period in GARBAGE_PERIODS}

    def stop(self) -> None:
        """Let the collector decide again; may be called twice."""
        if self._running:
            self._running = False
            gc.enable()
            gc.unfreeze()

    def collect(self, spare_s: float) -> None:
        """
        Collect what is due, if that takes no longer than it may.

        :param spare_s: time until the next tick, s.
        """
        now_s = time.monotonic()
        for generation, period_s in GARBAGE_PERIODS:
            if now_s >= self._due_s[generation] and 3.0 * self._cost_s[generation] < spare_s:
                gc.collect(generation)
                self._cost_s[generation] = time.monotonic() - now_s
                self._due_s[generation] = now_s + period_s
                return


class Spread:
    """The last durations and their percentiles."""

    def __init__(self) -> None:
        self._seconds: deque[float] = deque(maxlen=REMEMBERED)

    def add(self, seconds: float) -> None:
        """Remember one duration."""
        self._seconds.append(seconds)

    def milliseconds(self, percentile: float) -> str:
        """Return a percentile in ms as text, 'none' before the first duration."""
        if not self._seconds:
            return 'none'
        return f'{1e3 * np.percentile(self._seconds, percentile):.1f}'

    def clear(self) -> None:
        """Forget all."""
        self._seconds.clear()
