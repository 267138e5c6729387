"""Start a stack as processes without `ros2 launch`, watch over it, and leave none behind."""

from collections.abc import Callable, Iterable
import contextlib
import ctypes
import os
from pathlib import Path
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

from stable_crl_ros.ending import ending_signals
from stable_crl_ros.environment import (
    LaunchError,
    PARENT_VARIABLE,
    RESPAWN_DELAY_S,
    ros_environment,
    StackLock,
)
from stable_crl_ros.graph import check_namespace, NodeSpec
from stable_crl_ros.patience import wait_until

GRACE_S = 5.0  # from the request to end to the kill
SHORT_LIFE_S = 10.0  # a respawned node that ends sooner ...
SHORT_LIVES = 3  # ... so many times in a row will not get better
SEGMENT_BYTES = 17e6  # shared memory of one process under config/fastdds.xml
PR_SET_PDEATHSIG = 1
CLEAR_LINE = '\x1b[K'


def _print(line: str) -> None:
    try:
        # Over what is left of a status that is redrawn in place.
        print(f'{CLEAR_LINE}{line}' if sys.stdout.isatty() else line, flush=True)
    except OSError:  # the terminal is gone, the processes are not
        # What could not be written is written again at the end, and would spoil the status.
        with open(os.devnull, 'w') as nowhere:
            os.dup2(nowhere.fileno(), sys.stdout.fileno())


class Launcher:
    """
    The processes of one stack. Used with `with`: on leaving, all of them are gone.

    `poll` must be called several times a second, always from the thread that called `start`:
    Linux ends children with the thread that made them.

    :param specs: what to start, in order.
    :param namespace: in front of every node and topic name.
    :param environment: of the processes; None for this one's own. Completed either way.
    :param log_level: least severe message that is shown.
    :param output: gets every line, '[name] ' in front.
    """

    def __init__(self, specs: Iterable[NodeSpec], namespace: str = 'widowx',
                 environment: dict[str, str] | None = None, log_level: str = 'info',
                 output: Callable[[str], None] = _print) -> None:
        self.namespace = check_namespace(namespace)
        self.environment = ros_environment(environment) | {
            PARENT_VARIABLE: str(os.getpid()), 'PYTHONUNBUFFERED': '1'}
        self._log_level = log_level
        self._output = output
        self._watched = [_Watched(spec) for spec in specs]
        self._lock: StackLock | None = None
        self._folder: Path | None = None

    def __enter__(self) -> 'Launcher':
        self.start()
        return self

    def __exit__(self, *_) -> None:
        self.stop()

    @property
    def pids(self) -> dict[str, int]:
        """Process ids of what runs now, by the name of their spec."""
        return {w.spec.name: w.process.pid for w in self._watched if w.running}

    def start(self) -> None:
        """
        Start every process.

        :raises LaunchError: when a stack already runs here; nothing was started then.
        """
        self._lock = StackLock(self.namespace, self.environment)
        try:
            self._folder = Path(tempfile.mkdtemp(prefix='stable_crl_ros-'))
            self._warn_of_little_shared_memory()
            for watched in self._watched:
                self._spawn(watched)
        except BaseException:
            self.stop()
            raise

    def poll(self) -> None:
        """
        Look after the processes: start again what may be, and notice what must not end.

        :raises LaunchError: when a process ended that the stack needs; names it and its status.
        """
        for watched in self._watched:
            if watched.process is None:
                if time.monotonic() >= watched.respawn_at:
                    self._spawn(watched)
            elif watched.process.poll() is not None and not watched.finished:
                self._ended(watched)

    def stop(self) -> None:
        """
        Ask everything to end, and kill what does not. Safe to call twice.

        Not by SIGINT: in a process that still imports, that ends in a traceback.
        """
        try:
            for number, grace_s in ((signal.SIGTERM, GRACE_S), (signal.SIGKILL, GRACE_S)):
                for watched in self._watched:
                    if watched.running:
                        watched.process.send_signal(number)
                if self._wait(grace_s):
                    break
                late = ', '.join(self.pids)
                self._output(f'[launch] still there after {grace_s:g} s: {late}')
        finally:
            self._release()

    def _release(self) -> None:
        for watched in self._watched:
            watched.close()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def _wait(self, seconds: float) -> bool:
        return bool(wait_until(lambda: not self.pids, seconds, lambda: time.sleep(0.02)))

    def _ended(self, watched: '_Watched') -> None:
        spec, status = watched.spec, watched.process.returncode
        watched.close()
        what = f'{spec.name} (process {watched.process.pid}) {describe_status(status)}'
        if spec.once and status == 0:
            watched.finished = True
            return
        short_lives = watched.count_short_life()
        if not spec.respawn or short_lives >= SHORT_LIVES or watched.refused_to_start:
            watched.finished = True
            raise LaunchError(f'{what}; the stack needs it')
        self._output(f'[launch] {what}; starting it again in {RESPAWN_DELAY_S:g} s')
        watched.process = None
        watched.respawn_at = time.monotonic() + RESPAWN_DELAY_S

    def _spawn(self, watched: '_Watched') -> None:
        spec = watched.spec
        pipes = {} if spec.terminal else {
            'stdin': subprocess.DEVNULL, 'stdout': subprocess.PIPE, 'stderr': subprocess.STDOUT,
            # Ctrl-C in the terminal is for the launcher, which passes it on once and in order.
            'start_new_session': True}
        watched.process = subprocess.Popen(
            self._command(spec), env=self.environment, preexec_fn=_end_with_parent, **pipes)
        watched.started = time.monotonic()
        if not spec.terminal:
            watched.reader = threading.Thread(
                target=_forward, args=(watched.process.stdout, spec.name, self._output),
                name=f'output of {spec.name}', daemon=True)
            watched.reader.start()

    def _command(self, spec: NodeSpec) -> list[str]:
        command = [sys.executable, '-m', f'stable_crl_ros.nodes.{spec.executable}', '--ros-args',
                   '-r', f'__ns:={spec.namespace_in(self.namespace)}',
                   '--log-level', self._log_level]
        for file in [*spec.config, *spec.write_overrides(self._folder)]:
            command += ['--params-file', str(file)]
        return command

    def _warn_of_little_shared_memory(self) -> None:
        needed = SEGMENT_BYTES * len(self._watched)
        with contextlib.suppress(OSError):
            free = shutil.disk_usage('/dev/shm').free
            if free < needed:
                self._output(
                    f'[launch] /dev/shm has only {free / 1e6:.0f} MB free: images will go slower, '
                    'over UDP; in Docker, use --shm-size=256m')


