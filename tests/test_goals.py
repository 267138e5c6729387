"""The goal store: lookup order, what is refused and why, and writes that lose nothing."""

import json
import os

import cv2
import numpy as np
import pytest
from stable_crl_ros.goals import check_goal_name, GoalError, GoalStore
from stable_crl_ros.images import write_image


def picture(seed=0, height=24, width=32):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.fixture
def store(tmp_path):
    shipped = tmp_path / 'shipped'
    shipped.mkdir()
    write_image(shipped / 'drawer_open.png', picture(1))
    return GoalStore(tmp_path / 'goals', shipped)


def test_a_saved_goal_loads_with_every_pixel_and_all_metadata(store):
    saved = store.save('cup_left', picture(), {'camera': 'over_shoulder', 'stamp_ns': 12})
    goal = store.load('cup_left')
    np.testing.assert_array_equal(goal.image, picture())
    assert goal.metadata['camera'] == 'over_shoulder'
    assert goal.metadata['stamp_ns'] == 12
    assert goal.sha256 == saved.sha256 == goal.metadata['sha256']


@pytest.mark.parametrize('name', ['drawer_open', 'drawer_open.png'])
def test_finds_a_shipped_goal_with_and_without_its_ending(store, name):
    np.testing.assert_array_equal(store.load(name).image, picture(1))


def test_the_goal_directory_comes_before_the_shipped_goals(store):
    store.save('drawer_open', picture(2), {})
    np.testing.assert_array_equal(store.load('drawer_open').image, picture(2))


def test_a_path_comes_before_the_goal_directory(store, tmp_path, monkeypatch):
    store.save('drawer_open', picture(2), {})
    write_image(tmp_path / 'drawer_open.png', picture(3))
    monkeypatch.chdir(tmp_path)
    np.testing.assert_array_equal(store.load('drawer_open.png').image, picture(3))


def test_loads_a_photograph_that_has_no_metadata(store, tmp_path):
    write_image(tmp_path / 'phone.jpg', np.full((20, 30, 3), 128, np.uint8))
    goal = store.load(tmp_path / 'phone.jpg')
    assert goal.image.shape == (20, 30, 3)
    assert goal.metadata == {}


def test_a_missing_goal_lists_what_exists_and_where(store):
    store.save('cup_left', picture(), {})
    with pytest.raises(GoalError) as refusal:
        store.find('drawer_opne.png')
    assert "'drawer_opne.png' not found" in str(refusal.value)
    assert 'cup_left, drawer_open' in str(refusal.value)
    assert str(store.directory) in str(refusal.value)


@pytest.mark.parametrize('name', ['', '../shipped/drawer_open', '/nowhere/x.png', '.'])
def test_what_names_no_goal_is_not_found(store, name, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(GoalError, match='not found'):
        store.find(name)


@pytest.mark.parametrize(('name', 'reason'), [
    ('~nobody_here/goal.png', 'no such user'), ('x' * 300, 'too long')])
def test_what_is_no_path_at_all_is_refused(store, name, reason):
    with pytest.raises(GoalError, match=reason):
        store.find(name)


def test_a_directory_of_nobody_is_refused():
    with pytest.raises(GoalError, match='no such user'):
        GoalStore('~nobody_here/goals')


def test_lists_none_when_there_are_none(tmp_path):
    with pytest.raises(GoalError, match='none$'):
        GoalStore(tmp_path / 'a', tmp_path / 'b').find('x')


def test_refuses_a_picture_with_an_alpha_channel(store, tmp_path):
    cv2.imwrite(str(tmp_path / 'alpha.png'), np.zeros((8, 8, 4), np.uint8))
    with pytest.raises(GoalError, match='alpha.png: 4 channels'):
        store.load(tmp_path / 'alpha.png')


def test_refuses_a_picture_of_16_bits(store, tmp_path):
    cv2.imwrite(str(tmp_path / 'deep.png'), np.zeros((8, 8, 3), np.uint16))
    with pytest.raises(GoalError, match='uint16'):
        store.load(tmp_path / 'deep.png')


@pytest.mark.parametrize('data', [b'', b'no picture', b'\x89PNG\r\n\x1a\n cut off'])
def test_refuses_a_file_that_is_no_picture(store, tmp_path, data):
    (tmp_path / 'broken.png').write_bytes(data)
    with pytest.raises(GoalError, match='broken.png: not a readable image'):
        store.load(tmp_path / 'broken.png')


@pytest.mark.skipif(os.getuid() == 0, reason='root reads everything')
def test_refuses_a_picture_it_may_not_read(store):
    goal = store.save('secret', picture(), {})
    goal.path.chmod(0)
    with pytest.raises(GoalError, match='cannot be read'):
        store.load('secret')


def test_refuses_a_picture_that_its_metadata_does_not_describe(store):
    goal = store.save('cup_left', picture(), {})
    write_image(goal.path, picture(5))
    with pytest.raises(GoalError, match='delete .*cup_left.json'):
        store.load('cup_left')


@pytest.mark.parametrize('text', ['{"cut', '[1]', '', '{"stamp_ns": "noon"}', '{"stamp_ns": -1}'])
def test_refuses_metadata_that_cannot_be_read(store, text):
    goal = store.save('cup_left', picture(), {})
    goal.path.with_suffix('.json').write_text(text)
    with pytest.raises(GoalError, match='mend or delete'):
        store.load('cup_left')


def test_never_overwrites_a_goal(store):
    store.save('cup_left', picture(), {'notes': 'first'})
    with pytest.raises(GoalError, match="'cup_left' exists"):
        store.save('cup_left.png', picture(5), {'notes': 'second'})
    goal = store.load('cup_left')
    np.testing.assert_array_equal(goal.image, picture())
    assert goal.metadata['notes'] == 'first'


def test_a_file_in_place_of_the_directory_is_refused(tmp_path):
    (tmp_path / 'goals').write_text('')
    with pytest.raises(GoalError, match="cannot save goal 'cup_left' .it is a file."):
        GoalStore(tmp_path / 'goals').save('cup_left', picture(), {})


def test_automatic_names_count_on_from_the_highest(store):
    assert store.save('', picture(), {}).name == 'goal_0001'
    store.save('goal_0041', picture(), {})
    assert store.save('', picture(), {}).name == 'goal_0042'


@pytest.mark.parametrize('name', ['a/b', '..', '.hidden', 'x' * 65, 'ümlaut', 'a b', '.png'])
def test_refuses_a_name_that_is_no_file_name_everywhere(name):
    with pytest.raises(GoalError, match='not valid'):
        check_goal_name(name)


def test_a_folder_that_cannot_be_made_is_refused_with_the_reason(tmp_path):
    (tmp_path / 'file').write_text('in the way')
    with pytest.raises(GoalError, match='Not a directory.*another goal_directory'):
        GoalStore(tmp_path / 'file' / 'goals').save('x', picture(), {})


def test_leaves_no_temporary_file_behind(store):
    store.save('cup_left', picture(), {})
    with pytest.raises(GoalError):
        store.save('cup_left', picture(), {})
    assert sorted(p.name for p in store.directory.iterdir()) == ['cup_left.json', 'cup_left.png']
    assert json.loads((store.directory / 'cup_left.json').read_text())['sha256']
