"""Closing the loop: honest episodes, the rule, what a round adopts, and going on after a stop."""

import contextlib
import json
import os
from pathlib import Path
import pty
import subprocess
import sys
import time

import numpy as np
import pytest
from stable_crl_ros import SHIPPED_CHECKPOINT
from stable_crl_ros.checkpoint import load_checkpoint
from stable_crl_ros.crl.config import ConfigError
from stable_crl_ros.crl.train import TrainError
from stable_crl_ros.data.dataset import Dataset, DatasetError
from stable_crl_ros.data.schema import Mode
from stable_crl_ros.data.verify import errors, verify_dataset
from stable_crl_ros.environment import ros_environment
from stable_crl_ros.evaluation import make_actor
from stable_crl_ros.images import ImageSpec
from stable_crl_ros.improvement.history import History, Settings
from stable_crl_ros.improvement.loop import improve
from stable_crl_ros.improvement.report import write_history
from stable_crl_ros.improvement.rule import CANDIDATE, ImproveError, Rule, RUNNING
from stable_crl_ros.improvement.simulated import InSimulation
from stable_crl_ros.nodes.improve import OnRobot
from stable_crl_ros.sim.autonomous import collect_autonomously
from stable_crl_ros.trials.scores import Outcome

GOALS = ('open_drawer', 'close_drawer')
MEASURED = {'final_error', 'final_errors', 'final_opening', 'final_block', 'goal_opening',
            'start_opening', 'goal_block', 'start_block'}


def outcomes(table):
    """Give paired outcomes: both, the candidate alone, the running one alone, neither."""
    pairs = [pair for pair, count in zip(
        [(True, True), (True, False), (False, True), (False, False)], table, strict=True)
        for _ in range(count)]
    return [Outcome(label, 'open', scene, won, None) for scene, pair in enumerate(pairs)
            for label, won in zip((CANDIDATE, RUNNING), pair, strict=True)]


@pytest.mark.parametrize(('rule', 'table', 'adopt'), [
    (Rule('better'), (30, 5, 0, 5), True),  # 1/32
    (Rule('better'), (30, 4, 0, 6), False),  # 1/16
    (Rule('better', alpha=0.1), (30, 4, 0, 6), True),
    (Rule('better'), (0, 12, 3, 0), True),  # 0.018
    (Rule('better'), (0, 3, 12, 0), False), (Rule('better'), (40, 0, 0, 0), False),
    (Rule('not-worse', margin=0.1), (95, 0, 0, 5), True),
    (Rule('not-worse', margin=0.1), (80, 0, 10, 10), False),
    (Rule('not-worse', margin=0.1), (8, 0, 0, 2), False),  # too few to tell
    (Rule('not-worse', margin=0.25), (80, 0, 10, 10), True),
])
def test_paired_candidates_are_adopted_by_the_rule_alone(rule, table, adopt):
    decision = rule.decide(outcomes(table), paired=True)
    assert decision.adopt == adopt
    assert (decision.both, decision.better, decision.worse, decision.neither) == table
    assert decision.why


def test_unpaired_candidates_are_judged_by_fisher_s_test():
    decision = Rule().decide(outcomes((0, 9, 1, 0)), paired=False)
    assert decision.adopt and decision.better is None
    assert decision.p == pytest.approx(101 / 184756)  # 9 of 10 against 1 of 10


@pytest.mark.parametrize('wrong', [
    lambda: Rule('whatever'), lambda: Rule(alpha=0.0), lambda: Rule(margin=1.5),
    lambda: Rule().decide([], paired=True), lambda: settings_of('x', goals=('open_drawer',)),
    lambda: settings_of('x', trials=0),
    lambda: InSimulation(settings_of('x', goals=('open_drawer', 'fold'))),
])
def test_what_decides_nothing_is_refused(wrong):
    with pytest.raises(ImproveError):
        wrong()


