"""A goal node for one test, with a camera, an arm, a policy, and someone who listens."""

from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import PoseStamped
import numpy as np
from rcl_interfaces.srv import SetParameters
from rclpy.parameter import Parameter
from sensor_msgs.msg import CompressedImage, Image
from stable_crl_ros.data.schema import Mode
from stable_crl_ros.goals import GoalStore
from stable_crl_ros.nodes.common import IMAGE_OUT, LATCHED
from stable_crl_ros.nodes.conversions import image_to_message
from stable_crl_ros.nodes.goal import GoalNode
from stable_crl_ros.nodes.messages import AppliedAction, encode_applied_action
from stable_crl_ros.robot.flags import StepFlag
from std_msgs.msg import Float64MultiArray, String
from std_srvs.srv import Trigger

NAMES = ['one', 'two', 'three']


def coloured_goals(folder):
    """Return a store with a goal of each name, each of its own colour."""
    store = GoalStore(folder)
    for number, name in enumerate(NAMES):
        image = np.full((24, 32, 3), (40 * number, 200, 90), np.uint8)
        image[:, 16:] //= 2
        store.save(name, image, {})
    return store


class Bench:
    """A goal node with a camera and someone who listens to the goal."""

    def __init__(self, ros, store, **values):
        self.ros = ros
        values = {'max_image_age': 30.0, **values}  # no standstill makes an image as old
        self.node = ros.add(GoalNode(context=ros.context, parameter_overrides=ros.parameters(
            goal_directory=str(store.directory), **values)))
        self.probe = ros.node()
        compressed = values.get('image_transport') == 'compressed'
        self.camera = self.probe.create_publisher(
            CompressedImage if compressed else Image,
            'image_raw/compressed' if compressed else 'image_raw', IMAGE_OUT)
        self.arm = self.probe.create_publisher(PoseStamped, 'ee_pose', 10)
        self.policy = self.probe.create_publisher(String, 'policy/done', 10)
        self.applied = self.probe.create_publisher(Float64MultiArray, 'applied_action', 10)
        self.reports = {}
        self.probe.create_subscription(DiagnosticArray, '/diagnostics', self._on_report, 10)

    def _on_report(self, message):
        for status in message.status:
            self.reports[status.name.rpartition(': ')[2]] = status

    def listen(self):
        """Subscribe to the goal, as late as this is called."""
        goals = []
        self.ros.node(f'late_{len(self.ros._nodes)}').create_subscription(
            Image, 'goal/image', goals.append, LATCHED)
        return goals

    def now_ns(self):
        """Return the time stamps are made of."""
        return self.probe.get_clock().now().nanoseconds

    def show(self, message):
        """Publish one image and wait until the node has it."""
        before = self.node._input.received
        self.ros.spin_until(lambda: self.camera.get_subscription_count() > 0)
        self.camera.publish(message)
        self.ros.spin_until(lambda: self.node._input.received > before)

    def see(self, image, condition, frame_id='', timeout_s=10.0):
        """Show an image, again and again with new stamps, until a condition holds."""
        def again():
            self.show(image_to_message(image, self.now_ns(), frame_id))
            self.ros.spin_for(0.05)
            return condition()
        return self.ros.spin_until(again, timeout_s)

    def report(self, name, text):
        """Wait until a status on /diagnostics says something; return it."""
        return self.ros.spin_until(
            lambda: (found := self.reports.get(name)) and text in found.message and found)

    def done(self, name):
        """Say, as the policy does, that a goal is reached."""
        self.ros.spin_until(lambda: self.policy.get_subscription_count() > 0)
        self.policy.publish(String(data=name))

    def step(self, mode=Mode.POLICY, flags=0):
        """Say, as the arm does, whose command it dealt with, and how."""
        self.ros.spin_until(lambda: self.applied.get_subscription_count() > 0)
        still, stamp = np.zeros(7), self.now_ns()
        self.applied.publish(encode_applied_action(AppliedAction(
            still, still, mode, StepFlag(flags), stamp, stamp, stamp)))
        self.ros.spin_for(0.05)

    def set(self, **values):
        """Set parameters in one request each; return the first refusal, '' for none."""
        request = SetParameters.Request(parameters=[
            Parameter(name, value=value).to_parameter_msg() for name, value in values.items()])
        results = self.ros.call(SetParameters, 'goal/set_parameters', request).results
        return next((r.reason for r in results if not r.successful), '')

    def call(self, verb):
        """Call one of the node's services."""
        return self.ros.call(Trigger, f'goal/{verb}')

    def capture(self):
        """Call the capture service."""
        return self.call('capture')
