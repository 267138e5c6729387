"""The teleop node on a joy topic: real messages, a layout by parameters, silence lets go."""

import os

import pytest

pytest.importorskip('rclpy')

from geometry_msgs.msg import TwistStamped
from sensor_msgs.msg import Joy
from stable_crl_ros.nodes.common import StartupError
from stable_crl_ros.nodes.joy_device import JOY_AXES, JOY_BUTTONS
from stable_crl_ros.nodes.teleop import TeleopNode
from std_srvs.srv import Trigger


@pytest.fixture
def nowhere():
    """Give a descriptor that is no terminal."""
    descriptor = os.open(os.devnull, os.O_RDONLY)
    yield descriptor
    os.close(descriptor)


class Handheld:
    """A teleop node and a probe that plays ROS 2's joy package and the arm's services."""

    def __init__(self, ros, nowhere, **parameters):
        self.ros = ros
        self.probe = ros.node()
        self.joy = self.probe.create_publisher(Joy, 'joy', 10)
        self.twists, self.calls = [], []
        self.probe.create_subscription(TwistStamped, 'teleop/delta_twist_cmds',
                                       self.twists.append, 10)
        self.probe.create_service(Trigger, 'arm/stop', self._on_stop)
        overrides = ros.parameters(device='joy', speed=1.0, curve=0.0, **parameters)
        self.teleop = ros.add(TeleopNode(nowhere, context=ros.context,
                                         parameter_overrides=overrides))
        ros.spin_until(self.joy.get_subscription_count)
        ros.spin_until(self.teleop._verbs['arm/stop'].service_is_ready)
        self.send()
        ros.spin_until(lambda: self.teleop._devices.name == 'joy')

    def _on_stop(self, _, response):
        self.calls.append('stop')
        response.success = True
        return response

    def send(self, axes=(), buttons=()):
        """Publish a message in the layout of `game_controller_node`."""
        axes, message = dict(axes), Joy()
        message.axes = [float(axes.get(name, 0.0)) for name in JOY_AXES]
        message.buttons = [int(name in buttons) for name in JOY_BUTTONS]
        self.joy.publish(message)

    def hold(self, seconds, **what):
        for _ in range(int(seconds / 0.05)):
            self.send(**what)
            self.ros.spin_for(0.05)

    def steer(self):
        """Let go, then hold the button until it steers; again after a silence of the machine."""
        count = len(self.twists)

        def steers():
            self.send()
            self.ros.spin_for(0.1)
            self.hold(0.6, axes={'left_y': 1.0}, buttons=['lb'])
            return len(self.twists) > count
        self.ros.spin_until(steers)


def test_a_held_shoulder_button_steers_and_silence_lets_go(ros, nowhere):
    handheld = Handheld(ros, nowhere)
    handheld.hold(0.3, axes={'left_y': 1.0})
    assert handheld.twists == []
    handheld.steer()
    assert handheld.twists[-1].twist.linear.x == pytest.approx(0.25)  # 5 cm in 0.2 s
    ros.spin_until(lambda: handheld.teleop._devices.name == '')
    ros.spin_until(lambda: len(handheld.twists) == handheld.teleop._status.sent)
    count = len(handheld.twists)
    ros.spin_for(0.5)
    assert len(handheld.twists) == count
    # What comes back with the button held does not steer before it was let go.
    handheld.hold(0.5, axes={'left_y': 1.0}, buttons=['lb'])
    assert len(handheld.twists) == count
    handheld.steer()


def test_the_stop_button_works_without_the_deadman(ros, nowhere):
    handheld = Handheld(ros, nowhere)
    handheld.send(buttons=['east'])
    ros.spin_until(lambda: handheld.calls)
    handheld.send(buttons=['east'])
    ros.spin_for(0.2)
    assert handheld.calls == ['stop']


def test_another_layout_is_given_by_parameters(ros, nowhere):
    handheld = Handheld(ros, nowhere, joy_axes=['', '-left_y', 'full_rt'], joy_buttons=['lb'])
    device = handheld.teleop._joy
    device.take(Joy(axes=[1.0, 0.5, 1.0], buttons=[1]))
    given = device.poll(0.0)
    assert given.deadman and given.axes.tolist() == [-0.5, 0, 0, 0, 0, 0] and not given.events
    device.take(Joy(axes=[1.0, 0.5, -1.0, 0.3, 0.3], buttons=[1, 1, 1]))
    assert device.poll(0.0).events == ('gripper',)


@pytest.mark.parametrize(('name', 'value'), [
    ('joy_axes', ['left_x', 'middle']), ('joy_buttons', ['-south'])])
def test_a_layout_with_unknown_names_is_refused_with_the_known_ones(ros, nowhere, name, value):
    with pytest.raises(StartupError, match=f'{name} has .*it may have .*'):
        TeleopNode(nowhere, context=ros.context,
                   parameter_overrides=ros.parameters(**{name: value}))
