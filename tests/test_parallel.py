"""Work spread over processes: order, errors, and nothing that goes on after one."""

import math
import time

import pytest
from stable_crl_ros.parallel import spread


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
