"""The simulated robot behind a servo bus: its port, its resets, and the policy through it."""

import os
from pathlib import Path
import signal
import subprocess
import sys
import time

from dynamixel_stack import read
import pytest

pytest.importorskip('rclpy')

from diagnostic_msgs.msg import DiagnosticArray
from stable_crl_ros.nodes.servo_sim import make_nodes
from stable_crl_ros.robot.dynamixel import DynamixelArm
from stable_crl_ros.robot.kinematics import START
from std_msgs.msg import Float64
from std_srvs.srv import Trigger
from waiting import wait_for


class Cell:
    """The two nodes of the process, and a driver at the other end of the link."""

    def __init__(self, ros, tmp_path):
        self.ros, self.link = ros, tmp_path / 'new folder' / 'ttyDXL'
        # `Ros.close` destroys in the reverse order of `add`; the world must go last.
        for node in reversed(make_nodes(context=ros.context, parameter_overrides=ros.parameters(
                link=str(self.link), framerate=2.0))):
            ros.add(node)
        self.drawer = []
        self.probe = ros.node()
        self.probe.create_subscription(Float64, 'sim/drawer_opening', self.drawer.append, 10)

    def reset(self):
        return self.ros.call(Trigger, 'sim/reset', node=self.probe)


@pytest.fixture
def cell(ros, tmp_path):
    return Cell(ros, tmp_path)


@pytest.fixture
def driver(cell):
    arm = DynamixelArm(str(cell.link), cycle_s=0.05, watchdog_s=0.0)
    arm.connect()
    yield arm
    arm.close()


def test_resets_leave_the_arm_alone_once_it_has_torque(cell, driver):
    cell.ros.spin_until(lambda: cell.drawer)
    before, opening = read(driver).joint_positions, cell.drawer[-1].data
    answer = cell.reset()
    assert answer.success and 'the arm stays where it is' in answer.message
    cell.ros.spin_until(lambda: abs(cell.drawer[-1].data - opening) > 1e-3)
    assert abs(read(driver).joint_positions - before).max() < 0.01


def test_a_reset_is_refused_while_the_arm_moves(cell, driver):
    def reset_on_the_way(angle):
        """Ask for a reset in mid-motion."""
        def moving():
            driver.write(START + [angle, 0, 0, 0, 0, 0], 1.0)
            time.sleep(0.05)
            return abs(read(driver).joint_velocities[0]) > 0.3
        wait_for(moving)
        return cell.reset()
    for angle in (1.0, -1.0, 1.0, -1.0):  # it is over where the machine stands still meanwhile
        answer = reset_on_the_way(angle)
        if not answer.success:
            break
    assert not answer.success and 'moving' in answer.message


def test_the_port_goes_with_the_process_and_the_process_with_its_bus(tmp_path):
    link = tmp_path / 'port'
    process = subprocess.Popen(
        [sys.executable, '-m', 'stable_crl_ros.nodes.servo_sim', '--ros-args', '-p',
         f'link:={link}'], stderr=subprocess.PIPE, text=True)
    for line in process.stderr:  # the link alone is there before the node knows of its bus
        if 'servo bus at' in line:
            break
    assert link.exists() and process.poll() is None
    for pid in Path(f'/proc/{process.pid}/task/{process.pid}/children').read_text().split():
        os.kill(int(pid), signal.SIGKILL)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 1
    assert 'the servo bus ended with status -9' in said


@pytest.mark.slow
def test_the_shipped_checkpoint_opens_the_drawer_through_servo_packets(ros, tmp_path):
    statuses = []
    ros.node().create_subscription(
        DiagnosticArray, '/diagnostics', lambda message: statuses.extend(message.status), 50)
    process = subprocess.Popen(
        [sys.executable, '-m', 'stable_crl_ros.cli', 'demo', '--robot', 'emulated', '--seed', '0',
         '--out', str(tmp_path)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    ros.spin_until(lambda: process.poll() is not None, 200.0, 'the end of the demo')
    said = process.stdout.read()
    assert process.returncode == 0 and 'GOAL REACHED' in said, said
    motors = [status for status in statuses if status.name.endswith('motors')]
    health = {pair.key: pair.value for pair in motors[-1].values}
    assert motors[-1].hardware_id == 'wx250s dynamixel'
    assert int(health['cycles']) > 100
    assert 'shoulder_shadow.voltage' in health
