"""What every node shares: parameters, QoS profiles, a managed base class and diagnostics."""

from collections.abc import Callable
import sys
import time
import traceback

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rcl_interfaces.msg import (
    FloatingPointRange,
    IntegerRange,
    ParameterDescriptor,
    SetParametersResult,
)
from rclpy.exceptions import InvalidParameterTypeException
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from stable_crl_ros.nodes.process import (
    PRIORITY,
    RCLError,
    REFUSALS,
    refuse_duplicate,
    spin_node,
    StartupError,
    steady_clock,
)
from stable_crl_ros.scheduling import HIGHEST

__all__ = [
    'answer', 'COMMAND', 'declare_priority', 'Diagnostics', 'ERROR', 'IMAGE_IN', 'IMAGE_OUT',
    'LATCHED', 'ManagedNode', 'NotReadyError', 'OK', 'param', 'REFUSALS', 'refuse_duplicate',
    'spin_node', 'StartupError', 'steady_clock', 'value', 'WARN',
]

LATCHED = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE,
                     durability=DurabilityPolicy.TRANSIENT_LOCAL)
COMMAND = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE)
IMAGE_OUT = QoSProfile(depth=5, reliability=ReliabilityPolicy.RELIABLE)
IMAGE_IN = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)

PATIENCE_S = 3.0  # refusals that time may lift are no cause for alarm before
OK, WARN, ERROR = DiagnosticStatus.OK, DiagnosticStatus.WARN, DiagnosticStatus.ERROR


def param(
    node: Node, name: str, default, description: str, low=None, high=None,
    read_only: bool = False, choices: tuple[str, ...] | None = None,
):
    """
    Declare one parameter with its description, range and valid values.

    :param default: gives the type too: write 5.0, never 5, for a float.
    :param description: one line with the unit.
    :param low: smallest valid number; None for none. NaN and infinity are never valid.
    :param high: largest valid number; None for none.
    :param choices: the valid strings; a refusal lists them.
    :returns: the value, override included.
    :raises StartupError: when the override is of the wrong type.
    :raises rclpy.exceptions.InvalidParameterValueException: when it is out of range.
    """
    descriptor = ParameterDescriptor(description=description, read_only=read_only)
    if isinstance(default, float):
        limit = sys.float_info.max
        descriptor.floating_point_range = [FloatingPointRange(
            from_value=-limit if low is None else float(low),
            to_value=limit if high is None else float(high), step=0.0)]
    elif isinstance(default, int) and not isinstance(default, bool):
        descriptor.integer_range = [IntegerRange(
            from_value=-2 ** 63 if low is None else int(low),
            to_value=2 ** 63 - 1 if high is None else int(high), step=0)]
    if choices is not None:
        descriptor.additional_constraints = f'one of {", ".join(choices)}'
        node.add_on_set_parameters_callback(_choices_check(name, choices))
    try:
        return node.declare_parameter(name, default, descriptor).value
    except InvalidParameterTypeException as error:
        hint = '; write 5.0 rather than 5' if isinstance(default, float) else ''
        raise StartupError(f'{error}{hint}') from error


def _choices_check(name: str, choices: tuple[str, ...]) -> Callable:
    def check(parameters) -> SetParametersResult:
        for parameter in parameters:
            if parameter.name == name and parameter.value not in choices:
                return SetParametersResult(
                    successful=False,
                    reason=f'{name} is {parameter.value!r}; choose one of {", ".join(choices)}')
        return SetParametersResult(successful=True)
    return check


def declare_priority(node: Node, default: int) -> None:
    """
    Declare how far the node's process goes before others; `spin_node` asks for it.

    :param default: of `scheduling`.
    """
    param(node, PRIORITY, default, 'Real-time priority of its process (SCHED_RR), where the '
          'system allows it; 0 for none; a simulator goes without', low=0, high=HIGHEST,
          read_only=True)


def value(node: Node, name: str):
    """Return the present value of a declared parameter."""
    return node.get_parameter(name).value


def answer(node: Node, response, success: bool, message: str):
    """
    Fill in the response of a Trigger or SetBool service, and log it.

    :returns: the response.
    """
    response.success, response.message = success, message
    if success:
        node.get_logger().info(message)
    else:
        node.get_logger().warning(message)
    return response


class NotReadyError(RuntimeError):
    """A refusal that time may lift, such as a goal still under way: no cause for alarm."""


