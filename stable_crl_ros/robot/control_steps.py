"""What of an arm's reports is a control step: one rule for the logger and for reading bags."""

from stable_crl_ros.robot.arbiter import ArmMode
from stable_crl_ros.robot.flags import StepFlag

# Refused before the arm considered them: nothing was decided, so they are no control steps.
NO_STEP = (StepFlag.STALE | StepFlag.FUTURE | StepFlag.OVERRIDDEN | StepFlag.HELD
           | StepFlag.TOO_SOON)
# Modes in which nobody may steer, and what the arm was then: it may be elsewhere after them.
INTERRUPTIONS = {ArmMode.PAUSED: 'stopped', ArmMode.FAULT: 'stopped', ArmMode.IDLE: 'not active',
                 ArmMode.RESETTING: 'put back'}
# The operator intervenes where the policy was heard so recently, heeded or not.
POLICY_FRESH_S = 1.0
