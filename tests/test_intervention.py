"""A policy runs in simulation, an operator takes over with a gamepad and gives the arm back."""

from itertools import groupby
from pathlib import Path
import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip('rclpy')

from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from logger_stack import Stack
from pad_line import Line, XBOX
from stable_crl_ros.actions import BRIDGE_HIGH
from stable_crl_ros.data.findings import ERROR
from stable_crl_ros.data.schema import Mode
from stable_crl_ros.data.verify import verify_dataset
from stable_crl_ros.nodes.policy import PolicyNode
from stable_crl_ros.nodes.teleop import TeleopNode
from stable_crl_ros.teleop.device import HotPlug, Together
from stable_crl_ros.teleop.gamepad import Gamepad

SCRIPT = Path(__file__).parents[1] / 'data_collection' / 'record_intervention.py'


@pytest.fixture
def pad():
    """Give the line of a gamepad that is plugged in."""
    line = Line(*XBOX)
    yield line
    line.close()


def turns(modes):
    """Return who was in charge, one after the other."""
    return [Mode(mode) for mode, _ in groupby(modes)]


def test_taking_over_and_giving_back_is_smooth_and_recorded(ros, tmp_path, first, pad):
    # The operator's silence is longer than that of a machine that stands still.
    stack = Stack(ros, tmp_path, arm={'command_timeout': 2.5})
    device = HotPlug(lambda: Gamepad(pad), lambda: None, lambda text: None)
    device.connect()
    ros.add(TeleopNode(devices=Together([device]), context=ros.context))
    ros.add(PolicyNode(context=ros.context, parameter_overrides=ros.parameters(
        checkpoint_path=str(first), max_image_age=10.0)))

    def steps(mode):
        return [step for step in stack.applied if step.mode is mode and not step.refused]
    def change(transition):
        request = ChangeState.Request(transition=Transition(id=transition))
        return ros.call(ChangeState, 'policy/change_state', request, node=stack.probe).success
    assert change(Transition.TRANSITION_CONFIGURE)
    ros.spin_until(lambda: change(Transition.TRANSITION_ACTIVATE))  # once the goal has come

    def recording():
        """Press the key, and again where that was refused: all was old after a standstill."""
        pad.send(('BTN_START', 1))
        ros.spin_for(0.5)
        pad.send(('BTN_START', 0))
        return stack.logger._recording is not None
    ros.spin_until(recording)
    before = len(steps(Mode.POLICY))
    ros.spin_until(lambda: len(steps(Mode.POLICY)) >= before + 4)
    pad.send(('BTN_TL', 1), ('ABS_RY', -32768))  # up
    ros.spin_until(lambda: len(steps(Mode.TELEOP)) >= 5)
    pad.send(('BTN_TL', 0), ('ABS_RY', 0))
    by_policy = len(steps(Mode.POLICY))
    ros.spin_until(lambda: len(steps(Mode.POLICY)) >= by_policy + 4)
    assert stack.call('stop', True).success

    episode = stack.episode()
    assert turns(episode['mode']) == [Mode.POLICY, Mode.TELEOP, Mode.POLICY]
    np.testing.assert_array_equal(episode['intervention'], episode['mode'] == Mode.TELEOP)
    up = episode['action'][episode['intervention']]
    assert (up[:, 2] > 0.01).all()
    np.testing.assert_allclose(up[:, [0, 1, 3, 4, 5]], 0.0, atol=1e-9)
    assert [f for f in verify_dataset(tmp_path / 'episodes') if f.severity == ERROR] == []
    # Handing over moves the target no further than any step may.
    assert (np.abs(episode['action'][:, :6]) <= np.array(BRIDGE_HIGH[:6]) + 1e-6).all()


@pytest.mark.slow
@pytest.mark.parametrize('robot', ['sim', 'emulated'])
def test_the_script_records_one_with_real_processes_and_a_real_terminal(tmp_path, robot):
    done = subprocess.run([sys.executable, SCRIPT, '--out', tmp_path, '--robot', robot],
                          capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-2000:]
    assert 'policy, teleop (interventions), policy' in done.stdout
