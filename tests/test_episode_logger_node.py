"""The episode logger with the real arm, camera and goal nodes: what is stored is what happened."""

import contextlib
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

pytest.importorskip('rclpy')

from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import TwistStamped
from logger_stack import CAMERA, PERIOD_S, Stack
from rcl_interfaces.srv import SetParameters
from rclpy.parameter import Parameter
from sensor_msgs.msg import JointState
from stable_crl_ros.bringup import GRAPHS
from stable_crl_ros.data.alignment import STATE_TOLERANCE_NS
from stable_crl_ros.data.dataset import Dataset, DatasetError
from stable_crl_ros.data.labels import restore
from stable_crl_ros.data.schema import checkpoint_id, Mode
from stable_crl_ros.images import write_image
from stable_crl_ros.launcher import Launcher
from stable_crl_ros.nodes.client import Client
from stable_crl_ros.nodes.common import StartupError
from stable_crl_ros.nodes.conversions import message_to_image, to_nanoseconds, to_stamp
from stable_crl_ros.nodes.episode_logger import EpisodeLoggerNode
from stable_crl_ros.nodes.messages import decode_joint_states
from stable_crl_ros.robot.kinematics import forward_kinematics
from stable_crl_ros.robot.poses import pose_from_xyz_quaternion
from stable_crl_ros.robot.safety import StepFlag
from std_msgs.msg import String
from std_srvs.srv import SetBool, Trigger


@pytest.fixture
def stack(ros, tmp_path):
    return Stack(ros, tmp_path)


def check_alignment(stack, episode):
    """Compare every stored row with what the probe itself saw."""
    steps = [step for step in stack.applied if not step.refused]
    assert episode.steps == len(steps)
    images, stamps = episode.images(CAMERA), episode['capture_stamp']
    for row, step in enumerate(steps):
        np.testing.assert_array_equal(images[row], message_to_image(stack.images[stamps[row]]))
        np.testing.assert_allclose(episode['action'][row], step.applied, atol=1e-6)
        assert episode['command_stamp'][row] == step.receive_ns
        assert episode['applied_stamp'][row] == step.applied_ns
    final = episode.attrs['final_capture_stamp']
    np.testing.assert_array_equal(images[-1], message_to_image(stack.images[final]))
    assert final >= steps[-1].applied_ns + PERIOD_S * 1e9
    for joints, pose in zip(episode['joint_positions'], episode['ee_pose'], strict=True):
        if np.isnan(joints).any():
            continue
        np.testing.assert_allclose(pose_from_xyz_quaternion(pose), forward_kinematics(joints),
                                   atol=1e-5)
    return steps


def check_states(states, episode):
    """Compare the stored states with the newest message not younger than each tick."""
    stamps = np.array([to_nanoseconds(state.header.stamp) for state in states])
    ticks = [*episode['capture_stamp'], episode.attrs['final_capture_stamp']]
    for row, tick in enumerate(ticks):
        newest = np.flatnonzero(stamps <= tick)[-1]
        if tick - stamps[newest] > STATE_TOLERANCE_NS:  # the machine stood still
            assert np.isnan(episode['joint_positions'][row]).all()
            continue
        state = decode_joint_states(states[newest])
        for name in ('joint_positions', 'joint_velocities', 'joint_efforts', 'gripper'):
            np.testing.assert_allclose(episode[name][row], getattr(state, name), atol=1e-6)
        if row < episode.steps:
            assert episode['ages/joint_states'][row] == tick - stamps[newest] >= 0
    assert episode['ee_pose'][-1, 2] - episode['ee_pose'][0, 2] > 0.02


