"""Exact tests and intervals against published values."""

import math

import numpy as np
import pytest
from stable_crl_ros.intervals import IntervalError
from stable_crl_ros.significance import (
    difference_interval,
    fisher_exact,
    holm,
    mcnemar_exact,
    median_interval,
    paired_difference_interval,
)


@pytest.mark.parametrize(('better', 'worse', 'p'), [
    (1, 7, 0.0703),  # Fagerland, Lydersen and Laake 2013: airway hyper-responsiveness
    (6, 16, 0.0525),  # the same: complete responses
    (7, 1, 0.0703), (5, 5, 1.0), (0, 0, 1.0),
])
def test_mcnemar_gives_the_published_p_values(better, worse, p):
    assert mcnemar_exact(better, worse) == pytest.approx(p, abs=5e-5)


def test_one_sided_mcnemar_asks_whether_the_first_is_better():
    assert mcnemar_exact(5, 0, one_sided=True) == 1 / 32
    assert mcnemar_exact(0, 5, one_sided=True) == 1.0
    assert mcnemar_exact(0, 0, one_sided=True) == 1.0


@pytest.mark.parametrize(('successes', 'trials', 'p', 'one_sided'), [
    ((3, 1), (4, 4), 0.4857, 0.2429),  # Fisher 1935: the lady tasting tea
    ((10, 3), (12, 18), 0.000537, 0.000465),  # Fisher 1962: convictions of twins
    ((0, 0), (5, 7), 1.0, 1.0), ((5, 7), (5, 7), 1.0, 1.0),
])
def test_fisher_gives_the_published_p_values(successes, trials, p, one_sided):
    assert fisher_exact(successes, trials) == pytest.approx(p, rel=2e-3)
    assert fisher_exact(successes, trials, one_sided=True) == pytest.approx(one_sided, rel=2e-3)


def test_fisher_does_not_care_who_is_first():
    assert fisher_exact((2, 9), (10, 14)) == pytest.approx(fisher_exact((9, 2), (14, 10)))


def test_unpaired_differences_have_newcombe_s_interval():
    # Newcombe 1998 (unpaired), table II, method 10: 56/70 - 48/80.
    assert difference_interval((56, 48), (70, 80)) == pytest.approx((0.0524, 0.3339), abs=5e-5)


def test_paired_differences_have_newcombe_s_interval():
    # Newcombe 1998 (paired), table III, method 10.
    assert paired_difference_interval(36, 12, 2, 0) == pytest.approx((0.0569, 0.3404), abs=5e-5)


def test_paired_intervals_hold_the_difference_as_often_as_they_say():
    rng, held, count = np.random.default_rng(0), 0, 2000
    chances = np.array([0.4, 0.3, 0.1, 0.2])
    for _ in range(count):
        low, high = paired_difference_interval(*rng.multinomial(40, chances).tolist())
        held += low <= 0.2 <= high
    assert 0.93 < held / count < 0.985


def test_holm_multiplies_the_smallest_most_and_keeps_the_order():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([]) == []
    assert holm([0.9, 0.8]) == [1.0, 1.0]


def test_median_lies_between_the_order_statistics_of_the_sign_test():
    # n = 10: second and ninth (97.9 %); n = 6: first and last (96.9 %); five have no such bounds.
    assert median_interval(range(1, 11)) == (5.5, 2, 9)
    assert median_interval([6, 5, 4, 3, 2, 1]) == (3.5, 1, 6)
    assert median_interval([1, 2, 3, 4, 5]) == (3, -math.inf, math.inf)


def test_what_never_came_is_later_than_everything():
    assert median_interval([1.0, 2.0, math.inf]) == (2.0, -math.inf, math.inf)
    assert median_interval([1.0, math.inf])[0] == math.inf
    assert median_interval([math.inf] * 8) == (math.inf, math.inf, math.inf)


@pytest.mark.parametrize('wrong', [
    lambda: mcnemar_exact(-1, 2), lambda: fisher_exact((3, 1), (2, 4)),
    lambda: fisher_exact((0, 0), (0, 4)), lambda: median_interval([]),
])
def test_counts_that_make_no_sense_are_refused(wrong):
    with pytest.raises(IntervalError):
        wrong()
