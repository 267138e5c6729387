"""Scores and intervals: closed forms, tables, refusals."""

import numpy as np
import pytest
from stable_crl_ros.evaluation import (
    closed_loop_table,
    evaluate,
    EvaluationError,
    open_loop_scores,
    open_loop_table,
    Score,
    short_name,
    Trial,
    trial_seed,
    wilson_interval,
)


def test_wilson_interval_solves_its_defining_quadratic():
    z = 1.959964
    for successes, trials in [(1, 10), (7, 10), (95, 100), (50, 100)]:
        rate = successes / trials
        for bound in wilson_interval(successes, trials):
            assert (rate - bound) ** 2 == pytest.approx(z * z * bound * (1 - bound) / trials)


@pytest.mark.parametrize('trials', [1, 20, 100])
def test_wilson_interval_touches_the_ends_when_all_trials_agree(trials):
    assert wilson_interval(0, trials)[0] == 0.0
    assert wilson_interval(trials, trials)[1] == 1.0
    assert 0.0 < wilson_interval(0, trials)[1] < 1.0


@pytest.mark.parametrize(('successes', 'trials'), [(0, 0), (3, 2), (-1, 5)])
def test_wilson_interval_refuses_what_is_no_proportion(successes, trials):
    with pytest.raises(EvaluationError, match='proportion'):
        wilson_interval(successes, trials)


def test_success_is_judged_at_the_last_step_only():
    passed_by = Trial('open_drawer', 0, error=0.03, best_error=0.001, start_error=0.1, steps=50)
    stayed = Trial('open_drawer', 1, error=0.009, best_error=0.009, start_error=0.1, steps=50)
    score = Score('policy', 'open_drawer', [passed_by, stayed])
    assert score.successes(0.01) == 1
    table = closed_loop_table([score])
    assert '50 % [9, 91]' in table
    assert '19.5 mm' in table


def test_evaluation_seeds_are_distinct_and_reproducible():
    seeds = [trial_seed(seed, episode) for seed in range(3) for episode in range(100)]
    assert len(set(seeds)) == len(seeds)
    assert seeds[5] == trial_seed(0, 5)


def test_mean_action_scores_one_on_the_data_it_is_the_mean_of():
    actions = np.random.default_rng(0).normal(size=(500, 7)) * np.arange(1, 8)
    perfect, mean = open_loop_scores(
        {'perfect': actions, 'mean': np.broadcast_to(actions.mean(0), actions.shape)},
        actions, actions.std(0))
    assert perfect.normalised_error == 0.0
    assert mean.normalised_error == pytest.approx(1.0)
    assert '| mean | 500 | 1.00 |' in open_loop_table([mean])


def test_an_unknown_task_is_refused_with_the_known_ones():
    with pytest.raises(EvaluationError, match='open_drawer'):
        evaluate('none', 'fold_cloth')


@pytest.mark.parametrize('wrong', [{'episodes': 0}, {'workers': 0}, {'seed': -1}])
def test_counts_and_seeds_that_make_no_sense_are_refused(wrong):
    with pytest.raises(EvaluationError, match=next(iter(wrong))):
        evaluate('none', 'open_drawer', **wrong)


def test_checkpoints_of_two_runs_are_told_apart_in_the_tables():
    assert short_name('runs/bridge/latest.safetensors') == 'bridge/latest.safetensors'
    assert short_name('none') == 'none'


def test_the_blind_control_is_told_apart_however_deep_its_checkpoint_lies():
    trial = Trial('open_drawer', 0, error=0.0, best_error=0.0, start_error=0.1, steps=50)
    seeing, blind = '/a/b/run/latest.safetensors', 'blind:/a/b/run/latest.safetensors'
    table = closed_loop_table([Score(name, 'open_drawer', [trial]) for name in (seeing, blind)])
    assert '| run/latest.safetensors |' in table
    assert '| blind:run/latest.safetensors |' in table
