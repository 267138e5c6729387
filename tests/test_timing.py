"""Counting ticks against their phase, and the spread of durations."""

import pytest

pytest.importorskip('rclpy')

from stable_crl_ros.nodes.timing import Spread, TickMonitor


def counts(*ticks_s):
    monitor = TickMonitor(0.2)
    monitor.start(100.0)
    for tick_s in ticks_s:
        monitor.tick(100.0 + tick_s)
    return monitor.ticks, monitor.late, monitor.missed


def test_ticks_on_time_are_neither_late_nor_missed():
    assert counts(0.2, 0.401, 0.599, 0.8) == (4, 0, 0)


def test_a_tick_after_a_tenth_of_a_period_is_late_but_not_missed():
    assert counts(0.2, 0.45, 0.6) == (3, 1, 0)


def test_skipped_ticks_are_missed():
    assert counts(0.2, 1.0, 1.2) == (3, 0, 3)


def test_a_tick_that_is_late_by_more_than_a_period_counts_as_both():
    assert counts(0.2, 0.85) == (2, 1, 2)


def test_starting_again_begins_to_count_anew():
    monitor = TickMonitor(0.2)
    monitor.start(0.0)
    monitor.tick(1.0)
    monitor.start(50.0)
    monitor.tick(50.2)
    assert (monitor.ticks, monitor.late, monitor.missed) == (1, 0, 0)


def test_percentiles_are_of_the_durations_in_milliseconds():
    spread = Spread()
    assert spread.milliseconds(50) == 'none'
    for number in range(101):
        spread.add(number / 1000)
    assert (spread.milliseconds(50), spread.milliseconds(99)) == ('50.0', '99.0')
    spread.clear()
    assert spread.milliseconds(50) == 'none'


def test_only_recent_durations_count():
    spread = Spread()
    for _ in range(1000):
        spread.add(9.0)
    for _ in range(500):
        spread.add(0.001)
    assert spread.milliseconds(99) == '1.0'
