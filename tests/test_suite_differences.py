"""Which rows of the suite's tables are told apart, and how that is laid out."""

import pytest
from stable_crl_ros.experiments.differences import ahead, compared, format_differences
from stable_crl_ros.experiments.lines import DATA, Kind, Line
from stable_crl_ros.experiments.plan import Case, RunSpec
from stable_crl_ros.experiments.tallies import Tally
from stable_crl_ros.intervals import worth_of_seeds
from stable_crl_ros.significance import difference_interval

OPEN, CLOSE = Case('open_drawer'), Case('close_drawer')


def line(label, strict, case=OPEN, correlation=0.0, trials=34, seeds=1):
    runs = {RunSpec('expert', 1000, f'laptop-{label}', (), seed, 10): [] for seed in range(seeds)}
    return Line('algorithms', label, runs,
                {case: [Tally(case, trials, strict, strict, 0, 0.01)] * seeds},
                {Kind('expert', case.sampled, 'strict'): correlation})


def control(label, strict, trials=100):
    return Line('algorithms', label, {}, {OPEN: [Tally(OPEN, trials, strict, strict, 0, 0.01)]})


def cells(text):
    found = [[cell.strip() for cell in row.split('|')[1:-1]] for row in text.splitlines()
             if row.startswith('| ')]
    return {first: rest for first, *rest in found[2:]}


def test_a_row_is_ahead_where_the_interval_of_the_difference_leaves_out_0():
    assert difference_interval((24, 16), (34, 34))[0] > 0 > difference_interval(
        (24, 17), (34, 34))[0]
    assert ahead(line('a', 24), line('b', 16), OPEN)
    assert not ahead(line('a', 24), line('b', 17), OPEN)
    assert not ahead(line('b', 14), line('a', 24), OPEN)


def test_trials_count_for_what_they_are_worth_and_not_for_more():
    (won, trials), (less, others) = (
        worth_of_seeds([strict] * 3, [34] * 3, 0.3) for strict in (24, 14))
    assert difference_interval((72, 42), (102, 102))[0] > 0  # were they of any policy
    assert difference_interval((won, less), (trials, others))[0] < 0
    assert not ahead(line('a', 24, correlation=0.3, seeds=3),
                     line('b', 14, correlation=0.3, seeds=3), OPEN)


def test_nobody_is_ahead_where_one_of_them_was_not_scored():
    assert not ahead(line('a', 34), line('b', 0, case=CLOSE), OPEN)
    assert not ahead(line('a', 34, case=CLOSE), line('b', 0), OPEN)


@pytest.mark.parametrize('case', [Case('open_drawer', sampled=True),
                                  Case('open_drawer', appearance='unseen')])
def test_a_control_acts_alike_whatever_is_drawn_or_seen(case):
    assert ahead(line('a', 30, case=case), control(DATA, 3), case)


def test_every_pair_of_trained_rows_is_compared_once():
    lines = [line('a', 1), line('b', 1), line('c', 1), control(DATA, 0), control('no action', 0)]
    assert [(first.label, second.label) for first, second in compared(lines)] == [
        ('a', 'b'), ('a', 'c'), ('b', 'c')]


def test_changes_of_one_row_are_compared_with_that_one_alone():
    lines = [line('as it is', 1), line('b', 1), line('c', 1)]
    assert [(first.label, second.label) for first, second in compared(lines)] == [
        ('as it is', 'b'), ('as it is', 'c')]
    changed = [line('as it is', 10), line('better', 30), line('same', 12)]
    assert cells(format_differences(changed, [OPEN], 'strict')) == {'better': ['as it is']}


def test_the_table_names_who_is_ahead_of_whom_and_who_not_of_the_data():
    lines = [line('a', 33), line('b', 20), line('c', 3), control(DATA, 5),
             control('no action', 0)]
    text = format_differences(lines, [OPEN], 'strict tolerance')
    assert text.startswith('| ahead of, strict tolerance | open_drawer |\n| --- | --- |\n')
    assert cells(text) == {'a': ['all'], 'b': ['c'], f'not ahead of {DATA}': ['c']}
    assert 'Of 3 differences between rows.' in text


def test_differences_are_counted_where_both_were_scored():
    lines = [line('a', 33), line('b', 20), line('c', 3, case=CLOSE)]
    assert 'Of 1 differences' in format_differences(lines, [OPEN, CLOSE], 'strict')
