"""The policy node over DDS: what it sends, when it holds, and how its process ends."""

import json
from pathlib import Path
import signal
import subprocess
import sys
import time

from learning_samples import small_agent, write_checkpoint
import numpy as np
from policy_bench import as_action, Bench, expected, RATE, scene
import pytest

pytest.importorskip('rclpy')

from rclpy.exceptions import InvalidParameterValueException
from stable_crl_ros.actions import ActionScale
from stable_crl_ros.checkpoint import load_checkpoint
from stable_crl_ros.nodes.client import Client
from stable_crl_ros.nodes.common import ERROR, LATCHED, OK, WARN
from stable_crl_ros.nodes.conversions import (
    image_to_message,
    to_nanoseconds,
)
from stable_crl_ros.nodes.policy import PolicyNode
from std_msgs.msg import String


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

    def kept():
        """Say whether a second has as many commands as it should; never may it have more."""
        count, begun = len(bench.twists), time.monotonic()
        ros.spin_for(1.0)
        sent = len(bench.twists) - count
        assert sent <= RATE * (time.monotonic() - begun) + 1
        return sent >= RATE - 4
    assert any(kept() for _ in range(5))
    status = bench.status('control', lambda s: s.message == 'acting')
    values = {v.key: v.value for v in status.values}
    assert status.level == OK
    assert int(values['ticks']) >= len(bench.twists) - 1
    assert 0.0 < float(values['inference_p50_ms']) <= float(values['inference_p99_ms'])
    assert 0.0 < float(values['latency_p50_ms']) <= float(values['latency_p99_ms'])
    assert float(values['latency_p50_ms']) < 300.0


def test_late_ticks_are_skipped_never_queued(ros, first):
    bench = Bench(ros, first)
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


def test_says_of_every_command_what_it_came_from(ros, first):
    bench = Bench(ros, first)
    bench.activate()
    stamp_ns = bench.show(scene(5), age_s=0.1)
    command = as_action(bench.next_command())
    ros.spin_until(lambda: bench.ticks)
    tick = bench.ticks[0]
    action, progress = expected(first, scene(5), scene(100))
    np.testing.assert_allclose(tick.action, command, atol=1e-6)
    np.testing.assert_allclose(tick.action, action, atol=1e-6)
    assert (tick.capture_ns, tick.checkpoint) == (stamp_ns, load_checkpoint(first).sha256[:12])
    assert tick.value == pytest.approx(progress, abs=1e-4)
    assert 0.1 <= tick.image_age_s < tick.latency_s < 1e-9 * (bench.now_ns() - stamp_ns)
    assert 0.0 < tick.inference_s < tick.latency_s - tick.image_age_s
    assert tick.lateness_s > -0.01
    assert np.isnan(tick.steps_to_go) and np.isnan(tick.at_goal) and not tick.done


@pytest.mark.parametrize(('age_s', 'reason'), [(0.5, 's old; max_image_age is 0.30 s'),
                                               (-60.0, 'in the future')])
def test_never_acts_on_an_image_of_another_time(ros, first, age_s, reason):
    bench = Bench(ros, first, max_image_age=0.3)
    bench.activate()
    bench.show(scene(1), age_s)
    assert bench.silent()
    assert bench.twists == []
    status = bench.status('control', lambda s: s.level == WARN)
    assert status.message.startswith('holding: ')
    assert reason in status.message
    bench.stream(scene(1))
    bench.next_command()


def test_holds_when_the_camera_falls_silent_and_goes_on_when_it_is_back(ros, first):
    bench = Bench(ros, first, max_image_age=0.3)
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
    bench = Bench(ros, first)
    bench.activate()
    newest_ns = bench.show(scene(7))
    bench.show(scene(8), age_s=1.0)
    bench.show(scene(9), age_s=-30.0)
    command = bench.next_command()
    assert to_nanoseconds(command[0].header.stamp) == newest_ns
    np.testing.assert_allclose(as_action(command), expected(first, scene(7), scene(100))[0],
                               atol=1e-6)


