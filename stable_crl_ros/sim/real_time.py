"""Something that advances in slices, kept at the speed of real time by a thread."""

from collections.abc import Callable
import threading
import time

MAX_CATCH_UP = 0.1  # s of real time; what is later than that is lost, not made up for


class RealTime:
    """
    Call `step(slice_s)` as often as real time asks for, until it fails or is stopped.

    :param step: advances by so many seconds.
    :param slice_s: s.
    """

    def __init__(self, step: Callable[[float], None], slice_s: float) -> None:
        self._step, self._slice_s = step, slice_s
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self.failure: Exception | None = None

    @property
    def running(self) -> bool:
        """Say whether it was started, and not stopped since."""
        return self._thread is not None

    def start(self) -> None:
        """Let time run."""
        self._stop.clear()
        self.failure = None
        self._thread = threading.Thread(target=self._run, name='sim-physics', daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Let time stand still. Calling it twice is harmless."""
        if self._thread is not None:
            self._stop.set()
            self._thread.join()
            self._thread = None

    def _run(self) -> None:
        due = time.monotonic()
        try:
            while not self._stop.wait(max(0.0, due - time.monotonic())):
                self._step(self._slice_s)
                due = max(due + self._slice_s, time.monotonic() - MAX_CATCH_UP)
        except Exception as error:  # a dead thread would leave the arm silently frozen
            self.failure = error
