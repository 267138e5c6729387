"""How well a fixed rate is kept, and the spread of recent durations."""

from collections import deque

import numpy as np

LATE_SHARE = 0.1  # of a period
REMEMBERED = 500


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
