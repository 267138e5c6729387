"""Replaying episodes on the simulated arm: as recorded, slower, and every reason not to begin."""

import threading

import numpy as np
import pytest

pytest.importorskip('rclpy')

from logger_stack import Stack
from stable_crl_ros.data.dataset import Dataset
from stable_crl_ros.data.episode import EpisodeWriter
from stable_crl_ros.data.schema import Action, EpisodeMeta, Observation
from stable_crl_ros.nodes.replay import replay
from stable_crl_ros.robot.kinematics import START
from stable_crl_ros.robot.playback import Plan, ReplayError
from stable_crl_ros.robot.poses import apply_delta
from std_srvs.srv import Trigger

STEPS = 6


class Replaying:
    """Run `replay` beside the stack, which spins in this thread."""

    def __init__(self, stack, *args, **kwargs):
        self.report = self.error = None
        self.steps = []

        def run():
            try:
                self.report = replay(*args, namespace='', **kwargs,
                                     progress=lambda done, of: self.steps.append(done))
            except Exception as error:
                self.error = error
        self._stack, self._thread = stack, threading.Thread(target=run)
        self._thread.start()

    def wait(self):
        self._stack.ros.spin_until(lambda: not self._thread.is_alive(), 40.0, 'the replay')
        self._thread.join()
        if self.error is not None:
            raise self.error
        return self.report


@pytest.fixture
def recorded(ros, tmp_path):
    """Give a stack that has recorded one episode, its arm where that ended."""
    stack = Stack(ros, tmp_path)
    assert stack.call('start').success
    for number in range(STEPS):
        stack.act([0.05, 0.1, 0.03], gripper=float(number < 3))
        ros.spin_for(0.2)
    assert stack.call('stop', True).success
    return stack


def test_an_episode_is_replayed_from_its_start_and_compared_with_the_recording(recorded):
    with pytest.raises(ReplayError, match='mm and .* rad from where .* began'):
        Replaying(recorded, recorded.episode()).wait()
    report = Replaying(recorded, recorded.episode(), move_first=True).wait()
    assert report.faithful and report.steps == STEPS
    assert max(report.applied_error) < 1e-6
    assert report.path_error_m[-1] < 0.015
    assert max(report.path_error_m) < 0.03 and max(report.path_error_rad) < 0.05
    assert report.seconds == pytest.approx(STEPS * 0.2, abs=0.15)
    np.testing.assert_allclose([step.applied for step in recorded.applied[-STEPS:]],
                               recorded.episode()['action'], atol=1e-6)
    home = recorded.ros._nodes[2].get_parameter('home_joints').value
    np.testing.assert_allclose(home, START)


def test_half_as_fast_takes_twice_the_time_in_half_steps(recorded):
    report = Replaying(recorded, recorded.episode(), speed=0.5, move_first=True).wait()
    assert report.faithful and max(report.applied_error) < 1e-6
    assert report.seconds == pytest.approx(STEPS * 0.4, abs=0.2)
    assert len(recorded.applied) == 3 * STEPS
    np.testing.assert_allclose(recorded.applied[-1].applied[:3],
                               recorded.episode()['action'][-1, :3] / 2, atol=1e-6)


def test_stopping_the_arm_ends_the_replay(recorded):
    running = Replaying(recorded, recorded.episode(), move_first=True)
    recorded.ros.spin_until(lambda: len(running.steps) == 2, 30.0)
    assert recorded.ros.call(Trigger, 'arm/stop', node=recorded.probe).success
    with pytest.raises(ReplayError, match='step [23]: the arm refused it: held'):
        running.wait()


def test_somebody_else_who_steers_ends_the_replay(recorded):
    running = Replaying(recorded, recorded.episode(), move_first=True)
    recorded.ros.spin_until(lambda: len(running.steps) == 2, 30.0)
    recorded.act([0.0, 0.0, 0.01], prefix='teleop/')
    with pytest.raises(ReplayError, match='somebody else steers|overridden'):
        running.wait()


def write(folder, rate=5.0, joints=START, attributes=None, steps=2):
    dataset = Dataset(folder / 'written', create=True)
    seen = Observation({'front': np.zeros((8, 8, 3), np.uint8)}, joint_positions=joints)
    with EpisodeWriter(dataset, EpisodeMeta(control_rate=rate)) as writer:
        for _ in range(steps):
            writer.add_step(seen, Action(np.zeros(7)))
        writer.finish(seen, True, attributes=attributes)
    return dataset[writer.episode_id]


def test_another_control_rate_is_refused(recorded, tmp_path):
    with pytest.raises(ReplayError, match='recorded at 10 Hz.*control_rate:=10.0'):
        Replaying(recorded, write(tmp_path, rate=10.0)).wait()


@pytest.mark.parametrize(('recording', 'speed', 'reason'), [
    ({}, 1.5, 'nothing is replayed faster'), ({}, 0.0, 'give 0.05 to 1'),
    ({'attributes': {'gaps': [1]}}, 1.0, r'missing before \[1\]'),
    ({'joints': np.full(6, np.nan)}, 1.0, 'where the arm began was not recorded')])
def test_what_cannot_be_replayed_is_refused(tmp_path, recording, speed, reason):
    with pytest.raises(ReplayError, match=reason):
        Plan.of(write(tmp_path, **recording), speed)


@pytest.mark.parametrize('speed', [1.0, 0.6, 0.5, 0.1])
def test_the_parts_of_a_step_make_the_whole_at_no_more_than_the_arms_rate(tmp_path, speed):
    plan = Plan.of(write(tmp_path), speed)
    plan.actions[0] = [0.02, -0.01, 0.03, 0.2, -0.1, 0.15, 1.0]
    pose = plan.poses[0]
    for _ in range(plan.parts):
        pose = apply_delta(pose, plan.command(0))
    np.testing.assert_allclose(pose, apply_delta(plan.poses[0], plan.actions[0]), atol=1e-9)
    assert plan.parts * plan.interval_s == pytest.approx(plan.period_s / speed)
    assert plan.interval_s >= plan.period_s - 1e-9
