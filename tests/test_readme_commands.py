"""The README's commands, as typed: what they show moves, and what they do works."""

from pathlib import Path
import re
import shlex
import time
from types import SimpleNamespace

import numpy as np
import pytest
from stable_crl_ros import SHIPPED_GOALS
from stable_crl_ros.bringup import GRAPHS, parse_arguments, SIMULATED
from stable_crl_ros.cli import main
from stable_crl_ros.goals import GoalStore
from stable_crl_ros.launcher import Launcher
from stable_crl_ros.sim.tasks import TASKS
from stable_crl_ros.sim.world import WorldState

README = (Path(__file__).resolve().parents[1] / 'README.md').read_text()
POLICY = GRAPHS['policy']


def launches():
    """Return the arguments of every stack with a policy and a goal that the README starts."""
    found = re.findall(r'(?:stable-crl launch policy|policy\.launch\.py)((?: \w+:=[\w./]+)+)',
                       README)
    return [values for words in found
            if (values := POLICY.complete(parse_arguments(POLICY, words.split())))['goal']
            and values['robot'] in SIMULATED]


@pytest.mark.parametrize('values', launches())
def test_an_example_of_the_readme_begins_away_from_its_goal(values):
    task = TASKS[values['sim_task']]
    start, _ = task.draw(int(values['seed']))
    there = GoalStore(SHIPPED_GOALS).load(values['goal']).metadata
    goal = WorldState(drawer=there['drawer_opening'], block=there['block'])
    errors = task.errors(SimpleNamespace(drawer_opening=start.drawer,
                                         block_position=np.array(start.block)), goal)
    assert not task.within(errors, loose=True)


def test_the_readme_s_examples_are_found():
    assert [(values['goal'], values['sim_task']) for values in launches()].count(
        ('block_placed.png', 'pick_place')) == 1
    assert len(launches()) >= 4


def test_the_readme_s_way_to_another_scene_works_while_the_policy_acts(capsys, tmp_path):
    row = re.search(r'\| another scene \(simulation\) \| `(.*)` \|', README).group(1)
    values, lines = POLICY.complete({'goal': 'drawer_open', 'goal_directory': str(tmp_path)}), []
    with Launcher(POLICY.specs(values), values['namespace'], output=lines.append) as stack:
        end = time.monotonic() + 60.0
        while not any('active: arm, policy' in line for line in lines):
            assert time.monotonic() < end, lines
            stack.poll()
            time.sleep(0.05)
        for command in row.split(' && '):
            program, *words = shlex.split(command)
            assert (program, main(words)) == ('stable-crl', 0), capsys.readouterr()
    assert 'scene of open_drawer' in capsys.readouterr().out
