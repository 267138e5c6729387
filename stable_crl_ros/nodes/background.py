"""Slow work beside the executor: a thread, and a future that a service callback can await."""

from collections.abc import Callable
import threading

from rclpy.executors import Executor
from rclpy.task import Future


def run_in_thread(
    executor: Executor, work: Callable[[], object], name: str,
) -> tuple[Future, threading.Thread]:
    """
    Run a function in a thread of its own.

    :param executor: woken when it is done, to go on with whoever awaits it.
    :param name: of the thread.
    :returns: a future with what the function returns or raises; the thread, started.
    """
    future = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except Exception as error:  # it must reach the caller, whatever it is
            future.set_exception(error)
        executor.wake()
    thread = threading.Thread(target=run, name=name)
    thread.start()
    return future, thread
