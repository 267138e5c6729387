"""The suite: which runs there are, what goes on where it was cut off, what the tables say."""

from dataclasses import replace
import json

import pytest
from stable_crl_ros.actions import ActionScale
from stable_crl_ros.checkpoint import ACTION_LAYER, save_checkpoint
from stable_crl_ros.cli import main
from stable_crl_ros.crl.presets import make_config, PRESETS
from stable_crl_ros.crl.run_folder import LATEST
from stable_crl_ros.experiments.adoption import adopt_counts
from stable_crl_ros.experiments.comparisons import ABLATIONS, make_plan
from stable_crl_ros.experiments.lines import ENOUGH, Kind, read_lines
from stable_crl_ros.experiments.plan import (
    Case,
    GOALS,
    in_order,
    PlanError,
    PROFILES,
    Row,
    RunSpec,
)
from stable_crl_ros.experiments.suite import (
    check_settings,
    controls_path,
    last_checkpoints,
    missing_cases,
    run_suite,
    SuiteSettings,
)
from stable_crl_ros.experiments.tables import format_table, write_report
from stable_crl_ros.experiments.tallies import read_tallies, SCORES, Tally, write_tallies
from stable_crl_ros.intervals import seed_correlation, seeds_interval, wilson_interval
from stable_crl_ros.sim.tasks import TASKS
import torch

LAPTOP = PROFILES['laptop']


OPEN = Case('open_drawer')


def run(seed, label='gcbc', cases=(OPEN,)):
    return RunSpec('expert', 1000, f'laptop-{label}', (), seed, 10, cases, episodes=10)


def tally(strict, loose=None, case=None, trials=10):
    return Tally(case or Case('open_drawer'), trials, strict, loose or strict, 0, 0.01)


def score(folder, spec, strict):
    write_tallies(folder / 'runs' / spec.key / SCORES, {Case('open_drawer'): tally(strict)})


@pytest.mark.parametrize('profile', PROFILES.values(), ids=PROFILES)
def test_every_run_of_the_plan_has_a_preset_and_settings_that_exist(profile):
    rows = make_plan(profile)
    runs = in_order(rows)
    for spec in runs:
        make_config(spec.preset, dict(spec.overrides))
    critics = {make_config(row.runs[0].preset)[1].critic_loss for row in rows
               if row.table == 'algorithms on expert' and row.label in ('stable_crl', 'td', 'mc')}
    assert critics == {'mc', 'td'}
    assert {case.task for spec in runs for case in spec.cases} == set(GOALS)
    assert set(GOALS) <= set(TASKS)
    assert len({spec.key for spec in runs}) == len(runs)


def test_runs_that_two_tables_share_are_trained_once_and_scored_for_both():
    rows = make_plan(LAPTOP, ['algorithms', 'ablations'], ['expert'])
    shared = [spec for spec in in_order(rows) if spec.key == rows[0].runs[0].key]
    assert [row.label for row in rows if rows[0].runs[0] in row.runs] == ['stable_crl', 'as it is']
    assert len(shared) == 1
    assert set(shared[0].cases) == {case for row in rows for case in row.runs[0].cases}


def test_the_first_seed_of_everything_comes_before_the_second_of_anything():
    seeds = [spec.seed for spec in in_order(make_plan(LAPTOP))]
    assert seeds == sorted(seeds)
    assert set(seeds) == {0, 1, 2}


@pytest.mark.parametrize(('profile', 'idle'), [
    ('laptop', {'no augmentation'}), ('sim', {'crops in cloning', 'cloning 0.05'})])
