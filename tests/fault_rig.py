"""A running arm node on an emulated servo bus, and faults put into it while it moves."""

from contextlib import contextmanager
from dataclasses import dataclass, field
import tempfile
import time

from conftest import Ros
import numpy as np
from stable_crl_ros.nodes.arm import ArmNode
from stable_crl_ros.robot.dynamixel import DynamixelArm
from stable_crl_ros.robot.kinematics import JOINT_NAMES, START
from stable_crl_ros.robot.safety import StepFlag
from stable_crl_ros.servo_bus import start
from test_arm_node import Cell

POSE = dict(zip(JOINT_NAMES, START.tolist(), strict=True))
STEP_S = 0.2
SWING = [np.array([0.0, sign * 0.02, 0.0, 0.0, 0.0, 0.0]) for sign in (1, 1, -1, -1, -1, -1, 1, 1)]
GOES_ON, LATCHES, REFUSES = 'goes on', 'latches a fault', 'refuses to start'


@dataclass(frozen=True)
class Case:
    """
    One fault.

    :param name: for the table.
    :param kind: what `BusHandle.inject` is told, with `values`.
    :param outcome: what the node must do.
    :param said: words that /diagnostics, or the refusal, must have.
    :param count: counter that must grow, where the arm goes on.
    :param mend: what is injected before `~/clear_faults`; '' for nothing.
    :param asks: whether the first `~/clear_faults` asks a person to hold the arm.
    """

    name: str
    kind: str
    outcome: str
    values: dict = field(default_factory=dict)
    said: tuple[str, ...] = ()
    count: tuple[str, ...] = ()
    mend: tuple[str, dict] | None = None
    asks: bool = False


@dataclass
class Result:
    """
    What happened.

    :param held_ms: from the fault to the last goal that moved, at the servos; None where the arm
        went on.
    :param latched_ms: from the fault to mode `fault`.
    :param said: what /diagnostics, or the refusal, said.
    :param mended: what the answer of `~/clear_faults` was; '' where there was nothing to mend.
    """

    said: str = ''
    held_ms: float | None = None
    latched_ms: float | None = None
    mended: str = ''


class Rig:
    """An arm node that swings, its bus, and a probe."""

    def __init__(self, ros, bus, watchdog_s=None, **options):
        self.ros, self.bus = ros, bus
        driver = None if watchdog_s is None else DynamixelArm(options['port'],
                                                              watchdog_s=watchdog_s)
        self.cell = Cell(ros, driver=driver, name='dynamixel', **options)
        self.latched_at, self.sent_at, self.silent, self._number = None, 0.0, False, 0
        self.cell.probe.create_timer(0.005, self._tick)

    def _tick(self):
        now = time.monotonic()
        if self.latched_at is None and self.cell.mode == 'fault':
            self.latched_at = now
        if now - self.sent_at >= STEP_S and not self.silent:
            self.sent_at, self._number = now, self._number + 1
            self.cell.send(SWING[self._number % len(SWING)])

    def counts(self):
        """Return the counters of control and motors by name."""
        servo = self.cell.arm._servo
        motors = {name: int(value) for name, value in servo.health.items() if value.isdigit()}
        return {**motors, **self.cell.arm._controller.counts}

    def last_moving_goal(self, since):
        """Return when the bus took the last goal that differs from the one before it."""
        last, moved = {}, since
        for goal in self.bus.goals(since - 1.0):
            if last.get(goal.servo, goal.ticks) != goal.ticks and goal.time > since:
                moved = goal.time
            last[goal.servo] = goal.ticks
        return moved


@contextmanager
def running(**parameters):
    """Yield a rig whose arm swings; `parameters` are the node's, and the servos' `watchdog_s`."""
    ros = Ros()
    with tempfile.TemporaryDirectory() as folder, start(pose=POSE, link=f'{folder}/bus') as bus:
        try:
            rig = Rig(ros, bus, port=f'{folder}/bus', **parameters)
            ros.spin_for(0.7)
            yield rig
        finally:
            ros.close()


def provoke(case, **parameters):
    """Put a fault into a swinging arm and return what came of it."""
    if case.outcome == REFUSES:
        return _start_with(case)
    with running(**parameters) as rig:
        before, at = rig.counts(), time.monotonic()
        rig.bus.inject(case.kind, **case.values)
        if case.outcome == GOES_ON:
            return _watch(rig, case, before)
        rig.ros.spin_until(lambda: rig.latched_at is not None, 5.0, f'{case.name}: a fault')
        result = Result(latched_ms=1e3 * (rig.latched_at - at))
        result.said = _said(rig, case)
        result.held_ms = 1e3 * (rig.last_moving_goal(at) - at)
        result.mended = _mend(rig, case)
        return result


def _start_with(case):
    """Configure a node whose arm is at fault from the beginning."""
    ros, values = Ros(), dict(case.values)
    with start(model=values.pop('model', 'wx250s'), timed=False) as bus:
        try:
            if values:
                bus.inject(case.kind, **values)
            node = ros.add(ArmNode(context=ros.context, parameter_overrides=ros.parameters(
                driver='dynamixel', port=bus.port)))
            node.trigger_configure()
            assert all(word in node.refusal for word in case.said), node.refusal
            return Result(node.refusal)
        finally:
            ros.close()


def _watch(rig, case, before):
    def said():
        counts = rig.counts()
        return {name: counts[name] - before.get(name, 0) for name in case.count
                if counts.get(name, 0) > before.get(name, 0)}
    rig.ros.spin_for(1.5)
    if case.count:
        rig.ros.spin_until(said, 4.0, f'{case.name}: a growing count of {case.count}')
    assert rig.latched_at is None, rig.cell.arm._controller.arbiter.reason
    said = said()
    return Result(', '.join(f'{name} +{count}' for name, count in said.items()) or 'nothing')


def _said(rig, case):
    """Return what control and motors say once it holds all that it must."""
    heard = len(rig.cell.health)
    rig.ros.spin_until(lambda: len(rig.cell.health) > heard and all(
        word in _messages(rig) for word in case.said), 4.0, f'{case.name}: {_messages(rig)}')
    return _messages(rig)


def _messages(rig):
    return ' / '.join([rig.cell.health[-1].message if rig.cell.health else '',
                       rig.cell.motors[-1][''] if rig.cell.motors else ''])


def _mend(rig, case):
    rig.bus.clear()
    if case.mend is not None:
        rig.bus.inject(case.mend[0], **case.mend[1])
    rig.ros.spin_for(0.5)  # for answers that are still on their way
    assert not rig.cell.call('resume').success
    answer = rig.cell.call('clear_faults')
    if case.asks:
        assert not answer.success and 'hold the arm' in answer.message, answer.message
        answer = rig.cell.call('clear_faults')
    assert answer.success, answer.message
    assert rig.cell.call('resume').success
    at = time.time_ns()
    rig.ros.spin_until(lambda: any(
        step.receive_ns > at and not step.flags & (StepFlag.HELD | StepFlag.TOO_SOON)
        for step in rig.cell.applied[-3:]), what='going on')
    return answer.message
