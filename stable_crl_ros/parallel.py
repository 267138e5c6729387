"""Spread independent work over processes, and let go of all of it when something goes wrong."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
import multiprocessing
from typing import Any


def spread(function: Callable, calls: Sequence[tuple], workers: int) -> Iterator[Any]:
    """
    Call a function with each tuple of arguments; an error or Ctrl-C abandons what has not begun.

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
    with ProcessPoolExecutor(workers, mp_context=context) as pool:
        futures = [pool.submit(function, *call) for call in calls]
        try:
            for future in futures:
                yield future.result()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
