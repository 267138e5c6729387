"""The rules of the emulated servos, in a time of the test's own."""

import random
import struct

import pytest
from stable_crl_ros.robot.kinematics import SLEEP
from stable_crl_ros.servo_bus.arms import arm_servos, BusError, IdealArm
from stable_crl_ros.servo_bus.bus import Bus
from stable_crl_ros.servo_bus.packets import ALERT, encode, Error, Instruction, PacketReader
from stable_crl_ros.servo_bus.servo import REBOOT_S
from stable_crl_ros.servo_bus.table import OVERLOAD_ERROR, VOLTAGE_ERROR

UP = {'shoulder': 0.0, 'elbow': 0.0, 'wrist_angle': 0.0}  # the arm is held up


class Host:
    """One who sends packets at times it makes up."""

    def __init__(self, model='wx250s', **pose):
        specs = arm_servos(model)
        self.bus, self.now = Bus(specs, IdealArm(specs, {**UP, **pose})), 1.0

    def send(self, number, instruction, parameters=b''):
        """Return (id, error, data) of every answer."""
        answers = self.bus.receive(encode(number, instruction, parameters), self.now)
        packets = PacketReader().feed(b''.join(answer.data for answer in answers), self.now)
        return [(packet.servo, packet.parameters[0], packet.parameters[1:]) for packet in packets]

    def write(self, number, name, value):
        """Write one register, and return the error; None for no answer."""
        register = next(servo for servo in self.bus.servos).memory._registers[name]
        answers = self.send(number, Instruction.WRITE,
                            struct.pack('<H', register.address) + register.encode(value))
        return answers[0][1] if answers else None

    def wait(self, seconds):
        """Let time pass; nothing is sent."""
        self.now += seconds
        self.bus.update(self.now)

    def stir(self, seconds, step=0.05):
        """Let time pass while somebody else is talked to all the time."""
        for _ in range(round(seconds / step)):
            self.wait(step)
            self.send(1, Instruction.PING)

    def __getitem__(self, key):
        number, name = key
        self.bus.update(self.now)
        servo = self.bus.servo(number)
        servo.measure(self.now)
        return servo[name]


@pytest.fixture
def host():
    return Host()


def test_a_wx250s_has_nine_servos_of_the_right_models(host):
    assert [(servo['ID'], servo['Model_Number']) for servo in host.bus.servos] == [
        *((number, 1020) for number in range(1, 8)), (8, 1060), (9, 1060)]


def test_a_wx250_has_its_gripper_at_id_8():
    assert [servo['Model_Number'] for servo in Host('wx250').bus.servos] == [1020] * 6 + [1060] * 2


def test_an_unknown_arm_is_refused_with_the_known_ones():
    with pytest.raises(BusError, match='wx250s, wx250'):
        arm_servos('vx300')


def test_eeprom_is_locked_while_torque_is_on(host):
    assert host.write(1, 'Return_Delay_Time', 5) == Error.NONE
    assert host.write(1, 'Torque_Enable', 1) == Error.NONE
    assert host.write(1, 'Return_Delay_Time', 6) == Error.ACCESS
    assert host[1, 'Return_Delay_Time'] == 5


@pytest.mark.parametrize(('name', 'value', 'error'), [
    ('Model_Number', 1060, Error.ACCESS),
    ('Present_Position', 0, Error.ACCESS),
    ('Baud_Rate', 8, Error.RANGE),
    ('Operating_Mode', 2, Error.RANGE),
    ('Goal_Position', 4096, Error.LIMIT),
    ('Goal_PWM', 886, Error.RANGE),
])
def test_a_wrong_write_gets_its_error_number_and_changes_nothing(host, name, value, error):
    before = host[2, name]
    assert host.write(2, name, value) == error
    assert host[2, name] == before


def test_part_of_a_register_and_an_undefined_address_are_refused(host):
    assert host.send(1, Instruction.WRITE, struct.pack('<HH', 116, 7)) == [(1, Error.LENGTH, b'')]
    assert host.send(1, Instruction.WRITE, struct.pack('<HB', 66, 7)) == [(1, Error.ACCESS, b'')]
    assert host.send(1, Instruction.READ, struct.pack('<HH', 140, 99)) == [
        (1, Error.ACCESS, b'')]
    assert host.send(1, 0x77) == [(1, Error.INSTRUCTION, b'')]
    assert host.send(1, Instruction.ACTION) == [(1, Error.INSTRUCTION, b'')]


