"""The validation of progress: its counts, its truth, recordings, refusals."""

import json

import numpy as np
import pytest
from stable_crl_ros import SHIPPED_CHECKPOINT, SHIPPED_GOALS
from stable_crl_ros.arrival import ArrivalRule
from stable_crl_ros.calibration import Calibration, Reading
from stable_crl_ros.checkpoint import load_checkpoint, save_checkpoint
from stable_crl_ros.cli import main
from stable_crl_ros.experiments.progress import (
    arrived,
    compare_measures,
    describe,
    watch_share,
    Watched,
)
from stable_crl_ros.images import read_image, write_image
from stable_crl_ros.policy import Policy

RULE = ArrivalRule(0.5, 0.3, 2)
FLAT = Calibration(Reading({'encoder': 1.0}, (0.0,), (0.0,)),
                   Reading({'encoder': 1.0}, (0.0,), (0.0,)), 5, 50)


def episode(arrives, claims, steps=20):
    """One in which objects are in place from `arrives` on, and the odds rise at `claims`."""
    ticks = np.arange(steps + 1)
    in_place = ticks >= (steps + 9 if arrives is None else arrives)
    odds = np.where(ticks >= (steps + 9 if claims is None else claims), 0.9, 0.1)
    to_go = np.maximum((arrives or 0) - ticks, 0).astype(float)
    return Watched('task', 0, to_go, odds, {'good': in_place + 0.0, 'idle': np.zeros(steps + 1)},
                   in_place, in_place, in_place)


def test_arrival_is_the_moment_from_which_it_stays_true():
    assert arrived(np.array([0, 1, 0, 1, 1], bool)) == 3
    assert arrived(np.array([1, 1], bool)) == 0
    assert arrived(np.array([1, 0], bool)) is None


def test_precision_recall_and_delay_are_counted_per_episode():
    watched = [episode(5, 6), episode(5, 8), episode(5, None), episode(12, 3),
               episode(None, 4), episode(None, None)]
    done = describe(watched, FLAT, RULE, 0)['done']
    assert done['announced'] == 4
    assert done['precision']['value'] == pytest.approx(2 / 4)
    assert done['recall']['value'] == pytest.approx(2 / 4)
    assert done['told_of_failures']['value'] == pytest.approx(1 / 2)
    assert done['delay_steps']['value'] == pytest.approx((2 + 4) / 2)  # two ticks at 0.9


def test_steps_that_are_true_have_no_error_and_probabilities_are_compared():
    one = describe([episode(5, 5), episode(9, 9)], FLAT, RULE, 0)
    assert one['steps']['there']['error']['value'] == 0
    assert one['steps']['there']['rank_correlation']['value'] == pytest.approx(1)
    assert one['probability']['there']['brier']['value'] == pytest.approx(0.01)
    assert one['probability']['there']['calibration_error']['value'] == pytest.approx(0.1)


def test_measures_are_compared_by_what_they_tell():
    found = compare_measures([episode(5, 5), episode(9, 9)], 0)
    assert found['good']['value'] == 1 and found['idle']['value'] == 0.5


def test_simulated_episodes_are_read_as_the_policy_reads_them():
    (watched,) = watch_share(str(SHIPPED_CHECKPOINT), 'open_drawer', [1])
    assert len(watched.steps) == len(watched.odds) == len(watched.in_place)
    assert watched.odds[-1] > watched.odds[0]
    assert watched.announced(ArrivalRule()) is not None and watched.in_place[-1]


def test_a_photograph_asks_for_its_own_opening_of_the_drawer():
    (watched,) = watch_share(str(SHIPPED_CHECKPOINT), 'close_drawer', [1], 'drawer_closed')
    assert not watched.in_place[0] and watched.in_place[-1]


def test_the_report_has_a_table_a_figure_and_its_numbers(tmp_path, capsys):
    assert main(['progress', str(tmp_path), '--task', 'open_drawer', '--episodes', '2',
                 '--workers', '1', '--seed', '5']) == 0
    assert '| open_drawer | 2 |' in capsys.readouterr().out
    numbers = json.loads((tmp_path / 'progress.json').read_text())
    assert numbers['groups']['all']['episodes'] == 2
    assert numbers['checkpoint'] == load_checkpoint(SHIPPED_CHECKPOINT).sha256
    assert read_image(tmp_path / 'progress.png').size


def test_recorded_pictures_are_read_against_a_photograph(tmp_path, capsys):
    goal, other = (read_image(SHIPPED_GOALS / f'drawer_{name}.png')
                   for name in ('open', 'closed'))
    (tmp_path / 'take').mkdir()
    for number, image in enumerate([other, other, goal, goal, goal, goal]):
        write_image(tmp_path / 'take' / f'im_{number}.png', image)
    assert main(['progress', str(tmp_path / 'out'), '--recording', str(tmp_path / 'take'),
                 '--goal', str(SHIPPED_GOALS / 'drawer_open.png')]) == 0
    assert '| take | 6 |' in capsys.readouterr().out
    take = json.loads((tmp_path / 'out' / 'recordings.json').read_text())['recordings']['take']
    assert take['done_at'] == 4
    policy = Policy.load(SHIPPED_CHECKPOINT, threads=1)
    policy.set_goal(goal)
    said = policy.decide(other).progress
    assert take['odds'][0] == pytest.approx(said.at_goal, abs=1e-4)
    assert take['steps'][0] == pytest.approx(said.steps_to_go, abs=1e-2)


def test_what_cannot_be_validated_is_refused_with_what_to_do(tmp_path, capsys):
    shipped, raw = load_checkpoint(SHIPPED_CHECKPOINT), tmp_path / 'raw.safetensors'
    save_checkpoint(raw, shipped.tensors, {
        name: value for name, value in shipped.metadata.items() if name != 'calibration'})
    for words, says in (
            (['--checkpoint', str(raw)], 'stable-crl checkpoint calibrate'),
            (['--task', 'juggle'], "no task 'juggle'"),
            (['--task', 'push_block', '--photograph', 'drawer_open'], 'asks for the drawer'),
            (['--task', 'open_drawer', '--photograph', 'nowhere'], 'nowhere'),
            (['--episodes', '0'], 'episodes >= 1'),
            (['--recording', str(tmp_path)], 'both --recording FOLDER and --goal FILE'),
            (['--recording', str(tmp_path), '--goal', str(SHIPPED_GOALS / 'drawer_open.png')],
             'holds no pictures')):
        assert main(['progress', str(tmp_path / 'out'), *words]) == 2
        assert says in capsys.readouterr().err
