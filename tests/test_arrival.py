"""The rule by which a goal counts as reached."""

import pytest
from stable_crl_ros.arrival import Arrival, ArrivalRule

RULE = ArrivalRule(threshold=0.6, release=0.3, ticks=3)


def announcements(odds, rule=RULE):
    arrival = Arrival(rule)
    return [tick for tick, value in enumerate(odds) if arrival.update(value)]


def test_reached_after_as_many_sure_ticks_and_once():
    assert announcements([0.9] * 10) == [2]


def test_a_goal_that_is_passed_is_not_reached():
    assert announcements([0.9, 0.9, 0.1] * 5) == []


def test_doubt_between_the_thresholds_delays_but_does_not_undo():
    assert announcements([0.9, 0.5, 0.9, 0.31, 0.9]) == [4]
    assert announcements([0.9, 0.5, 0.9, 0.29, 0.9]) == []


def test_doubt_alone_is_never_enough():
    assert announcements([0.59] * 20) == []


def test_done_stays_until_reset_and_is_then_announced_again():
    arrival = Arrival(RULE)
    for value in [0.9, 0.9, 0.9, 0.0, 0.0]:
        arrival.update(value)
    assert arrival.done
    arrival.reset()
    assert not arrival.done
    assert [arrival.update(0.9) for _ in range(4)] == [False, False, True, False]


def test_unknown_progress_is_no_progress():
    nan = float('nan')
    assert announcements([nan] * 10) == []
    assert announcements([0.9, 0.9, nan, 0.9]) == []


@pytest.mark.parametrize('values', [
    {'threshold': 1.1}, {'release': 0.9, 'threshold': 0.5}, {'release': -0.1}, {'ticks': 0},
    {'threshold': float('nan')}])
def test_rules_without_sense_are_refused(values):
    with pytest.raises(ValueError, match='0 <= release <= threshold <= 1 and ticks >= 1'):
        ArrivalRule(**values)
