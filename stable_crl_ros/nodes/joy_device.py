"""`sensor_msgs/Joy` as a teleoperation device, laid out by two parameters."""

import math
import time

from rclpy.node import Node
from sensor_msgs.msg import Joy
from stable_crl_ros.nodes.common import param, StartupError
from stable_crl_ros.teleop.device import AbsentError, DeviceError, HotPlug, OperatorInput
from stable_crl_ros.teleop.pad import AXES, BUTTONS, Pad, TRIGGERS

# The layout of `game_controller_node` in ROS 2's joy package, the same for every pad.
JOY_AXES = ['left_x', 'left_y', 'right_x', 'right_y', 'lt', 'rt']
JOY_BUTTONS = ['south', 'east', 'west', 'north', 'select', 'mode', 'start', 'l3', 'r3', 'lb',
               'rb', 'dpad_up', 'dpad_down', 'dpad_left', 'dpad_right']
SILENCE_S = 0.5  # joy repeats its last message 20 times a second
FULL_TRIGGERS = {f'full_{name}': name for name in TRIGGERS}


class JoyDevice:
    """
    Read the messages of a `joy` topic.

    :param node: who subscribes. Declares the parameters `joy_axes` and `joy_buttons`.
    :raises StartupError: for a layout with unknown names.
    """

    name = 'joy'

    def __init__(self, node: Node) -> None:
        self._axes = list(param(
            node, 'joy_axes', JOY_AXES, 'What each axis of joy is: one of '
            f'{", ".join((*AXES, *FULL_TRIGGERS))}, "-" in front to invert it, "" for nothing; '
            'full_ for a trigger that rests at 1', read_only=True))
        self._buttons = list(param(
            node, 'joy_buttons', JOY_BUTTONS, 'What each button of joy is: one of '
            f'{", ".join(BUTTONS)}, "" for nothing', read_only=True))
        _check('joy_axes', [name.removeprefix('-') for name in self._axes],
               (*AXES, *FULL_TRIGGERS))
        _check('joy_buttons', self._buttons, BUTTONS)
        self._pad, self._fresh = Pad(), True
        self._heard_s, self.heard = -math.inf, 0
        self._topic = node.resolve_topic_name('joy')

    def subscribe(self, node: Node) -> None:
        """Begin to listen."""
        node.create_subscription(Joy, 'joy', self.take, 10)

    def plug(self, say) -> HotPlug:
        """Return this device as one that comes with its first message and goes with silence."""
        say(f'waiting for messages on {self._topic}: ros2 run joy game_controller_node --ros-args '
            f'-r __ns:={self._topic.rpartition("/")[0] or "/"}')
        return HotPlug(self._open, lambda: self.heard, say)

    def _open(self) -> 'JoyDevice':
        if time.monotonic() - self._heard_s > SILENCE_S:
            raise AbsentError(f'nothing comes on {self._topic}')
        return self

    def take(self, message: Joy) -> None:
        """Take one message; axes and buttons beyond the layout do nothing."""
        self._heard_s, self.heard = time.monotonic(), self.heard + 1
        for name, value in zip(self._axes, message.axes, strict=False):
            if name and math.isfinite(value):
                self._move(name, value)
        self._pad.buttons = {name for name, down in zip(self._buttons, message.buttons,
                                                        strict=False) if name and down}
        if self._fresh:  # what is held already asks for nothing
            self._fresh = False
            self._pad.settle()
        else:
            self._pad.update()

    def _move(self, name: str, value: float) -> None:
        sign, name = (-1.0, name[1:]) if name.startswith('-') else (1.0, name)
        if name in FULL_TRIGGERS:
            self._pad.axes[FULL_TRIGGERS[name]] = (1.0 - sign * value) / 2.0
        elif name in TRIGGERS:
            self._pad.axes[name] = abs(value)
        else:
            self._pad.axes[name] = sign * value

    def poll(self, now: float) -> OperatorInput:
        """
        Return what the operator asks for now.

        :raises DeviceError: when no message came for half a second.
        """
        if time.monotonic() - self._heard_s > SILENCE_S:
            raise DeviceError(f'nothing came on {self._topic} for {SILENCE_S:g} s')
        return self._pad.read()

    def close(self) -> None:
        """Forget what was held."""
        self._pad, self._fresh = Pad(), True


def _check(parameter: str, names: list[str], known: tuple[str, ...]) -> None:
    unknown = [name for name in names if name and name not in known]
    if unknown:
        raise StartupError(f'{parameter} has {", ".join(unknown)}; it may have '
                           f'{", ".join(known)}, or "" for nothing')