def test_a_new_goal_takes_effect_at_the_next_tick(ros, first):
    bench = Bench(ros, first)
    bench.activate(scene(100))
    bench.show(scene(5))
    before = as_action(bench.next_command())
    bench.set_goal(scene(200))
    bench.next_command()
    after = as_action(bench.next_command())
    np.testing.assert_allclose(after, expected(first, scene(5), scene(200))[0], atol=1e-6)
    assert np.abs(after - before).max() > 1e-3


def test_a_goal_is_encoded_once(ros, first):
    bench = Bench(ros, first)
    bench.activate()
    bench.show(scene(5))
    bench.next_command()
    encoded = bench.node.running._encoded
    bench.next_command()
    bench.next_command()
    assert bench.node.running._encoded is encoded


def test_a_goal_that_is_no_image_is_refused_and_the_old_one_stays(ros, first, capfd):
    bench = Bench(ros, first)
    bench.activate(scene(100))
    bench.show(scene(5))
    bad = image_to_message(scene(200), 0)
    bad.encoding = 'mono16'
    bench.goals.publish(bad)
    said = []
    ros.spin_until(lambda: said.append(capfd.readouterr().err)
                   or "goal refused: /goal/image: encoding 'mono16'" in ''.join(said))
    bench.next_command()
    np.testing.assert_allclose(as_action(bench.next_command()),
                               expected(first, scene(5), scene(100))[0], atol=1e-6)


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
    assert late == [load_checkpoint(first).sha256]


def test_says_how_the_checkpoint_scales_its_actions(ros, first):
    bench = Bench(ros, first)
    bench.transition('CONFIGURE')
    late = []
    ros.node('late').create_subscription(
        String, 'policy/action_scale', lambda m: late.append(json.loads(m.data)), LATCHED)
    ros.spin_until(lambda: late)
    assert late[0].pop('checkpoint') == load_checkpoint(first).sha256
    assert ActionScale.from_dict(late[0]) == load_checkpoint(first).action_scale


def test_configuring_refuses_a_missing_checkpoint_and_can_be_tried_again(ros, first, tmp_path):
    bench = Bench(ros, tmp_path / 'missing.safetensors')
    assert not bench.transition('CONFIGURE')
    assert 'missing.safetensors: no such file' in bench.node.refusal
    assert bench.set(checkpoint_path=str(first)) == ''
    assert bench.transition('CONFIGURE')


def test_configuring_refuses_a_checkpoint_of_another_control_rate(ros, tmp_path):
    path = tmp_path / 'slow.safetensors'
    write_checkpoint(path, control_rate=RATE / 4)
    bench = Bench(ros, path)
    assert not bench.transition('CONFIGURE')
    assert '4 times as fast' in bench.node.refusal
    assert 'control_rate:=5.0' in bench.node.refusal
    write_checkpoint(path, control_rate=RATE)
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


@pytest.fixture
def operator():
    """Give a client that asks again: the answer to a new process's first call may get lost."""
    with Client('', discovery_s=60.0) as client:
        yield client


def test_the_process_runs_with_the_shipped_configuration_and_ends_with_0(
        operator, first, run_process):
    path = Path(__file__).parents[1] / 'config' / 'policy.yaml'
    process = run_process('--params-file', str(path), '-p', f'checkpoint_path:={first}')
    assert operator.transition('policy', 'configure')
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=20.0)
    assert process.returncode == 0
    assert 'has no parameter' not in err
    assert 'Traceback' not in err


def test_the_process_ends_with_0_while_a_checkpoint_is_loading(
        operator, first, run_process, tmp_path):
    path = tmp_path / 'large.safetensors'
    write_checkpoint(path, agent=small_agent(actor_hidden=(2048, 2048, 2048)))
    process = run_process('-p', f'checkpoint_path:={first}')
    assert operator.transition('policy', 'configure')
    assert operator.set_parameter('policy', 'checkpoint_path', str(path)) == (True, '')
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=20.0)
    assert process.returncode == 0
    assert 'Traceback' not in err
