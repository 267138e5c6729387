"""What the machine gives a benchmark: a priority, and how long it stood still itself."""

from collections.abc import Iterator
import contextlib
import multiprocessing
import os
import time

from stable_crl_ros.scheduling import go_first, stand_in_line

PERIOD_S = 0.005


@contextlib.contextmanager
def going_first(priority: int) -> Iterator[None]:
    """Have a node's priority meanwhile; 0 for none."""
    if priority and (refusal := go_first(priority)):
        print(f'no real-time priority: {refusal}')
    try:
        yield
    finally:
        stand_in_line()  # what is started next must not inherit it


class Standstills:
    """
    Watch every CPU core from a process of its own, above all others.

    A process that only sleeps, and may interrupt everything else, wakes late when its core is
    not there: taken by a hypervisor, or held in the kernel. Without the right to a real-time
    priority it waits for other programs too, which `obtained` says.
    """

    def __init__(self) -> None:
        context = multiprocessing.get_context('spawn')
        self._ends, self._processes = [], []
        for core in sorted(os.sched_getaffinity(0)):
            mine, theirs = context.Pipe()
            process = context.Process(target=_watch, args=(core, theirs), daemon=True)
            process.start()
            self._ends.append(mine)
            self._processes.append(process)
        self.obtained = all([end.recv() for end in self._ends])

    def take(self) -> list[float]:
        """Return by how much each wake since the last call was late, seconds, all cores'."""
        for end in self._ends:
            end.send('take')
        return sum([end.recv() for end in self._ends], [])

    def describe(self, limit_s: float) -> str:
        """Say what there was since the last call or `take`."""
        late = self.take()
        beyond = sum(seconds > limit_s for seconds in late)
        priority = '' if self.obtained else ' (without a real-time priority)'
        return (f'the machine itself{priority}: {beyond} of {len(late)} wakes of a core later '
                f'than {1e3 * limit_s:g} ms, worst {1e3 * max(late):.1f} ms')

    def close(self) -> None:
        """End the processes."""
        for process in self._processes:
            process.terminate()
            process.join()

    def __enter__(self) -> 'Standstills':
        """Watch until the block ends."""
        return self

    def __exit__(self, *_) -> None:
        """Watch no longer."""
        self.close()


def _watch(core: int, end) -> None:
    os.sched_setaffinity(0, [core])
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(90))
        end.send(True)
    except PermissionError:
        end.send(False)
    late: list[float] = []
    while True:
        due = time.monotonic() + PERIOD_S
        time.sleep(PERIOD_S)
        late.append(time.monotonic() - due)
        if end.poll():
            end.recv()
            end.send(late)
            late = []
