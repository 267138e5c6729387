"""What the pages on results show lies beside them: figures, their numbers, and every trial."""

from pathlib import Path
import re
import shutil
import subprocess
import sys

import pytest

ROOT = Path(__file__).resolve().parents[1]
FIGURES = ROOT / 'docs' / 'results'
SCRIPT = ROOT / 'data_collection' / 'compare_scores.py'
SCORES = ROOT / 'docs' / 'shipped_scores.json'


def compare(*words):
    return subprocess.run([sys.executable, SCRIPT, *map(str, words)], capture_output=True,
                          text=True, timeout=60)


def rows(output):
    """Read a table by the first cell of its lines, without its head."""
    cells = [[cell.strip() for cell in line.strip('|').split('|')]
             for line in output.splitlines() if line.startswith('| ')]
    return {first: rest for first, *rest in cells[2:]}


def test_every_figure_with_numbers_of_its_own_is_drawn():
    numbers = {path.stem for path in FIGURES.glob('*.json')}
    assert numbers
    assert numbers <= {path.stem for path in FIGURES.glob('*.png')}


def test_every_figure_is_on_the_page():
    shown = set(re.findall(r'\(results/(\w+\.png)\)', (ROOT / 'docs/results.md').read_text()))
    assert shown == {path.name for path in FIGURES.glob('*.png')}


def test_rates_that_the_text_quotes_are_those_of_the_tables():
    page = (ROOT / 'docs/results.md').read_text()
    text, tables = page[page.index('## What the suite says'):].split('## The tables')
    tables = tables[:tables.index('<!-- suite: end -->')]
    quoted = set(re.findall(r'\d+ \[\d+, \d+\]', text.replace(' %', '')))
    cells = set(re.findall(r'\| (\d+ \[\d+, \d+\]) (?=\|)', tables))
    assert len(quoted) > 50
    assert quoted <= cells, sorted(quoted - cells)


def test_policies_are_compared_on_the_scenes_they_share():
    found = rows(compare(SCORES).stdout)
    assert found['open_drawer'] == ['100', '0', '0', '+0 [-4, +4]', '1', '1']
    # Ten scenes differ, nine of them one way: 2 * (1 + 10) / 2 ** 10; seven tasks.
    assert found['push_then_open'] == ['100', '9', '1', '+8 [+2, +15]', '0.021', '0.15']


def test_the_other_way_round_the_other_policy_is_the_first():
    names = re.search(r'; (\S+) against (\S+)$', compare(SCORES).stdout, re.MULTILINE).groups()
    found = rows(compare(SCORES, *reversed(names)).stdout)
    assert found['push_then_open'][1:3] == ['1', '9']
    assert found['push_then_open'][4:] == ['0.021', '0.15']


def test_the_readme_s_table_and_tests_are_those_of_the_trials():
    readme = (ROOT / 'README.md').read_text()
    found = rows(compare(SCORES).stdout)
    table = {name: re.findall(r'(\d+) %', line) for name, line in re.findall(
        r'^\| [^|]*\(`(\w+)`\) \|(.*)$', readme, re.MULTILINE)}
    for task, (trials, better, worse, *_) in found.items():
        assert trials == '100'
        assert int(table[task][0]) - int(table[task][2]) == int(better) - int(worse)
    *_, p, adjusted = found['push_then_open']
    assert f'p = {float(p):.2f}, by Holm for seven tasks {adjusted}' in readme


@pytest.mark.parametrize('words', [(SCORES, 'a', 'b'), (SCORES, 'a'), ('missing.json',)])
def test_what_cannot_be_compared_is_refused(words):
    refused = compare(*words)
    assert refused.returncode == 2
    assert 'Traceback' not in refused.stderr


def test_a_single_policy_has_nobody_to_be_compared_with(tmp_path):
    copy = tmp_path / 'scores.json'
    shutil.copy(SCORES, copy)
    copy.write_text(copy.read_text().replace('/gcbc/', '/stable_crl/'))
    refused = compare(copy)
    assert refused.returncode == 2
    assert 'name two of its policies' in refused.stderr
