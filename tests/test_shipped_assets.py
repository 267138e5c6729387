"""What the package ships: the trained checkpoint and the goals, checked and tried."""

import pytest
from stable_crl_ros import SHIPPED_CHECKPOINT, SHIPPED_GOALS
from stable_crl_ros.checkpoint import verify_checkpoint
from stable_crl_ros.evaluation import evaluate
from stable_crl_ros.goals import GoalStore


def test_the_checkpoint_says_how_it_was_trained():
    metadata = verify_checkpoint(SHIPPED_CHECKPOINT)
    assert metadata['algorithm'] == 'stable_crl'
    assert metadata['preset'] == 'laptop'
    assert metadata['step'] == 20000
    assert metadata['datasets'] == ['expert']
    assert metadata['dataset_fingerprint']
    assert metadata['calibration']['checked']['held_out']['pairs'] > 1000


def test_the_goals_are_there_and_untouched(tmp_path):
    store = GoalStore(tmp_path)
    shipped = {'drawer_open', 'drawer_half_open', 'drawer_closed', 'block_placed'}
    assert shipped <= set(store.names())
    for name in store.names():
        goal = store.load(name)
        assert goal.path.parent == SHIPPED_GOALS
        assert goal.metadata['sha256'] == goal.sha256
        assert goal.image.shape == (240, 320, 3)


@pytest.mark.parametrize(('task', 'at_least'), [
    ('open_drawer', 6), ('close_drawer', 6), ('push_block', 5), ('pick_place', 3),
    ('push_then_open', 5)])
def test_the_checkpoint_brings_about_what_the_picture_shows(task, at_least):
    # Of eight trials; measured rates make fewer a chance of 1 in 100 or less.
    score = evaluate(str(SHIPPED_CHECKPOINT), task, episodes=8, seed=78, workers=1)
    assert score.successes(loose=True) >= at_least
    controls = evaluate('none', task, episodes=8, seed=78, workers=1)
    assert controls.successes(loose=True) == 0
