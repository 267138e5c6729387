"""`stable-crl episodes import`, `export` and `goal`, as typed."""

import json

from exchange_samples import write_raw
import numpy as np
import pytest
from stable_crl_ros.cli import main
from stable_crl_ros.cli_exchange import EXPORTS, IMPORTS, TOPICS
from stable_crl_ros.data.dataset import Dataset
from stable_crl_ros.exchange import exporting, importing
from stable_crl_ros.exchange.options import Topics


@pytest.fixture
def raw(real_data, tmp_path):
    """Give a folder with two raw trajectories."""
    for number in range(2):
        write_raw(tmp_path / 'raw' / f'traj{number}', real_data, number)
    return tmp_path / 'raw'


def run(capsys, *words, status=0):
    assert main(['episodes', *map(str, words)]) == status
    return capsys.readouterr().out


def test_the_choices_are_those_there_are():
    assert tuple(importing.FORMATS) == IMPORTS
    assert tuple(exporting.FORMATS) == EXPORTS
    defaults = Topics()
    assert list(TOPICS.values()) == [defaults.joint_states, defaults.ee_pose,
                                     defaults.applied_action, defaults.twist, defaults.gripper]


def test_imports_what_is_new_and_says_what_was_known(capsys, raw, tmp_path):
    said = run(capsys, 'import', raw, tmp_path / 'dataset', '--operator', 'me')
    assert said == f'imported 2 episodes into {tmp_path}/dataset; 0 known already, 0 bad\n'
    said = run(capsys, 'import', raw, tmp_path / 'dataset')
    assert f'known: {raw}/traj1: is episode 1 already\n' in said
    assert 'imported 0 episodes' in said
    assert Dataset(tmp_path / 'dataset')[0].attrs['operator'] == 'me'


def test_a_dry_run_says_what_would_come_in_and_writes_nothing(capsys, raw, tmp_path):
    (raw / 'traj1' / 'lang.txt').unlink()
    said = run(capsys, 'import', raw, tmp_path / 'dataset', '--dry-run')
    assert f"new: {raw}/traj0: 9 steps, image_0 64x64, 'put it there'\n" in said
    assert 'bridge-raw, 2 recordings would come in; 0 known already, 0 bad' in said
    (raw / 'traj1' / 'obs_dict.pkl').unlink()
    said = run(capsys, 'import', raw, tmp_path / 'dataset', '--dry-run', status=1)
    assert 'bad: ' in said
    assert 'obs_dict.pkl: cannot be read' in said
    assert not (tmp_path / 'dataset').exists()


def test_options_reach_the_import(capsys, raw, tmp_path):
    run(capsys, 'import', raw, tmp_path / 'dataset', '--format', 'bridge-raw', '--lag', 1,
        '--actions', 'relabelled', '--gripper', 'binarised', '--image-size', '32x48',
        '--image-codec', 'jpeg:90', '--rate', 10, '--task', 'lift', '--instruction', 'lift it')
    episode = Dataset(tmp_path / 'dataset')[1]
    assert episode.images().shape == (9, 32, 48, 3)
    assert episode.attrs['image_codec'] == 'jpeg:90'
    assert (episode.attrs['task'], episode.attrs['instruction']) == ('lift', 'lift it')
    assert (episode.attrs['control_rate'], episode.attrs['lag']) == (10.0, 1)
    assert set(episode['action'][:, 6]) <= {0.0, 1.0}


def test_answers_machines_in_one_document(capsys, raw, tmp_path):
    found = json.loads(run(capsys, 'import', raw, tmp_path / 'dataset', '--json'))
    assert (found['format'], found['episodes']) == ('bridge-raw', [0, 1])
    assert found['findings'][0]['cameras'] == {'image_0': [64, 64]}
    done = json.loads(run(capsys, 'export', tmp_path / 'dataset', tmp_path / 'out', '--format',
                          'diffusion_policy', '--episodes', 1, '--json'))
    assert (done['episodes'], done['frames']) == ([1], 9)


@pytest.mark.parametrize('kind', EXPORTS)
def test_exports_every_format(capsys, raw, tmp_path, kind):
    run(capsys, 'import', raw, tmp_path / 'dataset')
    said = run(capsys, 'export', tmp_path / 'dataset', tmp_path / 'out', '--format', kind)
    assert 'wrote 2 episodes' in said
    assert str(tmp_path / 'out') in said
    assert any((tmp_path / 'out').iterdir())


def test_saves_a_frame_as_a_goal(capsys, raw, tmp_path):
    run(capsys, 'import', raw, tmp_path / 'dataset')
    said = run(capsys, 'goal', tmp_path / 'dataset', 1, '--name', 'placed', '--goal-directory',
               tmp_path / 'goals')
    assert 'saved goal placed' in said
    metadata = json.loads((tmp_path / 'goals' / 'placed.json').read_text())
    assert metadata['frame'] == 9
    assert np.isfinite(metadata['ee_pose']).all()


@pytest.mark.parametrize(('words', 'message'), [
    (['import', '/no/such/place', '/tmp/none'], '/no/such/place does not exist'),
    (['import', '/proc/self/fdinfo', '/tmp/none'], 'nothing to import; give --format'),
    (['import', '/dev/null', '/tmp/none', '--rate', '0'], 'rate 0.0 Hz'),
    (['export', '/no/such/place', '/tmp/none', '--format', 'rlds'], '/no/such/place'),
])
def test_refusals_are_one_line(capsys, words, message):
    assert main(['episodes', *words]) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count('\n') == 1


@pytest.mark.parametrize('words', [
    ['import', 'a', 'b', '--image-size', 'big'], ['import', 'a', 'b', '--camera', 'front'],
    ['import', 'a', 'b', '--lag', '2'], ['export', 'a', 'b'],
    ['export', 'a', 'b', '--format', 'hdf5'],
])
def test_words_that_make_no_sense_are_refused_with_the_usage(capsys, words):
    with pytest.raises(SystemExit) as error:
        main(['episodes', *words])
    assert error.value.code == 2
    assert 'usage: stable-crl episodes' in capsys.readouterr().err
