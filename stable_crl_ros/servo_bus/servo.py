"""One emulated X-series servo: its control table, its rules, its profile generator."""

from collections.abc import Callable
from dataclasses import dataclass
import math
from typing import NamedTuple

from stable_crl_ros.servo_bus.memory import Memory, TRIPPED
from stable_crl_ros.servo_bus.motion import at_speed, in_time, Profile, standing
from stable_crl_ros.servo_bus.packets import ALERT, Error
from stable_crl_ros.servo_bus.table import (
    ACCELERATION_UNIT,
    GOALS,
    HEAT_ERROR,
    LIVE_FROM,
    Mode,
    Model,
    OVERLOAD_ERROR,
    REVERSE,
    TICKS_PER_TURN,
    TIME_PROFILE,
    TORQUE_BY_GOAL,
    VELOCITY_UNIT,
    VOLTAGE_ERROR,
)

RADIANS = 2 * math.pi / TICKS_PER_TURN  # per tick
CENTRE = TICKS_PER_TURN // 2
SPEED_UNIT = VELOCITY_UNIT * 2 * math.pi / 60  # rad/s
REBOOT_S = 0.3  # silence after a reboot
OVERLOAD_S, OVERLOAD_LOAD = 1.0, 0.9  # pushing this hard for this long is an overload
_FULL_PWM = 885
_ARRIVED = 0.02  # rad
_STIFFNESS = RADIANS * 128 * _FULL_PWM / 800  # rad of error at which the motor gives its all


class Drive(NamedTuple):
    """
    What a servo tells its motor.

    :param torque: False when it is limp.
    :param angle: where to go, rad of the joint.
    :param strength: most it may push, 0..1 of what the motor can.
    """

    torque: bool
    angle: float
    strength: float


class Feel(NamedTuple):
    """
    What a servo measures.

    :param angle: rad of the joint.
    :param velocity: rad/s.
    :param load: share of what the motors of the joint can, -1..1; None where nobody knows, and
        the servo takes what its error makes it push.
    """

    angle: float
    velocity: float
    load: float | None = None


@dataclass(frozen=True)
class ServoSpec:
    """
    How one servo of an arm is built in and set up.

    :param servo: its id.
    :param model: what it is.
    :param joint: the name of the joint it turns.
    :param reverse: whether it is mounted mirrored, so that Drive_Mode's reverse bit belongs set.
    :param settings: EEPROM values that differ from the factory's.
    """

    servo: int
    model: Model
    joint: str
    reverse: bool
    settings: dict[str, int]


