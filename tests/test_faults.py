"""Faults of the servo bus under a running arm node: what it does, says, and needs to go on."""

import pytest

pytest.importorskip('rclpy')

from dynamixel_stack import LONGEST_S
from fault_cases import CASES
from fault_rig import provoke
from test_arm_node import PATIENT_S

QUICK = ('one answer dropped', 'overload of the gripper', 'the elbow is dead',
         'the cable is pulled out', 'an arm with five joints')
# A busy machine loses many cycles, and one that stands still trips a watchdog.
PATIENT = {'max_lost_cycles': 25, 'max_command_age': PATIENT_S, 'watchdog_s': LONGEST_S}


@pytest.mark.parametrize('name', QUICK)
def test_a_fault_is_held_named_and_mended(name):
    provoke(next(case for case in CASES if case.name == name), **PATIENT)


@pytest.mark.slow
@pytest.mark.parametrize('case', [case for case in CASES if case.name not in QUICK],
                         ids=lambda case: case.name)
def test_every_fault_is_held_named_and_mended(case):
    provoke(case, **PATIENT)
