"""Several goals one after another over DDS: what moves them on, and what takes over."""

from pathlib import Path

import pytest

pytest.importorskip('rclpy')

from goal_bench import Bench, coloured_goals, NAMES
from stable_crl_ros.goals import GoalError


@pytest.fixture
def store(tmp_path):
    return coloured_goals(tmp_path / 'goals')


def names(goals):
    return [message.header.frame_id for message in goals]


def active(bench):
    return Path(bench.node.get_parameter('active_goal').value).stem


def test_the_policys_word_that_a_goal_is_reached_brings_the_next(ros, store, capfd):
    bench = Bench(ros, store, goals=NAMES)
    goals = bench.listen()
    ros.spin_until(lambda: names(goals) == ['one'])
    bench.done('two')  # not the active one
    bench.done('one')
    bench.done('one')  # said twice
    ros.spin_until(lambda: len(goals) > 1)
    ros.spin_for(0.2)
    assert names(goals) == ['one', 'two'] and active(bench) == 'two'
    status = bench.report('sequence', 'goal 2 of 3: two (one reached after 0.0 s)')
    values = {pair.key: pair.value for pair in status.values}
    assert values['goals'] == 'one, two, three' and values['why'] == 'one reached after 0.0 s'
    assert 0 <= bench.now_ns() - int(values['stamp_ns']) < 60e9
    assert 'goal 2 of 3: two (one reached after 0.0 s)' in capfd.readouterr().err


def test_after_the_last_goal_it_stays(ros, store, capfd):
    bench = Bench(ros, store, goals=NAMES[:2])
    goals = bench.listen()
    for name in (*NAMES[:2], 'two', 'two'):
        bench.done(name)
        ros.spin_for(0.1)
    bench.report('sequence', 'goal 2 of 2: two (the last: reached after 0.0 s)')
    assert names(goals)[-1] == 'two' and len(goals) <= 2
    assert capfd.readouterr().err.count('goal 2 of 2, the last: two reached') == 1


def test_a_loop_begins_again(ros, store):
    bench = Bench(ros, store, goals=NAMES[:2], goals_loop=True)
    goals = bench.listen()
    for name in ('one', 'two'):
        ros.spin_until(lambda name=name: names(goals)[-1:] == [name])
        bench.done(name)
    ros.spin_until(lambda: names(goals) == ['one', 'two', 'one'])


def test_services_go_on_and_back_and_say_where_they_are(ros, store):
    bench = Bench(ros, store, goals=NAMES[:2])
    assert 'one is the first of 2 goals' in bench.call('previous').message
    answer = bench.call('next')
    assert answer.success and answer.message == 'goal 2 of 2: two'
    answer = bench.call('next')
    assert not answer.success and 'two is the last of 2 goals; it stays' in answer.message
    assert bench.call('previous').success and active(bench) == 'one'


def test_without_a_sequence_nothing_moves(ros, store):
    bench = Bench(ros, store, active_goal='one')
    bench.done('one')
    answer = bench.call('next')
    assert not answer.success and 'there is no sequence' in answer.message
    assert active(bench) == 'one'


def test_setting_the_active_goal_ends_the_sequence(ros, store):
    bench = Bench(ros, store, goals=NAMES)
    goals = bench.listen()
    assert bench.set(active_goal='three') == ''
    ros.spin_until(lambda: names(goals)[-1:] == ['three'])
    assert bench.node.get_parameter('goals').value == ['']
    bench.done('three')
    ros.spin_for(0.2)
    assert names(goals)[-1] == 'three' and not bench.call('next').success


def test_setting_goals_begins_another_sequence_and_emptying_them_keeps_the_goal(ros, store):
    bench = Bench(ros, store, active_goal='three')
    goals = bench.listen()
    assert bench.set(goals=['two', 'one']) == ''
    ros.spin_until(lambda: names(goals)[-1:] == ['two'])
    assert bench.set(goals=['']) == ''
    assert not bench.call('next').success and active(bench) == 'two'


@pytest.mark.parametrize(('values', 'reason'), [
    ({'goals': ['two', 'twoo']}, "'twoo' not found.*one, three, two|'twoo' not found"),
    ({'goals': ['two'], 'active_goal': 'one'}, 'set one of them'),
    ({'goals': ['two', 'two']}, 'follows itself'), ({'goals': ['broken']}, 'not a readable')])
def test_a_sequence_that_is_not_valid_is_refused_as_a_whole(ros, store, values, reason):
    (store.directory / 'broken.png').write_bytes(b'no picture')
    with pytest.raises(GoalError, match=reason):
        Bench(ros, store, **values)


def test_a_refused_sequence_leaves_the_running_one(ros, store):
    bench = Bench(ros, store, goals=NAMES)
    bench.call('next')
    assert "'nothing' not found" in bench.set(goals=['two', 'nothing'])
    assert 'cannot be taken back' in bench.set(active_goal='')
    assert active(bench) == 'two'
    assert bench.call('next').message == 'goal 3 of 3: three'


def test_goals_are_read_when_the_sequence_begins_not_when_their_turn_comes(ros, store):
    bench = Bench(ros, store, goals=NAMES)
    goals = bench.listen()
    for name in NAMES:
        store.delete(name)
    assert bench.call('next').success
    ros.spin_until(lambda: names(goals)[-1:] == ['two'])


def test_looping_can_be_switched_on_live_where_the_goals_allow_it(ros, store):
    bench = Bench(ros, store, goals=['one', 'two'])
    assert bench.set(goals_loop=True) == ''
    bench.call('next')
    assert bench.call('next').message == 'goal 1 of 2: one'
    bench.set(goals_loop=False)
    assert bench.set(goals=['one', 'two', 'one']) == ''
    assert 'follows itself' in bench.set(goals_loop=True)