def test_an_ablation_changes_what_its_name_says_and_nothing_else(profile, idle):
    rows = {row.label: row for row in make_plan(PROFILES[profile], ['ablations'])}
    base = make_config(profile, dict(rows['as it is'].runs[0].overrides))[1].to_dict()
    assert ABLATIONS.keys() - rows.keys() == idle  # what the preset does anyway is no ablation
    for label in ABLATIONS.keys() & rows.keys():
        changed = make_config(profile, dict(rows[label].runs[0].overrides))[1].to_dict()
        said = {name for name, value in ABLATIONS[label].items() if base[name] != value}
        assert {name for name in base if base[name] != changed[name]} == said, label
        assert all(changed[name] == value for name, value in ABLATIONS[label].items()
                   if isinstance(value, (str, bool))), label


def test_ablations_scale_the_layers_of_the_preset():
    rows = {row.label: row for row in make_plan(LAPTOP, ['ablations'])}
    base = make_config('laptop')[1].to_dict()
    half = make_config('laptop', dict(rows['width x 2'].runs[0].overrides))[1]
    assert half.critic_hidden == tuple(2 * size for size in base['critic_hidden'])
    assert make_config('laptop', dict(rows['depth 2'].runs[0].overrides))[1].actor_hidden == \
        tuple(base['actor_hidden'][:2])


def test_algorithms_draw_goals_as_published_unless_a_row_says_otherwise():
    found = {}
    for row in make_plan(LAPTOP):
        config = make_config(row.runs[0].preset, dict(row.runs[0].overrides))[1]
        if config.actor_goal_random:
            assert 'random goals' in row.label and row.table == 'goals on stitch'
        said = [word for word in ('even goals', 'soon goals', 'at length')
                if word in f'{row.table}: {row.label}']
        found.setdefault(config.actor_goal, set()).update(
            said or [row.runs[0].preset.split('-')[-1]])
    assert found == {'geometric': {'laptop', 'td', 'crl', 'gcbc'}, 'soon': {'soon goals'},
                     'uniform': {'even goals', 'at length', 'gciql', 'hiql'}}


def test_the_critics_are_compared_at_the_same_shares_of_cloning():
    rows = make_plan(LAPTOP, ['cloning'], ['mixed', 'expert'])
    found = {}
    for row in rows:
        algorithm, config = make_config(row.runs[0].preset, dict(row.runs[0].overrides))
        if algorithm == 'stable_crl':
            found.setdefault((row.table, config.critic_loss), set()).add(config.bc_coefficient)
    assert found == {(f'cloning on {recipe}', loss): {0.05, 0.2, 0.5, 0.8}
                     for recipe in ('expert', 'mixed') for loss in ('mc', 'td')}
    runs = {spec.key for spec in in_order(rows)}
    shared = runs & {spec.key for spec in in_order(make_plan(LAPTOP, ['ablations'], ['expert']))}
    # 0.8 and TD at 0.8 with all seeds, and four of the ablations: three shares, even goals
    assert len(shared) == 2 * len(LAPTOP.seeds) + 4 * len(LAPTOP.side_seeds)


def test_cloning_and_both_critics_are_also_compared_on_goals_drawn_evenly():
    rows = make_plan(LAPTOP, ['cloning'], ['expert'])
    found = [make_config(row.runs[0].preset, dict(row.runs[0].overrides)) for row in rows]
    assert [(algorithm, getattr(config, 'critic_loss', None)) for algorithm, config in found
            if config.actor_goal == 'uniform'] == [
                ('gcbc', None), ('stable_crl', 'mc'), ('stable_crl', 'td')]


def test_unweighted_hiql_differs_in_nothing_but_what_its_values_choose():
    for recipe in ('mixed', 'play'):
        rows = {row.label: row.runs[0] for row in make_plan(LAPTOP, ['cloning'], [recipe])}
        weighted, not_weighted = (
            make_config(rows[label].preset, dict(rows[label].overrides))[1].to_dict()
            for label in ('hiql', 'hiql, unweighted'))
        assert {name: value for name, value in not_weighted.items()
                if value != weighted[name]} == {'low_alpha': 0.0, 'high_alpha': 0.0}
    assert not any('unweighted' in row.label for row in make_plan(LAPTOP, recipes=['expert']))


