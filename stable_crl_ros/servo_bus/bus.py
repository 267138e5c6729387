"""The emulated servos on one wire: instruction packets in, timed status packets out."""

from collections import Counter, deque
import struct
import threading
from typing import NamedTuple

from stable_crl_ros.servo_bus.arms import ServoArm
from stable_crl_ros.servo_bus.faults import Faults
from stable_crl_ros.servo_bus.packets import (
    BROADCAST,
    encode_fast_status,
    encode_status,
    Error,
    Instruction,
    LONGEST,
    Packet,
    PacketReader,
)
from stable_crl_ros.servo_bus.servo import Drive, Servo, ServoSpec

BYTE_S = 10e-6  # on the wire at 1 Mbps: start bit, 8 bits, stop bit
TURNAROUND_S = 20e-6  # a servo needs to begin its answer, beside its Return_Delay_Time
MISSING_S = 1e-3  # the others wait for a servo that does not answer its turn
PROTECT_S = 0.01  # between two looks at heat, voltage and load
_BAUD_RATES = (9600, 57600, 115200, 1_000_000, 2_000_000, 3_000_000, 4_000_000, 4_500_000)
_GOAL_POSITION = 116
_CLEAR_TURNS = b'\x01\x44\x58\x4c\x22'
_HISTORY = 50_000


class Answer(NamedTuple):
    """
    Bytes for the host.

    :param due: monotonic time their last bit is on the wire, s.
    """

    due: float
    data: bytes


class GoalWrite(NamedTuple):
    """
    One Goal_Position that was taken.

    :param time: monotonic, s.
    :param servo: id.
    :param ticks: the goal.
    """

    time: float
    servo: int
    ticks: int


