"""ActionScale: exact maps, bounds, refusals."""

import numpy as np
import pytest
from stable_crl_ros.actions import (
    ActionError,
    ActionScale,
    BRIDGE_HIGH,
    BRIDGE_LOW,
    BRIDGE_MEAN,
)


def test_bounds_map_to_minus_one_and_one():
    scale = ActionScale.from_bounds()
    np.testing.assert_allclose(scale.normalise(BRIDGE_LOW), -np.ones(7), atol=1e-6)
    np.testing.assert_allclose(scale.normalise(BRIDGE_HIGH), np.ones(7), atol=1e-6)


def test_statistics_map_the_mean_to_zero():
    np.testing.assert_allclose(
        ActionScale.from_statistics().normalise(BRIDGE_MEAN), np.zeros(7), atol=1e-6)


@pytest.mark.parametrize('scale', [ActionScale.from_bounds(), ActionScale.from_statistics()])
def test_denormalise_inverts_normalise_inside_the_bounds(scale):
    actions = np.random.default_rng(0).uniform(BRIDGE_LOW, BRIDGE_HIGH, (200, 7))
    np.testing.assert_allclose(scale.denormalise(scale.normalise(actions)), actions, atol=1e-6)


def test_denormalise_never_leaves_the_physical_bounds():
    wild = np.random.default_rng(0).normal(0, 100, (200, 7))
    physical = ActionScale.from_statistics().denormalise(wild)
    assert (physical >= np.float32(BRIDGE_LOW)).all()
    assert (physical <= np.float32(BRIDGE_HIGH)).all()


def test_nan_is_passed_on_for_the_caller_to_refuse():
    assert np.isnan(ActionScale.from_bounds().denormalise(np.full(7, np.nan))).all()


def test_a_scale_survives_its_dictionary():
    scale = ActionScale.from_statistics()
    assert ActionScale.from_dict(scale.to_dict()) == scale


@pytest.mark.parametrize(('field', 'values', 'reason'), [
    ('offset', [0.0] * 6, '6 numbers'),
    ('scale', [1.0] * 6 + [0.0], '> 0'),
    ('scale', [1.0] * 6 + [float('nan')], 'finite'),
    ('low', [1.0] * 7, 'below high'),
])
def test_a_wrong_scale_is_refused(field, values, reason):
    with pytest.raises(ActionError, match=reason):
        ActionScale.from_dict(ActionScale.from_bounds().to_dict() | {field: values})


def test_a_missing_key_is_named():
    with pytest.raises(ActionError, match='high'):
        ActionScale.from_dict({'offset': [0] * 7, 'scale': [1] * 7, 'low': [0] * 7})
