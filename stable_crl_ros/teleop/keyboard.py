"""The keyboard as a teleoperation device: a held key is the deadman, and every event has a key."""

import math

import numpy as np
from stable_crl_ros.teleop.device import OperatorInput
from stable_crl_ros.teleop.terminal import Terminal

# axis, sign: x forward, y left, z up; rotations about these
MOTION_KEYS = {
    'w': (0, 1), 's': (0, -1), 'a': (1, 1), 'd': (1, -1), 'r': (2, 1), 'f': (2, -1),
    'up': (0, 1), 'down': (0, -1), 'left': (1, 1), 'right': (1, -1),
    'l': (3, 1), 'j': (3, -1), 'i': (4, 1), 'k': (4, -1), 'u': (5, 1), 'o': (5, -1),
}
EVENT_KEYS = {
    '1': 'start_episode', '2': 'end_success', '3': 'end_failure', '4': 'discard_episode',
    '5': 'label_success', '6': 'label_failure',
    'escape': 'stop_arm', 'x': 'stop_arm', 'c': 'resume_arm', 'y': 'clear_faults',
    'h': 'home_arm', 'z': 'sleep_arm',
    ' ': 'gripper', '+': 'faster', '=': 'faster', '-': 'slower', '_': 'slower', 't': 'frame',
}
REPEATABLE = ('stop_arm', 'faster', 'slower')  # every press counts, also those of a held key
REPEAT_S = 0.7  # a terminal waits up to this long before it repeats a held key
HELP = """\
move      w/s or arrows  forward, back     a/d or arrows  left, right     r/f  up, down
turn      j/l  roll      i/k  pitch      u/o  yaw      t  axes of base_link or of the tool
gripper   space  open or close             + / -  faster, slower
arm       x or Esc  STOP     c  resume     y  clear faults     h  home     z  sleep
episode   1  start     2  end: success     3  end: failure     4  discard
          5  label the last: success       6  label the last: failure
Ctrl-C    quit (the arm holds)
"""
EVENTS_HELP = '\n'.join(HELP.splitlines()[3:]) + '\n'


class Keyboard:
    """
    Turn key presses into operator's input.

    A terminal reports presses only, never releases: a key counts as held until its repeats stop
    for `hold_s`.

    :param terminal: where the keys come from; None when `press` is called instead.
    :param hold_s: how long after its last press a key counts as held, seconds.
    :param moves: whether keys steer; without, they only ask for events.
    """

    name = 'keyboard'

    def __init__(self, terminal: Terminal | None = None, hold_s: float = 0.15,
                 moves: bool = True) -> None:
        self._terminal, self._hold_s, self._moves = terminal, hold_s, moves
        self._pressed: dict[tuple[int, int], float] = {}
        self._gripper_s = -math.inf
        self._last = ('', -math.inf)

    def poll(self, now: float) -> OperatorInput:
        """
        Read the keys pressed since the last call.

        :raises TerminalError: when the terminal was closed.
        """
        keys = self._terminal.read_keys() if self._terminal is not None else []
        events = tuple(event for key in keys if (event := self.press(key, now)) is not None)
        return OperatorInput(self._axes(now), self.held(now), events)

    def press(self, key: str, now: float) -> str | None:
        """
        Take one key press.

        :param key: a character, or 'up', 'down', 'left', 'right', 'escape'.
        :param now: monotonic seconds.
        :returns: the event it asks for, one of the values of `EVENT_KEYS`, or None.
        """
        key = key if len(key) > 1 else key.lower()
        repeated = self._last[0] == key and now - self._last[1] < REPEAT_S
        self._last = key, now
        if key in MOTION_KEYS and self._moves:
            axis, sign = MOTION_KEYS[key]
            self._pressed.pop((axis, -sign), None)
            self._pressed[axis, sign] = now
        event = EVENT_KEYS.get(key)
        if event == 'gripper' and self._moves:
            self._gripper_s = now
        if event == 'stop_arm':
            self.release()
        return event if event in REPEATABLE or not repeated else None

    def release(self) -> None:
        """Forget every held key."""
        self._pressed.clear()
        self._gripper_s = -math.inf

    def held(self, now: float) -> bool:
        """Say whether the operator is steering."""
        self._pressed = {key: at for key, at in self._pressed.items() if now - at < self._hold_s}
        return bool(self._pressed) or now - self._gripper_s < self._hold_s

    def close(self) -> None:
        """Give the terminal back as it was."""
        if self._terminal is not None:
            self._terminal.__exit__()

    def _axes(self, now: float) -> np.ndarray:
        axes = np.zeros(6)
        if self.held(now):
            for axis, sign in self._pressed:
                axes[axis] = sign
        return axes
