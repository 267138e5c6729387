"""Scores and intervals: closed forms, tables, refusals."""

from learning_samples import write_checkpoint, write_dots
import numpy as np
import pytest
from stable_crl_ros.evaluation import (
    closed_loop_table,
    evaluate,
    EvaluationError,
    make_actor,
    Score,
    short_name,
    Trial,
    trial_seed,
)
from stable_crl_ros.intervals import (
    IntervalError,
    seed_correlation,
    seeds_interval,
    wilson_interval,
)
from stable_crl_ros.open_loop import open_loop_scores, open_loop_table
from stable_crl_ros.policy import Policy


def trial(task='open_drawer', error=0.0, seed=0, **changes):
    values = {'success': error <= 0.01, 'success_loose': error <= 0.025, 'best_error': error,
              'start_error': 0.1, 'arm_error': 0.0, 'steps': 50}
    return Trial(task, seed, {'drawer': error}, **values | changes)


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
    with pytest.raises(IntervalError, match='proportion'):
        wilson_interval(successes, trials)


def test_success_is_judged_at_the_last_step_only():
    passed_by, stayed = trial(error=0.03, best_error=0.001), trial(error=0.009, seed=1)
    score = Score('policy', 'open_drawer', [passed_by, stayed])
    assert (score.successes(), score.successes(loose=True)) == (1, 1)
    table = closed_loop_table([score])
    assert '50 % [9, 91]' in table
    assert 'drawer 10 and 25 mm' in table
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


def test_an_unknown_appearance_is_refused_with_the_known_ones():
    with pytest.raises(EvaluationError, match="'nominal', 'seen', 'unseen'"):
        evaluate('none', 'open_drawer', appearance='dark')


@pytest.mark.parametrize('wrong', [{'episodes': 0}, {'workers': 0}, {'seed': -1}])
def test_counts_and_seeds_that_make_no_sense_are_refused(wrong):
    with pytest.raises(EvaluationError, match=next(iter(wrong))):
        evaluate('none', 'open_drawer', **wrong)


def test_checkpoints_of_two_runs_are_told_apart_in_the_tables():
    assert short_name('runs/bridge/latest.safetensors') == 'bridge/latest.safetensors'
    assert short_name('none') == 'none'


def test_the_blind_control_is_told_apart_however_deep_its_checkpoint_lies():
    seeing, blind = '/a/b/run/latest.safetensors', 'blind:/a/b/run/latest.safetensors'
    table = closed_loop_table([Score(name, 'open_drawer', [trial()]) for name in (seeing, blind)])
    assert '| run/latest.safetensors |' in table
    assert '| blind:run/latest.safetensors |' in table


def test_trials_of_few_seeds_are_worth_fewer_the_more_their_outcomes_resemble_each_other():
    alone = seeds_interval([50, 50, 50], [100, 100, 100], 0.0)
    np.testing.assert_allclose(alone, wilson_interval(150, 300))
    np.testing.assert_allclose(seeds_interval([30], [60], 0.0), wilson_interval(30, 60))
    # Kish's design effect: 1 + 99 * 0.05
    np.testing.assert_allclose(seeds_interval([20, 50, 80], [100, 100, 100], 0.05),
                               wilson_interval(150 / 5.95, 300 / 5.95))
    # Wholly alike, every seed is worth one trial.
    np.testing.assert_allclose(seeds_interval([9, 21], [30, 30], 1.0), wilson_interval(1, 2))


def test_seeds_weigh_alike_whatever_their_trials():
    low, high = seeds_interval([100, 0], [100, 10], 0.02)
    centre = (low + high) / 2
    assert centre == pytest.approx(0.5)


def test_seeds_that_agree_in_everything_still_get_an_interval():
    np.testing.assert_allclose(seeds_interval([100, 100], [100, 100], 0.0),
                               wilson_interval(200, 200))
    low, high = seeds_interval([0, 0, 0], [34, 34, 34], 0.05)
    assert low == 0.0
    assert high > wilson_interval(0, 102)[1]


