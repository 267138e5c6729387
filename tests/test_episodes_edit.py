"""Trimming and merging: new episodes with the same numbers, the old ones kept or restorable."""

from data_samples import assert_holds, record
from episode_samples import in_memory, record_good, record_rows, rows
import numpy as np
import pytest
from stable_crl_ros.data.dataset import Dataset, DatasetError
from stable_crl_ros.data.editing import EditError, merge, moving_steps, open_target, trim
from stable_crl_ros.data.labels import discard, relabel, restore
from stable_crl_ros.data.schema import EpisodeMeta
from stable_crl_ros.data.verify import verify_dataset


@pytest.fixture
def dataset():
    with in_memory() as folder:
        yield Dataset(folder / 'dataset', create=True)


def test_trimming_keeps_the_steps_asked_for_and_discards_the_long_episode(dataset):
    record_good(dataset, steps=10)
    done = trim(dataset, 0, (3, 6), 'ada')
    assert (done.number, dataset.ids) == (1, [1])
    whole, short = dataset[0], dataset[1]
    assert short.steps == 4
    for name in ('action', 'command_stamp', 'progress'):
        np.testing.assert_array_equal(short[name], whole[name][3:7])
    for name in ('joint_positions', 'ee_pose', 'images/front'):
        np.testing.assert_array_equal(short[name], whole[name][3:8])
    assert short.attrs['success'] is True
    discarded, = dataset.discarded
    assert discarded['discarded']['by'] == 'ada'
    assert discarded['discarded']['why'] == 'trimmed: steps 3-6 are episode 1'
    assert verify_dataset(dataset.path) == []


def test_trimming_can_be_undone(dataset):
    record(dataset, steps=6)
    trim(dataset, 0, (1, 4), 'ada')
    restore(dataset, 0, 'ada')
    discard(dataset, 1, 'ada')
    assert dataset.ids == [0]
    assert_holds(dataset[0], 6)


@pytest.mark.parametrize(('keep', 'message'), [
    ((0, 9), 'are all of it'), ((3, 10), 'cannot keep steps 3-10 of 0-9'),
    ((6, 3), 'cannot keep'), ((-1, 3), 'cannot keep')])
def test_steps_that_are_not_there_are_refused_and_nothing_changes(dataset, keep, message):
    record_good(dataset, steps=10)
    with pytest.raises(EditError, match=message):
        trim(dataset, 0, keep, 'ada')
    assert dataset.ids == [0]


def test_a_dry_run_trims_nothing(dataset):
    record_good(dataset, steps=10)
    assert trim(dataset, 0, (3, 6), 'ada', dry_run=True).number is None
    assert dataset.ids == [0]


def rest(observations, actions, before, after):
    """Let the arm stand still before one step and after another."""
    for step, (seen, done) in enumerate(zip(observations, actions, strict=False)):
        if not before <= step < after:
            done.action = np.array([0, 0, 0, 0, 0, 0, 0.7])
        anchor = observations[min(max(step, before), after)]
        seen.ee_pose, seen.gripper = anchor.ee_pose, anchor.gripper
        done.action[6] = 0.7
    observations[-1].ee_pose = observations[after].ee_pose
    observations[-1].gripper = observations[after].gripper


def test_standstill_is_found_at_both_ends(dataset):
    observations, actions = rows(40)
    rest(observations, actions, 8, 30)
    record_rows(dataset, observations, actions)
    assert moving_steps(dataset[0], margin=0) == (8, 29)
    assert moving_steps(dataset[0]) == (6, 31)
    assert moving_steps(dataset[0], margin=20) == (0, 39)


def test_an_arm_that_never_moves_is_refused(dataset):
    observations, actions = rows(5)
    rest(observations, actions, 0, 0)
    record_rows(dataset, observations, actions)
    with pytest.raises(EditError, match='never moves; discard'):
        moving_steps(dataset[0])


@pytest.fixture
def sources(dataset):
    """Record two datasets of two and one episodes."""
    made, tmp_path = [], dataset.path.parent
    for name, count in (('one', 2), ('two', 1)):
        made.append(Dataset(tmp_path / name, create=True))
        for number in range(count):
            record(made[-1], steps=3 + number, meta=EpisodeMeta(task=f'{name} {number}'))
    return made


def everything(datasets):
    return [(dataset, dataset.ids) for dataset in datasets]


def test_merging_copies_every_number_and_says_where_it_comes_from(sources, dataset):
    told = []
    copies = merge(everything(sources), dataset, lambda done, total: told.append((done, total)))
    assert [copy.number for copy in copies] == dataset.ids == [0, 1, 2]
    assert told == [(1, 3), (2, 3), (3, 3)]
    assert [episode.attrs['task'] for episode in dataset.episodes] == ['one 0', 'one 1', 'two 0']
    for number, (episode, steps) in enumerate(((0, 3), (1, 4), (0, 3))):
        assert_holds(dataset[number], steps, number=episode)
    assert dataset[2].attrs['copied_from']['dataset'] == sources[1].id
    assert verify_dataset(dataset.path, integrity_only=True) == []


def test_merging_again_adds_only_what_is_new_and_nothing_that_was_discarded(sources, dataset):
    merge(everything(sources), dataset)
    discard(dataset, 1, 'ada', 'bad light')
    record(sources[1], steps=2)
    copies = merge(everything(sources), dataset)
    assert [copy.already for copy in copies] == [True, True, True, False]
    assert dataset.ids == [0, 2, 3]


def test_labels_and_their_history_go_along(sources, dataset):
    relabel(sources[0], 0, 'ada', success=False, tags=['dark'])
    merge(everything(sources[:1]), dataset)
    attributes = dataset[0].attrs
    assert (attributes['success'], attributes['tags']) == (False, ['dark'])
    assert [change['by'] for change in attributes['label_history']] == ['ada']


def test_a_dry_run_says_what_is_there_already(sources, dataset):
    merge(everything(sources[:1]), dataset)
    copies = merge(everything(sources), dataset, dry_run=True)
    assert [copy.already for copy in copies] == [True, True, False]
    assert len(dataset) == 2


def test_a_target_is_made_with_the_codec_of_the_first_source(tmp_path):
    source = Dataset(tmp_path / 'source', create=True, image_codec='jpeg:90')
    record(source)
    assert open_target(tmp_path / 'new', [source], dry_run=True) is None
    assert not (tmp_path / 'new').exists()
    target = open_target(tmp_path / 'new', [source])
    assert str(target.codec) == 'jpeg:90'
    merge([(source, source.ids)], target)
    assert bytes(target[0].encoded(None, 2).data) == bytes(source[0].encoded(None, 2).data)
    with pytest.raises(DatasetError, match='jpeg:90'):
        open_target(tmp_path / 'new', [source], 'lossless')


def test_a_dataset_is_not_merged_into_itself(sources):
    with pytest.raises(EditError, match='is one of the sources'):
        open_target(sources[0].path, sources)
