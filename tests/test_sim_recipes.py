"""Data sets by name: what is in them, that smaller ones begin larger ones, and resuming."""

from dataclasses import replace
import json
import subprocess
import sys
import time

import numpy as np
import pytest
from stable_crl_ros.cli import main
from stable_crl_ros.cli_data import RECIPES as OFFERED
from stable_crl_ros.data.dataset import Dataset
from stable_crl_ros.sim import recipes
from stable_crl_ros.sim.appearance import Appearance
from stable_crl_ros.sim.behaviours import draw_skill, possible_skills
from stable_crl_ros.sim.env import WidowXEnv
from stable_crl_ros.sim.recipes import (
    collect_recipe,
    make_script,
    MIX,
    plan_steps,
    RecipeError,
    RECIPES,
    STITCH_MIX,
)
from stable_crl_ros.sim.scenes import place_of_block
from stable_crl_ros.sim.tasks import TASKS
from stable_crl_ros.sim.world import LATCH_TRAVEL, World, WorldState

TIMELESS = ('images/over_shoulder', 'action', 'ee_pose', 'gripper', 'flags')


@pytest.fixture(scope='module')
def env():
    environment = WidowXEnv(size=(24, 32))  # small pictures: only the physics matters here
    yield environment
    environment.close()


def play(env, script, steps=None):
    """Run a script without recording it; returns the info after every step."""
    env.task = TASKS[script.task]
    env.reset(seed=script.seed, options={'start': script.start,
                                         'goal': script.goal or script.start})
    return [env.step(script.actor.act(env.world))[4] for _ in range(steps or script.steps)]


def contents(dataset):
    return {episode.id: {name: episode[name] for name in TIMELESS}
            for episode in dataset.episodes}


def assert_same(first, second):
    for number, arrays in first.items():
        for name, values in arrays.items():
            np.testing.assert_array_equal(values, second[number][name], err_msg=name)


@pytest.mark.parametrize('recipe', RECIPES)
def test_an_episode_depends_on_recipe_seed_and_number_alone(recipe):
    def drawn(seed, index):
        script = make_script(recipe, seed, index)
        return (script.task, script.start, script.goal, script.steps, script.seed,
                json.dumps(script.attributes), script.appearance)
    first = [drawn(0, index) for index in range(6)]
    assert [drawn(0, index) for index in reversed(range(6))] == first[::-1]
    assert drawn(1, 0)[1] != first[0][1]
    assert len({start for _, start, *_ in first}) == 6


def test_fewer_transitions_are_the_beginning_of_more_and_nothing_is_recorded_twice(tmp_path):
    small = collect_recipe(tmp_path / 'grown', 'expert', 60, seed=2, workers=1)
    before = contents(small)
    made = {number: small.episode_path(number).stat().st_mtime_ns for number in before}
    reports = []
    grown = collect_recipe(tmp_path / 'grown', 'expert', 160, seed=2, workers=2,
                           progress=lambda *report: reports.append(report))
    at_once = collect_recipe(tmp_path / 'at_once', 'expert', 160, seed=2, workers=1)
    assert grown.ids == at_once.ids == list(range(len(plan_steps('expert', 160, 2))))
    assert len(before) < len(grown.ids)
    assert_same(before, contents(grown))
    assert_same(contents(at_once), contents(grown))
    assert all(grown.episode_path(number).stat().st_mtime_ns == at for number, at in made.items())
    assert reports[0][1] == len(before)
    assert sum(steps for steps, _, _ in reports) == sum(e.steps for e in grown.episodes) >= 160


def test_a_killed_recording_ends_with_the_same_episodes(tmp_path):
    path = tmp_path / 'data'
    code = ('from stable_crl_ros.sim.recipes import collect_recipe\n'
            f'collect_recipe({str(path)!r}, "expert", 150, seed=1, workers=1)')
    process = subprocess.Popen([sys.executable, '-c', code])
    end = time.monotonic() + 60
    # Kill it in its second episode, with the journal begun.
    journal = path / 'episode_000001.journal'
    while not journal.exists() or not journal.stat().st_size:
        assert process.poll() is None and time.monotonic() < end
        time.sleep(0.01)
    process.kill()
    process.wait()
    left = [found.path for found in Dataset(path).unsealed() if found.state != 'reserved']
    assert left == [journal]
    resumed = collect_recipe(path, 'expert', 150, seed=1, workers=1)
    assert resumed.unsealed() == []
    assert [episode.steps for episode in resumed.episodes] == plan_steps('expert', 150, 1)
    assert not any(episode.attrs['interrupted'] for episode in resumed.episodes)


def test_expert_holds_every_task_in_the_proportions_given():
    tasks = [make_script('expert', 0, index).task for index in range(400)]
    assert sum(MIX.values()) == pytest.approx(1.0)
    assert set(MIX) == set(TASKS)
    for name, share in MIX.items():
        assert tasks.count(name) / 400 == pytest.approx(share, abs=0.06)


def test_varied_is_recorded_under_many_looks_and_says_which(tmp_path):
    first, second = collect_recipe(tmp_path / 'data', 'varied', 60, workers=1).episodes
    looks = [episode.attrs['appearance'] for episode in (first, second)]
    assert looks[0] != looks[1]
    assert set(looks[0]) == set(Appearance().to_dict())
    table = [episode.images()[:, 40, 24].astype(float).mean(axis=0)
             for episode in (first, second)]
    assert np.abs(table[0] - table[1]).max() > 5


# Measured over 200 episodes of seed 0: a quarter of them reach it.
def test_few_mixed_episodes_reach_what_they_began_with_and_nothing_is_flung_away(env):
    tracks = [play(env, make_script('mixed', 7, index)) for index in range(16)]
    assert 1 <= sum(track[-1]['success'] for track in tracks) <= 9
    for track in tracks:
        places = np.array([info['block_position'] for info in track])
        assert np.linalg.norm(np.diff(places, axis=0), axis=1).max() < 0.15


