"""What a swap goes through: the rehearsal, the first seconds, and a watched training run."""

from concurrent.futures import ThreadPoolExecutor

from learning_samples import lively, metadata, small_config, write_checkpoint
import numpy as np
from policy_bench import as_action, Bench, expected, IMAGE_AGE_S, scene, SWAP_S
import pytest
import torch

pytest.importorskip('rclpy')

from stable_crl_ros.checkpoint import load_checkpoint, save_checkpoint
from stable_crl_ros.nodes import client
from stable_crl_ros.nodes.client import Client
from stable_crl_ros.nodes.common import ERROR, LATCHED, OK, WARN
from std_msgs.msg import String
from std_srvs.srv import Trigger

RATE = 5.0  # Hz; a busy machine must not make three actions in a window longer than a period


def name(path):
    return load_checkpoint(path).sha256[:12]


@pytest.fixture
def bench(ros, first):
    """Give a policy node that acts on a scene, and has done so for a while."""
    bench = Bench(ros, first, control_rate=RATE, rollback_window=60.0)
    bench.activate()
    bench.stream(scene(1))
    bench.next_command()
    return bench


def await_swap(bench):
    return bench.ros.call(Trigger, 'policy/await_swap', timeout_s=SWAP_S)


def swap(bench, path):
    assert bench.set(checkpoint_path=str(path)) == ''
    return await_swap(bench)


def test_a_swap_reports_how_the_two_policies_differ(bench, second):
    bench.ros.spin_for(0.5)
    answer = swap(bench, second)
    assert answer.success
    assert f'{name(second)} took over from ' in answer.message
    assert 'last frames they differ by median (largest) dx ' in answer.message
    assert 'on 16 probes they differ' in answer.message
    status = bench.status('checkpoint', lambda s: s.message == name(second))
    assert {v.key: v.value for v in status.values}['last_swap'] == answer.message


def test_every_command_around_a_swap_names_the_checkpoint_it_came_from(bench, first, second):
    swap(bench, second)
    bench.next_command()
    bench.next_command()
    commands = bench.commands()
    names = [tick.checkpoint for _, _, tick in commands]
    assert {*names} == {name(first), name(second)}
    assert names == sorted(names, key=[name(first), name(second)].index)
    known = {name(path): expected(path, scene(1), scene(100))[0] for path in (first, second)}
    for twist, gripper, tick in commands:
        np.testing.assert_allclose(as_action((twist, gripper.data), RATE), known[tick.checkpoint],
                                   atol=1e-5)


def saturating(path):
    agent = lively(3)
    with torch.no_grad():
        agent.networks['actor'].head.output.weight.mul_(100.0)
    write_checkpoint(path, agent=agent)


def of_another_network(path):
    agent = lively(3)
    narrow = small_config(actor_hidden=(16, 16, 16))
    save_checkpoint(path, agent.tensors(), metadata(narrow))


@pytest.mark.parametrize(('spoil', 'reason'), [
    (saturating, 'motions or more stand at their bounds'),
    (of_another_network, 'weights do not fit its configuration')])
def test_what_the_rehearsal_shows_is_refused_to_the_caller(bench, tmp_path, spoil, reason):
    running = bench.ids[-1]
    spoil(tmp_path / 'bad.safetensors')
    answer = swap(bench, tmp_path / 'bad.safetensors')
    assert not answer.success
    assert reason in answer.message and 'bad.safetensors' in answer.message
    bench.status('checkpoint', lambda s: s.level == WARN and s.message == answer.message)
    bench.next_command()
    assert bench.ids == [running] and bench.ticks[-1].checkpoint == running[:12]


def test_a_file_deleted_after_it_was_asked_for_is_refused_or_was_read_whole(bench, tmp_path):
    path = tmp_path / 'brief.safetensors'
    write_checkpoint(path, agent=lively(4))
    wanted = name(path)
    assert bench.set(checkpoint_path=str(path)) == ''
    path.unlink()
    answer = await_swap(bench)
    assert wanted in answer.message if answer.success else 'no such file' in answer.message


def test_another_control_rate_is_refused_at_the_door(bench, tmp_path):
    write_checkpoint(tmp_path / 'slow.safetensors', agent=lively(3), control_rate=RATE / 4)
    refusal = bench.set(checkpoint_path=str(tmp_path / 'slow.safetensors'))
    assert 'steps at 1.25 Hz; at 5 Hz the arm would move 4 times as fast' in refusal


def spoil_weights(bench, change):
    with torch.no_grad():
        for parameter in bench.node.running.networks['actor'].head.output.parameters():
            change(parameter)


@pytest.mark.parametrize(('change', 'reason'), [
    (lambda parameter: parameter.fill_(float('nan')), 'not finite'),
    (lambda parameter: parameter.mul_(1000.0), 'motions or more at their bounds')])
def test_a_new_policy_that_misbehaves_is_taken_back_without_a_missed_command(
        bench, first, second, change, reason):
    assert swap(bench, second).success
    holds = bench.node._holds
    spoil_weights(bench, change)
    status = bench.status('checkpoint', lambda s: s.level == ERROR)
    assert f'went back by itself to {name(first)} from {name(second)}' in status.message
    assert reason in status.message
    assert bench.path() == str(first)
    count = len(bench.twists)
    np.testing.assert_allclose(as_action(bench.next_command(), RATE),
                               expected(first, scene(1), scene(100))[0], atol=1e-6)
    assert len(bench.twists) > count
    assert bench.node._holds == holds
    assert not bench.rollback().success  # never forward again to one that misbehaved


