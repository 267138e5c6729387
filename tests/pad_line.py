"""A gamepad without hardware: its events come down a pseudo-terminal, byte for byte."""

import contextlib
import os
import struct
import tty

import pytest

evdev = pytest.importorskip('evdev')
AbsInfo, ecodes, EventIO = evdev.AbsInfo, evdev.ecodes, evdev.eventio.EventIO

STICK, TRIGGER, HAT = (-32768, 32767), (0, 255), (-1, 1)
FACE = ('BTN_SOUTH', 'BTN_EAST', 'BTN_NORTH', 'BTN_WEST', 'BTN_TL', 'BTN_TR', 'BTN_SELECT',
        'BTN_START', 'BTN_MODE', 'BTN_THUMBL', 'BTN_THUMBR')
CROSS = {'ABS_HAT0X': HAT, 'ABS_HAT0Y': HAT}
# What the kernel's drivers say of these pads: xpad, hid-playstation, hid-nintendo, hid-generic.
XBOX = FACE, {'ABS_X': STICK, 'ABS_Y': STICK, 'ABS_RX': STICK, 'ABS_RY': STICK,
              'ABS_Z': TRIGGER, 'ABS_RZ': TRIGGER, **CROSS}
DUALSENSE = (*FACE, 'BTN_TL2', 'BTN_TR2'), {
    name: TRIGGER for name in ('ABS_X', 'ABS_Y', 'ABS_RX', 'ABS_RY', 'ABS_Z', 'ABS_RZ')} | CROSS
SWITCH = (*FACE, 'BTN_TL2', 'BTN_TR2', 'BTN_Z'), {
    name: (-32767, 32767) for name in ('ABS_X', 'ABS_Y', 'ABS_RX', 'ABS_RY')} | CROSS
BLUETOOTH = FACE, {name: (0, 65535) for name in ('ABS_X', 'ABS_Y', 'ABS_Z', 'ABS_RZ')} | {
    'ABS_GAS': (0, 1023), 'ABS_BRAKE': (0, 1023)} | CROSS
NUMBERED = ('BTN_TRIGGER', 'BTN_THUMB', 'BTN_THUMB2', 'BTN_TOP', 'BTN_TOP2', 'BTN_PINKIE',
            'BTN_BASE', 'BTN_BASE2', 'BTN_BASE3', 'BTN_BASE4', 'BTN_BASE5', 'BTN_BASE6')
DIRECT_INPUT = NUMBERED, {name: TRIGGER for name in ('ABS_X', 'ABS_Y', 'ABS_Z', 'ABS_RZ')} | CROSS
PADS = {'xbox': XBOX, 'dualsense': DUALSENSE, 'switch': SWITCH, 'bluetooth': BLUETOOTH,
        'direct input': DIRECT_INPUT}


class Line(EventIO):
    """
    A pad whose events come down a pseudo-terminal, where the kernel's device would be.

    `EventIO` is evdev's own reader: what is written by `send` must be what the kernel writes.
    """

    def __init__(self, buttons, axes, name='Some Pad'):
        self._kernel, self.fd = os.openpty()
        tty.setraw(self.fd)
        os.set_blocking(self.fd, False)
        self.name = name
        self.state = {ecodes.ecodes[axis]: 0 for axis in axes}
        self._ranges = {ecodes.ecodes[axis]: limits for axis, limits in axes.items()}
        self._keys = {ecodes.ecodes[button] for button in buttons}
        self.pressed = set()

    def capabilities(self):
        return {ecodes.EV_KEY: sorted(self._keys),
                ecodes.EV_ABS: [(code, self.absinfo(code)) for code in self._ranges]}

    def absinfo(self, code):
        return AbsInfo(self.state[code], *self._ranges[code], 0, 0, 0)

    def active_keys(self):
        return sorted(self.pressed)

    def send(self, *events):
        """Write events as (name, value), with the report that ends them."""
        for name, value in (*events, ('SYN_REPORT', 0)):
            kind = getattr(ecodes, {'BTN': 'EV_KEY', 'ABS': 'EV_ABS', 'SYN': 'EV_SYN'}[name[:3]])
            os.write(self._kernel, struct.pack('llHHi', 1, 2, kind, ecodes.ecodes[name], value))

    def unplug(self):
        os.close(self._kernel)

    def close(self):
        for descriptor in (self._kernel, self.fd):
            with contextlib.suppress(OSError):
                os.close(descriptor)
