"""The right to run a stack: one holder, known to others, gone with its process."""

import os
import subprocess
import sys

import pytest
from stable_crl_ros.environment import LaunchError, stack_runs, StackLock

NAMESPACE = 'lock'


def test_a_stack_runs_until_its_lock_is_released_though_its_process_goes_on():
    assert not stack_runs(NAMESPACE, os.environ)
    lock = StackLock(NAMESPACE, os.environ)
    assert stack_runs(NAMESPACE, os.environ)
    with pytest.raises(LaunchError, match=rf'already runs .*\(process {os.getpid()}\)'):
        StackLock(NAMESPACE, os.environ)
    lock.release()
    assert not stack_runs(NAMESPACE, os.environ)
    StackLock(NAMESPACE, os.environ).release()


def test_who_was_killed_holds_nothing():
    code = ('import os; from stable_crl_ros.environment import StackLock; '
            f'lock = StackLock({NAMESPACE!r}, os.environ); print(); input()')
    with subprocess.Popen([sys.executable, '-c', code], stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE) as holder:
        holder.stdout.readline()
        assert stack_runs(NAMESPACE, os.environ)
        holder.kill()
    assert not stack_runs(NAMESPACE, os.environ)
