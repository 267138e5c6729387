"""The real WidowX 250s: nine Dynamixel servos on a USB converter, as an arm driver."""

from collections import Counter, deque
import contextlib
import threading
import time

import numpy as np
from stable_crl_ros.robot.arm import ArmError, ArmFault, ArmState, check_setpoint
from stable_crl_ros.robot.dynamixel_bus import BusError, ServoBus
from stable_crl_ros.robot.dynamixel_cycle import CycleReader, describe, PATIENCE, to_state
from stable_crl_ros.robot.dynamixel_faults import Faults
from stable_crl_ros.robot.dynamixel_port import find_port, PortError
from stable_crl_ros.robot.dynamixel_recovery import restart_faulty, UnsupportedError
from stable_crl_ros.robot.dynamixel_setup import (
    check_configuration,
    check_models,
    differences,
    scan,
    soft_start,
)
from stable_crl_ros.robot.dynamixel_setup import write_configuration as write_differences
from stable_crl_ros.robot.dynamixel_table import (
    CENTRE,
    GRIPPER,
    JOINTS,
    LEADERS,
    profile_times,
    RADIANS_PER_TICK,
    Register,
    SERVOS,
    to_radians,
    to_ticks,
    WATCHDOG_UNIT,
)
from stable_crl_ros.robot.gripper import horn_angle, opening_from_angle
from stable_crl_ros.robot.kinematics import JOINT_LOWER, JOINT_UPPER, MAX_JOINT_VELOCITY

SUPPORT_S = 30.0  # a second clear_faults within this time says that the arm is held
_CYCLES_KEPT = 1000


