"""Changing the checkpoint of a running policy node: swaps, rollback, and every refusal."""

import json
import struct

from learning_samples import lively, write_checkpoint
import numpy as np
from policy_bench import as_action, Bench, expected, scene, SWAP_S
import pytest
import torch

pytest.importorskip('rclpy')

from rclpy.parameter import Parameter
from safetensors.torch import load_file, save_file
from stable_crl_ros.checkpoint import load_checkpoint
from stable_crl_ros.nodes.common import OK, WARN
from stable_crl_ros.nodes.policy_loader import PolicyLoader


def test_swaps_the_checkpoint_while_acting(ros, first, second):
    bench = Bench(ros, first)
    bench.activate()
    bench.stream(scene(5))
    old, new = (expected(path, scene(5), scene(100))[0] for path in (first, second))
    np.testing.assert_allclose(as_action(bench.next_command()), old, atol=1e-6)
    assert bench.set(checkpoint_path=str(second)) == ''
    new_id = load_checkpoint(second).sha256[:12]
    ros.spin_until(lambda: bench.ids[-1].startswith(new_id), SWAP_S)
    count = len(bench.twists)
    bench.next_command()
    np.testing.assert_allclose(as_action(bench.next_command()), new, atol=1e-6)
    assert len(bench.twists) >= count + 2
    assert bench.path() == str(second)
    status = bench.status('checkpoint', lambda s: s.message == new_id)
    assert status.level == OK


def test_no_command_is_ever_a_mixture_of_two_checkpoints(ros, first, second):
    bench = Bench(ros, first)
    bench.activate()
    bench.stream(scene(5))
    bench.next_command()
    known = [expected(path, scene(5), scene(100))[0] for path in (first, second)]
    for path in (second, first, second):
        assert bench.set(checkpoint_path=str(path)) == ''
        bench.next_command()
    ros.spin_until(lambda: not bench.node.desk.busy, SWAP_S)
    bench.next_command()
    for twist, gripper, _ in bench.commands():
        action = as_action((twist, gripper.data))
        assert min(np.abs(action - one).max() for one in known) < 1e-5


def test_rolls_back_to_the_checkpoint_before_and_forward_again(ros, first, second):
    bench = Bench(ros, first)
    bench.activate()
    bench.stream(scene(5))
    bench.set(checkpoint_path=str(second))
    ros.spin_until(lambda: bench.node.desk.previous is not None, SWAP_S)
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
    assert not bench.node.desk.busy  # naming what runs must not load it again


def test_rollback_works_although_the_earlier_file_is_gone(ros, second, tmp_path):
    path = tmp_path / 'gone.safetensors'
    write_checkpoint(path, agent=lively(1))
    bench = Bench(ros, path)
    bench.activate()
    bench.set(checkpoint_path=str(second))
    ros.spin_until(lambda: bench.node.desk.previous is not None, SWAP_S)
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
    ros.spin_until(lambda: not bench.node.desk.busy, SWAP_S)
    assert bench.node.running.algorithm == 'gcbc'
    assert bench.path() == str(last)


def test_once_an_outcome_was_taken_nothing_is_under_way_any_more():
    loader = PolicyLoader(lambda wish: None)
    for _ in range(500):
        loader.request(None)
        while loader.take() is None:
            pass
        assert not loader.busy  # whoever waited for the end would do so for ever


def test_setting_the_same_path_loads_a_file_that_was_trained_further(ros, tmp_path):
    path = tmp_path / 'latest.safetensors'
    write_checkpoint(path, agent=lively(1))
    bench = Bench(ros, path)
    bench.activate()
    write_checkpoint(path, agent=lively(2))
    bench.set(checkpoint_path=str(path))
    new_id = load_checkpoint(path).sha256
    ros.spin_until(lambda: bench.ids and bench.ids[-1] == new_id, SWAP_S)


def test_a_checkpoint_set_while_inactive_acts_from_the_next_activation(ros, first, second):
    bench = Bench(ros, first)
    bench.activate()
    bench.transition('DEACTIVATE')
    bench.node.set_parameters([Parameter('checkpoint_path', value=str(second))])
    assert bench.transition('ACTIVATE')
    assert bench.node.desk.running.path == str(second)


def test_a_checkpoint_set_before_configuring_is_the_one_loaded(ros, first, second):
    bench = Bench(ros, first)
    assert bench.set(checkpoint_path=str(second)) == ''
    assert bench.transition('CONFIGURE')
    assert bench.node.desk.running.path == str(second)


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
    assert not bench.node.desk.busy
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
    running = load_checkpoint(first).sha256
    spoil(tmp_path / 'bad.safetensors', first)
    assert bench.set(checkpoint_path=str(tmp_path / 'bad.safetensors')) == ''
    status = bench.status('checkpoint', lambda s: s.level == WARN)
    assert status.message.startswith(f'kept {running[:12]}: ')
    assert reason in status.message
    assert bench.path() == str(first)
    bench.next_command()
    assert bench.ids == [running]
