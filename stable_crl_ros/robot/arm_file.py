"""What `config/arm.yaml` says of the arm, for the commands that move it without ROS."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from stable_crl_ros.robot.arbiter import ControlError
from stable_crl_ros.robot.arm import ArmError
from stable_crl_ros.robot.controller import ControlSettings
from stable_crl_ros.robot.journey import check_pose
from stable_crl_ros.robot.kinematics import SLEEP, START
from stable_crl_ros.robot.limits import ArmLimits, SafetyError
import yaml

NODE = 'arm'
SLOWEST, FASTEST = 0.05, 1.5  # rad/s of the fastest joint on the way home or to sleep


@dataclass(frozen=True)
class ArmFile:
    """
    The part of the arm node's parameters that its own motions depend on.

    :param home: (6,) rad; so is `sleep`.
    :param speed: of the fastest joint, rad/s.
    """

    limits: ArmLimits
    home: np.ndarray
    sleep: np.ndarray
    speed: float

    def at_speed(self, speed: float) -> 'ArmFile':
        """
        Return the same with another speed, rad/s.

        :raises ArmError: for one outside 0.05 .. 1.5 rad/s.
        """
        return replace(self, speed=_speed(speed))


def read_arm_file(path: str | Path) -> ArmFile:
    """
    Read a parameter file of the arm node; what it does not name keeps the node's default.

    Sections count as for the node: `/**`, `/**/arm`, or its name in whatever namespace; a later
    section overrides an earlier one.

    :raises ArmError: naming the file and what is wrong with it.
    """
    try:
        found = _parameters(yaml.safe_load(Path(path).read_text()) or {})
        return ArmFile(_limits(found), _pose(found, 'home_joints', START),
                       _pose(found, 'sleep_joints', SLEEP),
                       _speed(found.get('homing_speed', ControlSettings.homing_speed)))
    except OSError as error:
        raise ArmError(f'{path}: {error.strerror}') from error
    except (yaml.YAMLError, UnicodeDecodeError, SafetyError, ArmError) as error:
        raise ArmError(f'{path}: {error}') from error


def _parameters(sections: object) -> dict:
    """Merge what the file says of the node."""
    if not isinstance(sections, Mapping):
        raise ArmError('no parameters of nodes')
    found: dict = {}
    for name, section in sections.items():
        if str(name).rpartition('/')[2] not in (NODE, '**'):
            continue
        values = section.get('ros__parameters') if isinstance(section, Mapping) else None
        if not isinstance(values, Mapping):
            raise ArmError(f'no ros__parameters below {name}')
        for key, value in values.items():
            nested = isinstance(value, Mapping) and isinstance(found.get(key), Mapping)
            found[key] = {**found[key], **value} if nested else value
    return found


def _limits(found: Mapping) -> ArmLimits:
    nested = found.get('limits', {})
    if not isinstance(nested, Mapping):
        raise ArmError(f'limits must be names and values, got {nested!r}')
    dotted = {name.removeprefix('limits.'): value for name, value in found.items()
              if name.startswith('limits.')}
    return ArmLimits.from_dict({**nested, **dotted})


def _pose(found: Mapping, name: str, default: np.ndarray) -> np.ndarray:
    try:
        pose = np.asarray(found.get(name, default), dtype=float)
        check_pose(pose)
    except (TypeError, ValueError, ControlError) as error:
        raise ArmError(f'{name}: {error}') from error
    return pose


def _speed(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) \
            or not SLOWEST <= value <= FASTEST:
        raise ArmError(f'the speed must be {SLOWEST} to {FASTEST} rad/s, got {value!r}')
    return float(value)
