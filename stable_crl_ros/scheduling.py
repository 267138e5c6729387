"""Who goes first where several programs want the processor."""

import os
from pathlib import Path

TASKS = Path('/proc/self/task')

# Real-time priorities; the shorter the period, the higher (rate-monotonic).
SERVOS, ARM, CAMERA, POLICY = 4, 3, 2, 1
HIGHEST = 50  # the kernel's own interrupt threads have this one


def go_first(priority: int) -> str:
    """
    Give this process a real-time priority (SCHED_RR): it interrupts every ordinary program.

    All its threads get it, those that begin later too, and processes that it starts: see
    `stand_in_line`. Threads that hold Python's lock for one another must be of one priority.

    :param priority: 1 to `HIGHEST`.
    :returns: why it was not given, '' when it was.
    """
    done: set[str] = set()
    # Again, for what a thread began before its own turn came.
    while new := {task.name for task in TASKS.iterdir()} - done:
        for task in new:
            try:
                os.sched_setscheduler(int(task), os.SCHED_RR, os.sched_param(priority))
            except ProcessLookupError:  # that thread has ended
                continue
            except OSError as error:
                return error.strerror
        done |= new
    return ''


def stand_in_line() -> None:
    """Be an ordinary process again, for one that was started by another of real-time priority."""
    os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