def test_an_episode_holds_every_step_with_the_image_it_was_decided_on(stack):
    stack.checkpoint.publish(String(data='abc123def456'))
    stack.tell(task='open_drawer', operator='ada', notes='first light')
    states = []
    stack.probe.create_subscription(JointState, 'joint_states', states.append, 50)
    stack.ros.spin_until(lambda: len(states) > 20)
    begun = stack.begin()
    assert "task 'open_drawer', operator 'ada'" in begun.message
    for number in range(10):
        stack.act([0.05, 0.0, 0.02], gripper=float(number % 2), progress=-10.0 + number,
                  done=number >= 6)
        stack.ros.spin_for(PERIOD_S)
    ended = stack.call('stop', True)
    assert ended.success and '10 steps, 0 dropped' in ended.message, ended.message
    episode = stack.episode()
    assert str(episode.path) in ended.message
    steps = check_alignment(stack, episode)
    check_states(states, episode)
    np.testing.assert_array_equal(episode['capture_stamp'], [step.capture_ns for step in steps])
    assert not episode[f'ages/{CAMERA}'].any()
    np.testing.assert_allclose(episode['progress'], -10.0 + np.arange(10), atol=1e-5)
    for name, told in (('steps_to_go', 12.5), ('at_goal', 0.25), ('image_age', 0.01),
                       ('inference_time', 0.002), ('lateness', 0.001)):
        np.testing.assert_allclose(episode[name], told, rtol=1e-6)
    assert episode['done'].tolist() == [False] * 6 + [True] * 4
    assert {checkpoint_id(number) for number in episode['checkpoint']} == {'abc123def456'}
    assert (episode['mode'] == Mode.POLICY).all() and not episode['intervention'].any()
    assert (episode['receive_stamp'] > episode['capture_stamp']).all()
    assert (episode['command_stamp'] > episode['receive_stamp']).all()
    assert (np.diff(episode['capture_stamp']) > 0).all()
    np.testing.assert_array_equal(episode.goal_image, stack.goal)
    expected = {'task': 'open_drawer', 'operator': 'ada', 'notes': 'first light', 'success': True,
                'goal_id': 'tidy', 'checkpoint': 'abc123def456', 'interrupted': False,
                'dropped': 0, 'control_rate': 5.0, 'checkpoints': [[0, 'abc123def456']]}
    assert {name: episode.attrs[name] for name in expected} == expected


def test_a_goal_that_changes_in_mid_episode_is_recorded_with_its_step(stack):
    write_image(stack.folder / 'messy.png', stack.goal[::-1])
    request = SetParameters.Request(parameters=[
        Parameter('goals', value=['tidy', 'messy']).to_parameter_msg()])
    answer = stack.ros.call(SetParameters, 'goal/set_parameters', request, node=stack.probe)
    assert answer.results[0].successful, answer.results[0].reason
    done = stack.probe.create_publisher(String, 'policy/done', 10)
    stack.ros.spin_until(lambda: done.get_subscription_count() > 0)
    stack.begin()
    stack.run(4)
    done.publish(String(data='tidy'))
    stack.ros.spin_until(lambda: stack.logger._input.goal_id == 'messy')
    stack.run(3)
    stack.call('stop', True)
    episode = stack.episode()
    assert episode.attrs['goals'] == [[0, 'tidy'], [4, 'messy']]
    assert episode.attrs['goal_id'] == 'tidy'


def test_the_operators_steps_are_marked_as_interventions(ros, tmp_path):
    stack = Stack(ros, tmp_path, arm={'command_timeout': 2.5})
    stack.begin()
    for number in range(10):
        stack.act([0.0, 0.03, 0.0])
        if 3 <= number < 6:
            stack.act([0.0, 0.0, 0.03], prefix='teleop/', gripper=0.0)
        stack.ros.spin_for(PERIOD_S)
    stack.call('stop', False)
    episode = stack.episode()
    check_alignment(stack, episode)
    modes = episode['mode'].tolist()
    assert modes.count(Mode.TELEOP) == 3
    np.testing.assert_array_equal(episode['intervention'], episode['mode'] == Mode.TELEOP)
    teleop = episode['mode'] == Mode.TELEOP
    for name in ('progress', 'steps_to_go', 'image_age', 'lateness'):
        assert np.isnan(episode[name][teleop]).all()
    np.testing.assert_array_equal(episode['checkpoint'] == 0, teleop)
    assert episode.attrs['refused']['overridden'] >= 3
    assert episode.attrs['success'] is False