@pytest.fixture(scope='module')
def chain(tmp_path_factory):
    """Record two episodes of the shipped checkpoint, one after the other."""
    path = tmp_path_factory.mktemp('autonomous') / 'episodes'
    collect_autonomously(path, str(SHIPPED_CHECKPOINT), 'f' * 64, GOALS, 2, 2, (0, 1), 1,
                         ImageSpec(), {'round': 1})
    return Dataset(path)


def test_goals_that_undo_each_other_are_pursued_in_turn_by_the_policy(chain):
    assert [episode.attrs['task'] for episode in chain.episodes] == [*GOALS]
    assert [episode.attrs['turn'] for episode in chain.episodes] == [0, 1]
    for episode in chain.episodes:
        assert (episode['mode'] == Mode.POLICY).all()
        assert episode.attrs['checkpoint'] == 'f' * 64
        assert episode.attrs['operator'] == 'policy' and episode.attrs['round'] == 1
        assert episode.goal_image is not None


def test_nobody_labels_autonomous_episodes_and_no_truth_is_stored(chain):
    for episode in chain.episodes:
        assert episode.attrs['success'] is None
        assert not MEASURED & set(episode.attrs)
    assert errors(verify_dataset(chain.path)) == []


def test_an_episode_begins_with_the_scene_that_the_one_before_left(chain):
    opened, closing = chain.episodes
    last, first = opened.images()[-1].astype(int), closing.images()[0].astype(int)
    untouched = opened.images()[0].astype(int)
    # The arm went home; the drawer stayed.
    assert abs(first - last).mean() < abs(first - untouched).mean()


def test_actions_are_drawn_so_that_there_is_something_to_learn(chain, tmp_path):
    episode = chain.episodes[0]
    start = make_actor(str(SHIPPED_CHECKPOINT))
    act = start(episode.goal_image)
    modes = np.array([act(image) for image in episode.images()[:-1]])
    apart = abs(modes - episode['commanded_action'])[:, :3].mean()
    assert 1e-4 < apart < 0.02  # m


class Scripted:
    """A ground that records real episodes and has the comparisons decided beforehand."""

    paired = True

    def __init__(self, *tables):
        self._tables = list(tables)
        self.calls = []

    def collect(self, number, checkpoint, dataset):
        from learning_samples import write_dots
        self.calls.append(('collect', number, checkpoint.name))
        write_dots(dataset, episodes=2, seed=number)
        return {'episodes': 2, 'steps': 24, 'scenes_set': 1}

    def compare(self, name, running, candidate):
        self.calls.append(('compare', name, running, candidate))
        if not self._tables:
            raise KeyboardInterrupt
        return outcomes(self._tables.pop(0))

    def adopt(self, number, checkpoint):
        self.calls.append(('adopt', number))
        return 'swapped'


def settings_of(checkpoint, **changes):
    sha256 = load_checkpoint(checkpoint).sha256 if Path(checkpoint).exists() else ''
    return Settings(**{'checkpoint': str(checkpoint), 'sha256': sha256, 'datasets': (),
                       'goals': GOALS, 'rounds': 2, 'steps': 2, **changes})


@pytest.fixture
def start(short):
    """Train a small checkpoint to begin with."""
    return short(steps=2)


BETTER, SAME = (0, 20, 0, 0), (20, 0, 0, 0)


def test_a_round_swaps_when_the_rule_is_met_and_the_next_begins_there(start, dots, tmp_path):
    ground = Scripted(BETTER, SAME, BETTER)
    folder = tmp_path / 'loop'
    history = improve(folder, settings_of(start, datasets=(str(dots),)), ground, 1, str)
    first, second = history.rounds
    assert first['decision']['adopt'] and not second['decision']['adopt']
    assert ('adopt', 1) in ground.calls and ('adopt', 2) not in ground.calls
    adopted = load_checkpoint(folder / 'adopted.safetensors')
    assert adopted.sha256 == first['candidate_sha256'] == second['running_sha256']
    assert adopted.metadata['init_from'] == load_checkpoint(start).sha256
    metadata = load_checkpoint(second['candidate']).metadata
    assert metadata['init_from'] == adopted.sha256
    assert len(metadata['datasets']) == 3  # what was there, and both rounds'
    assert history.final['decision']['better'] == 20
    assert ground.calls[-1][1] == 'final' and ground.calls[-1][2] == start


