"""Gamepads through evdev: found by what they can do, mapped to one layout, hot-plugged."""

from collections.abc import Callable
import contextlib
import os
from pathlib import Path
import select
from typing import Protocol

from stable_crl_ros.teleop.device import AbsentError, DeviceError, OperatorInput
from stable_crl_ros.teleop.pad import Pad
from stable_crl_ros.teleop.udev import FILE

FOLDER = Path('/dev/input')
# Codes of linux/input-event-codes.h, roles of the kernel's Documentation/input/gamepad.rst.
EV_SYN, EV_KEY, EV_ABS = 0, 1, 3
SYN_REPORT, SYN_DROPPED = 0, 3
BTN_TRIGGER, BTN_SOUTH = 0x120, 0x130
ABS_X, ABS_Y, ABS_Z, ABS_RX, ABS_RY, ABS_RZ, ABS_GAS, ABS_BRAKE = 0, 1, 2, 3, 4, 5, 9, 10
ABS_HAT0X, ABS_HAT0Y, ABS_HAT2X, ABS_HAT2Y = 16, 17, 20, 21
BUTTONS = {
    0x130: 'south', 0x131: 'east', 0x133: 'north', 0x134: 'west', 0x136: 'lb', 0x137: 'rb',
    0x138: 'lt', 0x139: 'rt', 0x13a: 'select', 0x13b: 'start', 0x13c: 'mode', 0x13d: 'l3',
    0x13e: 'r3', 0x220: 'dpad_up', 0x221: 'dpad_down', 0x222: 'dpad_left', 0x223: 'dpad_right',
}
# Pads with a switch X/D in position D number their buttons from BTN_TRIGGER on.
NUMBERED = ('west', 'south', 'east', 'north', 'lb', 'rb', 'lt', 'rt', 'select', 'start', 'l3',
            'r3')


class Source(Protocol):
    """What is used of an `evdev.InputDevice`."""

    name: str
    fd: int

    def read(self):
        """Return the events that have come."""

    def capabilities(self) -> dict:
        """Return event type -> codes, those of axes with their range."""

    def active_keys(self) -> list[int]:
        """Return the buttons that are pressed."""

    def absinfo(self, code: int):
        """Return value and range of one axis."""

    def close(self) -> None:
        """Let go of it."""


class Gamepad:
    """
    Read one gamepad.

    :param source: an open `evdev.InputDevice`.
    :raises DeviceError: when it has no two sticks and a shoulder button.
    """

    def __init__(self, source: Source) -> None:
        self.name = source.name
        self._source, self._pad = source, Pad()
        can = source.capabilities()
        ranges = dict(can.get(EV_ABS, ()))
        self._buttons = _name_buttons(can.get(EV_KEY, ()))
        self._axes = _name_axes(ranges)
        if missing := lacking(ranges, can.get(EV_KEY, ())):
            raise DeviceError(f"{self.name} has no {missing}; read it with ROS 2's joy package "
                              'instead (device joy, and joy_axes and joy_buttons for its layout)')
        self._ranges = ranges
        self._dropped = False
        self._resync()

    def poll(self, now: float) -> OperatorInput:
        """
        Take the events that have come.

        :raises DeviceError: when the pad is gone.
        """
        try:
            while select.select([self._source.fd], [], [], 0)[0]:
                events = list(self._source.read())
                if not events:
                    raise DeviceError('it was unplugged')
                for event in events:
                    self._take(event)
        except BlockingIOError:
            pass
        except (OSError, ValueError) as error:  # ValueError: its descriptor is closed
            raise DeviceError(f'it was unplugged: {error}') from error
        return self._pad.read()

    def close(self) -> None:
        """Let go of the pad."""
        with contextlib.suppress(OSError):
            self._source.close()

    def _take(self, event) -> None:
        if event.type == EV_SYN and event.code == SYN_DROPPED:
            self._dropped = True  # what follows up to the next report is incomplete
        elif event.type == EV_SYN and event.code == SYN_REPORT and self._dropped:
            self._dropped = False
            self._resync()
        elif self._dropped:
            return
        elif event.type == EV_KEY and event.code in self._buttons and event.value != 2:
            self._pad.press(self._buttons[event.code], bool(event.value))
        elif event.type == EV_ABS and event.code in self._axes:
            self._move(event.code, event.value)
            self._pad.update()

    def _move(self, code: int, value: int) -> None:
        name, low, high = self._axes[code], self._ranges[code].min, self._ranges[code].max
        part = (value - low) / max(high - low, 1)  # 0..1
        # Kernel: negative is left or up, a trigger starts at its least value.
        self._pad.axes[name] = part if name in ('lt', 'rt') else 1.0 - 2.0 * part

    def _resync(self) -> None:
        try:
            for code in self._axes:
                self._move(code, self._source.absinfo(code).value)
            self._pad.buttons = {self._buttons[code] for code in self._source.active_keys()
                                 if code in self._buttons}
        except OSError as error:
            raise DeviceError(f'it was unplugged: {error}') from error
        self._pad.settle()