def test_a_demonstration_is_no_intervention_and_nobodys_checkpoint(stack):
    stack.checkpoint.publish(String(data='abc'))
    stack.ros.spin_until(lambda: stack.logger._input.checkpoint)
    stack.begin()
    stack.run(5, prefix='teleop/')
    stack.call('stop', True)
    episode = stack.episode()
    assert (episode['mode'] == Mode.TELEOP).all() and not episode['intervention'].any()
    ages = episode[f'ages/{CAMERA}']
    assert (ages > 0).all() and ages.max() < 5e9
    assert (episode['command_stamp'] - episode['capture_stamp'] >= ages).all()
    assert episode.attrs['checkpoint'] == ''  # the one that is loaded did not act


def test_refused_commands_are_counted_but_are_no_steps(stack):
    stack.begin()
    stack.run(3)
    message = TwistStamped()
    message.header.frame_id, message.header.stamp = 'base_link', to_stamp(time.time_ns() - 10**10)
    stack.twists[''].publish(message)
    stack.ros.spin_until(lambda: stack.applied[-1].flags & StepFlag.STALE)
    stack.act([float('nan'), 0.0, 0.0])
    stack.ros.spin_for(PERIOD_S)
    stack.run(2)
    stack.call('stop', True)
    episode = stack.episode()
    assert episode.attrs['refused'] == {'stale': 1}
    assert episode.steps == 6  # what is no number was a step: the policy acted, the arm held
    row = np.flatnonzero(episode['flags'] & StepFlag.NON_FINITE)
    assert row.tolist() == [3]
    np.testing.assert_array_equal(episode['action'][3], [0, 0, 0, 0, 0, 0, 1])
    assert np.isnan(episode['commanded_action'][3, 0])


def test_stopping_the_arm_in_mid_episode_leaves_a_gap_that_is_marked(stack):
    def arm(verb):
        assert stack.ros.call(Trigger, f'arm/{verb}', node=stack.probe).success
    stack.begin()
    stack.run(2)
    arm('stop')
    stack.act([0.05, 0.0, 0.0])
    stack.ros.spin_until(lambda: stack.applied[-1].flags & StepFlag.HELD)
    arm('resume')
    stack.run(2)
    answer = stack.call('stop', True)
    assert '4 steps, 1 dropped' in answer.message and 'stopped' in answer.message
    episode = stack.episode()
    assert episode.attrs['gaps'] == [2]
    assert episode.attrs['refused'] == {'held': 1}


@pytest.mark.parametrize(('interrupt', 'why'), [
    (['arm/home'], 'put back'), (['sim/reset'], 'put back'),
    (['arm/stop', 'arm/resume'], 'stopped')])
def test_what_nobody_s_command_did_in_mid_episode_leaves_a_gap(stack, interrupt, why):
    """The operator lets go meanwhile: no command is refused that would tell of it."""
    stack.begin()
    stack.run(2, prefix='teleop/')
    stack.ros.spin_until(lambda: stack.logger._input.arm_mode == 'ready')
    for verb in interrupt:
        stack.ros.spin_until(lambda verb=verb: stack.ros.call(
            Trigger, verb, node=stack.probe).success)
    stack.ros.spin_for(PERIOD_S)  # it is on its way
    stack.ros.spin_until(lambda: stack.logger._input.arm_mode == 'ready')
    stack.run(2, prefix='teleop/')
    answer = stack.call('stop', True)
    assert '4 steps, 1 dropped' in answer.message and why in answer.message
    assert stack.episode().attrs['gaps'] == [2]


def test_an_operator_who_pauses_leaves_no_gap(stack):
    stack.begin()
    stack.run(2, prefix='teleop/')
    stack.ros.spin_until(lambda: stack.logger._input.arm_mode == 'ready')
    stack.run(2, prefix='teleop/')
    stack.call('stop', True)
    assert stack.episode().attrs['gaps'] == []


