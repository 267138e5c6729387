"""Counting ticks against their phase, the spread of durations, and garbage between ticks."""

import gc
import threading
import time
import weakref

import pytest

pytest.importorskip('rclpy')

from stable_crl_ros.nodes.timing import Gaps, GarbageCollection, Spread, TickMonitor


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


def test_tells_how_late_a_tick_is_and_how_long_it_is_until_the_next():
    monitor = TickMonitor(0.1)
    monitor.start(10.0)
    assert monitor.tick(10.104) == pytest.approx(0.004)
    assert monitor.spare_s(10.12) == pytest.approx(0.08)
    assert monitor.tick(10.199) == pytest.approx(-0.001)


def test_garbage_is_collected_between_ticks_only():
    garbage = GarbageCollection()
    before = gc.isenabled()
    garbage.start()
    try:
        assert not gc.isenabled()
        garbage._due_s = dict.fromkeys(garbage._due_s, 0.0)
        node = weakref.ref(circle())
        assert node() is not None
        garbage.collect(spare_s=-1.0)
        assert node() is not None
        garbage.collect(spare_s=1.0)
        assert node() is None
    finally:
        garbage.stop()
    garbage.stop()
    assert gc.isenabled() == before and gc.get_freeze_count() == 0


def circle():
    node = type('Node', (), {})()
    node.itself = node
    return node


def piece_of_work(gaps):
    begun = threading.Event()
    threading.Thread(target=lambda: (gaps.wait(), begun.set()), daemon=True).start()
    return begun


def test_work_that_comes_before_a_tick_begins_after_it():
    gaps = Gaps(60.0)
    gaps.open(time.monotonic())  # the next is due
    begun = piece_of_work(gaps)
    assert not begun.wait(0.2)
    gaps.open(time.monotonic() + 60.0)
    assert begun.wait(10.0)


def test_work_begins_at_once_while_no_tick_is_due():
    gaps = Gaps(60.0)
    gaps.open(time.monotonic() + 60.0)
    assert piece_of_work(gaps).wait(10.0)


def test_work_waits_for_no_ticks_where_they_have_stopped_or_not_begun():
    stopped = Gaps(0.05)
    stopped.open(time.monotonic())
    assert piece_of_work(Gaps(60.0)).wait(10.0)
    assert piece_of_work(stopped).wait(10.0)  # they stopped while it waited
    assert piece_of_work(stopped).wait(10.0)
