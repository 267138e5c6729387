"""Prepare a checkpoint beside a running policy: in a thread, one at a time, the last wish wins."""

from collections.abc import Callable
from dataclasses import dataclass
import threading
import time
import traceback

from stable_crl_ros.nodes.process import REFUSALS
from stable_crl_ros.preparation import Loaded, Wish


@dataclass(frozen=True)
class Outcome:
    """
    How a preparation ended.

    :param loaded: None when it was refused.
    :param error: why it was refused, '' when it was not.
    :param seconds: how long it took.
    """

    wish: Wish
    loaded: Loaded | None
    error: str
    seconds: float


class PolicyLoader:
    """
    Prepare a policy off the control path, one at a time; the last wish wins.

    :param prepare: turns a wish into a policy that is ready to act; raises one of `REFUSALS` to
        refuse. Runs in a thread, of the same priority as the control loop: one of lower priority
        would be put aside while it holds Python's lock, and the loop would wait for both.
    """

    def __init__(self, prepare: Callable[[Wish], Loaded]) -> None:
        self._prepare = prepare
        self._lock = threading.Lock()
        self._ticket = 0
        self._wish: tuple[int, Wish] | None = None
        self._outcome: Outcome | None = None
        self._thread: threading.Thread | None = None
        self._awaited = False

    @property
    def busy(self) -> bool:
        """Whether an outcome will come or is still to be taken; one that was dropped is not."""
        return self._awaited

    def request(self, wish: Wish) -> None:
        """Begin to prepare; what is under way is finished but its outcome dropped."""
        with self._lock:
            self._ticket += 1
            self._wish, self._outcome, self._awaited = (self._ticket, wish), None, True
            if self._thread is None:
                # No daemon: torch aborts the process when it is cut off at the exit.
                self._thread = threading.Thread(target=self._run, name='checkpoint loader')
                self._thread.start()

    def cancel(self) -> None:
        """Drop the outcome of whatever is under way."""
        with self._lock:
            self._ticket += 1
            self._wish, self._outcome, self._awaited = None, None, False

    def take(self) -> Outcome | None:
        """Return the outcome of the last request, once; None while there is none."""
        with self._lock:
            outcome, self._outcome = self._outcome, None
            self._awaited = self._awaited and outcome is None
            return outcome

    def wait(self) -> None:
        """Wait until nothing is under way."""
        with self._lock:
            thread = self._thread
        if thread is not None:
            thread.join()

    def _run(self) -> None:
        while (next_one := self._next_wish()) is not None:
            ticket, wish = next_one
            outcome = self._attempt(wish)
            with self._lock:
                if ticket == self._ticket:
                    self._outcome = outcome

    def _next_wish(self) -> tuple[int, Wish] | None:
        with self._lock:
            wish, self._wish = self._wish, None
            if wish is None:
                self._thread = None
            return wish

    def _attempt(self, wish: Wish) -> Outcome:
        start = time.monotonic()
        loaded, error = None, ''
        try:
            loaded = self._prepare(wish)
        except REFUSALS as refusal:
            error = str(refusal)
        except Exception:  # a bug must not leave the setter waiting for ever
            error = traceback.format_exc()
        return Outcome(wish, loaded, error, time.monotonic() - start)
