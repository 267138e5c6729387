"""The episode logger when things go wrong, end by themselves, or are labelled afterwards."""

import json
import subprocess
import sys
import time

import cv2
from diagnostic_msgs.msg import DiagnosticArray
from disks import disk_of
import numpy as np
import pytest

pytest.importorskip('rclpy')

from rcl_interfaces.srv import SetParameters
from rclpy.parameter import Parameter
from recording_source import CAMERAS, Source
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CompressedImage, Image, JointState
from stable_crl_ros.actions import ActionScale
from stable_crl_ros.data.dataset import Dataset
from stable_crl_ros.data.index import INDEX
from stable_crl_ros.data.labels import LabelError
from stable_crl_ros.nodes.common import ERROR, IMAGE_OUT, LATCHED
from stable_crl_ros.nodes.conversions import image_to_compressed, image_to_message, to_stamp
from stable_crl_ros.nodes.episode_logger import EpisodeLoggerNode
from stable_crl_ros.nodes.logger_parameters import read_label
from stable_crl_ros.nodes.messages import encode_joint_states
from std_msgs.msg import String
from std_srvs.srv import SetBool, Trigger

RATE = 40.0  # Hz
SIZE = (24, 32)
MAX_AGE_S = 0.15


class Rig:
    """A logger of two cameras and a robot that is played, in one process."""

    def __init__(self, ros, folder, **parameters):
        self.ros, self.path = ros, folder / 'episodes'
        rng = np.random.default_rng(0)
        self.pool = [rng.integers(0, 256, (*SIZE, 3), np.uint8) for _ in range(8)]
        self.robot = ros.add(Source(2, self.pool, context=ros.context))
        values = {'dataset_path': str(self.path), 'cameras': list(CAMERAS[:2]),
                  'image_topics': ['image_raw', 'wrist/image_raw'], 'control_rate': RATE,
                  'max_image_age': MAX_AGE_S, 'minimum_free_disk': 0.0, **parameters}
        self.logger = ros.add(EpisodeLoggerNode(
            context=ros.context, parameter_overrides=ros.parameters(**values)))
        self.probe = ros.node()
        self.health, self.number = [], 0
        self.probe.create_subscription(DiagnosticArray, '/diagnostics', self._on_health, 10)
        topics = [*self.robot._images[:1], self.robot._joints, self.robot._applied]
        ros.spin_until(lambda: all(topic.get_subscription_count() for topic in topics))
        self.run(2)

    def _on_health(self, message):
        self.health += [s for s in message.status if 'episode_logger: recording' in s.name]

    def run(self, steps, cameras=None, act=True):
        """Play some control steps; `cameras` are the numbers of those that work."""
        for _ in range(steps):
            self.robot.move()
            self.robot.show(self.number, cameras)
            self.ros.spin_for(0.01)
            if act:
                self.robot.act(self.number)
            self.number += 1
            self.ros.spin_for(1.0 / RATE - 0.01)

    def call(self, verb, data=None):
        """Call a verb of the logger, while the robot goes on being seen."""
        kind = Trigger if data is None else SetBool
        client = self.probe.create_client(kind, f'episode_logger/{verb}')
        self.ros.spin_until(client.service_is_ready)
        future = client.call_async(kind.Request() if data is None else kind.Request(data=data))
        while not future.done():
            self.run(1, act=False)
        return future.result()

    def tell(self, **values):
        """Set parameters of the logger; returns the reason of a refusal."""
        request = SetParameters.Request(parameters=[
            Parameter(name, value=value).to_parameter_msg() for name, value in values.items()])
        answer = self.ros.call(SetParameters, 'episode_logger/set_parameters', request,
                               node=self.probe)
        return ''.join(result.reason for result in answer.results)

    def status(self, condition):
        """Return the next report for which a condition holds."""
        self.health.clear()
        self.ros.spin_until(lambda: any(map(condition, self.health)), what='the report')
        return next(filter(condition, self.health))

    def episode(self, number=0):
        return Dataset(self.path)[number]


@pytest.fixture
def rig(ros, tmp_path):
    return Rig(ros, tmp_path, max_image_age=5.0)  # which no camera reaches while the others run


def record(rig, steps=4):
    assert rig.call('start').success
    rig.run(steps)
    return rig.call('stop', True)


