"""Replaying episodes on the simulated arm: as recorded, slower, and every reason not to begin."""

import json
import threading
import time

import numpy as np
import pytest

pytest.importorskip('rclpy')

from geometry_msgs.msg import TwistStamped
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from stable_crl_ros.data.dataset import Dataset
from stable_crl_ros.data.episode import EpisodeWriter
from stable_crl_ros.data.schema import Action, EpisodeMeta, Observation
from stable_crl_ros.nodes.arm import ArmNode
from stable_crl_ros.nodes.common import COMMAND
from stable_crl_ros.nodes.messages import decode_applied_action, encode_command
from stable_crl_ros.nodes.replay import replay
from stable_crl_ros.robot.kinematics import START
from stable_crl_ros.robot.limits import ArmLimits
from stable_crl_ros.robot.playback import Plan, ReplayError
from stable_crl_ros.robot.poses import apply_delta
from stable_crl_ros.robot.safety import apply_action, Target
from std_msgs.msg import Float64MultiArray
from std_srvs.srv import Trigger
from test_arm_node import PATIENT_S

STEPS = 5
PERIOD_S = 0.1


class Bench:
    """An active mock arm, and an episode that it would have made, `turned` at its waist."""

    def __init__(self, ros, folder, turned=0.0):
        self.ros = ros
        self.arm = ros.add(ArmNode(context=ros.context, parameter_overrides=ros.parameters(
            control_rate=1.0 / PERIOD_S, homing_speed=1.5, max_command_age=PATIENT_S,
            command_timeout=PATIENT_S)))
        self.probe, self.applied = ros.node(), []
        self.probe.create_subscription(
            Float64MultiArray, 'applied_action',
            lambda m: self.applied.append(decode_applied_action(m)), 50)
        for kind in (Transition.TRANSITION_CONFIGURE, Transition.TRANSITION_ACTIVATE):
            request = ChangeState.Request(transition=Transition(id=kind))
            assert ros.call(ChangeState, 'arm/change_state', request, node=self.probe).success
        self.episode = write_motion(folder, turned)


def interval_s(bench):
    """Return the time between two commands; one that came late counts little."""
    return 1e-9 * np.median(np.diff([step.capture_ns for step in bench.applied]))


def write_motion(folder, turned):
    """Record what the arm's checks make of a motion; the arm is where it was sent."""
    target = Target.from_joints(START + [turned, 0.0, 0.0, 0.0, 0.0, 0.0], 1.0)
    dataset = Dataset(folder / 'episodes', create=True)

    def seen():
        return Observation({'front': np.zeros((8, 8, 3), np.uint8)},
                           joint_positions=target.joints, gripper=target.gripper)
    with EpisodeWriter(dataset, EpisodeMeta(control_rate=1.0 / PERIOD_S)) as writer:
        for number in range(STEPS):
            asked = np.array([0.005, 0.01, 0.004, 0.02, -0.01, 0.03, float(number < 3)])
            step = apply_action(target, asked, ArmLimits(), PERIOD_S)
            writer.add_step(seen(), Action(step.applied, asked))
            target = step.target
        writer.finish(seen(), True)
    return dataset[0]


class Replaying:
    """Run `replay` beside the arm, which spins in this thread."""

    def __init__(self, bench, *args, **kwargs):
        self.report = self.error = None
        self.steps = []

        def run():
            try:
                self.report = replay(*args, namespace='', **kwargs,
                                     progress=lambda done, of: self.steps.append(done))
            except Exception as error:
                self.error = error
        self._bench, self._thread = bench, threading.Thread(target=run)
        self._thread.start()

    def wait(self):
        self._bench.ros.spin_until(lambda: not self._thread.is_alive(), 40.0, 'the replay')
        self._thread.join()
        if self.error is not None:
            raise self.error
        return self.report


@pytest.fixture
def bench(ros, tmp_path):
    return Bench(ros, tmp_path)


def test_an_episode_is_replayed_from_its_start_and_compared_with_the_recording(ros, tmp_path):
    bench = Bench(ros, tmp_path, turned=0.3)
    with pytest.raises(ReplayError, match='mm and .* rad from where .* began'):
        Replaying(bench, bench.episode).wait()
    assert bench.applied == []
    report = Replaying(bench, bench.episode, move_first=True).wait()
    assert report.faithful and report.steps == STEPS
    assert max(report.applied_error) < 1e-6
    assert max(report.path_error_m) < 0.02 and max(report.path_error_rad) < 0.1
    assert report.seconds > 0.9 * STEPS * PERIOD_S
    assert interval_s(bench) == pytest.approx(PERIOD_S, rel=0.3)
    assert json.loads(json.dumps(report.to_dict(), allow_nan=False))['faithful']
    np.testing.assert_allclose([step.applied for step in bench.applied],
                               bench.episode['action'], atol=1e-6)
    np.testing.assert_allclose(bench.arm.get_parameter('home_joints').value, START)


