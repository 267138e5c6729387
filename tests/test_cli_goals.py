"""`stable-crl goals`: what it lists, shows, takes from a running stack, imports and deletes."""

import io
import json
import sys
import time

import numpy as np
import pytest
from stable_crl_ros.bringup import GRAPHS
from stable_crl_ros.cli import main
from stable_crl_ros.goals import GoalStore
from stable_crl_ros.images import read_image, write_image
from stable_crl_ros.launcher import Launcher
from test_goal_match import room

NAMESPACE = ['--namespace', 'cli_goals_test']


@pytest.fixture(scope='module')
def stack(tmp_path_factory):
    """Run a camera, a mock arm and a goal node; gives the goal directory."""
    frames = tmp_path_factory.mktemp('frames')
    write_image(frames / '0.png', room())
    goals = tmp_path_factory.mktemp('goals')
    specs = GRAPHS['collect'].specs({
        'robot': 'mock', 'camera_source': str(frames), 'cameras': 'front', 'teleop': 'none',
        'goal_directory': str(goals), 'dataset_path': str(goals / 'data')})
    lines = []
    with Launcher(specs, 'cli_goals_test', output=lines.append) as launcher:
        end = time.monotonic() + 60.0
        while not any('active: arm' in line for line in lines):
            assert time.monotonic() < end, lines
            launcher.poll()
            time.sleep(0.05)
        yield goals


@pytest.fixture
def folder(tmp_path):
    """Give a goal directory with one goal, cup."""
    GoalStore(tmp_path / 'goals').save('cup', room(), {'camera': 'front', 'stamp_ns': 10 ** 18})
    return tmp_path / 'goals'


def said(capsys, *words, status=0):
    """Run a command; return what it printed, errors included."""
    capsys.readouterr()
    assert main([str(word) for word in words]) == status
    captured = capsys.readouterr()
    assert 'Traceback' not in captured.err
    return captured.out + captured.err


@pytest.mark.parametrize('words', [
    ['goals', '--directory', 'DIR'], ['goals', 'list', '--directory', 'DIR'],
    ['goals', '--directory', 'DIR', 'list']])
def test_lists_saved_and_shipped_goals(folder, capsys, words):
    text = said(capsys, *[folder if word == 'DIR' else word for word in words])
    assert f'{folder / "cup.png"}  320x240  2001-09-09 ' in text and '  front\n' in text
    assert 'drawer_open' in text and text.count('  shipped\n') == 4


def test_lists_for_machines(folder, capsys):
    entries = json.loads(said(capsys, 'goals', 'list', '--directory', folder, '--json'))
    cup = next(entry for entry in entries if entry['name'] == 'cup')
    assert (cup['width'], cup['height'], cup['camera'], cup['shipped']) == (320, 240, 'front',
                                                                            False)


def test_a_goal_that_cannot_be_read_is_listed_with_the_reason(folder, capsys):
    (folder / 'broken.png').write_bytes(b'')
    text = said(capsys, 'goals', '--directory', folder, status=1)
    assert 'not a readable image' in text and 'cup.png' in text


def test_a_directory_that_is_a_file_is_refused(tmp_path, capsys):
    (tmp_path / 'file').write_text('')
    assert 'cannot be listed (Not a directory)' in said(
        capsys, 'goals', 'list', '--directory', tmp_path / 'file', status=2)


def test_shows_what_is_known_of_a_goal_and_copies_its_picture(folder, capsys, tmp_path):
    copy = tmp_path / 'copy.png'
    # In a namespace where no other test's stack may run.
    text = said(capsys, 'goals', 'show', 'cup', '--directory', folder, '--out', copy,
                '--namespace', 'nobody')
    assert f'path: {folder / "cup.png"}' in text and 'camera: front' in text
    assert 'brightness' in text and 'live view' not in text
    np.testing.assert_array_equal(read_image(copy), room())
    assert said(capsys, 'goals', 'show', 'cup', '--directory', folder, '--path') \
        == f'{folder / "cup.png"}\n'
    assert 'exists; name another' in said(capsys, 'goals', 'show', 'cup', '--directory', folder,
                                          '--out', copy, status=2)
    assert 'cup, drawer' in said(capsys, 'goals', 'show', 'cupp', '--directory', folder,
                                 status=2).replace('block_placed, ', '')


