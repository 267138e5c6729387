"""Is this the arm we know, configured as expected; and how torque comes on without a jerk."""

from collections.abc import Iterable
from dataclasses import dataclass
import time

from stable_crl_ros.robot.arm import ArmError
from stable_crl_ros.robot.dynamixel_bus import BusError, ServoBus
from stable_crl_ros.robot.dynamixel_table import (
    CONFIGURATION,
    Expected,
    expected,
    FIRST_FIRMWARE,
    GRIPPER,
    LEADERS,
    MODEL_NAMES,
    Register,
    Servo,
    SERVOS,
    SHADOWS,
    STATUS,
    WATCHDOG_TRIPPED,
    WATCHDOG_UNIT,
)

IDS = range(1, 13)  # looked at; a wx250s has 1..9
PAIR_TOLERANCE = 40  # ticks, 3.5 deg, between the two motors of a joint
HOLD_TOLERANCE = 60  # ticks, 5.3 deg; a held arm sags less
SOFT_START_MS = 600  # time to reach the first goal, which is where the arm is
# Opening time of the gripper, and 28 % of the voltage: Interbotix' gripper pressure 0.5, which
# holds an object for hours. An XL430 has no current mode; Goal PWM limits what it may push with
# in position mode as well, is no EEPROM that every change would wear, and takes effect at once.
GRIPPER_MS, GRIPPER_PWM = 400, 250
FULL_PWM = 885
_STILL = 8  # velocity units, 0.19 rad/s: faster than this a hand or gravity moves the arm
_STILL_S = 3.0  # patience with an arm that still falls or swings
_SETTLE_S = 0.05
_WX250 = (1020,) * 6 + (1060,) * 2


class WrongArmError(ArmError):
    """The servos found are not those of a WidowX 250s."""


class ConfigurationError(ArmError):
    """Registers do not hold what the driver needs."""


@dataclass(frozen=True)
class Difference:
    """
    A register that holds something else than expected.

    :param servo: whose.
    :param register: which.
    :param found: what it holds.
    :param wanted: what it should hold.
    """

    servo: Servo
    register: Register
    found: int
    wanted: Expected

    def __str__(self) -> str:
        wanted = self.wanted
        span = (str(wanted.value) if wanted.low == wanted.high
                else f'{wanted.low} to {wanted.high}')
        return f'{self.servo}: {self.register.label} is {self.found}, expected {span}'


def scan(bus: ServoBus, numbers: Iterable[int] = IDS) -> dict[int, int]:
    """Return the model number of every servo that answers, by id."""
    models = {number: bus.ping(number, tries=3 if number in SERVOS else 1) for number in numbers}
    return {number: model for number, model in models.items() if model is not None}


def check_models(models: dict[int, int], port: str) -> None:
    """
    Refuse all but a WidowX 250s.

    :param models: model number by id, as `scan` returns it.
    :raises WrongArmError: naming what it is, or what is missing or wrong.
    """
    if not models:
        raise WrongArmError(
            f'no servo answers on {port}: check that the arm has 12 V (every servo blinks once '
            'at power-on), the cable to the first servo, and the baud rate with `stable-crl arm '
            'probe`')
    if tuple(models.get(n) for n in range(1, 9)) == _WX250 and 9 not in models:
        raise WrongArmError('this is a WidowX 250 with 5 joints (8 servos, the gripper at id 8); '
                            'the 250s has 6 joints (9 servos, the gripper at id 9)')
    problems = [f'{servo} does not answer' for number, servo in SERVOS.items()
                if number not in models]
    problems += [f'{servo} is an {_model(models[number])}, expected {_model(servo.model)}'
                 for number, servo in SERVOS.items()
                 if models.get(number, servo.model) != servo.model]
    problems += [f'servo {number} ({_model(model)}) does not belong to this arm'
                 for number, model in models.items() if number not in SERVOS]
    if problems:
        raise WrongArmError(f'{"; ".join(problems)}: this is not a complete WidowX 250s; check '
                            'the cables between the servos and their ids')


def _model(number: int) -> str:
    return f'{MODEL_NAMES.get(number, "unknown servo")} (model {number})'