def test_on_stitch_what_could_join_episodes_is_also_given_goals_of_other_ones():
    rows = {row.label: row.runs[0] for row in make_plan(LAPTOP, ['cloning'], ['stitch'])}
    for name in ('gcbc', 'stable_crl', 'td', 'gciql', 'hiql'):
        own, random = (make_config(rows[label].preset, dict(rows[label].overrides))[1].to_dict()
                       for label in (name, f'{name}, random goals'))
        assert {key: value for key, value in random.items() if value != own[key]} == {
            'actor_goal_random': 0.5}


def test_further_seeds_are_those_of_what_the_page_draws_its_conclusions_from():
    found = {row.label for row in make_plan(LAPTOP) if len(row.runs) == len(LAPTOP.seeds)}
    assert found == {*LAPTOP.algorithms, 'gcbc, even goals', 'gcbc, soon goals', 'as it is',
                     'critic TD', 'stable_crl, as it is', 'td, as it is',
                     'no layer norm', 'no cold initialisation', 'crops in cloning',
                     *(f'{name}, random goals' for name in LAPTOP.algorithms if name != 'crl'),
                     *(f'{name}, 60000 transitions' for name in LAPTOP.algorithms
                       if name not in ('td', 'crl'))}
    assert {len(row.runs) for row in make_plan(replace(LAPTOP, side_seeds=(0, 1, 2)))} == {3}


def test_at_length_every_algorithm_has_the_same_data_steps_and_even_goals():
    rows = make_plan(LAPTOP, ['long'], ['mixed'])
    assert [row.label for row in rows] == list(LAPTOP.algorithms)
    configs = [make_config(row.runs[0].preset, dict(row.runs[0].overrides))[1] for row in rows]
    assert {config.actor_goal for config in configs} == {'uniform'}
    assert {(row.table, run.transitions, run.steps) for row in rows for run in row.runs} == {
        ('at length on mixed', 240_000, 20_000)}
    assert {config.actor_decay_steps for config in configs} == {20_000}
    assert make_plan(PROFILES['sim'], ['long']) == []


def test_data_are_scaled_by_the_profile_and_their_full_size_is_the_main_tables_run():
    rows = make_plan(LAPTOP, ['scaling'])
    sizes = {}
    for row in rows:
        sizes.setdefault((row.table, row.runs[0].preset), []).append(row.runs[0].transitions)
    assert sizes[('data scaling on expert', 'laptop')] == [7500, 15_000, 60_000, 240_000]
    assert sizes[('data scaling on mixed', 'laptop-hiql')] == [60_000, 240_000]
    main = {spec.key for spec in in_order(make_plan(LAPTOP, ['algorithms']))}
    assert {spec.key for row in rows for spec in row.runs if spec.transitions == 60_000} <= main
    assert len({row.runs[0].transitions for row in make_plan(PROFILES['sim'], ['scaling'])}) == 4


@pytest.mark.parametrize(('changes', 'message'), [
    ({'tables': ['speed']}, "unknown table 'speed'; choose from algorithms"),
    ({'recipes': ['noise']}, "unknown recipe 'noise'; choose from expert"),
    ({'algorithms': ['ppo']}, "unknown algorithm 'ppo'; choose from stable_crl"),
])
def test_unknown_names_are_refused_with_the_known_ones(changes, message):
    with pytest.raises(PlanError, match=message):
        make_plan(LAPTOP, **changes)


@pytest.mark.parametrize(('words', 'message'), [
    (['--steps', '-1'], 'steps: give 1 or more'), (['--steps', '0'], 'steps: give 1 or more'),
    (['--episodes', '0'], 'episodes: give 1'), (['--seeds', '0', '-1'], 'seeds: give 0 or more'),
    (['--hours', 'nan'], 'nan hours')])
