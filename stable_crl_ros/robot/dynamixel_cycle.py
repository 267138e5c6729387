"""What one servo cycle reads: the state of all servos, and the status of one after the other."""

from collections import Counter
import time

import numpy as np
from stable_crl_ros.robot.arm import ArmState
from stable_crl_ros.robot.dynamixel_bus import BusError, ServoBus
from stable_crl_ros.robot.dynamixel_faults import Clock, Faults
from stable_crl_ros.robot.dynamixel_table import (
    effort,
    GRIPPER,
    JOINTS,
    Register,
    Servo,
    SERVOS,
    SHADOWS,
    STATE,
    STATUS,
    to_radians,
    VELOCITY_UNIT,
    VOLTAGE_UNIT,
    XM430,
)
from stable_crl_ros.robot.gripper import opening_from_angle

# Shares of a servo cycle: one patient wait for an answer, then when to give up on the state and
# on the status of one servo. What is left is for the goals and for the caller.
PATIENCE, _STATE_BY, _STATUS_BY = 0.4, 0.75, 0.9

Values = dict[Register, int]


class CycleReader:
    """
    Read servo cycle after servo cycle, and tell `faults` what is found.

    :param faults: of the arm.
    :param cycle_s: length of a cycle, s.
    :param watchdog_s: silence after which servos may have stopped, s; 0 for never.
    """

    def __init__(self, faults: Faults, cycle_s: float, watchdog_s: float) -> None:
        self.counts: Counter[str] = Counter(stale=0)
        self.statuses: dict[int, Values] = {}
        self.swept: set[int] = set()  # whose status was read in the last cycle
        self._faults, self._cycle_s, self._watchdog_s = faults, cycle_s, watchdog_s
        self.begin()

    def begin(self) -> None:
        """Begin anew, after servos were started or restarted."""
        self._clock = Clock()
        self._doubtful: set[int] = set()
        self._turn = 0
        self._heard_at = time.monotonic()

    def read(self, bus: ServoBus, began: float) -> dict[int, Values]:
        """
        Read the state of all servos.

        :param began: when the cycle began, monotonic s.
        :returns: registers of `STATE` by id, of the servos whose new answer came in time.
        :raises PortError: when the port is gone.
        """
        if self._watchdog_s and began - self._heard_at > self._watchdog_s:
            self._doubtful.update(SERVOS)
        answers = bus.sync_read(SERVOS, STATE, began + _STATE_BY * self._cycle_s)
        received, values = time.monotonic(), {}
        for number, answer in answers.items():
            decoded = STATE.decode(answer.data)
            if self._is_new(number, decoded, began, received):
                values[number] = decoded
            if answer.alert and not self._faults.knows_error(number):
                self._doubtful.add(number)
        self._doubtful.update(SERVOS.keys() - values.keys())
        self._faults.see_answers(set(answers), received)
        self._heard_at = received if answers else self._heard_at
        return values

    def _is_new(self, number: int, values: Values, sent: float, received: float) -> bool:
        if self._clock.plausible(number, values[Register.REALTIME_TICK], sent, received):
            return True
        self.counts['stale'] += 1
        return False

    def sweep(self, bus: ServoBus, began: float) -> None:
        """
        Read the status of the servo whose turn it is, or of those in doubt.

        :raises PortError: when the port is gone.
        """
        deadline = began + _STATUS_BY * self._cycle_s
        self._turn = self._turn % len(SERVOS) + 1
        self.swept.clear()
        for number in sorted(self._doubtful) or [self._turn]:
            if time.monotonic() >= deadline:
                return
            try:
                values = STATUS.decode(bus.read(number, STATUS, deadline).data)
            except BusError:
                continue
            self._doubtful.discard(number)
            self.swept.add(number)
            self.statuses[number] = values
            self._faults.see_status(number, values)

    def see_errors(self, bus: ServoBus) -> None:
        """Take note of the servos that report a hardware error, in their own time."""
        for number in SERVOS:
            values = self.statuses[number] = STATUS.decode(bus.read(number, STATUS).data)
            if values[Register.HARDWARE_ERROR_STATUS]:
                self._faults.see_status(number, values)


def to_state(now: dict[int, Values]) -> ArmState:
    """
    Turn the servos' state into the arm's.

    :param now: registers of `STATE` by id; a shadow's may be missing.
    """
    return ArmState(
        time.time_ns(),
        np.array([to_radians(now[n][Register.PRESENT_POSITION]) for n in JOINTS]),
        np.array([now[n][Register.PRESENT_VELOCITY] * VELOCITY_UNIT for n in JOINTS]),
        np.array([sum(effort(SERVOS[n], now[n][Register.PRESENT_CURRENT])
                      for n in (joint, SHADOWS.get(joint)) if n in now) for joint in JOINTS]),
        opening_from_angle(to_radians(now[GRIPPER][Register.PRESENT_POSITION])))


def describe(servo: Servo, values: Values) -> dict[str, str]:
    """Return supply (V), heat (degC) and current (mA) or load (%) of a servo for people."""
    current = 'current_ma' if servo.model == XM430 else 'load_percent'
    volts = values[Register.PRESENT_INPUT_VOLTAGE] * VOLTAGE_UNIT
    return {f'{servo.name}.voltage': f'{volts:.1f}',
            f'{servo.name}.temperature': str(values[Register.PRESENT_TEMPERATURE]),
            f'{servo.name}.{current}': f'{effort(servo, values[Register.PRESENT_CURRENT]):.1f}',
            f'{servo.name}.torque': 'on' if values[Register.TORQUE_ENABLE] else 'off'}