def test_every_camera_gives_its_newest_image_not_younger_than_the_step(rig):
    assert rig.call('start').success
    for _ in range(4):
        rig.run(1, act=False)
        rig.robot.show(rig.number, [0])  # the wrist camera is one image behind
        rig.ros.spin_for(0.01)
        rig.robot.act(rig.number)
        rig.ros.spin_for(0.01)
        rig.robot.show(rig.number, [1])  # and gives another one too late for this step
        rig.ros.spin_for(0.01)
    assert rig.call('stop', True).success
    episode, shown = rig.episode(), rig.robot.shown
    assert episode.steps == 4
    for tick, age in zip(episode['capture_stamp'], episode['ages/wrist'], strict=True):
        assert tick in shown[0]
        assert age == tick - max(stamp for stamp in shown[1] if stamp <= tick) > 0
    assert not episode['ages/over_shoulder'].any()
    assert (episode['ages/joint_states'] > 0).all() and (episode['ages/ee_pose'] > 0).all()


def test_a_camera_that_goes_and_comes_back_costs_the_steps_between(ros, tmp_path):
    rig = Rig(ros, tmp_path)
    ros.spin_until(lambda: rig.call('start').success)
    first = rig.number
    rig.run(4)
    rig.run(12, cameras=[0])
    rig.run(4)
    ticks, wrist = list(rig.robot.shown[0])[-20:], list(rig.robot.shown[1])
    late = [tick - max(stamp for stamp in wrist if stamp <= tick) > MAX_AGE_S * 1e9
            for tick in ticks]
    answer = rig.call('stop', True)
    assert answer.success and 'no image of wrist' in answer.message, answer.message
    episode = rig.episode()
    assert 4 <= sum(late) <= 12 and episode.attrs['drops'] == {'wrist': sum(late)}
    assert episode.attrs['gaps'] == [late.index(True)]
    numbers = (episode['action'][:, 0] * 1e6).round().astype(int) - first
    assert numbers.tolist() == np.flatnonzero(np.logical_not(late)).tolist()


def test_what_waits_while_the_process_stands_still_is_not_missed(rig):
    assert rig.call('start').success
    rig.run(2)
    stamp = time.time_ns()
    rig.robot.shown[0].append(stamp)
    rig.robot.act(rig.number)  # the command is there before the image that it was computed from
    rig.ros.spin_until(lambda: any(waiting.step.capture_ns == stamp
                                   for waiting in rig.logger._recording._pending))
    for camera, image in zip(rig.robot._images, rig.robot._pool, strict=False):
        image.header.stamp = to_stamp(stamp)
        camera.publish(image)
    time.sleep(0.5)
    rig.run(2)
    assert rig.call('stop', True).success
    episode = rig.episode()
    assert (episode.steps, episode.attrs['dropped']) == (5, 0)
    assert stamp in episode['capture_stamp']


@pytest.mark.parametrize('odd', [(48, 64), 'bayer_rggb8'])
def test_images_that_change_in_mid_episode_are_refused_and_counted_for_their_camera(rig, odd):
    assert rig.call('start').success
    rig.run(4)
    good = rig.robot._pool
    if isinstance(odd, tuple):
        changed = image_to_message(np.zeros((*odd, 3), np.uint8), 0)
    else:
        changed = Image(height=8, width=8, encoding=odd, step=8, data=bytes(64))
    for _ in range(3):
        rig.robot._pool = [changed]
        rig.robot.show(0, [1])
        rig.robot._pool = good
        rig.ros.spin_for(0.005)
        rig.run(1, cameras=[0])
    rig.run(3)
    answer = rig.call('stop', True)
    assert answer.success and '7 steps, 3 dropped' in answer.message, answer.message
    episode = rig.episode()
    assert episode.attrs['drops'] == {'wrist': 3} and episode.attrs['gaps'] == [4]
    assert episode.images('wrist').shape == (8, *SIZE, 3)


def test_what_is_no_number_is_stored_as_it_came_and_counted(rig):
    assert rig.call('start').success
    rig.run(2)
    state = rig.robot._state(time.time_ns())
    message: JointState = encode_joint_states(state)
    message.position[2] = float('nan')
    message.header.stamp = to_stamp(time.time_ns())
    rig.robot._joints.publish(message)
    rig.robot.show(0)
    rig.ros.spin_for(0.01)
    rig.robot.act(99)
    rig.run(2)
    assert rig.call('stop', True).success
    episode = rig.episode()
    assert episode.attrs['invalid_states'] == {'joint_states': 1}
    row, = np.flatnonzero((episode['action'][:, 0] * 1e6).round() == 99)
    assert np.isnan(episode['joint_positions'][row]).tolist() == [0, 0, 1, 0, 0, 0]


