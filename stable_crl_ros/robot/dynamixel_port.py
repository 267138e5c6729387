"""The serial port of the servos: found by its id, locked, quick, and never waited for too long."""

import contextlib
import fcntl
import os
from pathlib import Path
import select
import termios
import time

from dynamixel_sdk import PortHandler
import serial
from serial.tools import list_ports
from stable_crl_ros.robot.arm import ArmError

USB_ID = (0x0403, 0x6014)  # FT232H, the chip of the U2D2 and of the WidowX' own converter
DEFAULT_LINK = '/dev/ttyDXL'
UDEV_FILE = '/etc/udev/rules.d/99-ttyDXL.rules'
UDEV_RULE = ('SUBSYSTEM=="tty", ATTRS{idVendor}=="0403", ATTRS{idProduct}=="6014", '
             'ENV{ID_MM_DEVICE_IGNORE}="1", ATTR{device/latency_timer}="1", MODE="0666", '
             'SYMLINK+="ttyDXL"')
UDEV_HELP = (f'put this line into {UDEV_FILE}\n  {UDEV_RULE}\n'
             'then run: sudo udevadm control --reload-rules && sudo udevadm trigger')
_LOW_LATENCY = 1  # ms
_COMMAND_SHOWN = 100  # characters


class PortError(ArmError):
    """The port is not there, is taken, too slow, or was pulled."""


def find_port(port: str = '') -> str:
    """
    Return the port of the arm by a name that stays the same when the cable is plugged again.

    :param port: as the user named it; '' looks for the only converter there is.
    :raises PortError: when it is not there, or when there are several to choose from.
    """
    if port:
        if os.path.exists(port):
            return port
        raise PortError(f'{port} does not exist{_what_there_is()}')
    if os.path.exists(DEFAULT_LINK):
        return DEFAULT_LINK
    found = list_converters()
    if len(found) == 1:
        return found[0]
    if found:
        raise PortError('several converters are plugged in, name the one of this arm: '
                        + ', '.join(found))
    raise PortError('no servo converter (FTDI 0403:6014) is plugged in; if it is, '
                    + UDEV_HELP)


def _what_there_is() -> str:
    found = list_converters()
    return f'; plugged in: {", ".join(found)}' if found else '; no FTDI 0403:6014 is plugged in'


def list_converters() -> list[str]:
    """Return the USB converters a Dynamixel bus may hang on, by their stable names."""
    return sorted(stable_name(port.device) for port in list_ports.comports()
                  if (port.vid, port.pid) == USB_ID)


def stable_name(device: str, folder: str = '/dev/serial/by-id') -> str:
    """Return the link that names a device by its serial number, or the device itself."""
    real = os.path.realpath(device)
    links = sorted(Path(folder).glob('*')) if os.path.isdir(folder) else []
    return next((str(link) for link in links if os.path.realpath(link) == real), device)


def latency_timer(port: str, sysfs: str = '/sys') -> Path | None:
    """Return the file that holds the converter's latency timer; None where there is none."""
    name = Path(os.path.realpath(port)).name
    path = Path(sysfs, 'bus/usb-serial/devices', name, 'latency_timer')
    return path if path.exists() else None


def check_latency(port: str, sysfs: str = '/sys') -> None:
    """
    Refuse a converter that keeps answers for longer than 1 ms (FTDI's default is 16 ms).

    :raises PortError: naming the command that mends it now, and the rule that does for ever.
    """
    path = latency_timer(port, sysfs)
    if path is None:
        return
    value = int(path.read_text())
    if value > _LOW_LATENCY:
        raise PortError(
            f'the latency timer of {port} is {value} ms: every cycle would wait for it. Now:\n'
            f'  echo {_LOW_LATENCY} | sudo tee {path}\nFor ever: {UDEV_HELP}')


def holders(port: str) -> list[str]:
    """Name the processes that lock a port, else those that have it open, as far as one sees."""
    real, opened = os.path.realpath(port), []
    for process in Path('/proc').glob('[0-9]*'):
        with contextlib.suppress(OSError):
            if any(os.path.realpath(link) == real for link in (process / 'fd').iterdir()):
                opened.append(int(process.name))
    return [_describe(number) for number in sorted(_lockers(real) or opened)]


def _lockers(path: str) -> set[int]:
    """Return the processes with a lock on a file, by /proc/locks (number, kind, ..., inode)."""
    with contextlib.suppress(OSError):
        file = os.stat(path)
        device = f'{os.major(file.st_dev):02x}:{os.minor(file.st_dev):02x}:{file.st_ino}'
        return {int(words[4]) for line in Path('/proc/locks').read_text().splitlines()
                if len(words := line.split()) > 5 and words[5] == device}
    return set()


