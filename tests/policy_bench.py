"""A policy node with camera, goal and a listening arm, for the tests of the policy node."""

import numpy as np
import pytest

pytest.importorskip('rclpy')

from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import TwistStamped
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from rcl_interfaces.srv import SetParameters
from rclpy.parameter import Parameter
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CompressedImage, Image
from stable_crl_ros.nodes.common import IMAGE_OUT, LATCHED
from stable_crl_ros.nodes.conversions import (
    image_to_compressed,
    image_to_message,
)
from stable_crl_ros.nodes.messages import decode_tick
from stable_crl_ros.nodes.policy import PolicyNode
from stable_crl_ros.policy import Policy
from std_msgs.msg import Float64, Float64MultiArray, String
from std_srvs.srv import Trigger

RATE = 20.0  # Hz
SWAP_S = 60.0  # the process that checks a checkpoint stands behind all others
IMAGE_AGE_S = 10.0  # that no machine reaches by standing still
KEPT = QoSProfile(depth=100, reliability=ReliabilityPolicy.RELIABLE)  # no command is missed


def scene(seed):
    return np.random.default_rng(seed).integers(0, 256, (24, 32, 3), dtype=np.uint8)


class Bench:
    """A policy node with camera, goal, and an arm that only listens."""

    def __init__(self, ros, checkpoint, **values):
        self.ros = ros
        overrides = {'checkpoint_path': str(checkpoint), 'control_rate': RATE,
                     'max_image_age': IMAGE_AGE_S, 'rollback_window': 0.0, **values}
        self.node = ros.add(PolicyNode(context=ros.context,
                                       parameter_overrides=ros.parameters(**overrides)))
        self.probe = ros.node()
        compressed = values.get('image_transport') == 'compressed'
        self.wrap = image_to_compressed if compressed else image_to_message
        self.camera = self.probe.create_publisher(
            CompressedImage if compressed else Image,
            'image_raw/compressed' if compressed else 'image_raw', IMAGE_OUT)
        self.goals = self.probe.create_publisher(Image, 'goal/image', LATCHED)
        self.twists, self.grippers, self.order, self.progress = [], [], [], []
        self.statuses, self.ids, self.ticks = {}, [], []
        self._listen()
        ros.spin_until(lambda: self.camera.get_subscription_count() > 0)

    def _listen(self):
        def keep(store, name):
            def callback(message):
                store.append(message)
                self.order.append(name)
            return callback
        subscribe = self.probe.create_subscription
        subscribe(Float64, 'gripper_cmd', keep(self.grippers, 'gripper'), KEPT)
        subscribe(TwistStamped, 'delta_twist_cmds', keep(self.twists, 'twist'), KEPT)
        subscribe(Float64, 'policy/progress', self.progress.append, 10)
        subscribe(Float64MultiArray, 'policy/tick',
                  lambda message: self.ticks.append(decode_tick(message)), KEPT)
        subscribe(String, 'policy/checkpoint_id', lambda m: self.ids.append(m.data), LATCHED)
        subscribe(DiagnosticArray, '/diagnostics', self._on_diagnostics, 10)

    def _on_diagnostics(self, message):
        for status in message.status:
            self.statuses[status.name.split(': ')[1]] = status

    def transition(self, name):
        """Ask for a lifecycle transition."""
        request = ChangeState.Request(
            transition=Transition(id=getattr(Transition, f'TRANSITION_{name}')))
        return self.ros.call(ChangeState, 'policy/change_state', request).success

    def set_goal(self, image, name='goal'):
        """Publish a goal and wait until the node has it."""
        before = self.node._goal
        self.goals.publish(image_to_message(image, 0, name))
        self.ros.spin_until(lambda: self.node._goal is not before)

    def activate(self, goal=None):
        """Bring the node up on a goal."""
        assert self.transition('CONFIGURE'), self.node.refusal
        self.set_goal(scene(100) if goal is None else goal)
        assert self.transition('ACTIVATE'), self.node.refusal

    def now_ns(self):
        """Return the time stamps are made of."""
        return self.probe.get_clock().now().nanoseconds

    def show(self, image, age_s=0.0):
        """Publish one camera image and wait until the node has it; returns its stamp."""
        stamp_ns = self.now_ns() - int(age_s * 1e9)
        self.send(self.wrap(image, stamp_ns, 'camera'))
        return stamp_ns

    def send(self, message):
        """Publish one image message and wait until the node has it."""
        before = self.node._input.received
        self.camera.publish(message)
        self.ros.spin_until(lambda: self.node._input.received > before)

    def stream(self, image):
        """Publish an image at 30 Hz from now on."""
        return self.probe.create_timer(
            1 / 30, lambda: self.camera.publish(self.wrap(image, self.now_ns(), 'camera')))

    def next_command(self):
        """Wait for one more twist; returns it and its gripper."""
        count = len(self.twists)
        self.ros.spin_until(lambda: len(self.twists) > count, what='another command')
        return self.twists[-1], self.grippers[-1].data

    def commands(self):
        """Deactivate the node; return all it sent since its activation: twist, gripper, tick."""
        assert self.transition('DEACTIVATE')
        kept = (self.twists, self.grippers, self.ticks)
        self.ros.spin_until(lambda: {*map(len, kept)} == {self.node._commands},
                            what='every command')
        return list(zip(*kept, strict=True))

    def set(self, **values):
        """Set parameters through the service; return the first refusal, '' for none."""
        request = SetParameters.Request(parameters=[
            Parameter(name, value=value).to_parameter_msg() for name, value in values.items()])
        results = self.ros.call(SetParameters, 'policy/set_parameters', request).results
        return next((r.reason for r in results if not r.successful), '')

    def rollback(self):
        """Call the rollback service."""
        return self.ros.call(Trigger, 'policy/rollback')

    def path(self):
        """Return the parameter that names the checkpoint."""
        return self.node.get_parameter('checkpoint_path').value

    def silent(self, seconds=0.4):
        """Return whether no command comes for a while."""
        self.ros.spin_for(0.15)  # what is under way
        count = len(self.order)
        self.ros.spin_for(seconds)
        return len(self.order) == count

    def status(self, name, condition):
        """Wait for a diagnostic status that satisfies a condition."""
        self.statuses.pop(name, None)
        return self.ros.spin_until(
            lambda: name in self.statuses and condition(self.statuses[name])
            and self.statuses[name], SWAP_S, f'diagnostics {name}')


def as_action(command, rate=RATE):
    twist, gripper = command
    linear, angular = twist.twist.linear, twist.twist.angular
    return np.array([*np.array([linear.x, linear.y, linear.z, angular.x, angular.y, angular.z])
                     / rate, gripper])


def expected(path, image, goal):
    policy = Policy.load(path, threads=1)
    policy.set_goal(goal)
    return policy.step(image)
