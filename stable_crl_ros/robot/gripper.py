"""The gripper's slider-crank: opening 0..1 <-> finger distance (m) <-> motor angle (rad)."""

import math

FINGER_CLOSED, FINGER_OPEN = 0.015, 0.037  # m, each finger from the middle (the vendor's URDF)
HORN, COUPLER = 0.014, 0.024  # m, on the motor's axis; from its end to the finger's carriage


def finger_position(opening: float) -> float:
    """Turn a gripper opening (0 closed .. 1 open) into one finger's distance (m)."""
    return FINGER_CLOSED + opening * (FINGER_OPEN - FINGER_CLOSED)


def opening_from_finger(position: float) -> float:
    """Invert `finger_position`, clipped to 0..1."""
    opening = (position - FINGER_CLOSED) / (FINGER_OPEN - FINGER_CLOSED)
    return min(max(opening, 0.0), 1.0)


def finger_from_angle(angle: float) -> float:
    """
    Return one finger's distance from the middle (m) at an angle of the motor.

    :param angle: rad, 0 at the motor's centre, with the horn across the fingers' travel; they
        open as it grows from -pi/2 to pi/2, and close again beyond.
    """
    across = HORN * math.cos(angle)
    return HORN * math.sin(angle) + math.sqrt(COUPLER * COUPLER - across * across)


def angle_from_finger(position: float) -> float:
    """
    Invert `finger_from_angle` between -pi/2 and pi/2; what the crank cannot reach is clipped.

    :param position: of one finger, m from the middle; 0.010 to 0.038 is what the crank reaches.
    :returns: motor angle, rad.
    """
    position = min(max(position, COUPLER - HORN), COUPLER + HORN)
    sine = (position ** 2 + HORN ** 2 - COUPLER ** 2) / (2.0 * position * HORN)
    return math.asin(min(max(sine, -1.0), 1.0))


def horn_angle(opening: float) -> float:
    """Turn a gripper opening, clipped to 0..1, into the motor's angle (rad)."""
    return angle_from_finger(finger_position(min(max(opening, 0.0), 1.0)))


def opening_from_angle(angle: float) -> float:
    """Turn the motor's angle (rad) into the gripper opening, clipped to 0..1."""
    return opening_from_finger(finger_from_angle(angle))
