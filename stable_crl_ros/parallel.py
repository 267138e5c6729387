"""Spread independent work over processes, and let go of all of it when something goes wrong."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
import multiprocessing
from multiprocessing.connection import wait
import os
import signal
import threading
from typing import Any


def spread(function: Callable, calls: Sequence[tuple], workers: int) -> Iterator[Any]:
    """
    Call a function with each tuple of arguments; an error or Ctrl-C abandons what has not begun.

    The processes end with this one, even if that is killed.

    :param function: of a module, as other processes must find it.
    :param workers: processes; 1 does the work in this one.
    :returns: the results, in the order of `calls`, each as soon as it is there.
    """
    if workers == 1:
        for call in calls:
            yield function(*call)
        return
    # Torch and OpenGL do not survive a fork.
    context = multiprocessing.get_context('spawn')
    with ProcessPoolExecutor(workers, context, end_with_parent) as pool:
        futures = [pool.submit(function, *call) for call in calls]
        try:
            for future in futures:
                yield future.result()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


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
