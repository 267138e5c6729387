"""The shipped udev rules are those that refusals print."""

from pathlib import Path

from stable_crl_ros.graph import share
from stable_crl_ros.robot.dynamixel_port import UDEV_FILE, UDEV_RULE
from stable_crl_ros.teleop import udev

BEFORE_SEATS = 73  # the rule file of systemd that gives TAG+="uaccess" its meaning


def rules_in(text):
    return [line for line in text.splitlines() if line and not line.startswith('#')]


def test_of_gamepads_and_spacemice():
    text = (share('config') / udev.FILE).read_text()
    assert text == udev.rules()
    rules = rules_in(text)
    assert len(rules) == 4 and all('TAG+="uaccess"' in rule for rule in rules)
    assert int(udev.FILE[:2]) < BEFORE_SEATS


def test_of_the_arm():
    assert rules_in((share('config') / Path(UDEV_FILE).name).read_text()) == [UDEV_RULE]


def test_there_are_no_others():
    assert {path.name for path in share('config').glob('*.rules')} == {
        udev.FILE, Path(UDEV_FILE).name}
