"""Wait for what other threads and processes do."""

import time


def wait_for(condition, timeout_s=20.0):
    """
    Return as soon as a condition holds.

    :raises AssertionError: after `timeout_s`.
    """
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, f'did not hold within {timeout_s} s'
        time.sleep(0.002)
