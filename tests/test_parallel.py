"""Work spread over processes: order, errors, and nothing that goes on after one."""

import math
import os
import signal
import subprocess
import sys
import time

import pytest
from stable_crl_ros.parallel import spread, WorkerError
from waiting import alive, wait_for


@pytest.mark.parametrize('workers', [1, 2])
def test_results_come_in_the_order_of_the_calls(workers):
    numbers = [float(number) for number in range(20)]
    assert list(spread(math.sqrt, [(n * n,) for n in numbers], workers)) == numbers


def test_an_error_abandons_what_has_not_begun():
    start = time.monotonic()
    with pytest.raises(TypeError):
        list(spread(time.sleep, [(0.0,), ('long',), *[(0.5,)] * 60], workers=2))
    assert time.monotonic() - start < 10.0  # all of it would take 15 s


def test_whoever_stops_listening_abandons_the_rest():
    start = time.monotonic()
    results = spread(time.sleep, [(0.5,)] * 60, workers=2)
    next(results)
    results.close()
    assert time.monotonic() - start < 10.0


INTERRUPTED = """
import pathlib
import signal
import time
from stable_crl_ros.parallel import spread

def work(number):
    try:
        pathlib.Path(f'{number}.begun').touch()
        time.sleep(60.0)  # until it is interrupted
    except KeyboardInterrupt:
        time.sleep(1.0)  # saving takes its time; a second interrupt would cut it off
        pathlib.Path(f'{number}.saved').touch()
        raise

if __name__ == '__main__':
    signal.signal(signal.SIGINT, signal.default_int_handler)  # tests may run in the background
    list(spread(work, [(number,) for number in range(3)], workers=2))
"""


@pytest.mark.parametrize('whole_group', [True, False])
def test_ctrl_c_interrupts_what_is_under_way_once_and_begins_nothing_else(tmp_path, whole_group):
    (tmp_path / 'work.py').write_text(INTERRUPTED)
    process = subprocess.Popen([sys.executable, 'work.py'], cwd=tmp_path, start_new_session=True,
                               stderr=subprocess.PIPE, text=True)
    wait_for(lambda: len(list(tmp_path.glob('*.begun'))) == 2)
    (os.killpg if whole_group else os.kill)(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=20.0)
    assert process.returncode not in (0, 1)
    assert {path.name for path in tmp_path.glob('[0-9]*')} == {
        f'{number}.{what}' for number in range(2) for what in ('begun', 'saved')}
    assert said.count('Traceback') <= 2  # the parent's, and the worker's it quotes


def test_a_killed_process_is_told_of_in_one_line(tmp_path):
    with pytest.raises(WorkerError, match='killed.*use fewer workers'):
        list(spread(exec, [('import os; os.kill(os.getpid(), 9)',)] * 3, workers=2))


SPREAD = """
from stable_crl_ros.parallel import spread
if __name__ == '__main__':
    work = ('import os, pathlib, time; '
            'pathlib.Path(str(os.getpid())).touch(); time.sleep(60.0)')
    list(spread(exec, [(work,)] * 4, workers=2))
"""


def test_the_processes_end_with_the_one_that_started_them_even_if_it_is_killed(tmp_path):
    (tmp_path / 'work.py').write_text(SPREAD)
    starter = subprocess.Popen([sys.executable, 'work.py'], cwd=tmp_path)

    def workers():
        return [path.name for path in tmp_path.glob('[0-9]*')]
    wait_for(lambda: len(workers()) == 2)
    starter.kill()
    starter.wait()
    wait_for(lambda: not any(map(alive, workers())))
    assert len(workers()) == 2  # and began nothing else
