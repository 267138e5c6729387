"""The plan of a day of trials: balanced, blinded, fixed, and refused when it is another one."""

from collections import Counter
import json

import pytest
from stable_crl_ros.trials.plan import (
    CheckpointEntry,
    draw_trials,
    GoalEntry,
    open_plan,
    PLAN,
    read_plan,
    TrialError,
)
from trial_samples import make_design


def test_every_block_holds_each_goal_with_each_checkpoint_once():
    trials = draw_trials(make_design(n=10))
    for block in range(10):
        pairs = [(t.goal, t.checkpoint) for t in trials if t.block == block]
        assert sorted(pairs) == [(0, 0), (0, 1), (1, 0), (1, 1)]
    assert [trial.number for trial in trials] == list(range(1, 41))


def test_the_order_within_blocks_is_random_and_favours_nobody():
    trials = draw_trials(make_design(n=400))
    first = Counter(trial.checkpoint for trial in trials[::4])
    orders = Counter(tuple((t.goal, t.checkpoint) for t in trials[start:start + 4])
                     for start in range(0, len(trials), 4))
    assert 150 < first[0] < 250  # five standard deviations
    assert len(orders) == 24


def test_the_seed_fixes_the_order_and_another_one_changes_it():
    assert draw_trials(make_design()) == draw_trials(make_design())
    assert draw_trials(make_design(n=8)) != draw_trials(make_design(n=8, seed=1))


def test_all_checkpoints_meet_the_same_scenes_and_no_scene_comes_twice():
    trials = draw_trials(make_design(n=50))
    scenes = {}
    for trial in trials:
        scenes.setdefault((trial.block, trial.goal), set()).add(trial.scene_seed)
    assert all(len(seeds) == 1 for seeds in scenes.values())
    assert len(set.union(*scenes.values())) == 100


def test_a_day_goes_on_with_the_plan_it_began_with(tmp_path):
    begun = open_plan(tmp_path, make_design())
    assert open_plan(tmp_path, make_design()) == begun
    assert open_plan(tmp_path, None) == begun
    assert len(begun.trials) == 12


@pytest.mark.parametrize(('changes', 'named'), [
    ({'n': 4}, 'n: 3 then, 4 now'), ({'seed': 1}, 'seed'), ({'limit_s': 5.0}, 'limit_s'),
    ({'goals': (GoalEntry('push_block'),)}, 'push_block now'),
    ({'checkpoints': (CheckpointEntry('/runs/good.safetensors', 'c' * 64),)}, 'cccccccccccc'),
])
def test_another_plan_in_the_same_folder_is_refused_with_the_difference(tmp_path, changes, named):
    open_plan(tmp_path, make_design())
    with pytest.raises(TrialError, match=named):
        open_plan(tmp_path, make_design(**changes))


def test_a_plan_that_was_edited_is_refused(tmp_path):
    open_plan(tmp_path, make_design())
    body = json.loads((tmp_path / PLAN).read_text())
    body['trials'][0]['checkpoint'] ^= 1
    (tmp_path / PLAN).write_text(json.dumps(body))
    with pytest.raises(TrialError, match='was changed after it was made'):
        read_plan(tmp_path)


@pytest.mark.parametrize(('changes', 'named'), [
    ({'n': 0}, 'n >= 1'), ({'seed': -1}, 'seed >= 0'), ({'goals': ()}, 'at least one goal'),
    ({'goals': (GoalEntry('push_block'),) * 2}, 'push_block is there twice'),
    ({'limit_s': float('nan')}, 'limit'), ({'judge': 'nobody'}, 'simulator or operator'),
])
def test_designs_that_cannot_be_compared_are_refused(changes, named):
    with pytest.raises(TrialError, match=named):
        make_design(**changes)


def test_without_a_plan_there_is_nothing_to_go_on_with(tmp_path):
    with pytest.raises(TrialError, match='no day to go on with'):
        open_plan(tmp_path, None)
