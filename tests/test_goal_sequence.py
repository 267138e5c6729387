"""Several goals one after another: what moves them on, and what they may not be."""

from pathlib import Path

import numpy as np
import pytest
from stable_crl_ros.goal_sequence import GoalSequence
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


@pytest.mark.parametrize(('names', 'loop'), [('aa', False), ('abba', False), ('aba', True)])
def test_no_goal_follows_itself(names, loop):
    with pytest.raises(GoalError, match='follows itself'):
        GoalSequence(goals(names), loop)


def test_two_pictures_of_one_name_are_refused():
    other = Goal('a', np.zeros((1, 1, 3), np.uint8), Path('/h/a.png'), 'another', {})
    with pytest.raises(GoalError, match='/g/a.png and /h/a.png'):
        GoalSequence([*goals('ab'), other])
