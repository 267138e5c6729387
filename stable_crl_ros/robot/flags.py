"""What was done to a step: one bit per check, stored with every recorded step."""

import enum


class StepFlag(enum.IntFlag):
    """
    Why a step is not what was asked for; the bits are stored with every recorded step.

    Up to 1 << 23 they belong to the checks of `safety` and to the arm's timing, from 1 << 24 on
    to the arm node. Episodes hold 32 bits; those recorded before 1 << 16 existed hold 16.
    """

    TRANSLATION_CLIPPED = 1  # beyond max_translation on an axis
    ROTATION_CLIPPED = 2  # beyond max_rotation about an axis
    WORKSPACE_CLIPPED = 4  # would have left the workspace
    GRIPPER_CLIPPED = 8  # outside 0..1
    TARGET_LEASHED = 16  # would have run too far ahead of the measured arm
    TILT_CLIPPED = 32  # would have tilted the gripper too far from straight down
    JOINT_SPEED_LIMITED = 64  # shortened to keep every joint within its speed
    UNREACHABLE = 128  # refused: no joint angles within the limits
    JOINT_JUMP = 256  # refused: a joint would have to jump
    NON_FINITE = 512  # refused: NaN or infinity
    STEP_SHORTENED = 1024  # shortened because the whole step could not be reached
    STALE = 2048  # refused by the arm: older than max_command_age
    FUTURE = 4096  # refused by the arm: stamped in the future
    OVERRIDDEN = 8192  # refused by the arm: the operator is in charge
    HELD = 16384  # refused by the arm: it is stopped or homing
    TOO_SOON = 32768  # refused by the arm: more than one command per control period
    SINGULARITY_SLOWED = 1 << 16  # shortened or held on the way into a singularity
    COLLISION = 1 << 17  # refused: the arm would touch itself, its base or the table
    EFFORT_LIMITED = 1 << 18  # held, or in part, as a motor pushes harder than max_effort
    TABLE_CLIPPED = 1 << 19  # the tool point would have gone below the table


REFUSED = (StepFlag.UNREACHABLE | StepFlag.JOINT_JUMP | StepFlag.NON_FINITE | StepFlag.STALE
           | StepFlag.FUTURE | StepFlag.OVERRIDDEN | StepFlag.HELD | StepFlag.TOO_SOON
           | StepFlag.COLLISION)


def flag_names(flags: int) -> list[str]:
    """Return the lower-case names of the bits set, for diagnostics; [] for an unchanged step."""
    return [flag.name.lower() for flag in StepFlag if flags & flag]