def test_sizes_that_are_none_are_refused_before_anything_is_made(tmp_path, capsys, words, message):
    assert main(['suite', str(tmp_path / 'suite'), *words]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / 'suite').exists()


def test_only_what_is_not_scored_yet_is_missing(tmp_path):
    spec = run(0, cases=(Case('open_drawer'), Case('open_drawer', sampled=True)))
    assert missing_cases(tmp_path, spec) == list(spec.cases)
    score(tmp_path, spec, 5)
    assert missing_cases(tmp_path, spec) == [Case('open_drawer', sampled=True)]


def test_more_trials_than_were_made_are_missing(tmp_path):
    spec = run(0)
    score(tmp_path, spec, 5)
    assert missing_cases(tmp_path, spec) == []
    assert missing_cases(tmp_path, replace(spec, episodes=11)) == [OPEN]
    runs = {len(row.runs): row.runs[0].episodes for row in make_plan(LAPTOP)}
    assert all(seeds * trials >= 100 for seeds, trials in runs.items())


def test_where_a_run_was_stopped_is_no_matter_to_its_score(tmp_path):
    for step in (8, 10, 11, 12):
        (tmp_path / f'step_{step:06d}.safetensors').touch()
    assert [path.name for path in last_checkpoints(tmp_path, 2, 12)] == [
        f'step_{step:06d}.safetensors' for step in (8, 10, 12)]


def test_a_copy_of_a_checkpoint_has_no_part_in_a_run_s_score(tmp_path):
    for name in ('step_000010', 'step_000010_good', 'step_000012'):
        (tmp_path / f'{name}.safetensors').touch()
    assert [path.stem for path in last_checkpoints(tmp_path, 2, 12)] == [
        'step_000010', 'step_000012']


def test_the_last_step_counts_where_checkpoints_do_not_divide_the_run(tmp_path):
    for step in (36, 108, 120, 123):  # the first is the best by held-out error
        (tmp_path / f'step_{step:06d}.safetensors').touch()
    assert [path.stem for path in last_checkpoints(tmp_path, 12, 123)] == [
        'step_000108', 'step_000120', 'step_000123']


def trained(folder, spec, without=(), **changed):
    algorithm, config = make_config(spec.preset, dict(spec.overrides))
    settings = {name: value for name, value in {**config.to_dict(), **changed}.items()
                if name not in without}
    path = folder / 'runs' / spec.key / LATEST
    path.parent.mkdir(parents=True, exist_ok=True)
    save_checkpoint(path, {ACTION_LAYER: torch.zeros(7, 1)}, {
        'algorithm': algorithm, 'config': settings, 'image_spec': config.image_spec.to_dict(),
        'step': 10, 'metrics': {}, 'action_scale': ActionScale.from_bounds().to_dict(),
        'dataset_fingerprint': ''})


def test_a_run_whose_preset_was_changed_since_is_not_mixed_with_those_after(tmp_path):
    spec = run(0, 'gcbc')
    trained(tmp_path, spec, of_another_version=1)
    check_settings(tmp_path, [spec, run(1, 'gcbc')])
    trained(tmp_path, spec, discount=0.5)
    with pytest.raises(PlanError, match='discount: 0.5 then, 0.95 now'):
        check_settings(tmp_path, [spec, run(1, 'gcbc')])


def test_a_setting_that_is_new_counts_as_its_default(tmp_path):
    spec = run(0, 'gcbc')
    trained(tmp_path, spec, without=['warmup_steps'])
    check_settings(tmp_path, [spec])
    trained(tmp_path, spec, without=['actor_goal'])
    with pytest.raises(PlanError, match='actor_goal: geometric then, soon now'):
        check_settings(tmp_path, [spec])