def test_small_servos_know_no_current_mode(host):
    assert host.write(9, 'Operating_Mode', 5) == Error.RANGE
    assert host.write(1, 'Operating_Mode', 5) == Error.NONE


@pytest.mark.parametrize(('level', 'reads', 'writes'), [(0, 0, 0), (1, 1, 0), (2, 1, 1)])
def test_status_return_level_says_what_is_answered(host, level, reads, writes):
    host.write(1, 'Status_Return_Level', level)
    assert len(host.send(1, Instruction.PING)) == 1
    assert len(host.send(1, Instruction.READ, struct.pack('<HH', 132, 4))) == reads
    assert len(host.send(1, Instruction.WRITE, struct.pack('<HB', 65, 1))) == writes
    assert host[1, 'LED'] == 1


def test_a_damaged_instruction_is_not_carried_out(host):
    wire = bytearray(encode(1, Instruction.WRITE, struct.pack('<HB', 65, 1)))
    wire[-1] ^= 1
    answer, = host.bus.receive(bytes(wire), host.now)
    assert answer.data[8] == Error.CRC
    assert host[1, 'LED'] == 0


def test_servos_set_to_another_baud_rate_hear_nothing(host):
    assert host.bus.receive(encode(1, Instruction.PING), host.now, 57600) == []


def test_a_shadow_does_what_its_primary_is_told_and_says_nothing(host):
    assert host.send(2, Instruction.WRITE, struct.pack('<HB', 64, 1)) == [(2, Error.NONE, b'')]
    assert host[3, 'Torque_Enable'] == 1
    host.send(0xFE, Instruction.SYNC_WRITE, struct.pack('<HHBi', 116, 4, 2, 2100))
    assert host[3, 'Goal_Position'] == host[2, 'Goal_Position'] == 2100
    assert [number for number, _, _ in host.send(0xFE, Instruction.SYNC_READ, struct.pack(
        '<HHBB', 132, 4, 2, 4))] == [2, 4]


def test_a_shadows_eeprom_is_out_of_reach_of_its_second_id(host):
    host.write(2, 'Return_Delay_Time', 7)
    assert (host[2, 'Return_Delay_Time'], host[3, 'Return_Delay_Time']) == (7, 0)


def test_mirrored_servos_of_a_joint_say_the_same_ticks(host):
    assert host[2, 'Present_Position'] == host[3, 'Present_Position'] == 2048
    host.bus.servo(3).poke('Drive_Mode', 4, host.now)  # the reverse bit is missing
    moved = Host(shoulder=0.5)
    assert moved[3, 'Present_Position'] == moved[2, 'Present_Position'] == 2374
    moved.bus.servo(3).poke('Drive_Mode', 4, moved.now)
    assert moved[3, 'Present_Position'] == 4096 - 2374


def test_torque_goes_to_the_goal_left_in_the_register(host):
    host.write(1, 'Profile_Velocity', 500)
    host.write(1, 'Goal_Position', 2500)
    host.wait(1.0)
    assert host[1, 'Present_Position'] == 2048  # nothing moves without torque
    host.write(1, 'Torque_Enable', 1)
    host.wait(1.0)
    assert host[1, 'Present_Position'] == 2500


def test_torque_that_is_on_already_does_not_disturb_a_motion(host):
    host.write(1, 'Profile_Velocity', 1000)
    host.write(1, 'Torque_Enable', 1)
    host.write(1, 'Goal_Position', 3048)
    host.wait(0.5)
    host.write(1, 'Torque_Enable', 1)
    host.wait(0.52)
    assert host[1, 'Position_Trajectory'] == 3048


