"""Dynamixel Protocol 2.0 on the wire, as a servo sees it: CRC, byte stuffing, packets."""

from dataclasses import dataclass
import enum
import struct

HEADER = b'\xff\xff\xfd\x00'
BROADCAST = 0xFE
_PATTERN, _STUFFED = b'\xff\xff\xfd', b'\xff\xff\xfd\xfd'
_PREFIX = 7  # bytes: header, id, length
LONGEST = 1024  # bytes after the length field; longer than any servo takes or sends


class Instruction(enum.IntEnum):
    """What a packet asks for; STATUS is the answer."""

    PING = 0x01
    READ = 0x02
    WRITE = 0x03
    REG_WRITE = 0x04
    ACTION = 0x05
    FACTORY_RESET = 0x06
    REBOOT = 0x08
    CLEAR = 0x10
    STATUS = 0x55
    SYNC_READ = 0x82
    SYNC_WRITE = 0x83
    FAST_SYNC_READ = 0x8A
    BULK_READ = 0x92
    BULK_WRITE = 0x93
    FAST_BULK_READ = 0x9A


class Error(enum.IntEnum):
    """Error number of a status packet; `ALERT` is added while a hardware error lasts."""

    NONE = 0
    RESULT = 1
    INSTRUCTION = 2
    CRC = 3
    RANGE = 4
    LENGTH = 5
    LIMIT = 6
    ACCESS = 7


ALERT = 0x80


def _crc_table() -> list[int]:
    table = []
    for byte in range(256):
        value = byte << 8
        for _ in range(8):
            value = (value << 1 ^ 0x8005 if value & 0x8000 else value << 1) & 0xFFFF
        table.append(value)
    return table


_CRC = _crc_table()


def crc16(data: bytes, start: int = 0) -> int:
    """Return the CRC-16 of polynomial 0x8005, not reflected, continued from `start`."""
    value = start
    for byte in data:
        value = (value << 8 & 0xFFFF) ^ _CRC[value >> 8 ^ byte]
    return value


def with_crc(data: bytes) -> bytes:
    """Return `data` with its CRC behind, low byte first."""
    return data + crc16(data).to_bytes(2, 'little')


@dataclass(frozen=True)
class Packet:
    """
    One packet that was received.

    :param servo: the id it is addressed to, or comes from.
    :param instruction: an `Instruction`, or a number that is none.
    :param parameters: without byte stuffing; a status packet's begin with the error.
    :param intact: whether the CRC was right.
    :param size: bytes it took on the wire.
    """

    servo: int
    instruction: int
    parameters: bytes = b''
    intact: bool = True
    size: int = 0


def encode(servo: int, instruction: int, parameters: bytes = b'') -> bytes:
    """Return the bytes of a packet, stuffed where the header's pattern would appear."""
    body = (bytes([instruction]) + parameters).replace(_PATTERN, _STUFFED)
    return with_crc(HEADER + struct.pack('<BH', servo, len(body) + 2) + body)


def encode_status(servo: int, error: int, parameters: bytes = b'') -> bytes:
    """Return the bytes of one servo's answer."""
    return encode(servo, Instruction.STATUS, bytes([error]) + parameters)


def encode_fast_status(answers: list[tuple[int, int, bytes]]) -> list[bytes]:
    """
    Return one status packet that several servos build together, the part of each.

    Each part ends with the CRC of all before it. By the manual, nothing in it is stuffed.

    :param answers: id, error, data of each servo, in the order they were asked.
    """
    length = sum(len(data) + 4 for _, _, data in answers) + 1
    sent = HEADER + struct.pack('<BHB', BROADCAST, length, Instruction.STATUS)
    parts, begin = [], 0
    for servo, error, data in answers:
        sent = with_crc(sent + bytes([error, servo]) + data)
        parts.append(sent[begin:])
        begin = len(sent)
    return parts


class PacketReader:
    """
    Cut a stream of bytes into packets; what is no packet is skipped.

    :param patience_s: a packet that is not complete this long after its last byte is forgotten.
    """

    def __init__(self, patience_s: float = 0.05) -> None:
        self._waiting = b''
        self._patience_s = patience_s
        self._heard = 0.0

    def feed(self, data: bytes, now: float) -> list[Packet]:
        """
        Return the packets that are complete.

        :param data: newly arrived bytes.
        :param now: monotonic time, s.
        """
        if now - self._heard > self._patience_s:
            self._waiting = b''
        self._heard = now
        self._waiting += data
        packets = []
        while (packet := self._next()) is not None:
            packets.append(packet)
        return packets

    def _next(self) -> Packet | None:
        while True:
            start = self._waiting.find(HEADER)
            if start < 0:
                self._waiting = self._waiting[-3:]
                return None
            self._waiting = self._waiting[start:]
            if len(self._waiting) < _PREFIX:
                return None
            servo, length = struct.unpack_from('<BH', self._waiting, 4)
            if servo in (0xFD, 0xFF) or not 3 <= length <= LONGEST:
                self._waiting = self._waiting[1:]
                continue
            size = _PREFIX + length
            if len(self._waiting) < size:
                return None
            wire, self._waiting = self._waiting[:size], self._waiting[size:]
            return decode(wire)


def decode(wire: bytes) -> Packet:
    """Return the packet in exactly these bytes, from header to CRC."""
    body = wire[_PREFIX:-2].replace(_STUFFED, _PATTERN)
    intact = crc16(wire[:-2]) == int.from_bytes(wire[-2:], 'little')
    return Packet(wire[4], body[0], body[1:], intact, len(wire))
