"""The emulated bus on its pseudo-terminal, with ROBOTIS' own library as the other end."""

import os
from pathlib import Path
import select
import signal
import subprocess
import sys
import termios
import time

import dynamixel_sdk as sdk
import pytest
from stable_crl_ros import servo_bus
from stable_crl_ros.servo_bus import BusError, EmulatedBus
from stable_crl_ros.servo_bus.packets import encode, Instruction
from stable_crl_ros.servo_bus.process import BusProcess
from waiting import alive, wait_for

NINE = range(1, 10)
GONE = (OSError, termios.error)  # what the library lets through


class Client:
    """ROBOTIS' library on one port."""

    def __init__(self, port):
        self.port, self.packets = sdk.PortHandler(port), sdk.PacketHandler(2.0)
        assert self.port.openPort() and self.port.setBaudRate(1_000_000)

    def __getattr__(self, name):
        return lambda *values: getattr(self.packets, name)(self.port, *values)

    def group(self, kind, *values):
        return getattr(sdk, kind)(self.port, self.packets, *values)

    def positions(self, fast=False):
        """Return ids and Present_Position of all servos, or the library's error."""
        group = self.group('GroupSyncRead', 126, 10)
        for number in NINE:
            group.addParam(number)
        result = group.fastSyncRead() if fast else group.txRxPacket()
        if result != sdk.COMM_SUCCESS:
            return result
        return {number: group.getData(number, 132, 4) for number in NINE}


@pytest.fixture(autouse=True)
def patient_library(monkeypatch):
    """Let the library wait for 300 ms: the machine may be busy with something else."""
    monkeypatch.setattr(sdk.port_handler, 'LATENCY_TIMER', 150)


@pytest.fixture
def bus():
    with EmulatedBus(timed=False, pose={'waist': 0.5}) as bus:
        yield bus


@pytest.fixture
def client(bus):
    client = Client(bus.port)
    yield client
    client.port.closePort()


def test_ping_names_model_and_nothing_answers_for_others(client):
    assert client.ping(1) == (1020, sdk.COMM_SUCCESS, 0)
    assert client.ping(9) == (1060, sdk.COMM_SUCCESS, 0)
    assert client.ping(10)[1] == sdk.COMM_RX_TIMEOUT


def test_broadcast_ping_finds_all(client):
    found, result = client.broadcastPing()
    assert result == sdk.COMM_SUCCESS
    assert {number: model for number, (model, _) in found.items()} == {
        number: 1060 if number in (8, 9) else 1020 for number in NINE}


def test_what_is_written_is_read_back(client):
    assert client.write2ByteTxRx(1, 84, 700) == (sdk.COMM_SUCCESS, 0)
    assert client.read2ByteTxRx(1, 84) == (700, sdk.COMM_SUCCESS, 0)
    assert client.write1ByteTxRx(1, 6, 1) == (sdk.COMM_SUCCESS, 7)  # read-only: access error


def test_group_reads_and_writes_reach_all(bus, client):
    write = client.group('GroupSyncWrite', 116, 4)
    for number in NINE:
        write.addParam(number, (2000 + number).to_bytes(4, 'little'))
    assert write.txPacket() == sdk.COMM_SUCCESS
    read = client.group('GroupBulkRead')
    for number in NINE:
        read.addParam(number, 116, 4)
    assert read.txRxPacket() == sdk.COMM_SUCCESS
    assert {number: read.getData(number, 116, 4) for number in NINE} == {
        number: 2000 + number for number in NINE}
    assert client.positions()[1] == 2048 + round(0.5 / 0.0015339808)


def test_bulk_write_reaches_registers_of_different_sizes(bus, client):
    write = client.group('GroupBulkWrite')
    write.addParam(1, 65, 1, [1])
    write.addParam(4, 112, 4, [0xE8, 3, 0, 0])
    assert write.txPacket() == sdk.COMM_SUCCESS
    assert (bus.servo(1)['LED'], bus.servo(4)['Profile_Velocity']) == (1, 1000)
    assert bus.servo(5)['Profile_Velocity'] == 1000  # the shadow


