"""The real WidowX 250s: nine Dynamixel servos on a USB converter, as an arm driver."""

from collections import Counter, deque
import threading
import time

import numpy as np
from stable_crl_ros.robot.arm import ArmError, ArmFault, ArmState, check_setpoint
from stable_crl_ros.robot.dynamixel_bus import Answer, BusError, ServoBus
from stable_crl_ros.robot.dynamixel_faults import Clock, Faults
from stable_crl_ros.robot.dynamixel_port import find_port, PortError
from stable_crl_ros.robot.dynamixel_recovery import restart_faulty, UnsupportedError
from stable_crl_ros.robot.dynamixel_setup import (
    check_configuration,
    check_models,
    differences,
    scan,
    soft_start,
)
from stable_crl_ros.robot.dynamixel_setup import (
    write_configuration as write_differences,
)
from stable_crl_ros.robot.dynamixel_table import (
    CENTRE,
    effort,
    GRIPPER,
    JOINTS,
    LEADERS,
    RADIANS_PER_TICK,
    Register,
    SERVOS,
    SHADOWS,
    STATE,
    STATUS,
    to_radians,
    to_ticks,
    VELOCITY_UNIT,
    VOLTAGE_UNIT,
    WATCHDOG_UNIT,
    XM430,
)
from stable_crl_ros.robot.gripper import horn_angle, opening_from_angle
from stable_crl_ros.robot.kinematics import JOINT_LOWER, JOINT_UPPER, MAX_JOINT_VELOCITY

SUPPORT_S = 30.0  # a second clear_faults within this time says that the arm is held
# Shares of a servo cycle: one patient wait for an answer, then when to give up on the state and
# on the status of one servo. What is left is for the goals and for the caller.
_PATIENCE, _STATE_BY, _STATUS_BY = 0.4, 0.65, 0.85
_CYCLES_KEPT = 1000
_LOWEST = {n: SERVOS[n].low for n in JOINTS}
_HIGHEST = {n: SERVOS[n].high for n in JOINTS}


