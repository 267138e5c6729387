"""Intervals, rank correlation and AUC of the figures."""

import numpy as np
import pytest
from stable_crl_ros.experiments import estimates


def test_rank_correlation_is_one_for_any_rising_curve_and_minus_one_for_a_falling_one():
    x = np.linspace(0, 1, 11)
    assert estimates.spearman(x, np.exp(5 * x)) == pytest.approx(1.0)
    assert estimates.spearman(x, -x**3) == pytest.approx(-1.0)


def test_what_stays_put_correlates_with_nothing():
    assert estimates.spearman(np.arange(5.0), np.ones(5)) == 0.0


def test_equal_values_share_their_mean_rank():
    assert estimates.ranks(np.array([3.0, 1.0, 3.0, 0.0])).tolist() == [3.5, 2.0, 3.5, 1.0]


def test_separable_scores_have_an_auc_of_one_with_a_sure_interval():
    one = estimates.auc_estimate(np.array([2.0, 3.0, 5.0]), np.array([0.0, 1.0]))
    assert (one['value'], one['low'], one['high']) == (1.0, 1.0, 1.0)
    assert one['positives'] == 3 and one['count'] == 5


def test_auc_is_the_share_of_pairs_in_order_with_ties_counted_half():
    rng = np.random.default_rng(0)
    up, down = rng.integers(0, 6, 20), rng.integers(0, 5, 30)
    pairs = (up[:, None] > down).mean() + (up[:, None] == down).mean() / 2
    assert estimates.auc(up, down) == pytest.approx(pairs)


def test_no_auc_is_given_without_both_outcomes():
    one = estimates.auc_estimate(np.array([1.0, 2.0]), np.array([]))
    assert one['value'] is None and one['count'] == 2
    assert estimates.show(one) == '- (2 counted)'


def test_bootstrap_interval_of_a_mean_covers_it_as_often_as_it_says():
    rng = np.random.default_rng(1)
    hits = 0
    for _ in range(100):
        one = estimates.mean_estimate(rng.normal(3.0, 1.0, 40))
        hits += one['low'] <= 3.0 <= one['high']
    assert 87 <= hits <= 99


def test_the_same_seed_gives_the_same_interval_and_another_seed_another():
    values = np.random.default_rng(2).normal(size=20)
    assert estimates.mean_estimate(values, 5) == estimates.mean_estimate(values, 5)
    assert estimates.mean_estimate(values, 5)['low'] != estimates.mean_estimate(values, 6)['low']


def test_a_ratio_of_proportional_values_is_certain():
    values = np.random.default_rng(3).uniform(1, 2, 15)
    one = estimates.ratio_estimate(0.25 * values, values)
    assert [one[key] for key in ('value', 'low', 'high')] == pytest.approx([0.25] * 3)
