"""Wait for what other threads and processes do."""

from pathlib import Path
import time


def wait_for(condition, timeout_s=60.0):
    """
    Return as soon as a condition holds.

    :raises AssertionError: after `timeout_s`.
    """
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, f'did not hold within {timeout_s} s'
        time.sleep(0.002)


def alive(pid):
    """Say whether a process is there and not a zombie."""
    try:
        return Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()[0] != 'Z'
    except OSError:
        return False
