"""From an operator's input to actions: dead zone, curve, speed, frame, gripper, deadman."""

from dataclasses import dataclass

import numpy as np
from stable_crl_ros.actions import BRIDGE_HIGH
from stable_crl_ros.robot.poses import rotation_from, rpy_from
from stable_crl_ros.teleop.device import OperatorInput

LEVELS = (0.1, 0.2, 0.4, 0.7, 1.0)  # of BridgeData's largest step
FRAMES = ('base', 'tool')
GRIPPER_OPEN, GRIPPER_CLOSED = 0.6, 0.4  # between them a gripper counts as what it was before
GRIPPER_REST_S = 0.25  # a second press sooner is the button bouncing
LARGEST_STEP = np.array(BRIDGE_HIGH[:6])  # m, rad per control step


@dataclass(frozen=True)
class Shape:
    """
    What a stick's deflection means.

    :param dead_zone: deflection that still counts as none, 0..1.
    :param curve: 0 for linear .. 1 for cubic: fine near the middle, full at the end.
    """

    dead_zone: float = 0.1
    curve: float = 0.4

    def __call__(self, axes: np.ndarray) -> np.ndarray:
        """
        Shape deflections; what is not finite counts as none.

        :param axes: (6,) -1..1.
        :returns: (6,) -1..1, 0 within the dead zone and continuous at its edge.
        """
        axes = np.clip(np.nan_to_num(np.asarray(axes, float), posinf=0.0, neginf=0.0), -1, 1)
        size = np.clip((np.abs(axes) - self.dead_zone) / (1.0 - self.dead_zone), 0.0, 1.0)
        return np.sign(axes) * ((1.0 - self.curve) * size + self.curve * size ** 3)


class Steering:
    """
    The steering of one arm, whatever the device.

    :param speed: fraction of BridgeData's largest step that full deflection asks for.
    :param frame: 'base': axes of base_link; 'tool': axes of the gripper, x out of the fingers.
    :param shape: of a stick's deflection; full deflection is full speed in any case.
    """

    def __init__(self, speed: float = 0.4, frame: str = 'base',
                 shape: Shape = Shape()) -> None:
        self.speed, self.frame, self.shape = speed, frame, shape
        self.gripper = float('nan')  # setpoint, 0 closed .. 1 open; NaN while unknown
        self._given = OperatorInput()
        self._open = True
        self._toggled_s = -np.inf
        self._pressed = False  # the gripper's key, of which no action has told yet
        self._blocked = False

    @property
    def steers(self) -> bool:
        """Say whether the deadman is held and counts, or a press of the gripper's key is due."""
        return self._holds or self._pressed

    @property
    def _holds(self) -> bool:
        return self._given.deadman and not self._blocked

    def take(self, given: OperatorInput, now: float) -> list[str]:
        """
        Take what the operator asks for.

        :param now: monotonic seconds.
        :returns: the events that are not about steering, for somebody else to carry out.
        """
        self._given = given
        self._blocked = self._blocked and given.deadman
        return [event for event in given.events if not self._steer(event, now)]

    def _steer(self, event: str, now: float) -> bool:
        if event == 'gripper':
            if self._holds:
                self._toggle(now)
        elif event == 'faster':
            self.speed = min((level for level in LEVELS if level > self.speed + 1e-9),
                             default=LEVELS[-1])
        elif event == 'slower':
            self.speed = max((level for level in LEVELS if level < self.speed - 1e-9),
                             default=LEVELS[0])
        elif event == 'frame':
            self.frame = FRAMES[1 - FRAMES.index(self.frame)]
        else:
            # Whoever stops the arm still holds on: the next motion must be meant anew.
            self._blocked = self._blocked or event == 'stop_arm'
            self._pressed = self._pressed and event != 'stop_arm'
            return False
        return True

    def _toggle(self, now: float) -> None:
        bounces = now - self._toggled_s < GRIPPER_REST_S
        self._toggled_s = now
        if not bounces:
            self._open, self._pressed = not self._open, True
            self.gripper = 1.0 if self._open else 0.0

    def follow(self, gripper: float) -> None:
        """
        Take over the arm's own setpoint, so that the operator's first command does not move it.

        :param gripper: 0 closed .. 1 open.
        """
        if np.isfinite(gripper):
            self.gripper = float(np.clip(gripper, 0.0, 1.0))
            if not GRIPPER_CLOSED < self.gripper < GRIPPER_OPEN:
                self._open = self.gripper > 0.5

    def action(self, rotation: np.ndarray | None) -> np.ndarray | None:
        """
        Return what one control step shall do.

        :param rotation: (3, 3) of the gripper in base_link as measured; needed in frame 'tool'.
        :returns: float64, (7,), m, rad about the fixed axes of base_link, gripper 0..1 or NaN;
            None when nobody steers, or the tool's axes are not known: then nothing is sent.
        """
        if not self.steers or (self._holds and self.frame == 'tool' and rotation is None):
            return None
        self._pressed = False
        if not self._holds:
            return np.append(np.zeros(6), self.gripper)
        delta = self.speed * self.shape(self._given.axes) * LARGEST_STEP
        if self.frame == 'tool':
            delta = in_base(delta, rotation)
            delta /= max(1.0, float(np.max(np.abs(delta) / LARGEST_STEP)))
        return np.append(delta, self.gripper)


def in_base(delta: np.ndarray, rotation: np.ndarray) -> np.ndarray:
    """
    Turn a motion along the tool's axes into one along the axes of base_link.

    :param delta: (6,) m, rad, fixed axes of the tool.
    :param rotation: (3, 3) of the tool in base_link.
    :returns: (6,) m, rad, fixed axes of base_link.
    """
    turn = rotation @ rotation_from(delta[3:]) @ rotation.T
    return np.concatenate([rotation @ delta[:3], rpy_from(turn)])
