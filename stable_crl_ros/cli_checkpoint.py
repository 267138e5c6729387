"""The command `stable-crl checkpoint`: look at one, swap the one that acts, take the swap back."""

import argparse
import json
from pathlib import Path

from stable_crl_ros import SHIPPED_CHECKPOINT
from stable_crl_ros.cli_robot import add_client, open_client, print_answer


def add_commands(commands: argparse._SubParsersAction) -> None:
    """Add checkpoint and its verbs."""
    text = 'look at a checkpoint; swap the one that acts, while the arm moves'
    verbs = commands.add_parser('checkpoint', help=text, description=text).add_subparsers(
        metavar='VERB', required=True)
    text = 'check a checkpoint and show what it was trained on'
    show = verbs.add_parser('show', help=text, description=text)
    show.add_argument('path', nargs='?', default=str(SHIPPED_CHECKPOINT),
                      help='.safetensors file; the shipped one when left out')
    show.set_defaults(run=_show)
    swap = add_client(verbs, 'swap', _swap, 'let another checkpoint act; waits until it does, or '
                      'says why it was refused')
    swap.add_argument('path', help='.safetensors file, as the policy node can read it')
    add_client(verbs, 'rollback', _rollback, 'let the checkpoint before act again, at once')


def _show(chosen) -> None:
    from stable_crl_ros.checkpoint import verify_checkpoint
    for name, value in verify_checkpoint(chosen.path).items():
        print(f'{name}: {json.dumps(value) if isinstance(value, (dict, list)) else value}')


def _swap(chosen) -> int:
    path = Path(chosen.path).expanduser().absolute()
    with open_client(chosen) as client:
        return print_answer(*client.swap_checkpoint(str(path)))


def _rollback(chosen) -> int:
    with open_client(chosen) as client:
        return print_answer(*client.call('policy/rollback'))
