"""The commands of `stable-crl` that score checkpoints on the robot: trials."""

import argparse
from collections.abc import Iterable
from pathlib import Path

from stable_crl_ros.bringup import BringupError, GRAPHS, parse_arguments, ROBOTS

OWN = ('goal', 'robot', 'checkpoint', 'record', 'autostart', 'dataset_path', 'sim_task', 'seed')


def add_commands(commands: argparse._SubParsersAction) -> None:
    """Add trials."""
    text = 'a day of trials: checkpoints against goals on the robot, blinded, with intervals'
    trials = commands.add_parser('trials', help=text, description=text)
    verbs = trials.add_subparsers(metavar='VERB', required=True)
    _add_run(verbs)
    _add_report(verbs)


def _add_run(verbs) -> None:
    text = 'run the trials, or go on where they were stopped'
    run = verbs.add_parser('run', help=text, description=(
        f'{text}. Every block of trials holds each goal with each checkpoint once, in random '
        'order; nobody is told which checkpoint acts. In simulation it runs unattended, the '
        'simulator judges, and all checkpoints meet the same scenes; on a robot a person sets '
        'the scene and judges by keys. Stop it whenever you like: with --out alone it goes on.'))
    run.add_argument('--out', required=True, metavar='FOLDER', help='of the day')
    run.add_argument('--goals', nargs='+', metavar='GOAL', default=[],
                     help='goal pictures by name or path; where the simulator judges, tasks such '
                          'as open_drawer')
    run.add_argument('--checkpoints', nargs='+', metavar='FILE', default=[],
                     help='.safetensors files, at best two; "shipped" is the one included')
    run.add_argument('--n', type=int, default=20, metavar='N',
                     help='trials of each checkpoint on each goal (default: %(default)s)')
    run.add_argument('--seed', type=int, default=0, help='of order and scenes (default: 0)')
    run.add_argument('--limit', type=float, metavar='S',
                     help="longest trial, s (default: 30; in simulation the task's steps)")
    run.add_argument('--robot', choices=ROBOTS, default='sim', help='(default: sim)')
    run.add_argument('--judge', choices=('simulator', 'operator'),
                     help='(default: the simulator where there is one)')
    run.add_argument('--operator', default='', metavar='NAME',
                     help="who judges (default: the user's name)")
    run.add_argument('--running', action='store_true',
                     help='use the stack that runs, started as `stable-crl launch policy '
                          'record:=true autostart:=false ...`, instead of starting one')
    run.add_argument('--launch', nargs='+', action='extend', default=[], metavar='name:=value',
                     help='further arguments of `stable-crl launch policy`, such as port:=...')
    run.set_defaults(run=_run)


def _add_report(verbs) -> None:
    text = 'what the trials show: rates, intervals, comparison, times, pictures'
    report = verbs.add_parser('report', help=text, description=(
        f'{text}. Writes report.md, report.json, report.png, and a picture and a video of every '
        'trial into the folder.'))
    report.add_argument('folder')
    report.add_argument('--early', action='store_true',
                        help='reveal what is which before all trials are done; that is noted '
                             'in the results for ever')
    report.add_argument('--no-videos', action='store_true', help='pictures only')
    report.set_defaults(run=_report)


def _run(chosen) -> int:
    from stable_crl_ros.nodes.trials import run
    from stable_crl_ros.trials.plan import open_plan
    arguments = launch_arguments(chosen.launch)
    folder = Path(chosen.out).expanduser()
    plan = open_plan(folder, _design(chosen, arguments))
    print(f'plan {plan.sha256[:12]}: {len(plan.trials)} trials, {folder / "plan.json"}')
    results = run(folder, plan, arguments, chosen.running, chosen.operator)
    if not results.complete:
        return 1
    print(f'all {len(plan.trials)} trials are done; what is which: '
          f'stable-crl trials report {folder}')
    return 0


def launch_arguments(words: Iterable[str]) -> dict[str, str]:
    """
    Read what --launch adds to the stack of a day.

    :raises BringupError: also for what the plan of the day says.
    """
    arguments = parse_arguments(GRAPHS['policy'], words)
    if taken := sorted(set(arguments) & set(OWN)):
        raise BringupError(f'--launch {", ".join(taken)}: the plan says that; leave it out')
    return arguments


def _design(chosen, arguments: dict[str, str]):
    from stable_crl_ros import SHIPPED_CHECKPOINT
    from stable_crl_ros.bringup import SIMULATED
    from stable_crl_ros.goals import DEFAULT_DIRECTORY
    from stable_crl_ros.trials.day import check_checkpoint, check_goal
    from stable_crl_ros.trials.plan import Design, OPERATOR, SIMULATOR, TrialError
    if not chosen.goals and not chosen.checkpoints:
        return None
    simulated = chosen.robot in SIMULATED
    judge = chosen.judge or (SIMULATOR if simulated else OPERATOR)
    if judge == SIMULATOR and not simulated:
        raise TrialError(f'--judge simulator: --robot {chosen.robot} has none; leave it out')
    directory = arguments.get('goal_directory', DEFAULT_DIRECTORY)
    limit = chosen.limit if chosen.limit is not None else 0.0 if judge == SIMULATOR else 30.0
    if judge == OPERATOR and not limit:
        raise TrialError('--limit 0: an operator needs a limit above 0 s')
    return Design(
        tuple(check_goal(name, judge, directory) for name in chosen.goals),
        tuple(check_checkpoint(SHIPPED_CHECKPOINT if path == 'shipped' else path)
              for path in chosen.checkpoints),
        chosen.n, chosen.seed, limit, judge, chosen.robot)


def _report(chosen) -> None:
    from stable_crl_ros.trials.report import write_report
    print(write_report(Path(chosen.folder).expanduser(), chosen.early, not chosen.no_videos))
