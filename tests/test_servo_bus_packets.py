"""Packets of the emulated bus against the examples that ROBOTIS published."""

from pathlib import Path

import numpy as np
import pytest
from stable_crl_ros import servo_bus
from stable_crl_ros.servo_bus.arms import IdealArm
from stable_crl_ros.servo_bus.bus import Bus
from stable_crl_ros.servo_bus.packets import (
    crc16,
    decode,
    encode,
    encode_fast_status,
    encode_status,
    Instruction,
    PacketReader,
)
from stable_crl_ros.servo_bus.servo import RADIANS, ServoSpec
from stable_crl_ros.servo_bus.table import Mode, Model

# Bytes as printed in https://emanual.robotis.com/docs/en/dxl/protocol2/, section of the same name.
DONE = 'FF FF FD 00 01 04 00 55 00 A1 0C'
EXAMPLES = {
    'Ping, example 1': ('FF FF FD 00 01 03 00 01 19 4E',
                        'FF FF FD 00 01 07 00 55 00 06 04 26 65 5D'),
    'Ping, example 2': ('FF FF FD 00 FE 03 00 01 31 42',
                        'FF FF FD 00 01 07 00 55 00 06 04 26 65 5D'
                        'FF FF FD 00 02 07 00 55 00 06 04 26 6F 6D'),
    'Read': ('FF FF FD 00 01 07 00 02 84 00 04 00 1D 15',
             'FF FF FD 00 01 08 00 55 00 A6 00 00 00 8C C0'),
    'Write': ('FF FF FD 00 01 09 00 03 74 00 00 02 00 00 CA 89', DONE),
    'Reg Write, then Action': ('FF FF FD 00 01 09 00 04 68 00 C8 00 00 00 AE 8E'
                               'FF FF FD 00 01 03 00 05 02 CE', DONE + DONE),
    'Reboot': ('FF FF FD 00 01 03 00 08 2F 4E', DONE),
    'Clear': ('FF FF FD 00 01 08 00 10 01 44 58 4C 22 B1 DC', DONE),
    'Sync Read': ('FF FF FD 00 FE 09 00 82 84 00 04 00 01 02 CE FA',
                  'FF FF FD 00 01 08 00 55 00 A6 00 00 00 8C C0'
                  'FF FF FD 00 02 08 00 55 00 1F 08 00 00 BA BE'),
    'Sync Write': ('FF FF FD 00 FE 11 00 83 74 00 04 00'
                   '01 96 00 00 00 02 AA 00 00 00 82 87', ''),
    'Fast Sync Read': ('FF FF FD 00 FE 0A 00 8A 84 00 04 00 03 07 04 20 F2',
                       'FF FF FD 00 FE 19 00 55 00 03 A6 00 00 00 84 08'
                       '00 07 1F 08 00 00 16 CA'
                       '00 04 FF 03 00 00 D1 9E'),
    'Bulk Read': ('FF FF FD 00 FE 0D 00 92 01 90 00 02 00 02 92 00 01 00 1A 05',
                  'FF FF FD 00 01 06 00 55 00 77 00 C3 69'
                  'FF FF FD 00 02 05 00 55 00 24 8B A9'),
    'Bulk Write': ('FF FF FD 00 FE 10 00 93 01 20 00 02 00 A0 00 02 1F 00 01 00 50 B7 68', ''),
}
STANDING = {1: 166, 2: 2079, 3: 166, 7: 2079, 4: 1023}  # ticks, in the examples


def make_bus(numbers):
    """Return the servos of the examples that have these ids."""
    model = Model('XM430-W210', 1030, tuple(Mode), 8.0, 3.0, 855)
    specs = tuple(ServoSpec(number, model, f'joint {number}', False, {
        'Firmware_Version': 38, 'Baud_Rate': 3, 'Return_Delay_Time': 0}) for number in numbers)
    arm = IdealArm(specs, {f'joint {number}': (ticks - 2048) * RADIANS
                           for number, ticks in STANDING.items() if number in numbers})
    bus = Bus(specs, arm)
    bus.servo(1).poke('Present_Input_Voltage', 119, 0.0)
    bus.servo(2).poke('Present_Temperature', 36, 0.0)
    return bus


@pytest.fixture
def bus():
    return make_bus(STANDING)


def said(answers):
    return b''.join(answer.data for answer in answers)