class _Watched:
    """One process of a stack and its history."""

    def __init__(self, spec: NodeSpec) -> None:
        self.spec = spec
        self.process: subprocess.Popen | None = None
        self.reader: threading.Thread | None = None
        self.started = 0.0
        self.respawn_at = float('inf')
        self.finished = False
        self._short_lives = 0
        self._worked = False

    @property
    def running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def count_short_life(self) -> int:
        """Return how many times in a row this process ended soon after its start."""
        short = time.monotonic() - self.started < SHORT_LIFE_S
        self._short_lives = self._short_lives + 1 if short else 0
        self._worked = self._worked or not short
        return self._short_lives

    @property
    def refused_to_start(self) -> bool:
        """Say whether it ended by its own decision without ever having run for a while."""
        return not self._worked and self.process.returncode == 1

    def close(self) -> None:
        """Let the last lines out, then close the pipe."""
        if self.reader is not None:
            self.reader.join(timeout=1.0)
            if not self.reader.is_alive():
                self.process.stdout.close()
            self.reader = None


def describe_status(status: int) -> str:
    """Say in words how a process ended."""
    if status < 0:
        return f'was ended by {signal.Signals(-status).name}'
    return f'ended with status {status}'


def _forward(pipe, name: str, output: Callable[[str], None]) -> None:
    for line in pipe:
        output(f'[{name}] {line.decode(errors="replace").rstrip()}')


_libc = ctypes.CDLL(None)  # loaded before any fork


def _end_with_parent() -> None:
    # Before the node's own watch over its parent runs, and when the launcher dies by SIGKILL.
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def run(launcher: Launcher) -> int:
    """
    Run a stack in the foreground until Ctrl-C, SIGTERM or the end of a process it needs.

    A terminal that is closed ends it too, unless under nohup. A second Ctrl-C does not wait for
    a clean end.

    :returns: exit status: 0 after Ctrl-C or SIGTERM, 1 when the stack ended by itself.
    :raises LaunchError: when it could not start.
    """
    wanted = threading.Event()

    def on_signal(number, _) -> None:
        if wanted.is_set():
            for pid in launcher.pids.values():
                os.kill(pid, signal.SIGKILL)
        wanted.set()
    before = {number: signal.signal(number, on_signal)
              for number in (signal.SIGINT, *ending_signals())}
    try:
        with launcher:
            return _watch(launcher, wanted)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _watch(launcher: Launcher, wanted: threading.Event) -> int:
    try:
        while not wanted.wait(0.1):
            launcher.poll()
    except LaunchError as error:
        print(f'[launch] {error}, see its last lines above', file=sys.stderr, flush=True)
        return 1
    _print('[launch] stopping')
    return 0