def _describe(process: int) -> str:
    if process == os.getpid():
        return 'this very process'
    words = b''
    with contextlib.suppress(OSError):
        words = Path(f'/proc/{process}/cmdline').read_bytes().replace(b'\0', b' ')
    command = ' '.join(words.decode(errors='replace').split())
    return f'{command[:_COMMAND_SHOWN] or "a process"} (process {process})'


class LockedPort(PortHandler):
    """
    dynamixel_sdk's port, whose waits all end, that costs no CPU while waiting, and has a lock.

    The SDK polls without pause and allows 34 ms per packet, more than a servo cycle; here a
    packet may take `patience_s` longer than its bytes, and never beyond `deadline`.

    :param port: device or link.
    :param baud_rate: bit/s.
    :param patience_s: from sending to the last byte, s, beyond the bytes' own time.
    """

    def __init__(self, port: str, baud_rate: int, patience_s: float) -> None:
        super().__init__(port)
        self.baudrate = baud_rate
        self.patience_s = patience_s
        self.deadline = float('inf')  # monotonic s
        self.ran_out = False  # whether the last packet ended by lack of time
        self._until = 0.0

    def open(self) -> None:
        """
        Open the port for this process alone.

        :raises PortError: when it cannot be opened, or another process holds it (named).
        """
        try:
            opened = self.openPort()
        except (OSError, termios.error, ValueError) as error:
            raise PortError(_explain(self.port_name, error)) from error
        if not opened:
            raise PortError(f'{self.baudrate} bit/s is no rate that servos know')
        try:
            self._lock()
            self._hurry()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the port and free the lock; calling it twice is harmless."""
        self.is_using = False
        if self.is_open:
            with contextlib.suppress(OSError, termios.error):
                self.closePort()
            self.is_open = False

    def setupPort(self, cflag_baud: int) -> bool:  # noqa: N802 - the SDK's name
        """Open without waiting and without a lock; `open` adds that."""
        self.ser = serial.Serial(self.port_name, self.baudrate, timeout=0, write_timeout=0.2)
        self.is_open = True
        self.tx_time_per_byte = 10_000.0 / self.baudrate  # ms
        return True

    def _lock(self) -> None:
        try:
            fcntl.flock(self.ser.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            who = ', '.join(holders(self.port_name)) or 'another process'
            raise PortError(f'{self.port_name} is held by {who}; end it, or use its node '
                            'instead') from error
        with contextlib.suppress(OSError):
            fcntl.ioctl(self.ser.fd, termios.TIOCEXCL)

    def _hurry(self) -> None:
        # The low-latency flag makes ftdi_sio use 1 ms, and needs no rights.
        with contextlib.suppress(OSError, ValueError, AttributeError):
            self.ser.set_low_latency_mode(True)
        check_latency(self.port_name)

    def readPort(self, length: int) -> bytes:  # noqa: N802 - the SDK's name
        """Wait for bytes until the packet's time is up; return what came, up to `length`."""
        left = self._until - time.monotonic()
        if left <= 0.0:
            return b''  # also when bytes keep coming: garbage must not hold us
        ready, _, _ = select.select([self.ser.fd], [], [], left)
        return self.ser.read(length) if ready else b''

    def setPacketTimeout(self, packet_length: int) -> None:  # noqa: N802 - the SDK's name
        """Start the clock of a packet of this many bytes."""
        self.setPacketTimeoutMillis(self.tx_time_per_byte * packet_length
                                    + 1000.0 * self.patience_s)

    def setPacketTimeoutMillis(self, msec: float) -> None:  # noqa: N802 - the SDK's name
        """Start the clock of a packet that may take this long."""
        self.ran_out = False
        self._until = min(time.monotonic() + 0.001 * msec, self.deadline)

    def isPacketTimeout(self) -> bool:  # noqa: N802 - the SDK's name
        """Say whether the packet's time is up."""
        self.ran_out = time.monotonic() >= self._until
        return self.ran_out


def _explain(port: str, error: Exception) -> str:
    if getattr(error, 'errno', None) == 13:
        return f'no permission to open {port}: add yourself to its group, or {UDEV_HELP}'
    if getattr(error, 'errno', None) == 16:
        return f'{port} is held by {", ".join(holders(port)) or "another process"}; end it'
    return f'{port} cannot be opened: {error}'
