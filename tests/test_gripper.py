"""The gripper: opening, finger distance and motor angle say the same."""

import math

import numpy as np
import pytest
from stable_crl_ros.robot.gripper import (
    angle_from_finger,
    finger_from_angle,
    finger_position,
    horn_angle,
    opening_from_angle,
    opening_from_finger,
)

TICKS_PER_RADIAN = 4096 / math.tau


def test_finger_position_and_opening_invert_each_other():
    assert finger_position(0.0) == pytest.approx(0.015)
    assert finger_position(1.0) == pytest.approx(0.037)
    for opening in np.linspace(0, 1, 11):
        assert opening_from_finger(finger_position(opening)) == pytest.approx(opening)
    assert opening_from_finger(0.0) == 0.0
    assert opening_from_finger(0.05) == 1.0


# Worked out by hand from the horn of 14 mm and the coupler of 24 mm.
@pytest.mark.parametrize(('angle', 'position'), [
    (-math.pi / 2, 0.010), (0.0, 0.019494), (1.0, 0.03456), (1.3652, 0.037535),
    (math.pi / 2, 0.038)])
def test_the_crank_puts_the_fingers_where_its_geometry_says(angle, position):
    assert finger_from_angle(angle) == pytest.approx(position, abs=5e-6)
    assert angle_from_finger(position) == pytest.approx(angle, abs=2e-3)


@pytest.mark.parametrize(('position', 'angle', 'ticks'), [
    (0.015, -0.378, 1802), (0.022, 0.1696, 2159), (0.035, 1.0397, 2726), (0.037, 1.2684, 2875)])
def test_finger_distances_become_known_motor_positions(position, angle, ticks):
    found = angle_from_finger(position)
    assert found == pytest.approx(angle, abs=1e-3)
    assert round(2048 + found * TICKS_PER_RADIAN) == ticks


def test_opening_and_motor_angle_invert_each_other_and_grow_together():
    openings = np.linspace(0, 1, 101)
    angles = [horn_angle(opening) for opening in openings]
    assert (np.diff(angles) > 0).all()
    np.testing.assert_allclose([opening_from_angle(angle) for angle in angles], openings,
                               atol=1e-12)


@pytest.mark.parametrize(('asked', 'kept'), [(-0.5, 0.0), (1.5, 1.0), (1e9, 1.0)])
def test_an_opening_out_of_range_is_the_nearest_end(asked, kept):
    assert horn_angle(asked) == horn_angle(kept)


@pytest.mark.parametrize(('angle', 'opening'), [(-math.pi / 2, 0.0), (-1.0, 0.0),
                                                (math.pi / 2, 1.0), (1.4, 1.0)])
def test_a_motor_beyond_the_ends_reads_as_the_end(angle, opening):
    assert opening_from_angle(angle) == opening


@pytest.mark.parametrize('position', [-1.0, 0.0, 0.009, 0.039, 1e9])
def test_a_finger_out_of_the_cranks_reach_stays_within_half_a_turn(position):
    assert abs(angle_from_finger(position)) == pytest.approx(math.pi / 2)
