"""The simulated robot as nodes: the real arm's topics, a camera, the truth, and resets."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

pytest.importorskip('rclpy')

from geometry_msgs.msg import PoseStamped, TwistStamped
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from rcl_interfaces.srv import SetParameters
from rclpy.parameter import Parameter
from sensor_msgs.msg import Image, JointState
from stable_crl_ros.nodes.common import COMMAND, IMAGE_IN
from stable_crl_ros.nodes.conversions import message_to_image, to_nanoseconds
from stable_crl_ros.nodes.messages import decode_applied_action, decode_joint_states
from stable_crl_ros.nodes.sim import make_nodes
from stable_crl_ros.sim.tasks import TASKS
from stable_crl_ros.sim.world import CAMERA_SIZE
from std_msgs.msg import Float64, Float64MultiArray, String
from std_srvs.srv import Trigger
from test_arm_node import KEPT, PATIENT_S


class SimCell:
    """The three nodes of a simulated robot, and a probe."""

    def __init__(self, ros, **parameters):
        self.ros = ros
        parameters = {'max_command_age': PATIENT_S, **parameters}
        # `Ros.close` destroys in the reverse order of `add`; the world must go last.
        for node in reversed(make_nodes(context=ros.context,
                                        parameter_overrides=ros.parameters(**parameters))):
            ros.add(node)
        self.probe = ros.node()
        self.images, self.joints, self.drawer, self.block = [], [], [], []
        self.modes, self.applied = [], []
        subscribe = self.probe.create_subscription
        subscribe(Image, 'image_raw', self.images.append, IMAGE_IN)
        subscribe(JointState, 'joint_states', self.joints.append, 10)
        subscribe(Float64, 'sim/drawer_opening', self.drawer.append, 10)
        subscribe(PoseStamped, 'sim/block_pose', self.block.append, 10)
        subscribe(String, 'mode', lambda m: self.modes.append(m.data), KEPT)
        subscribe(Float64MultiArray, 'applied_action',
                  lambda m: self.applied.append(decode_applied_action(m)), 10)
        self.twists = self.probe.create_publisher(TwistStamped, 'delta_twist_cmds', COMMAND)
        self.ros.spin_until(lambda: self.twists.get_subscription_count() and self.modes)

    def activate(self):
        for kind in (Transition.TRANSITION_CONFIGURE, Transition.TRANSITION_ACTIVATE):
            request = ChangeState.Request(transition=Transition(id=kind))
            answer = self.ros.call(ChangeState, 'arm/change_state', request, node=self.probe)
            assert answer.success

    def send(self, linear):
        message = TwistStamped()
        message.header.frame_id = 'base_link'
        message.header.stamp = self.probe.get_clock().now().to_msg()
        message.twist.linear.x, message.twist.linear.y, message.twist.linear.z = linear
        self.twists.publish(message)

    def reset(self):
        return self.ros.call(Trigger, 'sim/reset', node=self.probe)

    def set(self, name, value):
        request = SetParameters.Request(parameters=[Parameter(name, value=value)
                                                    .to_parameter_msg()])
        return self.ros.call(SetParameters, 'sim/set_parameters', request,
                             node=self.probe).results[0]

    def fresh(self, messages):
        """Return the next message of a list that a subscription fills."""
        count = len(messages)
        self.ros.spin_until(lambda: len(messages) > count + 1)
        return messages[-1]


@pytest.fixture
def cell(ros):
    return SimCell(ros)


def test_shows_the_scene_it_publishes_the_truth_of(ros):
    begun = time.time_ns()
    cell = SimCell(ros, seed=3, task='close_drawer')
    start = TASKS['close_drawer'].sample_start(np.random.default_rng(3))
    assert cell.fresh(cell.drawer).data == pytest.approx(start.drawer, abs=1e-4)
    block = cell.fresh(cell.block)
    assert block.header.frame_id == 'base_link'
    position = block.pose.position
    np.testing.assert_allclose([position.x, position.y, position.z], start.block, atol=1e-3)
    image = cell.fresh(cell.images)
    assert message_to_image(image).shape == (*CAMERA_SIZE, 3)
    assert message_to_image(image).std() > 20
    assert begun < to_nanoseconds(image.header.stamp) < time.time_ns()
    assert image.header.frame_id == 'camera_optical_frame'


def test_the_arm_moves_the_simulated_joints_and_the_picture(cell):
    cell.activate()
    before = message_to_image(cell.fresh(cell.images)).astype(int)
    joints = decode_joint_states(cell.fresh(cell.joints)).joint_positions
    def turned():
        return decode_joint_states(cell.fresh(cell.joints)).joint_positions[0] - joints[0]
    for _ in range(4):
        cell.send([0.0, 0.15, 0.0])
        cell.ros.spin_for(0.2)
    while turned() < 0.2:  # the machine stood still in the middle of a step
        assert len(cell.applied) < 20
        cell.send([0.0, 0.15, 0.0])
        cell.ros.spin_for(0.4)
    assert np.allclose(cell.applied[0].applied[:3], [0, 0.03, 0], atol=1e-6)
    assert np.abs(message_to_image(cell.fresh(cell.images)).astype(int) - before).max() > 50


def test_a_reset_is_refused_while_the_arm_is_commanded(ros):
    cell = SimCell(ros, command_timeout=4.0)
    cell.activate()
    cell.send([0.0, 0.0, 0.05])
    cell.ros.spin_until(lambda: cell.modes[-1] == 'policy')
    answer = cell.reset()
    assert not answer.success and 'moving under command' in answer.message
    cell.ros.spin_until(lambda: cell.modes[-1] == 'ready')
    assert cell.reset().success


def test_after_a_reset_the_arm_stays_where_the_scene_put_it(cell):
    cell.activate()
    cell.send([0.0, -0.2, 0.0])
    cell.ros.spin_until(lambda: cell.modes[-2:] == ['policy', 'ready'])
    assert cell.set('seed', 11).successful
    assert cell.reset().success
    start = TASKS['open_drawer'].sample_start(np.random.default_rng(11))
    cell.ros.spin_for(0.5)
    joints = decode_joint_states(cell.fresh(cell.joints)).joint_positions
    np.testing.assert_allclose(joints, start.joints, atol=0.01)
    assert cell.fresh(cell.drawer).data == pytest.approx(start.drawer, abs=1e-3)


def test_resets_draw_the_same_scenes_from_the_same_seed(cell):
    def three():
        assert cell.set('seed', 5).successful
        return [cell.reset().message for _ in range(3)]
    first = three()
    assert len(set(first)) == 3
    assert three() == first
    assert cell.set('randomise', False).successful
    assert {cell.reset().message for _ in range(2)} == {first[0]}


def test_an_unknown_task_is_refused_with_those_there_are(cell):
    result = cell.set('task', 'make_coffee')
    assert not result.successful
    assert all(name in result.reason for name in TASKS)


def test_the_process_has_three_nodes_and_ends_cleanly_on_ctrl_c(ros):
    process = subprocess.Popen(
        [sys.executable, '-m', 'stable_crl_ros.nodes.sim', '--ros-args', '-r', '__ns:=/alone'],
        stderr=subprocess.PIPE, text=True, env=os.environ)
    try:
        probe = ros.node()
        images = []
        probe.create_subscription(Image, '/alone/image_raw', images.append, IMAGE_IN)
        ros.spin_until(lambda: len(images) > 3, 30.0, 'images of the process')
        ros.spin_until(lambda: {('arm', '/alone'), ('camera', '/alone'), ('sim', '/alone')}
                       <= set(probe.get_node_names_and_namespaces()))
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=30)
        assert (process.returncode, 'Traceback' in errors, 'Error' in errors) == \
            (0, False, False), errors
    finally:
        process.kill()
        process.wait()
