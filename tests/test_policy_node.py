"""The policy node over DDS: what it sends, when it holds, and swapping checkpoints live."""

import json
from pathlib import Path
import signal
import struct
import subprocess
import sys
import time

from learning_samples import small_agent, write_checkpoint
import numpy as np
import pytest
import torch

pytest.importorskip('rclpy')

from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import TwistStamped
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from rcl_interfaces.srv import SetParameters
from rclpy.exceptions import InvalidParameterValueException
from rclpy.parameter import Parameter
from safetensors.torch import load_file, save_file
from sensor_msgs.msg import CompressedImage, Image
from stable_crl_ros.checkpoint import load_checkpoint
from stable_crl_ros.nodes.common import COMMAND, ERROR, IMAGE_OUT, LATCHED, OK, WARN
from stable_crl_ros.nodes.conversions import (
    image_to_compressed,
    image_to_message,
    to_nanoseconds,
)
from stable_crl_ros.nodes.policy import PolicyNode
from stable_crl_ros.policy import Policy
from std_msgs.msg import Float64, String
from std_srvs.srv import Trigger

RATE = 20.0  # Hz


def scene(seed):
    return np.random.default_rng(seed).integers(0, 256, (24, 32, 3), dtype=np.uint8)


def lively(seed, algorithm='stable_crl'):
    # A cold initialisation answers every image with the same action.
    return small_agent(algorithm, seed, actor_final_init=0.3)


@pytest.fixture(scope='module')
def checkpoints(tmp_path_factory):
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp('checkpoints')
    for name, seed in (('first', 1), ('second', 2)):
        write_checkpoint(folder / f'{name}.safetensors', agent=lively(seed))
    write_checkpoint(folder / 'gcbc.safetensors', 'gcbc', lively(3, 'gcbc'))
    return folder


@pytest.fixture
def first(checkpoints):
    return checkpoints / 'first.safetensors'


@pytest.fixture
def second(checkpoints):
    return checkpoints / 'second.safetensors'


class Bench:
    """A policy node with camera, goal, and an arm that only listens."""

    def __init__(self, ros, checkpoint, **values):
        self.ros = ros
        overrides = {'checkpoint_path': str(checkpoint), 'control_rate': RATE, **values}
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
        self.statuses, self.ids = {}, []
        self._listen()
        ros.spin_until(lambda: self.camera.get_subscription_count() > 0)

    def _listen(self):
        def keep(store, name):
            def callback(message):
                store.append(message)
                self.order.append(name)
            return callback
        subscribe = self.probe.create_subscription
        subscribe(Float64, 'gripper_cmd', keep(self.grippers, 'gripper'), COMMAND)
        subscribe(TwistStamped, 'delta_twist_cmds', keep(self.twists, 'twist'), COMMAND)
        subscribe(Float64, 'policy/progress', self.progress.append, 10)
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
            and self.statuses[name], what=f'diagnostics {name}')


def as_action(command):
    twist, gripper = command
    linear, angular = twist.twist.linear, twist.twist.angular
    return np.array([*np.array([linear.x, linear.y, linear.z, angular.x, angular.y, angular.z])
                     / RATE, gripper])


def expected(path, image, goal):
    policy = Policy.load(path, threads=1)
    policy.set_goal(goal)
    return policy.step(image)


def test_sends_the_policys_action_with_the_images_stamp_gripper_first(ros, first):
    bench = Bench(ros, first)
    bench.activate()
    stamp_ns = bench.show(scene(5))
    command = bench.next_command()
    action, progress = expected(first, scene(5), scene(100))
    np.testing.assert_allclose(as_action(command), action, atol=1e-6)
    assert np.abs(action[:6]).max() > 1e-3  # not the answer of a cold network
    assert command[0].header.frame_id == 'base_link'
    assert to_nanoseconds(command[0].header.stamp) == stamp_ns
    assert bench.order[:2] == ['gripper', 'twist']
    ros.spin_until(lambda: bench.progress)
    assert bench.progress[0].data == pytest.approx(progress, abs=1e-4)


def test_compressed_images_are_acted_on_too(ros, first):
    smooth = np.full((24, 32, 3), (200, 60, 20), np.uint8)
    bench = Bench(ros, first, image_transport='compressed')
    bench.activate()
    bench.show(smooth)
    action, _ = expected(first, smooth, scene(100))
    np.testing.assert_allclose(as_action(bench.next_command()), action, atol=0.01)