class DynamixelArm:
    """
    `robot.arm.ArmDriver` for a WidowX 250s on its servo bus.

    A cycle is one `read` (all positions, velocities and efforts in one sync read; torque, error,
    watchdog, voltage and temperature of one servo after the other) and one `write` (all goals in
    one sync write). Efforts are mA; % of the greatest load for wrist_rotate, which has no current
    sensor; sums of both motors for shoulder and elbow. Whatever ends it, the arm holds: after
    `close` for ever, after a crash or a pulled cable too, once the servos have stopped where they
    are, `watchdog_s` later. A fault latches until `clear_faults`; a single cycle that failed
    raises, and is no fault.

    :param port: device or link; '' for /dev/ttyDXL or the only converter plugged in.
    :param baud_rate: bit/s.
    :param cycle_s: time between two calls of `write`, s.
    :param write_configuration: write registers that differ, instead of refusing to connect;
        torque must be off, so the arm must lie on its rest.
    :param watchdog_s: silence after which the servos stop, three cycles .. 2.54 s; 0 for never.
    :raises ArmError: for a cycle or a watchdog that the servos cannot keep.
    """

    def __init__(
        self, port: str = '', *, baud_rate: int = 1_000_000, cycle_s: float = 0.02,
        write_configuration: bool = False, watchdog_s: float = 0.5,
    ) -> None:
        _check_times(cycle_s, watchdog_s)
        self._port, self._baud_rate, self._cycle_s = port, baud_rate, cycle_s
        self._write_configuration, self._watchdog_s = write_configuration, watchdog_s
        self._lock = threading.RLock()
        self._bus: ServoBus | None = None
        self._faults = Faults(watchdog_s)
        self._reader = CycleReader(self._faults, cycle_s, watchdog_s)
        self._counts: Counter[str] = Counter(cycles=0, missed=0, slewed=0)
        self._durations: deque[float] = deque(maxlen=_CYCLES_KEPT)
        self._goals: dict[int, float] = {}  # ticks of every leader, as last sent
        self._began = self._used_s = self._wrote_at = 0.0
        self._asked_support_at = -SUPPORT_S

    def connect(self) -> None:
        """
        Open the port, check arm and configuration, and hold the present position.

        Servos that report a hardware error are left for `clear_faults`.

        :raises ArmError: naming what is wrong; torque is left as it was.
        """
        with self._lock:
            if self._bus is not None and self._bus.is_open and not self._faults:
                return
            self.close()
            self._port = find_port(self._port)
            self._bus = ServoBus(self._port, self._baud_rate, PATIENCE * self._cycle_s)
            try:
                self._bus.open()
                check_models(scan(self._bus), self._port)
                found = differences(self._bus)
                if found and self._write_configuration:
                    write_differences(self._bus, found)
                    found = differences(self._bus)
                check_configuration(found)
                self._faults.clear()
                self._reader.see_errors(self._bus)
                if not self._faults:
                    self._start()
            except BaseException:
                self._bus.close()
                self._bus = None
                raise

    def _start(self) -> None:
        goals = soft_start(self._bus, profile_times(self._cycle_s), self._watchdog_s)
        self._goals = {number: float(goal) for number, goal in goals.items()}
        self._faults.begin()
        self._reader.begin()
        self._wrote_at = time.monotonic()

    def close(self) -> None:
        """Disarm the watchdog and let go of the port; the arm goes on holding with torque."""
        with self._lock:
            if self._bus is None:
                return
            try:
                if self._bus.is_open:
                    self._disarm()
            except PortError:
                pass  # what cannot be reached is stopped by its watchdog, and holds
            finally:
                self._bus.close()
                self._bus = None

    def _disarm(self) -> None:
        """Let the servos hold through a silence; it also clears a watchdog that has tripped."""
        self._faults.disarm()
        for number in SERVOS:
            with contextlib.suppress(BusError):  # one that fails must not leave out the others
                self._bus.set(number, Register.BUS_WATCHDOG, 0)

    def read(self) -> ArmState:
        """
        Read all servos, and the status of one of them.

        :raises ArmError: when a joint did not answer in time; when the port is gone.
        """
        with self._lock:
            bus = self._connected()
            self._begin_cycle()
            try:
                now = self._reader.read(bus, self._began)
                self._reader.sweep(bus, self._began)
            except PortError as error:
                self._faults.see_port(str(error))
                raise
            finally:
                self._used_s = time.monotonic() - self._began
            missing = [str(SERVOS[number]) for number in LEADERS if number not in now]
            if missing:
                self._counts['missed'] += 1
                raise ArmError('no answer within this servo cycle from ' + ', '.join(missing))
            return to_state(now)

    def _begin_cycle(self) -> None:
        if self._counts['cycles']:
            self._durations.append(self._used_s)
        self._counts['cycles'] += 1
        self._began = time.monotonic()

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
            began = time.monotonic()
            self._approach(joints, began)
            goals = {number: round(self._goals[number]) for number in JOINTS}
            opening = to_ticks(horn_angle(gripper))
            if opening != self._goals[GRIPPER] or self._gripper_missed():
                # Not in every cycle: each new goal would start its longer profile again.
                self._goals[GRIPPER] = goals[GRIPPER] = opening
            try:
                bus.sync_write(Register.GOAL_POSITION, goals)
            except PortError as error:
                self._faults.see_port(str(error))
                raise
            self._used_s += time.monotonic() - began

    def _approach(self, joints: np.ndarray, now: float) -> None:
        elapsed = min(max(now - self._wrote_at, self._cycle_s), 3 * self._cycle_s)
        self._wrote_at = now
        most = MAX_JOINT_VELOCITY * elapsed / RADIANS_PER_TICK + 1.0
        for number, angle in zip(JOINTS, joints, strict=True):
            servo = SERVOS[number]  # a goal outside its limits would be ignored without a word
            wanted = min(max(angle / RADIANS_PER_TICK + CENTRE, servo.low), servo.high)
            step = wanted - self._goals[number]
            if abs(step) > most:
                self._counts['slewed'] += 1
                step = most if step > 0.0 else -most
            self._goals[number] += step

    def _gripper_missed(self) -> bool:
        """Say whether the gripper's own register, just read, lacks its goal: a lost packet."""
        return (GRIPPER in self._reader.swept and self._goals[GRIPPER]
                != self._reader.statuses[GRIPPER][Register.GOAL_POSITION])

    def setpoint(self) -> tuple[np.ndarray, float] | None:
        """Return the goals of the servos; None before they have torque."""
        with self._lock:
            if not self._goals:
                return None
            joints = [(self._goals[number] - CENTRE) * RADIANS_PER_TICK for number in JOINTS]
            return np.array(joints), opening_from_angle(to_radians(self._goals[GRIPPER]))

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
                self._disarm()  # restarts take longer than the watchdogs wait
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
            counts = {**self._counts, **self._reader.counts, **bus}
            values = {name: str(count) for name, count in counts.items()}
            if self._durations:
                p50, p99, worst = np.percentile(self._durations, (50, 99, 100)) * 1000.0
                values |= {'cycle_p50_ms': f'{p50:.1f}', 'cycle_p99_ms': f'{p99:.1f}',
                           'cycle_worst_ms': f'{worst:.1f}'}
            for number, status in sorted(self._reader.statuses.items()):
                values |= describe(SERVOS[number], status)
            return values

    def _connected(self) -> ServoBus:
        if self._bus is None:
            raise ArmError('the arm is not connected; call connect() first')
        return self._bus


def _check_times(cycle_s: float, watchdog_s: float) -> None:
    if not 0.005 <= cycle_s <= 0.1:
        raise ArmError(f'cycle_s must be 0.005 to 0.1 s (200 to 10 Hz), got {cycle_s}')
    shortest, longest = max(WATCHDOG_UNIT, 3 * cycle_s), 127 * WATCHDOG_UNIT
    if watchdog_s and not shortest - 1e-9 <= watchdog_s <= longest + 1e-9:
        raise ArmError(f'watchdog_s must be 0 (off) or {shortest:.2f} to {longest:.2f} s, '
                       f'got {watchdog_s}')
