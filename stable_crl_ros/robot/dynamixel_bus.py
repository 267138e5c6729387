"""Protocol 2.0 through dynamixel_sdk: every exchange ends in time, is retried and is counted."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
import termios
import time
from typing import NamedTuple

from dynamixel_sdk import (
    COMM_RX_CORRUPT,
    COMM_RX_TIMEOUT,
    COMM_SUCCESS,
    INST_PING,
    INST_READ,
    INST_REBOOT,
    INST_WRITE,
    Protocol2PacketHandler,
)
from stable_crl_ros.robot.arm import ArmError
from stable_crl_ros.robot.dynamixel_port import LockedPort, PortError
from stable_crl_ros.robot.dynamixel_table import Block, Register, SERVOS

COUNTERS = ('lost', 'crc_errors', 'timeouts', 'retries')
_TRIES = 3
_UNHURRIED_S = 0.05  # patience outside the servo cycle
_HEADER = 11  # bytes of a status packet without parameters
_ALERT = 0x80
_BROKEN = 3  # the servo's word for an instruction that came damaged, and was not done
_PING_SIZE = 3  # model and firmware
_PARAMETERS = 8  # index of a status packet's error byte, which the parameters follow
_REFUSALS = {1: 'could not do it', 2: 'does not know the instruction', 3: 'got a broken packet',
             4: 'finds the value out of range', 5: 'finds the data too short or too long',
             6: 'finds the value beyond its limit', 7: 'has it locked or read-only'}


class BusError(ArmError):
    """A servo does not answer, or refuses."""


class SilentError(BusError):
    """A servo does not answer."""


class Answer(NamedTuple):
    """What one servo said: the bytes asked for, and whether it has a hardware error."""

    data: bytes
    alert: bool


class ServoBus:
    """
    The bus of one arm, used by one thread.

    :param port: device or link.
    :param baud_rate: bit/s.
    :param patience_s: how long one answer of a servo cycle may take beyond its bytes, s.
    """

    def __init__(self, port: str, baud_rate: int = 1_000_000, patience_s: float = 0.008) -> None:
        self.counts: Counter[str] = Counter({name: 0 for name in COUNTERS})
        self._patience_s = patience_s
        self._port = LockedPort(port, baud_rate, _UNHURRIED_S)
        self._packets = Protocol2PacketHandler()

    @property
    def port(self) -> str:
        """The name it was opened by."""
        return self._port.port_name

    @property
    def baud_rate(self) -> int:
        """The rate, bit/s."""
        return self._port.baudrate

    @property
    def is_open(self) -> bool:
        """Say whether the port is open; it closes by itself when the cable is pulled."""
        return self._port.is_open

    def open(self) -> None:
        """
        Open and lock the port.

        :raises PortError: when it cannot be opened, or another process holds it.
        """
        self._port.open()

    def close(self) -> None:
        """Close the port; calling it twice is harmless."""
        self._port.close()

    def ping(self, number: int, tries: int = _TRIES) -> int | None:
        """Return the model number of a servo, or None when there is none."""
        for _ in range(tries):
            data, result, error = self._talk(self._exchange, number, INST_PING, [])
            if result == COMM_SUCCESS and not error & ~_ALERT and len(data) == _PING_SIZE:
                return data[0] + 256 * data[1]
        return None

    def read(self, number: int, block: Block, deadline: float | None = None) -> Answer:
        """
        Read neighbouring registers of one servo.

        :param deadline: monotonic s; None for as many tries as are sensible.
        :raises BusError: when no answer came.
        """
        data, error = self._ask(INST_READ, number, [*_two(block.address), *_two(block.size)],
                                size=block.size, deadline=deadline)
        return Answer(bytes(data), bool(error & _ALERT))

    def get(self, number: int, register: Register) -> int:
        """Read one register."""
        block = Block(register.address, register.size)
        return block.decode(self.read(number, block).data)[register]

    def set(self, number: int, register: Register, value: int) -> None:
        """
        Write one register, and have it confirmed.

        :raises BusError: when there is no answer, or the servo refuses.
        """
        self._ask(INST_WRITE, number, [*_two(register.address), *_encode(register, value)],
                  what=f'{register.label} = {value}')

    def reboot(self, number: int) -> None:
        """Restart one servo, and those whose secondary id this is; torque goes off."""
        self._ask(INST_REBOOT, number, [], what='reboot')

    def sync_write(self, register: Register, values: dict[int, int]) -> None:
        """Write one register of several servos in one packet, which nobody confirms."""
        parameters = [byte for number, value in values.items()
                      for byte in (number, *_encode(register, value))]
        self._talk(self._packets.syncWriteTxOnly, register.address, register.size, parameters,
                   len(parameters))

    def sync_read(
        self, numbers: Iterable[int], block: Block, deadline: float,
    ) -> dict[int, Answer]:
        """
        Read the same registers of several servos, again for those that are missing.

        :param deadline: monotonic s, after which nothing is waited for.
        :returns: the answers that came in time.
        """
        waiting, answers = list(numbers), {}
        self._port.patience_s, self._port.deadline = self._patience_s, deadline
        try:
            while True:
                self._talk(self._packets.syncReadTx, block.address, block.size, waiting,
                           len(waiting), False)
                self._collect(waiting, block.size, answers)
                waiting = [number for number in waiting if number not in answers]
                if not waiting or time.monotonic() >= deadline:
                    return answers
                # Servos answer in turn, each after the one before: a dead one silences all
                # behind it (DynamixelSDK #364), so it is asked last.
                waiting.append(waiting.pop(0))
                self.counts['retries'] += 1
        finally:
            self._port.is_using = False
            self._port.patience_s, self._port.deadline = _UNHURRIED_S, float('inf')
            self.counts['lost'] += len(waiting)

    def _collect(self, waiting: Sequence[int], size: int, answers: dict[int, Answer]) -> None:
        """Take answers as they come, until all are there or the bus is silent."""
        missing = set(waiting)
        while missing:
            self._port.setPacketTimeout(size + _HEADER)
            packet, result = self._talk(self._packets.rxPacket, False)
            self._count(result)
            if result == COMM_RX_TIMEOUT or self._port.ran_out:
                return
            if result != COMM_SUCCESS or packet[4] not in missing:
                continue
            data = bytes(packet[_PARAMETERS + 1:_PARAMETERS + 1 + size])
            length = packet[5] + 256 * packet[6]
            if length == size + 4:
                answers[packet[4]] = Answer(data, bool(packet[_PARAMETERS] & _ALERT))
                missing.discard(packet[4])

    def _ask(self, instruction: int, number: int, parameters: list[int], size: int = 0,
             deadline: float | None = None, what: str = '') -> tuple[list[int], int]:
        """Have one servo answer; return its data, of this size, and the error byte."""
        if deadline is not None:
            self._port.patience_s, self._port.deadline = self._patience_s, deadline
        try:
            for attempt in range(_TRIES):
                data, result, error = self._talk(self._exchange, number, instruction, parameters)
                refused = error & ~_ALERT
                if result == COMM_SUCCESS and refused not in (0, _BROKEN):
                    raise BusError(_refusal(number, refused, what))
                if result == COMM_SUCCESS and not refused and len(data) == size:
                    return data, error  # of another size it is the late answer to another question
                if deadline is not None and time.monotonic() >= deadline:
                    break
                self.counts['retries'] += attempt + 1 < _TRIES
        finally:
            self._port.patience_s, self._port.deadline = _UNHURRIED_S, float('inf')
        self.counts['lost'] += 1
        if result == COMM_SUCCESS:
            raise BusError(_refusal(number, refused, what) if refused else
                           f'{_name(number)} sent {len(data)} bytes instead of {size}')
        raise SilentError(f'{_name(number)} does not answer'
                          + (f' to {what}' if what else ''))

    def _exchange(
        self, port: LockedPort, number: int, instruction: int, parameters: list[int],
    ) -> tuple[list[int], int, int]:
        """
        Send one instruction; return the answer's data, how that went, and the error byte.

        The SDK's own readings take as many bytes as they asked for out of any answer, so that a
        late one that is shorter gives its checksum as data.
        """
        answer, result, error = self._packets.txRxPacket(
            port, [0] * 4 + [number, *_two(len(parameters) + 3), instruction, *parameters, 0, 0])
        if result != COMM_SUCCESS:
            return [], result, 0
        first, length = _PARAMETERS + 1, answer[5] + 256 * answer[6]
        return answer[first:first + length - 4], result, error

    def _talk(self, exchange: Callable, *arguments):
        """
        Call the SDK, and turn a pulled cable into an error of ours.

        :raises PortError: when the port is gone; it is closed then.
        """
        if not self._port.is_open:
            raise PortError(f'{self.port} is closed: the cable was pulled, or connect() was not '
                            'called')
        self._port.is_using = False
        try:
            outcome = exchange(self._port, *arguments)
        except (OSError, termios.error, ValueError, TypeError) as error:
            # TypeError: pyserial closes under our feet when the device vanishes.
            self._port.close()
            raise PortError(f'{self.port} is gone ({error}): plug the cable in again') from error
        if isinstance(outcome, tuple) and exchange.__name__ != 'rxPacket':
            self._count(outcome[-2])
        return outcome

    def _count(self, result: int) -> None:
        if result == COMM_RX_TIMEOUT or (result == COMM_RX_CORRUPT and self._port.ran_out):
            self.counts['timeouts'] += 1
        elif result == COMM_RX_CORRUPT:
            self.counts['crc_errors'] += 1


def _two(value: int) -> list[int]:
    return list(value.to_bytes(2, 'little'))


def _encode(register: Register, value: int) -> list[int]:
    return list(value.to_bytes(register.size, 'little',
                               signed=register.signed and value < 0))


def _name(number: int) -> str:
    return str(SERVOS.get(number, f'servo {number}'))


def _refusal(number: int, error: int, what: str) -> str:
    reason = _REFUSALS.get(error, f'answers error {error}')
    return f'{_name(number)} {reason}' + (f': {what}' if what else '')
