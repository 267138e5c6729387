"""What is wrong with the servos: seen once, kept until cleared, told by joint, servo and bits."""

from stable_crl_ros.robot.arm import ArmFault
from stable_crl_ros.robot.dynamixel_table import (
    error_names,
    Register,
    SERVOS,
    TICK_PERIOD,
    WATCHDOG_TRIPPED,
)

# Without an answer for so many cycles and so long a servo counts as dead; a computer that is busy
# loses some in a row.
_SILENT_CYCLES, _SILENT_S = 5, 0.25
_CLOCK_SLACK_MS, _CLOCK_DRIFT = 5.0, 0.01
_THEN_CLEAR = 'then call clear_faults'
_MANY = 3  # servos with the same fault are told as one
_SHARED = {
    'silent': (f'servos do not answer (check the power and the cables, {_THEN_CLEAR})', ''),
    'torque': ('the arm lost power, torque is off', 'reboot'),
}


class Faults:
    """
    The faults of one arm, latched.

    Torque and watchdogs are judged only where they were switched on: see `begin`.

    :param watchdog_s: what the servos' bus watchdogs are set to, s; 0 for off.
    """

    def __init__(self, watchdog_s: float) -> None:
        self._watchdog_s = watchdog_s
        self._faults: dict[tuple[str, int], ArmFault] = {}
        self._misses: dict[int, tuple[int, float]] = {}  # cycles in a row, since when
        self._holding = self._armed = False

    def __bool__(self) -> bool:
        return bool(self._faults)

    def knows_error(self, number: int) -> bool:
        """Say whether a servo's hardware error is among them."""
        return ('hardware', number) in self._faults

    def list(self) -> list[ArmFault]:
        """Return all faults; what many servos have in common as one."""
        faults = dict(self._faults)
        for kind, (message, cure) in _SHARED.items():
            alike = [key for key in faults if key[0] == kind]
            if len(alike) >= _MANY:
                names = ', '.join(str(SERVOS[number]) for _, number in alike)
                faults = {key: fault for key, fault in faults.items() if key not in alike}
                faults[kind, 0] = ArmFault(f'{message}: {names}', cure=cure)
        return list(faults.values())

    def clear(self) -> None:
        """Forget everything; the servos are as they were found."""
        self._faults.clear()
        self._misses.clear()
        self._holding = self._armed = False

    def begin(self) -> None:
        """Forget everything; all servos have their torque and their watchdog now."""
        self.clear()
        self._holding = self._armed = True

    def disarm(self) -> None:
        """Take note that the watchdogs are being switched off."""
        self._armed = False

    def see_answers(self, answered: set[int], now: float) -> None:
        """
        Count, servo by servo, the cycles in a row without an answer.

        :param answered: ids of those that answered in this cycle.
        :param now: monotonic s.
        """
        for number in answered:
            self._misses.pop(number, None)
        for number in sorted(SERVOS.keys() - answered):
            count, since = self._misses.get(number, (0, now))
            self._misses[number] = (count + 1, since)
            if count + 1 >= _SILENT_CYCLES and now - since >= _SILENT_S:
                self._latch('silent', number, f'{SERVOS[number]} does not answer: check its '
                            f'cables and the power, {_THEN_CLEAR}')

    def see_status(self, number: int, values: dict[Register, int]) -> None:
        """Judge one reading of a servo's status block."""
        servo, bits = SERVOS[number], values[Register.HARDWARE_ERROR_STATUS]
        torque = 'on' if values[Register.TORQUE_ENABLE] else 'off'
        if bits:
            self._latch('hardware', number, f'{servo} reports {error_names(bits)} (hardware '
                        f'error 0x{bits:02x}, torque {torque})', bits, 'reboot')
        elif self._holding and torque == 'off':
            self._latch('torque', number, f'{servo} lost its torque: it restarted, lost power or '
                        'was switched off', cure='reboot')
        elif self._armed and values[Register.BUS_WATCHDOG] == WATCHDOG_TRIPPED:
            self._latch('watchdog', 0, 'the servos stopped by themselves and hold: they were sent '
                        f'nothing for {self._watchdog_s:.2g} s', cure='reboot', joint='')
        elif self._armed and self._watchdog_s and not values[Register.BUS_WATCHDOG]:
            self._latch('restart', number, f'{servo} lost its settings: it restarted',
                        cure='reboot')

    def see_port(self, reason: str) -> None:
        """Take note that the port is gone."""
        self._latch('port', 0, f'{reason}, {_THEN_CLEAR}; the servos hold by themselves',
                    joint='')

    def _latch(self, kind: str, number: int, message: str, bits: int = 0, cure: str = '',
               joint: str | None = None) -> None:
        name = SERVOS[number].name.removesuffix('_shadow') if joint is None else joint
        known = self._faults.get((kind, number))
        if known is None or bits & ~known.bits:
            self._faults[kind, number] = ArmFault(
                message, name, number or None, bits | (known.bits if known else 0), cure)


class Clock:
    """
    Tell from a servo's own clock whether its answer is new, and whether it restarted.

    Protocol 2.0 has no sequence numbers: an answer that was delayed looks like the next one.
    """

    def __init__(self) -> None:
        self._last: dict[int, tuple[int, float, float]] = {}

    def plausible(self, number: int, tick: int, sent: float, received: float) -> bool:
        """
        Say whether the tick fits the time since the last one, and remember it when it does.

        One that lags is an old answer; so are all that follow with the same lag. One that leads
        tells that the last one was old: it is not believed, and the next one is the first again.

        :param tick: Realtime Tick, ms.
        :param sent: when the question went out, monotonic s.
        :param received: when the answer was there, monotonic s.
        """
        if number in self._last:
            before, sent_before, received_before = self._last[number]
            least = 1000.0 * (sent - received_before)
            most = 1000.0 * (received - sent_before)
            middle, half = 0.5 * (most + least), 0.5 * (most - least)
            lead = (tick - before - middle + 0.5 * TICK_PERIOD) % TICK_PERIOD - 0.5 * TICK_PERIOD
            slack = _CLOCK_SLACK_MS + _CLOCK_DRIFT * most
            if most < 0.5 * TICK_PERIOD and abs(lead) > half + slack:
                if lead > 0.0:
                    del self._last[number]
                return False
        self._last[number] = (tick, sent, received)
        return True
