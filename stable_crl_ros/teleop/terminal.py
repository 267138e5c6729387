"""Single keys of a terminal, over SSH too: no display is needed."""

import contextlib
import os
import select
import termios
import tty

from stable_crl_ros.teleop.device import DeviceError

_ESCAPES = {b'\x1b[A': 'up', b'\x1b[B': 'down', b'\x1b[C': 'right', b'\x1b[D': 'left',
            b'\x1bOA': 'up', b'\x1bOB': 'down', b'\x1bOC': 'right', b'\x1bOD': 'left'}
STDIN = 0
_ESCAPE_WAIT_S = 0.02


class TerminalError(DeviceError):
    """No keyboard can be read here."""


class Terminal:
    """
    Read single keys from a terminal without echo; a context manager that restores it.

    :param descriptor: an open terminal; None for standard input.
    :raises TerminalError: on entry, when it is no terminal.
    """

    def __init__(self, descriptor: int | None = None) -> None:
        self._descriptor = STDIN if descriptor is None else descriptor
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
