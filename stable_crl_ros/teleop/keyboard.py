"""Keyboard teleoperation: keys to 7-D actions and episode events, and reading a raw terminal."""

import contextlib
from dataclasses import dataclass
import os
import select
import sys
import termios
import tty

import numpy as np
from stable_crl_ros.actions import BRIDGE_HIGH

# axis of the action, sign: base_link x forward, y left, z up; rotations about these fixed axes
MOTION_KEYS = {
    'w': (0, 1), 's': (0, -1), 'a': (1, 1), 'd': (1, -1), 'r': (2, 1), 'f': (2, -1),
    'up': (0, 1), 'down': (0, -1), 'left': (1, 1), 'right': (1, -1),
    'l': (3, 1), 'j': (3, -1), 'i': (4, 1), 'k': (4, -1), 'u': (5, 1), 'o': (5, -1),
}
EVENT_KEYS = {
    '1': 'start_episode', '2': 'end_success', '3': 'end_failure', '4': 'discard_episode',
    '5': 'label_success', '6': 'label_failure',
    'escape': 'stop_arm', 'x': 'stop_arm', 'c': 'resume_arm', 'h': 'home_arm', 'z': 'sleep_arm',
}
HELP = """\
move      w/s or arrows  forward, back     a/d or arrows  left, right     r/f  up, down
turn      j/l  roll      i/k  pitch      u/o  yaw      (about the axes of base_link)
gripper   space  open or close             + / -  faster, slower
arm       x or Esc  STOP     c  resume     h  home     z  sleep
episode   1  start     2  end: success     3  end: failure     4  discard
          5  label the last: success       6  label the last: failure
Ctrl-C    quit (the arm holds)
"""
SPEED_STEP = 1.25
SPEED_RANGE = (0.1, 1.0)
_ESCAPES = {b'\x1b[A': 'up', b'\x1b[B': 'down', b'\x1b[C': 'right', b'\x1b[D': 'left',
            b'\x1bOA': 'up', b'\x1bOB': 'down', b'\x1bOC': 'right', b'\x1bOD': 'left'}
_ESCAPE_WAIT_S = 0.02


class TerminalError(RuntimeError):
    """No keyboard can be read here."""


@dataclass
class Keyboard:
    """
    Turn key presses into actions. A terminal reports presses only, never releases: a key counts as
    held until its repeats stop for `hold_s`.

    :param hold_s: how long after its last press a key counts as held, seconds.
    :param speed: fraction of BridgeData's largest step that a held key asks for.
    :param gripper: setpoint, 0 closed .. 1 open; NaN while unknown.
    """

    hold_s: float = 0.15
    speed: float = 0.4
    gripper: float = float('nan')

    def __post_init__(self) -> None:
        self._pressed: dict[tuple[int, int], float] = {}
        self._gripper_pressed = -np.inf

    def press(self, key: str, now: float) -> str | None:
        """
        Take one key press.

        :param key: a character, or 'up', 'down', 'left', 'right', 'escape'.
        :param now: monotonic seconds.
        :returns: the event it asks for, one of the values of `EVENT_KEYS`, or None.
        """
        key = key if len(key) > 1 else key.lower()
        if key in MOTION_KEYS:
            axis, sign = MOTION_KEYS[key]
            self._pressed.pop((axis, -sign), None)
            self._pressed[axis, sign] = now
        elif key == ' ':
            self.gripper = 1.0 if self.gripper <= 0.5 else 0.0
            self._gripper_pressed = now
        elif key in '+=-_':
            factor = SPEED_STEP if key in '+=' else 1 / SPEED_STEP
            self.speed = float(np.clip(self.speed * factor, *SPEED_RANGE))
        event = EVENT_KEYS.get(key)
        if event == 'stop_arm':
            self.release()
        return event

    def release(self) -> None:
        """Forget every held key."""
        self._pressed.clear()
        self._gripper_pressed = -np.inf

    def held(self, now: float) -> bool:
        """Say whether the operator is steering."""
        self._pressed = {key: at for key, at in self._pressed.items() if now - at < self.hold_s}
        return bool(self._pressed) or now - self._gripper_pressed < self.hold_s

    def action(self, now: float) -> np.ndarray | None:
        """
        Return what the held keys ask for during one control step.

        :param now: monotonic seconds.
        :returns: float64, shape (7,), metres, radians, gripper 0..1 or NaN; None when no key is
            held, so that the operator lets go of the arm by letting go of the keys.
        """
        if not self.held(now):
            return None
        action = np.zeros(7)
        for axis, sign in self._pressed:
            action[axis] = sign * self.speed * BRIDGE_HIGH[axis]
        action[6] = self.gripper
        return action


class Terminal:
    """
    Read single keys from a terminal without echo; a context manager that restores it.

    :param descriptor: an open terminal; None for standard input.
    :raises TerminalError: on entry, when it is no terminal.
    """

    def __init__(self, descriptor: int | None = None) -> None:
        self._descriptor = sys.stdin.fileno() if descriptor is None else descriptor
        self._saved: list | None = None

    def __enter__(self) -> 'Terminal':
        if not os.isatty(self._descriptor):
            raise TerminalError('standard input is no terminal: run the teleop node in a terminal '
                                'of its own, not from a launch file or a pipe')
        self._saved = termios.tcgetattr(self._descriptor)
        tty.setcbreak(self._descriptor)
        return self

    def __exit__(self, *_) -> None:
        if self._saved is not None:
            with contextlib.suppress(termios.error):  # the terminal may be gone
                termios.tcsetattr(self._descriptor, termios.TCSADRAIN, self._saved)
            self._saved = None

    @property
    def is_open(self) -> bool:
        """Say whether keys are being read."""
        return self._saved is not None

    def read_keys(self, timeout_s: float = 0.0) -> list[str]:
        """
        Return the keys pressed since the last call.

        :param timeout_s: how long to wait for the first one, seconds.
        :raises TerminalError: when the terminal was closed.
        """
        if not self._ready(timeout_s):
            return []
        try:
            data = os.read(self._descriptor, 1024)
        except OSError:
            data = b''
        if not data:
            raise TerminalError('the terminal was closed')
        if data.endswith(b'\x1b') and self._ready(_ESCAPE_WAIT_S):
            data += os.read(self._descriptor, 8)  # the rest of an arrow key
        return parse_keys(data)

    def _ready(self, timeout_s: float) -> bool:
        return bool(select.select([self._descriptor], [], [], timeout_s)[0])


def parse_keys(data: bytes) -> list[str]:
    """
    Split what a terminal sent into keys.

    :returns: characters, 'up', 'down', 'left', 'right', and 'escape' for a lone Esc.
    """
    keys = []
    while data:
        if data[:3] in _ESCAPES:
            keys.append(_ESCAPES[data[:3]])
            data = data[3:]
        elif data[:1] == b'\x1b':
            if data[1:2] in (b'[', b'O'):  # another function key: swallow it whole
                end = next((i for i in range(2, len(data)) if 64 <= data[i] <= 126), len(data))
                data = data[end + 1:]
            else:
                keys.append('escape')
                data = data[1:]
        else:
            keys.append(data[:1].decode('ascii', 'ignore'))
            data = data[1:]
    return [key for key in keys if key]
