"""Which devices steer: the one asked for, or all that there are."""

from collections.abc import Callable

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
        return Together([Keyboard(terminal.__enter__(), hold_s)])
    devices: list[Device] = []
    reasons: list[str] = []
    try:
        devices.append(Keyboard(terminal.__enter__(), hold_s, moves=kind == 'auto'))
    except TerminalError as error:
        reasons.append(str(error))
    if kind == 'joy':
        return Together([*devices, joy])
    plugs = {name: HotPlug(*OPENING[name], say) for name in OPENING if kind in (name, 'auto')}
    for plug in plugs.values():
        try:
            plug.connect()
        except DeviceError as error:
            reasons.append(str(error))
            if kind == 'auto' and not isinstance(error, AbsentError):
                say(str(error))
    if not any(plug.name for plug in plugs.values()) and (kind != 'auto' or not devices):
        terminal.__exit__()
        raise DeviceError('; '.join(reasons))
    return Together([*devices, *plugs.values()])


def describe(kind: str, devices: Together) -> str:
    """
    Say what every key and button does.

    :param kind: as `open_devices` was told.
    """
    if kind in ('auto', 'keyboard'):
        return keyboard.HELP
    return '\n'.join([HELP[kind], keyboard.EVENTS_HELP] if keyboard.Keyboard.name in devices.name
                     else [HELP[kind]])
