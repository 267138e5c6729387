"""`stable-crl analyse` as a whole: files, numbers, refusals."""

import json

from learning_samples import lively, small_agent, write_checkpoint, write_dots
import pytest
from stable_crl_ros.checkpoint import CheckpointError
from stable_crl_ros.cli import main
from stable_crl_ros.cli_experiments import FIGURES as OFFERED
from stable_crl_ros.experiments.analyse import analyse, AnalyseError, FIGURES
from stable_crl_ros.experiments.learned import load_all

PNG = b'\x89PNG'


@pytest.fixture(scope='module')
def checkpoints(tmp_path_factory):
    folder = tmp_path_factory.mktemp('runs')
    agents = {'td': small_agent(critic_loss='td', critic_final_init=0.0), 'mc': lively(1)}
    paths = {'gcbc': folder / 'gcbc.safetensors', **{
        name: folder / f'{name}.safetensors' for name in agents}}
    for name, agent in agents.items():
        write_checkpoint(paths[name], agent=agent)
    write_checkpoint(paths['gcbc'], 'gcbc')
    return {name: str(path) for name, path in paths.items()}


def test_every_figure_comes_with_its_numbers(tmp_path, checkpoints):
    done = []
    summary = analyse(tmp_path, [f'td={checkpoints["td"]}', checkpoints['gcbc']], episodes=3,
                      workers=1, vae_steps=2, progress=lambda what, step, total: done.append(what))
    for name in FIGURES:
        assert (tmp_path / f'{name}.png').read_bytes().startswith(PNG)
        numbers = json.loads((tmp_path / f'{name}.json').read_text())
        assert numbers['seed'] == 0 and f'## {name}' in summary
    every = json.loads((tmp_path / 'analysis.json').read_text())
    assert every['checkpoints'].keys() == {'td', 'gcbc'}
    assert every['matching']['policies'].keys() == {'td', 'gcbc'}
    assert every['matching']['critics'].keys() == {'td'}
    assert every['negatives']['checkpoints']['td']['importance']['by_object']
    assert every['interpolation']['representations'].keys() == {'td', 'VAE', 'pixels'}
    assert set(done) == {'demonstrations', 'more of them', 'VAE', 'td', 'gcbc'}
    assert 'Without gcbc: it needs a contrastive critic.' in summary


def test_the_same_seed_gives_the_same_numbers_with_any_number_of_workers(tmp_path, checkpoints):
    for name, workers in (('a', 1), ('b', 2)):
        analyse(tmp_path / name, [checkpoints['mc']], episodes=6, figures=['negatives'],
                workers=workers, seed=4)
    first, second = ((tmp_path / name / 'negatives.json').read_text() for name in 'ab')
    assert first == second


def test_the_vae_learns_from_a_recorded_dataset_where_one_is_given(tmp_path, checkpoints):
    dots = write_dots(tmp_path / 'dots', episodes=2, steps=12)
    analyse(tmp_path / 'out', [checkpoints['mc']], episodes=2, figures=['interpolation'],
            workers=1, vae_steps=1, dataset=str(dots.path))
    numbers = json.loads((tmp_path / 'out' / 'interpolation.json').read_text())
    assert numbers['vae']['VAE']['frames'] == 2 * 13
    assert numbers['vae']['VAE']['latent'] == 16


def test_a_figure_nobody_can_make_is_refused_with_the_reason(tmp_path, checkpoints):
    with pytest.raises(AnalyseError, match='interpolation needs a contrastive critic.*gcbc'):
        analyse(tmp_path / 'none', [checkpoints['gcbc']], figures=['interpolation'])
    assert not (tmp_path / 'none').exists()


@pytest.mark.parametrize('wrong, message', [
    ({'figures': ['colours']}, 'choose from interpolation'), ({'episodes': 1}, 'episodes >= 2'),
    ({'workers': 0}, 'workers >= 1'), ({'vae_steps': 0}, 'VAE steps >= 1')])
def test_senseless_requests_are_refused_before_any_work(tmp_path, wrong, message):
    with pytest.raises(AnalyseError, match=message):
        analyse(tmp_path / 'none', **wrong)
    assert not (tmp_path / 'none').exists()


def test_a_file_that_is_no_checkpoint_leaves_no_folder(tmp_path, capsys):
    rubbish, out = tmp_path / 'rubbish', tmp_path / 'an1'
    rubbish.write_text('rubbish')
    assert main(['analyse', str(out), '--checkpoint', str(rubbish)]) == 2
    assert 'rubbish' in capsys.readouterr().err
    assert not out.exists()


def test_checkpoints_of_one_algorithm_are_told_apart(checkpoints):
    with pytest.raises(CheckpointError, match='LABEL=FILE'):
        load_all([checkpoints['td'], checkpoints['mc']])
    labels = [one.label for one in load_all([f'first={checkpoints["td"]}', checkpoints['mc'],
                                             checkpoints['gcbc']])]
    assert labels[0] == 'first' and labels[1].startswith('stable_crl ') and labels[2] == 'gcbc'
    with pytest.raises(CheckpointError, match='twice'):
        load_all([checkpoints['td'], f'again={checkpoints["td"]}'])


def test_the_command_names_a_task_that_does_not_exist(tmp_path, capsys):
    assert main(['analyse', str(tmp_path / 'out'), '--task', 'juggle']) == 2
    assert 'juggle' in capsys.readouterr().err


def test_the_command_offers_every_figure():
    assert OFFERED == FIGURES
