"""The arrays of an episode: names, types, shapes, and what their numbers mean."""

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from stable_crl_ros.actions import ACTION_DIM

AGES = 'ages'  # group: per stream, how much older than the tick its sample was
STATE_STREAMS = ('joint_states', 'ee_pose')
CHECKPOINT_DIGITS = 12  # hexadecimal ones that name a checkpoint: exact in a float64


class Mode(IntEnum):
    """Who commanded a step."""

    IDLE = 0
    POLICY = 1
    TELEOP = 2
    SCRIPT = 3


@dataclass(frozen=True)
class Field:
    """
    One array of an episode: name, type, shape of one row, and what the numbers mean.

    :param absent: what readers find in every row of an episode of an earlier version, which did
        not store it; None where every version does.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    meaning: str
    absent: float | None = None


# T + 1 rows: row t is seen before action t, row T after the last action.
STATE_FIELDS = (
    Field('joint_positions', 'float32', (6,), 'rad, waist .. wrist_rotate; NaN: not recorded'),
    Field('joint_velocities', 'float32', (6,), 'rad/s; NaN: not recorded'),
    Field('joint_efforts', 'float32', (6,), 'as the driver reports; NaN: not recorded'),
    Field('gripper', 'float32', (), '0 closed .. 1 open; NaN: not recorded'),
    Field('ee_pose', 'float32', (7,), 'x y z (m), quaternion x y z w, of ee_gripper_link in '
                                      'base_link; NaN: not recorded'),
)

# T rows: row t belongs to action t.
STEP_FIELDS = (
    Field('action', 'float32', (ACTION_DIM,), 'really applied: dx dy dz (m), droll dpitch dyaw '
                                              '(rad, fixed axes of base_link), gripper 0..1'),
    Field('commanded_action', 'float32', (ACTION_DIM,), 'asked for, before clipping; as action'),
    Field('capture_stamp', 'int64', (), 'ns of the system clock: image taken; 0: not recorded'),
    Field('receive_stamp', 'int64', (), 'ns: image received; 0: not recorded'),
    Field('command_stamp', 'int64', (), 'ns: action commanded; 0: not recorded'),
    Field('applied_stamp', 'int64', (), 'ns: action applied; 0: not recorded'),
    Field('mode', 'uint8', (), ', '.join(f'{mode.value} {mode.name.lower()}' for mode in Mode)),
    Field('intervention', 'bool', (), 'an operator overrode the policy'),
    Field('flags', 'uint32', (), 'bits of robot.flags.StepFlag'),
    Field('progress', 'float32', (), 'what the critic says about the goal; NaN: none'),
    Field('steps_to_go', 'float32', (), 'expected number of steps to the goal; NaN: none', np.nan),
    Field('at_goal', 'float32', (), 'probability of being at the goal, 0..1; NaN: none', np.nan),
    Field('done', 'bool', (), 'the policy said that its goal counts as reached (no end of the '
                              'episode); false: it did not, none acted, or not recorded', 0),
    Field('checkpoint', 'uint64', (), 'first 48 bits of the sha256 of the checkpoint whose action '
                                      'was commanded; 0: of none, or not recorded', 0),
    Field('image_age', 'float32', (), 's between image and computation; NaN: no policy', np.nan),
    Field('inference_time', 'float32', (), 's of computation; NaN: no policy', np.nan),
    Field('lateness', 'float32', (), 's by which the tick began late; NaN: no policy', np.nan),
)

STAMP_FIELDS = ('capture_stamp', 'receive_stamp')  # known with the observation
OLDER_TYPES = {'flags': 'uint16'}  # as earlier versions stored these; readers widen them


def age_field(stream: str) -> Field:
    """Return the array, one row per step, that holds the ages of a camera or a state stream."""
    return Field(f'{AGES}/{stream}', 'int64', (),
                 'ns: how much older than the tick the sample is; -1: not recorded', -1)


def checkpoint_number(sha256: str) -> int:
    """Return what the step field 'checkpoint' holds of a checkpoint; 0 for ''."""
    return int(sha256[:CHECKPOINT_DIGITS] or '0', 16)


def checkpoint_id(number: int) -> str:
    """Return the first digits of the sha256 that `checkpoint_number` was given; '' for 0."""
    return f'{int(number):0{CHECKPOINT_DIGITS}x}' if number else ''


def absent_rows(name: str, steps: int) -> np.ndarray | None:
    """Return a step array as it is read where an earlier version stored none; None for others."""
    item = next((item for item in STEP_FIELDS if item.name == name), None)
    if item is None or item.absent is None:
        return None
    return np.full((steps, *item.shape), item.absent, item.dtype)


def widened(name: str, values: np.ndarray) -> np.ndarray:
    """Return a step array in the type of `STEP_FIELDS`, when an earlier version stored less."""
    if values.dtype.name != OLDER_TYPES.get(name):
        return values
    return values.astype(next(item.dtype for item in STEP_FIELDS if item.name == name))
