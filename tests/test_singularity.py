"""Singularities: measured rightly, and approached slowly in the direction that is being lost."""

import math

import numpy as np
import pytest
from stable_crl_ros.robot.kinematics import (
    HOME,
    inverse_kinematics,
    jacobian,
    JOINT_LOWER,
    JOINT_UPPER,
    START,
)
from stable_crl_ros.robot.limits import ArmLimits
from stable_crl_ros.robot.poses import DOWN, pose_of
from stable_crl_ros.robot.singularity import (
    approach_share,
    condition_number,
    manipulability,
    singular_values,
)

LIMITS = ArmLimits()


EDGE = math.sqrt((math.hypot(0.04975, 0.25) + 0.25) ** 2 - (0.15 + 0.158575 - 0.11065) ** 2)


def stretched(short):
    """Return the joints with the gripper pointing down at 0.15 m, `short` (m) of the reach."""
    return inverse_kinematics(pose_of(DOWN, [EDGE - short, 0, 0.15]), START)


def test_the_measures_are_those_of_the_jacobian():
    for joints in np.random.default_rng(0).uniform(JOINT_LOWER, JOINT_UPPER, (100, 6)):
        matrix = jacobian(joints)
        assert manipulability(joints) == pytest.approx(abs(np.linalg.det(matrix)), rel=1e-6,
                                                       abs=1e-12)
        assert condition_number(joints) == pytest.approx(np.linalg.cond(matrix), rel=1e-6)
        assert (np.diff(singular_values(joints)) <= 0).all()


def test_a_straight_wrist_has_lost_a_direction():
    assert singular_values(HOME)[-1] < 1e-12
    assert condition_number(HOME) > 1e12
    assert manipulability(HOME) < 1e-12


def test_it_grows_as_the_arm_is_stretched():
    numbers = [condition_number(stretched(short)) for short in (0.16, 0.06, 0.02, 0.005, 0.001)]
    assert numbers == sorted(numbers)
    assert numbers[0] < 15 and numbers[-1] > 2 * LIMITS.slow_condition


def test_steps_far_from_singularities_are_left_alone():
    assert approach_share(stretched(0.16), stretched(0.11), LIMITS) == 1.0


def test_the_nearer_the_singularity_the_less_of_a_step_is_made():
    end = stretched(0.0001)
    shares = [approach_share(stretched(short), end, LIMITS)
              for short in (0.02, 0.005, 0.003, 0.002, 0.001, 0.0005)]
    assert shares == sorted(shares, reverse=True)
    assert shares[0] == 1.0 and 0.8 < shares[1] < 0.9 and shares[-1] == 0.0


def test_leading_away_is_free():
    for short in (0.0001, 0.0005, 0.002):
        assert approach_share(stretched(short), stretched(short + 0.001), LIMITS) == 1.0


def test_directions_that_are_not_lost_stay_free():
    """With the wrist above the waist it cannot go sideways, but fore and aft as before."""
    tight = ArmLimits(slow_condition=20.0, max_condition=30.0)
    over = inverse_kinematics(pose_of(np.eye(3), [0.18, 0, 0.42]), HOME)
    ahead = inverse_kinematics(pose_of(np.eye(3), [0.175, 0, 0.42]), over)
    assert condition_number(ahead) > condition_number(over) > 30
    assert approach_share(over, ahead, tight) == 1.0