def test_registered_write_waits_for_the_action(bus, client):
    assert client.regWriteTxRx(1, 116, 4, [0xD0, 7, 0, 0]) == (sdk.COMM_SUCCESS, 0)
    assert bus.servo(1)['Registered_Instruction'] == 1
    before = bus.servo(1)['Goal_Position']
    assert client.action(1) == sdk.COMM_SUCCESS
    after = bus.servo(1)
    assert (before, after['Goal_Position']) == (bus.servo(1)['Present_Position'], 2000)


def test_factory_reset_is_refused(bus, client):
    assert client.factoryReset(1, 0xFF) == (sdk.COMM_SUCCESS, 1)
    assert bus.servo(1)['ID'] == 1


def test_a_reboot_is_answered_and_then_there_is_silence(client):
    def is_silent():
        assert client.reboot(1) == (sdk.COMM_SUCCESS, 0)
        return client.ping(1)[1] == sdk.COMM_RX_TIMEOUT
    assert any(is_silent() for _ in range(5))  # unless the machine stood still until it was up
    wait_for(lambda: client.ping(1)[1] == sdk.COMM_SUCCESS)


@pytest.mark.parametrize(('kind', 'result'), [
    ('drop', sdk.COMM_RX_TIMEOUT), ('truncate', sdk.COMM_RX_CORRUPT), ('noise', 0)])
def test_the_next_packet_is_damaged_and_then_no_more(bus, client, kind, result):
    bus.inject(kind, 4, count=1)
    assert client.ping(1)[1] == sdk.COMM_SUCCESS
    assert client.ping(4)[1] == result
    assert client.ping(4)[1] == sdk.COMM_SUCCESS
    assert bus.counts()[f'fault_{kind}'] == 1


def test_a_corrupt_packet_is_never_taken_for_a_good_one(bus, client):
    bus.inject('corrupt', 2)
    assert {client.read4ByteTxRx(2, 132)[1] for _ in range(3)} <= {
        sdk.COMM_RX_CORRUPT, sdk.COMM_RX_TIMEOUT}
    bus.clear()
    assert client.ping(2)[1] == sdk.COMM_SUCCESS


def test_a_delayed_answer_comes_late(bus, client):
    bus.inject('delay', 1, count=1, seconds=0.02)
    began = time.monotonic()
    assert client.ping(1)[1] == sdk.COMM_SUCCESS
    assert time.monotonic() - began > 0.02


def test_a_dead_servo_is_silent_until_it_is_alive(bus, client):
    bus.inject('dead', 9)
    assert client.ping(9)[1] == sdk.COMM_RX_TIMEOUT
    assert client.positions() == sdk.COMM_RX_TIMEOUT
    bus.inject('alive', 9)
    time.sleep(0.35)
    assert client.ping(9)[1] == sdk.COMM_SUCCESS


def test_another_model_number_can_be_had(bus, client):
    bus.inject('model', 9, number=1070)
    assert client.ping(9)[0] == 1070


def test_a_power_cycle_takes_torque_from_all(bus, client):
    client.write1ByteTxRx(2, 64, 1)
    bus.inject('power_off')
    assert client.ping(2)[1] == sdk.COMM_RX_TIMEOUT
    bus.inject('power_on')
    assert [bus.servo(number)['Torque_Enable'] for number in NINE] == [0] * 9


def test_an_unplugged_port_is_an_error_and_a_link_leads_to_the_next(tmp_path):
    link = tmp_path / 'ttyDXL'
    with EmulatedBus(link=str(link)) as bus:
        client = Client(str(link))
        assert client.ping(1)[1] == sdk.COMM_SUCCESS
        bus.inject('unplug')
        with pytest.raises(GONE):
            client.ping(1)
        assert not link.exists()
        bus.inject('plug')
        assert os.readlink(link) == bus.port
        assert Client(str(link)).ping(1)[1] == sdk.COMM_SUCCESS


def test_goals_are_remembered_with_their_time(bus, client):
    began = time.monotonic()
    client.write4ByteTxRx(1, 116, 2100)
    goal, = bus.goals(since=began)
    assert (goal.servo, goal.ticks) == (1, 2100)
    assert began < goal.time < time.monotonic()


