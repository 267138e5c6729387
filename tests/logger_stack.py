"""A simulated robot with goal and logger nodes for one test, and a probe that plays the rest."""

import time

from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import TwistStamped
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
import numpy as np
from rcl_interfaces.srv import SetParameters
from rclpy.parameter import Parameter
from sensor_msgs.msg import Image
from stable_crl_ros.data.dataset import Dataset
from stable_crl_ros.images import write_image
from stable_crl_ros.nodes.common import COMMAND, LATCHED
from stable_crl_ros.nodes.conversions import to_nanoseconds, to_stamp
from stable_crl_ros.nodes.episode_input import RELIABLE_IMAGES
from stable_crl_ros.nodes.episode_logger import EpisodeLoggerNode
from stable_crl_ros.nodes.goal import GoalNode
from stable_crl_ros.nodes.messages import decode_applied_action, encode_tick, PolicyTick
from stable_crl_ros.nodes.sim import make_nodes
from std_msgs.msg import Float64, Float64MultiArray, String
from std_srvs.srv import SetBool, Trigger

PERIOD_S = 0.2
CAMERA = 'over_shoulder'


class Stack:
    """A simulated robot with goal and logger nodes, and a probe that plays policy and operator."""

    def __init__(self, ros, folder, active=True, arm=None, **logger):
        self.ros, self.folder = ros, folder
        # Ages that a machine does not reach by standing still; the tests of ages set their own.
        nodes = make_nodes(context=ros.context, parameter_overrides=ros.parameters(
            **{'max_command_age': 10.0, **(arm or {})}))
        for node in reversed(nodes):
            ros.add(node)
        goal = np.random.default_rng(0).integers(0, 255, (24, 32, 3), np.uint8)
        write_image(folder / 'tidy.png', goal)
        self.goal = goal
        ros.add(GoalNode(context=ros.context, parameter_overrides=ros.parameters(
            goal_directory=str(folder), active_goal=str(folder / 'tidy.png'))))
        parameters = {'dataset_path': str(folder / 'episodes'), 'max_image_age': 5.0, **logger}
        self.logger = ros.add(EpisodeLoggerNode(
            context=ros.context, parameter_overrides=ros.parameters(**parameters)))
        self.probe = ros.node()
        self._talk()
        if active:
            for kind in (Transition.TRANSITION_CONFIGURE, Transition.TRANSITION_ACTIVATE):
                request = ChangeState.Request(transition=Transition(id=kind))
                assert ros.call(ChangeState, 'arm/change_state', request, node=self.probe).success
            ros.spin_until(lambda: not self.logger._input.missing() and self.logger._input.goal)

    def _talk(self):
        node = self.probe
        self.images, self.applied, self.health = {}, [], []
        self.acted_on, self.acting = 0, 'abc123def456'
        node.create_subscription(Image, 'image_raw', self._on_image, RELIABLE_IMAGES)
        node.create_subscription(Float64MultiArray, 'applied_action',
                                 lambda m: self.applied.append(decode_applied_action(m)), 50)
        node.create_subscription(DiagnosticArray, '/diagnostics', self._on_health, 10)
        self.twists = {p: node.create_publisher(TwistStamped, f'{p}delta_twist_cmds', COMMAND)
                       for p in ('', 'teleop/')}
        self.grippers = {p: node.create_publisher(Float64, f'{p}gripper_cmd', COMMAND)
                         for p in ('', 'teleop/')}
        self.ticks = node.create_publisher(Float64MultiArray, 'policy/tick', 50)
        self.checkpoint = node.create_publisher(String, 'policy/checkpoint_id', LATCHED)
        self.ros.spin_until(lambda: all(
            p.get_subscription_count() for p in (*self.twists.values(), *self.grippers.values(),
                                                 self.ticks, self.checkpoint)))

    def _on_image(self, message):
        self.images[to_nanoseconds(message.header.stamp)] = message

    def _on_health(self, message):
        self.health += [s for s in message.status if 'episode_logger: recording' in s.name]

    def act(self, linear, gripper=1.0, prefix='', progress=None, stamp=None,
            done=False):
        """
        Send one command as the policy does, on the newest image, or as the operator does.

        Returns once the arm has dealt with it: what comes later would take its place.
        """
        count = len(self.applied)
        if not prefix and stamp is None:
            self.ros.spin_until(lambda: max(self.images, default=0) > self.acted_on)
            self.acted_on = max(self.images)
        stamp = stamp or (time.time_ns() if prefix else self.acted_on)
        self.grippers[prefix].publish(Float64(data=gripper))
        message = TwistStamped()
        message.header.frame_id, message.header.stamp = 'base_link', to_stamp(stamp)
        message.twist.linear.x, message.twist.linear.y, message.twist.linear.z = linear
        self.twists[prefix].publish(message)
        if not prefix:
            self.tell_of(stamp, linear, gripper, progress, done)
        self.ros.spin_until(lambda: len(self.applied) > count, what='an applied_action')

    def tell_of(self, stamp, linear, gripper=1.0, progress=None, done=False):
        """Say of a command what the policy node says of it."""
        self.ticks.publish(encode_tick(PolicyTick(
            stamp, np.array([*PERIOD_S * np.array(linear), 0, 0, 0, gripper]), self.acting,
            float('nan') if progress is None else progress, 12.5, 0.25, done, image_age_s=0.01,
            inference_s=0.002, lateness_s=0.001)))

    def run(self, steps, prefix='', **kwargs):
        for number in range(steps):
            self.act([0.0, 0.05 * (-1) ** (number // 4), 0.02], prefix=prefix, **kwargs)
            self.ros.spin_for(PERIOD_S)

    def call(self, verb, success=None):
        if success is None:
            return self.ros.call(Trigger, f'episode_logger/{verb}', node=self.probe)
        return self.ros.call(SetBool, f'episode_logger/{verb}', SetBool.Request(data=success),
                             node=self.probe)

    def begin(self):
        """Start an episode, once robot and camera are heard; return the answer."""
        return self.ros.spin_until(lambda: (said := self.call('start')).success and said)

    def tell(self, **values):
        request = SetParameters.Request(parameters=[
            Parameter(name, value=value).to_parameter_msg() for name, value in values.items()])
        answer = self.ros.call(SetParameters, 'episode_logger/set_parameters', request,
                               node=self.probe)
        assert all(result.successful for result in answer.results)

    def episode(self, number=0):
        return Dataset(self.folder / 'episodes')[number]
