"""The path a servo's profile generator makes from one goal to the next."""

from dataclasses import dataclass
import math

_STEP_ACCELERATION = 100.0  # rad/s^2, of a motor told to go there at once


@dataclass(frozen=True)
class Profile:
    """
    A path of constant accelerations; after the last phase it stands at `goal`.

    :param begin: monotonic time it starts at, s.
    :param position: where it starts, rad.
    :param velocity: with which it starts, rad/s.
    :param phases: duration (s) and acceleration (rad/s^2) of each part.
    :param goal: rad.
    :param shape: bits 4 and 5 of Moving_Status: 0 step, 1 rectangle, 2 triangle, 3 trapezoid.
    """

    begin: float
    position: float
    velocity: float
    phases: tuple[tuple[float, float], ...]
    goal: float
    shape: int = 0

    @property
    def duration(self) -> float:
        """Seconds from begin to standing at the goal."""
        return sum(seconds for seconds, _ in self.phases)

    def finished(self, now: float) -> bool:
        """Say whether the goal is reached at this time."""
        return now - self.begin >= self.duration

    def sample(self, now: float) -> tuple[float, float]:
        """Return position (rad) and velocity (rad/s) at a monotonic time (s)."""
        left, position, velocity = max(now - self.begin, 0.0), self.position, self.velocity
        for seconds, acceleration in self.phases:
            if left < seconds:
                return (position + velocity * left + acceleration * left * left / 2,
                        velocity + acceleration * left)
            position += velocity * seconds + acceleration * seconds * seconds / 2
            velocity += acceleration * seconds
            left -= seconds
        return self.goal, 0.0


def standing(position: float, now: float) -> Profile:
    """Return the path that stays where it is."""
    return Profile(now, position, 0.0, (), position)


def in_time(state: tuple[float, float], goal: float, now: float, seconds: float,
            acceleration_s: float, fastest: float) -> Profile:
    """
    Plan a time-based profile: there in `seconds`, or as late as the motor's speed makes it.

    :param state: position (rad) and velocity (rad/s) now.
    :param acceleration_s: of which as much is spent on starting, and on stopping, at most half.
    :param fastest: the motor's speed, rad/s.
    """
    position, velocity = state
    ramp = min(acceleration_s, seconds / 2)
    distance = goal - position
    if ramp <= 0.0:
        seconds = max(seconds, abs(distance) / fastest)
        return Profile(now, position, distance / seconds, ((seconds, 0.0),), goal, 1)
    cruise = (distance - velocity * ramp / 2) / (seconds - ramp)
    if abs(cruise) > fastest:
        cruise = math.copysign(fastest, cruise)
        seconds = ramp + (distance - velocity * ramp / 2) / cruise
    flat = seconds - 2 * ramp
    phases = ((ramp, (cruise - velocity) / ramp), (flat, 0.0), (ramp, -cruise / ramp))
    return Profile(now, position, velocity, phases, goal, 3 if flat > 0 else 2)


def at_speed(state: tuple[float, float], goal: float, now: float, speed: float,
             acceleration: float) -> Profile:
    """
    Plan a velocity-based profile.

    :param state: position (rad) and velocity (rad/s) now.
    :param speed: cruising speed, rad/s.
    :param acceleration: rad/s^2; 0 for none given.
    """
    position, velocity = state
    shape = 3 if acceleration > 0.0 else 0
    acceleration = acceleration or _STEP_ACCELERATION
    # The side on which the goal lies once the present speed has been braked away.
    braked = position + velocity * abs(velocity) / (2 * acceleration)
    side = 1.0 if goal >= braked else -1.0
    ahead, start = side * (goal - position), side * velocity
    peak = math.sqrt(max(acceleration * ahead + start * start / 2, 0.0))
    if peak < speed and shape == 3:
        shape = 2
    cruise = min(peak, speed)
    up = (cruise - start) / acceleration
    sign = side if up >= 0.0 else -side  # faster than allowed: brake first
    squares = 2 * cruise * cruise - start * start if up >= 0.0 else start * start
    ramps = squares / (2 * acceleration)
    flat = max(ahead - ramps, 0.0) / cruise if cruise > 0.0 else 0.0
    phases = ((abs(up), sign * acceleration), (flat, 0.0),
              (cruise / acceleration, -side * acceleration))
    return Profile(now, position, velocity, phases, goal, shape)
