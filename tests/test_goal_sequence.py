"""Several goals one after another: what moves them on, and what they may not be."""

from pathlib import Path

import numpy as np
import pytest
from stable_crl_ros.goal_sequence import ActingTime, GoalSequence, SKIPPED, TIMED_OUT
from stable_crl_ros.goals import Goal, GoalError


def goals(names):
    return [Goal(name, np.zeros((1, 1, 3), np.uint8), Path(f'/g/{name}.png'), name, {})
            for name in names]


def test_goals_follow_one_another_and_the_last_stays():
    sequence = GoalSequence(goals('abc'))
    seen = [sequence.active.name]
    while sequence.reached(sequence.active.name):
        seen.append(sequence.active.name)
    assert seen == ['a', 'b', 'c', 'c']
    assert sequence.finished and sequence.place == 'goal 3 of 3'


def test_word_of_another_goal_or_of_none_changes_nothing():
    sequence = GoalSequence(goals('abc'))
    assert not any(sequence.reached(name) for name in ('b', 'c', '', 'A'))
    assert sequence.active.name == 'a'


def test_a_loop_begins_again_and_never_finishes():
    sequence = GoalSequence(goals('abc'), loop=True)
    assert [sequence.reached(name) and sequence.active.name for name in 'abcab'] == list('bcabc')
    assert not sequence.finished


def test_steps_go_both_ways_and_end_at_the_ends():
    sequence = GoalSequence(goals('ab'))
    assert not sequence.step(-1)
    assert sequence.step(1) and sequence.active.name == 'b'
    assert not sequence.step(1)
    sequence.reached('b')
    assert sequence.step(-1) and sequence.active.name == 'a' and not sequence.finished


def test_a_single_goal_is_reached_once():
    for loop in (False, True):
        sequence = GoalSequence(goals('a'), loop)
        assert sequence.reached('a') and sequence.finished and not sequence.reached('a')


def test_how_each_goal_ended_and_after_how_long_is_kept():
    sequence = GoalSequence(goals('abcd'))
    for seconds, end in ((3.2, lambda: sequence.reached('a')),
                         (20, lambda: sequence.end(TIMED_OUT)),
                         (1, lambda: sequence.step(1, SKIPPED))):
        sequence.seconds += seconds
        assert end() and sequence.seconds == 0
    assert sequence.told() == {'reached': 'a after 3.2 s', 'timed_out': 'b after 20.0 s',
                               'skipped': 'c after 1.0 s'}
    assert sequence.end(TIMED_OUT) and sequence.finished and str(sequence.last).startswith('timed')
    assert not sequence.end(TIMED_OUT) and not sequence.reached('d')
    assert sequence.summary() == ('a reached after 3.2 s, b timed out after 20.0 s, c skipped '
                                  'after 1.0 s, d timed out after 0.0 s')


def test_a_goal_that_is_tried_again_has_not_ended_yet():
    sequence = GoalSequence(goals('ab'), loop=True)
    sequence.end(TIMED_OUT)
    assert sequence.told()['timed_out'] == 'a after 0.0 s'
    sequence.step(-1)
    assert not any(sequence.told().values())
    sequence.seconds = 7
    assert str(sequence.give_up()) == 'timed out after 7.0 s'
    assert sequence.active.name == 'a' and sequence.seconds == 0
    assert sequence.reached('a') and sequence.told()['reached'] == 'a after 0.0 s'


def test_only_the_time_between_steps_of_the_policy_counts():
    def counted(*steps):
        time = ActingTime()
        return sum(time.step(followed, now_s) for now_s, followed in steps)
    assert counted((0, True)) == 0
    assert counted((0, True), (1, True), (2.5, True)) == 2.5
    assert counted((0, True), (1, True), (100, True), (101, True)) == 2  # inactive for 99 s
    assert counted((0, True), (1, False), (2, True), (3, True)) == 1  # an operator in between


@pytest.mark.parametrize(('names', 'loop'), [('aa', False), ('abba', False), ('aba', True)])
def test_no_goal_follows_itself(names, loop):
    with pytest.raises(GoalError, match='follows itself'):
        GoalSequence(goals(names), loop)


def test_two_pictures_of_one_name_are_refused():
    other = Goal('a', np.zeros((1, 1, 3), np.uint8), Path('/h/a.png'), 'another', {})
    with pytest.raises(GoalError, match='/g/a.png and /h/a.png'):
        GoalSequence([*goals('ab'), other])
