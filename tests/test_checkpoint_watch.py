"""What a watched folder offers: the newest checkpoint that is whole and rests."""

import os

from learning_samples import lively, write_checkpoint
import pytest
from stable_crl_ros.checkpoint_watch import FolderWatch


@pytest.fixture
def watch(tmp_path):
    return FolderWatch(tmp_path)


def write(folder, name, step, age_s=0):
    write_checkpoint(folder / name, agent=lively(step), step=step)
    at = (folder / name).stat().st_mtime - age_s
    os.utime(folder / name, (at, at))


def test_the_newest_is_offered_once_it_has_rested(watch, tmp_path):
    write(tmp_path, 'step_10.safetensors', 10, age_s=60)
    write(tmp_path, 'step_20.safetensors', 20)
    assert watch.look() is None
    offer = watch.look()
    assert (offer.path.name, offer.step) == ('step_20.safetensors', 20)
    write(tmp_path, 'step_30.safetensors', 30)
    assert watch.look().step == 20
    assert watch.look().step == 30


def test_what_is_half_written_or_none_is_never_offered(watch, tmp_path):
    write(tmp_path, 'whole.safetensors', 10, age_s=60)
    whole = (tmp_path / 'whole.safetensors').read_bytes()
    (tmp_path / 'half.safetensors').write_bytes(whole[:-100])
    (tmp_path / '.whole.safetensors.1.tmp').write_bytes(whole)
    (tmp_path / 'dead.safetensors').symlink_to('nowhere')
    (tmp_path / 'folder.safetensors').mkdir()
    (tmp_path / 'notes.txt').write_text('none')
    watch.look()
    assert watch.look().path.name == 'whole.safetensors'


def test_what_grows_is_left_alone_until_it_is_whole(watch, tmp_path):
    write(tmp_path, 'other.safetensors', 10)
    whole = (tmp_path / 'other.safetensors').read_bytes()
    (tmp_path / 'other.safetensors').unlink()
    path = tmp_path / 'copied.safetensors'
    for share in (0.2, 0.5, 1.0):
        path.write_bytes(whole[:int(len(whole) * share)])
        assert watch.look() is None
    assert watch.look().step == 10


def test_a_folder_that_is_not_there_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        FolderWatch(tmp_path / 'none').look()
