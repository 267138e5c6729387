"""`stable-crl`: what it prints, what it refuses, and how it talks to a running stack."""

import argparse
import json
import subprocess
import sys
import time

import numpy as np
import pytest
from stable_crl_ros import SHIPPED_CHECKPOINT
from stable_crl_ros.bringup import GRAPHS
from stable_crl_ros.checkpoint import verify_checkpoint
from stable_crl_ros.cli import main, make_parser
from stable_crl_ros.cli_options import count_up, PLACES
from stable_crl_ros.images import write_image
from stable_crl_ros.launcher import Launcher
import yaml

NAMESPACE = ['--namespace', 'cli_test']


@pytest.fixture(scope='module')
def stack(tmp_path_factory):
    """Run a mock arm, active, with its camera, while the tests of this file talk to it."""
    folder = tmp_path_factory.mktemp('frames')
    write_image(folder / '0.png', np.zeros((48, 64, 3), np.uint8))
    specs = GRAPHS['hardware'].specs({'robot': 'mock', 'camera_source': str(folder)})
    lines = []
    with Launcher(specs, 'cli_test', output=lines.append) as launcher:
        end = time.monotonic() + 60.0
        while not any('active: arm' in line for line in lines):
            assert time.monotonic() < end, lines
            launcher.poll()
            time.sleep(0.05)
        yield launcher


@pytest.fixture(scope='module')
def dataset(tmp_path_factory):
    """Record one short demonstration."""
    path = tmp_path_factory.mktemp('data') / 'drawer'
    assert main(['collect', str(path), 'open_drawer=1', '--workers', '1']) == 0
    return path


def said(capsys, *words, status=0):
    """Run a command; return what it printed, errors included."""
    capsys.readouterr()
    assert main([str(word) for word in words]) == status
    captured = capsys.readouterr()
    assert 'Traceback' not in captured.err
    return captured.out + captured.err


def test_calls_a_service_and_repeats_its_answer(stack, capsys):
    assert said(capsys, 'call', 'arm/stop', *NAMESPACE).startswith('done')
    assert said(capsys, 'call', '/cli_test/arm/resume', *NAMESPACE).startswith('done')


def test_unknown_service_is_refused_with_those_that_exist(stack, capsys):
    text = said(capsys, 'call', 'arm/stopp', *NAMESPACE, status=2)
    assert 'no service /cli_test/arm/stopp' in text
    assert '/cli_test/arm/clear_faults, /cli_test/arm/home, ' in text


def test_service_without_a_question_takes_no_answer(stack, capsys):
    assert 'takes no true or false' in said(capsys, 'call', 'arm/stop', 'true', *NAMESPACE,
                                            status=2)


def test_shows_the_parameters_of_a_node(stack, capsys):
    assert said(capsys, 'param', 'get', 'arm', 'driver', *NAMESPACE) == 'mock\n'
    assert 'limits.max_translation: 0.05\n' in said(capsys, 'param', 'list', 'arm', *NAMESPACE)


def test_unknown_parameter_is_refused_with_the_known_ones(stack, capsys):
    text = said(capsys, 'param', 'get', 'arm', 'diver', *NAMESPACE, status=2)
    assert "has no parameter 'diver'" in text
    assert 'driver' in text


def test_refusal_of_a_parameter_is_repeated(stack, capsys):
    assert said(capsys, 'param', 'set', 'arm', 'control_rate', '7', *NAMESPACE,
                status=1).startswith('refused: ')
    assert 'start it with another value' in said(
        capsys, 'param', 'set', 'arm', 'control_rate', '7', *NAMESPACE, status=1)


def test_a_number_is_set_as_the_type_the_parameter_has(stack, capsys):
    joints = '[0.0, 0.1, 0.1, 0.0, 1.3, 0.0]'
    assert said(capsys, 'param', 'set', 'arm', 'home_joints', joints, *NAMESPACE) == 'done\n'
    assert '0.1' in said(capsys, 'param', 'get', 'arm', 'home_joints', *NAMESPACE)
    assert said(capsys, 'param', 'set', 'arm', 'home_joints', '[0, 0, 0, 0, 1e-1, 0]',
                *NAMESPACE) == 'done\n'