def _name_buttons(codes) -> dict[int, str]:
    if BTN_SOUTH in codes or BTN_TRIGGER not in codes:
        return {code: BUTTONS[code] for code in codes if code in BUTTONS}
    return {BTN_TRIGGER + i: name for i, name in enumerate(NUMBERED) if BTN_TRIGGER + i in codes}


def _name_axes(ranges) -> dict[int, str]:
    names = {ABS_X: 'left_x', ABS_Y: 'left_y', ABS_HAT0X: 'dpad_x', ABS_HAT0Y: 'dpad_y',
             ABS_HAT2X: 'rt', ABS_HAT2Y: 'lt', ABS_GAS: 'rt', ABS_BRAKE: 'lt'}
    if ABS_RX in ranges and ABS_RY in ranges:
        names |= {ABS_RX: 'right_x', ABS_RY: 'right_y', ABS_Z: 'lt', ABS_RZ: 'rt'}
    else:  # older and Bluetooth pads: the right stick is Z and RZ
        names |= {ABS_Z: 'right_x', ABS_RZ: 'right_y'}
    return {code: name for code, name in names.items() if code in ranges}


def lacking(ranges, buttons) -> str:
    """
    Say what a device lacks to be a gamepad, '' for nothing.

    :param ranges: codes of its axes.
    :param buttons: codes of its buttons.
    """
    named = set(_name_axes(ranges).values())
    if not {'left_x', 'left_y', 'right_x', 'right_y'} <= named:
        return 'two sticks'
    return '' if 'lb' in _name_buttons(buttons).values() else 'shoulder buttons'


def open_gamepad(folder: Path = FOLDER) -> Gamepad:
    """
    Open the first gamepad there is.

    :raises DeviceError: when there is none that can be read; says what was found.
    """
    try:
        from evdev import InputDevice
    except ImportError as error:
        raise AbsentError('gamepads need the evdev package: pip install evdev-binary (or '
                          "'stable_crl_ros[teleop]'), or apt install python3-evdev") from error
    found, locked = [], []
    for path in sorted(folder.glob('event*'), key=_number):
        try:
            source = InputDevice(str(path), readonly=True)
        except PermissionError:
            locked.append(f'{_kernel_name(path)} ({path})')
            continue
        except OSError:
            continue
        try:
            return Gamepad(source)
        except DeviceError:
            found.append(f'{source.name} ({path})')
            source.close()
    raise (DeviceError if locked else AbsentError)(explain(found, locked))


def explain(found: list[str], locked: list[str]) -> str:
    """
    Say why there is no gamepad.

    :param found: devices that are none.
    :param locked: devices that this user may not read.
    """
    text = f'no gamepad among {", ".join(found)}' if found else 'no gamepad is plugged in'
    if locked:
        text += (f'; not readable by this user: {", ".join(locked)}. Install config/{FILE} of '
                 'this package into /etc/udev/rules.d, or join the group with `sudo usermod -aG '
                 'input $USER` and log in again')
    return text


def fingerprint(folder: Path = FOLDER) -> Callable[[], frozenset]:
    """Return what tells whether input devices came, went or became readable."""
    def look() -> frozenset:
        seen = set()
        for path in folder.glob('event*'):
            with contextlib.suppress(OSError):
                seen.add((path.name, os.stat(path).st_ctime_ns))
        return frozenset(seen)
    return look


def _number(path: Path) -> int:
    return int(path.name.removeprefix('event') or 0) if path.name[5:].isdigit() else 0


def _kernel_name(path: Path) -> str:
    try:  # readable by everybody, unlike the device
        return Path(f'/sys/class/input/{path.name}/device/name').read_text().strip()
    except OSError:
        return 'a device'
