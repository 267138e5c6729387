"""Several datasets read as one: every episode once, in order, whatever numbers repeat."""

import shutil

from data_samples import assert_holds, record
import pytest
from stable_crl_ros.data.dataset import Dataset, DatasetError
from stable_crl_ros.data.labels import discard, restore
from stable_crl_ros.data.union import open_datasets


@pytest.fixture
def days(tmp_path):
    """Record two days with episodes of the same numbers."""
    paths = []
    for name, steps in (('monday', (3, 1)), ('tuesday', (2, 4, 1))):
        dataset = Dataset(tmp_path / name, create=True)
        for count in steps:
            record(dataset, steps=count)
        paths.append(dataset.path)
    return paths


def lengths(union):
    return [(entry['dataset'], entry['episode_id'], entry['steps']) for entry in union.index()]


def test_episodes_follow_each_other_in_the_order_given(days):
    union = open_datasets(days)
    assert lengths(union) == [(0, 0, 3), (0, 1, 1), (1, 0, 2), (1, 1, 4), (1, 2, 1)]
    assert len(union) == 5
    assert [episode.path for episode in union.episodes] == [
        entry['path'] for entry in union.index()]
    assert [item[:2] for item in lengths(open_datasets(days[::-1]))] == [
        (0, 0), (0, 1), (0, 2), (1, 0), (1, 1)]


def test_an_episode_is_found_by_its_dataset_and_number(days):
    union = open_datasets(days)
    assert_holds(union[1, 1], 4)
    assert_holds(union[0, 0], 3)
    with pytest.raises(DatasetError, match='no dataset 2; there are 2'):
        union[2, 0]
    with pytest.raises(DatasetError, match='tuesday: no episode 7'):
        union[1, 7]


def test_one_path_and_datasets_that_are_open_will_do(days):
    assert len(open_datasets(days[0])) == 2
    assert len(open_datasets(str(days[0]))) == 2
    assert len(open_datasets([Dataset(days[0]), days[1]])) == 5
    assert len(open_datasets(Dataset(days[1]))) == 3


def test_discarded_episodes_are_left_out(days):
    discard(Dataset(days[1]), 0, 'ann', 'the cup fell')
    union = open_datasets(days)
    assert lengths(union) == [(0, 0, 3), (0, 1, 1), (1, 1, 4), (1, 2, 1)]
    restore(Dataset(days[1]), 0, 'ann')
    assert len(union) == 5


def test_refuses_a_dataset_named_twice_also_as_a_copy(days, tmp_path):
    (tmp_path / 'link').symlink_to(days[0])
    shutil.copytree(days[0], tmp_path / 'copy')
    opened = Dataset(days[0])
    for twice in ([days[0], days[0]], [opened, opened], [days[0], tmp_path / 'link'],
                  [*days, tmp_path / 'copy']):
        with pytest.raises(DatasetError, match=r'the same episodes as .*monday'):
            open_datasets(twice)


def test_empty_datasets_are_no_copies_of_each_other(tmp_path):
    empty = [Dataset(tmp_path / name, create=True).path for name in ('a', 'b')]
    assert len(open_datasets(empty)) == 0


def test_a_damaged_episode_is_told_when_the_episodes_are_listed(days):
    (days[0] / 'episode_000001.zarr' / 'zarr.json').write_text('{')
    union = open_datasets(days)
    with pytest.raises(DatasetError, match='damaged'):
        union.index()
    assert_holds(union[1, 0], 2)


def test_refuses_nothing_and_what_is_no_dataset(tmp_path, days):
    with pytest.raises(DatasetError, match='name at least one'):
        open_datasets([])
    with pytest.raises(DatasetError, match='does not exist'):
        open_datasets([days[0], tmp_path / 'none'])
