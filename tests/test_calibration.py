"""Calibration: monotone, true to synthetic odds, refusing what it must not read."""

import json

import numpy as np
import pytest
from stable_crl_ros.calibration import (
    Calibration,
    calibration_error,
    CalibrationError,
    check_calibration,
    fit_calibration,
    Pairs,
    reliability,
)
from stable_crl_ros.monotone import (
    isotonic,
    nonnegative_least_squares,
    nonnegative_logistic,
)

NEAR, CAP = 3, 40


def synthetic(seed=0, size=4000, noise=0.4):
    """Pairs whose measure 'good' falls with the distance in time, while 'bad' is noise."""
    rng = np.random.default_rng(seed)
    distance = np.where(rng.random(size) < 0.2, np.inf, rng.integers(-10, 60, size).astype(float))
    apart = np.where(np.isfinite(distance), np.abs(distance), 60.0)
    measures = {'good': -np.log1p(apart) + rng.normal(0, noise, size),
                'bad': rng.normal(0, 1, size)}
    return Pairs(measures, distance)


def fit(pairs=None):
    return fit_calibration(pairs or synthetic(), ('good',), ('good', 'bad'), NEAR, CAP)


def test_isotonic_knots_rise_and_follow_a_noisy_curve():
    rng = np.random.default_rng(1)
    x = rng.uniform(-2, 2, 5000)
    knots, curve = isotonic(x, np.tanh(x) + rng.normal(0, 0.3, 5000))
    assert (np.diff(knots) > 0).all() and (np.diff(curve) >= 0).all()
    assert len(knots) <= 64
    at = np.linspace(-1.9, 1.9, 50)
    np.testing.assert_allclose(np.interp(at, knots, curve), np.tanh(at), atol=0.12)


def test_isotonic_gives_the_mean_where_the_data_fall():
    knots, curve = isotonic(np.arange(100.0), -np.arange(100.0))
    assert len(knots) == 1 and curve[0] == pytest.approx(-49.5)


def test_isotonic_takes_equal_places_as_one_and_minds_weights():
    knots, curve = isotonic(np.array([0.0, 1, 1]), np.array([0.0, 0, 1]), np.array([1.0, 3, 1]))
    np.testing.assert_allclose(knots, [0, 1])
    np.testing.assert_allclose(curve, [0, 0.25])


def test_isotonic_medians_are_not_moved_by_a_few_far_off():
    x = np.linspace(0, 1, 1000)
    y = np.where(np.arange(1000) % 10, 0.0, -100.0)
    assert isotonic(x, y, median=True)[1].min() == 0
    assert isotonic(x, y)[1].max() < -5


def test_weights_are_found_and_never_negative():
    rng = np.random.default_rng(2)
    columns = rng.normal(size=(5000, 3)) * (1, 10, 1)
    score = 2 * columns[:, 0] + 0.1 * columns[:, 1] - 3 * columns[:, 2]
    weights = nonnegative_least_squares(columns, score + 7 + rng.normal(0, 0.1, 5000))
    np.testing.assert_allclose(weights, [2, 0.1, 0], rtol=0.1)
    hit = rng.random(5000) < 1 / (1 + np.exp(-2 * columns[:, 0] + columns[:, 2]))
    weights = nonnegative_logistic(columns, hit, np.ones(5000))
    assert weights[0] > 1 and weights[2] == 0


def test_the_nearer_the_surer_and_the_fewer_steps():
    steps, odds = fit().read({'good': np.linspace(-6, 2, 300), 'bad': np.zeros(300)})
    assert (np.diff(steps) <= 0).all() and (np.diff(odds) >= 0).all()
    assert steps.min() >= 0 and steps.max() <= CAP
    assert odds.min() >= 0 and odds.max() <= 1


def test_probability_comes_true_on_other_pairs():
    other = synthetic(seed=9)
    checked = check_calibration(fit(), other)
    assert checked['calibration_error'] < 0.05
    assert checked['steps_error'] < 0.6 * checked['steps_error_of_the_median']


def test_a_measure_that_tells_nothing_hardly_weighs():
    weights = fit().at_goal.weights
    assert weights.get('bad', 0) < 0.1 * weights['good']


def test_reliability_compares_what_was_said_with_what_came():
    rng = np.random.default_rng(0)
    odds = rng.random(20000)
    bins = reliability(odds, rng.random(20000) < odds)
    assert sum(one['share'] for one in bins) == pytest.approx(1)
    assert all(abs(one['said'] - one['came']) < 0.05 for one in bins)
    assert calibration_error(odds, np.ones(20000, bool)) == pytest.approx(0.5, abs=0.02)


def test_survives_json_unchanged():
    fitted = fit()
    again = Calibration.from_dict(json.loads(json.dumps(fitted.to_dict())))
    assert again == fitted
    assert again.progress({'good': 0.0, 'bad': 0.0}) == fitted.progress({'good': 0.0, 'bad': 0.0})


def test_what_is_not_a_number_is_not_known():
    progress = fit().progress({'good': np.nan, 'bad': 0.0})
    assert np.isnan(progress.steps_to_go) and np.isnan(progress.at_goal)


@pytest.mark.parametrize(('path', 'value', 'says'), [
    (('version',), 2, 'version 2, this software reads 1'),
    (('near',), -1, 'near must be a whole number >= 0'),
    (('cap',), 2.5, 'cap one > 0'),
    (('checked',), None, 'checked must be an object'),
    (('nearness',), None, 'nearness: needs weights, x and y'),
    (('at_goal', 'weights'), {}, 'weights must be finite and >= 0'),
    (('at_goal', 'weights'), {'good': -1.0}, 'weights must be finite and >= 0'),
    (('at_goal', 'weights'), {'good': 'much'}, 'needs weights, x and y'),
    (('at_goal', 'y'), [0.1], 'equally many finite numbers'),
    (('at_goal', 'x', 0), float('nan'), 'equally many finite numbers'),
    (('at_goal', 'x', 0), 1e9, 'x must rise'),
    (('at_goal', 'y', -1), 1.5, 'y must lie in 0 .. 1'),
    (('nearness', 'y', 0), -99.0, 'y must lie in -40 .. 0'),
])
def test_bad_values_are_refused_by_name(path, value, says):
    values = json.loads(json.dumps(fit().to_dict()))
    place = values
    for name in path[:-1]:
        place = place[name]
    place[path[-1]] = value
    with pytest.raises(CalibrationError, match=says):
        Calibration.from_dict(values)


def test_too_few_pairs_are_refused_with_what_to_do():
    with pytest.raises(CalibrationError, match='record more or longer episodes'):
        fit(synthetic(size=30))


def test_measures_that_are_not_finite_are_refused():
    pairs = synthetic()
    pairs.measures['bad'][3] = np.inf
    with pytest.raises(CalibrationError, match='not finite on the training data: bad'):
        fit(pairs)