@pytest.mark.parametrize(('parameter', 'text', 'reason'), [
    ('home_joints', '[a, 0]', "home_joints is a list of numbers, such as [0.1, 2.0]; '[a, 0]'"),
    ('use_sim_time', '1.5', "use_sim_time is true or false; '1.5' is not"),
])
def test_a_value_of_another_type_is_refused_with_the_type(stack, capsys, parameter, text, reason):
    assert reason in said(capsys, 'param', 'set', 'arm', parameter, text, *NAMESPACE, status=2)


def test_changes_the_state_of_a_managed_node_and_reports_illegal_changes(stack, capsys):
    assert said(capsys, 'lifecycle', 'arm', *NAMESPACE) == 'active\n'
    assert 'arm is inactive' in said(capsys, 'lifecycle', 'arm', 'deactivate', *NAMESPACE)
    assert said(capsys, 'lifecycle', 'arm', 'deactivate', *NAMESPACE) == \
        'done: arm is inactive already\n'
    assert 'arm is active' in said(capsys, 'lifecycle', 'arm', 'activate', *NAMESPACE)
    assert "refused: arm is active; the node's log says why" in said(
        capsys, 'lifecycle', 'arm', 'configure', *NAMESPACE, status=1)


def test_absent_node_is_refused(stack, capsys):
    text = said(capsys, 'lifecycle', 'camera', *NAMESPACE, status=2)
    assert 'nobody offers /cli_test/camera/get_state' in text
    # Nodes of other tests that ended a moment ago may still be listed.
    assert '/cli_test/arm' in text.partition('these do: ')[2]
    text = said(capsys, 'param', 'list', 'policy', *NAMESPACE, status=2)
    assert '/cli_test/arm, /cli_test/camera' in text


def test_launch_lists_the_arguments(capsys):
    assert 'goal image: a path' in said(capsys, 'launch', 'policy', '--show-args')


@pytest.mark.parametrize(('words', 'message'), [
    (['launch', 'policy', 'goal:=no.png'], "goal 'no.png' not found"),
    (['launch', 'policy', 'gaol:=no.png'], 'no argument gaol'),
    (['launch', 'hardware', 'robot:=pr2'],
     'sim, mock, emulated, dynamixel, xs_sdk, joint_trajectory'),
    (['episodes', 'list', '/no/such/folder'], '/no/such/folder'),
    (['checkpoint', 'show', '/no/such.safetensors'], '/no/such.safetensors'),
    (['evaluate', 'none', '--task', 'fly'], "unknown task 'fly'"),
    (['evaluate', 'none', '--json', '/no/such/folder/scores.json'], 'folder/scores.json'),
    (['episodes', 'import', '/no/such/folder', '/tmp/none'], '/no/such/folder'),
    (['improve', '/tmp/none', '--robot', 'mock', '--launch', 'autostart:=true', 'robot:=sim'],
     '--launch autostart, robot: the plan says that'),
    (['train', '/no/such/folder', '--out', '/tmp/none', '--set', 'discount'], 'NAME=VALUE'),
])
def test_refusals_are_one_line_without_a_traceback(capsys, words, message):
    text = said(capsys, *words, status=2)
    assert message in text
    assert text.startswith('stable-crl: ')
    assert text.count('\n') == 1


def test_nothing_slow_is_imported_before_ctrl_c_is_heard():
    script = 'import sys, stable_crl_ros.cli; print({"numpy", "cv2", "yaml"} & set(sys.modules))'
    done = subprocess.run([sys.executable, '-c', script], capture_output=True, text=True)
    assert done.stdout == 'set()\n'


def options(parser):
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for below in action.choices.values():
                yield from options(below)
        else:
            yield action


def test_every_option_that_names_a_file_or_folder_refuses_an_empty_name():
    named = {action.dest for action in options(make_parser())
             if str(action.metavar).rpartition('=')[2] in ('FILE', 'FOLDER', 'PATH')}
    assert {'out', 'adopt', 'goal'} <= named
    assert named - set(PLACES) == {'port'}  # '' finds the arm's


