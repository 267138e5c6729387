"""A small ROS client for people without the `ros2` command: services, parameters, lifecycle."""

from collections.abc import Callable
import os
import time

from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState, GetState
import numpy as np
from rcl_interfaces.msg import Parameter, ParameterType, ParameterValue
from rcl_interfaces.srv import GetParameters, ListParameters, SetParameters
import rclpy
from rclpy.client import Client as RosClient
from rclpy.context import Context
from rclpy.exceptions import NameValidationException
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import get_parameter_value, parameter_value_to_python
from rclpy.validate_full_topic_name import validate_full_topic_name
from sensor_msgs.msg import Image
from stable_crl_ros.nodes.common import IMAGE_IN, LATCHED
from stable_crl_ros.nodes.conversions import message_to_image
from stable_crl_ros.patience import wait_until
from std_msgs.msg import String
from std_srvs.srv import Empty, SetBool, Trigger

VERBS = {f'std_srvs/srv/{kind.__name__}': kind for kind in (Trigger, SetBool, Empty)}
TRANSITIONS = {  # label -> transition, state that it leads to
    'configure': (Transition.TRANSITION_CONFIGURE, 'inactive'),
    'activate': (Transition.TRANSITION_ACTIVATE, 'active'),
    'deactivate': (Transition.TRANSITION_DEACTIVATE, 'inactive'),
    'cleanup': (Transition.TRANSITION_CLEANUP, 'unconfigured'),
}
TYPE_NAMES = {
    ParameterType.PARAMETER_BOOL: 'true or false',
    ParameterType.PARAMETER_INTEGER: 'a whole number',
    ParameterType.PARAMETER_DOUBLE: 'a number',
    ParameterType.PARAMETER_DOUBLE_ARRAY: 'a list of numbers, such as [0.1, 2.0]',
    ParameterType.PARAMETER_STRING_ARRAY: 'a list of words, such as [left, right]',
}
ANSWER_S = 60.0  # configuring loads a checkpoint
SWAP_S = 180.0  # checking a checkpoint may take two minutes, and then it is built
SILENCE_S = 3.0  # after which an answer may have been lost
SETTLE_S = 0.3
# Fast DDS announces itself every 3 s: whoever misses one still finds its service.
DISCOVERY_S = 6.5


class ClientError(RuntimeError):
    """Nobody there to ask, or a question that cannot be asked."""