def test_half_as_fast_takes_twice_the_time_in_half_steps(bench):
    report = Replaying(bench, bench.episode, speed=0.5).wait()
    assert report.steps == STEPS and max(report.applied_error) < 1e-6
    assert report.seconds > 0.9 * 2 * STEPS * PERIOD_S
    assert len(bench.applied) == 2 * STEPS
    assert interval_s(bench) == pytest.approx(PERIOD_S, rel=0.3)
    np.testing.assert_allclose(bench.applied[-1].applied[:3],
                               bench.episode['action'][-1, :3] / 2, atol=1e-6)


def test_a_replay_that_was_held_up_goes_on_at_its_pace(bench):
    running = Replaying(bench, bench.episode, speed=0.5)
    bench.ros.spin_until(lambda: running.steps, 30.0)
    time.sleep(0.8)  # several periods in which the arm does not listen
    report = running.wait()
    assert max(report.applied_error) < 1e-6
    stamps = [step.capture_ns for step in bench.applied]
    assert len(stamps) == 2 * STEPS and not any(step.refused for step in bench.applied)
    assert interval_s(bench) == pytest.approx(PERIOD_S, rel=0.3)


def test_stopping_the_arm_ends_the_replay(bench):
    running = Replaying(bench, bench.episode, speed=0.2)
    bench.ros.spin_until(lambda: running.steps, 30.0)
    assert bench.ros.call(Trigger, 'arm/stop', node=bench.probe).success
    with pytest.raises(ReplayError, match='the arm refused it: held'):
        running.wait()


def test_somebody_else_who_steers_ends_the_replay(bench):
    twists = bench.probe.create_publisher(TwistStamped, 'teleop/delta_twist_cmds', COMMAND)
    running = Replaying(bench, bench.episode, speed=0.2)
    bench.ros.spin_until(lambda: running.steps, 30.0)
    now = bench.probe.get_clock().now().nanoseconds
    twists.publish(encode_command(np.zeros(6), PERIOD_S, now))
    with pytest.raises(ReplayError, match='somebody else steers|overridden'):
        running.wait()


def test_another_control_rate_is_refused(bench, tmp_path):
    with pytest.raises(ReplayError, match='recorded at 5 Hz.*control_rate:=5.0'):
        Replaying(bench, write(tmp_path)).wait()


def write(folder, rate=5.0, joints=START, attributes=None, steps=2):
    dataset = Dataset(folder / 'written', create=True)
    seen = Observation({'front': np.zeros((8, 8, 3), np.uint8)}, joint_positions=joints)
    with EpisodeWriter(dataset, EpisodeMeta(control_rate=rate)) as writer:
        for _ in range(steps):
            writer.add_step(seen, Action(np.zeros(7)))
        writer.finish(seen, True, attributes=attributes)
    return dataset[writer.episode_id]


@pytest.mark.parametrize(('recording', 'speed', 'reason'), [
    ({}, 1.5, 'nothing is replayed faster'), ({}, 0.0, 'give 0.05 to 1'),
    ({'attributes': {'gaps': [1, 2]}}, 1.0, r'missing before \[1, 2\].* no step of it'),
    ({'attributes': {'gaps': [1, 5]}, 'steps': 6}, 1.0,
     r'missing before \[1, 5\].* the longest is 1-3'),
    ({'attributes': {'gaps': [6]}, 'steps': 6}, 1.0, 'the longest is 0-4'),
    ({'joints': np.full(6, np.nan)}, 1.0, 'where the arm began was not recorded')])
def test_what_cannot_be_replayed_is_refused(tmp_path, recording, speed, reason):
    with pytest.raises(ReplayError, match=reason):
        Plan.of(write(tmp_path, **recording), speed)


def test_what_was_lost_before_the_first_step_does_not_matter(tmp_path):
    assert len(Plan.of(write(tmp_path, attributes={'gaps': [0]}), 1.0).actions) == 2


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
