"""`stable-crl trials run`: work off a plan on a stack of its own, or on one that runs."""

from collections.abc import Iterator
import contextlib
from dataclasses import replace
import os
from pathlib import Path
import signal

from stable_crl_ros.bringup import GRAPHS, SIMULATED
from stable_crl_ros.ending import ending_signals
from stable_crl_ros.environment import LaunchError, ros_environment
from stable_crl_ros.graph import NodeSpec
from stable_crl_ros.launcher import Launcher
from stable_crl_ros.nodes.client import ClientError
from stable_crl_ros.nodes.demo import last_words
from stable_crl_ros.nodes.trial_stage import TrialStage
from stable_crl_ros.teleop.terminal import Terminal
from stable_crl_ros.trials.day import run_day, SimulatorJudge
from stable_crl_ros.trials.operator import Operator
from stable_crl_ros.trials.plan import OPERATOR, Plan, TrialError
from stable_crl_ros.trials.results import lock_day, Results

LOG = 'nodes.log'
SHOWN_DIGITS = 12  # of a checkpoint, in the log of the policy node
BLIND_S = 4.0  # more than any swap takes: its length shall not tell the operator what acts


def run(folder: Path, plan: Plan, arguments: dict[str, str], running: bool = False,
        operator: str = '') -> Results:
    """
    Run, or go on with, a day of trials.

    :param arguments: further ones of `stable-crl launch policy`, such as port and namespace.
    :param running: use the stack that runs in the namespace instead of starting one.
    :param operator: who judges, where a person does; the user's name when ''.
    :raises TrialError: when the day cannot go on; what is done is kept.
    """
    os.environ.update(ros_environment())
    by_eye = plan.design.judge == OPERATOR
    with contextlib.ExitStack() as stack:
        stack.enter_context(lock_day(folder))
        if by_eye:
            terminal = stack.enter_context(Terminal())
        stage = stack.enter_context(open_stage(folder, plan, arguments, running, by_eye))
        judge = Operator(terminal, name=operator, idle=stage.idle) if by_eye else SimulatorJudge()
        return run_day(folder, plan, stage, judge)


@contextlib.contextmanager
def open_stage(folder: Path, plan: Plan, arguments: dict[str, str], running: bool,
               by_eye: bool) -> Iterator[TrialStage]:
    """
    Give the stage, brought up; whatever was started for it ends with it.

    :raises TrialError: when the stack ends or does not answer, with what its nodes said.
    """
    namespace = arguments.get('namespace', 'widowx')
    log = folder / LOG
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(_ended_in_order())
            poll = _nothing
            if not running:
                file = stack.enter_context(open(log, 'a'))
                launcher = Launcher(stack_specs(folder, plan, arguments), namespace,
                                    output=lambda line: print(line, file=file, flush=True))
                poll = stack.enter_context(launcher).poll
            stage = stack.enter_context(TrialStage(
                folder, not by_eye, plan.design.robot in SIMULATED and not
                plan.design.alternating, namespace, poll,
                BLIND_S if by_eye else 0.0))
            stage.bring_up()
            yield stage
        except (LaunchError, ClientError, TrialError) as error:
            said = '' if running else f'; {last_words(log)}'
            raise TrialError(blind(plan, f'{error}{said}') if by_eye else f'{error}{said}') \
                from error


@contextlib.contextmanager
def _ended_in_order() -> Iterator[None]:
    """Have SIGTERM, and a terminal that is closed, end the day as Ctrl-C does."""
    before = {number: signal.signal(number, signal.default_int_handler)
              for number in ending_signals()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def blind(plan: Plan, text: str) -> str:
    """Take out of a text what would tell an operator which checkpoint it is about."""
    for entry in plan.design.checkpoints:
        for name in (entry.path, entry.sha256, entry.sha256[:SHOWN_DIGITS]):
            text = text.replace(name, 'a checkpoint')
    return text


def stack_specs(folder: Path, plan: Plan, arguments: dict[str, str]) -> list[NodeSpec]:
    """
    Describe the stack of a day: as `launch policy record:=true`, but nothing acts by itself.

    :raises stable_crl_ros.graph.BringupError: for arguments that do not fit.
    """
    graph, design = GRAPHS['policy'], plan.design
    scene = {'sim_task': design.goals[0].name} if design.judge != OPERATOR else {}
    values = graph.complete({
        # Any goal will do to begin with: every trial shows its own.
        'goal': design.goals[0].path or 'drawer_open', 'robot': design.robot,
        'checkpoint': design.checkpoints[0].path, 'record': 'true', 'autostart': 'false',
        'dataset_path': str((folder / 'episodes').absolute()), 'operator': 'policy',
        'notes': f'trials of {folder.name}', **scene, **arguments})
    return [_by_hand(spec) if spec.executable == 'episode_logger' else spec
            for spec in graph.specs(values)]


def _by_hand(spec: NodeSpec) -> NodeSpec:
    logger = spec.parameters['episode_logger'] | {'record_on_start': False}
    return replace(spec, parameters={'episode_logger': logger})


def _nothing() -> None:
    pass
