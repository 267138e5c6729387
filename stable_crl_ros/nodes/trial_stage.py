"""The stage of trials in ROS: the running stack, whose nodes do what a trial asks for."""

from collections.abc import Callable
import contextlib
from pathlib import Path
import time

import rclpy
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from stable_crl_ros.data.dataset import Dataset
from stable_crl_ros.data.labels import relabel
from stable_crl_ros.goals import Goal, GoalError, GoalStore
from stable_crl_ros.nodes.client import Client, SWAP_S
from stable_crl_ros.nodes.trial_monitor import TrialMonitor
from stable_crl_ros.sim.tasks import Task, task_named
from stable_crl_ros.sim.world import CAMERA_NAME, World, WorldState
from stable_crl_ros.trials.day import Acted, STOP, SUCCESS
from stable_crl_ros.trials.plan import CheckpointEntry, GoalEntry, Trial, TrialError

SETTLED_STEPS = 10  # control steps at the goal, after which a trial in simulation ends
REST_S = 1.0  # from the last command to the verdict
BRING_UP_S = 90.0  # longest, until the policy is configured
FIRST_STEP_S = 15.0  # longest, from activating the policy
HOME_S = 30.0  # longest
RETRY_S = 0.3
SPARE = 1.5  # of a limit in steps, as time


