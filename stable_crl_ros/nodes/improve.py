"""`stable-crl improve` in ROS: the live swap, and the loop on a robot with an operator."""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
import os
from pathlib import Path

from stable_crl_ros.environment import ros_environment
from stable_crl_ros.goals import DEFAULT_DIRECTORY
from stable_crl_ros.improvement.history import Settings
from stable_crl_ros.improvement.loop import FINAL
from stable_crl_ros.improvement.rule import CANDIDATE, RUNNING
from stable_crl_ros.nodes.client import Client, ClientError
from stable_crl_ros.nodes.trials import open_stage, run
from stable_crl_ros.teleop.terminal import Terminal
from stable_crl_ros.trials.day import check_checkpoint, check_goal, run_day
from stable_crl_ros.trials.operator import Supervisor
from stable_crl_ros.trials.plan import Design, open_plan, OPERATOR, Plan, SIMULATOR, TrialError
from stable_crl_ros.trials.report import read_outcomes
from stable_crl_ros.trials.results import lock_day, Results
from stable_crl_ros.trials.scores import Outcome


@dataclass(frozen=True)
class LiveSwap:
    """
    Have a running, simulated stack act by what was adopted, and try it there.

    :param folder: of the loop.
    :param goals: tasks; one trial each.
    """

    folder: Path
    goals: Sequence[str]
    seed: int
    namespace: str

    def check(self) -> None:
        """
        Refuse before hours of work what would fail after them.

        :raises ClientError: when no stack runs, or one without policy, recording or simulator, or
            one that is recording already.
        """
        os.environ.update(ros_environment())
        with Client(self.namespace) as client:
            client.state('policy')
            client.get_parameter('episode_logger', 'dataset_path')
            client.get_parameter('sim', 'seed')
            if episode := client.text('episode_logger/recording'):
                raise ClientError(f'the stack is recording {episode}, and could record no trial; '
                                  'end it first: stable-crl call episode_logger/stop true, or '
                                  'false, or stable-crl call episode_logger/discard')

    def __call__(self, number: int, checkpoint: Path) -> str:
        """
        Swap through `checkpoint_path`, run the trials, and say what came of it.

        A policy that was active is so again afterwards.
        """
        folder = self.folder.absolute() / f'round_{number:02d}' / 'live'
        plan = open_plan(folder, Design(
            tuple(check_goal(goal, SIMULATOR, folder) for goal in self.goals),
            (check_checkpoint(checkpoint),), 1, self.seed + number, 0.0, SIMULATOR, 'sim'))
        with Client(self.namespace) as client:
            active = client.state('policy') == 'active'
        results = run(folder, plan, {'namespace': self.namespace}, running=True)
        if active:
            with Client(self.namespace) as client:
                client.transition('policy', 'activate')
        won = sum(result.success for result in results.done)
        return (f'swapped into the running stack by policy/checkpoint_path; {won} of '
                f'{len(results.done)} live trials succeeded')


@dataclass
class OnRobot:
    """
    The loop on a robot: an operator sets scenes, watches the episodes and judges the trials.

    Episodes are the policy's own, without added noise; nobody says whether they succeeded.

    :param folder: of the loop.
    :param arguments: further ones of `stable-crl launch policy`.
    :param limit_s: longest episode, s.
    """

    folder: Path
    settings: Settings
    arguments: dict[str, str]
    limit_s: float
    operator: str
    paired: bool = field(default=False, init=False)

    def collect(self, number: int, checkpoint: Path, dataset: Path) -> dict:
        """Record the episodes that are missing; the operator may leave out and stop."""
        os.environ.update(ros_environment())
        folder, goals = dataset.parent, self.settings.goals
        plan = open_plan(folder, self._design(
            [checkpoint], -(-self.settings.episodes // len(goals)), number, alternating=True))
        with ExitStack() as stack:
            stack.enter_context(lock_day(folder))
            terminal = stack.enter_context(Terminal())
            stage = stack.enter_context(open_stage(folder, plan, self.arguments, False, True))
            supervisor = Supervisor(terminal, self.settings.reset_every, name=self.operator,
                                    idle=stage.idle)
            results = self._complete(plan, run_day(folder, plan, stage, supervisor))
        return {'episodes': len(results.done), 'scenes_set': supervisor.scenes_set,
                'steps': sum(result.steps for result in results.done)}

    def compare(self, name: str, running: Path, candidate: Path) -> list[Outcome]:
        """Run a blinded day of trials with both."""
        folder, plan = self.plan(name, running, candidate)
        results = self._complete(plan, run(folder, plan, self.arguments, operator=self.operator))
        labels = {entry.sha256: label for entry, label in zip(
            plan.design.checkpoints, (RUNNING, CANDIDATE), strict=True)}
        return read_outcomes(plan, results, labels)

    def plan(self, name: str, running: Path, candidate: Path) -> tuple[Path, Plan]:
        """Open the day on which both are compared, and return its folder too."""
        rounds = self.settings.rounds
        number = rounds + 1 if name == FINAL else int(name.rpartition('_')[2])
        # A loop that goes on with more rounds has another end.
        place = f'{FINAL}_{rounds:02d}' if name == FINAL else name
        folder = self.folder.absolute() / place / 'trials'
        return folder, open_plan(folder, self._design(
            [running, candidate], self.settings.trials, number))

    def adopt(self, number: int, checkpoint: Path) -> str:
        """Leave it to the next round, whose stack acts by it."""
        return (f'acts from the next round on; elsewhere: stable-crl checkpoint swap '
                f'{checkpoint}')

    def _design(self, checkpoints: Sequence[Path], n: int, number: int,
                alternating: bool = False) -> Design:
        directory = self.arguments.get('goal_directory', DEFAULT_DIRECTORY)
        return Design(
            tuple(check_goal(goal, OPERATOR, directory) for goal in self.settings.goals),
            tuple(check_checkpoint(path) for path in checkpoints), n,
            self.settings.seed * 1000 + number, self.limit_s, OPERATOR, self.settings.robot,
            alternating)

    def _complete(self, plan: Plan, results: Results) -> Results:
        if not results.complete:
            raise TrialError(f'{len(results.done)} of {len(plan.trials)} are done; the same '
                             'command goes on')
        return results
