"""Work spread over processes: order, errors, and nothing that goes on after one."""

import math
import subprocess
import sys
import time

import pytest
from stable_crl_ros.parallel import spread
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
