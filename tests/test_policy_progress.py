"""The policy node's progress over DDS: every tick, and done once per goal."""

from learning_samples import draw_dot, small_agent, WARM, write_checkpoint, write_dots
import numpy as np
from policy_bench import Bench
import pytest

pytest.importorskip('rclpy')

from rclpy.exceptions import InvalidParameterValueException
from stable_crl_ros.nodes.common import COMMAND, StartupError
from stable_crl_ros.nodes.messages import decode_tick
from stable_crl_ros.policy import Policy
from stable_crl_ros.recalibration import calibrate_checkpoint
from std_msgs.msg import Float64, Float64MultiArray, String

THERE, AWAY = draw_dot((0.2, 0.8)), draw_dot((0.9, 0.1))


@pytest.fixture(scope='module')
def calibrated(tmp_path_factory):
    folder = tmp_path_factory.mktemp('calibrated')
    dots = write_dots(folder / 'dots', episodes=12, steps=25, control_rate=20.0)
    path = folder / 'policy.safetensors'
    write_checkpoint(path, agent=small_agent(**WARM))
    calibrate_checkpoint(path, [dots.path], path)
    return path


class ProgressBench(Bench):
    """Also listens to what the policy says about its goal."""

    def _listen(self):
        super()._listen()
        self.said, self.steps, self.odds, self.done = [], [], [], []
        subscribe = self.probe.create_subscription
        subscribe(Float64MultiArray, 'policy/tick', lambda m: self.said.append(decode_tick(m)), 50)
        subscribe(Float64, 'policy/steps_to_go', lambda m: self.steps.append(m.data), 10)
        subscribe(Float64, 'policy/at_goal', lambda m: self.odds.append(m.data), 10)
        subscribe(String, 'policy/done', lambda m: self.done.append(m.data), COMMAND)

    def next_ticks(self, count=6):
        """Wait for so many more ticks; returns them."""
        before = len(self.said)
        self.ros.spin_until(lambda: len(self.said) >= before + count, what='more ticks')
        return self.said[before:]


def start(ros, checkpoint, **values):
    bench = ProgressBench(ros, checkpoint, done_threshold=0.5, **values)
    bench.transition('CONFIGURE')
    bench.set_goal(THERE, 'corner.png')
    bench.transition('ACTIVATE')
    return bench


def test_done_is_announced_once_with_the_goals_name_and_anew_for_another_goal(ros, calibrated):
    bench = start(ros, calibrated)
    bench.show(AWAY)
    assert not any(tick.done for tick in bench.next_ticks())
    assert bench.done == []
    bench.show(THERE)
    bench.next_ticks(8)
    assert bench.next_ticks(1)[0].done
    assert bench.done == ['corner.png']
    bench.show(AWAY)
    assert all(tick.done for tick in bench.next_ticks(3))  # until another goal
    bench.set_goal(AWAY, 'other.png')
    bench.next_ticks(8)
    assert bench.done == ['corner.png', 'other.png']


def test_one_tick_at_the_goal_is_not_enough(ros, calibrated):
    bench = start(ros, calibrated, done_ticks=1000)
    bench.show(THERE)
    ticks = bench.next_ticks(8)
    assert ticks[-1].at_goal > 0.5 and not ticks[-1].done
    assert bench.done == []
    assert bench.set(done_ticks=2) == ''
    bench.next_ticks(3)
    assert bench.done == ['corner.png']


def test_every_tick_says_what_the_policy_makes_of_its_image(ros, calibrated):
    bench = start(ros, calibrated)
    bench.show(AWAY)
    tick = bench.next_ticks()[-1]
    policy = Policy.load(calibrated, threads=1)
    policy.set_goal(THERE)
    _, value, progress = policy.decide(AWAY)
    np.testing.assert_allclose((tick.value, tick.steps_to_go, tick.at_goal), (value, *progress),
                               rtol=1e-4)
    ros.spin_until(lambda: bench.steps and bench.odds)
    assert bench.steps[-1] == pytest.approx(progress.steps_to_go, rel=1e-4)
    assert bench.odds[-1] == pytest.approx(progress.at_goal, rel=1e-4)


def test_a_checkpoint_without_calibration_acts_and_is_never_done(ros, first):
    bench = start(ros, first, done_ticks=1)
    bench.show(THERE)
    ticks = bench.next_ticks()
    assert np.isnan(ticks[-1].at_goal) and np.isnan(ticks[-1].steps_to_go)
    assert not ticks[-1].done
    assert bench.done == bench.steps == bench.odds == []


def test_rules_without_sense_are_refused_at_any_time(ros, calibrated):
    with pytest.raises(StartupError, match='0 <= release <= threshold'):
        ProgressBench(ros, calibrated, done_release=0.9)
    bench = start(ros, calibrated)
    assert 'release <= threshold' in bench.set(done_release=0.8)
    assert bench.set(done_ticks=0)
    assert bench.set(done_threshold=0.9) == ''
    with pytest.raises(InvalidParameterValueException):
        ProgressBench(ros, calibrated, done_threshold=2.0)