@pytest.mark.parametrize(('args', 'message'), [
    (([1], [2, 3], 0.0), '1 counts of successes for 2'), (([1], [2], 1.5), 'in 0 .. 1, got 1.5'),
    (([], [], 0.0), 'one or more'), (([0, 0], [5, 0], 0.0), 'one or more'),
    (([6], [5], 0.0), 'not a proportion')])
def test_counts_without_an_interval_over_seeds_are_refused(args, message):
    with pytest.raises(IntervalError, match=message):
        seeds_interval(*args)


def trained(rng, rate, correlation, seeds, trials=34):
    """Draw successes of policies whose own rates scatter, so that outcomes correlate within."""
    if correlation == 0.0:
        return rng.binomial(trials, rate, seeds), [trials] * seeds
    pseudo = 1 / correlation - 1  # of the beta distribution of the policies' rates
    return rng.binomial(trials, rng.beta(rate * pseudo, (1 - rate) * pseudo, seeds)), \
        [trials] * seeds


@pytest.mark.parametrize('correlation', [0.0, 0.02, 0.1, 0.3])
def test_the_correlation_within_seeds_is_found_from_many_rows(correlation):
    rng = np.random.default_rng(0)
    rows = [trained(rng, rate, correlation, 3) for rate in rng.uniform(0.05, 0.95, 600)]
    assert seed_correlation(rows) == pytest.approx(correlation, abs=0.015 + 0.1 * correlation)
    rows += [([7], [10]), ([0, 0], [9, 9]), ([9, 9], [9, 9])]  # they tell nothing
    assert seed_correlation(rows) == seed_correlation(rows[:600])
    assert seed_correlation(rows[600:]) is None


@pytest.mark.parametrize('seeds', [1, 2, 3])
@pytest.mark.parametrize('correlation', [0.0, 0.03, 0.07, 0.15])
def test_intervals_over_seeds_hold_the_rate_as_often_as_they_say(correlation, seeds):
    """With the correlation estimated from rows like those of a suite, not known."""
    rng, held, count = np.random.default_rng(1), 0, 0
    for _ in range(40):
        known = [trained(rng, rate, correlation, 3) for rate in rng.uniform(0.1, 0.9, 30)]
        estimate = seed_correlation(known)
        for rate in rng.uniform(0.1, 0.9, 25):
            low, high = seeds_interval(*trained(rng, rate, correlation, seeds), estimate)
            held, count = held + (low <= rate <= high), count + 1
    assert held / count > 0.93, held / count


def test_trials_are_shared_evenly_by_several_policies_and_repeatable():
    first = evaluate(['none', 'constant'], 'open_drawer', 4, workers=1, steps=2)
    again = evaluate(['none', 'constant'], 'open_drawer', 4, workers=2, steps=2)
    assert first == again
    alone = evaluate('none', 'open_drawer', 4, workers=1, steps=2)
    assert first.trials[:2] == alone.trials[::2]


def test_replayed_data_moves_the_arm_as_recorded_whatever_the_goal(tmp_path):
    dataset = write_dots(tmp_path / 'dots', episodes=1, steps=3)
    act = make_actor(f'replay:{dataset.path}')(goal=None)
    acted = np.array([act(image=None) for _ in range(5)])
    recorded = np.asarray(dataset[dataset.ids[0]]['action'])
    np.testing.assert_array_equal(acted, recorded[[0, 1, 2, 2, 2]])


def test_sampled_actions_scatter_around_the_mode(tmp_path):
    path, image = tmp_path / 'policy.safetensors', np.zeros((48, 48, 3), np.uint8)
    write_checkpoint(path, 'gcbc')
    mode = make_actor(str(path))(image)(image)
    act = make_actor(str(path), sampled=True)(image)
    drawn = np.array([act(image) for _ in range(400)])
    scale = Policy.load(path).action_scale
    spread = scale.normalise(drawn)[:, :6] - scale.normalise(mode)[:6]
    np.testing.assert_allclose(spread.std(0), 0.15, rtol=0.2)
    np.testing.assert_allclose(spread.mean(0), 0.0, atol=0.03)
