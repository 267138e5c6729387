"""Scripted and played episodes of the analysis: true state, arm-only scenes, repeatability."""

from learning_samples import lively, SIZE, write_checkpoint
import numpy as np
import pytest
from stable_crl_ros.experiments.demonstrations import demonstrate_share, object_state
from stable_crl_ros.experiments.episodes import play_share
from stable_crl_ros.images import ImageSpec
from stable_crl_ros.sim.world import WorldState

SPEC = ImageSpec(SIZE, SIZE)


@pytest.fixture(scope='module')
def demonstrations():
    return demonstrate_share('open_drawer', 0, [0, 1], (SPEC,), True)


def test_a_demonstration_knows_the_true_opening_at_every_step(demonstrations):
    for one in demonstrations:
        assert one.success and one.objects.shape == (51, 1) and one.actions.shape == (50, 7)
        assert one.objects[-1] == pytest.approx(one.goal_objects, abs=0.01)
        assert one.objects[-1, 0] - one.objects[0, 0] > 0.02


def test_the_object_of_an_arm_only_trajectory_stays_exactly_where_it_was(demonstrations):
    for one in demonstrations:
        assert np.ptp(one.arm_only_objects, axis=0).max() == 0.0
        assert one.arm_only_objects[0] == pytest.approx(one.objects[0], abs=1e-9)


def test_arm_only_pictures_differ_from_the_episodes_only_once_the_object_moved(demonstrations):
    for one in demonstrations:
        still = np.abs(one.objects - one.objects[0]).max(1) < 1e-4
        differences = np.abs(one.images[SPEC].astype(int) - one.arm_only[SPEC]).max((1, 2, 3))
        assert differences[:np.argmin(still)].max() <= 8  # a closing finger's last fraction
        assert differences[-1] > 50


def test_the_arm_moves_in_the_arm_only_pictures(demonstrations):
    pictures = demonstrations[0].arm_only[SPEC].astype(int)
    assert np.abs(pictures[15] - pictures[0]).max() > 50


def test_the_same_seed_and_index_give_the_same_demonstration_whatever_is_run_beside_it(
        demonstrations):
    again, = demonstrate_share('open_drawer', 0, [1], (SPEC,), False)
    assert np.array_equal(again.objects, demonstrations[1].objects)
    assert np.array_equal(again.images[SPEC], demonstrations[1].images[SPEC])
    assert again.arm_only == {}


def test_objects_that_count_make_one_vector_and_may_be_none():
    state = WorldState(drawer=0.05, block=(0.3, 0.1, 0.02))
    assert object_state(state, ('drawer', 'block')).tolist() == [0.05, 0.3, 0.1, 0.02]
    assert object_state(state, ()).shape == (0,)


def test_a_played_episode_keeps_the_policys_opinion_before_every_action_and_at_the_end(tmp_path):
    path = str(tmp_path / 'a.safetensors')
    write_checkpoint(path, agent=lively(0))
    one, = play_share(path, 'open_drawer', [3], False)
    assert len(one.values) == len(one.errors) == len(one.arm_errors) == 51
    assert np.isfinite(one.values).all() and one.success == (one.errors[-1] <= 0.01)
    again, = play_share(path, 'open_drawer', [3], False)
    assert np.array_equal(one.arm_errors, again.arm_errors)
    sampled, = play_share(path, 'open_drawer', [3], True)
    assert sampled.arm_errors[0] == one.arm_errors[0]
    assert not np.array_equal(sampled.arm_errors, one.arm_errors)
