"""The time limit of goals in a sequence: what uses it up, and what happens when it is over."""

import re

import pytest

pytest.importorskip('rclpy')

from goal_bench import Bench, coloured_goals, NAMES
from logger_stack import Stack
from rcl_interfaces.srv import SetParameters
from rclpy.parameter import Parameter
from stable_crl_ros.data.schema import Mode
from stable_crl_ros.images import write_image
from stable_crl_ros.nodes.common import OK, WARN
from stable_crl_ros.robot.flags import StepFlag
from std_srvs.srv import Trigger

LIMIT_S = 0.4


@pytest.fixture
def store(tmp_path):
    return coloured_goals(tmp_path / 'goals')


def steps_until(bench, goals, name):
    """Let the arm follow the policy until a goal is shown; returns the steps it took."""
    for step in range(200):
        if goals and goals[-1].header.frame_id == name:
            return step
        bench.step()
    raise AssertionError(f'{name} never came; the last was {goals[-1].header.frame_id}')


def values_of(status):
    return {pair.key: pair.value for pair in status.values}


def test_a_goal_that_takes_too_long_is_left_for_the_next_and_the_last_stays(ros, store, capfd):
    bench = Bench(ros, store, goals=NAMES, goal_timeout=LIMIT_S)
    goals = bench.listen()
    assert steps_until(bench, goals, 'two') > 1
    assert bench.report('sequence', 'goal 2 of 3: two (one timed out after ').level == WARN
    bench.done('two')
    ros.spin_until(lambda: goals[-1].header.frame_id == 'three')
    assert bench.report('sequence', 'goal 3 of 3: three (two reached').level == OK
    for _ in range(20):
        bench.step()
    status = bench.report('sequence', 'goal 3 of 3: three (the last: timed out after ')
    told = values_of(status)
    assert status.level == WARN and told['finished'] == 'True'
    assert told['reached'].startswith('two after ') and told['skipped'] == ''
    assert re.fullmatch(r'one after \d\.\d s, three after \d\.\d s', told['timed_out'])
    assert [goal.header.frame_id for goal in goals] == NAMES
    said = capfd.readouterr().err
    assert 'goal 2 of 3: two (one timed out after ' in said
    assert len(re.findall(r'All: one timed out after .* s, two reached after .* s, three', said)) \
        == 1


def test_a_loop_goes_on_after_the_last(ros, store):
    bench = Bench(ros, store, goals=NAMES[:2], goals_loop=True, goal_timeout=LIMIT_S)
    goals = bench.listen()
    for name in ('one', 'two', 'one', 'two'):
        steps_until(bench, goals, name)


def test_there_is_no_limit_unless_one_is_set_and_it_can_be_set_live(ros, store):
    bench = Bench(ros, store, goals=NAMES)
    goals = bench.listen()
    for _ in range(15):
        bench.step()
    assert float(values_of(bench.report('sequence', 'one'))['acted_s']) >= 0.0
    assert bench.set(goal_timeout=LIMIT_S) == ''
    steps_until(bench, goals, 'two')
    assert 'choose one of next, stop' in bench.set(on_timeout='previous')
    assert bench.set(goal_timeout=-1.0)


@pytest.mark.parametrize(('mode', 'flags'), [
    (Mode.TELEOP, 0), (Mode.IDLE, StepFlag.HELD), (Mode.POLICY, StepFlag.OVERRIDDEN)],
    ids=['operator', 'stopped', 'overridden'])
def test_time_in_which_the_arm_does_not_follow_the_policy_is_not_counted(ros, store, mode, flags):
    bench = Bench(ros, store, goals=NAMES, goal_timeout=LIMIT_S)
    goals = bench.listen()
    for _ in range(20):
        bench.step(mode, flags)
    told = values_of(bench.report('sequence', 'goal 1 of 3: one (begun)'))
    assert told['acted_s'] == '0.0'
    steps_until(bench, goals, 'two')


def test_a_policy_that_is_refused_for_its_own_steps_uses_its_time_up(ros, store):
    bench = Bench(ros, store, goals=NAMES, goal_timeout=LIMIT_S)
    goals = bench.listen()
    for _ in range(20):
        bench.step(flags=StepFlag.COLLISION)
    assert goals[-1].header.frame_id != 'one'


def test_late_word_of_a_goal_that_timed_out_changes_nothing(ros, store):
    bench = Bench(ros, store, goals=NAMES, goal_timeout=LIMIT_S)
    goals = bench.listen()
    steps_until(bench, goals, 'two')
    bench.set(goal_timeout=0.0)
    bench.done('one')
    ros.spin_for(0.2)
    assert goals[-1].header.frame_id == 'two'


def test_without_an_arm_to_stop_that_is_said_and_the_goal_stays(ros, store, capfd):
    bench = Bench(ros, store, goals=NAMES, goal_timeout=LIMIT_S, on_timeout='stop')
    for _ in range(20):
        bench.step()
    status = bench.report('sequence', '; stopping the arm)')
    assert status.message.startswith('goal 1 of 3: one (one timed out after ')
    assert 'there is no arm/stop to call; the policy goes on' in capfd.readouterr().err


def test_a_real_arm_is_stopped_and_goes_on_with_the_same_goal_when_it_is_told_to(ros, tmp_path):
    stack = Stack(ros, tmp_path)
    write_image(tmp_path / 'messy.png', stack.goal[::-1])
    request = SetParameters.Request(parameters=[
        Parameter(name, value=value).to_parameter_msg() for name, value in (
            ('goal_timeout', 1.0), ('on_timeout', 'stop'), ('goals', ['tidy', 'messy']))])
    answer = ros.call(SetParameters, 'goal/set_parameters', request, node=stack.probe)
    assert all(result.successful for result in answer.results), answer.results
    for _ in range(2):
        before = len(stack.applied)
        stack.run(15)
        modes = [step.mode for step in stack.applied[before:]]
        assert modes[0] is Mode.POLICY and modes[-1] is Mode.IDLE, modes
        assert stack.applied[-1].flags & StepFlag.HELD
        assert stack.logger._input.goal_id == 'tidy'
        assert ros.call(Trigger, 'arm/resume', node=stack.probe).success
    ros.call(Trigger, 'goal/next', node=stack.probe)
    ros.spin_until(lambda: stack.logger._input.goal_id == 'messy')
