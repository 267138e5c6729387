"""Bring the managed nodes up in order, then end; a refusal ends with status 1 and says whose."""

from collections.abc import Iterator
import sys
import time

from lifecycle_msgs.msg import State, Transition
from lifecycle_msgs.srv import ChangeState, GetState
import rclpy
from rclpy.node import Node
from stable_crl_ros.nodes.common import param, spin_node, StartupError, steady_clock, value

TICK_S = 0.05
RETRY_S = 0.5
CONFIGURED = (State.PRIMARY_STATE_INACTIVE, State.PRIMARY_STATE_ACTIVE)


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
        param(self, 'appear_timeout', 30.0, 'Longest wait for a node to appear (s)', low=0.1)
        param(self, 'configure_timeout', 120.0, 'Longest a node may take to configure (s)',
              low=0.1)
        param(self, 'activate_timeout', 20.0, 'How long to try to activate a node (s)', low=0.1)
        self._steps = self._bring_up()
        self.create_timer(TICK_S, self._step, clock=steady_clock())

    def _step(self) -> None:
        if next(self._steps, 'done') == 'done':
            rclpy.try_shutdown(context=self.context)

    def _bring_up(self) -> Iterator[None]:
        names = value(self, 'managed_nodes')
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

    def _configure(self, name: str) -> Iterator[None]:
        state = yield from self._ask(name, GetState, 'get_state', GetState.Request(),
                                     value(self, 'appear_timeout'))
        if state.current_state.id in CONFIGURED:
            return
        if not (yield from self._change(name, Transition.TRANSITION_CONFIGURE)):
            raise StartupError(f'{name} refused to configure; its own log says why')

    def _activate(self, name: str) -> Iterator[None]:
        end = time.monotonic() + value(self, 'activate_timeout')
        while True:
            state = yield from self._ask(name, GetState, 'get_state', GetState.Request(), 10.0)
            if state.current_state.id == State.PRIMARY_STATE_ACTIVE or (
                    yield from self._change(name, Transition.TRANSITION_ACTIVATE)):
                return
            if time.monotonic() > end:
                raise StartupError(f'{name} refused to activate for '
                                   f'{value(self, "activate_timeout"):g} s; its own log says why')
            yield from _pause(RETRY_S)

    def _change(self, name: str, transition: int) -> Iterator[None]:
        request = ChangeState.Request(transition=Transition(id=transition))
        answer = yield from self._ask(name, ChangeState, 'change_state', request,
                                      value(self, 'configure_timeout'))
        return answer.success

    def _ask(self, name: str, kind, service: str, request, timeout_s: float) -> Iterator[None]:
        client = self.create_client(kind, f'{name}/{service}')
        end = time.monotonic() + timeout_s
        try:
            while not client.service_is_ready():
                if time.monotonic() > end:
                    raise StartupError(
                        f'{client.srv_name} did not appear within {timeout_s:g} s; '
                        f'is {name} running, in this namespace?')
                yield
            future = client.call_async(request)
            while not future.done():
                if time.monotonic() > end:
                    raise StartupError(f'{client.srv_name} did not answer within {timeout_s:g} s')
                yield
            return future.result()
        finally:
            self.destroy_client(client)


def _pause(seconds: float) -> Iterator[None]:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        yield


def main(args: list[str] | None = None) -> int:
    """Run the lifecycle manager until all is up."""
    return spin_node(LifecycleManager, args)


if __name__ == '__main__':
    sys.exit(main())