class DynamixelArm:
    """
    `robot.arm.ArmDriver` for a WidowX 250s on its servo bus.

    A cycle is one `read` (all positions, velocities and efforts in one sync read; torque, error,
    watchdog, voltage and temperature of one servo after the other) and one `write` (all goals in
    one sync write). Efforts are mA; % of the greatest load for wrist_rotate, which has no current
    sensor; sums of both motors for shoulder and elbow. Whatever ends it, the arm holds: after
    `close` for ever, after a crash or a pulled cable from `watchdog_s` on, when the servos stop
    where they are. A fault latches until `clear_faults`; a single cycle that failed raises, and
    is no fault.

    :param port: device or link; '' for /dev/ttyDXL or the only converter plugged in.
    :param baud_rate: bit/s.
    :param cycle_s: time between two calls of `write`, s.
    :param write_configuration: write registers that differ, instead of refusing to connect;
        torque must be off, so the arm must lie on its rest.
    :param watchdog_s: silence after which the servos stop, 0.02 .. 2.54 s; 0 for never.
    :raises ArmError: for a cycle or a watchdog that the servos cannot keep.
    """

    def __init__(
        self, port: str = '', *, baud_rate: int = 1_000_000, cycle_s: float = 0.02,
        write_configuration: bool = False, watchdog_s: float = 0.5,
    ) -> None:
        if not 0.005 <= cycle_s <= 0.1:
            raise ArmError(f'cycle_s must be 0.005 to 0.1 s (10 to 200 Hz), got {cycle_s}')
        if watchdog_s and not max(WATCHDOG_UNIT, 3 * cycle_s) <= watchdog_s <= 127 * WATCHDOG_UNIT:
            raise ArmError(f'watchdog_s must be 0 (off) or {3 * cycle_s:.2f} to '
                           f'{127 * WATCHDOG_UNIT} s, got {watchdog_s}')
        self._port, self._baud_rate, self._cycle_s = port, baud_rate, cycle_s
        self._write_configuration, self._watchdog_s = write_configuration, watchdog_s
        self._lock = threading.RLock()
        self._bus: ServoBus | None = None
        self._faults, self._clock = Faults(watchdog_s), Clock()
        self._counts: Counter[str] = Counter(cycles=0, missed=0, stale=0, slewed=0)
        self._durations: deque[float] = deque(maxlen=_CYCLES_KEPT)
        self._urgent: set[int] = set()
        self._turn = 0
        self._statuses: dict[int, dict[Register, int]] = {}
        self._goals: dict[int, float] = {}  # ticks of every leader, as last sent
        self._gripper_sent = False
        self._began = self._heard_at = self._wrote_at = 0.0
        self._asked_support_at = -SUPPORT_S

    def connect(self) -> None:
        """
        Open the port, check arm and configuration, and hold the present position.

        :raises ArmError: naming what is wrong; torque is left as it was.
        """
        with self._lock:
            if self._bus is not None and self._bus.is_open and not self._faults:
                return
            self.close()
            self._port = find_port(self._port)
            self._bus = ServoBus(self._port, self._baud_rate, _PATIENCE * self._cycle_s)
            try:
                self._bus.open()
                self._prepare()
            except BaseException:
                self._bus.close()
                raise

    def _prepare(self) -> None:
        check_models(scan(self._bus), self._port)
        found = differences(self._bus)
        if found and self._write_configuration:
            write_differences(self._bus, found)
            found = differences(self._bus)
        check_configuration(found)
        self._start()

    def _start(self) -> None:
        total = max(2, round(2000 * self._cycle_s))  # ms; a late goal finds the arm still moving
        goals = soft_start(self._bus, (total // 4, total), self._watchdog_s)
        self._goals = {number: float(goal) for number, goal in goals.items()}
        self._gripper_sent = True
        self._clock, self._urgent = Clock(), set()
        self._faults.clear()
        self._heard_at = self._wrote_at = time.monotonic()

    def close(self) -> None:
        """Disarm the watchdog and let go of the port; the arm goes on holding with torque."""
        with self._lock:
            if self._bus is None:
                return
            try:
                for number in SERVOS:
                    if self._bus.is_open:
                        self._bus.set(number, Register.BUS_WATCHDOG, 0)
            except ArmError:
                pass  # what cannot be reached is stopped by its watchdog, and holds
            finally:
                self._bus.close()

    def read(self) -> ArmState:
        """
        Read all servos, and the status of one of them.

        :raises ArmError: when a joint did not answer in time; when the port is gone.
        """
        with self._lock:
            bus = self._connected()
            self._end_cycle()
            try:
                answers = self._read_state(bus)
                self._sweep(bus)
            except PortError as error:
                self._faults.see_port(str(error))
                raise
            missing = [str(SERVOS[n]) for n in LEADERS if n not in answers]
            if missing:
                self._counts['missed'] += 1
                raise ArmError(f'no answer within this servo cycle from {", ".join(missing)}')
            return self._state(answers)

    def _read_state(self, bus: ServoBus) -> dict[int, dict[Register, int]]:
        if self._watchdog_s and self._began - self._heard_at > self._watchdog_s:
            self._urgent.update(SERVOS)
        answers = bus.sync_read(SERVOS, STATE, self._began + _STATE_BY * self._cycle_s)
        received, values = time.monotonic(), {}
        for number, answer in answers.items():
            self._take(number, answer, received, values)
        self._urgent.update(SERVOS.keys() - answers.keys())
        self._faults.see_answers(set(values))
        if answers:
            self._heard_at = received
        return values

    def _take(self, number: int, answer: Answer, received: float, values: dict) -> None:
        decoded = STATE.decode(answer.data)
        tick = decoded[Register.REALTIME_TICK]
        if not self._clock.plausible(number, tick, self._began, received):
            self._counts['stale'] += 1
            self._clock.forget(number)
            self._urgent.add(number)
            return
        if answer.alert and not self._is_known(number):
            self._urgent.add(number)
        values[number] = decoded

    def _is_known(self, number: int) -> bool:
        return any(fault.servo == number and fault.bits for fault in self._faults.list())

    def _sweep(self, bus: ServoBus) -> None:
        """Read the status of the servo whose turn it is; of those in doubt first."""
        deadline = self._began + _STATUS_BY * self._cycle_s
        doubtful = sorted(self._urgent)
        self._turn = self._turn % len(SERVOS) + 1
        for number in doubtful or [self._turn]:
            if time.monotonic() >= deadline:
                return
            try:
                values = STATUS.decode(bus.read(number, STATUS, deadline).data)
            except BusError:
                continue
            self._urgent.discard(number)
            self._statuses[number] = values
            self._faults.see_status(number, values)
            if number == GRIPPER:
                goal = values[Register.GOAL_POSITION]
                self._gripper_sent &= goal == round(self._goals[GRIPPER])

    def _state(self, now: dict[int, dict[Register, int]]) -> ArmState:
        efforts = []
        for number in JOINTS:
            motors = [n for n in (number, SHADOWS.get(number)) if n in now]
            efforts.append(sum(effort(SERVOS[n], now[n][Register.PRESENT_CURRENT])
                               for n in motors))
        return ArmState(
            time.time_ns(),
            np.array([to_radians(now[n][Register.PRESENT_POSITION]) for n in JOINTS]),
            np.array([now[n][Register.PRESENT_VELOCITY] * VELOCITY_UNIT for n in JOINTS]),
            np.array(efforts),
            opening_from_angle(to_radians(now[GRIPPER][Register.PRESENT_POSITION])))

    def write(self, joint_positions: np.ndarray, gripper: float) -> None:
        """
        Send one setpoint; the goals approach a far one no faster than the joints may move.

        :raises ArmError: for a setpoint that is none; while a fault is latched: nothing is sent.
        """
        joints = np.clip(check_setpoint(joint_positions, gripper), JOINT_LOWER, JOINT_UPPER)
        with self._lock:
            bus = self._connected()
            if self._faults:
                raise ArmError('not sent: ' + '; '.join(map(str, self._faults.list())))
            self._approach(joints)
            goals = {n: round(self._goals[n]) for n in JOINTS}
            opening = to_ticks(horn_angle(gripper))
            if opening != self._goals[GRIPPER] or not self._gripper_sent:
                # Once only: every new goal would start its longer profile again.
                self._goals[GRIPPER] = goals[GRIPPER] = opening
                self._gripper_sent = True
            try:
                bus.sync_write(Register.GOAL_POSITION, goals)
            except PortError as error:
                self._faults.see_port(str(error))
                raise

    def _approach(self, joints: np.ndarray) -> None:
        now = time.monotonic()
        elapsed = min(max(now - self._wrote_at, self._cycle_s), 3 * self._cycle_s)
        self._wrote_at = now
        most = MAX_JOINT_VELOCITY * elapsed / RADIANS_PER_TICK + 1.0
        for number, angle in zip(JOINTS, joints, strict=True):
            wanted = min(max(angle / RADIANS_PER_TICK + CENTRE, _LOWEST[number]), _HIGHEST[number])
            step = wanted - self._goals[number]
            if abs(step) > most:
                self._counts['slewed'] += 1
                step = most if step > 0.0 else -most
            self._goals[number] += step

    def faults(self) -> list[ArmFault]:
        """Return the latched faults; empty when healthy."""
        with self._lock:
            return self._faults.list()

    def clear_faults(self) -> str:
        """
        Open the port again, restart servos in fault one by one, and hold where the arm is.

        :returns: what was done.
        :raises ArmError: when a fault is left, saying what a person must do. Where a restart
            would drop the arm, a second call within 30 s says that it is held.
        """
        with self._lock:
            if self._bus is None:
                raise ArmError('the arm is not connected; call connect() first')
            if not self._faults:
                return 'nothing to clear'
            done = []
            try:
                if not self._bus.is_open:
                    find_port(self._port)
                    self._bus.open()
                    done.append(f'opened {self._port} again')
                check_models(scan(self._bus, SERVOS), self._port)
                done += self._restart()
                check_configuration(differences(self._bus))
                self._start()
            except PortError as error:
                self._faults.see_port(str(error))
                raise
            return ', '.join([*done, 'holding where the arm is'])

    def _restart(self) -> list[str]:
        supported = time.monotonic() - self._asked_support_at < SUPPORT_S
        try:
            done = restart_faulty(self._bus, supported)
        except UnsupportedError as error:
            self._asked_support_at = time.monotonic()
            raise ArmError(f'{error}: hold the arm by hand, then clear the faults again within '
                           f'{SUPPORT_S:.0f} s') from error
        self._asked_support_at = -SUPPORT_S
        return done

    def health(self) -> dict[str, str]:
        """Return counters, cycle times (ms on the bus), and each servo's supply and heat."""
        with self._lock:
            bus = self._bus.counts if self._bus is not None else {}
            values = {name: str(count) for name, count in (*self._counts.items(), *bus.items())}
            if self._durations:
                p50, p99, worst = np.percentile(self._durations, (50, 99, 100)) * 1000.0
                values |= {'cycle_p50_ms': f'{p50:.1f}', 'cycle_p99_ms': f'{p99:.1f}',
                           'cycle_worst_ms': f'{worst:.1f}'}
            for number, status in sorted(self._statuses.items()):
                values |= _describe(number, status)
            return values

    def _connected(self) -> ServoBus:
        if self._bus is None or not (self._bus.is_open or self._faults):
            raise ArmError('the arm is not connected; call connect() first')
        return self._bus

    def _end_cycle(self) -> None:
        self._counts['cycles'] += 1
        self._began = time.monotonic()


def _describe(number: int, status: dict[Register, int]) -> dict[str, str]:
    servo = SERVOS[number]
    current = 'current_ma' if servo.model == XM430 else 'load_percent'
    volts = status[Register.PRESENT_INPUT_VOLTAGE] * VOLTAGE_UNIT
    return {f'{servo.name}.voltage': f'{volts:.1f}',
            f'{servo.name}.temperature': str(status[Register.PRESENT_TEMPERATURE]),
            f'{servo.name}.{current}': f'{effort(servo, status[Register.PRESENT_CURRENT]):.1f}'}
