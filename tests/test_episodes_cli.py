"""`stable-crl episodes`: what its verbs print for people and machines, and their exit status."""

import json
import shutil

import cv2
from data_samples import action, observation
from episode_samples import in_memory, record_good, rows
import pytest
from stable_crl_ros.cli import main
from stable_crl_ros.data.dataset import Dataset
from stable_crl_ros.data.episode import EpisodeWriter


@pytest.fixture(scope='module')
def good():
    """Record three good episodes; nobody may change them."""
    with in_memory() as folder:
        dataset = Dataset(folder / 'drawer', create=True)
        for seed in range(3):
            record_good(dataset, steps=12, seed=seed, success=(True, False, None)[seed])
        yield dataset.path


@pytest.fixture
def path(good):
    """Give a copy that may be changed."""
    with in_memory() as folder:
        yield shutil.copytree(good, folder / 'drawer')


def said(capsys, verb, *words, status=0):
    """Run a verb; return what it printed on stdout."""
    capsys.readouterr()
    assert main(['episodes', verb, *map(str, words)]) == status
    captured = capsys.readouterr()
    assert 'Traceback' not in captured.err
    return captured.out


def told(capsys, verb, *words, status=0):
    """Run a verb with --json; return the one document it printed."""
    return json.loads(said(capsys, verb, *words, '--json', status=status))


def refused(capsys, verb, *words):
    """Run a verb that is refused; return the refusal."""
    capsys.readouterr()
    assert main(['episodes', verb, *map(str, words)]) == 2
    captured = capsys.readouterr()
    assert captured.out == ''
    assert captured.err.startswith('stable-crl: ')
    assert captured.err.count('\n') == 1
    return captured.err


def test_every_verb_has_its_own_help_and_only_its_own_options(capsys):
    with pytest.raises(SystemExit) as end:
        main(['episodes', 'list', '--help'])
    assert end.value.code == 0
    assert '--video' not in capsys.readouterr().out
    with pytest.raises(SystemExit) as end:
        main(['episodes', 'list', 'somewhere', '--video'])
    assert end.value.code == 2


def test_lists_several_datasets(good, path, capsys):
    text = said(capsys, 'list', good, path)
    assert text.count('3 episodes, 36 steps') == 2
    assert text.startswith(f'{good}\n')
    listed = told(capsys, 'list', good, path, '--success', 'yes')['datasets']
    assert [[item['episode'] for item in dataset['episodes']] for dataset in listed] == [[0], [0]]


def test_info_of_the_last_or_of_a_named_episode(good, capsys):
    assert 'success: False' in said(capsys, 'info', good, 1)
    assert told(capsys, 'info', good)['episode_id'] == 2
    assert 'there are 0-2' in refused(capsys, 'info', good, 3)
    assert '/no/such' in refused(capsys, 'list', '/no/such')


def test_verify_answers_by_its_exit_status(path, capsys):
    assert 'all is well' in said(capsys, 'verify', path)
    record_good(Dataset(path), steps=12, seed=3, dropped=2)
    assert '2 steps were dropped' in said(capsys, 'verify', path)
    said(capsys, 'verify', path, '--strict', status=1)
    assert 'all is well' in said(capsys, 'verify', path, '--integrity', '--strict')
    stored = next(file for file in (path / 'episode_000001.zarr/action').rglob('*')
                  if file.is_file() and file.name != 'zarr.json')
    stored.write_bytes(b'\0' * 10)
    assert 'action' in said(capsys, 'verify', path, status=1)
    report, = told(capsys, 'verify', path, status=1)['reports']
    assert [item['severity'] for item in report['findings']] == ['error', 'warning']
    assert 'all is well' in said(capsys, 'verify', path / 'episode_000000.zarr')


def test_view_writes_a_picture_and_a_video(good, tmp_path, capsys):
    assert 'wrote' in said(capsys, 'view', good, 1, '--out', tmp_path / 'it.png')
    assert cv2.imread(str(tmp_path / 'it.png')) is not None
    document = told(capsys, 'view', good, '--video', '--out', tmp_path / 'it.mp4')
    assert document == {'episode': 2, 'file': str(tmp_path / 'it.mp4')}
    assert cv2.VideoCapture(str(tmp_path / 'it.mp4')).read()[0]
    assert 'choose one of' in refused(capsys, 'view', good, '--camera', 'back')


