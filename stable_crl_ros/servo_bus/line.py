"""The emulated bus behind a pseudo-terminal, which a driver opens like a serial port."""

from collections import deque
from collections.abc import Callable
import contextlib
import errno
import math
import os
from pathlib import Path
import select
import socket
import termios
import threading
import time
import tty

from stable_crl_ros.servo_bus.bus import Answer, Bus

USB_BYTES = 62  # an FTDI adapter hands over this many at once
_BAUD = {getattr(termios, f'B{rate}'): rate for rate in (
    9600, 57600, 115200, 1_000_000, 2_000_000, 3_000_000, 4_000_000)}
_SPEED = 5  # output speed in what tcgetattr returns


class Line:
    """
    One pseudo-terminal and the servos behind it.

    :param bus: the servos.
    :param link: path of a symbolic link that leads to the port; '' for none.
    """

    def __init__(self, bus: Bus, link: str = '') -> None:
        self._bus, self._link = bus, Path(link) if link else None
        self._ends: tuple[int, int] | None = None  # ours, the host's
        self._answers: deque[Answer] = deque()
        self.port = ''
        self.plug()

    def plug(self) -> None:
        """Connect the adapter: there is a port, at another path than before."""
        self.unplug()
        self._ends = ours, host = os.openpty()
        tty.setraw(host)
        settings = termios.tcgetattr(host)
        settings[_SPEED - 1] = settings[_SPEED] = termios.B1000000
        termios.tcsetattr(host, termios.TCSANOW, settings)
        os.set_blocking(ours, False)
        self.port = os.ttyname(host)
        if self._link is not None:
            self._link.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            fresh = self._link.with_name(f'{self._link.name}.{os.getpid()}')
            fresh.unlink(missing_ok=True)
            fresh.symlink_to(self.port)
            fresh.replace(self._link)

    def unplug(self) -> None:
        """Pull the adapter out: whoever has the port open gets an error."""
        if self._ends is not None:
            for end in self._ends:
                os.close(end)
            self._ends = None
            self._answers.clear()
            if self._link is not None:
                self._link.unlink(missing_ok=True)

    @property
    def readable(self) -> list[int]:
        """What to wait for."""
        return [] if self._ends is None else [self._ends[0]]

    @property
    def wait_s(self) -> float | None:
        """Seconds until something is to be done; None for not before the host speaks."""
        if not self._answers:
            return self._bus.arm.period_s
        size, due = 0, 0.0
        for answer in self._answers:
            # An adapter waits up to 1 ms for more before it hands over less than a full load.
            if due and answer.due - due > 1e-3:
                break
            size, due = size + len(answer.data), max(due, answer.due)
            if size >= USB_BYTES:
                break
        return max(min(due - time.monotonic(), self._bus.arm.period_s or math.inf), 0.0)

    def idle(self) -> None:
        """Let servos and arm look at each other while the host is silent."""
        self._bus.update(time.monotonic())

    def listen(self) -> None:
        """Take what the host has sent."""
        try:
            data = os.read(self._ends[0], 4096)
        except OSError as error:
            if error.errno in (errno.EIO, errno.EAGAIN):
                return
            raise
        now = time.monotonic()
        baud_rate = _BAUD.get(termios.tcgetattr(self._ends[1])[_SPEED], 0)
        self._answers += self._bus.receive(data, now, baud_rate)

    def speak(self) -> None:
        """Send the answers that are due."""
        now, data = time.monotonic(), b''
        while self._answers and self._answers[0].due <= now + 5e-5:
            data += self._answers.popleft().data
        if data and self._ends is not None:
            with contextlib.suppress(BlockingIOError):  # nobody reads: lost, as on a wire
                os.write(self._ends[0], data)


class LineThread:
    """
    Serve a line, and requests about it, in a thread of its own.

    :param line: unplugged when this is closed.
    :param server: a listening socket for requests, or None.
    :param on_request: called with each connected socket that has something to say; False ends it.
    :param clients: sockets that are connected already.
    """

    def __init__(self, line: Line, server: socket.socket | None,
                 on_request: Callable[[socket.socket], bool],
                 clients: list[socket.socket]) -> None:
        self._line, self._server, self._on_request = line, server, on_request
        self._clients = clients
        self._wake, self._end = os.pipe()
        self._thread = threading.Thread(target=self._serve, name='servo-bus', daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the thread and close the port."""
        if self._thread.is_alive():
            os.write(self._end, b'.')
            self._thread.join()

    def wait(self) -> None:
        """Wait until the thread has ended."""
        self._thread.join()

    def _serve(self) -> None:
        servers = [] if self._server is None else [self._server]
        try:
            while True:
                ready, _, _ = select.select(
                    [*self._line.readable, self._wake, *servers, *self._clients], [], [],
                    self._line.wait_s)
                if self._wake in ready:
                    return
                self._line.speak()
                if not ready:
                    self._line.idle()
                if any(end in ready for end in self._line.readable):
                    self._line.listen()
                for ready_socket in [*servers, *self._clients]:
                    if ready_socket in ready:
                        self._talk(ready_socket)
        finally:
            self._line.unplug()
            for open_socket in [*servers, *self._clients]:
                open_socket.close()
            os.close(self._wake)
            os.close(self._end)

    def _talk(self, ready_socket: socket.socket) -> None:
        if ready_socket is self._server:
            self._clients.append(ready_socket.accept()[0])
        elif not self._on_request(ready_socket):
            self._clients.remove(ready_socket)
            ready_socket.close()
