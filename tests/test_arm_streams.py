"""Whatever is sent to the arm node, in whatever order: no setpoint breaks a limit."""

import math
import time

from hypothesis import given, HealthCheck, settings
from hypothesis import strategies as st
import numpy as np
import pytest

pytest.importorskip('rclpy')

from conftest import Ros
from stable_crl_ros.robot.arm import ArmError
from stable_crl_ros.robot.kinematics import (
    forward_kinematics,
    inverse_kinematics,
    JOINT_LOWER,
    JOINT_UPPER,
    MAX_JOINT_VELOCITY,
    START,
)
from stable_crl_ros.robot.limits import ArmLimits
from stable_crl_ros.robot.mock import MockArm
from std_msgs.msg import Float64
from std_srvs.srv import Trigger
from test_arm_node import Cell
from test_arm_node import PERIOD_S as CELL_PERIOD_S

SERVO_S, PERIOD_S = 0.005, 0.05  # ten setpoints a step, as at the default rates
SILENCE_S = 0.05
LIMITS = ArmLimits()
ONE_SERVO_STEP = LIMITS.max_translation * SERVO_S / PERIOD_S  # m, of the tool and on each axis
LOW, HIGH = np.array(LIMITS.workspace_low), np.array(LIMITS.workspace_high)
NASTY = (math.nan, math.inf, -math.inf, 1e9, -1e9, 1e308, 5e-324, -0.0)


def places():
    """Return joints that put the tool, pointing down, onto walls, floor and corners."""
    pose, found = forward_kinematics(START), [START]
    for share in np.random.default_rng(0).uniform(-0.2, 1.2, (300, 3)).clip(0.0, 1.0):
        pose[:3, 3] = LOW + share * (HIGH - LOW)
        try:
            found.append(inverse_kinematics(pose, START))
        except ValueError:
            continue
    return found


PLACES = places()


class WatchedArm(MockArm):
    """The mock arm, which keeps when which setpoint was written, and loses cycles on demand."""

    def __init__(self):
        super().__init__(time_constant_s=0.03)
        self.written, self.losing = [], 0

    def place(self, joints):
        """Be elsewhere, as after a push, and forget what was written."""
        self.connect()
        with self._lock:
            self._position[:6] = self._setpoint[:6] = joints
        self.written.clear()

    def read(self):
        if self.losing > 0:
            self.losing -= 1
            raise ArmError('no answer')
        return super().read()

    def write(self, joint_positions, gripper):
        super().write(joint_positions, gripper)
        self.written.append((time.monotonic(), np.array(joint_positions), gripper))


number = st.one_of(st.floats(-0.06, 0.06), st.floats(-1.0, 1.0), st.floats(),
                   st.sampled_from(NASTY))
step = st.lists(st.floats(-0.08, 0.08), min_size=6, max_size=6)
push = st.sampled_from([sign * 0.05 * np.eye(6)[axis] for axis in range(3) for sign in (-1, 1)]
                       + [sign * 0.25 * np.eye(6)[axis] for axis in range(3, 6)
                          for sign in (-1, 1)])
delta = st.one_of(push, step, st.lists(number, min_size=6, max_size=6))
source = st.sampled_from(('', 'teleop/'))
stamp_s = st.one_of(st.just(0.0), st.just(0.0), st.floats(-0.6, 0.6),
                    st.sampled_from((-1e9, 3e8, -3600.0, 3600.0)))
event = st.one_of(
    st.tuples(st.just('step'), source, delta, stamp_s),
    st.tuples(st.just('step'), source, delta, st.just(0.0)),
    st.tuples(st.just('flood'), source, delta, st.integers(2, 30)),
    st.tuples(st.just('gripper'), source, number),
    st.tuples(st.just('wait'), st.one_of(
        st.floats(0.0, 0.01), st.floats(0.0, 0.01), st.floats(0.0, PERIOD_S),
        st.just(SILENCE_S + SERVO_S))),
    st.tuples(st.just('lose'), st.integers(1, 7)),
    st.sampled_from((('stop',), ('resume',))))
