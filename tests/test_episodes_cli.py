"""`stable-crl episodes`: what its verbs print for people and machines, and their exit status."""

import json
import shutil

import cv2
from data_samples import action, observation
from episode_samples import record_good
import pytest
from stable_crl_ros.cli import main
from stable_crl_ros.data.dataset import Dataset
from stable_crl_ros.data.episode import EpisodeWriter


@pytest.fixture(scope='module')
def good(tmp_path_factory):
    """Record three good episodes; nobody may change them."""
    dataset = Dataset(tmp_path_factory.mktemp('data') / 'drawer', create=True)
    for seed in range(3):
        record_good(dataset, steps=12, seed=seed, success=(True, False, None)[seed])
    return dataset.path


@pytest.fixture
def path(good, tmp_path):
    """Give a copy that may be changed."""
    return shutil.copytree(good, tmp_path / 'drawer')


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


def cut_off(dataset):
    """Leave a journal as a killed process does."""
    writer = EpisodeWriter(dataset)
    writer.add_step(observation(3, 0), action(3, 0))
    writer._journal.close()


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