@pytest.mark.parametrize('words', [
    ['train', 'data', '--out', ''], ['episodes', 'list', ''], ['trials', 'report', ''],
    ['checkpoint', 'swap', ''], ['episodes', 'merge', 'data', '', '--into', 'all'],
    ['goals', 'list', '--directory', '']])
def test_an_empty_name_is_not_the_folder_one_is_in(words, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert 'an empty name of a file or folder' in said(capsys, *words, status=2)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize('words', [
    ['param', 'list', 'po licy'], ['param', 'list', ''], ['lifecycle', 'arm', '--namespace', '9x'],
    ['call', 'arm/stop', '--namespace', 'ä b'], ['goals', 'capture', '--namespace', 'a b'],
    ['checkpoint', 'rollback', '--namespace', '../x']])
def test_what_cannot_be_a_name_in_ros_is_refused_at_once(words, capsys):
    assert 'cannot be a name in ROS' in said(capsys, *words, status=2)


def test_bugs_are_not_hidden(monkeypatch):
    def broken(chosen):
        raise KeyError('a bug')
    monkeypatch.setattr('stable_crl_ros.cli_goals._list', broken)
    with pytest.raises(KeyError):
        main(['goals'])


def test_a_first_training_and_evaluation(dataset, tmp_path, capsys):
    run = tmp_path / 'run'
    said(capsys, 'train', dataset, '--out', run, '--steps', 2, '--set', 'batch_size=4',
         'channels=4,4,4', '--held-out', 0, '--quiet', status=2)  # nothing left to learn from
    text = said(capsys, 'train', dataset, '--out', run, '--steps', 2, '--quiet', '--set',
                'batch_size=4', 'channels=4,4,4', '--threads', 1)
    assert f'trained: {run / "latest.safetensors"}' in text
    text = said(capsys, 'checkpoint', 'show', run / 'latest.safetensors')
    assert 'algorithm: stable_crl' in text
    assert max(map(len, text.splitlines())) < 200


def test_a_checkpoint_is_shown_in_short_and_as_json_in_full(capsys):
    told = yaml.safe_load(said(capsys, 'checkpoint', 'show'))
    found = json.loads(said(capsys, 'checkpoint', 'show', '--json'))
    assert found == verify_checkpoint(SHIPPED_CHECKPOINT)
    assert told.keys() == found.keys()
    assert told['action_scale'] == found['action_scale']
    assert told['sha256'] == found['sha256']
    times = found['calibration']['nearness']['x']
    assert told['calibration']['nearness']['x'] == (
        f'{len(times)}: {times[0]:.4g} .. {times[-1]:.4g}')


def test_evaluation_of_a_control_prints_a_table_and_writes_the_trials(tmp_path, capsys):
    out = tmp_path / 'scores.json'
    text = said(capsys, 'evaluate', 'none', '--task', 'open_drawer', '--episodes', 1,
                '--workers', 1, '--json', out)
    assert '| none | open_drawer | 1 | 0 %' in text
    assert '"task": "open_drawer"' in out.read_text()


def test_a_refused_evaluation_leaves_no_file_and_no_change(tmp_path, capsys):
    rubbish, new, old = (tmp_path / name for name in ('rubbish', 'new.json', 'old.json'))
    rubbish.write_text('rubbish')
    old.write_text('[]')
    for out in (new, old):
        assert 'rubbish' in said(capsys, 'evaluate', rubbish, '--json', out, status=2)
    assert not new.exists() and old.read_text() == '[]'


@pytest.mark.parametrize(('interval_s', 'least', 'most'), [(0.0, 30, 40), (1e9, 0, 2)])
def test_a_file_gets_a_line_of_the_bar_as_often_as_is_said(interval_s, least, most, capsys,
                                                           monkeypatch):
    monkeypatch.setattr('stable_crl_ros.cli_options.BAR_DELAY_S', 0.0)
    monkeypatch.setattr('stable_crl_ros.cli_options.LOG_INTERVAL_S', interval_s)
    with count_up(30, unit='step') as bar:
        for _ in range(30):
            bar.update()
    assert bar.n == 30
    assert least <= capsys.readouterr().err.count('step/s') <= most
