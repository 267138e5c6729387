"""What can go wrong on the emulated bus, on command."""

from dataclasses import dataclass
import random

from stable_crl_ros.servo_bus.arms import BusError

PACKET_FAULTS = {
    'drop': 'the answer never comes',
    'truncate': 'only the first half of the answer comes',
    'corrupt': 'one bit of the answer is wrong',
    'delay': 'the answer comes `seconds` later, and all behind it',
    'noise': 'bytes that are no packet come before the answer',
    'deaf': 'the servo does not hear the instruction',
    'garble': 'the servo hears one bit of an instruction to it wrong, and says so',
}


@dataclass
class PacketFault:
    """
    Damage to packets.

    :param kind: one of `PACKET_FAULTS`.
    :param servo: id of the only servo it happens to; None for any.
    :param count: how many more packets it happens to; None for no end.
    :param probability: with which it happens to each.
    :param seconds: of a delay.
    """

    kind: str
    servo: int | None = None
    count: int | None = None
    probability: float = 1.0
    seconds: float = 0.0

    def __post_init__(self) -> None:
        if self.kind not in PACKET_FAULTS:
            raise BusError(f'no packet fault {self.kind!r}; there are {", ".join(PACKET_FAULTS)}')
        if not 0.0 < self.probability <= 1.0 or self.seconds < 0.0:
            raise BusError('a packet fault needs a probability above 0, at most 1, and seconds '
                           f'not below 0; got {self.probability} and {self.seconds}')


class Faults:
    """
    The packet faults that are going on.

    :param seed: of what is left to chance.
    """

    def __init__(self, seed: int = 0) -> None:
        self._random = random.Random(seed)
        self._going_on: list[PacketFault] = []
        self.done = dict.fromkeys(PACKET_FAULTS, 0)

    def add(self, fault: PacketFault) -> None:
        """Let a fault happen from now on."""
        self._going_on.append(fault)

    def clear(self) -> None:
        """Let no more happen."""
        self._going_on.clear()

    def _happens(self, servo: int, *kinds: str) -> PacketFault | None:
        for fault in self._going_on:
            if fault.kind not in kinds or fault.servo not in (None, servo):
                continue
            if fault.probability < 1.0 and self._random.random() >= fault.probability:
                continue
            if fault.count is not None:
                fault.count -= 1
                if fault.count <= 0:
                    self._going_on.remove(fault)
            self.done[fault.kind] += 1
            return fault
        return None

    def deafens(self, servo: int) -> bool:
        """Say whether this servo misses the instruction that comes now."""
        return self._happens(servo, 'deaf') is not None

    def garbles(self, servo: int) -> bool:
        """Say whether the instruction to this servo that comes now is damaged on its way."""
        return self._happens(servo, 'garble') is not None

    def damage(self, servo: int, answer: bytes) -> tuple[bytes, float]:
        """Return what comes of an answer, and how many seconds late it is."""
        fault = self._happens(servo, 'drop', 'truncate', 'corrupt', 'delay', 'noise')
        if fault is None:
            return answer, 0.0
        if fault.kind == 'delay':
            return answer, fault.seconds
        if fault.kind == 'drop':
            return b'', 0.0
        if fault.kind == 'truncate':
            return answer[:len(answer) // 2], 0.0
        if fault.kind == 'noise':
            return self._random.randbytes(6) + answer, 0.0
        at = self._random.randrange(len(answer))
        wrong = answer[at] ^ 1 << self._random.randrange(8)
        return answer[:at] + bytes([wrong]) + answer[at + 1:], 0.0
