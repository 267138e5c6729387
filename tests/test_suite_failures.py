"""The suite where something fails: a run, a worker, a file, Ctrl-C, what it was asked for."""

from dataclasses import replace
import fcntl
import json
import os
import signal
import subprocess
import sys

import pytest
from stable_crl_ros.cli import main
from stable_crl_ros.crl.config import ConfigError
from stable_crl_ros.crl.train import train
from stable_crl_ros.experiments.adoption import adopt_counts
from stable_crl_ros.experiments.comparisons import make_plan
from stable_crl_ros.experiments.failures import failure_of
from stable_crl_ros.experiments.plan import Case, GOALS, PlanError, PROFILES, Row, RunSpec
from stable_crl_ros.experiments.suite import (
    collect_data,
    controls_path,
    missing_cases,
    run_suite,
    SuiteSettings,
)
from stable_crl_ros.experiments.tables import write_report
from stable_crl_ros.experiments.tallies import read_tallies, SCORES, Tally, write_tallies
from waiting import wait_for

OPEN = Case('open_drawer')
RUN = RunSpec('expert', 150, 'laptop-gcbc', (('batch_size', 8),), 0, 4, (OPEN,), episodes=1)
# Weights beyond all numbers after a step.
DIVERGING = replace(RUN, overrides=(('batch_size', 8), ('learning_rate', 1e30)))


def table(*runs):
    return [Row('algorithms on expert', 'gcbc', runs)]


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    """Give a folder with the data and no need of controls."""
    folder = tmp_path_factory.mktemp('suite')
    collect_data(folder, 'expert', 150, 1, lambda text: None)
    return folder


@pytest.fixture
def folder(data, tmp_path):
    (tmp_path / 'data').symlink_to(data / 'data')
    for name in ('expert', 'none', 'constant'):
        write_tallies(controls_path(tmp_path, name), {
            Case(goal): Tally(Case(goal), 10, 0, 0, 0, 0.1) for goal in GOALS})
    return tmp_path


def settings(folder, workers=1):
    return SuiteSettings(folder, control_episodes=10, workers=workers, device='cpu')


def test_a_run_that_diverges_is_noted_and_the_others_go_on(folder):
    rows, said = table(DIVERGING, replace(RUN, seed=1)), []
    assert not run_suite(rows, settings(folder), said.append)
    assert not missing_cases(folder, rows[0].runs[1])
    assert any('failed, the others go on: step' in text for text in said)
    failure = failure_of(folder, DIVERGING)
    assert failure.final and 'not finite' in failure.text
    page = folder / 'results.md'
    write_report(folder, rows, page, 'How it was run.')
    assert f'* `{DIVERGING.key}`: step' in page.read_text()
    # Nothing else can come of it: the next call leaves it alone, until the note is gone.
    said.clear()
    assert not run_suite(rows, settings(folder), said.append)
    assert said == ['1 of 2 runs are done']


def test_what_may_go_well_the_next_time_is_tried_again(folder):
    path = folder / 'runs' / RUN.key
    path.mkdir(parents=True)
    said = []
    with open(path / '.lock', 'w') as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert not run_suite(table(RUN), settings(folder), said.append)
    assert 'another process trains in this folder' in said[-1]
    assert not failure_of(folder, RUN).final
    assert run_suite(table(RUN), settings(folder), said.append)
    assert failure_of(folder, RUN) is None


SUITE = """
import sys
sys.path.insert(0, {tests!r})
from test_suite_failures import *
if __name__ == '__main__':
    signal.signal(signal.SIGINT, signal.default_int_handler)  # tests may run in the background
    runs = [replace(RUN, seed=seed, steps=100_000) for seed in range(3)]
    run_suite(table(*runs), settings(pathlib.Path({folder!r}), 2),
              lambda text: print(text, flush=True))
"""


