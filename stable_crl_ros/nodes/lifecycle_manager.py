"""Bring the managed nodes up in order, then end; a refusal ends with status 1 and says whose."""

from collections.abc import Callable, Generator, Iterator
from pathlib import Path
import sys
import time

from lifecycle_msgs.msg import State, Transition
from lifecycle_msgs.srv import ChangeState, GetState
import rclpy
from rclpy.client import Client
from rclpy.node import Node
from stable_crl_ros.nodes.common import param, spin_node, StartupError, steady_clock, value

TICK_S = 0.05
RETRY_S = 0.5  # between two attempts to activate
SILENCE_S = 2.0  # after which an answer may have been lost
ACTIVE = State.PRIMARY_STATE_ACTIVE
CONFIGURED = (State.PRIMARY_STATE_INACTIVE, ACTIVE)


class LifecycleManager(Node):
    """
    Configure every managed node, in order, and then activate them if that is wanted.

    An activation is tried again for a while: the first image or the goal may still be under way.
    A node that is further along already is left alone.
    """

    def __init__(self, **kwargs) -> None:
        super().__init__('lifecycle_manager', **kwargs)
        param(self, 'managed_nodes', ['arm', 'policy'], 'Names in the order to bring them up')
        param(self, 'autostart', False, 'Activate them too; else only configure them')
        param(self, 'awaited_path', '', 'File or link that must be there before anything is '
              'configured, such as the port of an emulated bus; empty for none')
        param(self, 'appear_timeout', 30.0, 'Longest wait for a node to appear (s)', low=0.1)
        param(self, 'answer_timeout', 120.0, 'Longest a node may take to configure (s)', low=0.1)
        param(self, 'activate_timeout', 20.0, 'How long to try to activate a node (s)', low=0.1)
        self._known: dict[str, Client] = {}
        self._steps = self._bring_up()
        for name in value(self, 'managed_nodes'):  # early: discovery takes its time
            self._client(ChangeState, f'{name}/change_state')
        self.create_timer(TICK_S, self._step, clock=steady_clock())

    def _step(self) -> None:
        if next(self._steps, 'done') == 'done':
            rclpy.try_shutdown(context=self.context)

    def _bring_up(self) -> Iterator[None]:
        names = value(self, 'managed_nodes')
        yield from self._await_path()
        for name in names:
            yield from self._configure(name)
        if not value(self, 'autostart'):
            self.get_logger().info(
                f'configured {", ".join(names)}; activate each with `stable-crl lifecycle NAME '
                'activate` or `ros2 lifecycle set`')
            return
        for name in names:
            yield from self._activate(name)
        self.get_logger().info(f'active: {", ".join(names)}')

    def _await_path(self) -> Iterator[None]:
        path, seconds = value(self, 'awaited_path'), value(self, 'appear_timeout')
        if path:
            yield from _until(time.monotonic() + seconds, Path(path).exists)
            if not Path(path).exists():
                raise StartupError(f'{path} did not appear within {seconds:g} s; the log of the '
                                   'process that makes it says why')

    def _configure(self, name: str) -> Iterator[None]:
        state = yield from self._state(name, value(self, 'appear_timeout'))
        if state not in CONFIGURED and not (yield from self._change(
                name, Transition.TRANSITION_CONFIGURE, State.PRIMARY_STATE_INACTIVE)):
            raise StartupError(f'{name} refused to configure; its own log says why')

    def _activate(self, name: str) -> Iterator[None]:
        end = time.monotonic() + value(self, 'activate_timeout')
        while (yield from self._state(name, value(self, 'answer_timeout'))) != ACTIVE:
            if (yield from self._change(name, Transition.TRANSITION_ACTIVATE, ACTIVE)):
                return
            if time.monotonic() > end:
                raise StartupError(f'{name} refused to activate for '
                                   f'{value(self, "activate_timeout"):g} s; its own log says why')
            yield from _until(time.monotonic() + RETRY_S, lambda: False)

    def _state(self, name: str, timeout_s: float) -> Generator[None, None, int]:
        client = self._client(GetState, f'{name}/get_state')
        end = time.monotonic() + timeout_s
        yield from _until(end, client.service_is_ready)
        while client.service_is_ready() and time.monotonic() < end:
            future = client.call_async(GetState.Request())
            yield from _until(time.monotonic() + SILENCE_S, future.done)
            if future.done():
                return future.result().current_state.id
        raise StartupError(f'{self.resolve_service_name(client.srv_name)} gave no answer within '
                           f'{timeout_s:g} s; is {name} running, in this namespace?')

    def _change(self, name: str, transition: int,
                target: int) -> Generator[None, None, bool]:
        client = self._client(ChangeState, f'{name}/change_state')
        timeout_s = value(self, 'answer_timeout')
        end = time.monotonic() + timeout_s
        yield from _until(end, client.service_is_ready)
        while time.monotonic() < end:
            future = client.call_async(
                ChangeState.Request(transition=Transition(id=transition)))
            yield from _until(time.monotonic() + SILENCE_S, future.done)
            # Fast DDS drops an answer to a client that the node has not discovered yet.
            if not future.done() and (yield from self._state(name, timeout_s)) == target:
                return True
            if future.done():
                return future.result().success
        raise StartupError(f'{self.resolve_service_name(client.srv_name)} gave no answer within '
                           f'{timeout_s:g} s')

    def _client(self, kind, service: str):
        if service not in self._known:
            self._known[service] = self.create_client(kind, service)
        return self._known[service]


def _until(end: float, condition: Callable[[], bool]) -> Iterator[None]:
    while time.monotonic() < end and not condition():
        yield


def main(args: list[str] | None = None) -> int:
    """Run the lifecycle manager until all is up."""
    return spin_node(LifecycleManager, args)


if __name__ == '__main__':
    sys.exit(main())