def test_a_checkpoint_swapped_in_mid_episode_is_noted_with_its_step(stack):
    old, new = (f'{number}123456789ab' for number in '12')
    stack.checkpoint.publish(String(data=old + 'cdef'))
    stack.ros.spin_until(lambda: stack.logger._input.checkpoint == old + 'cdef')
    stack.begin()
    stack.acting = old
    stack.run(3)
    stack.checkpoint.publish(String(data=new + 'cdef'))
    stack.ros.spin_until(lambda: stack.logger._input.checkpoint == new + 'cdef')
    stack.run(1)  # it was computed before, whatever has been announced since
    stack.acting = new
    stack.run(2)
    stack.call('stop', True)
    episode = stack.episode()
    assert episode.attrs['checkpoints'] == [[0, old + 'cdef'], [4, new + 'cdef']]
    assert [checkpoint_id(number) for number in episode['checkpoint']] == 4 * [old] + 2 * [new]


def test_two_steps_on_one_image_name_the_checkpoint_of_their_own_command(stack):
    first, lost, last = (f'{number}123456789ab' for number in '123')
    stack.begin()
    stack.ros.spin_until(lambda: stack.images)
    stamp = max(stack.images)
    stack.acting = first
    stack.act([0.0, 0.0, 0.02], stamp=stamp)
    stack.ros.spin_for(PERIOD_S)
    stack.acting = lost
    stack.tell_of(stamp, [0.0, 0.01, 0.02])  # the arm never hears the command itself
    stack.acting = last
    stack.act([0.0, 0.02, 0.02], stamp=stamp)
    stack.ros.spin_for(PERIOD_S)
    stack.call('stop', True)
    episode = stack.episode()
    assert episode['capture_stamp'].tolist() == [stamp, stamp]
    assert [checkpoint_id(number) for number in episode['checkpoint']] == [first, last]


def test_a_policy_that_says_nothing_of_its_steps_leaves_them_without_a_checkpoint(stack):
    stack.tell_of = lambda *_: None
    stack.begin()
    stack.run(3)
    stack.call('stop', True)
    episode = stack.episode()
    assert (episode['mode'] == Mode.POLICY).all()
    assert not episode['checkpoint'].any() and np.isnan(episode['progress']).all()


def test_a_discarded_episode_is_out_of_the_dataset_until_it_is_restored(stack):
    stack.begin()
    stack.run(2)
    answer = stack.call('discard')
    assert answer.success and 'discarded episode 0: 2 steps, 0 dropped' in answer.message
    dataset = Dataset(stack.folder / 'episodes')
    assert str(dataset.episode_path(0)) in answer.message
    assert len(dataset) == 0
    restore(dataset, 0, 'ada')
    assert Dataset(dataset.path)[0].attrs['discarded'] is None
    assert stack.episode().steps == 1  # what came after the second was not waited for


def test_discarding_before_the_first_step_leaves_nothing(stack):
    stack.begin()
    answer = stack.call('discard')
    assert answer.success and '0 steps' in answer.message
    assert 'recording episode 0 ' in stack.call('start').message


def test_verbs_out_of_order_are_refused_and_lose_nothing(stack):
    for answer in (stack.call('stop', True), stack.call('discard')):
        assert not answer.success and 'no episode is being recorded' in answer.message
    stack.begin()
    again = stack.call('start')
    assert not again.success and 'stop or discard it first' in again.message
    empty = stack.call('stop', True)
    assert not empty.success and 'no step' in empty.message
    stack.begin()
    stack.run(2)
    assert stack.call('stop', True).success
    assert stack.episode().steps == 2


def test_recording_can_begin_with_the_first_step_and_store_smaller_images(ros, tmp_path):
    stack = Stack(ros, tmp_path, record_on_start=True, image_size='48x64')
    stack.run(3, progress=7.0)
    assert stack.call('stop', True).success
    episode = stack.episode()
    assert episode.images(CAMERA).shape == (4, 48, 64, 3)
    assert episode.attrs['image_spec'] == {'height': 48, 'width': 64, 'interpolation': 'area'}
    np.testing.assert_allclose(episode['action'], [s.applied for s in stack.applied], atol=1e-6)
    np.testing.assert_array_equal(episode['progress'], 7.0)
    stack.run(1)
    assert not stack.call('stop', True).success


def end_logger(stack):
    stack.ros.executor.remove_node(stack.logger)
    stack.logger.destroy_node()
    stack.ros._nodes.remove(stack.logger)


