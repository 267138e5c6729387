"""Splits: drawn by task and seed, kept in a file, found again by training."""

from data_samples import record
from episode_samples import in_memory
import pytest
from stable_crl_ros.data.dataset import Dataset
from stable_crl_ros.data.labels import discard
from stable_crl_ros.data.schema import EpisodeMeta
from stable_crl_ros.data.splits import (
    read_validation,
    split_episodes,
    SplitError,
    summarise,
    write_split,
)


@pytest.fixture(scope='module')
def datasets():
    """Record 12 episodes of one task and 4 of another; nobody may change them."""
    with in_memory() as folder:
        made = [Dataset(folder / name, create=True) for name in ('one', 'two')]
        for dataset, pushes in zip(made, (8, 4), strict=True):
            for task in [*['push'] * pushes, 'lift', 'lift']:
                record(dataset, steps=1, meta=EpisodeMeta(task=task))
        yield made


def validation(split):
    return [(position, number) for position, item in enumerate(split['datasets'])
            for number in item['validation']]


def test_every_episode_is_on_one_side_and_every_task_has_its_share(datasets):
    split = split_episodes(datasets, 0.25, seed=0)
    for dataset, item in zip(datasets, split['datasets'], strict=True):
        assert sorted(item['training'] + item['validation']) == dataset.ids
    tasks = [datasets[position][number].attrs['task'] for position, number in validation(split)]
    assert sorted(tasks) == ['lift', 'push', 'push', 'push']


def test_the_seed_decides_who_is_drawn(datasets):
    drawn = {seed: validation(split_episodes(datasets, 0.25, seed)) for seed in range(4)}
    assert drawn[0] == validation(split_episodes(datasets, 0.25, 0))
    assert len({tuple(episodes) for episodes in drawn.values()}) > 1


@pytest.mark.parametrize('fraction', [0.0, 1.0, -0.1, 0.01, 0.99])
def test_both_sides_must_have_episodes(datasets, fraction):
    with pytest.raises(SplitError, match='some on both sides'):
        split_episodes(datasets, fraction, 0)


def test_a_split_names_its_datasets_in_any_order_also_after_a_move(datasets, tmp_path):
    split = split_episodes(datasets, 0.25, 0)
    write_split(split, tmp_path / 'split.json')
    paths = [dataset.path for dataset in datasets]
    assert read_validation(tmp_path / 'split.json', paths) == validation(split)
    swapped = [(1 - position, number) for position, number in validation(split)]
    assert sorted(read_validation(tmp_path / 'split.json', paths[::-1])) == sorted(swapped)
    only = read_validation(tmp_path / 'split.json', paths[1:])
    assert only == [(0, number) for number in split['datasets'][1]['validation']]
    moved = paths[0].rename(paths[0].with_name('moved'))
    try:
        assert read_validation(tmp_path / 'split.json', [moved, paths[1]]) == validation(split)
    finally:
        moved.rename(paths[0])


def test_a_dataset_the_split_does_not_know_is_refused(datasets, tmp_path):
    write_split(split_episodes(datasets[:1], 0.25, 0), tmp_path / 'split.json')
    with pytest.raises(SplitError, match='knows nothing of'):
        read_validation(tmp_path / 'split.json', [datasets[1].path])


@pytest.mark.parametrize('text', ['', '{}', '[]', '{"kind": "split of episodes"}'])
def test_a_file_that_is_no_split_is_refused(datasets, tmp_path, text):
    (tmp_path / 'split.json').write_text(text)
    with pytest.raises(SplitError, match='not a split'):
        read_validation(tmp_path / 'split.json', [datasets[0].path])


def test_an_episode_that_was_discarded_later_is_left_out(tmp_path):
    dataset = Dataset(tmp_path / 'dataset', create=True)
    for _ in range(4):
        record(dataset, steps=1)
    split = split_episodes([dataset], 0.5, 0)
    write_split(split, tmp_path / 'split.json')
    gone, kept = split['datasets'][0]['validation']
    discard(dataset, gone, 'ada')
    assert read_validation(tmp_path / 'split.json', [dataset.path]) == [(0, kept)]


def test_says_how_many_are_where(datasets):
    lines = summarise(split_episodes(datasets[:1], 0.2, 0)).splitlines()
    assert len(lines) == 1
    assert lines[0].startswith(f'{datasets[0].path}: 8 for training, 2 for validation (')