def differences(bus: ServoBus) -> list[Difference]:
    """
    Compare the registers of all servos with `dynamixel_table.expected`.

    :raises ConfigurationError: for a firmware that lacks what the driver relies on.
    """
    found = []
    for number, servo in SERVOS.items():
        values = CONFIGURATION.decode(bus.read(number, CONFIGURATION).data)
        values |= STATUS.decode(bus.read(number, STATUS).data)
        if values[Register.FIRMWARE_VERSION] < FIRST_FIRMWARE:
            raise ConfigurationError(
                f'{servo} has firmware {values[Register.FIRMWARE_VERSION]}; time-based profiles '
                f'came with {FIRST_FIRMWARE}: update it with DYNAMIXEL Wizard 2.0')
        found += [Difference(servo, register, values[register], wanted)
                  for register, wanted in expected(servo).items()
                  if not wanted.low <= values[register] <= wanted.high]
    return found


def check_configuration(found: list[Difference]) -> None:
    """
    Refuse an arm that is configured differently.

    :raises ConfigurationError: listing every difference, and how to write what is expected.
    """
    if found:
        raise ConfigurationError(
            f'{len(found)} registers differ from what a WidowX 250s needs:\n  '
            + '\n  '.join(map(str, found))
            + '\nThey are written only on demand: lay the arm on its rest, `stable-crl arm '
            'torque-off`, then `stable-crl arm check --write` (node: write_configuration)')


def write_configuration(bus: ServoBus, found: list[Difference]) -> None:
    """
    Write what is expected; EEPROM only takes it while torque is off.

    :raises ConfigurationError: before anything is written, when torque is on where it may not be,
        or a baud rate differs: a servo is deaf for the rest once its own is written.
    """
    if other := [difference for difference in found if difference.register is Register.BAUD_RATE]:
        raise ConfigurationError(
            f'{Register.BAUD_RATE.label} of {", ".join(str(one.servo) for one in other)} is not '
            f'{other[0].wanted.value}: set it with DYNAMIXEL Wizard 2.0; nothing was written')
    locked = [difference.servo for difference in found if difference.register.is_eeprom
              and bus.get(difference.servo.number, Register.TORQUE_ENABLE)]
    if locked:
        names = ', '.join(dict.fromkeys(map(str, locked)))
        raise ConfigurationError(
            f'torque is on in {names}, which locks what is to be written, and without torque the '
            'arm falls: lay it on its rest (`stable-crl arm sleep`) or hold it, '
            '`stable-crl arm torque-off`, then write again')
    # First what lets a servo confirm the rest.
    for difference in sorted(found, key=lambda difference: difference.register
                             is not Register.STATUS_RETURN_LEVEL):
        bus.set(difference.servo.number, difference.register, difference.wanted.value)


def status(bus: ServoBus, number: int) -> dict[Register, int]:
    """Read the block of torque, error, watchdog, goals and present values of one servo."""
    return STATUS.decode(bus.read(number, STATUS).data)


def check_pairs(now: dict[int, dict[Register, int]]) -> None:
    """
    Refuse a joint whose two motors would work against each other.

    :param now: `status` of every servo, by id.
    :raises ConfigurationError: naming the joint.
    """
    for leader, shadow in SHADOWS.items():
        apart = (now[leader][Register.PRESENT_POSITION]
                 - now[shadow][Register.PRESENT_POSITION])
        if abs(apart) > PAIR_TOLERANCE:
            raise ConfigurationError(
                f'{SERVOS[leader]} and {SERVOS[shadow]} disagree by {abs(apart)} ticks '
                f'({abs(apart) * 0.088:.1f} deg) and would work against each other: lay the '
                'arm on its rest, `stable-crl arm torque-off`, `stable-crl arm calibrate --write`')


