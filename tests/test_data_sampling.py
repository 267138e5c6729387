"""Goal sampling: the exact distribution, never across an episode's end, exactly resumable."""

import json

from data_samples import record
import numpy as np
import pytest
from stable_crl_ros.data.cache import build_cache
from stable_crl_ros.data.dataset import Dataset
from stable_crl_ros.data.sampling import (
    BatchSampler,
    sample_future,
    sample_random,
    sample_uniform_future,
    SamplingError,
)
from stable_crl_ros.images import ImageSpec

DRAWS = 40_000


def chi_square(counts, probabilities):
    """Return how many standard deviations the statistic lies above its mean."""
    expected = probabilities * counts.sum()
    keep = expected > 5
    observed = np.append(counts[keep], counts[~keep].sum())
    expected = np.append(expected[keep], expected[~keep].sum())
    observed, expected = observed[expected > 0], expected[expected > 0]
    freedom = len(expected) - 1
    statistic = ((observed - expected) ** 2 / expected).sum()
    return (statistic - freedom) / np.sqrt(2 * freedom)


def exact(discount, choices):
    """Write the truncated geometric distribution out, term by term."""
    weights = np.array([discount ** k for k in range(choices)])
    return weights / weights.sum()


def draw(discount, choices, seed=0):
    t = np.full(DRAWS, 11)
    goals = sample_future(t, t + choices, discount, np.random.default_rng(seed))
    assert goals.min() >= 12
    assert goals.max() <= 11 + choices
    return np.bincount(goals - 12, minlength=choices)


@pytest.mark.parametrize('choices', [2, 3, 10, 49, 400])
@pytest.mark.parametrize('discount', [0.5, 0.9, 0.99, 0.99999])
def test_goals_follow_the_truncated_geometric_distribution(discount, choices):
    assert chi_square(draw(discount, choices), exact(discount, choices)) < 4.5


@pytest.mark.parametrize('wrong', [0.88, 0.92])
def test_the_same_check_tells_a_slightly_wrong_discount(wrong):
    assert chi_square(draw(0.9, 30), exact(wrong, 30)) > 10


def test_the_last_step_of_an_episode_has_one_goal():
    goals = sample_future(np.array([4, 9]), np.array([5, 10]), 0.99, np.random.default_rng(0))
    assert goals.tolist() == [5, 10]


@pytest.mark.parametrize('discount', [1e-12, 1 - 1e-12])
def test_extreme_discounts_stay_inside_the_episode(discount):
    counts = draw(discount, 20)
    if discount < 0.5:
        assert counts[0] == DRAWS
    else:
        assert chi_square(counts, np.full(20, 1 / 20)) < 4.5


@pytest.mark.parametrize('discount', [0.0, 1.0, -0.1, 1.1, float('nan')])
def test_rejects_a_discount_outside_the_open_unit_interval(discount):
    with pytest.raises(SamplingError, match='discount'):
        sample_future(np.zeros(1, int), np.array([2]), discount, np.random.default_rng(0))


@pytest.mark.parametrize('end', [3, 2])
def test_rejects_a_frame_without_a_future(end):
    rng = np.random.default_rng(0)
    t, ends = np.array([0, 3]), np.array([5, end])
    with pytest.raises(SamplingError, match='frame 3'):
        sample_future(t, ends, 0.9, rng)
    with pytest.raises(SamplingError, match='frame 3'):
        sample_uniform_future(t, ends, rng)


def test_uniform_goals_are_uniform_over_the_future():
    t = np.full(DRAWS, 3)
    goals = sample_uniform_future(t, t + 17, np.random.default_rng(1))
    assert chi_square(np.bincount(goals - 4, minlength=17), np.full(17, 1 / 17)) < 4.5


def test_random_goals_are_outcomes_of_the_given_transitions():
    frames = np.array([0, 1, 2, 10, 11])
    goals = sample_random(frames, DRAWS, np.random.default_rng(2))
    counts = np.bincount(goals, minlength=13)[frames + 1]
    assert counts.sum() == DRAWS
    assert chi_square(counts, np.full(5, 1 / 5)) < 4.5


@pytest.fixture(scope='module')
def cache(tmp_path_factory):
    dataset = Dataset(tmp_path_factory.mktemp('sampling') / 'dataset', create=True)
    for steps in (1, 2, 5, 30, 12):
        record(dataset, steps=steps)
    return build_cache(dataset, ImageSpec(12, 16))