class TrialStage:
    """
    Prepare, run and record trials on a stack; used with `with`.

    :param folder: of the day, where goal photographs of simulated scenes are kept.
    :param judged: whether the simulator draws and judges the scenes.
    :param simulated: whether the stack has a sim node, whose scene shall be put back.
    :param namespace: of the stack.
    :param poll: called several times a second; raises when the stack ended.
    :param blind_s: how long preparing takes at least once the arm is home, s: what takes longer
        for one checkpoint than for another would tell them apart.
    """

    def __init__(self, folder: Path, judged: bool, simulated: bool, namespace: str = 'widowx',
                 poll: Callable[[], None] = lambda: None, blind_s: float = 0.0) -> None:
        self._goals = GoalStore(folder / 'goals')
        self._judged, self._simulated = judged, simulated
        self._namespace, self._poll, self._blind_s = namespace, poll, blind_s
        self._scene: tuple[Task, WorldState] | None = None
        self._world: World | None = None

    def __enter__(self) -> 'TrialStage':
        self._context = Context()
        rclpy.init(context=self._context)
        self._monitor = TrialMonitor(namespace=self._namespace, context=self._context)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self._monitor)
        self._client = Client(self._namespace).__enter__()
        return self

    def __exit__(self, *_) -> None:
        self._client.__exit__()
        self._executor.shutdown()
        self._monitor.destroy_node()
        rclpy.try_shutdown(context=self._context)
        if self._world is not None:
            self._world.close()

    def bring_up(self) -> None:
        """
        Wait until arm and policy are configured, and let the arm hold itself.

        :raises TrialError: when they are not in time; ClientError when nobody is there.
        """
        monitor = self._monitor
        if not self._spin(BRING_UP_S, lambda: monitor.checkpoint and monitor.mode):
            raise TrialError(f'the policy was not configured within {BRING_UP_S:g} s')
        if self._client.state('policy') == 'active':
            self._transition('policy', 'deactivate')
        if self._client.state('arm') == 'inactive':
            self._transition('arm', 'activate')
        for service in ('arm/stop', 'episode_logger/discard'):  # whoever stops does not wait
            self._client.connect(service)
        self.dataset = Path(self._client.get_parameter('episode_logger', 'dataset_path')
                            ).expanduser().absolute()
        self._period_s = 1.0 / self._client.get_parameter('policy', 'control_rate')

    def idle(self) -> None:
        """Look after the stack while nothing happens."""
        self._poll()
        self._executor.spin_once(timeout_sec=0.0)

    def prepare(self, trial: Trial, goal: GoalEntry, checkpoint: CheckpointEntry) -> None:
        """
        Put scene and arm back, show the goal and swap the checkpoint in.

        :raises TrialError: when a node refuses its part, saying why.
        """
        if self._monitor.mode == 'paused':
            self._call('arm/resume')
        if self._simulated:
            self._reset(goal, trial.scene_seed)
        else:
            self._home()
        end = time.monotonic() + self._blind_s  # not before: how long the way home is varies
        self._show(self._picture(goal, trial.scene_seed))
        self.swap(checkpoint)
        self._set('episode_logger', 'task', goal.name)
        self._spin(max(0.0, end - time.monotonic()))

    def act(self, limit_s: float, watch: Callable[[], str]) -> Acted:
        """
        Record, let the policy act, and have it cease; see `trials.day.Stage`.

        :raises TrialError: when the policy does not begin.
        """
        self._monitor.begin(self._reached if self._judged else None)
        # When this is refused, what is being recorded is somebody else's.
        self._call('episode_logger/start')
        try:
            return self._act(limit_s, watch)
        except BaseException:
            self._abandon()
            raise

    def _act(self, limit_s: float, watch: Callable[[], str]) -> Acted:
        monitor = self._monitor
        self._transition('policy', 'activate')
        if not self._spin(FIRST_STEP_S, lambda: monitor.steps):
            raise TrialError(f'the policy took no step within {FIRST_STEP_S:g} s; its log says '
                             'why it holds')
        word = self._watch(limit_s, watch)
        if word == STOP:
            self._client.call('arm/stop')
        self._transition('policy', 'deactivate')
        acted = monitor.checkpoint
        self._spin(REST_S)
        errors = self._errors() if self._judged else {}
        return Acted(word, monitor.seconds, monitor.steps, acted,
                     self._reached() if self._judged else None, monitor.reached_s,
                     {name: round(error, 5) for name, error in errors.items()},
                     monitor.interventions)

    def _abandon(self) -> None:
        """Leave nothing acting or recording, whatever of it fails; Ctrl-C skips a step."""
        for step in (lambda: self._client.call('arm/stop'),
                     lambda: self._client.transition('policy', 'deactivate'),
                     lambda: self._client.call('episode_logger/discard')):
            with contextlib.suppress(Exception, KeyboardInterrupt):
                step()

    def keep(self, success: bool | None) -> int:
        """
        End the recording; see `trials.day.Stage`.

        :raises TrialError: when it was not saved, or shows another goal than was asked for.
        """
        self._call('episode_logger/stop', bool(success))
        dataset = Dataset(self.dataset)
        number = dataset.ids[-1]
        if success is None:  # the service knows yes and no only
            relabel(dataset, number, 'nobody judged', success=None)
        shown = dataset[number].attrs['goal_id']
        if shown != self._goal.name:
            raise TrialError(f'{dataset.episode_path(number)}: the goal was {shown}, not '
                             f'{self._goal.name}; let nobody else choose goals during trials')
        return number

    def drop(self, why: str) -> None:
        """Throw the recording away; `stable-crl episodes restore` brings it back."""
        self._call('episode_logger/discard')

    def swap(self, checkpoint: CheckpointEntry) -> None:
        """
        Have the policy node take another checkpoint.

        :raises TrialError: when it refuses, saying why.
        """
        path = checkpoint.path
        self._set('policy', 'checkpoint_path', path)
        end = time.monotonic() + SWAP_S
        while not self._spin(1.0, lambda: self._monitor.checkpoint == checkpoint.sha256):
            # The parameter goes back to what runs when the new one was refused.
            refused = self._client.get_parameter('policy', 'checkpoint_path') != path
            if refused or time.monotonic() > end:
                raise TrialError('the policy node refused a checkpoint of the plan: has its file '
                                 "changed since? The node's log says why")

    def _watch(self, limit_s: float, watch: Callable[[], str]) -> str:
        monitor = self._monitor
        steps = self._scene[0].max_steps if self._scene and not limit_s else None
        end = time.monotonic() + (limit_s or SPARE * steps * self._period_s)
        while time.monotonic() < end and (steps is None or monitor.steps < steps):
            self._spin(0.0)
            if word := watch():
                return word
            if monitor.settled >= SETTLED_STEPS:
                return SUCCESS
        return ''

    def _errors(self) -> dict[str, float]:
        task, goal = self._scene
        return task.errors(self._monitor.truth, goal)

    def _reached(self) -> bool:
        task, goal = self._scene
        return task.success(self._monitor.truth, goal)

    def _reset(self, goal: GoalEntry, seed: int) -> None:
        if self._judged:
            self._set('sim', 'task', goal.name)
        self._set('sim', 'seed', str(seed))
        end = time.monotonic() + HOME_S
        while True:
            done, said = self._client.call('sim/reset')
            if done:
                return
            if time.monotonic() > end:
                raise TrialError(f'sim/reset: {said}')
            self._spin(RETRY_S)

    def _home(self) -> None:
        self._call('arm/home')
        self._spin(RETRY_S)
        if not self._spin(HOME_S, lambda: self._monitor.mode == 'ready'):
            raise TrialError(f'the arm did not come home, it is {self._monitor.mode}; look after '
                             'it, then go on with the same command')

    def _picture(self, goal: GoalEntry, seed: int) -> Goal:
        """Return the goal photograph: the operator's, or one of a simulated scene."""
        if not self._judged:
            found = self._goals.load(goal.path)
            if found.sha256 != goal.sha256:
                raise TrialError(f'{goal.path} is another picture than when the day was planned; '
                                 'restore it, or begin another day')
            return found
        task = task_named(goal.name)
        _, state = task.draw(seed)
        self._scene = task, state
        name = f'{goal.name}_{seed}'
        try:
            return self._goals.load(name)
        except GoalError:
            self._world = self._world or World()
            self._world.reset(state)
            return self._goals.save(name, self._world.render(), {
                'camera': CAMERA_NAME, 'source': 'simulation', 'task': goal.name, 'seed': seed,
                'drawer_opening': state.drawer, 'block': list(state.block)})

    def _show(self, goal: Goal) -> None:
        self._goal = goal
        self._set('goal', 'active_goal', str(goal.path.absolute()))
        if not self._spin(HOME_S, lambda: self._monitor.goal == goal.name):
            raise TrialError(f'the goal node did not publish {goal.name}')

    def _set(self, node: str, parameter: str, text: str) -> None:
        done, why = self._client.set_parameter(node, parameter, text)
        if not done:
            raise TrialError(f'{node} {parameter}: {why}')

    def _call(self, service: str, data: bool | None = None) -> str:
        done, said = self._client.call(service, data)
        if not done:
            raise TrialError(f'{service}: {said}')
        return said

    def _transition(self, node: str, label: str) -> None:
        if not self._client.transition(node, label):
            raise TrialError(f'{node} did not {label}; its log says why')

    def _spin(self, seconds: float, condition: Callable[[], object] | None = None) -> bool:
        end = time.monotonic() + seconds
        while condition is None or not condition():
            self._poll()
            self._executor.spin_once(timeout_sec=0.05)
            if time.monotonic() >= end:
                return condition is None or bool(condition())
        return True