def test_tables_give_the_mean_over_seeds_and_say_how_many_there_are(tmp_path):
    rows = [Row('algorithms on expert', 'gcbc', (run(0), run(1), run(2))),
            Row('algorithms on expert', 'hiql', (run(0, 'hiql'),))]
    for spec, strict in ((run(0), 2), (run(1), 8)):
        score(tmp_path, spec, strict)
    write_tallies(controls_path(tmp_path, 'none'), {Case('open_drawer'): tally(0)})
    text = format_table(read_lines(tmp_path, rows))
    assert '| strict tolerance, mode actions | seeds | open_drawer |' in text
    assert '| gcbc | 2 | 50 [' in text
    assert '| no action | - | 0 [0, 28] |' in text
    assert 'hiql' not in text
    assert '<details><summary>who is ahead of whom</summary>' in text


def test_what_seeds_differ_by_in_other_rows_widens_the_interval_of_a_single_seed(tmp_path):
    alone = run(0, 'hiql')
    score(tmp_path, alone, 5)
    one = [Row('algorithms on expert', 'hiql', (alone,))]
    assert read_lines(tmp_path, one)[0].rate(OPEN) == (0.5, *wilson_interval(5, 10))
    rows = one + [Row('algorithms on expert', f'gcbc {number}', tuple(
        replace(run(seed), steps=number) for seed in range(2))) for number in range(1, 1 + ENOUGH)]
    for row in rows[1:]:
        for spec, strict in zip(row.runs, (1, 9), strict=True):
            score(tmp_path, spec, strict)
    found = read_lines(tmp_path, rows)
    correlation = found[0].correlations[Kind('expert', False, 'strict')]
    assert correlation == pytest.approx(seed_correlation([([1, 9], [10, 10])]))
    assert found[0].rate(OPEN) == (0.5, *seeds_interval([5], [10], correlation))
    assert found[0].rate(OPEN)[1] < 0.15
    page = tmp_path / 'results.md'
    write_report(tmp_path, rows, page, 'How it was run.')
    assert f'strict tolerance, mode actions: expert {correlation:.2f}.' in page.read_text()


@pytest.mark.parametrize('number', [1, ENOUGH])
def test_seeds_that_agree_on_one_data_set_borrow_the_correlation_of_all(tmp_path, number):
    rows = []
    for recipe, count in (('expert', ENOUGH), ('varied', number)):
        for steps in range(1, 1 + count):
            specs = tuple(replace(run(seed), recipe=recipe, steps=steps) for seed in range(2))
            rows.append(Row(f'algorithms on {recipe}', f'gcbc {steps}', specs))
            for spec, strict in zip(specs, (3, 9) if recipe == 'expert' else (5, 5), strict=True):
                score(tmp_path, spec, strict)
    known = read_lines(tmp_path, rows)[-1].correlations
    everywhere = [([3, 9], [10, 10])] * ENOUGH + [([5, 5], [10, 10])] * number
    assert known[Kind('varied', False, 'strict')] == pytest.approx(seed_correlation(everywhere))
    assert known[Kind('expert', False, 'strict')] == pytest.approx(
        seed_correlation([([3, 9], [10, 10])]))
    assert known[Kind('expert', False, 'strict')] > known[Kind('varied', False, 'strict')] > 0


def test_strict_rates_of_mode_actions_are_shown_and_the_others_folded_away(tmp_path):
    spec = run(0, cases=tuple(Case('open_drawer', look, sampled) for look in ('nominal', 'unseen')
                              for sampled in (False, True)))
    write_tallies(tmp_path / 'runs' / spec.key / SCORES,
                  {case: tally(5, case=case) for case in spec.cases})
    shown, told, folded = format_table(
        read_lines(tmp_path, [Row('looks', 'gcbc', (spec,))])).split('<details>')
    assert told.count('| ahead of, strict tolerance, mode actions') == 2
    assert shown.count('strict tolerance, mode actions') == shown.count('| seeds |') == 2
    assert folded.count('| seeds |') == 10
    assert '| arm in place, object not, mode actions | seeds | open_drawer |' in folded
    assert folded.endswith('</details>')