def test_a_candidate_that_is_not_better_is_never_adopted(start, tmp_path):
    ground = Scripted(SAME, SAME)
    history = improve(tmp_path / 'loop', settings_of(start), ground, 1, str)
    assert history.running[0] == str(start)
    assert not (tmp_path / 'loop' / 'adopted.safetensors').exists()
    assert [call[0] for call in ground.calls] == ['collect', 'compare'] * 2
    page = write_history(history).read_text()
    assert page.count('kept what runs') == 2 and 'Nothing was adopted' in page
    assert 'at least once with a probability of up to 10 %' in page


def test_a_stopped_loop_repeats_nothing_that_was_done(start, tmp_path):
    folder, settings = tmp_path / 'loop', settings_of(start)
    with pytest.raises(KeyboardInterrupt):
        improve(folder, settings, Scripted(BETTER), 1, str)
    before = json.loads((folder / 'history.json').read_text())['rounds']
    ground = Scripted(SAME, BETTER)
    history = improve(folder, settings, ground, 1, str)
    assert history.rounds[0] == before[0]
    assert history.rounds[1]['candidate_sha256'] == before[1]['candidate_sha256']
    assert [call[:2] for call in ground.calls] == [('compare', 'round_02'), ('compare', 'final')]
    ground = Scripted()
    improve(folder, settings, ground, 1, str)
    assert ground.calls == []
    assert '| 1 | 24 |' in write_history(history).read_text()
    assert (folder / 'history.png').stat().st_size > 5000


@pytest.mark.parametrize(('changes', 'error', 'message'), [
    ({'overrides': {'foo': '1'}}, ConfigError, 'unknown setting foo'),
    ({'overrides': {'channels': '8,8,8'}}, TrainError, 'weights are for other settings'),
    ({'datasets': ('/nowhere',)}, DatasetError, 'does not exist')])
def test_what_cannot_be_learned_is_refused_before_anything_is_recorded(start, tmp_path, changes,
                                                                       error, message):
    ground = Scripted()
    with pytest.raises(error, match=message):
        improve(tmp_path / 'loop', settings_of(start, **changes), ground, 1, str)
    assert ground.calls == [] and not (tmp_path / 'loop').exists()


def test_threads_that_make_no_sense_are_refused_before_anything_is_recorded(start, tmp_path):
    ground = Scripted()
    with pytest.raises(TrainError, match='threads is 0; give 1 or more'):
        improve(tmp_path / 'loop', settings_of(start), ground, 0, str)
    assert ground.calls == [] and not (tmp_path / 'loop').exists()


def test_data_of_another_rate_is_refused_before_anything_is_recorded(start, tmp_path):
    from learning_samples import write_dots
    write_dots(tmp_path / 'fast', control_rate=10.0)
    ground = Scripted()
    with pytest.raises(TrainError, match='recorded at 10 Hz, but the weights .* are for 5 Hz'):
        improve(tmp_path / 'loop', settings_of(start, datasets=(str(tmp_path / 'fast'),)), ground,
                1, str)
    assert ground.calls == []


def test_more_rounds_on_a_robot_end_with_a_day_of_their_own(start, short, tmp_path):
    """The day of the earlier end is complete, and another than the one that is due."""
    candidate = short(steps=3, out_dir=tmp_path / 'other')

    def ground(rounds):
        settings = settings_of(start, robot='mock', rounds=rounds,
                               goals=('drawer_open', 'drawer_closed'))
        return OnRobot(tmp_path, settings, {}, 30.0, 'anna')
    days = [ground(rounds).plan('final', start, candidate) for rounds in (1, 2)]
    assert days[0][0] != days[1][0]
    assert ground(2).plan('final', start, candidate) == days[1]  # it goes on when stopped


