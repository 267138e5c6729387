"""Policy: the checkpoint's actor in physical units, its progress, its refusals."""

import json
import threading
import warnings

from learning_samples import metadata, small_agent, small_config, WARM, write_checkpoint
import numpy as np
import pytest
from safetensors.torch import load_file, save_file
from stable_crl_ros.actions import ActionScale, BRIDGE_HIGH, BRIDGE_LOW
from stable_crl_ros.checkpoint import CheckpointError, load_checkpoint, save_checkpoint
from stable_crl_ros.crl.networks import to_pixels
from stable_crl_ros.crl.presets import make_agent
from stable_crl_ros.images import ImageError
from stable_crl_ros.policy import peek_policy, Policy, PolicyError
import torch


@pytest.fixture
def path(tmp_path):
    return tmp_path / 'policy.safetensors'


def picture(seed=0, height=24, width=32):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (height, width, 3), dtype=np.uint8)


def load_with_inputs(path):
    """Give an agent, its policy with picture(1) as goal, and what its networks see of 0 and 1."""
    agent = write_checkpoint(path, agent=small_agent(**WARM))
    policy = Policy.load(path)
    policy.set_goal(picture(1))
    spec = agent.config.image_spec
    observation, goal = (to_pixels(torch.from_numpy(spec.resize(picture(seed)))[None], 'unit')
                         for seed in (0, 1))
    return agent, policy, observation, goal


def test_action_is_the_actors_mean_in_physical_units(path):
    agent, policy, observation, goal = load_with_inputs(path)
    with torch.no_grad():
        mean = agent.actor(observation, goal)[0].numpy()
    action = policy.select_action(picture(0))
    assert action.dtype == np.float32 and action.shape == (7,)
    np.testing.assert_array_equal(action, ActionScale.from_bounds().denormalise(mean))


def test_actions_stay_within_the_bounds(path):
    agent = small_agent()
    agent.actor.head.output.bias.data = torch.tensor([1e6, -1e6] * 3 + [1e6])
    write_checkpoint(path, agent=agent)
    policy = Policy.load(path)
    policy.set_goal(picture(1))
    expected = [BRIDGE_HIGH[i] if i % 2 == 0 else BRIDGE_LOW[i] for i in range(7)]
    np.testing.assert_allclose(policy.select_action(picture()), expected, rtol=1e-6)


def test_action_scale_of_the_checkpoint_is_used(path):
    scale = ActionScale.from_statistics([0.01] * 6 + [0.5], [0.002] * 7)
    agent = small_agent()  # cold: its mean is 0
    save_checkpoint(path, agent.tensors(),
                    metadata(agent.config, action_scale=scale.to_dict()))
    policy = Policy.load(path)
    policy.set_goal(picture(1))
    assert policy.action_scale == scale
    np.testing.assert_allclose(policy.select_action(picture()), [0.01] * 6 + [0.5], rtol=1e-5)


def test_progress_is_the_smaller_critics_logit_of_the_policys_own_action(path):
    agent, policy, observation, goal = load_with_inputs(path)
    with torch.no_grad():
        logits = agent.critic(observation, agent.actor(observation, goal), goal)
    assert logits[0, 0] != logits[0, 1]
    assert policy.progress(picture(0)) == pytest.approx(logits.min().item(), rel=1e-5)


def test_step_gives_action_and_progress(path):
    write_checkpoint(path, agent=small_agent(**WARM))
    policy = Policy.load(path)
    policy.set_goal(picture(1))
    action, progress = policy.step(picture(2))
    np.testing.assert_array_equal(action, policy.select_action(picture(2)))
    assert progress == policy.progress(picture(2))


def test_cloning_policy_acts_without_progress(path):
    write_checkpoint(path, 'gcbc')
    policy = Policy.load(path)
    policy.set_goal(picture(1))
    action, progress = policy.step(picture())
    assert np.isfinite(action).all() and np.isnan(progress)
    assert policy.algorithm == 'gcbc'


def test_read_only_images_are_taken_without_a_warning(path):
    write_checkpoint(path)
    policy = Policy.load(path)
    image = np.zeros(policy.image_spec.shape, np.uint8)
    image.setflags(write=False)
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        policy.set_goal(image)
        policy.step(image)


def test_another_goal_gives_another_action(path):
    write_checkpoint(path, agent=small_agent(**WARM))
    policy = Policy.load(path)
    actions = []
    for seed in (1, 2, 1):
        policy.set_goal(picture(seed))
        actions.append(policy.step(picture()))
    np.testing.assert_array_equal(actions[0][0], actions[2][0])
    assert actions[0][1] == actions[2][1]
    assert not np.allclose(actions[0][0], actions[1][0])
    assert actions[0][1] != actions[1][1]


def test_policy_knows_its_checkpoint(path):
    write_checkpoint(path, step=12)
    policy = Policy.load(path)
    assert policy.checkpoint_id == load_checkpoint(path).sha256[:12]
    assert policy.image_spec == small_config().image_spec
    assert policy.metadata['step'] == 12


@pytest.mark.parametrize('method', ['select_action', 'progress', 'step'])
def test_without_a_goal_there_is_no_action(path, method):
    write_checkpoint(path)
    with pytest.raises(PolicyError, match='no goal yet'):
        getattr(Policy.load(path), method)(picture())


