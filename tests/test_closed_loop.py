"""Checkpoints scored in the simulator while they are trained, from the command line."""

from learning_samples import SMALL, SMALL_CRITIC
import pytest
from stable_crl_ros.cli import main
from stable_crl_ros.closed_loop import ClosedLoop
from stable_crl_ros.crl.run_log import read_metrics
from stable_crl_ros.evaluation import EvaluationError

SETTINGS = [f'{name}={str(value).replace(" ", "")}' for name, value in
            {**SMALL, **SMALL_CRITIC}.items() if name != 'steps']


@pytest.fixture(scope='module')
def dataset(tmp_path_factory):
    path = tmp_path_factory.mktemp('data') / 'drawer'
    assert main(['collect', str(path), 'open_drawer=3', '--workers', '1', '--image-size',
                 '16']) == 0
    return path


def run(*words):
    return main([str(word) for word in words])


def test_training_with_evaluation_in_the_simulator(dataset, tmp_path, capsys):
    out = tmp_path / 'run'
    status = run('train', dataset, '--out', out, '--steps', 4, '--threads', 1, '--set', *SETTINGS,
                 '--log-every', 2, '--keep-last', 1, '--validation-fraction', 0.4,
                 '--evaluate-every', 4, '--evaluate-task', 'open_drawer', 'close_drawer',
                 '--evaluate-episodes', 2, '--evaluate-workers', 2)
    captured = capsys.readouterr()
    assert status == 0, captured.err
    assert captured.out.splitlines() == [f'trained: {out / "latest.safetensors"}',
                                         f'best: {out / "best.safetensors"}']
    (row,) = read_metrics(out / 'evaluations.csv')
    assert row['step'] == '4'
    tasks = [float(row[f'{task}/success']) for task in ('open_drawer', 'close_drawer')]
    assert float(row['success']) == pytest.approx(sum(tasks) / 2)
    assert 0.0 < float(row['error']) < 1.0
    assert [int(found['step']) for found in read_metrics(out / 'metrics.csv')] == [2, 4]


def test_the_same_checkpoint_scores_the_same(dataset, tmp_path):
    out = tmp_path / 'run'
    assert run('train', dataset, '--out', out, '--steps', 1, '--threads', 1, '--quiet', '--set',
               *SETTINGS) == 0
    scorer = ClosedLoop(('open_drawer',), episodes=1)
    path = out / 'latest.safetensors'
    assert scorer(path) == scorer(path)


@pytest.mark.parametrize(('settings', 'reason'), [
    ({'tasks': ('open_drawer', 'fly')}, r"unknown task 'fly'; choose some of \['close_drawer'"),
    ({'tasks': ()}, r'unknown task \(none\)'),
    ({'tasks': ('open_drawer',), 'episodes': 0}, 'episodes >= 1')])
def test_what_cannot_be_evaluated_is_refused_at_once(settings, reason):
    with pytest.raises(EvaluationError, match=reason):
        ClosedLoop(**settings)


@pytest.mark.parametrize(('words', 'reason'), [
    (['--evaluate-every', 5], 'evaluating while training needs both'),
    (['--evaluate-task', 'open_drawer'], 'evaluating while training needs both'),
    (['--evaluate-every', 5, '--evaluate-task', 'fly'], "unknown task 'fly'"),
    (['--validation-fraction', 2], 'validation_fraction must lie in 0 .. 1'),
    (['--transitions', 3], 'its first episode alone has'),
    (['--keep-last', 0, '--log-every', 0], 'log_every is 0, keep_last is 0; give 1 or more')])
def test_wrong_options_are_refused_in_one_line(dataset, tmp_path, capsys, words, reason):
    assert run('train', dataset, '--out', tmp_path / 'run', *words, '--set', *SETTINGS) == 2
    said = capsys.readouterr().err
    assert reason in said and said.count('\n') == 1


def test_transitions_limits_the_data_to_the_first_episodes(dataset, tmp_path, capsys):
    out = tmp_path / 'run'
    assert run('train', dataset, '--out', out, '--steps', 1, '--transitions', 110, '--threads', 1,
               '--validation-fraction', 0, '--quiet', '--set', *SETTINGS) == 0
    capsys.readouterr()
    assert run('checkpoint', 'show', out / 'latest.safetensors') == 0
    assert 'transitions: 100\n' in capsys.readouterr().out
