"""Which devices steer: the one asked for, or all that there are."""

from collections.abc import Callable
from typing import NamedTuple

from stable_crl_ros.teleop import gamepad, keyboard, pad, spacemouse
from stable_crl_ros.teleop.device import AbsentError, Device, DeviceError, HotPlug, Together
from stable_crl_ros.teleop.keyboard import Keyboard
from stable_crl_ros.teleop.terminal import Terminal, TerminalError

KINDS = ('auto', 'keyboard', 'gamepad', 'spacemouse', 'joy')
OPENING = {'gamepad': (gamepad.open_gamepad, gamepad.fingerprint()),
           'spacemouse': (spacemouse.open_spacemouse, spacemouse.fingerprint())}
HELP = {'gamepad': pad.HELP, 'spacemouse': spacemouse.HELP, 'joy': pad.HELP}


def open_devices(kind: str, terminal: Terminal, hold_s: float, say: Callable[[str], None],
                 joy: Device | None = None) -> Together:
    """
    Open what shall steer the arm.

    Where there is a terminal, its keys ask for events whatever steers; they move the arm only
    when the keyboard was asked for, or everything.

    :param kind: one of `KINDS`; 'auto' is the keyboard and every gamepad and SpaceMouse that is
        there or comes.
    :param terminal: entered here when it is one.
    :param hold_s: how long after its last press a key counts as held, seconds.
    :param say: told once when a device goes or comes.
    :param joy: what reads `sensor_msgs/Joy`; needed for 'joy'.
    :raises DeviceError: when there is nothing to steer with; says what was found.
    """
    if kind == 'keyboard':
        return Together([Keyboard(terminal.__enter__(), hold_s)], keyboard.HELP)
    found = _Found([], [], [])
    try:
        found.devices.append(Keyboard(terminal.__enter__(), hold_s, moves=kind == 'auto'))
        found.manuals.append(keyboard.HELP if kind == 'auto' else keyboard.EVENTS_HELP)
    except TerminalError as error:
        found.reasons.extend([str(error)] if kind == 'auto' else [])
    if kind == 'joy':
        return Together([*found.devices, joy], '\n'.join([HELP[kind], *found.manuals]))
    for name in (kind,) if kind in OPENING else OPENING:
        _plug(name, found, say, alarm=kind == 'auto')
    if not found.manuals or (kind != 'auto' and not found.devices[-1].name):
        terminal.__exit__()
        raise DeviceError('; '.join(found.reasons))
    return Together(found.devices, '\n'.join(found.manuals))


class _Found(NamedTuple):
    devices: list[Device]
    manuals: list[str]
    reasons: list[str]  # why others are not there


def _plug(name: str, found: _Found, say: Callable[[str], None], alarm: bool) -> None:
    """Add a device that may come and go; `alarm`: say why one that is there cannot be opened."""
    plug = HotPlug(*OPENING[name], say)
    found.devices.append(plug)
    try:
        plug.connect()
        found.manuals.insert(0, HELP[name])
    except DeviceError as error:
        found.reasons.append(str(error))
        if alarm and not isinstance(error, AbsentError):
            say(str(error))
