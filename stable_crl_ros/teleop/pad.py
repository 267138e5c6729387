"""One layout for every gamepad, wherever its buttons are read: evdev or `sensor_msgs/Joy`."""

import numpy as np
from stable_crl_ros.teleop.device import OperatorInput

STICKS = ('left_x', 'left_y', 'right_x', 'right_y')  # -1..1, positive left and up
TRIGGERS = ('lt', 'rt')  # 0 released .. 1
CROSS = ('dpad_x', 'dpad_y')  # -1..1, positive left and up
AXES = (*STICKS, *TRIGGERS, *CROSS)
BUTTONS = ('south', 'east', 'west', 'north', 'lb', 'rb', 'lt', 'rt', 'select', 'start', 'mode',
           'l3', 'r3', 'dpad_up', 'dpad_down', 'dpad_left', 'dpad_right')
PRESSED, RELEASED = 0.6, 0.4  # of a trigger or a cross that is read as a button
# What a button asks for, and what it asks for while the left trigger is held. North and west do
# the same: drivers disagree on which is which, and a verdict must not depend on that.
EVENTS = {
    'east': 'stop_arm', 'mode': 'stop_arm', 'south': 'resume_arm', 'rt': 'gripper',
    'north': 'frame', 'west': 'frame', 'start': 'start_episode', 'select': 'discard_episode',
    'dpad_right': 'end_success', 'dpad_left': 'end_failure',
    'dpad_up': 'faster', 'dpad_down': 'slower',
}
SHIFTED_EVENTS = EVENTS | {
    'dpad_right': 'label_success', 'dpad_left': 'label_failure', 'south': 'clear_faults',
    'dpad_up': 'home_arm', 'dpad_down': 'sleep_arm',
}
HELP = """\
steer     hold the left shoulder button (LB, L1): nothing moves without it
move      left stick  forward, back, left, right     right stick  up, down; yaw
turn      with the right shoulder button (RB, R1) too: left stick  pitch, roll
gripper   right trigger (RT, R2)           cross up / down  faster, slower
frame     upper or left of the four buttons: axes of base_link or of the tool
arm       right of the four buttons (B, circle) or the middle one  STOP
          lowest of the four (A, cross)  resume; with the left trigger held: clear faults
          left trigger and cross up  home           left trigger and cross down  sleep
episode   start button  start     cross right  end: success     cross left  end: failure
          select button  discard
          left trigger and cross right / left  label the last: success / failure
"""


class Pad:
    """
    Turn the state of a gamepad's controls into operator's input.

    Set `axes` and `buttons` as they change, then call `read` once.
    """

    def __init__(self) -> None:
        self.axes: dict[str, float] = dict.fromkeys(AXES, 0.0)
        self.buttons: set[str] = set()
        self._down: set[str] = set()
        self._events: list[str] = []

    def press(self, button: str, down: bool) -> None:
        """Take a change of one button, one of `BUTTONS`; short ones between two reads count."""
        (self.buttons.add if down else self.buttons.discard)(button)
        self.update()

    def update(self) -> None:
        """Take what changed: what is pressed now and was not, asks for its event."""
        down = self.buttons | {name for name, value in self._digital().items()
                               if value > (RELEASED if name in self._down else PRESSED)}
        meaning = SHIFTED_EVENTS if 'lt' in down else EVENTS
        self._events += [meaning[name] for name in BUTTONS
                         if name in down - self._down and name in meaning]
        self._down = down

    def settle(self) -> None:
        """Take the present state without asking for anything, as when the device just came."""
        self.update()
        self._events.clear()

    def _digital(self) -> dict[str, float]:
        axes = self.axes
        return {'lt': axes['lt'], 'rt': axes['rt'],
                'dpad_left': axes['dpad_x'], 'dpad_right': -axes['dpad_x'],
                'dpad_up': axes['dpad_y'], 'dpad_down': -axes['dpad_y']}

    def read(self) -> OperatorInput:
        """Return what the operator asks for now, with the events since the last call."""
        events, self._events = tuple(self._events), []
        return OperatorInput(self._steering(), 'lb' in self._down, events)

    def _steering(self) -> np.ndarray:
        x, y, right_x, right_y = (self.axes[name] for name in STICKS)
        if 'rb' in self._down:
            # Stick forward: the nose goes down, +pitch; stick left: the left side goes down.
            return np.array([0.0, 0.0, right_y, -x, y, right_x])
        return np.array([y, x, right_y, 0.0, 0.0, right_x])
