"""The goal store: lookup order, what is refused and why, and writes that lose nothing."""

import errno
import json
import os
import struct
import zlib

import cv2
import numpy as np
from PIL import ExifTags, Image
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
    write_image(tmp_path / 'phone.jpg', picture(0, 30, 40))
    goal = store.load(tmp_path / 'phone.jpg')
    assert goal.image.shape == (30, 40, 3)
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


@pytest.mark.parametrize('text', [
    '{"cut', '[1]', '', '{"stamp_ns": "noon"}', '{"stamp_ns": -1}', '{"camera": ["front"]}',
    '{"ee_pose": [1, 2]}', '{"ee_pose": [NaN, 0, 0, 0, 0, 0, 1]}', '{"image_spec": 3}',
    '[' * 10_000, '"' + 'x' * 2 ** 20 + '"', '\x00\xff'])
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


def test_a_full_disk_leaves_no_half_of_a_goal_and_the_name_free(store, monkeypatch):
    for kind in ('.png', '.json'):
        with monkeypatch.context() as disk:
            disk.setattr(os, 'fsync', full_disk(os.fsync, kind))
            with pytest.raises(GoalError, match="cannot save goal 'cup' .No space left"):
                store.save('cup', picture(), {'camera': 'front'})
        assert list(store.directory.iterdir()) == []
    assert store.save('cup', picture(), {'camera': 'front'}).metadata['camera'] == 'front'


def full_disk(sync, kind):
    """Give what forces files to disk, and finds it full with those whose name holds `kind`."""
    def call(descriptor):
        if kind in os.readlink(f'/proc/self/fd/{descriptor}'):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        sync(descriptor)
    return call


def test_a_goal_that_a_crash_kept_from_being_saved_can_be_saved_again(store):
    store.save('cup', picture(), {})
    store.find('cup').unlink()  # its NAME.json was written before it
    assert 'cup' not in store.names()
    store.save('cup', picture(5), {'camera': 'front'})
    goal = store.load('cup')
    np.testing.assert_array_equal(goal.image, picture(5))
    assert goal.metadata['camera'] == 'front'


def test_no_reader_sees_a_picture_without_what_is_known_of_it(store, monkeypatch):
    link, seen = os.link, []

    def watched(*args):
        seen.append(sorted(path.name for path in store.directory.glob('[!.]*')))
        link(*args)
    monkeypatch.setattr(os, 'link', watched)
    store.save('cup', picture(), {})
    assert seen == [['cup.json']]


def test_refuses_metadata_of_another_size_than_the_picture(store):
    goal = store.save('cup_left', picture(), {})
    path = goal.path.with_suffix('.json')
    path.write_text(path.read_text().replace('"height": 24', '"height": 480'))
    with pytest.raises(GoalError, match='height 480, not 24'):
        store.load('cup_left')


def test_a_black_picture_is_no_goal(store, tmp_path):
    write_image(tmp_path / 'black.png', np.full((24, 32, 3), 5, np.uint8))
    with pytest.raises(GoalError, match='black.png: the picture is black'):
        store.load(tmp_path / 'black.png')
    with pytest.raises(GoalError, match='is the lens covered'):
        store.save('dark', np.zeros((24, 32, 3), np.uint8), {})
    assert 'dark' not in store.names()


@pytest.mark.parametrize('plain', [
    np.full((48, 64, 3), 255, np.uint8), np.full((600, 800, 3), (0, 200, 0), np.uint8),
    np.random.default_rng(0).normal(200, 4, (480, 640, 3)).clip(0, 255).astype(np.uint8)])
def test_a_picture_of_one_colour_is_no_goal(store, tmp_path, plain):
    write_image(tmp_path / 'wall.png', plain)
    with pytest.raises(GoalError, match='wall.png: the picture is of one plain colour'):
        store.load(tmp_path / 'wall.png')
    with pytest.raises(GoalError, match='of one plain colour'):
        store.save('wall', plain, {})


def test_a_dim_picture_of_something_small_is_a_goal(store):
    dim = np.full((240, 320, 3), 30, np.uint8)
    dim[100:112, 100:112] = 45
    assert store.save('dim', dim, {}).name == 'dim'


