"""Which checkpoint acts: the running one, the one before, the one asked for, the one offered."""

from collections.abc import Callable
from functools import partial
import json
import time

import numpy as np
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.parameter import Parameter
from rclpy.task import Future
from stable_crl_ros.checking import CHECKER
from stable_crl_ros.checkpoint import CheckpointError
from stable_crl_ros.nodes.common import (
    answer,
    ERROR,
    LATCHED,
    ManagedNode,
    OK,
    param,
    steady_clock,
    value,
    WARN,
)
from stable_crl_ros.nodes.offers import Offers
from stable_crl_ros.nodes.policy_loader import Outcome, PolicyLoader
from stable_crl_ros.nodes.timing import Gaps
from stable_crl_ros.preparation import Computer, Loaded, resolve_checkpoint, Wish
from stable_crl_ros.rehearsal import disagreement, Probation
from std_msgs.msg import String
from std_srvs.srv import Trigger

LOADER_POLL_S = 0.02
OFFER_POLL_S = 1.0


class CheckpointDesk:
    """
    Exchange the policy that acts, between two ticks, and never for one that is not ready.

    Declares `checkpoint_path` and `rollback_window` of its node, and what `Offers` declares, and
    offers `~/rollback` and `~/await_swap`. A checkpoint is looked at when it is asked for, then
    checked in a process of its own, then built and warmed up in a thread.

    While the node is active it says when a tick is over: there policies are exchanged, and there
    begins what prepares one in this process.

    :param node: the policy node, which has `control_rate`, `device` and `threads`.
    :param seen: returns a wish for a path: what the running policy saw and did last.
    """

    def __init__(self, node: ManagedNode, seen: Callable[[str], Wish]) -> None:
        self._node, self._seen = node, seen
        self.running: Loaded | None = None
        self.previous: Loaded | None = None
        self.error, self._alarm = '', False  # why the last swap failed; whether an arm was moved
        self._last = False, 'no checkpoint was asked for yet'
        self._computer = Computer(*(value(node, name) for name in (
            'device', 'threads', 'control_rate')))
        self._gaps = Gaps(1.0 / self._computer.rate)
        self._loader = PolicyLoader(partial(self._computer.prepare, pause=self._gaps.wait))
        self._probation: Probation | None = None
        self._untried = False  # whether what was swapped in has not acted yet
        self._settling = False
        self._waiting: list[Future] = []
        self._create_interface()

    def _create_interface(self) -> None:
        node = self._node
        param(node, 'checkpoint_path', '', 'Trained .safetensors file; empty for the shipped one')
        param(node, 'rollback_window', 10.0, 'After a swap, go back by itself within this time '
              '(s) when the new policy misbehaves; 0: never', low=0.0, high=3600.0)
        self._offers = Offers(node)
        self._checkpoint_id = node.create_publisher(String, '~/checkpoint_id', LATCHED)
        self._action_scale = node.create_publisher(String, '~/action_scale', LATCHED)
        node.create_service(Trigger, '~/rollback', self._on_rollback)
        node.create_service(Trigger, '~/await_swap', self._on_await,
                            callback_group=ReentrantCallbackGroup())
        self._timer = node.create_timer(LOADER_POLL_S, self._poll, clock=steady_clock(),
                                        autostart=False)
        node.create_timer(OFFER_POLL_S, self._consider_offer, clock=steady_clock())

    @property
    def busy(self) -> bool:
        """Whether a checkpoint is being prepared."""
        return self._loader.busy

    def load_first(self) -> None:
        """
        Load what `checkpoint_path` names, here and now; nothing acts yet.

        :raises CheckpointError: when it cannot be used.
        """
        self._take_over(self._computer.load(value(self._node, 'checkpoint_path')))

    def ready(self) -> None:
        """Wait for what was asked for, and take it; what has not acted yet is on probation."""
        self._loader.wait()
        self.take_outcome()
        if self._untried:
            self._begin_probation()

    def clear(self) -> None:
        """Let go of every policy."""
        self._give_up('the policy node was cleaned up')
        self.running = self.previous = self._probation = None

    def close(self) -> None:
        """End what runs beside the node."""
        self._offers.close()
        self._give_up('the policy node ended')

    def refusal(self, path: str) -> str:
        """Say why a file cannot be asked for, '' when it can: in milliseconds."""
        if self._settling:
            return ''
        try:
            self._computer.peek(path)
        except CheckpointError as error:
            return str(error)
        return ''

    def request(self, path: str) -> None:
        """Begin to prepare a checkpoint, which takes over when it is ready."""
        if self._settling:
            return
        if self.running is None:
            self._last = True, f'{path}: acts as soon as the node is configured'
            return
        self._loader.request(self._seen(path))
        self._timer.reset()

    def tick_over(self, spare_s: float) -> None:
        """
        Use the time until the next tick.

        :param spare_s: how long it is, s.
        """
        due_s = time.monotonic() + spare_s
        self.take_outcome()
        self._gaps.open(due_s)

    def _poll(self) -> None:
        if not self._node.active:
            self.take_outcome()

    def take_outcome(self) -> None:
        """Take over what has become ready, or say why it was refused."""
        outcome = self._loader.take()
        if outcome is None:
            return
        self._timer.cancel()
        if outcome.loaded is None:
            self._refuse(outcome)
            return
        said = self._compare(outcome)
        self.previous = self.running
        self._take_over(outcome.loaded)
        self._untried = True
        if self._node.active:
            self._begin_probation()
        self._node.get_logger().info(said)
        self._tell(True, said)

    def _begin_probation(self) -> None:
        if window_s := value(self._node, 'rollback_window'):
            self._probation = Probation(self.running.policy.action_scale,
                                        1.0 / self._computer.rate, window_s, time.monotonic())

    def fall_back(self, reason: str) -> bool:
        """
        Go back to the policy before, if the running one is new.

        :param reason: what the running policy did.
        :returns: whether another policy acts now.
        """
        if self._probation is None or self._probation.over(time.monotonic()) \
                or self.previous is None:
            return False
        bad = self.running
        self._offers.reject(bad.sha256)
        back, self.previous = self.previous, None  # never forward again to one that misbehaved
        self._take_over(back)
        self._alarm = True
        self.error = (f'went back by itself to {back.policy.checkpoint_id} from '
                      f'{bad.policy.checkpoint_id} ({resolve_checkpoint(bad.path)}): {reason}')
        self._node.get_logger().error(self.error)
        self._last = False, self.error
        return True

    def judge(self, action: np.ndarray, inference_s: float) -> None:
        """Look at one action of the running policy, and go back when it must not go on."""
        self._untried = False
        if self._probation is None:
            return
        if self._probation.over(time.monotonic()):
            self._probation = None
        elif fault := self._probation.fault(action, inference_s):
            self.fall_back(fault)

    def _compare(self, outcome: Outcome) -> str:
        new, old = outcome.loaded, self.running
        said = (f'{new.policy.checkpoint_id} took over from {old.policy.checkpoint_id} after '
                f'{outcome.seconds:.2f} s')
        for what, ours, theirs in (('last frames', new.rehearsal.live, outcome.wish.actions),
                                   ('probes', new.rehearsal.probes, old.rehearsal.probes)):
            if differs := disagreement(ours, theirs):
                said += f'; on {len(ours)} {what} they differ by median (largest) {differs}'
        return said

    def _take_over(self, loaded: Loaded) -> None:
        self.running, self.error, self._alarm = loaded, '', False
        self._probation, self._untried = None, False
        sha256 = loaded.sha256
        self._action_scale.publish(String(data=json.dumps(
            {'checkpoint': sha256, **loaded.policy.action_scale.to_dict()})))
        self._checkpoint_id.publish(String(data=sha256))
        self._node.get_logger().info(
            f'checkpoint {loaded.policy.checkpoint_id} ({loaded.policy.algorithm}): '
            f'{resolve_checkpoint(loaded.path)}')
        self._settle(loaded.path)

    def _refuse(self, outcome: Outcome) -> None:
        self._settle(self.running.path)
        self._say_refused(outcome.error)

    def _say_refused(self, why: str) -> None:
        self.error = f'kept {self.running.policy.checkpoint_id}: {why}'
        self._node.get_logger().error(self.error)
        self._tell(False, self.error)

    def _settle(self, path: str) -> None:
        # The parameter always names what runs, also after a refusal and a rollback.
        if value(self._node, 'checkpoint_path') != path:
            self._settling = True
            try:
                self._node.set_parameters([Parameter('checkpoint_path', value=path)])
            finally:
                self._settling = False

    def _tell(self, success: bool, message: str) -> None:
        self._last = success, message
        waiting, self._waiting = self._waiting, []
        for future in waiting:
            future.set_result(None)

    def _give_up(self, why: str) -> None:
        if self._loader.busy:
            self._loader.cancel()
            CHECKER.abort()
            self._tell(False, f'nothing was swapped: {why}')
        self._timer.cancel()

    async def _on_await(self, _, response: Trigger.Response) -> Trigger.Response:
        """Answer when no checkpoint is being prepared any more, with what became of the last."""
        if self._loader.busy:
            future = Future()
            self._waiting.append(future)
            await future
        response.success, response.message = self._last
        return response

    def _on_rollback(self, _, response: Trigger.Response) -> Trigger.Response:
        if self.previous is None:
            return answer(self._node, response, False,
                          'there is no earlier checkpoint to go back to')
        self._give_up('a rollback was asked for')
        self._offers.reject(self.running.sha256)
        self.previous, back = self.running, self.previous
        self._take_over(back)
        return answer(self._node, response, True, f'back to {back.policy.checkpoint_id}: '
                      f'{resolve_checkpoint(back.path)}')

    def _consider_offer(self) -> None:
        if self.running is None or self._loader.busy:
            return
        offer = self._offers.due(self.running.sha256)
        if offer is None:
            return
        self._offers.reject(offer.sha256)  # asked for once, whatever becomes of it
        if refusal := self.refusal(str(offer.path)):
            self._say_refused(refusal)
        else:
            self.request(str(offer.path))

    def diagnose(self) -> tuple[bytes, str, dict]:
        """Return what /diagnostics shows."""
        if self.running is None:
            return OK, 'none loaded', {}
        policy, offer = self.running.policy, self._offers.newest
        values = {
            'id': policy.checkpoint_id, 'path': resolve_checkpoint(self.running.path),
            'algorithm': policy.algorithm, 'loading': self._loader.busy,
            'previous': self.previous.policy.checkpoint_id if self.previous else 'none',
            'on_probation': self._probation is not None,
            'offered': f'{offer.path}, step {offer.step}' if offer else 'none',
            'last_swap': self._last[1]}
        if self.error:
            return ERROR if self._alarm else WARN, self.error, values
        if self._offers.problem:
            return WARN, self._offers.problem, values
        return OK, policy.checkpoint_id, values
