"""Working off a plan: every trial once, whatever happens in between; redo, stop, resume."""

import random
import signal
import subprocess
import sys
import time

import pytest
from stable_crl_ros.data.dataset import Dataset
from stable_crl_ros.trials.day import FAILURE, REDO, run_day, SimulatorJudge, STOP, SUCCESS
from stable_crl_ros.trials.plan import open_plan, read_plan, TrialError
from stable_crl_ros.trials.results import lock_day, Results
from trial_samples import BAD, GOOD, make_design, RecordingStage, run_sample_day


class Scripted:
    """A judge with an answer for every trial; None leaves it to the end."""

    name = 'somebody'

    def __init__(self, *words):
        self._words = list(words)
        self.asked = []

    def ready(self, trial, of, goal):
        self.asked.append((trial.number, goal))
        return STOP if self._words[:1] == ['quit'] else ''

    def watch(self):
        word = self._words.pop(0)
        return '' if word == 'late' else word

    def verdict(self, acted):
        return (acted.word or FAILURE), 'seen'


def day(folder, judge, **changes):
    plan = open_plan(folder, make_design(**changes))
    said = []
    return run_day(folder, plan, RecordingStage(folder), judge, said.append), said


def test_every_trial_is_run_once_in_order_and_linked_to_its_episode(tmp_path):
    plan, results = run_sample_day(tmp_path)
    assert results.complete
    assert [result.trial for result in results.done] == [trial.number for trial in plan.trials]
    dataset = Dataset(tmp_path / 'episodes')
    for trial, result in zip(plan.trials, results.done, strict=True):
        attributes = dataset[result.episode].attrs
        assert attributes['checkpoint'] == result.checkpoint == plan.checkpoint(trial).sha256
        assert attributes['task'] == result.goal == plan.goal(trial).name
        assert attributes['success'] == result.success == (result.checkpoint == GOOD)
        assert result.success_s == (2.0 if result.success else None)
        assert result.dataset == 'episodes'


def test_nothing_that_is_said_tells_which_checkpoint_acts(tmp_path):
    _, said = day(tmp_path, SimulatorJudge())
    text = '\n'.join(said)
    assert len(said) == 12
    for secret in (GOOD[:8], BAD[:8], 'good', 'bad', '/runs'):
        assert secret not in text


def test_a_repeated_trial_counts_once_and_is_noted(tmp_path):
    results, _ = day(tmp_path, Scripted(SUCCESS, REDO, FAILURE, 'late', SUCCESS), n=1)
    assert [result.why for result in results.done] == ['judged', 'judged', 'limit', 'judged']
    assert [result.success for result in results.done] == [True, False, False, True]
    assert [redo.trial for redo in results.redone] == [2]
    assert len(Dataset(tmp_path / 'episodes')) == 4


def test_who_judges_by_eye_sets_the_time_of_success(tmp_path):
    results, _ = day(tmp_path, Scripted(*[SUCCESS] * 4), n=1)
    assert all(result.judge == 'somebody' and result.notes == 'seen' for result in results.done)


def test_stop_ends_the_day_and_the_next_call_goes_on_with_the_same_trial(tmp_path):
    results, said = day(tmp_path, Scripted(SUCCESS, STOP), n=1)
    assert len(results.done) == 1 and not results.complete
    assert 'The same command goes on' in said[-1]
    later = Scripted(FAILURE, FAILURE, FAILURE)
    results, said = day(tmp_path, later, n=1)
    assert results.complete
    assert [number for number, _ in later.asked] == [2, 3, 4]
    assert results.done[0].success and not results.done[1].success


def test_quitting_between_trials_loses_nothing(tmp_path):
    results, _ = day(tmp_path, Scripted(SUCCESS, SUCCESS, 'quit'), n=1)
    assert len(results.done) == 2 and results.redone == []


def test_ctrl_c_instead_of_a_verdict_leaves_no_recording_open(tmp_path):
    class Leaving(Scripted):
        def verdict(self, acted):
            raise KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt):
        day(tmp_path, Leaving('late'), n=1)
    dataset = Dataset(tmp_path / 'episodes')
    assert dataset.recover() == [] and dataset.ids == []


def test_a_checkpoint_that_the_stack_gave_up_has_failed(tmp_path):
    plan = open_plan(tmp_path, make_design(n=1))

    class GivingUp(RecordingStage):
        def act(self, limit_s, watch):
            acted = super().act(limit_s, watch)
            return type(acted)(**vars(acted) | {'checkpoint': 'c' * 64})
    results = run_day(tmp_path, plan, GivingUp(tmp_path), SimulatorJudge(), lambda line: None)
    assert {(result.success, result.why) for result in results.done} == {(False, 'swapped back')}


def test_killed_at_any_moment_it_goes_on_exactly_where_it_was(tmp_path):
    rng, seen, kills = random.Random(0), {}, 0
    while kills < 4:
        process = subprocess.Popen([sys.executable, 'tests/trial_samples.py', str(tmp_path)])
        finished = tmp_path / 'results.json'
        before = finished.stat().st_mtime_ns if finished.exists() else 0
        while process.poll() is None and (
                not finished.exists() or finished.stat().st_mtime_ns == before):
            time.sleep(0.002)  # until one more trial is done ...
        time.sleep(rng.uniform(0.0, 0.06))  # ... and another one has begun
        process.send_signal(signal.SIGKILL)
        process.wait()
        kills += 1
        results = Results(tmp_path, read_plan(tmp_path))
        for result in results.done:
            assert seen.setdefault(result.trial, result) == result
    plan, results = run_sample_day(tmp_path)
    assert results.complete
    assert all(seen[result.trial] == result for result in results.done if result.trial in seen)
    assert [result.trial for result in results.done] == [trial.number for trial in plan.trials]
    assert Dataset(tmp_path / 'episodes').ids == sorted(r.episode for r in results.done)


def test_two_days_do_not_share_a_folder(tmp_path):
    with lock_day(tmp_path), pytest.raises(TrialError, match='another process'):
        lock_day(tmp_path)


def test_results_of_another_plan_are_refused(tmp_path):
    run_sample_day(tmp_path, n=1)
    (tmp_path / 'plan.json').unlink()
    with pytest.raises(TrialError, match='belongs to another plan'):
        run_sample_day(tmp_path, n=2)