def test_keeps_its_rate_and_reports_it(ros, first):
    bench = Bench(ros, first)
    bench.activate()
    bench.stream(scene(1))
    bench.next_command()
    count = len(bench.twists)
    ros.spin_for(1.0)
    assert RATE - 4 <= len(bench.twists) - count <= RATE + 1
    status = bench.status('control', lambda s: s.message == 'acting')
    values = {v.key: v.value for v in status.values}
    assert status.level == OK
    assert int(values['ticks']) >= len(bench.twists) - 1
    assert 0.0 < float(values['inference_p50_ms']) <= float(values['inference_p99_ms'])
    assert 0.0 < float(values['latency_p50_ms']) <= float(values['latency_p99_ms']) < 300.0


def test_late_ticks_are_skipped_never_queued(ros, first):
    bench = Bench(ros, first, max_image_age=5.0)
    bench.activate()
    bench.show(scene(1))
    bench.next_command()
    count = bench.node._commands
    time.sleep(10.5 / RATE)  # the executor is kept from ten ticks
    ros.spin_for(0.5 / RATE)
    assert bench.node._commands - count <= 2
    assert bench.node._monitor.missed >= 8


def test_an_inactive_node_sends_nothing_and_deactivating_silences_it(ros, first):
    bench = Bench(ros, first)
    assert bench.transition('CONFIGURE')
    bench.set_goal(scene(100))
    bench.stream(scene(1))
    assert bench.silent()
    assert bench.transition('ACTIVATE')
    bench.next_command()
    assert bench.transition('DEACTIVATE')
    assert bench.silent()
    assert bench.transition('ACTIVATE')
    bench.next_command()
    assert bench.transition('DEACTIVATE')
    assert bench.transition('CLEANUP')
    assert bench.transition('CONFIGURE')


def test_activation_without_a_goal_is_refused_and_says_what_to_do(ros, first):
    bench = Bench(ros, first)
    bench.transition('CONFIGURE')
    assert not bench.transition('ACTIVATE')
    assert 'no goal on /goal/image yet; set active_goal' in bench.node.refusal
    status = bench.status('control', lambda s: s.level == ERROR)
    assert 'active_goal' in status.message


@pytest.mark.parametrize(('age_s', 'reason'), [(0.5, 's old; max_image_age is 0.30 s'),
                                               (-0.5, 'in the future')])
def test_never_acts_on_an_image_of_another_time(ros, first, age_s, reason):
    bench = Bench(ros, first)
    bench.activate()
    bench.show(scene(1), age_s)
    assert bench.silent()
    assert bench.twists == []
    status = bench.status('control', lambda s: s.level == WARN)
    assert status.message.startswith('holding: ')
    assert reason in status.message
    bench.show(scene(1))
    bench.next_command()


def test_holds_when_the_camera_falls_silent_and_goes_on_when_it_is_back(ros, first):
    bench = Bench(ros, first)
    bench.activate()
    timer = bench.stream(scene(1))
    bench.next_command()
    timer.cancel()
    ros.spin_for(0.35)
    assert bench.silent()
    timer.reset()
    bench.next_command()


def test_holds_before_the_first_image_and_says_so(ros, first):
    bench = Bench(ros, first)
    bench.activate()
    assert bench.silent()
    status = bench.status('control', lambda s: s.level == WARN)
    assert 'no image on /image_raw yet; check that the camera node runs' in status.message


def test_holds_on_an_encoding_it_does_not_know(ros, first):
    bench = Bench(ros, first)
    bench.activate()
    message = image_to_message(scene(1), bench.now_ns())
    message.encoding = '32FC1'
    bench.send(message)
    assert bench.silent(0.2)
    message = image_to_message(scene(1), bench.now_ns())
    bench.send(message)
    bench.next_command()


def test_acts_on_the_newest_image_whatever_the_order_of_arrival(ros, first):
    bench = Bench(ros, first, max_image_age=5.0)
    bench.activate()
    newest_ns = bench.show(scene(7))
    bench.show(scene(8), age_s=1.0)
    bench.show(scene(9), age_s=-30.0)
    command = bench.next_command()
    assert to_nanoseconds(command[0].header.stamp) == newest_ns
    np.testing.assert_allclose(as_action(command), expected(first, scene(7), scene(100))[0],
                               atol=1e-6)


def test_a_new_goal_takes_effect_at_the_next_tick(ros, first):
    bench = Bench(ros, first, max_image_age=5.0)
    bench.activate(scene(100))
    bench.show(scene(5))
    before = as_action(bench.next_command())
    bench.set_goal(scene(200))
    bench.next_command()
    after = as_action(bench.next_command())
    np.testing.assert_allclose(after, expected(first, scene(5), scene(200))[0], atol=1e-6)
    assert np.abs(after - before).max() > 1e-3


