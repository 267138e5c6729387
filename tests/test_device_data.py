"""Sampling on a device: the same batches in distribution as on the host, kept apart, resumable."""

import dataclasses
import json

from learning_samples import SIZE, small_agent, write_dots
import numpy as np
import pytest
from stable_crl_ros.crl.device_data import DeviceSampler, fits, make_sampler, MEMORY_SHARE
from stable_crl_ros.crl.draws import BatchGenerator, randint, randn
from stable_crl_ros.data.cache_build import build_cache
from stable_crl_ros.data.sampling import BatchSampler, GoalMixture, IMAGES, MARKS
from stable_crl_ros.images import ImageSpec
import torch

EVERYTHING = {'images': IMAGES, 'value_goal': GoalMixture(), 'waypoint_steps': 3}


@pytest.fixture(scope='module')
def cache(tmp_path_factory):
    return build_cache(write_dots(tmp_path_factory.mktemp('dots') / 'dots'),
                       ImageSpec(SIZE, SIZE))


def on_cpu(cache, batch_size=64, seed=0, **asked):
    return DeviceSampler(cache, batch_size, seed, 0.9, device='cpu', **asked)


def test_images_and_actions_are_those_of_the_indices(cache):
    batch = on_cpu(cache, **EVERYTHING).sample()
    indices = on_cpu(cache, **EVERYTHING).sample_indices()
    for name in IMAGES:
        assert batch[name].dtype == torch.uint8
        np.testing.assert_array_equal(batch[name], cache.observations[indices[name]])
    np.testing.assert_array_equal(batch['actions'], cache.actions[indices['transitions']])
    assert all(torch.equal(batch[name], indices[name]) for name in MARKS)


def test_goals_that_are_the_same_frames_are_the_same_tensor(cache):
    batch = on_cpu(cache).sample()
    assert batch['critic_goals'] is batch['actor_goals']
    assert batch['next_observations'] is not batch['observations']


@pytest.mark.parametrize(('actor_goal', 'share'), [
    ('geometric', 0.0), ('uniform', 0.0), ('later', 0.0), ('soon', 0.0), ('uniform', 0.4),
    ('geometric', 1.0)])
def test_goals_are_distributed_as_on_the_host(cache, actor_goal, share):
    asked = {**EVERYTHING, 'actor_goal': actor_goal, 'actor_goal_horizon': 7,
             'actor_goal_random': share}
    found = on_cpu(cache, 60000, **asked).sample_indices()
    expected = BatchSampler(cache, 60000, 1, 0.9, **asked).sample_indices()
    assert found.keys() == expected.keys()
    for name in ('actor_goals', 'critic_goals', 'value_goals', 'waypoints', 'next_observations'):
        ahead, wanted = (np.asarray(each[name]) - np.asarray(each['observations'])
                         for each in (found, expected))
        values = np.union1d(ahead, wanted)
        shares = [np.array([(each == value).mean() for value in values])
                  for each in (ahead, wanted)]
        np.testing.assert_allclose(*shares, atol=0.012)  # four standard deviations and more
    for name in MARKS:
        assert found[name].float().mean() == pytest.approx(expected[name].mean(), abs=0.01)


def test_futures_stay_within_the_episode(cache):
    sampler = on_cpu(cache, 5000)
    indices = sampler.sample_indices()
    ends = torch.as_tensor(cache.ends)[indices['transitions']]
    assert (indices['actor_goals'] > indices['observations']).all()
    assert (indices['actor_goals'] <= ends).all()


def test_held_out_episodes_are_never_drawn(cache):
    training, held_out = cache.split([0])
    indices = on_cpu(training, 5000, **EVERYTHING).sample_indices()
    frames = np.unique(np.concatenate([indices[name] for name in IMAGES]))
    assert not np.isin(frames, np.union1d(held_out.frames, held_out.frames + 1)).any()


def test_what_is_drawn_and_what_the_learner_draws_are_not_the_same_numbers(cache):
    drawn = on_cpu(cache, seed=3)._random(8)
    learners = torch.rand(8, generator=small_agent(seed=3).generator, dtype=torch.float64)
    assert not np.isclose(drawn, learners).any()


def test_continues_exactly_from_its_state_through_json(cache):
    sampler = on_cpu(cache)
    sampler.sample()
    state = json.loads(json.dumps(sampler.state_dict()))
    expected = sampler.sample()
    restored = on_cpu(cache, seed=5)
    restored.load_state_dict(state)
    assert all(map(torch.equal, restored.sample().values(), expected.values()))


def test_a_run_may_go_on_with_another_kind_of_sampler(cache):
    host, device = BatchSampler(cache, 8, 0, 0.9), on_cpu(cache, 8)
    for one, other in ((host, device), (device, host)):
        state = one.state_dict()
        other.load_state_dict(state)
        first = np.asarray(other.sample_indices()['transitions'])
        other.load_state_dict(state)
        assert np.array_equal(first, other.sample_indices()['transitions'])


def test_rows_are_a_part_of_the_same_batch(cache):
    whole, parts = on_cpu(cache).sample(), []
    for rows in (slice(0, 32), slice(32, 64)):
        sampler = on_cpu(cache)
        sampler.rows = rows
        parts.append(sampler.sample())
        assert parts[-1]['critic_goals'] is parts[-1]['actor_goals']
    for name in whole:
        assert torch.equal(whole[name], torch.cat([part[name] for part in parts])), name


def test_frames_go_to_a_device_that_has_room_for_them(cache):
    size = cache.observations.nbytes
    assert fits(cache, int(size / MEMORY_SHARE) + 1)
    assert not fits(cache, int(size / MEMORY_SHARE) - 1)
    assert type(make_sampler(cache, 8, 0, 0.9, 'cpu')) is BatchSampler  # the map is memory there


@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a GPU')
def test_a_gpu_draws_gathers_and_learns_without_the_host(cache):
    sampler = make_sampler(cache, 8, 0, 0.9, 'cuda')
    assert sampler.sample()['observations'].is_cuda
    sampler.cache = dataclasses.replace(cache, observations=None)
    sampler.sample()


@pytest.mark.parametrize('algorithm', ['stable_crl', 'gcbc', 'gciql', 'hiql'])
def test_learners_take_tensors_as_they_take_arrays(cache, algorithm):
    agents = [small_agent(algorithm) for _ in range(2)]
    batch = on_cpu(cache, 8, **agents[0].sampling(agents[0].config)).sample()
    arrays = {id(values): values.numpy() for values in batch.values()}
    first = agents[0].update(batch)
    assert first == agents[1].update({name: arrays[id(batch[name])] for name in batch})


def test_draws_of_all_ranks_are_the_rows_of_one():
    def drawn(rank, ranks):
        generator = BatchGenerator()
        generator.seed_all(3)
        generator.rank, generator.ranks = rank, ranks
        return (randn((4 // ranks, 3), generator),
                randint(0, 100, (2, 4 // ranks, 1), generator, axis=1))
    whole, first, second = drawn(0, 1), drawn(0, 2), drawn(1, 2)
    assert torch.equal(whole[0], torch.cat([first[0], second[0]]))
    assert torch.equal(whole[1], torch.cat([first[1], second[1]], 1))