@pytest.mark.parametrize('actor_goal', ['geometric', 'uniform'])
def test_no_batch_reaches_across_an_episode(cache, actor_goal):
    sampler = BatchSampler(cache, 512, discount=0.99, actor_goal=actor_goal)
    episode_of_frame = np.repeat(np.arange(5), [2, 3, 6, 31, 13])
    seen = set()
    for _ in range(40):
        indices = sampler.sample_indices()
        episode = episode_of_frame[indices['observations']]
        for name in ('actor_goals', 'critic_goals'):
            assert (episode_of_frame[indices[name]] == episode).all()
            assert (indices[name] > indices['observations']).all()
        assert (episode_of_frame[indices['observations'] + 1] == episode).all()
        seen |= set(indices['transitions'].tolist())
    assert seen == set(range(50))  # every transition is drawn, the last of an episode too


def test_transitions_are_drawn_uniformly(cache):
    sampler = BatchSampler(cache, DRAWS, seed=3)
    counts = np.bincount(sampler.sample_indices()['transitions'], minlength=50)
    assert chi_square(counts, np.full(50, 1 / 50)) < 4.5


def test_geometric_goals_of_a_batch_follow_the_distribution(cache):
    indices = BatchSampler(cache, 20 * DRAWS, seed=4, discount=0.9).sample_indices()
    first = cache.frames[8]  # first step of the episode of 30
    drawn = indices['actor_goals'][indices['observations'] == first]
    counts = np.bincount(drawn - first - 1, minlength=30)
    assert chi_square(counts, exact(0.9, 30)) < 4.5
    np.testing.assert_array_equal(indices['actor_goals'], indices['critic_goals'])


@pytest.mark.parametrize('actor_goal', ['geometric', 'uniform', 'random'])
@pytest.mark.parametrize('critic_goal', ['geometric', 'next'])
def test_a_batch_holds_what_its_indices_say(cache, actor_goal, critic_goal):
    options = {'seed': 5, 'actor_goal': actor_goal, 'critic_goal': critic_goal}
    batch = BatchSampler(cache, 32, **options).sample()
    indices = BatchSampler(cache, 32, **options).sample_indices()
    assert set(batch) == {'observations', 'next_observations', 'actions', 'actor_goals',
                          'critic_goals'}
    for name, frames in (('observations', indices['observations']),
                         ('next_observations', indices['observations'] + 1),
                         ('actor_goals', indices['actor_goals']),
                         ('critic_goals', indices['critic_goals'])):
        expected = np.stack([cache.observations[frame] for frame in frames])
        np.testing.assert_array_equal(batch[name], expected)
        assert batch[name].flags.c_contiguous
        assert batch[name].dtype == np.uint8
    np.testing.assert_array_equal(batch['actions'], cache.actions[indices['transitions']])
    if critic_goal == 'next':
        np.testing.assert_array_equal(indices['critic_goals'], indices['observations'] + 1)


def assert_same_batch(one, other):
    for name in one:
        np.testing.assert_array_equal(one[name], other[name])


def test_resumes_exactly_from_a_state_that_went_through_json(cache):
    sampler = BatchSampler(cache, 16, seed=6)
    for _ in range(3):
        sampler.sample()
    state = json.loads(json.dumps(sampler.state_dict()))
    following = [sampler.sample() for _ in range(3)]
    resumed = BatchSampler(cache, 16, seed=0)
    resumed.load_state_dict(state)
    for batch in following:
        assert_same_batch(resumed.sample(), batch)


def test_another_seed_draws_other_batches(cache):
    one = BatchSampler(cache, 16, seed=0).sample_indices()['transitions']
    other = BatchSampler(cache, 16, seed=1).sample_indices()['transitions']
    assert (one != other).any()


@pytest.mark.parametrize(('options', 'message'), [
    ({'discount': 1.0}, 'discount'),
    ({'actor_goal': 'next'}, r"choose one of \['geometric', 'uniform', 'random'\]"),
    ({'critic_goal': 'best'}, r"choose one of \['geometric', 'next'\]"),
    ({'batch_size': 0}, 'cannot draw 0'),
])
def test_rejects_options_out_of_range(cache, options, message):
    with pytest.raises(SamplingError, match=message):
        BatchSampler(cache, **options)