def test_what_was_seen_before_the_clock_was_stepped_back_is_not_seen_after_it(ros, tmp_path):
    rig = Rig(ros, tmp_path, use_sim_time=True)
    clocks = rig.probe.create_publisher(Clock, '/clock', 10)

    def tell_time():
        now_ns = time.time_ns() + rig.robot.clock_ns
        clocks.publish(Clock(clock=to_stamp(now_ns)))
        ros.spin_until(lambda: abs(rig.logger.get_clock().now().nanoseconds - now_ns) < 1e6)

    def run(steps):
        for _ in range(steps):
            tell_time()
            rig.run(1)
    run(1)
    assert rig.call('start').success
    run(4)
    rig.robot.clock_ns = -400_000_000
    run(2)
    stepped = list(rig.robot.shown[0])[-2:]
    assert rig.call('stop', True).success
    episode, shown = rig.episode(), list(rig.robot.shown[0])
    attributes = episode.attrs
    assert (attributes['steps'], attributes['dropped'], attributes['clock_steps']) == (6, 0, 1)
    assert episode['capture_stamp'][-2:].tolist() == stepped
    # An image from before the step is of before the action, whatever its stamp says.
    assert shown.index(attributes['final_capture_stamp']) > shown.index(stepped[-1])


def test_episodes_end_by_length_and_the_next_begins(ros, tmp_path):
    rig = Rig(ros, tmp_path, max_steps=5, record_on_start=True, record_again=True)
    ros.spin_until(lambda: rig.run(1) or (rig.path / INDEX).exists()
                   and len(Dataset(rig.path)) >= 2)
    for number in (0, 1):
        attributes = rig.episode(number).attrs
        assert attributes['steps'] == 5
        assert attributes['ended_why'] == 'max_steps' and not attributes['interrupted']
        assert attributes['success'] is None


def test_an_episode_ends_by_time_and_is_labelled_afterwards(ros, tmp_path):
    rig = Rig(ros, tmp_path, max_duration=0.4)
    def ended():
        """Record; again where the machine stood still until the time was over."""
        if rig.logger._recording is None and not list(rig.path.glob('episode_*')):
            rig.call('start')
        rig.run(20)
        return rig.logger._labels.last
    ros.spin_until(ended)
    late = rig.call('stop', True)
    assert not late.success and '~/label_last' in late.message
    assert rig.tell(label='{task: wipe, tags: [spill, slow]}', operator='ada') == ''
    answer = rig.call('label_last', True)
    assert answer.success and "task 'wipe'" in answer.message, answer.message
    attributes = rig.episode().attrs
    assert attributes['ended_why'] == 'max_duration' and 1 <= attributes['steps'] <= 22
    assert attributes['success'] is True and attributes['tags'] == ['spill', 'slow']
    assert attributes['label_history'][0]['by'] == 'ada'
    assert rig.logger.get_parameter('label').value == ''  # not for the next one too


def test_while_one_is_recorded_the_one_before_is_labelled(rig):
    assert record(rig).success
    assert rig.call('start').success
    rig.run(2)
    answer = rig.call('label_last', False)
    assert answer.success and 'labelled episode 0' in answer.message
    assert rig.call('stop', True).success
    assert [rig.episode(number).attrs['success'] for number in (0, 1)] == [False, True]


def test_a_label_that_makes_no_sense_is_refused(rig):
    assert 'it may hold task, instruction, operator, notes, tags' in rig.tell(label='tsak: x')
    answer = rig.call('label_last', True)
    assert not answer.success and 'dataset' in answer.message


@pytest.mark.parametrize('text', ['spilled', 'tags: {a: 1}', 'notes: [a]', 'success: true', ':'])
def test_labels_of_another_form_are_refused(text):
    with pytest.raises(LabelError):
        read_label(text)