def test_a_picture_of_a_few_pixels_is_no_goal(store, tmp_path):
    write_image(tmp_path / 'dot.png', picture(0, 1, 1))
    with pytest.raises(GoalError, match='has 1 x 1 pixels, and 24 x 24 are needed'):
        store.load(tmp_path / 'dot.png')


def test_a_huge_picture_is_shrunk_before_the_policy_gets_it(store, tmp_path):
    square = np.kron(picture(0, 30, 40), np.ones((200, 200, 1), np.uint8))  # 6000 x 8000
    write_image(tmp_path / 'huge.jpg', square)
    for goal in (store.load(tmp_path / 'huge.jpg'),
                 store.import_picture(tmp_path / 'huge.jpg', 'kept')):
        assert goal.image.shape == (1440, 1920, 3)
        assert goal.metadata['shrunk_from'] == {'height': 6000, 'width': 8000}
        there = cv2.resize(goal.image, (40, 30), interpolation=cv2.INTER_AREA)
        assert np.abs(there.astype(int) - picture(0, 30, 40)).max() < 12
    assert store.load('kept').image.shape == (1440, 1920, 3)


def test_a_small_file_that_claims_a_huge_picture_is_refused(store, tmp_path):
    write_image(tmp_path / 'huge.png', picture())
    data = bytearray((tmp_path / 'huge.png').read_bytes())
    data[16:24] = struct.pack('>II', 20_000, 20_000)
    data[29:33] = struct.pack('>I', zlib.crc32(data[12:29]))
    (tmp_path / 'huge.png').write_bytes(data)
    with pytest.raises(GoalError, match='20000 x 20000 pixels are more than 8192 x 8192'):
        store.load(tmp_path / 'huge.png')


def test_a_huge_file_is_refused_unread(store, tmp_path):
    with open(tmp_path / 'huge.png', 'wb') as file:
        file.truncate(2 ** 33)
    with pytest.raises(GoalError, match='no goal picture is'):
        store.load(tmp_path / 'huge.png')


def test_a_saved_goal_knows_its_size_and_light(store):
    image = np.full((24, 32, 3), (90, 100, 110), np.uint8)
    image[:12] -= 10
    image[12:] += 10
    store.save('cup_left', image, {})
    metadata = store.load('cup_left').metadata
    assert metadata['image_spec'] == {'height': 24, 'width': 32}
    assert metadata['light'] == {'brightness': pytest.approx(98, abs=1), 'clipped': 0.0,
                                 'colour': [90.0, 100.0, 110.0]}


def test_an_imported_picture_keeps_every_pixel_and_where_it_comes_from(store, tmp_path):
    write_image(tmp_path / 'the cup.png', picture())
    goal = store.import_picture(tmp_path / 'the cup.png', camera='front')
    assert goal.name == 'the_cup'
    np.testing.assert_array_equal(store.load('the_cup').image, picture())
    assert goal.metadata['source'] == str(tmp_path / 'the cup.png')
    assert goal.metadata['camera'] == 'front'


def test_a_photograph_that_a_phone_stored_sideways_is_imported_upright(store, tmp_path):
    image = Image.fromarray(np.uint8([[[250, 0, 0]], [[0, 0, 250]]]).repeat(32, 1).repeat(16, 0))
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6  # to be turned clockwise
    image.transpose(Image.Transpose.ROTATE_90).save(
        tmp_path / 'photo.jpg', quality=100, subsampling=0, exif=exif)
    store.import_picture(tmp_path / 'photo.jpg')
    for goal in (store.load('photo'), store.load(tmp_path / 'photo.jpg')):
        np.testing.assert_allclose(goal.image, np.asarray(image), atol=5)


def test_importing_keeps_what_a_goal_of_another_store_says(store, tmp_path):
    other = GoalStore(tmp_path / 'other', tmp_path / 'none')
    other.save('cup', picture(), {'camera': 'front', 'ee_pose': [0.3, 0, 0.1, 0, 0, 0, 1]})
    goal = store.import_picture(other.find('cup'), 'mug')
    assert store.load('mug').metadata['ee_pose'] == [0.3, 0, 0.1, 0, 0, 0, 1]
    assert goal.metadata['source_sha256'] == other.load('cup').sha256


