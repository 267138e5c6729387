"""Check checkpoints in a process of their own, so that nothing of it is felt where one acts."""

import atexit
from collections.abc import Sequence
from dataclasses import dataclass
import fcntl
import gc
from multiprocessing import Pipe
from multiprocessing.connection import Connection
import os
from pathlib import Path
import signal
import socket
import subprocess
import sys
import threading
import traceback

import numpy as np
from stable_crl_ros.checkpoint_file import CheckpointError, read_header
from stable_crl_ros.images import ImageError
from stable_crl_ros.policy import Policy, PolicyError
from stable_crl_ros.rehearsal import Rehearsal, rehearse

NICENESS = 15
PATIENCE_S = 120.0  # a disk that takes longer is not waited for
PIECE_BYTES = 1 << 20
START = ('from stable_crl_ros.scheduling import stand_in_line; stand_in_line(); '
         'import sys; from stable_crl_ros import checking; '
         'checking.serve(checking.Connection(int(sys.argv[1])))')
SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE


@dataclass(frozen=True)
class Request:
    """What to check: a file, and what its policy shall be shown."""

    path: str
    frames: Sequence[np.ndarray]
    goal: np.ndarray | None


@dataclass(frozen=True)
class Checked:
    """
    A checkpoint that passed.

    :param file: path of a copy in memory, which nobody can change any more.
    """

    descriptor: int
    rehearsal: Rehearsal

    @property
    def file(self) -> str:
        """Where this process can read it."""
        return f'/proc/self/fd/{self.descriptor}'

    def close(self) -> None:
        """Let go of the copy."""
        os.close(self.descriptor)


class Checker:
    """
    A process that checks one checkpoint after the other, each in a child of its own.

    A file that crashes whoever reads it, or that is too much for the memory, ends that child and
    nothing else. The process is started by the first check and kept: importing torch takes a
    second.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen | None = None
        self._connection: Connection | None = None

    def check(self, path: str | Path, frames: Sequence[np.ndarray] = (),
              goal: np.ndarray | None = None) -> Checked:
        """
        Read, verify and rehearse a checkpoint; one caller at a time.

        :param frames: uint8 RGB; small ones travel faster.
        :returns: the bytes that were checked, and what its policy did.
        :raises CheckpointError: when it must not be used.
        """
        with self._lock:
            try:
                connection = self._connected()
                connection.send(Request(str(path), list(frames), goal))
                if not connection.poll(PATIENCE_S):
                    raise EOFError(f'no answer within {PATIENCE_S:g} s')
                answer = connection.recv()
                if isinstance(answer, str):
                    raise CheckpointError(answer)
                return Checked(_receive_descriptor(connection), answer)
            except (EOFError, OSError) as error:
                self._end()
                raise CheckpointError(f'{path}: could not be checked ({error or "given up"})') \
                    from error

    def abort(self) -> None:
        """Give up a check under way, without waiting for it."""
        if self._lock.locked() and (process := self._process) is not None:
            _kill(process)

    def close(self) -> None:
        """End the process."""
        self.abort()
        with self._lock:
            self._end()

    def _connected(self) -> Connection:
        if self._process is None or self._process.poll() is not None:
            self._end()
            self._connection, theirs = Pipe()
            with theirs:
                self._process = subprocess.Popen(
                    [sys.executable, '-c', START, str(theirs.fileno())],
                    pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL, process_group=0)
        return self._connection

    def _end(self) -> None:
        if self._process is not None:
            _kill(self._process)
            self._process.wait()
            self._connection.close()
        self._process = self._connection = None


def _kill(process: subprocess.Popen) -> None:
    # Its child as well: alone, that would check on and hold the connection open.
    if process.poll() is None:  # once it was waited for, its number may be another's
        os.killpg(process.pid, signal.SIGKILL)


def _receive_descriptor(connection: Connection) -> int:
    with socket.socket(fileno=os.dup(connection.fileno())) as end:
        _, (descriptor,), *_ = socket.recv_fds(end, 1, 1)
    os.set_inheritable(descriptor, False)
    return descriptor


CHECKER = Checker()
atexit.register(CHECKER.close)


def serve(connection: Connection) -> None:
    """Answer requests until the other end is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C in a terminal is for the other end
    os.nice(NICENESS)  # now that it is ready: imports would take a minute on a busy machine
    gc.freeze()  # what is imported stays shared with every child
    while True:
        try:
            request = connection.recv()
        except (EOFError, OSError):
            return
        child = os.fork()
        if not child:
            _answer(connection, request)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        code = os.waitstatus_to_exitcode(status)
        if code < 0:
            connection.send(f'{request.path}: reading it ended the process that did '
                            f'({signal.Signals(-code).name})')


def _answer(connection: Connection, request: Request) -> None:
    try:
        descriptor = _copy(Path(request.path))
        policy = Policy.load(f'/proc/self/fd/{descriptor}', threads=1, name=request.path)
        rehearsal = rehearse(policy, request.frames, request.goal, request.path)
    except (CheckpointError, PolicyError, ImageError, OSError, MemoryError) as error:
        connection.send(str(error) or repr(error))
        return
    except Exception:  # a bug must not leave the other end without an answer
        connection.send(f'{request.path}: {traceback.format_exc()}')
        return
    connection.send(rehearsal)
    with socket.socket(fileno=os.dup(connection.fileno())) as end:
        socket.send_fds(end, [b'f'], [descriptor])


def _copy(path: Path) -> int:
    """Copy a file into memory and seal the copy; returns its descriptor."""
    read_header(path)  # names what is wrong before anything is read
    copy = os.memfd_create('checkpoint', os.MFD_ALLOW_SEALING | os.MFD_CLOEXEC)
    try:
        with open(path, 'rb', buffering=0) as file:
            while piece := file.read(PIECE_BYTES):
                os.write(copy, piece)
    except OSError as error:
        raise CheckpointError(f'{path}: cannot be read ({error.strerror})') from error
    fcntl.fcntl(copy, fcntl.F_ADD_SEALS, SEALS)
    return copy