def test_an_arm_without_torque_falls_and_a_folded_one_rests(host):
    folded = Host(**dict(zip(UP, (SLEEP[1], SLEEP[2], SLEEP[4]), strict=True)))
    for arm in (host, folded):
        arm.wait(2.0)
        assert arm[2, 'Present_Position'] == arm[2, 'Goal_Position']  # somebody holds it
        arm.write(2, 'Torque_Enable', 1)
        arm.wait(0.1)
        arm.write(2, 'Torque_Enable', 0)
        arm.wait(2.0)
    assert host[2, 'Present_Position'] > 2048 + 1000
    assert folded[2, 'Present_Position'] == folded[2, 'Goal_Position']


def test_one_motor_of_a_joint_alone_still_holds_it(host):
    for number in (2, 3):
        host.write(number, 'Torque_Enable', 1)
    host.send(3, Instruction.REBOOT)
    host.stir(1.0)
    assert abs(host[2, 'Present_Position'] - 2048) <= 2


def test_a_time_profile_takes_its_time(host):
    host.write(1, 'Profile_Velocity', 1000)
    host.write(1, 'Profile_Acceleration', 300)
    host.write(1, 'Torque_Enable', 1)
    host.write(1, 'Goal_Position', 3048)
    host.wait(0.5)
    assert abs(host[1, 'Position_Trajectory'] - 2548) <= 1
    assert (host[1, 'Moving'], host[1, 'Moving_Status'] & 0x32) == (1, 0x32)
    host.wait(0.45)
    assert host[1, 'Position_Trajectory'] < 3048
    host.wait(0.2)
    assert (host[1, 'Present_Position'], host[1, 'Moving']) == (3048, 0)


def test_no_motor_is_faster_than_it_can_be(host):
    host.write(1, 'Torque_Enable', 1)
    host.write(1, 'Goal_Position', 4095)  # no profile: at once
    fastest = 0
    for _ in range(100):
        host.wait(0.02)
        fastest = max(fastest, host[1, 'Present_Velocity'])
    assert 0.9 * 201 < fastest <= 202  # 4.82 rad/s in units of 0.229 rev/min
    assert host[1, 'Present_Position'] == 4095


def test_the_watchdog_stops_a_servo_that_hears_nothing(host):
    host.write(1, 'Torque_Enable', 1)
    host.write(1, 'Profile_Velocity', 2000)
    host.write(1, 'Goal_Position', 4000)
    assert host.write(1, 'Bus_Watchdog', 10) == Error.NONE  # 200 ms
    host.wait(0.19)
    assert host.send(1, Instruction.PING)
    host.wait(0.5)
    stopped = host[1, 'Present_Position']
    assert (host[1, 'Bus_Watchdog'], host[1, 'Goal_Position']) == (255, stopped)
    host.wait(1.0)
    assert host[1, 'Present_Position'] == stopped
    assert host.write(1, 'Goal_Position', 2048) == Error.RANGE
    assert host.write(1, 'Bus_Watchdog', 0) == Error.NONE
    assert host.write(1, 'Goal_Position', 2048) == Error.NONE


def test_packets_to_others_do_not_feed_the_watchdog(host):
    host.write(2, 'Torque_Enable', 1)
    host.write(2, 'Bus_Watchdog', 10)
    host.stir(0.5)
    assert host[2, 'Bus_Watchdog'] == 255


def test_the_watchdog_sleeps_without_torque(host):
    host.write(1, 'Bus_Watchdog', 1)
    host.wait(2.0)
    assert host[1, 'Bus_Watchdog'] == 1


def test_wrong_voltage_raises_the_alert_until_a_reboot(host):
    host.write(1, 'Torque_Enable', 1)
    host.bus.servo(1).poke('Present_Input_Voltage', 90, host.now)
    host.wait(0.02)
    assert host.send(1, Instruction.PING)[0][1] == ALERT
    assert host[1, 'Hardware_Error_Status'] == VOLTAGE_ERROR
    assert host[1, 'Torque_Enable'] == 1  # the factory's Shutdown leaves voltage out
    host.bus.servo(1).poke('Present_Input_Voltage', 120, host.now)
    assert host.send(1, Instruction.PING)[0][1] == ALERT
    host.send(1, Instruction.REBOOT)
    host.wait(REBOOT_S + 0.01)
    assert host.send(1, Instruction.PING)[0][1] == Error.NONE