def test_ending_the_node_in_mid_episode_seals_what_there_is(stack):
    stack.begin()
    stack.run(6)
    end_logger(stack)
    episode = stack.episode()
    assert episode.attrs['interrupted'] is True
    assert episode.attrs['success'] is None
    assert episode.steps >= 5
    assert not list((stack.folder / 'episodes').glob('*.journal'))


def test_ending_the_node_while_it_stops_keeps_what_was_said_of_the_episode(stack):
    stack.begin()
    stack.run(6)
    client = stack.probe.create_client(SetBool, 'episode_logger/stop')
    client.call_async(SetBool.Request(data=True))
    stack.ros.spin_until(lambda: stack.logger._ending is not None)
    end_logger(stack)
    episode = stack.episode()
    assert episode.attrs['success'] is True
    assert episode.attrs['interrupted'] is False


def test_a_label_given_while_an_episode_ends_is_not_that_of_the_one_before(stack):
    stack.call('start')
    stack.run(3)
    stack.call('stop', True)
    stack.call('start')
    stack.run(3)
    stopping = stack.probe.create_client(SetBool, 'episode_logger/stop').call_async(
        SetBool.Request(data=True))
    stack.ros.spin_until(lambda: stack.logger._ending is not None)
    answer = stack.call('label_last', False)
    assert answer.success and 'labelled episode 1: success False' in answer.message
    stack.ros.spin_until(stopping.done)
    assert [stack.episode(number).attrs['success'] for number in (0, 1)] == [True, False]


def test_nothing_is_recorded_without_robot_and_camera(ros, tmp_path):
    ros.add(EpisodeLoggerNode(context=ros.context, parameter_overrides=ros.parameters(
        dataset_path=str(tmp_path / 'episodes'))))
    answer = ros.call(Trigger, 'episode_logger/start')
    assert not answer.success
    for what in ('/image_raw', '/joint_states', '/applied_action'):
        assert what in answer.message
    assert not (tmp_path / 'episodes').exists()


def test_a_dataset_that_cannot_be_written_is_refused(stack):
    (stack.folder / 'file').write_text('not a directory')
    stack.tell(dataset_path=str(stack.folder / 'file'))
    answer = stack.call('start')
    assert not answer.success and str(stack.folder / 'file') in answer.message
    (stack.folder / 'other').mkdir()
    (stack.folder / 'other' / 'holiday.jpg').write_text('')
    stack.tell(dataset_path=str(stack.folder / 'other'))
    assert 'holiday.jpg' in stack.call('start').message
    for wrong, reason in (('~nobody_here/episodes', 'home directory'), ('x' * 300, 'too long')):
        stack.tell(dataset_path=wrong)
        assert reason in stack.call('start').message
        stack.ros.spin_until(lambda reason=reason: any(
            reason in status.message for status in stack.health))


def test_a_dataset_that_cannot_be_written_is_refused_at_the_start(ros, tmp_path):
    (tmp_path / 'file').write_text('not a directory')
    for wrong in (tmp_path / 'file', tmp_path / 'file' / 'below', tmp_path):
        with pytest.raises(DatasetError, match='give a (new|directory)'):
            EpisodeLoggerNode(context=ros.context, parameter_overrides=ros.parameters(
                dataset_path=str(wrong)))


@pytest.mark.parametrize(('parameters', 'reason'), [
    ({'image_size': 'huge'}, 'HEIGHTxWIDTH'),
    ({'cameras': ['a', 'b']}, 'one topic'),
    ({'cameras': ['a', 'a'], 'image_topics': ['x', 'y']}, 'name of its own'),
])
def test_parameters_that_contradict_each_other_are_refused(ros, parameters, reason):
    with pytest.raises(StartupError, match=reason):
        EpisodeLoggerNode(context=ros.context, parameter_overrides=ros.parameters(**parameters))