class ManagedNode(LifecycleNode):
    """
    Lifecycle node that says why a transition failed and survives an illegal request.

    Subclasses override `setup`, `start`, `stop` and `teardown`. To refuse, raise one of
    `REFUSALS`: its text is logged, kept in `refusal`, and the node stays in its state.
    `teardown` undoes `setup`, also a half-finished one, and may be called twice.
    `active` is True between a successful `start` and the next `stop`.
    """

    def __init__(self, name: str, **kwargs) -> None:
        super().__init__(name, enable_logger_service=True, **kwargs)
        self.active = False
        self.refusal = ''
        self._waiting_since_s: float | None = None  # the first of the refusals that time may lift
        # rclpy 7 lets the error of an illegal request escape spin(), which ends the process.
        self._service_change_state.callback = self._refusing(self._service_change_state.callback)

    def setup(self) -> None:
        """Acquire what the node needs (configure)."""

    def start(self) -> None:
        """Begin to act (activate)."""

    def stop(self) -> None:
        """Cease to act (deactivate); must not fail."""

    def teardown(self) -> None:
        """Release what `setup` acquired (cleanup, shutdown, error)."""

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Run `setup`, and `teardown` when it refuses."""
        return self._attempt('configure', (self.setup,), super().on_configure, state,
                             undo=self.teardown)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Run `start`, and `stop` when it refuses."""
        result = self._attempt('activate', (self.start,), super().on_activate, state,
                               undo=self.stop)
        self.active = result == TransitionCallbackReturn.SUCCESS
        return result

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Run `stop`."""
        self.active = False
        return self._attempt('deactivate', (self.stop,), super().on_deactivate, state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Run `teardown`."""
        return self._attempt('cleanup', (self.teardown,), super().on_cleanup, state)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Run `stop` and `teardown`."""
        self.active = False
        return self._attempt('shutdown', (self.stop, self.teardown), super().on_shutdown, state)

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Run `stop` and `teardown`; the node is then unconfigured and can be tried again."""
        self.active = False
        return self._attempt('recover', (self.stop, self.teardown), super().on_error, state)

    def destroy_node(self) -> None:
        """Stop and release everything, then destroy the node."""
        self.active = False
        try:
            self.stop()
            self.teardown()
        finally:
            # rclpy leaves the lifecycle services in the graph until the object is collected.
            self._state_machine.destroy_when_not_in_use()
            super().destroy_node()

    def _attempt(self, verb, actions, entities, state, undo=None) -> TransitionCallbackReturn:
        try:
            for action in actions:
                action()
            self.refusal, self._waiting_since_s = '', None
            return entities(state)
        except REFUSALS as error:
            self.refusal = f'cannot {verb}: {error}'
            if isinstance(error, NotReadyError):
                self._wait_or_warn(str(error))
            else:
                self.get_logger().error(self.refusal)
            if undo is not None:
                undo()
            return TransitionCallbackReturn.FAILURE
        except Exception:  # rclpy would swallow it without a word
            self.refusal = f'cannot {verb}: {traceback.format_exc()}'
            self.get_logger().fatal(self.refusal)
            return TransitionCallbackReturn.ERROR

    def _wait_or_warn(self, reason: str) -> None:
        if self._waiting_since_s is None:
            self._waiting_since_s = time.monotonic()
            self.get_logger().info(f'waits: {reason}')
        elif time.monotonic() - self._waiting_since_s > PATIENCE_S:
            self.get_logger().warning(self.refusal)

    def _refusing(self, callback: Callable) -> Callable:
        def change_state(request, response):
            try:
                return callback(request, response)
            except RCLError as error:
                wanted = request.transition.label or f'transition {request.transition.id}'
                self.get_logger().error(f'refused {wanted}: {str(error).splitlines()[0]}')
                response.success = False
                return response
        return change_state


class Diagnostics:
    """
    Publish this node's health on /diagnostics once a second.

    :param node: the reporting node; statuses are named '<its full name>: <check>'.
    :param hardware_id: the device it speaks for, '' for none.
    """

    def __init__(self, node: Node, hardware_id: str = '') -> None:
        self._node = node
        self._hardware_id = hardware_id
        self._checks: dict[str, Callable[[], tuple[bytes, str, dict]]] = {}
        self._publisher = node.create_publisher(DiagnosticArray, '/diagnostics', 10)
        node.create_timer(1.0, self.publish, clock=steady_clock())

    def add(self, name: str, check: Callable[[], tuple[bytes, str, dict]]) -> None:
        """
        Add one status.

        :param check: returns (OK, WARN or ERROR, one line, values by name).
        """
        self._checks[name] = check

    def publish(self) -> None:
        """Publish all statuses now."""
        message = DiagnosticArray()
        message.header.stamp = self._node.get_clock().now().to_msg()
        for name, check in self._checks.items():
            level, text, values = check()
            message.status.append(DiagnosticStatus(
                level=level, name=f'{self._node.get_fully_qualified_name()}: {name}',
                message=text, hardware_id=self._hardware_id,
                values=[KeyValue(key=str(k), value=str(v)) for k, v in values.items()]))
        self._publisher.publish(message)
