"""Joint states of another driver, heard by a node and a thread of their own."""

import threading
import time

from rclpy.client import Client
from rclpy.context import Context
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from sensor_msgs.msg import JointState
from stable_crl_ros.nodes.common import RCLError
from stable_crl_ros.nodes.messages import decode_joint_states, MessageError
from stable_crl_ros.robot.arm import ArmError, ArmState

MEETING_S = 5.0


class JointFeed:
    """
    Keep the newest joint states, and call services without the arm node's executor.

    :param context: of the arm node.
    :param name: of the node it makes.
    :param namespace: of that node; relative names start from it.
    :param topic: of the joint states.
    :param max_age_s: oldest joint states that are still a state, s.
    """

    def __init__(
        self, context: Context, name: str, namespace: str, topic: str, max_age_s: float,
    ) -> None:
        # Without the process's own arguments, which would give it the arm node's name.
        self.node = Node(name, context=context, namespace=namespace, use_global_arguments=False,
                         start_parameter_services=False)
        self.topic = self.node.resolve_topic_name(topic)
        self._max_age_s = max_age_s
        self._state: ArmState | None = None
        self._problem, self._heard_at = 'none came', 0.0
        self.node.create_subscription(JointState, topic, self._on_joints, 1)
        self._executor = SingleThreadedExecutor(context=context)
        self._executor.add_node(self.node)
        self._thread = threading.Thread(target=self._spin, name=name, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop listening."""
        self._executor.shutdown()
        self._thread.join()
        self.node.destroy_node()

    def _spin(self) -> None:
        try:
            self._executor.spin()
        except ExternalShutdownException:
            pass
        except RCLError:  # the context ended between two calls
            if self.node.context.ok():
                raise

    def _on_joints(self, message: JointState) -> None:
        try:
            self._state, self._heard_at = decode_joint_states(message), time.monotonic()
            self._problem = ''
        except MessageError as error:
            self._problem = str(error)

    def wait(self) -> ArmState:
        """
        Wait for the first joint states.

        :raises ArmError: when none come.
        """
        end = time.monotonic() + MEETING_S
        while self._state is None and time.monotonic() < end:
            time.sleep(0.01)
        return self.state()

    def state(self) -> ArmState:
        """
        Return the newest joint states.

        :raises ArmError: when they are too old, or there never were any.
        """
        if self._state is None:
            raise ArmError(f'no joint states on {self.topic}: {self._problem}; start the driver '
                           'that publishes them, or name its topic')
        age_s = time.monotonic() - self._heard_at
        if age_s > self._max_age_s:
            since = f'; since then: {self._problem}' if self._problem else ''
            raise ArmError(f'the last joint states on {self.topic} came {age_s:.2f} s ago{since}')
        return self._state

    def call(self, client: Client, request, timeout_s: float = MEETING_S):
        """
        Call a service and wait for its answer; not from this feed's own callbacks.

        :raises ArmError: when the service is not there or does not answer.
        """
        if not client.wait_for_service(timeout_s):
            raise ArmError(f'no service {client.srv_name}; start the driver that offers it')
        answer = client.call(request, timeout_sec=timeout_s)
        if answer is None:
            raise ArmError(f'{client.srv_name} did not answer within {timeout_s:g} s')
        return answer