def begin_recording(ros, stack):
    """Start the logger of another process; the answer to a first call may get lost."""
    client = stack.probe.create_client(Trigger, 'outside/start')
    ros.spin_until(client.service_is_ready, 20.0)
    end = time.monotonic() + 20.0
    while time.monotonic() < end:
        future = client.call_async(Trigger.Request())
        with contextlib.suppress(AssertionError):
            ros.spin_until(future.done, 2.0)
            if future.result().success or 'being recorded' in future.result().message:
                return
            ros.spin_for(0.2)
    pytest.fail('the logger did not start to record')


@pytest.mark.parametrize('ending', [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_process_that_ends_in_mid_episode_loses_nothing(ros, tmp_path, ending):
    (tmp_path / 'unused').mkdir()
    stack = Stack(ros, tmp_path / 'unused')
    command = [sys.executable, '-m', 'stable_crl_ros.nodes.episode_logger', '--ros-args',
               '-r', '__node:=outside', '-p', f'dataset_path:={tmp_path / "episodes"}']
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=os.environ)
    told = [0]
    stack.probe.create_subscription(DiagnosticArray, '/diagnostics', lambda message: told.extend(
        int(pair.value) for status in message.status if 'outside: recording' in status.name
        for pair in status.values if pair.key == 'steps'), 10)
    try:
        begin_recording(ros, stack)
        ros.spin_until(lambda: stack.run(1) or told[-1] > 4, 20.0, 'steps of the process')
        process.send_signal(ending)
        _, errors = process.communicate(timeout=30)
    finally:
        process.kill()
        process.wait()
    dataset = Dataset(tmp_path / 'episodes')
    if ending != signal.SIGKILL:
        assert process.returncode == 0 and 'Traceback' not in errors, errors
        assert 'interrupted: saved episode 0' in errors
        assert dataset[0].attrs['ended_why'] == 'shutdown'
    else:
        assert [item.state for item in dataset.recover()] == ['recovered']
    episode = dataset[0]
    assert episode.attrs['interrupted'] is True
    assert episode.steps >= 4
    np.testing.assert_allclose(episode['action'][:4], [s.applied for s in stack.applied[:4]],
                               atol=1e-6)


def test_a_camera_that_falls_silent_costs_steps_and_says_so(ros, tmp_path, capfd):
    stack = Stack(ros, tmp_path, max_image_age=0.5)
    stack.begin()
    stack.run(3)
    stack.ros.spin_for(0.3)  # for the image after the third step
    camera = next(node for node in stack.ros._nodes if node.get_name() == 'camera')
    stack.ros.executor.remove_node(camera)
    camera.destroy_node()
    stack.ros._nodes.remove(camera)
    stack.ros.spin_for(0.7)
    stack.run(3, prefix='teleop/')
    stack.ros.spin_until(lambda: any('dropped' in status.message for status in stack.health))
    assert 'steps dropped: no image' in capfd.readouterr().err
    answer = stack.call('stop', False)
    assert answer.success and '3 dropped' in answer.message, answer.message
    assert 'no image' in answer.message
    assert stack.episode().steps == 3


def test_a_launched_stack_of_two_cameras_is_recorded_as_such(tmp_path):
    for name in ('front', 'wrist'):
        (tmp_path / name).mkdir()
        write_image(tmp_path / name / 'seen.png', np.zeros((24, 32, 3), np.uint8))
    graph = GRAPHS['collect']
    values = graph.complete({
        'robot': 'mock', 'teleop': 'none', 'namespace': 'two_cameras',
        'dataset_path': str(tmp_path / 'episodes'), 'camera_source': str(tmp_path / 'front'),
        'cameras': f'front,wrist={tmp_path / "wrist"}', 'goal_directory': str(tmp_path)})
    lines = []
    with Launcher(graph.specs(values), values['namespace'], output=lines.append) as stack, \
            Client(values['namespace'], discovery_s=20.0) as client:
        assert {'camera', 'wrist/camera'} < set(stack.pids)
        assert client.get_parameter('wrist/camera', 'frame_id') == 'wrist_optical_frame'
        end = time.monotonic() + 20.0
        while not (begun := client.call('episode_logger/start'))[0]:
            assert time.monotonic() < end, [begun, *lines]
            stack.poll()
        assert client.call('episode_logger/discard')[0]
    assert any(line.startswith('[wrist/camera]') for line in lines)