def test_imports_a_picture_and_says_where_it_is(tmp_path, capsys):
    picture, goals = tmp_path / 'a photo.png', tmp_path / 'goals'
    write_image(picture, room(1, 64, 64))
    words = ['goals', 'import', picture, '--directory', goals]
    assert said(capsys, *words) == f'saved a_photo: {goals / "a_photo.png"}\n'
    assert "goal 'a_photo' exists" in said(capsys, *words, status=2)
    said(capsys, *words, '--name', 'wide', '--camera', 'front', '--size', '64x48')
    document = json.loads(said(capsys, 'goals', 'show', 'wide', '--directory', goals, '--json'))
    assert (document['width'], document['height'], document['camera']) == (64, 48, 'front')
    write_image(picture, room(1, 48, 64).mean(axis=2, keepdims=True).repeat(3, 2).astype('uint8'))
    assert 'has no colours' in said(capsys, *words, '--name', 'grey')


@pytest.mark.parametrize('size', ['640', '0x480', '640x', '-1x3', 'axb', '99999x99999', '00x10',
                                  '٣x٣'])
def test_a_size_that_is_none_is_refused(folder, size, capsys):
    with pytest.raises(SystemExit):
        main(['goals', 'import', 'x.png', f'--size={size}'])
    assert 'such as 640x480' in capsys.readouterr().err


def test_deletes_a_saved_goal_after_asking_and_never_a_shipped_one(folder, capsys, monkeypatch):
    monkeypatch.setattr(sys, 'stdin', io.StringIO())
    words = ['goals', 'delete', '--directory', folder]
    assert 'nothing was deleted' in said(capsys, *words, 'cup', status=1)
    assert 'ships with the package' in said(capsys, *words, 'drawer_open', '--yes', status=2)
    assert 'not valid' in said(capsys, *words, '../goals/cup', '--yes', status=2)
    assert said(capsys, *words, 'cup', '--yes') == f'deleted {folder / "cup.png"}\n'
    assert 'saved there: none' in said(capsys, *words, 'cup', '--yes', status=2)


def test_captures_from_the_running_stack_and_compares_with_it(stack, capsys):
    text = said(capsys, 'goals', 'capture', 'mine', *NAMESPACE)
    assert text == f'captured mine: {stack / "mine.png"}\n'
    metadata = GoalStore(stack).load('mine').metadata
    assert metadata['camera'] == 'front' and len(metadata['ee_pose']) == 7
    assert "goal 'mine' exists" in said(capsys, 'goals', 'capture', 'mine', *NAMESPACE, status=1)
    assert 'captured goal_0001' in said(capsys, 'goals', 'capture', *NAMESPACE)
    document = json.loads(said(capsys, 'goals', 'show', 'mine', '--directory', stack, '--json',
                               *NAMESPACE))
    assert document['live']['differences'] == []
    assert document['live']['measured']['background'] == 1.0
    GoalStore(stack).save('other', room(1), {})
    assert 'live view: 5% of the goal is found' in said(
        capsys, 'goals', 'show', 'other', '--directory', stack, *NAMESPACE)
    assert "'over_shoulder', and this one is 'front'" in said(
        capsys, 'goals', 'show', 'drawer_open', '--directory', stack, *NAMESPACE)


def test_without_a_stack_capturing_is_refused(stack, capsys):
    words = ['--namespace', 'nobody_here']
    assert 'nobody offers /nobody_here/goal' in said(capsys, 'goals', 'capture', *words, status=2)
    assert 'live view' not in said(capsys, 'goals', 'show', 'drawer_open', *words)