@pytest.mark.parametrize(('request_', 'expected'), [
    (lambda bus: bus.inject('gremlins'), 'drop, truncate, corrupt'),
    (lambda bus: bus.inject('dead', 12), 'there are 1, 2, 3'),
    (lambda bus: bus.inject('drop', probability=2.0), 'probability'),
    (lambda bus: bus.inject('drop', volume=2.0), 'volume'),
    (lambda bus: bus.poke(1, 'Present_Mood', 1), 'Present_Mood'),
])
def test_what_cannot_be_asked_for_is_refused_and_the_bus_goes_on(bus, client, request_, expected):
    with pytest.raises(BusError, match=expected):
        request_(bus)
    assert client.ping(1)[1] == sdk.COMM_SUCCESS


def test_a_process_serves_until_it_is_killed(tmp_path):
    with servo_bus.start(pose={'waist': -0.25}, link=str(tmp_path / 'port')) as bus:
        client = Client(str(tmp_path / 'port'))
        positions = client.positions()
        assert positions[1] == 2048 - round(0.25 / 0.0015339808)
        assert client.positions(fast=True) == positions
        assert bus.joints()['waist'] == -0.25
        os.kill(bus.process.pid, signal.SIGKILL)
        bus.process.wait()
        with pytest.raises(GONE):
            client.ping(1)
        with pytest.raises(BusError):
            bus.joints()


@pytest.mark.parametrize('says', ['', 'port'])
def test_a_process_that_dies_before_it_can_be_asked_is_told_with_its_status(tmp_path, says):
    (tmp_path / 'folder').mkdir()
    process = subprocess.Popen(['sh', '-c', f'printf "{says}"; exit 3'], stdin=subprocess.PIPE,
                               stdout=subprocess.PIPE, text=True)
    with pytest.raises(BusError, match='did not start; it returned 3'):
        BusProcess(process, tmp_path / 'folder' / 'control')
    assert not (tmp_path / 'folder').exists()


def test_a_started_bus_ends_with_its_owner(tmp_path):
    owner = subprocess.Popen(
        [sys.executable, '-c', 'from stable_crl_ros import servo_bus; import time\n'
         'bus = servo_bus.start(); print(bus.port, bus.process.pid, flush=True); time.sleep(60)'],
        stdout=subprocess.PIPE, text=True)
    port, pid = owner.stdout.readline().split()
    assert Path(port).exists()
    owner.kill()
    owner.communicate()
    wait_for(lambda: not alive(pid))


def test_the_command_says_its_port_first_and_ends_cleanly(tmp_path):
    process = subprocess.Popen([sys.executable, '-m', 'stable_crl_ros.servo_bus', '--pose',
                                'waist=0.1'], stdout=subprocess.PIPE, text=True)
    port = process.stdout.readline().strip()
    assert Path(port).is_char_device()
    process.terminate()
    assert process.communicate(timeout=20)[0] == ''
    assert process.returncode == 0


def test_an_unknown_joint_is_refused_with_the_known_ones():
    with pytest.raises(BusError, match='waist, shoulder, elbow'):
        EmulatedBus(pose={'knee': 1.0})


def test_an_idle_bus_needs_no_cpu_and_answers_are_as_late_as_on_a_wire():
    with servo_bus.start() as bus:
        port = os.open(bus.port, os.O_RDWR | os.O_NOCTTY)
        ask = encode(0xFE, Instruction.SYNC_READ, bytes([126, 0, 10, 0, *NINE]))
        waited = []
        for _ in range(20):
            began, size = time.monotonic(), 0
            os.write(port, ask)
            while size < 9 * 21:
                assert select.select([port], [], [], 5.0)[0]
                size += len(os.read(port, 4096))
            waited.append(time.monotonic() - began)
        os.close(port)
        assert 2e-3 < min(waited) < 20e-3  # 212 bytes at 10 us each
        stat = Path(f'/proc/{bus.process.pid}/stat')
        before = stat.read_text().split()[13:15]
        time.sleep(0.5)
        used = sum(map(int, stat.read_text().split()[13:15])) - sum(map(int, before))
        assert used <= 2  # of 50 ticks of 10 ms