def test_ctrl_c_saves_what_is_trained_and_begins_nothing_else(folder):
    script = folder / 'run.py'
    script.write_text('import pathlib\n' + SUITE.format(
        tests=os.path.dirname(__file__), folder=str(folder)))
    process = subprocess.Popen([sys.executable, str(script)], start_new_session=True, text=True,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    runs = (folder / 'runs' / RUN.key).parent.parent
    wait_for(lambda: len(list(runs.glob('*/seed_*/metrics.csv'))) == 2, 60.0)
    os.killpg(process.pid, signal.SIGINT)
    out, _ = process.communicate(timeout=60.0)
    assert process.returncode not in (0, 1)
    assert out.endswith('stopped; the same command goes on\n')
    assert len(list(runs.glob('*/seed_*'))) == 2
    assert len(list(runs.glob('*/seed_*/trainer_state.pt'))) == 2


@pytest.mark.parametrize(('change', 'reason'), [
    ({'strict': 11}, 'more successes than trials'), ({'strict': None}, 'strict None'),
    ({'trials': 'many'}, "trials 'many'"), ({'trials': 100.5}, 'trials 100.5'),
    ({'trials': 0, 'strict': 0, 'loose': 0}, 'no trials'), ({'arm_only': 9}, 'more successes'),
    ({'median_error': float('nan')}, 'median_error nan'),
    ({'case': {'task': 'nope', 'appearance': 'nominal', 'sampled': False}}, 'the case'),
    ({'case': {'task': 'open_drawer', 'appearance': 'nominal', 'sampled': 'yes'}}, 'the case'),
])
def test_counts_that_cannot_be_are_not_taken_over(tmp_path, change, reason):
    here, there = tmp_path / 'here', tmp_path / 'there'
    write_tallies(there / 'runs' / RUN.key / SCORES, {OPEN: Tally(OPEN, 10, 3, 4, 0, 0.01)})
    write_report(there, table(RUN), there / 'results.md', 'How it was run.')
    report = there / 'results.json'
    lines = json.loads(report.read_text())
    lines[0]['runs'][RUN.key][0].update(change)
    report.write_text(json.dumps(lines))
    with pytest.raises(PlanError, match=f'results.json.*{reason}'):
        adopt_counts(here, table(RUN), report)
    assert not here.exists()


@pytest.mark.parametrize('text', ['', 'x', '{}', '[1]', '[{"case": {}}]'])
def test_a_scores_file_that_cannot_be_read_is_named(tmp_path, text):
    path = tmp_path / 'runs' / RUN.key / SCORES
    path.parent.mkdir(parents=True)
    path.write_text(text)
    if text == '{}':
        assert read_tallies(path) == {}
        return
    with pytest.raises(PlanError, match=f'{SCORES} cannot be read .*move it away'):
        read_tallies(path)


def test_a_mark_of_collected_data_that_cannot_be_read_is_named(tmp_path):
    (tmp_path / 'data').mkdir()
    (tmp_path / 'data' / 'expert.complete').write_text('x')
    with pytest.raises(PlanError, match='expert.complete does not say'):
        collect_data(tmp_path, 'expert', 100, 1, print)


def test_what_cannot_be_is_refused_before_anything_is_done(tmp_path):
    with pytest.raises(PlanError, match='0 workers: give 1 or more'):
        SuiteSettings(tmp_path, workers=0)
    with pytest.raises(ConfigError, match="device 'nope' cannot be used"):
        SuiteSettings(tmp_path, device='nope')


def test_the_name_of_the_profiles_own_critic_is_explained():
    with pytest.raises(PlanError, match="the mc critic of profile 'laptop' is stable_crl"):
        make_plan(PROFILES['laptop'], algorithms=['mc'])


def test_a_run_whose_checkpoints_are_gone_is_named(folder):
    path = folder / 'runs' / RUN.key
    train([folder / 'data' / 'expert'], path, 'laptop-gcbc', {'batch_size': 8}, steps=2,
          progress=False, transitions=150, threads=1, calibrates=False)
    for file in path.glob('step_*'):
        file.unlink()
    (path / 'trained').write_text('2')
    said = []
    assert not run_suite(table(RUN), settings(folder), said.append)
    assert 'its checkpoints are gone; delete this folder' in said[-1]


def test_what_is_missing_is_told_by_the_lines_of_the_tables(tmp_path, capsys):
    assert main(['suite', str(tmp_path), '--dry-run', '--table', 'ablations', '--seeds', '0']) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith('6 of 6 scores missing; ablations on expert: no layer norm; ')
               for line in lines)
