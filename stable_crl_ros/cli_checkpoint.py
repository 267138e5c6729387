"""The command `stable-crl checkpoint`: look at one, calibrate it, let it act, take that back."""

import argparse
import json
from pathlib import Path

from stable_crl_ros import SHIPPED_CHECKPOINT
from stable_crl_ros.cli_options import add_verb
from stable_crl_ros.cli_robot import add_client, open_client, print_answer
import yaml

LONG = 8  # entries of a list that are shown one by one; an action has seven


def add_commands(commands: argparse._SubParsersAction) -> None:
    """Add checkpoint and its verbs."""
    text = 'look at a checkpoint, or calibrate it; swap the one that acts, while the arm moves'
    verbs = commands.add_parser('checkpoint', help=text, description=text).add_subparsers(
        metavar='VERB', required=True)
    text = 'show what a checkpoint was trained on, and check that it can act'
    show = verbs.add_parser('show', help=text, description=text)
    show.add_argument('path', nargs='?', default=str(SHIPPED_CHECKPOINT),
                      help='.safetensors file; the shipped one when left out')
    show.add_argument('--json', action='store_true', help='everything, unrounded, as JSON')
    show.set_defaults(run=_show)
    _add_calibrate(verbs)
    swap = add_client(verbs, 'swap', _swap, 'let another checkpoint act; waits until it does, or '
                      'says why it was refused')
    swap.add_argument('path', help='.safetensors file, as the policy node can read it')
    add_client(verbs, 'rollback', _rollback, 'let the checkpoint before act again, at once')


def _add_calibrate(verbs) -> None:
    text = "say what a checkpoint's critic means, in steps"
    verb = add_verb(verbs, 'calibrate', text, _calibrate, (
        'Fits steps to the goal and the probability of being there to recorded '
        'episodes, by time alone, and checks the fit on held-out ones. The weights stay the '
        'same; the identity (sha256) does not, as it covers all that the checkpoint says.'))
    verb.add_argument('checkpoint', metavar='FILE', help='.safetensors file with a critic')
    verb.add_argument('datasets', nargs='+', metavar='DATASET',
                      help='folders of episodes, best those it was trained on')
    verb.add_argument('--out', metavar='FILE',
                      help='where the result goes (default: in place of the checkpoint)')
    verb.add_argument('--camera', metavar='NAME', help='needed when there are several')
    verb.add_argument('--validation-fraction', type=float, default=0.05, metavar='F',
                      help='of the episodes, on which the fit is checked (default: %(default)s); '
                           'those that training with the same seed held out, if it drew them '
                           'from the same episodes')
    verb.add_argument('--seed', type=int, help="of what is drawn (default: the checkpoint's)")


def _calibrate(chosen) -> None:
    from stable_crl_ros.recalibration import calibrate_checkpoint
    out = Path(chosen.out or chosen.checkpoint)
    before, after, calibration = calibrate_checkpoint(
        chosen.checkpoint, chosen.datasets, out, chosen.camera, chosen.validation_fraction,
        chosen.seed)
    for name, numbers in calibration.checked.items():
        if isinstance(numbers, dict):
            print(f'{name.replace("_", "-")} episodes: ' + ', '.join(
                f'{key.replace("_", " ")} {value:.4g}' for key, value in numbers.items()))
    print(f'calibrated: {out}\n{before[:12]} is now {after[:12]}, with the same weights')


def _show(chosen) -> None:
    from stable_crl_ros.checkpoint import load_checkpoint
    from stable_crl_ros.policy import Policy
    found = load_checkpoint(chosen.path).metadata
    print(json.dumps(found, indent=1) if chosen.json else
          yaml.safe_dump(_shorten(found), sort_keys=False, default_flow_style=None, width=99),
          end='\n' if chosen.json else '')
    Policy.load(chosen.path, verified=True)  # says why where it cannot act


def _shorten(value: object) -> object:
    """Round numbers, and give of a long list its length and its ends."""
    if isinstance(value, dict):
        return {name: _shorten(found) for name, found in value.items()}
    if isinstance(value, list):
        return (f'{len(value)}: {_shorten(value[0])} .. {_shorten(value[-1])}'
                if len(value) > LONG else [_shorten(found) for found in value])
    return float(f'{value:.4g}') if isinstance(value, float) else value


def _swap(chosen) -> int:
    path = Path(chosen.path).expanduser().absolute()
    with open_client(chosen) as client:
        return print_answer(*client.swap_checkpoint(str(path)))


def _rollback(chosen) -> int:
    with open_client(chosen) as client:
        return print_answer(*client.call('policy/rollback'))
