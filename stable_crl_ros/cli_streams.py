"""Standard output and error that may lose their reader while a command has work to do."""

from collections.abc import Callable, Iterator
import contextlib
import errno
import os
import sys
from typing import TextIO


class Unheard:
    """
    A stream whose reader may go away, as `| head` does: what is written from then on is lost.

    :param stream: of the process; everything else about it stays as it is.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        # A file that cannot be written is no reader that has gone.
        self._losses = (errno.EPIPE, errno.EIO) if stream.isatty() else (errno.EPIPE,)

    def __getattr__(self, name: str):
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write, or lose, a text."""
        self._attempt(self._stream.write, text)
        return len(text)

    def flush(self) -> None:
        """Let out, or lose, what was written."""
        self._attempt(self._stream.flush)

    def _attempt(self, act: Callable, *arguments) -> None:
        try:
            act(*arguments)
        except OSError as error:
            if error.errno not in self._losses:
                raise
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())  # for what is still held back, too
            os.close(nowhere)


@contextlib.contextmanager
def unheard() -> Iterator[None]:
    """Have commands go on to their end, and end as they would, when nobody reads any more."""
    if sys.stdout is None or sys.stderr is None:  # closed by whoever started this
        yield
        return
    with (contextlib.redirect_stdout(Unheard(sys.stdout)),
          contextlib.redirect_stderr(Unheard(sys.stderr))):
        try:
            yield
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