def soft_start(bus: ServoBus, profile_ms: tuple[int, int], watchdog_s: float) -> dict[int, int]:
    """
    Hold the arm where it is: nothing moves, whatever state the servos are in.

    A servo under torque keeps its goal, unless it is far from it; every other gets its position
    as goal first and torque then. The watchdog is armed last.

    :param profile_ms: acceleration time and total time of every move from then on, ms.
    :param watchdog_s: silence after which the servos stop by themselves, s; 0 for never.
    :returns: the goals, by id of each leader, ticks.
    :raises ArmError: when a servo moves, refuses, or does not do as told; torque that was on
        stays on.
    """
    now = _wait_until_still(bus)
    check_pairs(now)
    goals = {number: _holding_goal(SERVOS[number], now) for number in LEADERS}
    for number in SERVOS:
        bus.set(number, Register.BUS_WATCHDOG, 0)  # also clears a trip, which locks the goals
    for number, goal in goals.items():
        _hold(bus, number, goal, now)
    for number in LEADERS:
        _torque_on(bus, number)
    time.sleep(_SETTLE_S)
    for number in SERVOS:
        acceleration, total = (SOFT_START_MS // 4, GRIPPER_MS) if number == GRIPPER else profile_ms
        # Velocity first: a profile's acceleration may not exceed half of it.
        bus.set(number, Register.PROFILE_VELOCITY, total)
        bus.set(number, Register.PROFILE_ACCELERATION, min(acceleration, total // 2))
    for number in SERVOS:
        bus.set(number, Register.BUS_WATCHDOG, round(watchdog_s / WATCHDOG_UNIT))
    return goals


def _wait_until_still(bus: ServoBus) -> dict[int, dict[Register, int]]:
    """Return the status of every servo once those without torque have stopped moving."""
    until = time.monotonic() + _STILL_S
    while True:
        now = {number: status(bus, number) for number in SERVOS}
        moving = [str(SERVOS[number]) for number, values in now.items()
                  if not values[Register.TORQUE_ENABLE]
                  and abs(values[Register.PRESENT_VELOCITY]) > _STILL]
        if not moving:
            return now
        if time.monotonic() > until:
            raise ArmError(f'moving without torque: {", ".join(moving)}; hold the arm still, then '
                           'try again')


def _group(leader: int) -> list[int]:
    return [leader, SHADOWS[leader]] if leader in SHADOWS else [leader]


def _holding_goal(servo: Servo, now: dict[int, dict[Register, int]]) -> int:
    values = now[servo.number]
    present, goal = values[Register.PRESENT_POSITION], values[Register.GOAL_POSITION]
    held = all(now[member][Register.TORQUE_ENABLE] and now[member][Register.PROFILE_VELOCITY]
               and now[member][Register.BUS_WATCHDOG] != WATCHDOG_TRIPPED
               for member in _group(servo.number))
    near = abs(goal - present) <= HOLD_TOLERANCE or servo.number == GRIPPER  # or it lets go
    if held and near and servo.low <= goal <= servo.high:
        return goal  # taking the present position would let the arm sag at every start
    nearest = min(max(present, servo.low), servo.high)
    if abs(nearest - present) > HOLD_TOLERANCE:
        raise ArmError(f'{servo} stands at {present} ticks, outside its limits {servo.low} to '
                       f'{servo.high}: move it inside by hand, with torque off')
    return nearest


def _hold(bus: ServoBus, number: int, goal: int, now: dict[int, dict[Register, int]]) -> None:
    """Make the goal certain before torque comes: what a servo refuses it would jump for later."""
    for member in _group(number):
        if not now[member][Register.TORQUE_ENABLE]:
            bus.set(member, Register.PROFILE_VELOCITY, SOFT_START_MS)
            bus.set(member, Register.PROFILE_ACCELERATION, SOFT_START_MS // 4)
        elif now[member][Register.PROFILE_VELOCITY] == 0:  # a watchdog stop sets it to 0: at once
            bus.set(member, Register.PROFILE_VELOCITY, SOFT_START_MS)
        bus.set(member, Register.GOAL_PWM, GRIPPER_PWM if member == GRIPPER else FULL_PWM)
    for member in _group(number):
        if goal != now[member][Register.GOAL_POSITION]:
            bus.set(member, Register.GOAL_POSITION, goal)
        held = bus.get(member, Register.GOAL_POSITION)
        if held != goal:
            raise BusError(f'{SERVOS[member]} keeps the goal {held} instead of {goal} ticks; no '
                           'torque is switched on')


def _torque_on(bus: ServoBus, number: int) -> None:
    for member in _group(number):
        if not bus.get(member, Register.TORQUE_ENABLE):
            bus.set(member, Register.TORQUE_ENABLE, 1)
            if not bus.get(member, Register.TORQUE_ENABLE):
                raise BusError(f'{SERVOS[member]} does not switch its torque on: it has a fault '
                               'that shut it down; `stable-crl arm check` names it')


def torque_off(bus: ServoBus, numbers: Iterable[int] = SERVOS) -> list[str]:
    """
    Let go of the arm, which falls unless it lies on its rest.

    :returns: what could not be switched off, one sentence each.
    """
    failed = []
    for number in numbers:
        try:
            bus.set(number, Register.BUS_WATCHDOG, 0)
            bus.set(number, Register.TORQUE_ENABLE, 0)
        except BusError as error:
            failed.append(str(error))
    return failed
