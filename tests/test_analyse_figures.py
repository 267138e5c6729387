"""What each figure of the analysis computes, on representations and critics that are known."""

from dataclasses import replace

from learning_samples import SIZE, small_agent, write_checkpoint
import numpy as np
import pytest
from stable_crl_ros.experiments import interpolation, matching, negatives, outcomes
from stable_crl_ros.experiments.demonstrations import Demonstration
from stable_crl_ros.experiments.episodes import Played
from stable_crl_ros.experiments.learned import load_learned
from stable_crl_ros.experiments.vae import train_vae
from stable_crl_ros.images import ImageSpec

SPEC = ImageSpec(SIZE, SIZE)
STEPS = 20


def sliding(index, start=0.0, end=0.1):
    """Draw an episode whose object's place is the brightness of the picture."""
    objects = np.linspace(start, end, STEPS + 1)[:, None]

    def draw(place):
        return np.full((SIZE, SIZE, 3), round(255 * 10 * float(place)), np.uint8)
    return Demonstration(
        index, True, {SPEC: np.stack([draw(place) for place in objects[:, 0]])},
        {SPEC: draw(end)}, objects, np.array([end]), np.zeros((STEPS + 1, 0)),
        np.cumsum(np.full((STEPS + 1, 3), 0.005), 0), np.zeros((STEPS, 7)))


@pytest.fixture(scope='module')
def demonstrations():
    return [sliding(i, 0.001 * i, 0.09 + 0.001 * i) for i in range(6)]


def brightness(images):
    return images.reshape(len(images), -1).mean(1, keepdims=True)


def test_interpolating_a_representation_that_is_the_state_follows_the_state(demonstrations):
    walks, _ = interpolation.compare_walks({'state': (brightness, SPEC)}, demonstrations)
    walk = walks['state']
    assert walk.correlations == pytest.approx(np.ones(6))
    assert walk.deviations.max() < 0.005
    assert walk.progress[:, 5] == pytest.approx(np.full(6, 0.5), abs=0.05)


def test_a_representation_that_knows_nothing_goes_nowhere(demonstrations):
    def blind(images):
        return np.zeros((len(images), 16))
    walks, _ = interpolation.compare_walks({'blind': (blind, SPEC)}, demonstrations)
    assert (walks['blind'].correlations == 0).all()


def test_a_pairs_own_episode_is_searched_only_when_asked(demonstrations):
    owners = np.repeat(np.arange(6), STEPS + 1)
    others, every = interpolation.compare_walks({'state': (brightness, SPEC)}, demonstrations)
    own = np.arange(6)[:, None]
    assert (owners[others['state'].frames] != own).all()
    assert (owners[every['state'].frames] == own).any()


def test_pairs_without_a_way_to_go_are_left_out(demonstrations):
    still = sliding(9, 0.05, 0.06)
    assert interpolation.way_pairs([*demonstrations, still]) == list(range(6))


def test_vae_repeats_itself_and_learns_to_draw_its_pictures():
    frames = np.full((2, 48, 48, 3), 60, np.uint8)
    frames[0, :, :24] = frames[1, :, 24:] = 200
    fresh, vae, again = (train_vae(frames, 4, steps, seed=1) for steps in (1, 20, 20))
    assert vae.represent(frames).shape == (2, 4)
    assert np.array_equal(vae.represent(frames), again.represent(frames))
    assert vae.reconstruction_error(frames) < 0.7 * fresh.reconstruction_error(frames)


def played(values, succeeded, arm_error=0.0):
    succeeded = np.array(succeeded, bool)
    return Played(0, np.array(values, float), np.zeros(len(values)),
                  np.full(len(values), arm_error), succeeded)


def test_value_that_rises_without_the_object_is_the_arms_share():
    moved = np.array([[0.0, 2.0], [1.0, 5.0]])
    assert matching.describe_curves(moved, moved, 0)['share_of_arm']['value'] == 1.0
    still = np.repeat(moved[:, :1], 2, 1)
    seen = matching.describe_curves(moved, still, 0)
    assert seen['share_of_arm']['value'] == 0.0 and seen['final_gap']['value'] == 3.0
    assert seen['told_apart']['value'] == 1.0


def test_a_value_that_does_not_rise_has_no_share_of_the_arm():
    moved = np.array([[0.0, 1.0], [0.0, -1.0]])
    assert matching.describe_curves(moved, moved, 0)['share_of_arm']['value'] is None