class Servo:
    """
    A servo that keeps its rules; times called `now` are monotonic seconds.

    :param spec: how it is built in.
    :param feel: asks what it measures now.
    """

    def __init__(self, spec: ServoSpec, feel: Callable[[], Feel]) -> None:
        self.spec, self._feel = spec, feel
        self.dead = False
        self.silent_until = -math.inf
        self._registered: tuple[int, bytes] | None = None
        self._heard = self._pushing_since = math.inf
        self._started = 0.0
        self._profile = standing(0.0, 0.0)
        self.memory = Memory(spec.model, {'ID': spec.servo, **spec.settings})
        self._boot(0.0)

    def __getitem__(self, name: str) -> int:
        return self.memory[name]

    def poke(self, name: str, value: int, now: float) -> None:
        """Set a register as no packet may: read-only ones and locked ones too."""
        self._change({name: value}, now)

    def _boot(self, now: float) -> None:
        self.memory.forget()
        self.memory['Goal_PWM'] = self['PWM_Limit']
        if 'Goal_Current' in self.memory:
            self.memory['Goal_Current'] = self['Current_Limit']
        self._registered, self._pushing_since, self._started = None, math.inf, now
        self._profile = standing(self._feel().angle, now)
        self.memory['Goal_Position'] = self.ticks(self._feel().angle)
        self.memory['Torque_Enable'] = self['Startup_Configuration'] & 1

    def reboot(self, now: float) -> None:
        """Start anew: the volatile registers forget, torque goes, nothing is heard meanwhile."""
        self._boot(now)
        self.silent_until = now + REBOOT_S

    def listening(self, now: float) -> bool:
        """Say whether it is alive and has started."""
        return not self.dead and now >= self.silent_until

    # The angle of the joint and the ticks of the registers.

    def _sign(self) -> int:
        return 1 if bool(self['Drive_Mode'] & REVERSE) == self.spec.reverse else -1

    def ticks(self, angle: float) -> int:
        """Turn rad of the joint into what its registers say."""
        return round(CENTRE + self._sign() * angle / RADIANS) + self['Homing_Offset']

    def angle(self, ticks: float) -> float:
        """Turn ticks of its registers into rad of the joint."""
        return self._sign() * (ticks - self['Homing_Offset'] - CENTRE) * RADIANS

    # Time.

    def heard(self, now: float) -> None:
        """Take note of a packet that was addressed to it."""
        self._heard = now

    def drive(self, now: float) -> Drive:
        """Return what the motor is told now, after what time itself changes."""
        self._watch(now)
        if self.dead or not self['Torque_Enable'] or self['Operating_Mode'] == Mode.CURRENT:
            return Drive(False, 0.0, 0.0)
        strength = min(self['PWM_Limit'], abs(self['Goal_PWM'])) / _FULL_PWM
        if self['Operating_Mode'] == Mode.PWM:
            strength = 1.0
        return Drive(True, self._profile.sample(now)[0], strength)

    def _watch(self, now: float) -> None:
        limit = self['Bus_Watchdog']
        if self['Torque_Enable'] and 0 < limit < TRIPPED and now - self._heard > limit * 0.02:
            stopped = self._heard + limit * 0.02
            self._profile = standing(self._profile.sample(stopped)[0], stopped)
            self.memory['Goal_Position'] = self.ticks(self._profile.goal)
            self.memory['Profile_Velocity'] = self.memory['Profile_Acceleration'] = 0
            self.memory['Bus_Watchdog'] = TRIPPED

    def protect(self, now: float) -> None:
        """Notice heat, voltage and overload, and shut down where Shutdown says so."""
        errors = 0
        low, high = self['Min_Voltage_Limit'], self['Max_Voltage_Limit']
        if not low <= self['Present_Input_Voltage'] <= high:
            errors |= VOLTAGE_ERROR
        if self['Present_Temperature'] > self['Temperature_Limit']:
            errors |= HEAT_ERROR
        if abs(self._load(now)) < OVERLOAD_LOAD:
            self._pushing_since = math.inf
        else:
            self._pushing_since = min(self._pushing_since, now)
            if now - self._pushing_since > OVERLOAD_S:
                errors |= OVERLOAD_ERROR
        if errors & ~self['Hardware_Error_Status']:
            self.raise_error(errors, now)

    def raise_error(self, bits: int, now: float) -> None:
        """Latch hardware errors until a reboot."""
        self.memory['Hardware_Error_Status'] = self['Hardware_Error_Status'] | bits
        if bits & self['Shutdown']:
            self.memory['Torque_Enable'] = 0
            self._profile = standing(self._feel().angle, now)

    def _load(self, now: float) -> float:
        drive = self.drive(now)
        if not drive.torque:
            return 0.0
        if self._feel().load is not None:
            return min(max(self._feel().load, -drive.strength), drive.strength)
        gain = self['Position_P_Gain'] / self.memory.initial('Position_P_Gain')
        push = (drive.angle - self._feel().angle) * gain / _STIFFNESS
        return min(max(push, -drive.strength), drive.strength)

    # What instructions do.

    @property
    def alert(self) -> int:
        """What is added to every error number."""
        return ALERT if self['Hardware_Error_Status'] else 0

    def read(self, address: int, length: int, now: float) -> tuple[Error, bytes]:
        """Return bytes of the control table, the measured ones as they are now."""
        if address + length > LIVE_FROM:
            self.measure(now)
        return self.memory.read(address, length)

    def measure(self, now: float) -> None:
        """Write what is measured into the registers."""
        feel, sign, planned = self._feel(), self._sign(), self._profile.sample(now)
        load = sign * self._load(now)
        moving = not self._profile.finished(now)
        fast = abs(feel.velocity) > self['Moving_Threshold'] * SPEED_UNIT
        arrived = abs(feel.angle - self.angle(self['Goal_Position'])) < _ARRIVED
        full = 1000 if 'Present_Load' in self.memory else self.spec.model.stall_current
        self.memory.measured(
            int((now - self._started) * 1000) % 32768, moving or fast,
            self._profile.shape << 4 | moving << 1 | arrived, round(load * _FULL_PWM),
            round(load * full), round(sign * feel.velocity / SPEED_UNIT), self.ticks(feel.angle),
            round(sign * planned[1] / SPEED_UNIT), self.ticks(planned[0]))

    def write(self, address: int, data: bytes, now: float, as_shadow: bool = False) -> Error:
        """Write registers, all of them or, with an error, none."""
        error, changes = self.memory.parse(address, data, as_shadow)
        self._change(changes, now)
        return error

    def _change(self, changes: dict[str, int], now: float) -> None:
        limp, goals = not self['Torque_Enable'], changes.keys() & set(GOALS)
        for name, value in changes.items():
            self.memory[name] = value
        if goals and self['Drive_Mode'] & TORQUE_BY_GOAL:
            self.memory['Torque_Enable'] = 1
        if limp:
            self._profile, self._heard = standing(self._feel().angle, now), now
        # A goal that was left in the register is gone to as soon as there is torque.
        if self['Torque_Enable'] and (limp or goals):
            self._profile = self._plan(now)

    def _plan(self, now: float) -> Profile:
        state, fastest = self._profile.sample(now), self.spec.model.speed
        mode, sign = self['Operating_Mode'], self._sign()
        if mode in (Mode.VELOCITY, Mode.PWM):
            share = self['Goal_PWM'] / _FULL_PWM
            speed = sign * (share * fastest if mode == Mode.PWM
                            else self['Goal_Velocity'] * SPEED_UNIT)
            return Profile(now, state[0], speed, ((math.inf, 0.0),), state[0])
        goal = self.angle(self['Goal_Position'])
        speed, ramp = self['Profile_Velocity'], self['Profile_Acceleration']
        if self['Drive_Mode'] & TIME_PROFILE and speed:
            return in_time(state, goal, now, speed / 1000, ramp / 1000, fastest)
        if self['Drive_Mode'] & TIME_PROFILE:
            return at_speed(state, goal, now, fastest, 0.0)
        allowed = min(speed, self['Velocity_Limit']) * SPEED_UNIT if speed else fastest
        acceleration = ramp * ACCELERATION_UNIT * 2 * math.pi / 3600
        return at_speed(state, goal, now, min(allowed, fastest), acceleration)

    def register_write(self, address: int, data: bytes) -> None:
        """Keep a write for the next `action`."""
        self._registered = address, data
        self.memory['Registered_Instruction'] = 1

    def action(self, now: float) -> Error:
        """Carry out the write that was kept."""
        if self._registered is None:
            return Error.INSTRUCTION
        registered, self._registered = self._registered, None
        self.memory['Registered_Instruction'] = 0
        return self.write(*registered, now)