def test_what_was_swapped_in_while_nothing_acted_is_on_probation_from_the_activation_on(
        bench, first, second):
    def on_probation(state):
        return lambda s: {v.key: v.value for v in s.values}['on_probation'] == state
    assert bench.transition('DEACTIVATE')
    assert swap(bench, second).success
    bench.status('checkpoint', on_probation('False'))
    assert bench.transition('ACTIVATE')
    bench.status('checkpoint', on_probation('True'))
    spoil_weights(bench, lambda parameter: parameter.fill_(float('nan')))
    status = bench.status('checkpoint', lambda s: s.level == ERROR)
    assert f'went back by itself to {name(first)} from {name(second)}' in status.message
    assert bench.transition('DEACTIVATE') and bench.transition('ACTIVATE')
    bench.status('checkpoint', on_probation('False'))  # what went on acting is known


@pytest.mark.parametrize('acts', [True, False], ids=['acting', 'holding'])
def test_a_policy_that_misbehaves_after_its_window_is_not_taken_back(ros, first, second, acts):
    bench = Bench(ros, first, control_rate=RATE, rollback_window=1.0,
                  max_image_age=IMAGE_AGE_S if acts else 0.3)
    bench.activate()
    camera = bench.stream(scene(1))
    bench.next_command()
    assert swap(bench, second).success
    if not acts:
        camera.cancel()
        bench.status('control', lambda s: s.message.startswith('holding: '))
    ros.spin_for(1.2)
    spoil_weights(bench, lambda parameter: parameter.fill_(float('nan')))
    camera.reset()
    bench.status('control', lambda s: s.level == WARN and 'not finite' in s.message)
    assert bench.path() == str(second)


def test_a_swap_asked_of_an_unconfigured_node_waits_for_nothing(ros, first, second):
    bench = Bench(ros, first)
    answer = swap(bench, second)
    assert answer.success and 'as soon as the node is configured' in answer.message


def test_cleaning_up_answers_those_who_wait_for_a_swap(ros, first, second):
    bench = Bench(ros, first)
    bench.activate()
    client = bench.probe.create_client(Trigger, 'policy/await_swap')
    ros.spin_until(client.service_is_ready)
    bench.set(checkpoint_path=str(second))
    asked = client.call_async(Trigger.Request())
    bench.transition('DEACTIVATE')
    bench.transition('CLEANUP')
    ros.spin_until(asked.done, SWAP_S)
    assert asked.result().success or 'nothing was swapped' in asked.result().message


def test_who_asks_just_after_a_swap_was_given_up_is_answered(bench, second, first):
    """What prepares it goes on for a while, and nothing comes of that."""
    swap(bench, second)
    assert bench.set(checkpoint_path=str(first)) == ''
    assert bench.ros.call(Trigger, 'policy/rollback').success
    assert 'nothing was swapped: a rollback was asked for' in await_swap(bench).message


def test_the_client_swaps_and_says_why_not(bench, second, tmp_path, monkeypatch):
    monkeypatch.setattr(client, 'ANSWER_S', 0.01)  # a check takes longer than other answers
    def ask(*paths):
        with Client('') as asking:  # one: of two made at once, one at times never sees the node
            return [asking.swap_checkpoint(str(path)) for path in paths]
    with ThreadPoolExecutor() as pool:
        asked = pool.submit(ask, second, tmp_path / 'none.safetensors')
        bench.ros.spin_until(asked.done, timeout_s=SWAP_S)
    (done, message), (refused, reason) = asked.result()
    assert done and 'took over from' in message
    assert not refused and 'no such file' in reason


def test_a_watched_folder_is_offered_and_nothing_more_by_default(ros, first, tmp_path):
    write_checkpoint(tmp_path / 'step_10.safetensors', agent=lively(5), step=10)
    (tmp_path / 'half.safetensors').write_bytes(first.read_bytes()[:-5])
    bench = Bench(ros, first, checkpoint_watch=str(tmp_path))
    bench.activate()
    status = bench.status(
        'checkpoint', lambda s: 'step 10' in {v.key: v.value for v in s.values}['offered'])
    assert status.level == OK
    assert bench.path() == str(first)


def test_a_watched_folder_that_is_not_there_is_said_and_may_come(ros, first, tmp_path):
    bench = Bench(ros, first, checkpoint_watch=str(tmp_path / 'run'),
                  checkpoint_watch_rule='at_once')
    bench.activate()
    bench.status('checkpoint', lambda s: s.level == WARN and 'No such file' in s.message)
    (tmp_path / 'run').mkdir()
    path = tmp_path / 'run' / 'latest.safetensors'
    write_checkpoint(path, agent=lively(5))
    ros.spin_until(lambda: bench.path() == str(path), timeout_s=SWAP_S)
    bench.rollback()
    ros.spin_for(2.5)
    assert bench.path() == str(first)  # what the arm was taken from is not offered again


def test_between_episodes_means_while_none_is_recorded(ros, first, tmp_path):
    recording = ros.node().create_publisher(String, 'episode_logger/recording', LATCHED)
    recording.publish(String(data='episode_000003'))
    path = tmp_path / 'latest.safetensors'
    write_checkpoint(path, agent=lively(5))
    bench = Bench(ros, first, checkpoint_watch=str(tmp_path),
                  checkpoint_watch_rule='between_episodes')
    ros.spin_until(recording.get_subscription_count)
    bench.activate()
    bench.status('checkpoint',
                 lambda s: 'latest' in {v.key: v.value for v in s.values}['offered'])
    ros.spin_for(1.5)
    assert bench.path() == str(first)
    recording.publish(String(data=''))
    ros.spin_until(lambda: bench.path() == str(path), timeout_s=SWAP_S)