def test_the_pictures_of_two_datasets_do_not_overwrite_each_other(
        good, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(good, tmp_path / 'other')
    for path in (good, 'other', 'other/episode_000000.zarr'):
        said(capsys, 'view', path, *([0] if path != 'other/episode_000000.zarr' else []))
    assert {path.name for path in tmp_path.glob('*.png')} == {
        f'{good.name}_episode_0.png', 'other_episode_0.png'}


def cut_off(dataset):
    """Leave a journal as a killed process does."""
    writer = EpisodeWriter(dataset)
    writer.add_step(observation(3, 0), action(3, 0))
    writer._journal.close()


def test_a_file_that_cannot_be_written_is_named_as_it_was_given(good, tmp_path, capsys):
    for out in (tmp_path / 'nowhere' / 'sheet.png', good / 'index.json' / 'sheet.png', tmp_path):
        assert f"'{out}'\n" in refused(capsys, 'view', good, 0, '--out', out)


def test_repair_says_what_it_would_do_and_does_it(path, capsys):
    assert 'nothing to repair' in said(capsys, 'repair', path)
    cut_off(Dataset(path))
    assert 'cut off' in said(capsys, 'repair', path, '--dry-run')
    assert len(Dataset(path)) == 3
    assert 'recovered' in said(capsys, 'repair', path)
    assert len(Dataset(path)) == 4
    (path / 'episode_000002.zarr/zarr.json').write_text('{')
    repairs = told(capsys, 'repair', path, status=1)['repairs']
    assert list(repairs[0]['damaged']) == ['episode_000002.zarr']


def test_labels_are_changed_with_a_name_and_kept(path, capsys):
    text = said(capsys, 'label', path, '0', '2', '--success', 'no', '--tags', 'dark', '--by',
                'ada', '--dry-run')
    assert "episode 2: tags [] -> ['dark'], success None -> False" in text
    assert Dataset(path)[2].attrs['success'] is None
    said(capsys, 'label', path, '0', '2', '--success', 'no', '--tags', 'dark', '--by', 'ada')
    assert Dataset(path)[2].attrs['success'] is False
    assert 'by ada: success True -> False' in said(capsys, 'info', path, 0)
    assert 'is so already' in said(capsys, 'label', path, 0, '--success', 'no')
    document = told(capsys, 'label', path, 1, '--task', 'push', '--by', 'bob')
    assert document['episodes'] == [{'episode': 1, 'changed': {'task': ['open_drawer', 'push']}}]
    assert 'nothing to change' in refused(capsys, 'label', path, 1)
    assert "'first' names no episode" in refused(capsys, 'label', path, 'first', '--task', 'x')


def test_discarded_episodes_are_marked_restored_and_deleted(path, capsys):
    assert 'would be discarded: episode 0-1' in said(capsys, 'discard', path, '0-1', '--dry-run')
    assert len(Dataset(path)) == 3
    said(capsys, 'discard', path, '0-1', '--why', 'arm bumped')
    text = said(capsys, 'list', path)
    assert text.count('discarded (arm bumped)') == 2
    assert '1 episodes, 12 steps' in text
    assert 'discarded' not in said(capsys, 'list', path, '--hide-discarded')
    assert told(capsys, 'restore', path, 1)['restored'] == [1]
    assert 'there are 0' in refused(capsys, 'restore', path, 2)
    assert 'would be deleted: episode_000000.zarr' in said(capsys, 'compact', path, '--dry-run')
    deleted, = told(capsys, 'compact', path)['deleted']
    assert deleted['episode_id'] == 0
    assert not (path / 'episode_000000.zarr').exists()
    assert 'nothing is discarded' in said(capsys, 'compact', path)


def test_trims_by_steps_or_by_standstill(path, capsys):
    assert 'steps 2-9 would be kept' in said(capsys, 'trim', path, 0, '--keep', '2-9',
                                             '--dry-run')
    assert 'episode 0: steps 2-9 are episode 3' in said(capsys, 'trim', path, 0, '--keep', '2-9')
    assert Dataset(path).ids == [1, 2, 3]
    assert told(capsys, 'trim', path, 1, '--still')['whole'] == [1]
    assert 'cannot keep steps 5-40' in refused(capsys, 'trim', path, 1, '--keep', '5-40')


def test_one_episode_that_cannot_be_trimmed_leaves_the_others_as_they_are(path, capsys):
    record_good(Dataset(path), steps=3)
    assert 'episode_000003.zarr: cannot keep steps 2-9 of 0-2' in refused(
        capsys, 'trim', path, 'all', '--keep', '2-9')
    assert Dataset(path).ids == [0, 1, 2, 3]
    assert 'would cut motion off' in refused(capsys, 'trim', path, 0, '--still', '--margin', -5)


@pytest.mark.parametrize('words', [
    ('trim', 0, '--keep', '2-9', '--by', ''), ('discard', 0, '--by', ' '),
    ('label', 0, '--success', 'no', '--by', ''), ('label', 0, '--tags', '')])
def test_labels_that_are_none_change_nothing_and_a_dry_run_says_so_too(path, capsys, words):
    verb, *rest = words
    for more in ([], ['--dry-run']):
        refused(capsys, verb, path, *rest, *more)
    assert Dataset(path).ids == [0, 1, 2]


def test_merging_passes_over_an_episode_without_a_step(path, tmp_path, capsys):
    with EpisodeWriter(Dataset(path)) as writer:  # a crash in its first step
        writer.add_step(rows(1)[0][0], rows(1)[1][0])
        number = writer.episode_id
        writer.finish()
    assert Dataset(path)[number].steps == 0
    assert '3 episodes, 36 steps copied, 1 without a step left out' in said(
        capsys, 'merge', path, '--into', tmp_path / 'all')
    assert len(Dataset(tmp_path / 'all')) == 3


def test_deleting_what_is_discarded_does_not_mind_another_damaged_episode(path, capsys):
    said(capsys, 'discard', path, 0)
    (path / 'episode_000001.zarr' / 'zarr.json').write_text('{}')
    assert 'deleted: episode_000000.zarr' in said(capsys, 'compact', path)
    assert not (path / 'episode_000000.zarr').exists()


@pytest.mark.parametrize('words', [('--height', 0), ('--height', -5), ('--height', 100_000),
                                   ('--speed', 'nan'), ('--speed', 'inf'), ('--speed', 0)])
def test_a_video_of_no_size_or_speed_is_refused(good, tmp_path, capsys, words):
    assert 'makes no video; give' in refused(capsys, 'view', good, 0, '--video', '--out',
                                             tmp_path / 'x.mp4', *words)


@pytest.mark.parametrize('words', [('--fraction', 'nan'), ('--fraction', 'inf'),
                                   ('--fraction', 0.5, '--seed', -1)])
def test_a_split_that_cannot_be_drawn_is_refused(good, tmp_path, capsys, words):
    refused(capsys, 'split', good, '--out', tmp_path / 'split.json', *words)
    assert not (tmp_path / 'split.json').exists()


def test_merges_and_goes_on_where_it_was(good, path, tmp_path, capsys):
    into = tmp_path / 'all'
    said(capsys, 'discard', path, 0)
    assert '2 episodes, 24 steps would be copied' in said(capsys, 'merge', path, '--into', into,
                                                          '--dry-run')
    assert not into.exists()
    said(capsys, 'merge', path, '--into', into)
    assert '0 episodes, 0 steps copied, 2 were there' in said(capsys, 'merge', path, '--into',
                                                              into)
    assert len(Dataset(into)) == 2
    assert 'is one of the sources' in refused(capsys, 'merge', path, '--into', path)


def test_a_split_is_a_file_that_training_reads_or_two_datasets(good, tmp_path, capsys):
    file, folders = tmp_path / 'split.json', (tmp_path / 'train', tmp_path / 'check')
    assert '2 for training, 1 for validation' in said(capsys, 'split', good, '--fraction', 0.3,
                                                      '--out', file, '--dry-run')
    assert not file.exists()
    held_out = told(capsys, 'split', good, '--fraction', 0.3, '--out', file)['datasets'][0]
    said(capsys, 'split', good, '--fraction', 0.3, '--folders', *folders)
    assert [len(Dataset(folder)) for folder in folders] == [2, 1]
    copied = Dataset(folders[1])[0].attrs['copied_from']['episode']
    assert [copied] == held_out['validation']
    run = tmp_path / 'run'
    assert main(['train', str(good), '--out', str(run), '--steps', '1', '--quiet', '--set',
                 'batch_size=4', 'channels=4,4,4', 'image_size=16', '--threads', '1',
                 '--log-every', '1', '--validation', str(file)]) == 0
    assert 'validation/' in (run / 'metrics.csv').read_text().splitlines()[0]
    capsys.readouterr()
    assert main(['train', str(folders[0]), '--out', str(tmp_path / 'other'), '--validation',
                 str(file), '--quiet']) == 2
    assert 'knows nothing of' in capsys.readouterr().err


def test_stats_of_several_datasets_and_a_picture(good, path, tmp_path, capsys):
    record_good(Dataset(path), steps=12, seed=9)
    document = told(capsys, 'stats', good, path)
    assert document['steps'] == 3 * 12 + 4 * 12
    text = said(capsys, 'stats', good, '--histograms', tmp_path / 'histograms.png')
    assert text.startswith('3 episodes, 36 steps')
    assert cv2.imread(str(tmp_path / 'histograms.png')) is not None


def test_replay_without_a_running_arm_is_refused(good, capsys):
    assert 'nobody offers' in refused(capsys, 'replay', good, '--namespace', 'nobody_here')
