"""A few lines at the bottom of a terminal, redrawn in place; log lines pass above them."""

import os
from typing import TextIO

CLEAR_LINE = '\x1b[K'
CLEAR_BELOW = '\x1b[J'
UP = '\x1b[A'
WIDTH = 80  # columns, where nobody says


class Screen:
    """
    Draw lines without taking the screen: works over SSH, and leaves what was there.

    After drawing, the cursor waits at the start of the first line, so that what other programs
    print goes over the status and not after it.

    :param stream: where to draw; nothing is drawn unless it is a terminal.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._drawn: list[str] = []
        self.is_terminal = stream.isatty()

    def draw(self, lines: list[str]) -> None:
        """Draw the lines, cut to the terminal's width, where the last ones were."""
        if not self.is_terminal:
            return
        width = self._width()
        text = [line[:width - 1] for line in lines]
        self._write('\n'.join(f'\r{CLEAR_LINE}{line}' for line in text)
                    + '\r' + UP * (len(text) - 1))
        self._drawn = text

    def clear(self) -> None:
        """Take the lines away, before something else is printed."""
        if self._drawn:
            self._write(f'\r{CLEAR_BELOW}')
            self._drawn = []

    def _width(self) -> int:
        try:
            return os.get_terminal_size(self._stream.fileno()).columns or WIDTH
        except (OSError, ValueError):
            return WIDTH

    def _write(self, text: str) -> None:
        try:
            self._stream.write(text)
            self._stream.flush()
        except OSError:  # the terminal is gone
            self.is_terminal = False