def test_warming_up_leaves_the_goal_alone(path):
    write_checkpoint(path, agent=small_agent(**WARM))
    policy = Policy.load(path)
    policy.warm_up()
    with pytest.raises(PolicyError, match='no goal yet'):
        policy.select_action(picture())
    policy.set_goal(picture(1))
    before = policy.step(picture())
    policy.warm_up()
    after = policy.step(picture())
    np.testing.assert_array_equal(before[0], after[0])
    assert before[1] == after[1]


@pytest.mark.parametrize('image', [np.zeros((8, 8, 4), np.uint8), np.zeros((8, 8, 3)), None])
def test_what_is_no_rgb_image_is_refused_and_the_goal_kept(path, image):
    write_checkpoint(path, agent=small_agent(**WARM))
    policy = Policy.load(path)
    policy.set_goal(picture(1))
    before = policy.select_action(picture())
    with pytest.raises(ImageError):
        policy.set_goal(image)
    with pytest.raises(ImageError):
        policy.select_action(image)
    np.testing.assert_array_equal(before, policy.select_action(picture()))


def test_output_that_is_not_finite_is_refused(path):
    agent = small_agent(actor_norm='none', encoder_norm=False)
    for parameter in agent.actor.parameters():
        parameter.data.fill_(3e38)
    write_checkpoint(path, agent=agent)
    policy = Policy.load(path)
    policy.set_goal(picture(1))
    with pytest.raises(PolicyError, match='not finite; load another checkpoint'):
        policy.select_action(picture())


def test_other_action_dimension_is_refused(path):
    write_checkpoint(path, agent=make_agent('stable_crl', small_config(), action_dim=4))
    with pytest.raises(CheckpointError, match='4 dimensions, this robot needs 7'):
        Policy.load(path)


def test_weights_of_another_size_than_configured_are_refused(path):
    agent = small_agent()
    save_checkpoint(path, agent.tensors(), metadata(small_config(actor_hidden=(16, 16, 16))))
    with pytest.raises(CheckpointError, match='weights do not fit its configuration') as refusal:
        Policy.load(path)
    assert len(str(refusal.value).splitlines()) == 1


def test_missing_weights_are_refused(path):
    agent = small_agent()
    tensors = {name: tensor for name, tensor in agent.tensors().items()
               if name != 'critic.psi.1.output.bias'}
    save_checkpoint(path, tensors, metadata(agent.config))
    with pytest.raises(CheckpointError, match='psi.1.output.bias'):
        Policy.load(path)


@pytest.mark.parametrize('changes, reason', [
    ({'algorithm': 'ppo'}, "unknown algorithm 'ppo'; known are stable_crl, gcbc"),
    ({'config': {'colour': 'red'}}, 'unknown setting colour'),
    ({'config': {'discount': 7}}, 'discount must lie between'),
    ({'config': None}, 'metadata of the wrong kind: config'),
    ({'algorithm': ['gcbc']}, 'metadata of the wrong kind: algorithm'),
    ({'image_spec': {'height': 50, 'width': 50, 'interpolation': 'area'}}, 'its network takes'),
    ({'image_spec': {'height': 24, 'width': 24, 'interpolation': 'linear'}}, 'its network takes'),
])
def test_unusable_description_is_refused_with_and_without_the_weights(path, changes, reason):
    agent = small_agent()
    save_checkpoint(path, agent.tensors(), metadata(agent.config) | changes)
    for look in (Policy.load, peek_policy):
        with pytest.raises(CheckpointError, match=reason):
            look(path)


def test_a_sound_checkpoint_is_not_refused_at_a_glance(path):
    write_checkpoint(path)
    peek_policy(path)


def test_damaged_file_is_refused(path):
    write_checkpoint(path)
    tensors = load_file(path)
    save_file(tensors, path, {'config': json.dumps({})})
    with pytest.raises(CheckpointError, match='not a checkpoint of this package'):
        Policy.load(path)


@pytest.mark.parametrize('device', ['warp', 'cuda:97'])
def test_a_device_that_is_not_there_is_refused_with_those_there_are(path, device):
    write_checkpoint(path)
    with pytest.raises(PolicyError, match=f"device '{device}' .*there are cpu"):
        Policy.load(path, device=device)


def test_threads_apply_where_the_policy_runs(path):
    write_checkpoint(path)
    policy = Policy.load(path, threads=1)
    found = []

    def act():
        torch.set_num_threads(2)
        policy.set_goal(picture(1))
        policy.select_action(picture())
        found.append(torch.get_num_threads())
    thread = threading.Thread(target=act)
    thread.start()
    thread.join()
    assert found == [1]


@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a GPU')
def test_a_captured_step_gives_what_the_layers_give_one_by_one(path):
    write_checkpoint(path, agent=small_agent(**WARM))
    plain, captured = (Policy.load(path, 'cuda') for _ in range(2))
    captured.warm_up()
    assert captured._graph is not None
    for seed in range(3):
        for policy in (plain, captured):
            policy.set_goal(picture(10 + seed))
        for expected, found in zip(plain.step(picture(seed)), captured.step(picture(seed)),
                                   strict=True):
            np.testing.assert_allclose(found, expected, atol=1e-4)
