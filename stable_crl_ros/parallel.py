"""Spread independent work over processes, and let go of all of it when something goes wrong."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor
from concurrent.futures import wait as wait_futures
from concurrent.futures.process import BrokenProcessPool
import multiprocessing
from multiprocessing.connection import Connection, wait
import os
import signal
import threading
from typing import Any


class WorkerError(RuntimeError):
    """Work that was not done because its process ended."""


def spread(function: Callable, calls: Sequence[tuple], workers: int) -> Iterator[Any]:
    """
    Call a function with each tuple of arguments; an error or Ctrl-C abandons all others.

    What has not begun never does, and what is under way is interrupted, once, as by Ctrl-C. The
    processes end with this one, even if that is killed.

    :param function: of a module, as other processes must find it.
    :param workers: processes; 1 does the work in this one.
    :returns: the results, in the order of `calls`, each as soon as it is there.
    :raises WorkerError: when a process was killed.
    """
    if workers == 1:
        for call in calls:
            yield function(*call)
        return
    # Torch and OpenGL do not survive a fork.
    context = multiprocessing.get_context('spawn')
    reader, writer = context.Pipe(duplex=False)
    with reader, writer, ProcessPoolExecutor(workers, context, _begin_work, (reader,)) as pool:
        try:
            for future in _submit_in_order(pool, function, calls, workers):
                yield future.result()
        except BrokenProcessPool as error:
            raise WorkerError('a process that did a part of the work was killed, perhaps for want '
                              'of memory; use fewer workers') from error
        except BaseException:
            writer.close()  # tells the workers
            pool.shutdown(cancel_futures=True)
            raise


def _submit_in_order(pool: ProcessPoolExecutor, function: Callable, calls: Sequence[tuple],
                     workers: int) -> Iterator[Future]:
    """Give the calls' futures in order, each when it is done; no call waits in the pool."""
    waiting, ordered, running = iter(calls), deque(), set()
    while True:
        for call in _take(waiting, workers - len(running)):
            running.add(future := pool.submit(_work, function, call))
            ordered.append(future)
        if not ordered:
            return
        running = wait_futures(running, return_when=FIRST_COMPLETED).not_done
        while ordered and ordered[0].done():
            yield ordered.popleft()


def _take(waiting: Iterator[tuple], number: int) -> Iterator[tuple]:
    for _, call in zip(range(number), waiting, strict=False):
        yield call


_abandoned, _busy = threading.Event(), threading.Event()  # of a worker


def _begin_work(reader: Connection) -> None:
    # Ctrl-C of a terminal reaches the parent alone, which passes it on: what is interrupted may
    # take its time, and a second one would kill it.
    os.setpgid(0, 0)
    signal.signal(signal.SIGINT, _interrupt)
    end_with_parent()
    threading.Thread(target=_follow, args=(reader,), daemon=True).start()


def _follow(reader: Connection) -> None:
    wait([reader])  # until the parent closes its end
    _abandoned.set()
    if _busy.is_set():
        os.kill(os.getpid(), signal.SIGINT)


def _interrupt(*_: object) -> None:
    if _busy.is_set():
        raise KeyboardInterrupt


def _work(function: Callable, call: tuple) -> Any:
    _busy.set()
    try:
        if _abandoned.is_set():
            raise KeyboardInterrupt
        return function(*call)
    finally:
        _busy.clear()


def end_with_parent(whole_group: bool = False) -> None:
    """
    Let this process be killed when its parent ends, however that ends.

    :param whole_group: kill all of this process's group, which must be its own.
    """
    def follow() -> None:
        wait([multiprocessing.parent_process().sentinel])
        if whole_group:
            os.killpg(0, signal.SIGKILL)
        os.kill(os.getpid(), signal.SIGKILL)
    threading.Thread(target=follow, daemon=True).start()