def test_the_scale_of_the_policy_that_acts_is_stored_and_no_others(rig):
    scale = ActionScale.from_bounds().to_dict()
    checkpoint = rig.probe.create_publisher(String, 'policy/checkpoint_id', LATCHED)
    scales = rig.probe.create_publisher(String, 'policy/action_scale', LATCHED)
    for number, named in enumerate(('a' * 64, 'b' * 64)):
        scales.publish(String(data=json.dumps({'checkpoint': 'a' * 64, **scale})))
        checkpoint.publish(String(data=named))
        rig.ros.spin_until(lambda named=named: rig.logger._input.checkpoint == named)
        rig.ros.spin_until(lambda: rig.logger._input.scales)
        rig.robot.checkpoint = named[:12]
        assert record(rig).success
        attributes = rig.episode(number).attrs
        assert attributes['checkpoint'] == named
        assert attributes['action_scale'] == (scale if number == 0 else None)


def test_jpeg_images_are_stored_as_they_come(ros, tmp_path):
    rig = Rig(ros, tmp_path, image_codec='jpeg:80',
              image_topics=['image_raw', 'wrist/image_raw/compressed'])
    camera = rig.probe.create_publisher(CompressedImage, 'wrist/image_raw/compressed', IMAGE_OUT)
    ros.spin_until(lambda: camera.get_subscription_count())
    smooth = cv2.resize(rig.pool[0][:4, :4], SIZE[::-1])
    sent = image_to_compressed(smooth, time.time_ns())

    def show():
        sent.header.stamp = to_stamp(time.time_ns())
        camera.publish(sent)
        ros.spin_for(0.01)
    show()
    assert rig.call('start').success
    for _ in range(4):
        show()
        rig.run(1, cameras=[0])
    show()
    assert rig.call('stop', True).success
    episode = rig.episode()
    assert bytes(episode.encoded('wrist', 2).data) == bytes(sent.data)
    assert episode.images('over_shoulder').shape == (episode.steps + 1, *SIZE, 3)


def test_a_dataset_that_another_process_writes_is_refused_by_name(rig):
    assert record(rig).success
    program = (f'from stable_crl_ros.data.dataset import Dataset; import sys\n'
               f'with Dataset({str(rig.path)!r}).lock():\n'
               '    print("locked", flush=True); sys.stdin.read()')
    with subprocess.Popen([sys.executable, '-c', program], stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE) as other:
        other.stdout.readline()
        answer = rig.call('start')
        other.stdin.close()
    assert not answer.success and f'process {other.pid} on ' in answer.message
    assert record(rig).success and rig.episode(1).steps == 4


def test_reports_what_the_disk_and_the_callbacks_do(ros, tmp_path):
    rig = Rig(ros, tmp_path)
    ros.spin_until(lambda: rig.call('start').success)
    rig.run(10)
    values = {item.key: item.value for item in rig.status(lambda s: 'steps' in s.message).values}
    assert int(values['steps']) >= 10 and values['dropped'] == '0'
    assert 0.0 <= float(values['queue_fill']) < 0.5 and float(values['write_rate_mb_s']) >= 0.0
    assert float(values['minutes_left']) > 1 and float(values['disk_free_gb']) > 0
    assert 0.0 < float(values['callback_p99_ms']) <= float(values['callback_worst_ms'])
    rig.run(12, cameras=[0])
    status = rig.status(lambda s: s.level == ERROR)
    assert int({item.key: item.value for item in status.values}['dropped_wrist']) > 0


def test_little_disk_is_refused_with_what_there_is(ros, tmp_path):
    rig = Rig(ros, tmp_path, minimum_free_disk=1e6)
    answer = rig.call('start')
    assert not answer.success and 'disk nearly full' in answer.message
    assert rig.status(lambda s: 'nothing is recorded' in s.message)


@pytest.fixture
def small_disk(tmp_path):
    """Give a file system of 8 MB, or skip where none can be mounted."""
    with disk_of('8m', tmp_path / 'disk') as place:
        yield place


def test_a_disk_that_fills_up_ends_the_episode_and_keeps_it(ros, small_disk):
    rig = Rig(ros, small_disk, minimum_free_disk=0.004)
    assert rig.call('start').success
    rig.run(4)
    ballast = small_disk / 'ballast'
    ballast.write_bytes(bytes(5_000_000))
    ros.spin_until(lambda: rig.run(1) or rig.logger._labels.last)
    attributes = rig.episode().attrs
    assert attributes['interrupted'] and attributes['ended_why'] == 'disk nearly full'
    assert 4 <= attributes['steps'] < rig.number
    assert not rig.call('start').success
    ballast.unlink()
    assert record(rig).success