def test_a_goal_is_encoded_once(ros, first):
    bench = Bench(ros, first, max_image_age=5.0)
    bench.activate()
    bench.show(scene(5))
    bench.next_command()
    psi = bench.node._running.policy._psi
    bench.next_command()
    bench.next_command()
    assert bench.node._running.policy._psi is psi


def test_a_goal_that_is_no_image_is_refused_and_the_old_one_stays(ros, first, capfd):
    bench = Bench(ros, first, max_image_age=5.0)
    bench.activate(scene(100))
    bench.show(scene(5))
    bad = image_to_message(scene(200), 0)
    bad.encoding = 'mono16'
    bench.goals.publish(bad)
    ros.spin_for(0.2)
    np.testing.assert_allclose(as_action(bench.next_command()),
                               expected(first, scene(5), scene(100))[0], atol=1e-6)
    assert "goal refused: /goal/image: encoding 'mono16'" in capfd.readouterr().err


def test_warns_once_of_a_goal_that_another_camera_took(ros, first, capfd):
    bench = Bench(ros, first)
    bench.activate(scene(100)[:, :24])
    bench.stream(scene(5))
    for _ in range(4):
        bench.next_command()
    bench.set_goal(scene(200))
    bench.next_command()
    log = capfd.readouterr().err
    assert log.count('the goal is 24x24 but the camera gives 32x24') == 1
    assert log.count('but the camera gives') == 1


def test_a_policy_without_a_critic_sends_no_progress(ros, checkpoints):
    bench = Bench(ros, checkpoints / 'gcbc.safetensors')
    bench.activate()
    bench.stream(scene(1))
    for _ in range(3):
        bench.next_command()
    assert bench.progress == []


def test_names_its_checkpoint_to_late_joiners(ros, first):
    bench = Bench(ros, first)
    bench.transition('CONFIGURE')
    late = []
    ros.node('late').create_subscription(
        String, 'policy/checkpoint_id', lambda m: late.append(m.data), LATCHED)
    ros.spin_until(lambda: late)
    assert late == [load_checkpoint(first).sha256[:12]]


def test_swaps_the_checkpoint_while_acting(ros, first, second):
    bench = Bench(ros, first, max_image_age=5.0)
    bench.activate()
    bench.show(scene(5))
    old, new = (expected(path, scene(5), scene(100))[0] for path in (first, second))
    np.testing.assert_allclose(as_action(bench.next_command()), old, atol=1e-6)
    assert bench.set(checkpoint_path=str(second)) == ''
    new_id = load_checkpoint(second).sha256[:12]
    ros.spin_until(lambda: bench.ids[-1] == new_id)
    count = len(bench.twists)
    bench.next_command()
    np.testing.assert_allclose(as_action(bench.next_command()), new, atol=1e-6)
    assert len(bench.twists) >= count + 2
    assert bench.path() == str(second)
    status = bench.status('checkpoint', lambda s: s.message == new_id)
    assert status.level == OK


def test_no_command_is_ever_a_mixture_of_two_checkpoints(ros, first, second):
    bench = Bench(ros, first, max_image_age=10.0)
    bench.activate()
    bench.show(scene(5))
    bench.next_command()
    known = [expected(path, scene(5), scene(100))[0] for path in (first, second)]
    for path in (second, first, second):
        assert bench.set(checkpoint_path=str(path)) == ''
        bench.next_command()
    ros.spin_until(lambda: not bench.node._loader.busy)
    bench.next_command()
    assert len(bench.twists) == len(bench.grippers)
    for command in zip(bench.twists, bench.grippers, strict=True):
        action = as_action((command[0], command[1].data))
        assert min(np.abs(action - one).max() for one in known) < 1e-5


def test_rolls_back_to_the_checkpoint_before_and_forward_again(ros, first, second):
    bench = Bench(ros, first, max_image_age=5.0)
    bench.activate()
    bench.show(scene(5))
    bench.set(checkpoint_path=str(second))
    ros.spin_until(lambda: bench.node._previous is not None)
    answer = bench.rollback()
    assert answer.success
    assert str(first) in answer.message
    assert bench.path() == str(first)
    bench.next_command()
    np.testing.assert_allclose(as_action(bench.next_command()),
                               expected(first, scene(5), scene(100))[0], atol=1e-6)
    assert bench.rollback().success
    assert bench.path() == str(second)
    ros.spin_for(0.3)
    assert not bench.node._loader.busy  # naming what runs must not load it again