def test_a_squashed_picture_can_be_stretched_to_the_proportions_of_the_camera(store, tmp_path):
    write_image(tmp_path / 'square.png', picture(0, 64, 64))
    goal = store.import_picture(tmp_path / 'square.png', size=(64, 48))
    assert store.load('square').image.shape == (48, 64, 3)
    assert goal.metadata['stretched_from'] == {'height': 64, 'width': 64}


@pytest.mark.parametrize('name', ['öffnen.png', 'a,b.png', '.png'])
def test_a_picture_whose_name_is_none_for_a_goal_needs_another(store, tmp_path, name):
    write_image(tmp_path / 'x.png', picture())
    (tmp_path / 'x.png').rename(tmp_path / name)
    with pytest.raises(GoalError, match='choose one with --name'):
        store.import_picture(tmp_path / name)
    assert store.import_picture(tmp_path / name, 'fine').name == 'fine'
    assert store.load(tmp_path / name).image.shape == (24, 32, 3)


def test_what_is_no_picture_is_not_imported(store, tmp_path):
    for path, reason in ((tmp_path, 'no such picture'), ('drawer_open', 'no such picture'),
                         (tmp_path / 'x\0.png', 'no such picture'), ('x' * 300, 'too long')):
        with pytest.raises(GoalError, match=reason):
            store.import_picture(path, 'x')
    with pytest.raises(GoalError, match='not valid'):
        store.import_picture(store.find('drawer_open'), '../x')
    assert not store.directory.exists()


def test_real_photographs_of_an_open_and_a_closed_drawer_are_imported_as_they_are(
        store, real_data):
    for path, size in ((real_data / 'auto_eval_drawer/goal_open_the_drawer.png', (256, 256)),
                       (real_data / 'auto_eval_drawer/goal_close_the_drawer.png', (256, 256)),
                       (real_data / 'bridge_v2_drawer_eval_video/goal.png', (480, 640))):
        goal = store.load(store.import_picture(path, path.stem).name)
        assert goal.image.shape == (*size, 3)
        np.testing.assert_array_equal(goal.image[:, :, ::-1],
                                      cv2.imread(str(path), cv2.IMREAD_COLOR))


def test_a_saved_goal_can_be_deleted_and_its_name_used_again(store):
    goal = store.save('cup_left', picture(), {})
    assert store.delete('cup_left') == goal.path
    assert list(store.directory.iterdir()) == []
    store.save('cup_left', picture(3), {})


def test_a_shipped_goal_is_never_deleted_and_shows_again_behind_a_saved_one(store):
    with pytest.raises(GoalError, match='ships with the package'):
        store.delete('drawer_open')
    with pytest.raises(GoalError, match='ships with the package'):
        GoalStore(store.shipped, store.shipped).delete('drawer_open')
    store.save('drawer_open', picture(2), {})
    store.delete('drawer_open')
    np.testing.assert_array_equal(store.load('drawer_open').image, picture(1))


@pytest.mark.parametrize('name', ['cup', '../shipped/drawer_open', '', '/etc/passwd'])
def test_what_is_not_saved_here_is_not_deleted(store, name):
    store.save('mug', picture(), {})
    with pytest.raises(GoalError, match='saved there: mug|not valid'):
        store.delete(name)


def test_a_read_only_directory_keeps_its_goals(store, read_only):
    store.save('cup', picture(), {})
    read_only(store.directory)
    with pytest.raises(GoalError, match='cannot be deleted .Read-only'):
        store.delete('cup')
    with pytest.raises(GoalError, match="cannot save goal 'mug' .Read-only"):
        store.save('mug', picture(), {})
    np.testing.assert_array_equal(store.load('cup').image, picture())


def test_a_directory_that_is_a_file_is_named_beside_the_goals_there_are(store, tmp_path):
    (tmp_path / 'file').write_text('')
    goals = GoalStore(tmp_path / 'file', store.shipped)
    assert goals.load('drawer_open').name == 'drawer_open'
    with pytest.raises(GoalError, match='drawer_open; .*file cannot be listed .Not a directory'):
        goals.find('cup')


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
