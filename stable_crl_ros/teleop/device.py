"""What every teleoperation device gives, and how one that comes and goes is kept."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

# What an operator may ask for, beside motion: of the arm, of the recording, of the steering.
ARM_EVENTS = ('stop_arm', 'resume_arm', 'clear_faults', 'home_arm', 'sleep_arm')
EPISODE_EVENTS = ('start_episode', 'end_success', 'end_failure', 'discard_episode',
                  'label_success', 'label_failure')
STEERING_EVENTS = ('gripper', 'faster', 'slower', 'frame')
EVENTS = (*ARM_EVENTS, *EPISODE_EVENTS, *STEERING_EVENTS)


class DeviceError(RuntimeError):
    """A device that cannot be used; the message says what was found and what to do."""


class AbsentError(DeviceError):
    """There is no such device, or nothing to read it with: no cause for alarm unless asked for."""


@dataclass(frozen=True, eq=False)
class OperatorInput:
    """
    What an operator asks for at one moment.

    :param axes: (6,) -1..1: forward, left, up; roll, pitch, yaw by the right hand about these.
    :param deadman: the operator holds what must be held for the arm to be steered.
    :param events: names out of `EVENTS`, in the order in which they were asked for.
    """

    axes: np.ndarray = field(default_factory=lambda: np.zeros(6))
    deadman: bool = False
    events: tuple[str, ...] = ()


class Device(Protocol):
    """A source of operator's input."""

    name: str

    def poll(self, now: float) -> OperatorInput:
        """
        Read what came since the last call; never blocks.

        :param now: monotonic seconds.
        :raises DeviceError: when the device is gone.
        """

    def close(self) -> None:
        """Let go of the device; may be called twice."""


class Together:
    """
    Several devices as one: whoever holds a deadman steers, the first of several in their order.

    :param devices: at least one.
    :param manual: what their keys and buttons do.
    """

    def __init__(self, devices: list[Device], manual: str = '') -> None:
        self._devices, self.manual = devices, manual

    @property
    def name(self) -> str:
        """Names of the devices that are there."""
        return ' + '.join(device.name for device in self._devices if device.name)

    def poll(self, now: float) -> OperatorInput:
        """Read all devices."""
        given = [device.poll(now) for device in self._devices]
        events = tuple(event for each in given for event in each.events)
        for each in given:
            if each.deadman:
                return OperatorInput(each.axes, True, events)
        return OperatorInput(events=events)

    def close(self) -> None:
        """Let go of all devices."""
        for device in self._devices:
            device.close()


class HotPlug:
    """
    A device that may be pulled out and plugged in again.

    While it is away its deadman counts as released. One that comes with its deadman held does
    not steer before it was let go once: nobody may have meant it.

    :param opening: opens the device, or raises `DeviceError`.
    :param fingerprint: whatever changes when devices come, go or become readable; a device is
        looked for again when it does, since looking may take long.
    :param say: told once when the device goes, comes back, or cannot be opened.
    """

    def __init__(self, opening: Callable[[], Device], fingerprint: Callable[[], object],
                 say: Callable[[str], None]) -> None:
        self._opening, self._fingerprint, self._say = opening, fingerprint, say
        self._device: Device | None = None
        self._seen: object = None
        self._armed = False
        self._said = ''

    @property
    def name(self) -> str:
        """Name of the device that is there, '' for none."""
        return '' if self._device is None else self._device.name

    def connect(self) -> None:
        """
        Open the device now.

        :raises DeviceError: when it cannot be opened.
        """
        self._seen = self._fingerprint()
        self._device, self._armed = self._opening(), False

    def poll(self, now: float) -> OperatorInput:
        """Read the device that is there; without one, look for one and return no input."""
        if self._device is None:
            self._look()
            return OperatorInput()
        try:
            given = self._device.poll(now)
        except DeviceError as error:
            self._lose(error)
            return OperatorInput()
        self._armed = self._armed or not given.deadman
        return OperatorInput(given.axes, given.deadman and self._armed, given.events)

    def close(self) -> None:
        """Let go of the device."""
        if self._device is not None:
            self._device.close()
            self._device = None

    def _lose(self, error: DeviceError) -> None:
        name = self.name
        self.close()
        self._seen = None
        self._tell(f'{name} is gone ({error}): nothing is sent; waiting for it to come back')

    def _look(self) -> None:
        if self._seen is not None and self._fingerprint() == self._seen:
            return
        try:
            self.connect()
            self._tell(f'{self.name} is there; let go of its deadman once before you steer')
        except AbsentError:
            return
        except DeviceError as error:
            self._tell(str(error))

    def _tell(self, text: str) -> None:
        if text != self._said:
            self._said = text
            self._say(text)