def test_endings_are_counted_by_what_is_in_place():
    near, far = 0.5 * matching.ARM_TOLERANCE, 2 * matching.ARM_TOLERANCE
    episodes = [played([0, 0], [0, 1], near), played([0, 0], [0, 1], far),
                played([0, 0], [1, 0], near), played([0, 0], [0, 0], near),
                played([0, 0], [0, 0], far)]
    assert list(matching.outcome_counts(episodes).values()) == [1, 1, 2, 1]
    numbers = matching.describe_outcomes(episodes)
    assert numbers['arm_matched_object_not']['value'] == pytest.approx(0.4)
    assert numbers['arm_matched_among_failures']['value'] == pytest.approx(2 / 3)


def test_values_that_separate_success_from_failure_have_an_auc_of_one():
    episodes = [played([0, 1, 3 + i], [0, 0, 1]) for i in range(3)]
    episodes += [played([0, 1, -i], [0, 0, 0]) for i in range(4)]
    numbers = outcomes.describe_values(episodes, 0)
    assert numbers['auc']['final']['value'] == 1.0
    assert numbers['auc']['first']['value'] == 0.5
    assert numbers['auc_by_step']['value'] == [0.5, 0.5, 1.0]


def test_values_align_at_the_step_from_which_the_object_stays_in_place():
    late = played([0, 1, 2, 3, 4], [0, 1, 0, 1, 1])  # in place for good at step 3
    rows = outcomes.around_success([late, played([9] * 5, [0] * 5)])
    assert len(rows) == 1
    assert rows[0, outcomes.AROUND - 3:outcomes.AROUND + 2].tolist() == [0, 1, 2, 3, 4]
    assert np.isnan(rows[0]).sum() == 2 * outcomes.AROUND + 1 - 5


def test_a_bystander_that_never_moves_is_left_out(demonstrations):
    def places(opening):
        seen = [replace(item, bystanders=np.full((len(item.objects), 1), opening(number)))
                for number, item in enumerate(demonstrations)]
        return set(negatives.Frames.of(seen, SPEC).places)
    assert places(lambda number: 0.1) == {'object', 'arm'}
    assert places(lambda number: 0.1 + 0.01 * number) == {'object', 'arm', 'bystander'}


@pytest.mark.parametrize('critic_loss', ['td', 'mc'])
def test_a_critic_without_opinion_weighs_all_negatives_alike(tmp_path, demonstrations,
                                                             critic_loss):
    write_checkpoint(tmp_path / 'a.safetensors', agent=small_agent(critic_loss=critic_loss))
    one = load_learned(str(tmp_path / 'a.safetensors'))
    found = negatives.weigh_negatives(one, negatives.Frames.of(demonstrations, SPEC), 0)
    assert found.weights == pytest.approx(np.full(found.weights.shape, 0.5))
    assert ('bystander' in found.distances) is False  # these episodes have none
    if critic_loss == 'td':  # exp(0) = 1 bootstraps the negative back
        assert found.importance == pytest.approx(np.ones(found.importance.shape))
        assert found.net == pytest.approx(0.5 * (1 - one.config.discount)
                                          * np.ones(found.net.shape))
    else:
        assert found.importance is None


def test_wrong_goals_are_measured_from_the_right_one(tmp_path, demonstrations):
    write_checkpoint(tmp_path / 'a.safetensors', agent=small_agent(critic_loss='td'))
    one = load_learned(str(tmp_path / 'a.safetensors'))
    found = negatives.weigh_negatives(one, negatives.Frames.of(demonstrations[:1], SPEC), 0)
    assert found.same.all()
    steps = found.distances['object'] / (0.09 / STEPS)
    assert steps == pytest.approx(np.round(steps)) and steps.min() > 0.5
    assert found.distances['arm'] == pytest.approx(0.005 * np.sqrt(3) * np.round(steps))


def test_bins_average_what_falls_in_them():
    weights, distances = np.array([[0.2, 0.4], [0.6, 0.8]]), np.array([[0.0, 0.5], [1.0, 9.0]])
    bins = negatives.binned(weights, np.ones((2, 2), bool), distances, (0.0, 1.0, 2.0),
                            np.array([0, 1]), 0)
    assert [one['value'] for one in bins] == pytest.approx([0.3, 0.7])
    assert [one['negatives'] for one in bins] == [2, 2]