streams = st.tuples(st.sampled_from(range(len(PLACES))), st.lists(event, max_size=10))


class Range:
    """The arm node and what shoots at it, kept over all streams."""

    def __init__(self):
        self.ros, self.arm = Ros(), WatchedArm()
        self.cell = Cell(self.ros, driver=self.arm, servo_rate=1.0 / SERVO_S,
                         control_rate=1.0 / PERIOD_S, command_timeout=SILENCE_S)
        self.clients = {name: self.cell.probe.create_client(Trigger, f'arm/{name}')
                        for name in ('stop', 'resume', 'clear_faults')}
        self.ros.spin_until(lambda: all(c.service_is_ready() for c in self.clients.values()))
        self.counts = self.cell.arm._controller.counts
        self.writes = 0

    def mode(self):
        return self.cell.arm._controller.mode.value

    def call(self, name):
        future = self.clients[name].call_async(Trigger.Request())
        self.ros.spin_until(future.done)

    def run(self, place, events):
        """Send a stream, let the node take all of it, and check every setpoint."""
        self.arm.losing = 0
        if self.mode() == 'fault':
            self.call('clear_faults')
        self.call('resume')
        self.cell.arm.undisturbed(lambda: self.arm.place(PLACES[place]))
        self.arm.written.clear()
        for kind, *values in events:
            getattr(self, f'_{kind}')(*values)
        marks = self.counts['wrong_frame']
        self.cell.send(frame='the end')
        self.ros.spin_until(lambda: self.counts['wrong_frame'] > marks)
        self.ros.spin_until(lambda: len(self.arm.written) > 5)  # a stream may be empty
        self.check()

    def _step(self, prefix, values, offset_s):
        with np.errstate(over='ignore'):
            speed = np.array(values, float) * (CELL_PERIOD_S / PERIOD_S)
            self.cell.send(speed, prefix=prefix, stamp_ns=time.time_ns() + int(offset_s * 1e9))
        self.ros.executor.spin_once(timeout_sec=0.001)

    def _flood(self, prefix, values, count):
        for _ in range(count):
            self._step(prefix, values, 0.0)

    def _gripper(self, prefix, opening):
        self.cell.grippers[prefix].publish(Float64(data=float(opening)))

    def _wait(self, seconds):
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0.0:
            self.ros.executor.spin_once(timeout_sec=left)

    def _lose(self, count):
        self.arm.losing = count

    def _stop(self):
        self.call('stop')

    def _resume(self):
        self.call('resume')

    def check(self):
        seconds, joints, grippers = (np.array(column) for column in zip(
            *self.arm.written.copy(), strict=True))
        self.writes += len(seconds)
        assert np.isfinite(joints).all() and np.isfinite(grippers).all()
        assert (joints >= JOINT_LOWER).all() and (joints <= JOINT_UPPER).all()
        assert (grippers >= 0.0).all() and (grippers <= 1.0).all()
        allowed = MAX_JOINT_VELOCITY * np.diff(seconds)[:, None] + 1e-9
        assert (np.abs(np.diff(joints, axis=0)) <= allowed).all()
        tools = np.array([forward_kinematics(row)[:3, 3] for row in joints])
        assert (tools >= LOW - ONE_SERVO_STEP).all(), tools.min(0)
        assert (tools <= HIGH + ONE_SERVO_STEP).all(), tools.max(0)


@pytest.fixture(scope='module')
def shooting():
    made = Range()
    yield made
    made.ros.close()


def shoot(shooting, count):
    @settings(max_examples=count, deadline=None, database=None,
              suppress_health_check=list(HealthCheck))
    @given(streams)
    def run(stream):
        shooting.run(*stream)
    run()
    assert shooting.counts['commands'] > count and shooting.writes > 5 * count


def test_no_stream_of_commands_makes_a_setpoint_break_a_limit(shooting):
    shoot(shooting, 200)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_ten_thousand_streams_make_no_setpoint_break_a_limit(shooting):
    shoot(shooting, 10_000)