def test_more_rounds_go_on_and_other_settings_are_refused(start, tmp_path):
    folder = tmp_path / 'loop'
    improve(folder, settings_of(start, rounds=1), Scripted(SAME), 1, str)
    ground = Scripted(SAME)
    improve(folder, settings_of(start, rounds=2), ground, 1, str)
    assert ('collect', 2, 'latest.safetensors') in ground.calls
    with pytest.raises(ImproveError, match='trials: 50 then, 40 now'):
        History(folder, settings_of(start, trials=40))
    with pytest.raises(ImproveError, match='2 rounds were asked for'):
        History(folder, settings_of(start, rounds=1))


@pytest.mark.slow
def test_what_is_adopted_is_swapped_into_the_running_stack_and_tried_there(tmp_path):
    """Begin with an untrained policy beside demonstrations: one round must be adopted."""
    cli = [sys.executable, '-m', 'stable_crl_ros.cli']

    def run(*words, **more):
        return subprocess.run([*cli, *words], capture_output=True, text=True, timeout=280,
                              cwd=tmp_path, **more)
    assert run('collect', 'data', 'open_drawer=15', 'close_drawer=15').returncode == 0
    assert run('train', 'data', '--out', 'weak', '--steps', '10', '--device', 'cpu',
               '--threads', '1', '--quiet').returncode == 0
    stack = subprocess.Popen(
        [*cli, 'launch', 'policy', 'goal:=drawer_open', 'record:=true', 'autostart:=false',
         f'dataset_path:={tmp_path / "live"}'], env=ros_environment(),
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        for line in stack.stdout:
            if 'configured arm, policy' in line:
                break
        time.sleep(1.0)
        done = run('improve', 'loop', '--sim', '--live', '--checkpoint',
                   'weak/latest.safetensors', '--dataset', 'data', '--rounds', '1',
                   '--episodes', '4', '--steps', '400', '--trials', '10', '--threads', '1')
    finally:
        stack.terminate()
        stack.communicate(timeout=20)
    assert done.returncode == 0, done.stdout + done.stderr
    assert 'swapped into the running stack by policy/checkpoint_path' in done.stdout, done.stdout
    adopted = load_checkpoint(tmp_path / 'loop' / 'adopted.safetensors').sha256
    live = Dataset(tmp_path / 'live').episodes
    assert len(live) == 2
    assert {episode.attrs['checkpoint'] for episode in live} == {adopted}


@pytest.mark.slow
def test_on_a_robot_the_goals_alternate_by_themselves_and_nobody_judges(tmp_path):
    """Collect through the real stack; the operator sets the scene once, with one key."""
    program = (
        'from pathlib import Path; from stable_crl_ros import SHIPPED_CHECKPOINT as c; '
        'from stable_crl_ros.improvement.history import Settings; '
        'from stable_crl_ros.nodes.improve import OnRobot; '
        'settings = Settings(str(c), "", (), ("drawer_open", "drawer_closed"), episodes=3, '
        f'robot="sim"); folder = Path({str(tmp_path)!r}); '
        'print(OnRobot(folder, settings, {}, 4.0, "anna").collect('
        '1, c, folder / "round_01" / "episodes"))')
    (tmp_path / 'round_01').mkdir()
    controller, screen = pty.openpty()
    process = subprocess.Popen([sys.executable, '-c', program], stdin=screen, stdout=screen,
                               stderr=screen)
    os.close(screen)
    seen = b''
    with contextlib.suppress(OSError):  # the other end closes
        while True:
            seen += os.read(controller, 4096)
            if b'trial 1 of 4: goal drawer_open' in seen:
                time.sleep(0.2)
                os.write(controller, b'\n')
                seen = seen.replace(b'trial 1 of 4', b'')
    os.close(controller)
    assert process.wait(timeout=60) == 0, seen.decode()
    assert b"'scenes_set': 1" in seen
    episodes = Dataset(tmp_path / 'round_01' / 'episodes').episodes
    assert [episode.attrs['goal_id'] for episode in episodes] == [
        'drawer_open', 'drawer_closed'] * 2
    assert [episode.attrs['success'] for episode in episodes] == [None] * 4
    assert all((episode['mode'] == Mode.POLICY).all() for episode in episodes)