def test_rollback_works_although_the_earlier_file_is_gone(ros, second, tmp_path):
    path = tmp_path / 'gone.safetensors'
    write_checkpoint(path, agent=lively(1))
    bench = Bench(ros, path)
    bench.activate()
    bench.set(checkpoint_path=str(second))
    ros.spin_until(lambda: bench.node._previous is not None)
    path.unlink()
    assert bench.rollback().success
    assert bench.path() == str(path)


def test_rollback_without_an_earlier_checkpoint_is_refused(ros, first):
    bench = Bench(ros, first)
    bench.transition('CONFIGURE')
    answer = bench.rollback()
    assert not answer.success
    assert 'no earlier checkpoint' in answer.message


def test_of_two_quick_wishes_the_last_one_runs(ros, first, second, checkpoints):
    bench = Bench(ros, first)
    bench.activate()
    bench.node.set_parameters([Parameter('checkpoint_path', value=str(second))])
    last = checkpoints / 'gcbc.safetensors'
    bench.node.set_parameters([Parameter('checkpoint_path', value=str(last))])
    ros.spin_until(lambda: not bench.node._loader.busy)
    assert bench.node._running.policy.algorithm == 'gcbc'
    assert bench.path() == str(last)


def test_setting_the_same_path_loads_a_file_that_was_trained_further(ros, tmp_path):
    path = tmp_path / 'latest.safetensors'
    write_checkpoint(path, agent=lively(1))
    bench = Bench(ros, path)
    bench.activate()
    write_checkpoint(path, agent=lively(2))
    bench.set(checkpoint_path=str(path))
    new_id = load_checkpoint(path).sha256[:12]
    ros.spin_until(lambda: bench.ids and bench.ids[-1] == new_id)


def test_a_checkpoint_set_while_inactive_acts_from_the_next_activation(ros, first, second):
    bench = Bench(ros, first)
    bench.activate()
    bench.transition('DEACTIVATE')
    bench.node.set_parameters([Parameter('checkpoint_path', value=str(second))])
    assert bench.transition('ACTIVATE')
    assert bench.node._running.path == str(second)


def test_a_checkpoint_set_before_configuring_is_the_one_loaded(ros, first, second):
    bench = Bench(ros, first)
    assert bench.set(checkpoint_path=str(second)) == ''
    assert bench.transition('CONFIGURE')
    assert bench.node._running.path == str(second)


def cut_off(path, good):
    path.write_bytes(good.read_bytes()[:-100])


def nonsense(path, good):
    path.write_bytes(b'no checkpoint at all')


def foreign(path, good):
    save_file(load_file(good), path)


def six_dimensional(path, good):
    agent = lively(1)
    tensors = {name: tensor.detach() for name, tensor in agent.tensors().items()}
    tensors['actor.head.output.weight'] = tensors['actor.head.output.weight'][:6].contiguous()
    raw = good.read_bytes()
    metadata = json.loads(raw[8:8 + struct.unpack('<Q', raw[:8])[0]])['__metadata__']
    save_file(tensors, path, metadata)


@pytest.mark.parametrize(('spoil', 'reason'), [
    (lambda path, good: None, 'no such file'), (lambda path, good: path.mkdir(), 'a directory'),
    (cut_off, 'not a whole'), (nonsense, 'not a whole'), (foreign, 'metadata lacks'),
    (six_dimensional, 'actions have 6 dimensions')])
def test_a_bad_checkpoint_is_refused_at_the_door_and_the_running_one_acts_on(
        ros, first, tmp_path, spoil, reason):
    bench = Bench(ros, first)
    bench.activate()
    bench.stream(scene(1))
    spoil(tmp_path / 'bad.safetensors', first)
    refusal = bench.set(checkpoint_path=str(tmp_path / 'bad.safetensors'))
    assert reason in refusal
    assert 'bad.safetensors' in refusal
    assert bench.path() == str(first)
    assert not bench.node._loader.busy
    bench.next_command()


@pytest.mark.parametrize(('wrong', 'reason'), [
    ('~nobody_here/policy.safetensors', 'no such user'), ('x' * 300, 'too long')])
def test_what_is_no_path_at_all_is_refused_at_the_door(ros, first, wrong, reason):
    bench = Bench(ros, first)
    assert bench.transition('CONFIGURE')
    assert reason in bench.set(checkpoint_path=wrong)
    assert bench.path() == str(first)


