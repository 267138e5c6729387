"""What is told of datasets and episodes: tables, descriptions, choosing episodes by words."""

import json

from data_samples import action, observation, record
from episode_samples import in_memory, record_good
import pytest
from stable_crl_ros.data.dataset import Dataset
from stable_crl_ros.data.episode import EpisodeWriter
from stable_crl_ros.data.listing import (
    describe_episode,
    Filter,
    format_description,
    format_list,
    format_time,
    list_episodes,
)
from stable_crl_ros.data.repair import repair
from stable_crl_ros.data.schema import EpisodeMeta
from stable_crl_ros.data.selection import describe, open_one, select, SelectionError


@pytest.fixture
def dataset():
    with in_memory() as folder:
        yield Dataset(folder / 'dataset', create=True)


def cut_off(dataset):
    """Leave a journal as a killed process does."""
    writer = EpisodeWriter(dataset)
    writer.add_step(observation(3, 0), action(3, 0))
    writer._journal.close()


def test_lists_episodes_damage_and_what_is_not_sealed(dataset):
    record(dataset, steps=4, meta=EpisodeMeta(task='open_drawer', operator='ada'))
    record(dataset, steps=3, success=None)
    (record(dataset) / 'zarr.json').write_text('{')
    cut_off(dataset)
    lines = format_list(list_episodes(dataset.path)).splitlines()
    assert lines[0].split() == ['episode', 'when', 'steps', 'time', 'success', 'task',
                                'operator', 'cameras', 'marks']
    first = lines[1].split()
    assert first[0] == '0'
    assert first[3:5] == ['4', '0.8'] or first[3] == '4'
    assert first[-5:] == ['yes', 'open_drawer', 'ada', 'front', '16x12']
    assert lines[2].split()[5] == '-'
    assert lines[3].startswith('2 episodes, 7 steps, ')
    assert lines[3].endswith('; 1 of 1 judged ones successful')
    assert 'episode_000002.zarr' in lines[4]
    assert lines[5] == 'not sealed: episode_000003.journal: cut off, 1 complete steps'


def test_marks_what_is_out_of_the_ordinary(dataset):
    record_good(dataset)
    record_good(dataset, interrupted=True, dropped=3)
    marked = [item['marks'] for item in list_episodes(dataset.path)['episodes']]
    assert marked == [[], ['interrupted', '3 dropped']]


@pytest.mark.parametrize(('wanted', 'expected'), [
    (Filter(task='drawer'), [0, 1]), (Filter(success='yes'), [0, 2]),
    (Filter(success='unknown'), [1]), (Filter(tag='rainy'), []),
    (Filter(task='drawer', success='yes'), [0]),
])
def test_lists_only_what_is_wanted(dataset, wanted, expected):
    record(dataset, meta=EpisodeMeta(task='open_drawer'))
    record(dataset, meta=EpisodeMeta(task='close_drawer'), success=None)
    record(dataset, meta=EpisodeMeta(task='push_block'))
    listed = list_episodes(dataset.path, wanted)
    assert [item['episode'] for item in listed['episodes']] == expected
    assert listed['count'] == len(expected)


def test_a_list_is_plain_json(dataset):
    record_good(dataset)
    assert json.loads(json.dumps(list_episodes(dataset.path)))['steps'] == 40


def test_describes_an_episode(dataset):
    record(dataset, steps=8, meta=EpisodeMeta(operator='ada'))
    known = describe_episode(dataset[0])
    assert known['modes'] == {'idle': 2, 'policy': 2, 'teleop': 2, 'script': 2}
    assert known['clipped_or_refused'] == 7
    assert known['flags'] == {'translation_clipped': 4, 'rotation_clipped': 4,
                              'workspace_clipped': 4}
    json.dumps(known)
    text = format_description(known)
    assert 'operator: ada' in text
    assert 'modes: idle 2, policy 2, teleop 2, script 2' in text
    assert 'interventions: 3' in text
    assert 'checksums' not in text


