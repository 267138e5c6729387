"""SpaceMouse: 3Dconnexion's reports decoded, found by vendor and product number with hidapi."""

from collections.abc import Callable
import contextlib
import math
import os
from pathlib import Path
import struct
from typing import Protocol

import numpy as np
from stable_crl_ros.teleop.device import AbsentError, DeviceError, OperatorInput
from stable_crl_ros.teleop.udev import CONNEXION, LOGITECH, LOGITECH_PRODUCTS, rules

MULTI_AXIS = (1, 8)  # HID usage page and usage of a six-axis controller
# Models whose report 3 has the buttons of the SpaceMouse Pro.
PRO_PRODUCTS = (0xc62b, 0xc631, 0xc632, 0xc633, 0xc638, 0xc652)
FULL = 350.0  # counts at full deflection, the logical maximum of the report descriptor
REST = 35.0  # counts; a cap at rest may report a few, and nothing more after that
SILENCE_S = 0.25  # a deflected cap reports every 16 ms, so silence means that the radio is gone
# Report 3 is a bit field; bits 0 and 1 are the left and right button, or MENU and FIT.
DEADMAN_BIT, GRIPPER_BIT = 0, 1
PRO_EVENTS = {12: 'start_episode', 13: 'end_success', 14: 'end_failure', 15: 'discard_episode',
              22: 'stop_arm', 23: 'resume_arm', 24: 'frame', 25: 'slower', 26: 'faster',
              5: 'label_success', 4: 'label_failure', 2: 'home_arm', 8: 'sleep_arm'}
CLICKS = ('start_episode', 'end_success', 'end_failure', 'discard_episode', 'resume_arm')
CLICK_GAP_S, STOP_HOLD_S = 0.4, 0.5
HELP = """\
steer     hold the left button (MENU on larger models): nothing moves without it
move      push, lift or press the cap      turn      twist or tilt it
gripper   right button (FIT), while the left one is held
arm       right button alone, held half a second  STOP
episode   right button alone: 1 click  start     2  end: success     3  end: failure
          4  discard     5  resume the arm
larger    1 start   2 success   3 failure   4 discard   ESC STOP   ALT resume   SHIFT frame
          CTRL slower   lock faster   F/R label the last: success/failure   T home   roll sleep
"""


class Reports(Protocol):
    """What is used of a `hidraw.device`."""

    def read(self, max_length: int) -> list[int] | bytes:
        """Return one report with its number in front; empty when none has come."""

    def close(self) -> None:
        """Let go of it."""


