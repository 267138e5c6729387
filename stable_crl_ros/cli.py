"""`stable-crl`: one command for everything; the work is done by the modules it calls."""

import argparse
from collections.abc import Sequence
import sys

from stable_crl_ros import __version__
from stable_crl_ros.cli_options import refuse_empty_places
from stable_crl_ros.cli_streams import unheard
from stable_crl_ros.refusal import is_refusal

REFUSED = 2
INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """
    Run one command.

    :param arguments: words after `stable-crl`; None for the process's own.
    :returns: exit status: 0 done, 1 the command's answer is no, 2 refused.
    """
    with unheard():
        return _run(list(sys.argv[1:] if arguments is None else arguments))


def _run(words: list[str]) -> int:
    try:  # imports too: Ctrl-C may come at any moment
        if words[:1] == ['demo']:
            from stable_crl_ros.nodes.demo import main as demo
            return demo(words[1:])
        chosen = make_parser().parse_args(words)
        refuse_empty_places(chosen)
        return chosen.run(chosen) or 0
    except KeyboardInterrupt:
        return INTERRUPTED
    except Exception as error:
        if not is_refusal(error):
            raise
        print(f'stable-crl: {error}', file=sys.stderr)
        return REFUSED


def make_parser() -> argparse.ArgumentParser:
    """Describe every command."""
    from stable_crl_ros import (
        cli_arm,
        cli_checkpoint,
        cli_data,
        cli_episodes,
        cli_experiments,
        cli_goals,
        cli_improve,
        cli_learning,
        cli_robot,
        cli_trials,
    )
    parser = argparse.ArgumentParser(
        prog='stable-crl', description='Show a WidowX robot a photograph of what you want.')
    parser.add_argument('--version', action='version', version=__version__)
    commands = parser.add_subparsers(title='commands', metavar='COMMAND', required=True)
    commands.add_parser('demo', add_help=False,
                        help='the whole loop on the simulated robot (`demo --help`)')
    for module in (cli_robot, cli_goals, cli_arm, cli_data, cli_episodes, cli_learning,
                   cli_checkpoint, cli_experiments, cli_trials, cli_improve):
        module.add_commands(commands)
    return parser


if __name__ == '__main__':
    sys.exit(main())
