"""The gymnasium environment: its contract, its determinism, and what it does with bad actions."""

import warnings

import gymnasium
from gymnasium.utils.env_checker import check_env
import numpy as np
import pytest
from stable_crl_ros.robot.poses import delta_between
from stable_crl_ros.robot.safety import StepFlag
from stable_crl_ros.sim import ENVIRONMENT_ID
from stable_crl_ros.sim.demonstrators import make_demonstrator
from stable_crl_ros.sim.env import EnvError, WidowXEnv
from stable_crl_ros.sim.rollout import run_episode
from stable_crl_ros.sim.tasks import TaskError
from stable_crl_ros.sim.world import WorldState

HOLD = np.array([0.0] * 6 + [1.0])


@pytest.fixture(scope='module')
def env():
    environment = WidowXEnv()
    yield environment
    environment.close()


def test_registered_environment_passes_gymnasiums_own_checker():
    environment = gymnasium.make(ENVIRONMENT_ID, task='close_drawer')
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        check_env(environment.unwrapped)
    environment.close()


def test_same_seed_same_episode_and_another_seed_another(env):
    def play(seed):
        observation, _ = env.reset(seed=seed)
        pictures = [observation['goal_image'], observation['image']]
        for _ in range(3):
            observation, *_ = env.step(np.array([0.02, -0.03, -0.02, 0.0, 0.0, 0.1, 0.0]))
        return np.array([*pictures, observation['image']]), observation['state']

    first, second, other = play(4), play(4), play(5)
    np.testing.assert_array_equal(first[0], second[0])
    np.testing.assert_array_equal(first[1], second[1])
    assert (first[0] != other[0]).any(axis=(1, 2, 3)).all()


def test_seed_of_the_constructor_counts_once():
    environment = WidowXEnv(seed=11)
    first = environment.reset()[0]['image']
    second = environment.reset()[0]['image']
    again = environment.reset(seed=11)[0]['image']
    environment.close()
    np.testing.assert_array_equal(first, again)
    assert (first != second).any()


def test_start_and_goal_may_be_given(env):
    start, goal = WorldState(drawer=0.1), WorldState(drawer=0.04)
    observation, info = env.reset(seed=0, options={'start': start, 'goal': goal})
    assert info['drawer_opening'] == pytest.approx(0.1)
    assert info['error'] == pytest.approx(0.06)
    env.reset(seed=0, options={'start': goal, 'goal': goal})
    np.testing.assert_array_equal(env.render(), observation['goal_image'])


def test_goal_picture_shows_the_goal_and_not_the_start(env):
    observation, _ = env.reset(seed=1)
    goal_image = observation['goal_image']
    assert np.abs(goal_image.astype(int) - observation['image']).max() > 100
    observation, *_ = env.step(HOLD)
    np.testing.assert_array_equal(observation['goal_image'], goal_image)


def test_reward_is_minus_the_distance_and_only_time_ends_an_episode(env):
    env.reset(seed=2)
    for step in range(1, env.task.max_steps + 1):
        _, reward, terminated, truncated, info = env.step(HOLD)
        assert reward == -info['error']
        assert not terminated
        assert truncated == (step == env.task.max_steps)
    assert not info['success']


def test_applied_action_is_what_the_target_really_moved_by(env):
    env.reset(seed=0, options={'start': WorldState(), 'goal': WorldState()})
    before = env.world.ee_pose
    asked = np.array([0.02, 0.01, -0.03, 0.05, 0.0, 0.1, 0.3])
    *_, info = env.step(asked)
    np.testing.assert_allclose(info['applied_action'], asked, atol=1e-9)
    assert info['flags'] == 0
    env.step([*[0.0] * 6, 0.3])
    *_, info = env.step([*[0.0] * 6, 0.3])
    np.testing.assert_allclose(delta_between(before, info['ee_pose']), asked[:6], atol=3e-3)
    assert env.world.arm_state().gripper == pytest.approx(0.3, abs=0.02)


def test_state_is_zero_rotation_pointing_down_in_base_axes(env):
    observation, _ = env.reset(seed=0, options={'start': WorldState(gripper=0.25)})
    np.testing.assert_allclose(observation['state'], [0.3, 0, 0.15, 0, 0, 0, 0.25], atol=1e-5)
    for _ in range(3):
        observation, *_ = env.step([0.0, 0.0, 0.0, 0.1, 0.0, 0.0, 0.25])
    observation, *_ = env.step([*[0.0] * 6, 0.25])
    assert observation['state'][3] == pytest.approx(0.3, abs=0.02)


def test_an_action_that_is_not_finite_moves_nothing(env):
    env.reset(seed=3)
    before = env.world.ee_pose
    *_, info = env.step(np.array([np.nan, *HOLD[1:]]))
    assert info['flags'] & StepFlag.NON_FINITE
    np.testing.assert_allclose(info['ee_pose'], before, atol=1e-3)
    np.testing.assert_array_equal(info['applied_action'][:6], 0.0)


def test_huge_actions_are_clipped_and_stay_in_the_workspace(env):
    env.reset(seed=3)
    for _ in range(20):
        *_, info = env.step(np.array([0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 5.0]))
    assert info['flags'] & StepFlag.TRANSLATION_CLIPPED
    assert info['flags'] & StepFlag.GRIPPER_CLIPPED
    assert info['ee_pose'][1, 3] == pytest.approx(0.2, abs=0.005)


def test_unknown_task_is_refused_before_anything_is_opened():
    with pytest.raises(TaskError, match='pick_place'):
        WidowXEnv('juggle')


def test_a_misspelt_reset_option_is_refused(env):
    with pytest.raises(EnvError, match='start'):
        env.reset(options={'strat': WorldState()})


def test_rollout_reports_every_error_and_keeps_pictures_when_asked(env):
    def start_expert(goal_image):
        expert = make_demonstrator(env.task, env.goal, np.random.default_rng(0))
        return lambda image: expert.act(env.world)

    rollout = run_episode(env, start_expert, seed=1, keep_frames=True)
    assert rollout.success
    assert len(rollout.errors) == len(rollout.frames) == env.task.max_steps + 1
    assert rollout.errors[0] > 0.02 > 0.01 > rollout.errors[-1]
    assert rollout.errors[-1] == rollout.info['error']
    short = run_episode(env, start_expert, seed=1, steps=3)
    np.testing.assert_array_equal(short.errors, rollout.errors[:4])
    assert short.frames == [] and not short.success


def test_pictures_are_as_old_as_they_say_and_never_older_than_60_ms(env):
    env.reset(seed=3)
    ages = set()
    for _ in range(40):
        observation, *_, info = env.step(np.array([0.0, 0.03, 0.0, 0.0, 0.0, 0.0, 1.0]))
        ages.add(round(1000 * info['image_age']))
        if info['image_age'] == 0.0:
            np.testing.assert_array_equal(observation['image'], env.render())
        elif abs(info['applied_action'][1]) > 0.02:
            assert (observation['image'] != env.render()).any()
    assert ages == {0, 20, 40, 60}