class SpaceMouse:
    """
    Read one SpaceMouse.

    :param reports: an open device that does not block.
    :param product: its product number, which says what its buttons are.
    """

    def __init__(self, reports: Reports, product: int, name: str = 'SpaceMouse') -> None:
        self.name = name or 'SpaceMouse'
        self._reports = reports
        self._events_of = PRO_EVENTS if product in PRO_PRODUCTS else {}
        self._counts = np.zeros(6)  # x, y, z, rx, ry, rz as reported
        self._heard_s = -math.inf
        self._bits = 0
        self._clicks = _Clicks()

    def poll(self, now: float) -> OperatorInput:
        """
        Take the reports that have come.

        :raises DeviceError: when the device is gone.
        """
        events: list[str] = []
        try:
            while report := bytes(self._reports.read(64)):
                events += self._take(report, now)
        except (OSError, ValueError) as error:
            raise DeviceError(f'it was unplugged: {error}') from error
        deflected = np.abs(self._counts).max() > REST
        silent = bool(deflected) and now - self._heard_s > SILENCE_S
        events += self._clicks.due(now)
        return OperatorInput(np.zeros(6) if silent else to_axes(self._counts),
                             bool(self._bits >> DEADMAN_BIT & 1) and not silent, tuple(events))

    def close(self) -> None:
        """Let go of the device."""
        with contextlib.suppress(OSError):
            self._reports.close()

    def _take(self, report: bytes, now: float) -> list[str]:
        number, data = report[0], report[1:]
        if number in (1, 2) and len(data) >= 6:
            # Newer models send all six axes in report 1, older ones the rotations in report 2.
            size = min(len(data) // 2, 6 if number == 1 else 3)
            start = 3 * (number - 1)
            self._counts[start:start + size] = struct.unpack_from(f'<{size}h', data)
            self._heard_s = now
        elif number == 3:
            return self._press(int.from_bytes(data, 'little'), now)
        return []

    def _press(self, bits: int, now: float) -> list[str]:
        pressed, released = bits & ~self._bits, self._bits & ~bits
        self._bits = bits
        events = [event for bit, event in self._events_of.items() if pressed >> bit & 1]
        if pressed >> GRIPPER_BIT & 1:
            if bits >> DEADMAN_BIT & 1:
                events.append('gripper')
            else:
                self._clicks.down(now)
        if released >> GRIPPER_BIT & 1:
            self._clicks.up(now)
        return events


class _Clicks:
    """Count the clicks of one button, and notice when it is held: many meanings, two buttons."""

    def __init__(self) -> None:
        self._count, self._last_s = 0, -math.inf
        self._down_s: float | None = None

    def down(self, now: float) -> None:
        self._down_s = now

    def up(self, now: float) -> None:
        if self._down_s is not None:
            self._count, self._last_s, self._down_s = self._count + 1, now, None

    def due(self, now: float) -> list[str]:
        if self._down_s is not None:
            if now - self._down_s < STOP_HOLD_S:
                return []
            self._down_s, self._count = None, 0
            return ['stop_arm']
        if not self._count or now - self._last_s < CLICK_GAP_S:
            return []
        count, self._count = self._count, 0
        return [CLICKS[count - 1]] if count <= len(CLICKS) else []


def to_axes(counts: np.ndarray) -> np.ndarray:
    """
    Turn a report's axes into ours.

    HID's usage tables (4.2) have x to the right, y towards the user, z down, and rotations about
    these by the right hand; ours are forward, left, up: half a turn about the up-left diagonal.

    :param counts: (6,) x, y, z, rx, ry, rz, +-350 at full deflection.
    :returns: (6,) -1..1, forward, left, up, roll, pitch, yaw.
    """
    return np.clip(-counts[[1, 0, 2, 4, 3, 5]] / FULL, -1.0, 1.0)


def is_spacemouse(entry: dict) -> bool:
    """
    Say whether an entry of `hid.enumerate()` is a SpaceMouse.

    By numbers, never by name: the name is empty where the device must not be opened.
    """
    if entry['vendor_id'] == LOGITECH:
        return entry['product_id'] in LOGITECH_PRODUCTS
    usage = entry.get('usage_page', 0), entry.get('usage', 0)
    # The vendor makes mice and keypads too. Where the usage is not known, both numbers are 0.
    return entry['vendor_id'] == CONNEXION and usage in (MULTI_AXIS, (0, 0))


def open_spacemouse() -> SpaceMouse:
    """
    Open the first SpaceMouse there is.

    :raises DeviceError: when there is none that can be read; says what was found.
    """
    hid = _hidapi()
    entries = hid.enumerate()
    for entry in filter(is_spacemouse, entries):
        name, path = entry.get('product_string') or 'SpaceMouse', entry['path'].decode()
        device = hid.device()
        try:
            device.open_path(entry['path'])
        except OSError as error:
            raise DeviceError(
                f'{name} ({entry["vendor_id"]:04x}:{entry["product_id"]:04x}, {path}) is there '
                f'but cannot be opened: {error}. The udev rules that allow it:\n{rules()}'
            ) from error
        device.set_nonblocking(True)
        return SpaceMouse(device, entry['product_id'], name)
    others = sorted({entry.get('product_string') or f'{entry["vendor_id"]:04x}:'
                     f'{entry["product_id"]:04x}' for entry in entries})
    raise AbsentError('no SpaceMouse is plugged in (vendor 256f, or 046d with a product of '
                      f'theirs); there are {", ".join(others) or "no HID devices"}')


def _hidapi():
    # The wheel's `hid` goes through libusb and takes the device from the kernel; `hidraw` shares.
    try:
        import hidraw as hid
    except ImportError:
        try:
            import hid
        except ImportError as error:
            raise AbsentError("a SpaceMouse needs the hidapi package: pip install hidapi (or "
                              "'stable_crl_ros[teleop]')") from error
    return hid


def fingerprint(folder: Path = Path('/dev')) -> Callable[[], frozenset]:
    """Return what tells whether HID devices came, went or became readable."""
    def look() -> frozenset:
        seen = set()
        for path in folder.glob('hidraw*'):
            with contextlib.suppress(OSError):
                seen.add((path.name, os.stat(path).st_ctime_ns))
        return frozenset(seen)
    return look
