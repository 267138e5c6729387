"""Evaluation beside training, the best checkpoint, and which checkpoints are kept."""

from functools import partial
import os
from pathlib import Path
import shutil
import signal
import subprocess
import sys
import time

import evaluators
from evaluators import Scripted
from learning_samples import OVERRIDES
import pytest
from stable_crl_ros.checkpoint import load_checkpoint
from stable_crl_ros.crl.periodic import PeriodicEvaluation
from stable_crl_ros.crl.run_folder import TrainError
from stable_crl_ros.crl.run_log import read_metrics
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
import torch


@pytest.fixture
def short(short):
    """Give the function that trains briefly, keeping as few checkpoints as can be."""
    return partial(short, keep_last=1)


def step_of(path):
    return load_checkpoint(path).metadata['step']


def kept(folder):
    return [int(path.stem.removeprefix('step_')) for path in sorted(folder.glob('step_*'))]


def evaluations(folder):
    return {int(row['step']): float(row['success'])
            for row in read_metrics(folder / 'evaluations.csv')}


def test_the_best_by_held_out_error_is_kept(short, tmp_path):
    run = tmp_path / 'run'
    short(steps=40, validation_episodes=[1, 3], overrides={**OVERRIDES, 'learning_rate': 3e-2})
    errors = {int(row['step']): float(row['validation/squared_error'])
              for row in read_metrics(run / 'metrics.csv')}
    best = min(errors, key=errors.get)
    assert step_of(run / 'best.safetensors') == best
    assert kept(run) == sorted({best, 40})
    found = load_checkpoint(run / 'best.safetensors').metadata
    assert found['best_rule'] == 'the smallest validation/squared_error of the saved checkpoints'
    assert found['metrics']['validation/squared_error'] == pytest.approx(errors[best])


def test_held_out_error_is_measured_at_the_checkpoint_itself(short, tmp_path):
    short(steps=6, validation_episodes=[1], log_every=4, overrides=OVERRIDES)
    short(out_dir=tmp_path / 'often', steps=6, validation_episodes=[1], log_every=1)
    name = 'validation/squared_error'
    measured = load_checkpoint(tmp_path / 'run' / 'latest.safetensors').metadata['metrics'][name]
    last = read_metrics(tmp_path / 'often' / 'metrics.csv')[-1]
    assert measured == pytest.approx(float(last[name]))


def test_nothing_held_out_and_nothing_evaluated_gives_no_best(short, tmp_path):
    latest = short()
    assert not (tmp_path / 'run' / 'best.safetensors').exists()
    assert load_checkpoint(latest).metadata['best_rule'].startswith('there is none')


def test_resumed_run_finds_the_same_best(short, tmp_path):
    settings = {'validation_episodes': [1, 3], 'overrides': {**OVERRIDES, 'learning_rate': 3e-2}}
    whole = short(out_dir=tmp_path / 'whole', steps=24, **settings).with_name('best.safetensors')
    for steps in (6, 14, 24):
        resumed = short(steps=steps, resume=steps > 6, **settings)
    assert step_of(resumed.with_name('best.safetensors')) == step_of(whole)
    assert kept(resumed.parent) == kept(whole.parent)


def test_a_best_that_a_kill_prevented_is_made_up_for(short, tmp_path):
    settings = {'validation_episodes': [1, 3], 'overrides': {**OVERRIDES, 'learning_rate': 3e-2}}
    best = short(steps=2, **settings).with_name('best.safetensors')
    best.unlink()  # as if killed before it was linked
    short(steps=2, resume=True, **settings)
    assert step_of(best) == 2


def test_checkpoints_are_scored_while_training_goes_on(short, tmp_path):
    run, asked = tmp_path / 'run', tmp_path / 'asked'
    short(evaluate_every=3, evaluator=Scripted(asked, {3: 0.9, 6: 0.2}))
    assert asked.read_text().split() == ['step_000003', 'step_000006']
    assert evaluations(run) == {3: 0.9, 6: 0.2}
    assert step_of(run / 'best.safetensors') == 3
    assert kept(run) == [3, 6]
    assert "highest 'success'" in load_checkpoint(run / 'latest.safetensors').metadata['best_rule']
    shown = EventAccumulator(str(run / 'tensorboard')).Reload()
    assert [(event.step, event.value) for event in shown.Scalars('evaluation/success')] == [
        (3, pytest.approx(0.9)), (6, pytest.approx(0.2))]


def test_evaluation_changes_nothing_that_is_learned(short, tmp_path):
    paths = [short(out_dir=tmp_path / 'plain'),
             short(evaluate_every=2, evaluator=Scripted(tmp_path / 'asked'))]
    first, second = (load_checkpoint(path).tensors for path in paths)
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_equal_success_is_decided_by_the_error(short, tmp_path):
    short(evaluate_every=2, evaluator=Scripted(tmp_path / 'asked'))  # error 1 / step
    assert step_of(tmp_path / 'run' / 'best.safetensors') == 6


def test_slow_evaluation_skips_checkpoints_but_never_the_last(short, tmp_path, capsys):
    run, asked = tmp_path / 'run', tmp_path / 'asked'
    short(steps=20, evaluate_every=2, evaluator=Scripted(asked, seconds=3.0), progress=True)
    steps = sorted(evaluations(run))
    assert steps[0] == 2 and steps[-1] == 20 and len(steps) < 10
    said = capsys.readouterr().err
    assert 'is not evaluated: step 2 still is' in said
    assert 'waiting for the evaluation of step' in said