def test_a_report_replaces_its_own_part_of_the_page_and_keeps_the_rest(tmp_path):
    rows = [Row('algorithms on expert', 'gcbc', (run(0), replace(run(1), episodes=11), run(2)))]
    score(tmp_path, run(0), 3)
    score(tmp_path, run(1), 3)
    page = tmp_path / 'docs' / 'results.md'
    write_report(tmp_path, rows, page, 'How it was run.')
    page.write_text(f'# Title\n\n{page.read_text()}\n## Mine\n')
    for seed in (0, 1):
        score(tmp_path, run(seed), 9)
    write_report(tmp_path, rows, page, 'How it was run.')
    text = page.read_text()
    assert text.startswith('# Title\n')
    assert text.rstrip().endswith('## Mine')
    assert text.count('How it was run.') == 1
    assert '90 [' in text
    assert '30 [' not in text
    assert ('How it was run. Every rate is of at least 10 trials per seed. 1 of the 3 runs of '
            'this plan are done, 1 more in part or in fewer trials. Correlation within') in text
    assert (page.parent / 'results' / 'algorithms_on_expert.png').stat().st_size > 1000
    counts = json.loads(page.with_suffix('.json').read_text())
    assert counts[0]['runs'][run(0).key][0]['strict'] == 9


def test_counts_of_another_machine_are_taken_over_and_the_fuller_ones_stay(tmp_path):
    rows = [Row('algorithms on expert', 'gcbc', (run(0), run(1), run(2)))]
    here, there = tmp_path / 'here', tmp_path / 'there'
    for seed, strict in ((0, 3), (1, 4)):
        score(there, run(seed), strict)
    write_report(there, rows, there / 'results.md', 'How it was run.')
    write_tallies(here / 'runs' / run(1).key / SCORES, {OPEN: tally(20, trials=40)})
    assert adopt_counts(here, rows, there / 'results.json') == 1
    assert adopt_counts(here, rows, there / 'results.json') == 0
    missing = [spec.seed for spec in rows[0].runs if missing_cases(here, spec)]
    assert missing == [2]
    assert read_tallies(here / 'runs' / run(0).key / SCORES)[OPEN].strict == 3
    assert read_tallies(here / 'runs' / run(1).key / SCORES)[OPEN].trials == 40


def test_controls_of_another_machine_are_taken_over_each_to_its_own_place(tmp_path):
    rows = [Row(f'algorithms on {recipe}', 'gcbc', (replace(run(0), recipe=recipe),))
            for recipe in ('expert', 'play')]
    here, there = tmp_path / 'here', tmp_path / 'there'
    for row in rows:
        score(there, row.runs[0], 3)
    strict = {'expert': 1, 'play': 2, 'none': 0, 'constant': 5}
    for name, count in strict.items():
        write_tallies(controls_path(there, name), {OPEN: tally(count)})
    write_report(there, rows, there / 'results.md', 'How it was run.')
    assert adopt_counts(here, rows, there / 'results.json') == 2
    assert {name: read_tallies(controls_path(here, name))[OPEN].strict
            for name in strict} == strict
    write_report(here, rows, here / 'results.md', 'How it was run.')
    assert (here / 'results.md').read_text() == (there / 'results.md').read_text()


def test_nothing_is_collected_for_runs_that_are_done(tmp_path):
    spec = run(0, cases=(OPEN,))
    score(tmp_path, spec, 3)
    for name in ('expert', 'none', 'constant'):
        write_tallies(controls_path(tmp_path, name), {
            Case(goal): tally(0, case=Case(goal)) for goal in GOALS})
    settings = SuiteSettings(tmp_path, control_episodes=10, workers=1)
    said = []
    assert run_suite([Row('algorithms on expert', 'gcbc', (spec,))], settings, said.append)
    assert said == ['1 of 1 runs are done']
    assert not (tmp_path / 'data').exists()