class Client:
    """
    Talk to running nodes; used with `with`.

    :param namespace: completes names that do not start with '/'.
    :param discovery_s: longest wait for a service to appear.
    """

    def __init__(self, namespace: str = 'widowx', discovery_s: float = DISCOVERY_S) -> None:
        self._namespace = namespace.strip('/')
        self._discovery_s = discovery_s

    def __enter__(self) -> 'Client':
        self._context = Context()
        rclpy.init(context=self._context)
        self._node = Node(f'stable_crl_client_{os.getpid()}', context=self._context,
                          enable_rosout=False, start_parameter_services=False)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self._node)
        self._clients: dict[str, RosClient] = {}  # service name -> client, once connected
        return self

    def __exit__(self, *_) -> None:
        self._executor.remove_node(self._node)
        self._node.destroy_node()
        self._executor.shutdown()
        rclpy.try_shutdown(context=self._context)

    def connect(self, service: str) -> None:
        """
        Find a Trigger, SetBool or Empty service now, so that no call of it has to.

        :raises ClientError: when it is not there, or is of another type.
        """
        name = self._full(service)
        self._connected(self._verb(name), name)

    def call(self, service: str, data: bool | None = None,
             patience_s: float | None = None) -> tuple[bool, str]:
        """
        Call a Trigger, SetBool or Empty service.

        :param service: such as 'goal/capture'.
        :param data: what a SetBool asks for.
        :param patience_s: longest wait for the answer, s; None for `ANSWER_S`.
        :returns: success and message, as the node gave them.
        :raises ClientError: when it is not there, is of another type, or gives no answer.
        """
        name = self._full(service)
        kind = self._verb(name)
        if (kind is SetBool) != (data is not None):
            raise ClientError(f'{name} needs true or false after it' if data is None
                              else f'{name} takes no true or false')
        answer = self._ask(kind, name, SetBool.Request(data=data) if kind is SetBool
                           else kind.Request(), repeat=False, patience_s=patience_s)
        return (True, '') if kind is Empty else (answer.success, answer.message)

    def set_parameter(self, node: str, parameter: str, text: str) -> tuple[bool, str]:
        """
        Set one parameter.

        :param text: the value; read as the type the parameter has now.
        :returns: whether the node took it, and its reason if not.
        :raises ClientError: when node or parameter do not exist, or the type cannot be read.
        """
        value = _read(parameter, text, self._value(node, parameter).type)
        request = SetParameters.Request(parameters=[Parameter(name=parameter, value=value)])
        result = self._ask(SetParameters, f'{self._full(node)}/set_parameters', request).results[0]
        fixed = '' if result.successful or 'read-only' not in result.reason else \
            ' It is fixed while the node runs: start it with another value'
        return result.successful, result.reason + fixed

    def swap_checkpoint(self, path: str, node: str = 'policy') -> tuple[bool, str]:
        """
        Let another checkpoint act, and wait until it does or is refused.

        :param path: of the file, as the policy node can read it.
        :returns: whether it acts, and what the node says of it: why not, or how it differs.
        :raises ClientError: when the node is not there or gives no answer.
        """
        taken, reason = self.set_parameter(node, 'checkpoint_path', path)
        return self.call(f'{node}/await_swap', patience_s=SWAP_S) if taken else (False, reason)

    def get_parameter(self, node: str, parameter: str):
        """
        Return one parameter's value.

        :raises ClientError: when node or parameter do not exist.
        """
        return parameter_value_to_python(self._value(node, parameter))

    def parameters(self, node: str) -> dict:
        """Return all of a node's parameters by name, sorted."""
        names = self._names(node)
        return {name: parameter_value_to_python(value)
                for name, value in zip(names, self._values(node, names), strict=True)}

    def image(self, topic: str = 'image_raw') -> tuple[np.ndarray, str]:
        """
        Return what a camera shows now.

        :returns: uint8 RGB, shape (H, W, 3), and the camera's frame.
        :raises ClientError: when no image comes.
        :raises stable_crl_ros.nodes.conversions.ConversionError: for one that cannot be read.
        """
        name = self._full(topic)
        if (found := self._newest(Image, name, IMAGE_IN)) is None:
            raise ClientError(f'no image on {name} (waited {self._discovery_s:g} s); is the '
                              'camera running, with this namespace and ROS_DOMAIN_ID?')
        return message_to_image(found, name), found.header.frame_id

    def text(self, topic: str) -> str:
        """
        Return what a node said last on a latched topic of text.

        :param topic: such as 'episode_logger/recording'.
        :raises ClientError: when it said nothing.
        """
        name = self._full(topic)
        if (found := self._newest(String, name, LATCHED)) is None:
            raise ClientError(f'nothing was said on {name} (waited {self._discovery_s:g} s)')
        return found.data

    def _newest(self, kind, name: str, qos):
        """Return the newest message of a topic, None when none comes."""
        heard = []
        subscription = self._node.create_subscription(kind, name, heard.append, qos)
        try:
            return heard[-1] if self._wait(lambda: heard, self._discovery_s) else None
        finally:
            self._node.destroy_subscription(subscription)

    def transition(self, node: str, label: str) -> bool:
        """
        Ask a managed node to change its state.

        :param label: one of `TRANSITIONS`.
        :returns: whether it did; its own log says why not.
        """
        number, target = TRANSITIONS[label]
        request = ChangeState.Request(transition=Transition(id=number))
        service = f'{self._full(node)}/change_state'
        client = self._connected(ChangeState, service)
        end = time.monotonic() + ANSWER_S
        while time.monotonic() < end:
            future = client.call_async(request)
            self._wait(future.done, SILENCE_S)
            if not future.done() and self.state(node) == target:
                return True
            if future.done():
                return future.result().success
        raise ClientError(f'{service} gave no answer within {ANSWER_S:g} s')

    def state(self, node: str) -> str:
        """Return a managed node's state: unconfigured, inactive, active or finalized."""
        return self._ask(GetState, f'{self._full(node)}/get_state',
                         GetState.Request()).current_state.label

    def _full(self, name: str) -> str:
        full = f'/{name.strip("/")}'
        if self._namespace and not name.startswith('/'):
            full = f'/{self._namespace}{full}'
        try:
            validate_full_topic_name(full)
        except NameValidationException as error:
            raise ClientError(f'{full} cannot be a name in ROS; use letters, digits, "_" and "/", '
                              'and no digit first') from error
        return full

    def _names(self, node: str) -> list[str]:
        answer = self._ask(ListParameters, f'{self._full(node)}/list_parameters',
                           ListParameters.Request())
        return sorted(answer.result.names)

    def _values(self, node: str, names: list[str]) -> list:
        return self._ask(GetParameters, f'{self._full(node)}/get_parameters',
                         GetParameters.Request(names=names)).values

    def _value(self, node: str, parameter: str):
        values = self._values(node, [parameter])
        if not values or values[0].type == ParameterType.PARAMETER_NOT_SET:
            raise ClientError(f'{self._full(node)} has no parameter {parameter!r}; it has '
                              f'{", ".join(self._names(node))}')
        return values[0]

    def _services(self) -> dict[str, list[str]]:
        return dict(self._node.get_service_names_and_types())

    def _verb(self, name: str):
        kinds = self._wait(lambda: self._services().get(name), self._discovery_s)
        if kinds is None:
            known = sorted(s for s, kinds in self._services().items() if kinds[0] in VERBS)
            raise ClientError(f'no service {name} within {self._discovery_s:g} s; there are: '
                              f'{", ".join(known) or "none (is the stack running?)"}')
        if kinds[0] not in VERBS:
            raise ClientError(f'{name} is a {kinds[0]}; only {", ".join(VERBS)} can be called')
        return VERBS[kinds[0]]

    def _others(self, service: str) -> str:
        verb = service.rpartition('/')[2]  # the graph lists our own question too
        nodes = sorted(name.rpartition('/')[0] for name in self._services()
                       if name.rpartition('/')[2] == verb and name != service)
        return (f'these do: {", ".join(nodes)}' if nodes else
                'is the stack running, with this namespace and ROS_DOMAIN_ID?')

    def _connected(self, kind, name: str) -> RosClient:
        client = self._clients.get(name)
        if client is not None and client.service_is_ready():
            return client  # whoever asks again is answered at once
        client = self._clients[name] = client or self._node.create_client(kind, name)
        if not self._wait(client.service_is_ready, self._discovery_s):
            raise ClientError(f'nobody offers {name} (waited {self._discovery_s:g} s); '
                              + self._others(name))
        # Fast DDS drops an answer to a client that the node has not discovered yet.
        self._wait(lambda: False, SETTLE_S)
        return client

    def _ask(self, kind, name: str, request, repeat: bool = True,
             patience_s: float | None = None):
        """Call a service; `repeat` where asking twice does no harm."""
        patience_s = patience_s or ANSWER_S
        client = self._connected(kind, name)
        end = time.monotonic() + patience_s
        while time.monotonic() < end:
            future = client.call_async(request)
            if self._wait(future.done, SILENCE_S if repeat else patience_s):
                return future.result()
        raise ClientError(f'{name} gave no answer within {patience_s:g} s')

    def _wait(self, condition: Callable, timeout_s: float):
        return wait_until(condition, timeout_s,
                          lambda: self._executor.spin_once(timeout_sec=0.05))


def _read(parameter: str, text: str, kind: int) -> ParameterValue:
    """Read a value as the type that the parameter has."""
    if kind == ParameterType.PARAMETER_STRING:
        return ParameterValue(type=kind, string_value=text)
    try:
        if kind == ParameterType.PARAMETER_DOUBLE:
            return ParameterValue(type=kind, double_value=float(text))
        if kind == ParameterType.PARAMETER_DOUBLE_ARRAY:
            numbers = [float(word) for word in text.strip('[] ').split(',')]
            return ParameterValue(type=kind, double_array_value=numbers)
        value = get_parameter_value(text)
        if value.type != kind and kind in TYPE_NAMES:
            raise ValueError
        return value
    except ValueError:
        raise ClientError(f'{parameter} is {TYPE_NAMES[kind]}; {text!r} is not') from None