class Bus:
    """
    Servos that hear instructions and answer them; guard it with `lock` from several threads.

    :param specs: the servos.
    :param arm: what they turn.
    :param timed: let answers take the time they take on a wire of 1 Mbps.
    :param seed: of faults left to chance.
    """

    def __init__(self, specs: tuple[ServoSpec, ...], arm: ServoArm, *, timed: bool = True,
                 seed: int = 0) -> None:
        self.lock = threading.RLock()
        self.faults = Faults(seed)
        self.counts: Counter[str] = Counter()
        self.goals: deque[GoalWrite] = deque(maxlen=_HISTORY)
        self.powered = True
        self.arm, self._timed = arm, timed
        self._reader = PacketReader()
        self._free_at = 0.0
        self._protected = -PROTECT_S
        self._felt = arm.feel(0.0)
        self.servos = [Servo(spec, lambda joint=spec.joint: self._felt[joint])
                       for spec in specs]
        arm.attach(self._drives)

    def servo(self, number: int) -> Servo | None:
        """Return the servo with this id."""
        return next((servo for servo in self.servos if servo['ID'] == number), None)

    def _drives(self, now: float) -> dict[int, Drive]:
        with self.lock:
            return {servo.spec.servo: servo.drive(now) if self.powered
                    else Drive(False, 0.0, 0.0) for servo in self.servos}

    def update(self, now: float) -> None:
        """Let motors move and servos notice what is wrong, up to now."""
        felt = self.arm.feel(now)
        with self.lock:
            self._felt = felt
            if now - self._protected >= PROTECT_S:
                self._protected = now
                for servo in self.servos:
                    servo.protect(now)

    def receive(self, data: bytes, now: float, baud_rate: int = 1_000_000) -> list[Answer]:
        """
        Hear bytes from the host.

        :param now: monotonic time they came, s.
        :param baud_rate: at which they were sent; servos set to another hear nothing.
        :returns: the answers, in order.
        """
        packets = self._reader.feed(data, now)
        if not packets:
            return []
        self.update(now)
        answers = []
        with self.lock:
            for packet in packets:
                self._free_at = max(self._free_at, now) + packet.size * BYTE_S
                answers += self._handle(packet, now, baud_rate)
        return answers

    def _handle(self, packet: Packet, now: float, baud_rate: int) -> list[Answer]:
        if packet.instruction == Instruction.STATUS or not self.powered:
            return []
        self.counts[_name(packet)] += 1
        ears = [servo for servo in self.servos if servo.listening(now)
                and _BAUD_RATES[servo['Baud_Rate']] == baud_rate
                and not self.faults.deafens(servo['ID'])]
        for servo in ears:
            if packet.intact and packet.servo in (BROADCAST, servo['ID'], servo['Secondary_ID']):
                servo.heard(now)
        if packet.servo == BROADCAST:
            return self._broadcast(packet, ears, now) if packet.intact else []
        owner = next((servo for servo in ears if servo['ID'] == packet.servo), None)
        intact = packet.intact and not (owner and self.faults.garbles(owner['ID']))
        for servo in ears:
            if servo is not owner and servo['Secondary_ID'] == packet.servo and intact:
                self._carry_out(servo, packet, now, as_shadow=True)
        if owner is None:
            return []
        if not intact:
            return self._answer([(owner, Error.CRC, b'')], now)
        level = owner['Status_Return_Level']
        error, data = self._carry_out(owner, packet, now)
        needed = {Instruction.PING: 0, Instruction.READ: 1}.get(packet.instruction, 2)
        return self._answer([(owner, error, data)], now) if level >= needed else []

    def _carry_out(self, servo: Servo, packet: Packet, now: float,
                   as_shadow: bool = False) -> tuple[Error, bytes]:
        parameters = packet.parameters
        match packet.instruction:
            case Instruction.PING:
                return Error.NONE, servo.read(0, 2, now)[1] + servo.read(6, 1, now)[1]
            case Instruction.READ if len(parameters) == 4:
                return servo.read(*struct.unpack('<HH', parameters), now)
            case Instruction.WRITE if len(parameters) > 2:
                return self._write(servo, parameters, now, as_shadow), b''
            case Instruction.REG_WRITE if len(parameters) > 2:
                servo.register_write(int.from_bytes(parameters[:2], 'little'), parameters[2:])
                return Error.NONE, b''
            case Instruction.ACTION:
                return servo.action(now), b''
            case Instruction.REBOOT:
                servo.reboot(now)
                return Error.NONE, b''
            case Instruction.CLEAR if parameters == _CLEAR_TURNS:
                servo.measure(now)
                return Error.RESULT if servo['Moving'] else Error.NONE, b''
            case Instruction.FACTORY_RESET | Instruction.CLEAR:
                return Error.RESULT, b''  # an arm that forgot its ids would have to be rebuilt
            case Instruction.READ | Instruction.WRITE | Instruction.REG_WRITE:
                return Error.LENGTH, b''
        return Error.INSTRUCTION, b''

    def _write(self, servo: Servo, parameters: bytes, now: float,
               as_shadow: bool = False) -> Error:
        address, data = int.from_bytes(parameters[:2], 'little'), parameters[2:]
        error = servo.write(address, data, now, as_shadow)
        if error:
            self.counts['refused_writes'] += 1
        elif address <= _GOAL_POSITION < address + len(data):
            self.goals.append(GoalWrite(now, servo['ID'], servo['Goal_Position']))
        return error

    def _broadcast(self, packet: Packet, ears: list[Servo], now: float) -> list[Answer]:
        match packet.instruction:
            case Instruction.PING:
                ordered = sorted(ears, key=lambda servo: servo['ID'])
                return self._answer([(servo, *self._carry_out(servo, packet, now))
                                     for servo in ordered], now)
            case Instruction.SYNC_READ | Instruction.FAST_SYNC_READ if len(packet.parameters) > 4:
                address, length = struct.unpack_from('<HH', packet.parameters)
                return self._read_all(packet, ears, [
                    (number, address, length) for number in packet.parameters[4:]], now)
            case Instruction.BULK_READ | Instruction.FAST_BULK_READ:
                whole = len(packet.parameters) // 5 * 5
                return self._read_all(packet, ears, list(
                    struct.iter_unpack('<BHH', packet.parameters[:whole])), now)
            case Instruction.SYNC_WRITE | Instruction.BULK_WRITE:
                self._write_all(packet, ears, now)
            case Instruction.FACTORY_RESET:
                pass
            case _:
                for servo in ears:
                    self._carry_out(servo, packet, now)
        return []

    def _write_all(self, packet: Packet, ears: list[Servo], now: float) -> None:
        for number, parameters in _split_writes(packet):
            for servo in ears:
                if servo['ID'] == number:
                    self._write(servo, parameters, now)
                elif servo['Secondary_ID'] == number:
                    self._write(servo, parameters, now, as_shadow=True)

    def _read_all(self, packet: Packet, ears: list[Servo], wanted: list[tuple[int, int, int]],
                  now: float) -> list[Answer]:
        present = {servo['ID']: servo for servo in ears if servo['Status_Return_Level'] >= 1}
        turns = []
        for number, address, length in wanted:
            servo = present.get(number)
            error, data = servo.read(address, length, now) if servo else (Error.NONE, b'')
            turns.append((servo, error, data))
        if packet.instruction not in (Instruction.FAST_SYNC_READ, Instruction.FAST_BULK_READ):
            return self._answer(turns, now)
        if sum(length + 4 for _, _, length in wanted) > LONGEST:
            return []
        return self._answer_together(turns, wanted, now)

    def _answer_together(self, turns: list, wanted: list[tuple[int, int, int]],
                         now: float) -> list[Answer]:
        """Answer as one packet, which ends where a servo is missing."""
        parts = encode_fast_status([
            (number, error | servo.alert if servo else 0, data if data else bytes(length))
            for (servo, error, data), (number, _, length) in zip(turns, wanted, strict=True)])
        answers = []
        for (servo, _, _), part in zip(turns, parts, strict=True):
            sent = self._send(servo, part, now) if servo else []
            if not sent:
                break
            answers += sent
        return answers

    def _answer(self, turns: list[tuple[Servo | None, Error, bytes]], now: float) -> list[Answer]:
        answers = []
        for servo, error, data in turns:
            if servo is None:
                self._free_at += MISSING_S
                continue
            answers += self._send(servo, encode_status(servo['ID'], error | servo.alert, data),
                                  now)
        return answers

    def _send(self, servo: Servo, data: bytes, now: float) -> list[Answer]:
        damaged, late = self.faults.damage(servo['ID'], data)
        delay = servo['Return_Delay_Time'] * 2e-6 + TURNAROUND_S
        self._free_at += delay + len(data) * BYTE_S
        self.counts['answers'] += 1
        due = (self._free_at if self._timed else now) + late  # held back behind the wire
        return [Answer(due, damaged)] if damaged else []


def _name(packet: Packet) -> str:
    if not packet.intact:
        return 'crc_errors'
    try:
        return Instruction(packet.instruction).name.lower()
    except ValueError:
        return 'unknown'


def _split_writes(packet: Packet) -> list[tuple[int, bytes]]:
    """Return id and write parameters (address, data) of each servo; an incomplete one is left."""
    parameters, writes = packet.parameters, []
    if packet.instruction == Instruction.SYNC_WRITE and len(parameters) > 4:
        length = int.from_bytes(parameters[2:4], 'little')
        for at in range(4, len(parameters) - length, length + 1):
            writes.append((parameters[at], parameters[:2] + parameters[at + 1:at + 1 + length]))
        return writes
    at = 0
    while at + 5 <= len(parameters):
        number, _, length = struct.unpack_from('<BHH', parameters, at)
        data = parameters[at + 5:at + 5 + length]
        if len(data) == length:
            writes.append((number, parameters[at + 1:at + 3] + data))
        at += 5 + length
    return writes