@pytest.mark.parametrize('name', EXAMPLES)
def test_published_example_is_answered_as_published(bus, name):
    asked, answer = EXAMPLES[name]
    if 'example 2' in name:  # only two servos are on the bus there
        bus = make_bus((1, 2))
    assert said(bus.receive(bytes.fromhex(asked), 1.0)).hex(' ') == bytes.fromhex(answer).hex(' ')


def test_published_writes_do_what_they_say(bus):
    def does(name, number, register):
        bus.receive(bytes.fromhex(EXAMPLES[name][0]), 1.0)
        return bus.servo(number)[register]
    assert does('Write', 1, 'Goal_Position') == 512
    assert does('Sync Write', 1, 'Goal_Position') == 150
    assert bus.servo(2)['Goal_Position'] == 170
    assert does('Bulk Write', 1, 'Max_Voltage_Limit') == 160
    assert bus.servo(2)['Temperature_Limit'] == 80
    assert does('Reg Write, then Action', 1, 'Goal_Velocity') == 200


def test_published_factory_reset_is_refused_and_changes_nothing(bus):
    asked = bytes.fromhex('FF FF FD 00 01 04 00 06 01 A1 E6')  # e-manual, Factory Reset
    before = bytes(bus.servo(1).memory.read(0, 64)[1])
    assert decode(said(bus.receive(asked, 1.0))).parameters == b'\x01'  # Result Fail
    assert bus.servo(1).memory.read(0, 64)[1] == before


def test_fast_bulk_status_is_as_published():
    parts = encode_fast_status([(3, 0, bytes.fromhex('A6 00 00 00')), (7, 0, b'\xa5\x01'),
                                (4, 0, b'\x1f')])
    assert [part.hex(' ').upper() for part in parts] == [
        'FF FF FD 00 FE 14 00 55 00 03 A6 00 00 00 67 A4', '00 07 A5 01 24 74',
        '00 04 1F D9 C1']


def test_crc_is_that_of_the_published_source():
    # First and last entries of the table in https://emanual.robotis.com/docs/en/dxl/crc/
    assert [crc16(bytes([byte])) for byte in (0, 1, 2, 3, 254, 255)] == [
        0x0000, 0x8005, 0x800F, 0x000A, 0x8207, 0x0202]


@pytest.mark.parametrize('data', [
    b'\xff\xff\xfd', b'\x01\xff\xff\xfd\xfd', b'\xff\xff\xfd\xff\xff\xfd', b'\xff\xff\xff\xfd'])
def test_the_header_never_appears_inside_a_packet_and_nothing_is_lost(data):
    wire = encode(1, Instruction.WRITE, b'\x74\x00' + data)
    assert wire.find(b'\xff\xff\xfd', 3) in (-1, wire.find(b'\xff\xff\xfd\xfd', 3))
    packet, = PacketReader().feed(wire, 0.0)
    assert packet.parameters == b'\x74\x00' + data
    assert packet.intact and packet.size == len(wire)


def test_packets_are_found_in_any_pieces_and_between_noise():
    rng = np.random.default_rng(0)
    sent = [encode(int(rng.integers(0, 253)), Instruction.READ, rng.bytes(rng.integers(0, 12)))
            for _ in range(200)]
    stream = b''.join(b'\xff\xff\xfd\x00\xfd' + wire for wire in sent)
    reader, found, at = PacketReader(), [], 0
    while at < len(stream):
        size = int(rng.integers(1, 40))
        found += reader.feed(stream[at:at + size], 0.0)
        at += size
    assert [encode(packet.servo, packet.instruction, packet.parameters)
            for packet in found] == sent


def test_a_flipped_bit_is_noticed_wherever_it_is():
    wire = encode_status(3, 0, b'\x01\x02\x03')
    for bit in range(7 * 8, len(wire) * 8):  # behind the length; before, no packet is seen
        wrong = bytearray(wire)
        wrong[bit // 8] ^= 1 << bit % 8
        assert not decode(bytes(wrong)).intact


def test_a_packet_that_was_never_finished_does_not_swallow_the_next():
    reader = PacketReader(patience_s=0.05)
    whole = encode(1, Instruction.PING)
    assert reader.feed(whole[:6], 0.0) == []
    assert len(reader.feed(whole, 0.2)) == 1


def test_the_emulator_shares_no_code_with_the_driver_that_it_checks():
    files = list(Path(servo_bus.__file__).parent.glob('*.py'))
    assert len(files) > 10
    for file in files:
        imports = [line for line in file.read_text().splitlines()
                   if line.lstrip().startswith(('import ', 'from '))]
        assert not [line for line in imports if 'dynamixel' in line], file
