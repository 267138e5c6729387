"""The command of `stable-crl` that closes the loop: improve."""

import argparse
from pathlib import Path

from stable_crl_ros.bringup import ROBOTS
from stable_crl_ros.cli_trials import launch_arguments


def add_commands(commands: argparse._SubParsersAction) -> None:
    """Add improve."""
    text = 'act, learn from it, compare, and swap only what the rule lets pass; in rounds'
    improve = commands.add_parser('improve', help=text, description=(
        f'{text}. Each round records autonomous episodes towards goals that undo each other, '
        'fine-tunes the running checkpoint on them and all data before, and compares the '
        'candidate with it on new scenes. Stop it whenever you like: the same command goes on.'))
    improve.add_argument('folder', help='of the loop: rounds, history.json, history.md, '
                         'history.png, adopted.safetensors')
    where = improve.add_mutually_exclusive_group(required=True)
    where.add_argument('--sim', action='store_true', help='in the embedded simulator, unattended')
    where.add_argument('--robot', choices=[name for name in ROBOTS if name != 'sim'],
                       help='on a robot, with an operator who sets scenes and judges the trials')
    improve.add_argument('--checkpoint', default='shipped', metavar='FILE',
                         help='to begin with (default: the shipped one)')
    improve.add_argument('--dataset', nargs='+', action='extend', default=[], metavar='FOLDER',
                         help='older episodes that every fine-tuning sees too')
    improve.add_argument('--goals', nargs='+', metavar='GOAL',
                         help='in turn; tasks in simulation (default: open_drawer close_drawer), '
                              'else pictures (default: drawer_open drawer_closed)')
    for name, default, text in (
            ('rounds', 3, 'more of them go on later'),
            ('episodes', 40, 'autonomous ones per round'),
            ('reset-every', 10, 'episodes after which the scene is set anew'),
            ('steps', 500, 'gradient steps per round'),
            ('trials', 50, 'of each checkpoint on each goal, per round'),
            ('seed', 0, 'of everything random'), ('workers', 2, 'processes, in simulation'),
            ('threads', None, 'of torch on the CPU')):
        shown = '' if default is None else ' (default: %(default)s)'
        improve.add_argument(f'--{name}', type=int, default=default, metavar='N',
                             help=f'{text}{shown}')
    _add_rule(improve.add_argument_group('when a candidate is adopted'))
    _add_robot(improve.add_argument_group('on a robot, or beside a running stack'))
    improve.add_argument('--set', nargs='+', action='extend', default=[], metavar='NAME=VALUE',
                         help="change the checkpoint's settings of learning, such as "
                              'learning_rate=1e-4')
    improve.set_defaults(run=_improve)


def _add_rule(group) -> None:
    group.add_argument('--rule', choices=('better', 'not-worse'), default='better',
                         help='when a candidate is adopted: by a one-sided exact test, or when '
                              'its rate is lower by less than --margin (default: %(default)s)')
    group.add_argument('--alpha', type=float, default=0.05, metavar='P',
                         help='level of the rule (default: %(default)s)')
    group.add_argument('--margin', type=float, default=0.05, metavar='SHARE',
                         help='of not-worse, of the success rate (default: %(default)s)')


def _add_robot(group) -> None:
    group.add_argument('--live', action='store_true',
                         help='--sim: swap what is adopted into the stack that runs, and try it '
                              'there once per goal')
    group.add_argument('--namespace', default='widowx', metavar='NAME',
                         help='of the stack (default: %(default)s)')
    group.add_argument('--limit', type=float, default=30.0, metavar='S',
                         help='--robot: longest episode, s (default: %(default)s)')
    group.add_argument('--operator', default='', metavar='NAME',
                         help="--robot: who judges (default: the user's name)")
    group.add_argument('--launch', nargs='+', action='extend', default=[],
                         metavar='name:=value', help='--robot: further arguments of `stable-crl '
                         'launch policy`, such as port:=...')


def _improve(chosen) -> None:
    from stable_crl_ros.improvement.loop import improve
    from stable_crl_ros.improvement.report import write_history
    folder, settings = Path(chosen.folder).expanduser(), _settings(chosen)
    ground = _in_simulation(chosen, folder, settings) if chosen.sim else _on_robot(
        chosen, folder, settings)
    print(settings.rule.describe(), flush=True)
    history = improve(folder, settings, ground, chosen.threads,
                      lambda line: print(line, flush=True))
    print(f'history: {write_history(history)}')


def _settings(chosen):
    from stable_crl_ros import SHIPPED_CHECKPOINT
    from stable_crl_ros.crl.config import ConfigError
    from stable_crl_ros.improvement.history import Settings
    from stable_crl_ros.improvement.rule import Rule
    from stable_crl_ros.trials.day import check_checkpoint
    nameless = [word for word in chosen.set if '=' not in word]
    if nameless:
        raise ConfigError(f'--set {nameless[0]!r} is not of the form NAME=VALUE')
    start = check_checkpoint(SHIPPED_CHECKPOINT if chosen.checkpoint == 'shipped'
                             else chosen.checkpoint)
    goals = chosen.goals or (['open_drawer', 'close_drawer'] if chosen.sim
                             else ['drawer_open', 'drawer_closed'])
    return Settings(
        start.path, start.sha256,
        tuple(str(Path(path).expanduser().absolute()) for path in chosen.dataset), tuple(goals),
        chosen.rounds, chosen.episodes, chosen.reset_every, chosen.steps, chosen.trials,
        chosen.seed, chosen.robot or 'sim', Rule(chosen.rule, chosen.alpha, chosen.margin),
        dict(word.partition('=')[::2] for word in chosen.set))


def _in_simulation(chosen, folder: Path, settings):
    from stable_crl_ros.improvement.simulated import InSimulation
    live = None
    if chosen.live:
        from stable_crl_ros.nodes.improve import LiveSwap
        live = LiveSwap(folder, settings.goals, settings.seed, chosen.namespace)
        live.check()
    return InSimulation(settings, chosen.workers, live)


def _on_robot(chosen, folder: Path, settings):
    from stable_crl_ros.nodes.improve import OnRobot
    arguments = launch_arguments(chosen.launch)
    return OnRobot(folder, settings, arguments, chosen.limit, chosen.operator)
