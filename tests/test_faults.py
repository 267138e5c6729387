"""Faults of the servo bus under a running arm node: what it does, says, and needs to go on."""

import pytest

pytest.importorskip('rclpy')

from fault_cases import CASES
from fault_rig import provoke

QUICK = ('one answer dropped', 'overload of the gripper', 'the elbow is dead',
         'the cable is pulled out', 'an arm with five joints')
PATIENT = {'max_lost_cycles': 25, 'max_command_age': 1.5}  # a busy machine loses many


@pytest.mark.parametrize('name', QUICK)
def test_a_fault_is_held_named_and_mended(name):
    provoke(next(case for case in CASES if case.name == name), **PATIENT)


@pytest.mark.slow
@pytest.mark.parametrize('case', [case for case in CASES if case.name not in QUICK],
                         ids=lambda case: case.name)
def test_every_fault_is_held_named_and_mended(case):
    provoke(case, **PATIENT)
