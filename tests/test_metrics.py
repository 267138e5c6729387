"""Metrics left on the device: numbers when read, and a check that runs behind without a miss."""

import pytest
from stable_crl_ros.crl.metrics import FiniteWatch, LAG, Metrics
import torch


def metrics(loss, q=1.0):
    return Metrics({'loss': torch.tensor(loss), 'q': torch.tensor(q)})


def test_metrics_read_as_numbers_by_name():
    found = metrics(0.5)
    assert dict(found) == {'loss': 0.5, 'q': 1.0}
    assert found | {'extra': 2.0} == {'loss': 0.5, 'q': 1.0, 'extra': 2.0}
    assert {'extra': 2.0} | found == {'loss': 0.5, 'q': 1.0, 'extra': 2.0}
    assert found == metrics(0.5) and found != metrics(0.6)


def test_names_do_not_fetch_the_numbers():
    found = metrics(0.5)
    assert (list(found), len(found)) == (['loss', 'q'], 2)
    found.tensor.fill_(3.0)  # would be too late had they been fetched
    assert found['loss'] == 3.0


def test_metrics_keep_no_graph_alive():
    loss = torch.tensor(1.0, requires_grad=True) * 2
    assert not Metrics({'loss': loss}).tensor.requires_grad


@pytest.mark.parametrize('bad', [float('nan'), float('inf'), float('-inf')])
def test_without_lag_a_failure_is_found_at_once(bad):
    watch = FiniteWatch.on(torch.device('cpu'))
    assert watch.observe(1, metrics(0.5), {'step': 1}) is None
    failure = watch.observe(2, metrics(0.5, bad), {'step': 2})
    assert (failure.step, failure.names, failure.batch) == (2, ['q'], {'step': 2})


def test_with_lag_the_failing_step_and_its_batch_are_found_later():
    watch = FiniteWatch(LAG)
    found = [watch.observe(step, metrics(float('nan') if step >= 3 else 0.0), {'step': step})
             for step in range(1, 4 + LAG)]
    assert found[:-1] == [None] * (2 + LAG)
    assert (found[-1].step, found[-1].batch) == (3, {'step': 3})


def test_flush_looks_at_all_that_is_left():
    watch = FiniteWatch(LAG)
    assert watch.observe(1, metrics(0.0), {}) is None
    assert watch.observe(2, metrics(float('nan')), {}) is None
    assert watch.flush().step == 2
    assert watch.flush() is None
