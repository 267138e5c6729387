"""What the arm node says of itself on /diagnostics: of control, and of the motors."""

from collections import Counter
from collections.abc import Callable

from stable_crl_ros.nodes.common import Diagnostics, ERROR, ManagedNode, OK, WARN
from stable_crl_ros.robot.arbiter import ArmMode
from stable_crl_ros.robot.controller import ArmController
from stable_crl_ros.robot.safety import flag_names, REFUSED, StepFlag
from stable_crl_ros.robot.servo import Servo

# Clips are everyday; these are not.
ALARMING = ('lost_cycles', 'wrong_frame', 'not_active',
            *flag_names(REFUSED & ~StepFlag.OVERRIDDEN))
LEVELS = {ArmMode.FAULT: ERROR, ArmMode.PAUSED: WARN}


class ArmDiagnostics:
    """
    Publish the statuses `control` and `motors`, once a second.

    :param look: returns the controller, a copy of its counts, the servo cycle (None when not
        configured) and the loop's health.
    """

    def __init__(
        self, node: ManagedNode, driver: str,
        look: Callable[[], tuple[ArmController, Counter, Servo | None, dict]],
    ) -> None:
        self._node, self._look = node, look
        self._reported: Counter = Counter()
        diagnostics = Diagnostics(node, f'wx250s {driver}')
        diagnostics.add('control', self._control)
        diagnostics.add('motors', self._motors)

    def _control(self) -> tuple[bytes, str, dict]:
        controller, counts, _, loop = self._look()
        new = sorted(name for name in ALARMING if counts[name] > self._reported[name])
        mode, reason = controller.mode, controller.arbiter.reason
        values = {'mode': mode.value, 'active': self._node.active, **counts, **loop}
        self._reported = counts
        if mode in LEVELS:
            return LEVELS[mode], f'{mode.value}: {reason}', values
        if new:
            return WARN, f'in the last second: {", ".join(new)}', values
        return OK, mode.value if self._node.active else 'not active', values

    def _motors(self) -> tuple[bytes, str, dict]:
        servo = self._look()[2]
        if servo is None:
            return OK, 'not connected', {}
        faults = servo.faults
        return (ERROR, '; '.join(faults), servo.health) if faults else (OK, 'ok', servo.health)