@pytest.mark.parametrize(('evaluator', 'reason'), [
    (evaluators.broken, 'RuntimeError: no simulator here'),
    (evaluators.silent, "it gave no 'success' but {'reward': 1.0}"),
    (evaluators.dying, 'its process ended with status -9')])
def test_failed_evaluation_is_told_and_training_goes_on(short, tmp_path, capsys, evaluator,
                                                        reason):
    latest = short(steps=2, evaluate_every=2, evaluator=evaluator)
    assert step_of(latest) == 2
    assert f'warning: the evaluation of step 2 failed: {reason}' in capsys.readouterr().err
    assert evaluations(tmp_path / 'run') == {}


def test_scores_that_mean_nothing_are_left_out_and_training_goes_on(short, tmp_path, capsys):
    run = tmp_path / 'run'
    for steps in (2, 4):  # one by one, so that neither is skipped
        short(steps=steps, resume=steps > 2, evaluate_every=2, evaluator=evaluators.strange)
    assert read_metrics(run / 'evaluations.csv') == [
        {'step': '2', 'success': '0.5', 'error': ''},
        {'step': '4', 'success': '0.5', 'error': '1.0'}]
    assert step_of(run / 'best.safetensors') == 4  # an error that is known decides
    assert ("warning: the evaluation of step 2 gave 'step' of nan, 'error' of nan, which is left "
            'out') in capsys.readouterr().err


def test_evaluator_that_no_process_can_take_is_refused(short):
    with pytest.raises(TrainError, match='cannot be sent to another process'):
        short(evaluate_every=2, evaluator=lambda path: {})


def test_half_of_what_evaluation_needs_is_refused(short, tmp_path):
    with pytest.raises(TrainError, match='evaluating while training needs both'):
        short(evaluate_every=2)
    with pytest.raises(TrainError, match='evaluating while training needs both'):
        short(evaluator=Scripted(tmp_path / 'asked'))


def test_results_survive_a_resume_and_what_was_missed_is_repeated(short, tmp_path):
    run, asked = tmp_path / 'run', tmp_path / 'asked'
    settings = {'evaluate_every': 2, 'evaluator': Scripted(asked, {2: 0.9})}
    short(steps=2, **settings)
    short(steps=4, evaluate_every=None, resume=True)  # step 4 is due, and was cut off
    short(steps=6, resume=True, **settings)
    assert evaluations(run) == {2: 0.9, 4: 0.5, 6: 0.5}
    assert step_of(run / 'best.safetensors') == 2
    assert kept(run) == [2, 6]


def start(dots, out_dir, asked, seconds):
    script = ('import sys; from pathlib import Path; sys.path.insert(0, sys.argv[4])\n'
              'from evaluators import Scripted\n'
              'from learning_samples import OVERRIDES\n'
              'from stable_crl_ros.crl.train import train\n'
              'train([sys.argv[1]], sys.argv[2], overrides=OVERRIDES, steps=10**6, threads=1,\n'
              '      device="cpu", save_every=2, evaluate_every=2, progress=True,\n'
              f'      evaluator=Scripted(Path(sys.argv[3]), seconds={seconds}))\n')
    return subprocess.Popen([sys.executable, '-c', script, dots, out_dir, asked,
                             Path(__file__).parent], stderr=subprocess.PIPE, text=True)


def wait_for(condition, timeout_s=60.0):
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def evaluating(out_dir):
    """List the processes that hold the name of a run's evaluation."""
    found = []
    for path in Path('/proc').glob('[0-9]*/environ'):
        try:
            words = path.read_bytes()
        except OSError:
            continue
        if f'RUN_UNDER_TEST={out_dir}'.encode() in words.split(b'\0'):
            found.append(int(path.parent.name))
    return found


@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGKILL])
def test_no_evaluation_outlives_its_training(dots, tmp_path, monkeypatch, number):
    out_dir, asked = tmp_path / 'run', tmp_path / 'asked'
    monkeypatch.setenv('RUN_UNDER_TEST', str(out_dir))
    process = start(dots, out_dir, asked, seconds=600)
    wait_for(asked.exists)
    process.send_signal(number)
    said = process.communicate(timeout=60)[1]
    assert 'abandoned; resuming repeats it' in said or number == signal.SIGKILL
    wait_for(lambda: set(evaluating(out_dir)) <= {os.getpid()})


def test_needed_checkpoint_is_not_deleted_under_an_evaluation(tmp_path):
    said = []
    evaluation = PeriodicEvaluation(Scripted(tmp_path / 'asked', seconds=0.5),
                                    lambda text, warning=False: said.append(text))
    for step in (1, 2, 3):
        path = tmp_path / f'step_{step}'
        path.write_text('weights')
        evaluation.submit(step, path)
    assert evaluation.steps == {1, 3}
    results = dict(evaluation.finish(lambda: False))
    evaluation.close()
    assert list(results) == [1, 3] and evaluation.steps == set()
    assert [text for text in said if 'step 2 is not evaluated: step 1 still is' in text]


def test_links_become_copies_where_a_file_system_has_none(short, tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError('no hard links here')
    monkeypatch.setattr(os, 'link', refuse)
    latest = short(validation_episodes=[1])
    assert step_of(latest.with_name('best.safetensors')) in (2, 4, 6)
    shutil.rmtree(tmp_path / 'run')
