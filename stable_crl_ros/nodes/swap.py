"""Load a checkpoint beside a running policy: in a thread, one at a time, the last wish wins."""

from collections.abc import Callable
from dataclasses import dataclass
import os
from pathlib import Path
import threading
import time
import traceback

from stable_crl_ros import SHIPPED_CHECKPOINT
from stable_crl_ros.checkpoint import CheckpointError
from stable_crl_ros.nodes.process import REFUSALS
from stable_crl_ros.policy import Policy

LOADER_NICENESS = 10


def resolve_checkpoint(path: str) -> Path:
    """
    Return the file that the parameter `checkpoint_path` names; '' is the shipped one.

    :raises CheckpointError: for a folder of a user who does not exist.
    """
    try:
        return Path(path).expanduser() if path else SHIPPED_CHECKPOINT
    except RuntimeError as error:
        raise CheckpointError(f'{path}: there is no such user; write the folder out') from error


@dataclass(frozen=True)
class Loaded:
    """
    A policy and where it came from.

    :param path: as the parameter `checkpoint_path` names it.
    """

    path: str
    policy: Policy


@dataclass(frozen=True)
class Outcome:
    """
    How a load ended.

    :param path: as it was asked for.
    :param policy: ready to act; None when it was refused.
    :param error: why it was refused, '' when it was not.
    :param seconds: how long it took.
    """

    path: str
    policy: Policy | None
    error: str
    seconds: float


class PolicyLoader:
    """
    Prepare a policy off the control path.

    :param load: turns a path into a policy that is verified, warmed up and rehearsed; raises one
        of `REFUSALS` to refuse. Runs in a thread of lower priority.
    """

    def __init__(self, load: Callable[[str], Policy]) -> None:
        self._load = load
        self._lock = threading.Lock()
        self._ticket = 0
        self._wish: tuple[int, str] | None = None
        self._outcome: Outcome | None = None
        self._thread: threading.Thread | None = None

    @property
    def busy(self) -> bool:
        """Whether something is under way or still to be taken."""
        return self._thread is not None or self._outcome is not None

    def request(self, path: str) -> None:
        """Begin to load; a load under way is finished but its outcome dropped."""
        with self._lock:
            self._ticket += 1
            self._wish, self._outcome = (self._ticket, path), None
            if self._thread is None:
                # No daemon: torch aborts the process when it is cut off at the exit.
                self._thread = threading.Thread(target=self._run, name='checkpoint loader')
                self._thread.start()

    def cancel(self) -> None:
        """Drop the outcome of whatever is under way."""
        with self._lock:
            self._ticket += 1
            self._wish = self._outcome = None

    def take(self) -> Outcome | None:
        """Return the outcome of the last request, once; None while there is none."""
        with self._lock:
            outcome, self._outcome = self._outcome, None
            return outcome

    def wait(self) -> None:
        """Wait until nothing is under way."""
        with self._lock:
            thread = self._thread
        if thread is not None:
            thread.join()

    def _run(self) -> None:
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), LOADER_NICENESS)
        while (wish := self._next_wish()) is not None:
            ticket, path = wish
            outcome = self._attempt(path)
            with self._lock:
                if ticket == self._ticket:
                    self._outcome = outcome

    def _next_wish(self) -> tuple[int, str] | None:
        with self._lock:
            wish, self._wish = self._wish, None
            if wish is None:
                self._thread = None
            return wish

    def _attempt(self, path: str) -> Outcome:
        start = time.monotonic()
        policy, error = None, ''
        try:
            policy = self._load(path)
        except REFUSALS as refusal:
            error = str(refusal)
        except Exception:  # a bug must not leave the setter waiting for ever
            error = traceback.format_exc()
        return Outcome(path, policy, error, time.monotonic() - start)
