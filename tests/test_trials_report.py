"""The report of a day of trials: rates, comparisons and times that follow from its results."""

from dataclasses import replace
import json
import math

import cv2
import pytest
from stable_crl_ros.trials.plan import open_plan, TrialError
from stable_crl_ros.trials.report import write_report
from stable_crl_ros.trials.results import lock_day, Redo, Result, Results
from stable_crl_ros.trials.scores import ALL, comparisons, Outcome, Rate, rates
from trial_samples import BAD, GOOD, make_design, run_sample_day


@pytest.fixture(scope='module')
def day(tmp_path_factory):
    """Run a sample day and report on it; give its folder and the report as JSON."""
    folder = tmp_path_factory.mktemp('day')
    run_sample_day(folder)
    write_report(folder, videos=False)
    return folder, json.loads((folder / 'report.json').read_text())


def outcomes(*wins, goal='open'):
    """Give outcomes of the checkpoints A and B on scenes; wins are 'AB', 'A', 'B' or ''."""
    return [Outcome(name, goal, scene, name in won, 1.0 + scene if name in won else None)
            for scene, won in enumerate(wins) for name in 'AB']


def test_rates_carry_wilson_s_interval_and_the_median_time():
    a, b = rates(outcomes('AB', 'A', 'A', 'AB', 'A', 'A', 'A', ''))
    assert (a.successes, a.trials, b.successes, b.failed) == (7, 8, 2, 6)
    assert (a.low, a.high) == pytest.approx((0.529, 0.978), abs=1e-3)
    assert (a.median_s, a.median_low_s, a.median_high_s) == (4.5, 1.0, math.inf)
    assert b.median_s == math.inf


def test_paired_trials_are_compared_by_the_scenes_that_one_alone_mastered():
    found, = comparisons(outcomes('A', 'A', 'A', 'A', 'A', 'A', 'A', 'B', 'AB', ''), paired=True)
    assert (found.better, found.worse, found.trials) == (7, 1, 10)
    assert found.p == pytest.approx(0.0703, abs=1e-4)  # McNemar
    assert found.difference == pytest.approx(0.6)


def test_unpaired_trials_are_compared_by_fisher_s_test():
    wins = ['A'] * 7 + ['AB'] * 3 + [''] * 2
    found, = comparisons(outcomes(*wins), paired=False)
    # 10 of 12 against 3 of 12: tables this unlikely, on both sides, of all with 13 successes.
    assert found.p == pytest.approx(2 * (66 * 220 + 12 * 66 + 12) / math.comb(24, 13))
    assert found.better is None


def test_goals_are_counted_apart_and_together():
    both = outcomes('A', 'A', goal='open') + outcomes('A', 'B', goal='close')
    found = {rate.goal: rate for rate in rates(both) if rate.checkpoint == 'A'}
    assert {goal: (rate.successes, rate.trials) for goal, rate in found.items()} == {
        'open': (2, 2), 'close': (1, 2), ALL: (3, 4)}
    together = {found.goal: (found.better, found.worse) for found in comparisons(both, True)}
    assert together == {'open': (2, 0), 'close': (1, 1), ALL: (3, 1)}


def test_p_values_of_several_comparisons_are_adjusted():
    three = outcomes('A', 'A', 'A', 'A', 'A', 'A', 'A', 'A') + [
        Outcome('C', 'open', scene, False, None) for scene in range(8)]
    found = {(c.first, c.second): c for c in comparisons(three, paired=True)}
    assert found['A', 'B'].p == 2 / 2 ** 8
    assert found['A', 'B'].p_holm == pytest.approx(3 * 2 / 2 ** 8)
    assert found['B', 'C'].p_holm == 1.0


def test_scenes_that_only_one_has_met_yet_do_not_count_as_pairs():
    found, = comparisons(outcomes('A', 'A')[:3], paired=True)
    assert found.trials == 1


def test_the_report_says_what_the_results_say(day):
    _, report = day
    found = {(rate['checkpoint'], rate['goal']): rate for rate in report['rates']}
    assert found['A', 'all']['successes'] == 6 and found['B', 'all']['successes'] == 0
    assert found['A', 'open_drawer']['median_s'] == 2.0
    assert found['B', 'open_drawer']['median_s'] is None
    together = next(c for c in report['comparisons'] if c['goal'] == 'all')
    assert (together['better'], together['worse'], together['p']) == (6, 0, 2 / 2 ** 6)
    assert report['checkpoints']['A']['sha256'] == GOOD
    assert report['checkpoints']['B']['sha256'] == BAD