def test_says_when_each_goal_counted_as_reached_whoever_acted_in_between(dataset):
    done = [0, 0, 1, 1, 0, 1, 0, 0, 1, 1]
    with EpisodeWriter(dataset) as writer:
        for step, reached in enumerate(done):
            told = action(0, step)
            told.done, told.checkpoint = bool(reached), 0 if step == 4 else 77  # 4: an operator
            writer.add_step(observation(0, step), told)
        writer.finish(observation(0, len(done)))
    known = describe_episode(dataset[0])
    assert known['done_at'] == [2, 8]
    assert 'done_at: step 2 (0.4 s), step 8 (1.6 s)' in format_description(
        {**known, 'seconds': 2.0})
    record(dataset)
    assert 'done_at' not in format_description(describe_episode(dataset[1]))


@pytest.mark.parametrize(('words', 'expected'), [
    (['3'], [3]), (['5-9'], [5, 7]), (['last'], [7]), (['all'], [0, 3, 5, 7]),
    (['7', '0-4', '3'], [0, 3, 7]),
])
def test_words_name_episodes(words, expected):
    assert select(words, [0, 3, 5, 7], 'here') == expected


@pytest.mark.parametrize(('word', 'message'), [
    ('4', 'no episode 4 to choose; there are 0-2, 7'), ('3-6', 'no episode 3-6'),
    ('first', "a number, a range such as 5-9, 'last' or 'all'"), ('-3', 'names no episode'),
    ('3-', 'names no episode')])
def test_words_that_name_nothing_are_refused_with_what_there_is(word, message):
    with pytest.raises(SelectionError, match=message):
        select([word], [0, 1, 2, 7], 'here')


def test_one_episode_is_named_by_its_number_its_folder_or_as_the_last(dataset):
    for steps in (2, 3, 4):
        record(dataset, steps=steps)
    assert open_one(dataset.path, '1').steps == 3
    assert open_one(dataset.path).steps == 4
    assert open_one(dataset.episode_path(0)).steps == 2
    with pytest.raises(SelectionError, match='names 3 episodes'):
        open_one(dataset.path, 'all')


def test_an_empty_dataset_has_no_last_episode(dataset):
    with pytest.raises(SelectionError, match='there are none'):
        open_one(dataset.path)


def test_numbers_and_times_are_told_in_few_words():
    assert describe([3, 0, 1, 2, 7]) == '0-3, 7'
    assert [format_time(seconds) for seconds in (4.24, 61, 3700)] == ['4.2 s', '1 min 1 s',
                                                                      '1 h 1 min']


def test_repair_seals_what_was_cut_off_and_rebuilds_the_index(dataset):
    record(dataset)
    cut_off(dataset)
    (dataset.path / 'index.json').write_text('nonsense')
    assert repair(dataset.path, dry_run=True).journals[0].state == 'cut off'
    assert len(dataset.unsealed()) == 1
    done = repair(dataset.path)
    assert [item.state for item in done.journals] == ['recovered']
    assert done.sound
    index = json.loads((dataset.path / 'index.json').read_bytes())
    assert [entry['episode_id'] for entry in index['episodes']] == [0, 1]
    assert repair(dataset.path).lines() == [f'{dataset.path}: nothing to repair']


def test_repair_says_what_stays_damaged(dataset):
    record(dataset)
    (record(dataset) / 'zarr.json').write_text('{')
    (dataset.path / 'episode_000009.journal.damaged').write_bytes(b'kept')
    done = repair(dataset.path)
    assert not done.sound
    text = '\n'.join(done.lines())
    assert 'damaged: ' in text and 'episode_000001.zarr' in text
    assert 'episode_000009.journal.damaged: kept' in text
    assert json.loads(json.dumps(done.to_dict()))['kept'] == ['episode_000009.journal.damaged']
