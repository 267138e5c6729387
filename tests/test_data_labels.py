"""Labels: changed whole, with who and when; discarded episodes come back until compact."""

import json
import multiprocessing
import os
import socket
import time

from data_samples import assert_holds, record
import pytest
from stable_crl_ros.data.dataset import Dataset, DatasetError
from stable_crl_ros.data.labels import (
    checked_name,
    compact,
    discard,
    LabelError,
    relabel,
    restore,
)


@pytest.fixture
def dataset(tmp_path):
    dataset = Dataset(tmp_path / 'dataset', create=True)
    for _ in range(3):
        record(dataset, steps=2)
    return dataset


def test_a_label_changes_what_is_named_and_keeps_what_was(dataset):
    before = dataset[1].attrs
    attributes = relabel(dataset, 1, 'ada', success=False, notes='slipped', tags=['cup', 'cup'])
    after = dataset[1].attrs
    assert after == attributes
    assert (after['success'], after['notes'], after['tags']) == (False, 'slipped', ['cup'])
    entry, = after['label_history']
    assert (entry['by'], entry['host']) == ('ada', socket.gethostname())
    assert abs(entry['when_ns'] - time.time_ns()) < 60e9
    assert entry['changed'] == {
        'success': [True, False], 'notes': ['', 'slipped'], 'tags': [[], ['cup']]}
    same = before.keys() - {'success', 'notes', 'tags', 'label_history', 'attributes_sha256'}
    assert {name: after[name] for name in same} == {name: before[name] for name in same}
    assert_holds(dataset[1], 2)


@pytest.mark.skipif(os.getuid() != 0, reason='becoming another user takes root')
def test_a_user_without_a_name_is_asked_for_one(monkeypatch):
    for name in ('LOGNAME', 'USER', 'LNAME', 'USERNAME'):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(LabelError, match='user 54321 has no name on this machine'):
        try:
            os.setresuid(54321, 54321, 0)
            checked_name(None)
        finally:
            os.setresuid(0, 0, 0)


def test_the_history_grows_and_no_change_is_no_entry(dataset):
    relabel(dataset, 0, 'ada', success=None)
    relabel(dataset, 0, 'bob', success=None, task='test')
    relabel(dataset, 0, 'bob', success=True)
    history = dataset[0].attrs['label_history']
    assert [(entry['by'], entry['changed']) for entry in history] == [
        ('ada', {'success': [True, None]}), ('bob', {'success': [None, True]})]


def test_the_index_follows_a_label_at_once(dataset):
    for success in (False, None, True, False):
        relabel(dataset, 2, 'ada', success=success)
        assert Dataset(dataset.path).index()[2]['success'] is success


@pytest.mark.parametrize(('labels', 'message'), [
    ({'by': ' '}, 'say who'), ({'success': 'yes'}, 'True, False or None'),
    ({'success': 1}, 'True, False or None'), ({'task': None}, 'task must be text'),
    ({'tags': 'cup'}, 'list of words'), ({'tags': ['']}, 'list of words')])
def test_refuses_a_label_that_makes_no_sense(dataset, labels, message):
    before = dataset[0].attrs
    with pytest.raises(LabelError, match=message):
        relabel(dataset, 0, **{'by': 'ada', 'notes': 'x', **labels})
    assert dataset[0].attrs == before


def test_names_the_episodes_there_are(dataset):
    with pytest.raises(DatasetError, match=r'no episode 7; it has \[0, 1, 2\]'):
        relabel(dataset, 7, 'ada', success=True)


def label_often(path, name):
    dataset = Dataset(path)
    for count in range(10):
        relabel(dataset, 0, name, notes=f'{name} {count}')


def test_labels_from_two_processes_at_once_are_all_kept(dataset):
    context = multiprocessing.get_context('forkserver')
    processes = [context.Process(target=label_often, args=(dataset.path, name))
                 for name in ('ada', 'bob')]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0
    history = dataset[0].attrs['label_history']
    for name in ('ada', 'bob'):
        told = [entry['changed']['notes'][1] for entry in history if entry['by'] == name]
        assert told == [f'{name} {count}' for count in range(10)]
    for earlier, later in zip(history[:-1], history[1:], strict=True):
        assert later['changed']['notes'][0] == earlier['changed']['notes'][1]


def test_a_discarded_episode_is_left_out_until_it_is_restored(dataset):
    whole = (dataset.ids, dataset.index(), dataset.fingerprint())
    discard(dataset, 1, 'ada', 'blurred')
    assert dataset.ids == [0, 2]
    assert [episode.id for episode in dataset.episodes] == [0, 2]
    assert (len(dataset), len(dataset.index())) == (2, 2)
    assert dataset.fingerprint() != whole[2]
    assert [(entry['episode_id'], entry['discarded']['by'], entry['discarded']['why'])
            for entry in dataset.discarded] == [(1, 'ada', 'blurred')]
    assert_holds(dataset[1], 2)
    restore(dataset, 1, 'bob')
    assert (dataset.ids, dataset.fingerprint()) == (whole[0], whole[2])
    assert dataset.discarded == []
    assert [entry['by'] for entry in dataset[1].attrs['label_history']] == ['ada', 'bob']


def test_compact_deletes_what_is_discarded_and_nothing_else(dataset):
    discard(dataset, 0, 'ada', 'test')
    told = compact(dataset, dry_run=True)
    assert [entry['episode_id'] for entry in told] == [0]
    assert told[0]['bytes'] > 1000
    assert dataset.episode_path(0).exists()
    (dataset.path / '.deleting-episode_000009.zarr').mkdir()  # a compact that was cut off
    assert compact(dataset) == told
    assert sorted(path.name for path in dataset.path.glob('*.zarr')) == [
        'episode_000001.zarr', 'episode_000002.zarr']
    assert not list(dataset.path.glob('.deleting-*'))
    assert compact(dataset) == []
    assert dataset.reserve_id() == 3
    for number in (1, 2):
        assert_holds(dataset[number], 2)


def test_a_deleted_episodes_number_is_never_given_again(dataset):
    discard(dataset, 2, 'ada')
    compact(dataset)
    assert dataset.ids == [0, 1]
    assert Dataset(dataset.path).reserve_ids(2) == [3, 4]
    dataset.release_ids([3, 4])
    discard(dataset, 0, 'ada')
    compact(dataset)
    assert dataset.reserve_id() == 3


@pytest.mark.parametrize('text', ['', 'three', '-1', '1.5'])
def test_a_damaged_note_of_the_next_number_is_said(dataset, text):
    (dataset.path / '.next_episode').write_text(text)
    with pytest.raises(DatasetError, match='.next_episode is damaged'):
        dataset.reserve_id()


def test_a_label_half_written_by_a_crash_changes_nothing(dataset):
    file = dataset[0].path / 'zarr.json'
    before = file.read_bytes()
    (dataset[0].path / '.zarr.json.1.2.tmp').write_bytes(before[:100])
    assert dataset[0].attrs == json.loads(before)['attributes']
    relabel(dataset, 0, 'ada', success=False)
    assert dataset[0].attrs['success'] is False