def test_every_trial_has_a_picture_and_the_page_shows_the_numbers(day):
    folder, report = day
    for trial in report['trials']:
        assert cv2.imread(str(folder / trial['sheet'])) is not None
        assert trial['doubt'] == ''
    assert cv2.imread(str(folder / 'report.png')).shape[1] > 1000
    page = (folder / 'report.md').read_text()
    assert '| all | A | 6/6 | 100 % [61, 100] | 2.0 s [2.0 s, 2.0 s] | 0 |' in page
    assert '| all | A - B | 6 | 0 | +100 [' in page
    assert page.count('[sheet](pictures/trial_') == 12


def test_every_trial_has_a_video_and_what_contradicts_its_result_is_said(tmp_path):
    plan, results = run_sample_day(tmp_path, n=1)
    first = results.done[0]
    other = BAD if first.checkpoint == GOOD else GOOD
    results.add(Result(**vars(first) | {'checkpoint': other}))
    write_report(tmp_path)
    for trial in json.loads((tmp_path / 'report.json').read_text())['trials']:
        assert cv2.VideoCapture(str(tmp_path / trial['video'])).read()[0]
    assert f'its episode says that checkpoint {first.checkpoint[:12]} acted' in (
        tmp_path / 'report.md').read_text()


def unfinished_day(folder, judge):
    plan = open_plan(folder, make_design(n=1, judge=judge, limit_s=9.0))
    results = Results(folder, plan)
    results.add(Result(1, 'open_drawer', GOOD, 1, True, 'judged', 3.0, 3.0, 15, 'anna', 'now',
                       'nowhere', 0))
    return results


def test_a_person_s_day_is_not_unblinded_before_its_end_unnoticed(tmp_path):
    results = unfinished_day(tmp_path, 'operator')
    with pytest.raises(TrialError, match='1 of 4 trials are done.*--early'):
        write_report(tmp_path)
    write_report(tmp_path, early=True)
    page = (tmp_path / 'report.md').read_text()
    assert '**Unblinded after 1 trials.**' in page
    assert 'its episode cannot be read' in page
    again = Results(tmp_path, open_plan(tmp_path, None))
    again.add_redo(Redo(2, 'now', 'light'))
    assert Results(tmp_path, open_plan(tmp_path, None)).unblinded_after == 1
    assert results.done == again.done


def test_a_day_that_runs_cannot_be_unblinded_beside_it(tmp_path):
    results = unfinished_day(tmp_path, 'operator')
    with lock_day(tmp_path), pytest.raises(TrialError, match='end it first'):
        write_report(tmp_path, early=True)
    assert not (tmp_path / 'report.md').exists()
    results.add_redo(Redo(2, 'now', 'light'))  # as the day that runs does
    write_report(tmp_path, early=True)
    assert Results(tmp_path, open_plan(tmp_path, None)).unblinded_after == 1


def test_trials_that_nobody_judged_count_for_nothing(tmp_path):
    results = unfinished_day(tmp_path, 'operator')
    unjudged = replace(results.done[0], trial=2, success=None, success_s=None)
    results.add(unjudged)
    page = write_report(tmp_path, early=True).read_text()
    assert '| open_drawer | A | 1/1 |' in page and '| not judged |' in page
    results.add(replace(unjudged, trial=1))
    with pytest.raises(TrialError, match='nobody judged its trials'):
        write_report(tmp_path, early=True)


def test_the_simulator_can_be_looked_at_before_the_end(tmp_path):
    unfinished_day(tmp_path, 'simulator')
    assert '1 of 4 planned trials' in write_report(tmp_path, videos=False).read_text()


def test_without_trials_there_is_nothing_to_report(tmp_path):
    open_plan(tmp_path, make_design())
    with pytest.raises(TrialError, match='no trial is done yet'):
        write_report(tmp_path)
    with pytest.raises(TrialError, match='holds no plan.json'):
        write_report(tmp_path / 'elsewhere')


def test_rates_need_an_outcome():
    with pytest.raises(ValueError):
        Rate.of('A', 'open', [])