def test_counts_of_a_preset_that_was_changed_since_are_not_taken_over(tmp_path):
    specs = [run(0), run(1), run(2)]
    rows = [Row('algorithms on expert', 'gcbc', tuple(specs))]
    here, there = tmp_path / 'here', tmp_path / 'there'
    for spec in specs:
        score(there, spec, 3)
    trained(there, specs[0])
    trained(there, specs[1], discount=0.5)  # and of the third only the counts were kept
    write_report(there, rows, there / 'results.md', 'How it was run.')
    said = []
    assert adopt_counts(here, rows, there / 'results.json', said.append) == 2
    assert said == [
        f'{specs[1].key} is not taken over: it was trained with other settings '
        '(discount: 0.5 then, 0.95 now)',
        '1 of the runs taken over do not say what they were trained with']
    assert [spec.seed for spec in specs if missing_cases(here, spec)] == [1]


def test_what_a_run_was_trained_with_goes_on_with_its_counts(tmp_path, monkeypatch):
    spec = run(0)
    rows = [Row('algorithms on expert', 'gcbc', (spec,))]
    first, second, third = (tmp_path / name for name in ('first', 'second', 'third'))
    score(first, spec, 3)
    trained(first, spec)
    for source, target in ((first, second), (second, third)):
        write_report(source, rows, source / 'results.md', 'How it was run.')
        assert adopt_counts(target, rows, source / 'results.json', pytest.fail) == 1
    check_settings(third, [spec])
    # As in a version in which what was a default is another value.
    monkeypatch.setitem(PRESETS, 'laptop-gcbc', (
        'gcbc', {**PRESETS['laptop-gcbc'][1], 'warmup_steps': 7}))
    with pytest.raises(PlanError, match='warmup_steps: 0 then, 7 now'):
        check_settings(third, [spec])
    said = []
    assert adopt_counts(tmp_path / 'fourth', rows, second / 'results.json', said.append) == 0
    assert 'warmup_steps: 0 then, 7 now' in said[0]


def test_what_is_no_report_is_not_taken_over(tmp_path):
    path = tmp_path / 'results.json'
    path.write_text('[{"table": 1}]')
    with pytest.raises(PlanError, match='results.json'):
        adopt_counts(tmp_path, [], path)


def test_the_plan_can_be_read_before_anything_is_run(tmp_path, capsys):
    assert main(['suite', str(tmp_path), '--dry-run', '--table', 'algorithms', '--recipe',
                 'expert', '--seeds', '4']) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(LAPTOP.algorithms)
    assert all(line.endswith('seed_4') for line in lines)
    assert list(tmp_path.iterdir()) == []


def test_a_suite_goes_on_where_it_was_cut_off_and_does_nothing_twice(tmp_path):
    spec = RunSpec('expert', 150, 'laptop-gcbc', (('batch_size', 8),), 0, 20,
                   (Case('open_drawer'), Case('open_drawer', sampled=True)), episodes=3)
    rows = [Row('algorithms on expert', 'gcbc', (spec,))]
    settings = SuiteSettings(tmp_path, control_episodes=3, workers=1, hours=0.0)
    told = []
    assert not run_suite(rows, settings, told.append)  # data and controls only
    assert any('0 of 1 runs are done' in line for line in told)
    assert not (tmp_path / 'runs').exists()
    settings = replace(settings, hours=None)
    assert run_suite(rows, settings, told.append)
    folder = tmp_path / 'runs' / spec.key
    assert [path.name for path in last_checkpoints(folder, 2, 20)] == [
        f'step_{step:06d}.safetensors' for step in (16, 18, 20)]
    tallies = read_tallies(folder / SCORES)
    assert {case: tally.trials for case, tally in tallies.items()} == dict.fromkeys(spec.cases, 3)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob('*') if path.is_file()}
    assert run_suite(rows, settings, told.append)
    after = {path: path.stat().st_mtime_ns for path in tmp_path.rglob('*') if path.is_file()}
    assert after == before
