"""Real-time priority: who gets it, who must not, and what happens where it is not allowed."""

import contextlib
import ctypes
import os
from pathlib import Path
import resource
import signal
import subprocess
import sys

import pytest
from stable_crl_ros import SHIPPED_CHECKPOINT, SHIPPED_GOALS

PR_CAPBSET_DROP, CAP_SYS_NICE = 24, 23
SCRIPT = """
import os, threading
from stable_crl_ros.scheduling import go_first
print(repr(go_first(2)), flush=True)
thread = threading.Thread(target=lambda: print(os.sched_getscheduler(0), flush=True))
thread.start()
thread.join()
"""


def without_the_right():
    """Give up, for what is executed next, what lets a process choose a real-time priority."""
    resource.setrlimit(resource.RLIMIT_RTPRIO, (0, 0))
    ctypes.CDLL(None).prctl(PR_CAPBSET_DROP, CAP_SYS_NICE, 0, 0, 0)


def run(script, **kwargs):
    done = subprocess.run([sys.executable, '-c', script], capture_output=True, text=True,
                          timeout=60, check=True, **kwargs)
    return done.stdout.split('\n')


@pytest.fixture
def allowed():
    if run(SCRIPT)[0] != "''":
        pytest.skip('this user may not choose a real-time priority')


@contextlib.contextmanager
def running(module, *arguments, until, **kwargs):
    """Run a node's process; gives it, and what it said, once it has said something."""
    process = subprocess.Popen(
        [sys.executable, '-m', f'stable_crl_ros.nodes.{module}', '--ros-args',
         *(word for argument in arguments for word in ('-p', argument))],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        env=os.environ | {'RCUTILS_LOGGING_USE_STDOUT': '1', 'PYTHONUNBUFFERED': '1'}, **kwargs)
    try:
        said = ''
        while until not in said:
            line = process.stdout.readline()
            assert line, f'{module} ended: {said}'
            said += line
        yield process, said
        assert process.poll() is None
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=20)


def classes(process):
    """Return scheduling class and priority of every thread of a process."""
    found = set()
    for task in Path(f'/proc/{process.pid}/task').iterdir():
        with contextlib.suppress(ProcessLookupError):  # it has just ended
            thread = int(task.name)
            found.add((os.sched_getscheduler(thread), os.sched_getparam(thread).sched_priority))
    return found


def test_threads_that_begin_later_go_first_too(allowed):
    assert run(SCRIPT)[1] == str(os.SCHED_RR)


def test_without_the_right_it_says_why_and_stays_ordinary():
    refusal, later, _ = run(SCRIPT, preexec_fn=without_the_right)
    assert refusal == "'Operation not permitted'"
    assert later == str(os.SCHED_OTHER)


CAMERA = f'source:={SHIPPED_GOALS}'


def test_every_thread_of_a_camera_has_its_priority(allowed, ros):
    with running('camera', CAMERA, until='pictures of') as (process, _):
        ros.spin_until(lambda: classes(process) == {(os.SCHED_RR, 2)}, what='the priority')


def test_a_priority_of_zero_is_none(ros):
    with running('camera', CAMERA, 'priority:=0', until='pictures of') as (process, _):
        ros.spin_for(1.0)
        assert classes(process) == {(os.SCHED_OTHER, 0)}


def test_a_node_without_the_right_says_so_and_goes_on(ros):
    with running('camera', CAMERA, until='no real-time priority',
                 preexec_fn=without_the_right) as (_, said):
        assert 'Operation not permitted' in said and 'limits.d' in said
        ros.spin_for(0.5)


def test_a_simulation_does_not_go_first(ros):
    with running('sim', until='scene of') as (process, _):
        ros.spin_for(1.0)
        assert os.SCHED_RR not in {name for name, _ in classes(process)}


def test_what_checks_checkpoints_stands_in_line(allowed):
    script = ('import os, sys; from stable_crl_ros.scheduling import go_first; '
              'from stable_crl_ros.checking import CHECKER; go_first(1); '
              f'CHECKER.check({str(SHIPPED_CHECKPOINT)!r}); '
              'print(os.sched_getscheduler(0), os.sched_getscheduler(CHECKER._process.pid))')
    assert run(script)[0].split() == [str(os.SCHED_RR), str(os.SCHED_OTHER)]
