"""Waiting for what others do, on machines that stand still now and then."""

from collections.abc import Callable
import time
from typing import TypeVar

Result = TypeVar('Result')

LONGEST_TURN_S = 0.1


def wait_until(condition: Callable[[], Result], seconds: float,
               turn: Callable[[], object]) -> Result | None:
    """
    Wait until a condition holds.

    A turn counts for `LONGEST_TURN_S` at most: while the machine stands still, nobody gets on,
    and that is no reason to give up.

    :param condition: holds when its value is true.
    :param turn: takes a short time, and lets something happen.
    :returns: the value of `condition`; None when it did not hold in time.
    """
    while not (result := condition()):
        if seconds < 0.0:
            return None
        begun = time.monotonic()
        turn()
        seconds -= min(time.monotonic() - begun, LONGEST_TURN_S)
    return result