def flipped(path, good):
    raw = bytearray(good.read_bytes())
    raw[-50] ^= 1
    path.write_bytes(bytes(raw))


def exploding(path, good):
    agent = lively(1)
    with torch.no_grad():
        for parameter in agent.networks['actor'].parameters():
            parameter.fill_(3e38)
    write_checkpoint(path, agent=agent)


@pytest.mark.parametrize(('spoil', 'reason'), [
    (flipped, 'do not match the recorded sha256'), (exploding, 'not finite')])
def test_what_only_loading_shows_is_refused_on_diagnostics_and_the_running_one_acts_on(
        ros, first, tmp_path, spoil, reason):
    bench = Bench(ros, first)
    bench.activate()
    bench.stream(scene(1))
    running = load_checkpoint(first).sha256[:12]
    spoil(tmp_path / 'bad.safetensors', first)
    assert bench.set(checkpoint_path=str(tmp_path / 'bad.safetensors')) == ''
    status = bench.status('checkpoint', lambda s: s.level == WARN)
    assert status.message.startswith(f'kept {running}: ')
    assert reason in status.message
    assert bench.path() == str(first)
    bench.next_command()
    assert bench.ids == [running]


def test_configuring_refuses_a_missing_checkpoint_and_can_be_tried_again(ros, first, tmp_path):
    bench = Bench(ros, tmp_path / 'missing.safetensors')
    assert not bench.transition('CONFIGURE')
    assert 'missing.safetensors: no such file' in bench.node.refusal
    assert bench.set(checkpoint_path=str(first)) == ''
    assert bench.transition('CONFIGURE')


def test_configuring_refuses_a_device_that_is_not_there(ros, first):
    bench = Bench(ros, first, device='cuda:97')
    assert not bench.transition('CONFIGURE')
    assert "device 'cuda:97' cannot be used here; torch sees no such GPU" in bench.node.refusal
    assert 'there are cpu' in bench.node.refusal


@pytest.mark.parametrize(('name', 'wrong'), [
    ('control_rate', 0.0), ('control_rate', 1000.0), ('control_rate', float('nan')),
    ('max_image_age', 0.0), ('max_image_age', -1.0), ('threads', 0),
    ('image_transport', 'theora'), ('image_backend', 'pil')])
def test_wrong_parameters_are_refused_at_the_start(ros, name, wrong):
    with pytest.raises(InvalidParameterValueException, match=name):
        PolicyNode(context=ros.context, namespace='refused',  # half-made, it lingers in the graph
                   parameter_overrides=ros.parameters(**{name: wrong}))


@pytest.mark.parametrize(('name', 'changed', 'reason'), [
    ('control_rate', 10.0, 'read-only'), ('device', 'cuda', 'read-only'),
    ('max_image_age', 100.0, 'out of range')])
def test_what_cannot_change_in_mid_run_is_refused(ros, first, name, changed, reason):
    assert reason in Bench(ros, first).set(**{name: changed})


@pytest.fixture
def run_process():
    processes = []

    def run(*arguments):
        processes.append(subprocess.Popen(
            [sys.executable, '-m', 'stable_crl_ros.nodes.policy', '--ros-args', *arguments],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True))
        return processes[-1]
    yield run
    for process in processes:
        process.kill()
        process.communicate()


def configure(ros):
    request = ChangeState.Request(transition=Transition(id=Transition.TRANSITION_CONFIGURE))
    return ros.call(ChangeState, 'policy/change_state', request, timeout_s=30.0).success


def test_the_process_runs_with_the_shipped_configuration_and_ends_with_0(ros, first, run_process):
    path = Path(__file__).parents[1] / 'config' / 'policy.yaml'
    process = run_process('--params-file', str(path), '-p', f'checkpoint_path:={first}')
    assert configure(ros)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=20.0)
    assert process.returncode == 0
    assert 'unknown and ignored' not in err
    assert 'Traceback' not in err


def test_the_process_ends_with_0_while_a_checkpoint_is_loading(ros, first, run_process, tmp_path):
    path = tmp_path / 'large.safetensors'
    write_checkpoint(path, agent=small_agent(actor_hidden=(2048, 2048, 2048)))
    process = run_process('-p', f'checkpoint_path:={first}')
    assert configure(ros)
    request = SetParameters.Request(parameters=[
        Parameter('checkpoint_path', value=str(path)).to_parameter_msg()])
    assert ros.call(SetParameters, 'policy/set_parameters', request).results[0].successful
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=20.0)
    assert process.returncode == 0
    assert 'Traceback' not in err