@pytest.mark.parametrize('seed', [0, 1])
def test_no_stitch_episode_holds_both_stages(env, seed):
    assert sum(STITCH_MIX.values()) == pytest.approx(1.0)
    stages = {'push': 0, 'open': 0}
    for index in range(40):
        script = make_script('stitch', seed, index)
        stage = script.attributes.get('stage')
        if stage is None:
            assert script.task != 'push_then_open'
            assert place_of_block(script.start) == 'side'  # never in front: no first stage
            continue
        stages[stage] += 1
        with World((24, 32)) as world:
            world.reset(script.start)
            assert world.latched is (stage == 'push')
        track = play(env, script)
        if stage == 'push':
            assert max(info['drawer_opening'] for info in track) < LATCH_TRAVEL
        else:
            moved = [np.linalg.norm(info['block_position'] - script.start.block)
                     for info in track]
            assert max(moved) < 0.02
    assert min(stages.values()) >= 2


def test_play_goes_on_from_one_goal_to_the_next_without_resets(env):
    script = make_script('play', 0, 1)
    assert script.goal is None and 400 <= script.steps <= 600
    goals = set()
    env.task = TASKS[script.task]
    env.reset(seed=script.seed, options={'start': script.start, 'goal': script.start})
    travelled = 0.0
    for _ in range(250):
        before = env.world.block_position
        env.step(script.actor.act(env.world))
        step = np.linalg.norm(env.world.block_position - before)
        assert step < 0.1  # nobody puts the block back
        travelled += step
        goals.add(script.actor.goal)
    assert len(goals) >= 5
    assert len({goal.joints for goal in goals}) == len(goals)
    assert travelled > 0.3


@pytest.mark.parametrize(('block', 'opening', 'place', 'skills'), [
    ((0.25, 0.13, 0.015), 0.0, 'side', {'PushDemonstrator', 'PlaceDemonstrator',
                                        'DrawerDemonstrator'}),
    ((0.25, 0.0, 0.015), 0.0, 'front', {'PushDemonstrator', 'PlaceDemonstrator'}),
    ((0.30, -0.05, 0.038), 0.11, 'drawer', {'PlaceDemonstrator', 'DrawerDemonstrator'}),
    ((0.40, -0.05, 0.038), 0.0, 'lost', {'DrawerDemonstrator'}),
    ((0.3, 0.0, 0.14), 0.1, 'air', {'PlaceDemonstrator'})])
def test_a_goal_is_drawn_from_what_the_present_scene_allows(block, opening, place, skills):
    state = WorldState(block=block, drawer=opening)
    assert place_of_block(state) == place
    assert {kind.__name__ for kind, _ in possible_skills(state)} == skills
    rng = np.random.default_rng(0)
    with World((24, 32)) as world:
        world.reset(state)
        for _ in range(20):
            _, goal = draw_skill(world, rng, 0.1)
            assert (goal.drawer != opening) != (goal.block != block)  # one thing at a time
            assert place_of_block(replace(goal, joints=state.joints)) != 'air'


def test_play_is_stored_without_a_goal_and_unjudged(tmp_path, monkeypatch):
    monkeypatch.setattr(recipes, 'PLAY_STEPS', (20, 21))
    episode, = collect_recipe(tmp_path / 'data', 'play', 20, workers=1).episodes
    assert episode.goal_image is None and episode.attrs['success'] is None
    assert episode.steps == 20
    assert {'start_opening', 'final_opening', 'start_block', 'final_block'} <= set(episode.attrs)


def test_the_command_offers_all_recipes():
    assert set(OFFERED) == set(RECIPES)


@pytest.mark.parametrize(('arguments', 'reason'), [
    ({'recipe': 'perfect'}, 'stitch'), ({'transitions': 0}, 'transitions'),
    ({'seed': -1}, 'negative'), ({'workers': 0}, 'workers')])
def test_refuses_what_makes_no_sense_and_writes_nothing(tmp_path, arguments, reason):
    with pytest.raises(RecipeError, match=reason):
        collect_recipe(tmp_path / 'data', **{'recipe': 'expert', 'transitions': 50, **arguments})
    assert not (tmp_path / 'data').exists()


@pytest.mark.parametrize('other', [{'recipe': 'varied'}, {'seed': 5}, {'image_spec': None}])
def test_refuses_a_directory_that_holds_something_else(tmp_path, other):
    collect_recipe(tmp_path / 'data', 'expert', 1, workers=1)
    with pytest.raises(RecipeError, match='directory of its own'):
        collect_recipe(tmp_path / 'data', **{'recipe': 'expert', 'transitions': 200, **other})
    assert Dataset(tmp_path / 'data').ids == [0]


def test_the_command_records_a_recipe_and_goes_on(tmp_path, capsys):
    asked = ['collect', str(tmp_path / 'data'), '--recipe', 'expert', '--workers', '1']
    assert main([*asked, '--transitions', '40']) == 0
    first = capsys.readouterr().out
    assert main([*asked, '--transitions', '41', '--seed', '0']) == 0
    assert 'expert (seed 0): 1 episodes' in first
    assert Dataset(tmp_path / 'data').ids == [0]


@pytest.mark.parametrize('words', [
    [], ['open_drawer=1', '--recipe', 'play'], ['--recipe', 'play', '--noise', '0.1']])
def test_the_command_takes_tasks_or_a_recipe(tmp_path, capsys, words):
    with pytest.raises(SystemExit):
        main(['collect', str(tmp_path / 'data'), *words])
    assert '--recipe' in capsys.readouterr().err
    assert not (tmp_path / 'data').exists()