def test_a_blocked_joint_overloads_and_only_a_reboot_gives_torque_back(host):
    host.write(1, 'Torque_Enable', 1)
    host.bus.arm.jam('waist', True)
    host.write(1, 'Goal_Position', 3000)
    host.stir(2.0)
    assert host[1, 'Hardware_Error_Status'] == OVERLOAD_ERROR
    assert host[1, 'Torque_Enable'] == 0
    assert host.write(1, 'Torque_Enable', 1) == ALERT | Error.RESULT
    host.send(1, Instruction.REBOOT)
    host.wait(REBOOT_S + 0.01)
    assert host.write(1, 'Torque_Enable', 1) == Error.NONE


def test_a_weak_gripper_pushes_for_hours(host):
    host.write(9, 'Goal_PWM', 250)
    host.write(9, 'Torque_Enable', 1)
    host.bus.arm.jam('gripper', True)
    host.write(9, 'Goal_Position', 1802)
    host.stir(3.0)
    assert (host[9, 'Hardware_Error_Status'], host[9, 'Torque_Enable']) == (0, 1)
    assert host[9, 'Present_Load'] == -round(1000 * 250 / 885)


def test_a_reboot_forgets_torque_and_ram_and_keeps_eeprom(host):
    host.write(1, 'Return_Delay_Time', 3)
    host.write(1, 'Profile_Velocity', 700)
    host.write(1, 'Torque_Enable', 1)
    assert host.send(1, Instruction.REBOOT) == [(1, Error.NONE, b'')]
    assert host.send(1, Instruction.PING) == []  # it is starting
    host.wait(REBOOT_S + 0.01)
    assert host.send(1, Instruction.PING) != []
    assert (host[1, 'Torque_Enable'], host[1, 'Profile_Velocity']) == (0, 0)
    assert host[1, 'Return_Delay_Time'] == 3
    assert host[1, 'Realtime_Tick'] < 1000 * (REBOOT_S + 0.1)


def test_answers_take_the_time_of_the_wire(host):
    ask = encode(0xFE, Instruction.SYNC_READ, struct.pack('<HH', 126, 10) + bytes(range(1, 10)))
    answers = host.bus.receive(ask, 10.0)
    size = len(ask) + sum(len(answer.data) for answer in answers)
    assert len(answers) == 9
    assert size * 10e-6 < answers[-1].due - 10.0 < size * 10e-6 + 0.5e-3
    assert [answer.due for answer in answers] == sorted(answer.due for answer in answers)


def test_return_delay_makes_answers_later(host):
    prompt, = host.bus.receive(encode(1, Instruction.PING), 10.0)
    host.bus.servo(1).poke('Return_Delay_Time', 250, host.now)  # 500 us
    late, = host.bus.receive(encode(1, Instruction.PING), 20.0)
    assert late.due - 20.0 == pytest.approx(prompt.due - 10.0 + 500e-6)


def test_a_fast_sync_read_ends_where_a_servo_is_missing(host):
    host.bus.servo(2).dead = True
    ask = encode(0xFE, Instruction.FAST_SYNC_READ, struct.pack('<HHBBB', 132, 4, 1, 2, 3))
    answer, = host.bus.receive(ask, host.now)
    assert len(answer.data) == 16


def test_a_sync_read_goes_on_behind_a_missing_servo(host):
    host.bus.servo(2).dead = True
    answers = host.send(0xFE, Instruction.SYNC_READ, struct.pack('<HHBBB', 132, 4, 1, 2, 3))
    assert [number for number, _, _ in answers] == [1, 3]


def test_no_packet_ends_the_bus(host):
    rng = random.Random(0)
    for _ in range(3000):
        instruction = rng.choice([*Instruction, rng.randrange(256)])
        number = rng.choice([*range(1, 10), 0xFE, rng.randrange(253)])
        host.send(number, instruction, rng.randbytes(rng.randrange(24)))
        host.bus.receive(rng.randbytes(rng.randrange(30)), host.now)
        host.now += rng.choice([0.0, 1e-4, 0.01, 0.1])
    host.wait(1.0)
    assert len(host.bus.servos) == 9
    assert all(-10.0 < feel.angle < 10.0 for feel in host.bus.arm.feel(host.now).values())
