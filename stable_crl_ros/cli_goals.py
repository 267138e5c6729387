"""The commands of `stable-crl goals`: goal photographs listed, shown, taken, imported, deleted."""

import argparse
import datetime
import os
from pathlib import Path
import re
import sys

from stable_crl_ros.cli_options import add_json, add_verb, answer
from stable_crl_ros.cli_robot import add_namespace, open_client
from stable_crl_ros.goals import check_goal_name, DEFAULT_DIRECTORY, Goal, GoalError, GoalStore


def add_commands(commands: argparse._SubParsersAction) -> None:
    """Add goals."""
    goals = commands.add_parser(
        'goals', help='list, show, capture, import and delete goal photographs',
        description='Goal photographs: those saved and those shipped. Without a verb, list them.')
    _add_directory(goals, DEFAULT_DIRECTORY)
    goals.set_defaults(run=_list, json=False)
    verbs = goals.add_subparsers(metavar='VERB')
    add_json(_add(verbs, 'list', 'list the goals there are', _list))
    _add_show(verbs)
    capture = _add(verbs, 'capture', 'photograph a goal with the camera of the running stack',
                   _capture, "It is saved by the goal node, in that node's goal_directory.",
                   directory=False)
    capture.add_argument('name', nargs='?', default='', help='empty for goal_NNNN')
    add_namespace(capture)
    _add_import(verbs)
    delete = _add(verbs, 'delete', 'delete a saved goal', _delete, 'Shipped goals stay.')
    delete.add_argument('name')
    delete.add_argument('--yes', action='store_true', help='do not ask')


def _add_show(verbs) -> None:
    show = _add(verbs, 'show', 'what is known of a goal, and how like it is to the live view',
                _show, 'The live view is compared when a stack runs on this machine.')
    show.add_argument('name', help='of a goal, or the path of a picture')
    show.add_argument('--path', action='store_true', help="print the picture's path, no more")
    show.add_argument('--out', metavar='FILE', help='write a copy of the picture')
    show.add_argument('--live', action=argparse.BooleanOptionalAction, default=None,
                      help='compare with the live view, also of a stack elsewhere; or never')
    add_json(show)
    add_namespace(show)


def _add_import(verbs) -> None:
    take = _add(verbs, 'import', 'save a picture as a goal', _import,
                'What a NAME.json beside it says is kept.')
    take.add_argument('picture', help='an 8 bit RGB picture')
    take.add_argument('--name', default='', help="of the goal; that of the picture's file if left")
    take.add_argument('--camera', default='', metavar='NAME',
                      help="of the camera that took it, where it is known to be the robot's")
    take.add_argument('--size', type=_size, metavar='WIDTHxHEIGHT',
                      help="stretch a picture that was squashed back to the camera's proportions; "
                           'the width first, such as 640x480')


def _add(verbs, name: str, text: str, run, more: str = '',
         directory: bool = True) -> argparse.ArgumentParser:
    verb = add_verb(verbs, name, text, run, more)
    if directory:  # given before the verb or after it
        _add_directory(verb, argparse.SUPPRESS)
    return verb


def _add_directory(parser: argparse.ArgumentParser, default: str) -> None:
    parser.add_argument('--directory', default=default, metavar='FOLDER',
                        help=f'where goals are saved (default: {DEFAULT_DIRECTORY})')


def _size(text: str) -> tuple[int, int]:
    if not re.fullmatch('[1-9][0-9]{0,3}x[1-9][0-9]{0,3}', text):
        raise argparse.ArgumentTypeError(f'{text!r} is no WIDTHxHEIGHT in pixels, such as 640x480')
    width, height = text.split('x')
    return int(width), int(height)


def _list(chosen) -> int:
    store = GoalStore(chosen.directory)
    if problem := store.problem():
        raise GoalError(problem)
    entries = [_entry(store, name) for name in store.names()]
    lines = [f'{entry["name"]:24} {entry["path"]}  '
             + (entry.get('problem') or '{width}x{height}  {taken}  {by}'.format(
                 **entry, taken=_time(entry) or '-', by=entry['camera'] or '-')
                + ('  shipped' if entry['shipped'] else '')) for entry in entries]
    answer(chosen, entries, '\n'.join(lines) or f'no goals in {store.directory}')
    return 1 if any('problem' in entry for entry in entries) else 0


def _entry(store: GoalStore, name: str) -> dict:
    path = store.find_saved(name)
    try:
        return _described(store, store.load(path))
    except GoalError as error:
        return {'name': name, 'path': str(path), 'problem': str(error)}


def _described(store: GoalStore, goal: Goal) -> dict:
    return {'name': goal.name, 'path': str(goal.path.absolute()),
            'shipped': store.is_shipped(goal), 'width': goal.image.shape[1],
            'height': goal.image.shape[0], 'camera': goal.metadata.get('camera'),
            'stamp_ns': goal.metadata.get('stamp_ns'), 'sha256': goal.sha256}


def _time(entry: dict) -> str:
    if not entry.get('stamp_ns'):
        return ''
    moment = datetime.datetime.fromtimestamp(entry['stamp_ns'] * 1e-9)
    return moment.strftime('%Y-%m-%d %H:%M:%S')


def _show(chosen) -> int:
    store = GoalStore(chosen.directory)
    goal = store.load(chosen.name)
    if chosen.out:
        _copy(goal, Path(chosen.out).expanduser())
    entry = _described(store, goal)
    if chosen.path:
        print(entry['path'])
        return 0
    document = {**entry, 'metadata': goal.metadata, 'live': _live(chosen, goal)}
    lines = [f'{name}: {value}' for name, value in entry.items() if value is not None]
    lines += [f'taken: {taken}'] if (taken := _time(entry)) else []
    lines += [f'{name}: {value}' for name, value in goal.metadata.items() if name not in entry]
    live = document['live']
    if live:
        lines += [f'live view: {text}' for text in live['differences'] or ['like the goal']]
        lines += [f'  {name}: {value}' for name, value in live.get('measured', {}).items()]
    answer(chosen, document, '\n'.join(lines))
    return 0


def _copy(goal: Goal, target: Path) -> None:
    if target.exists():
        raise GoalError(f'{target} exists; name another file with --out')
    target.write_bytes(goal.path.read_bytes())


def _live(chosen, goal: Goal) -> dict | None:
    """Return how the view of the running stack differs; None where none is to be compared."""
    from stable_crl_ros.environment import stack_runs
    if not (stack_runs(chosen.namespace, dict(os.environ)) if chosen.live is None
            else chosen.live):
        return None
    from stable_crl_ros.goal_match import compare_views, incomparable
    with open_client(chosen) as stack:
        from stable_crl_ros.nodes.client import ClientError
        try:
            view, frame_id = stack.image()
            camera = stack.get_parameter('goal', 'camera')
        except ClientError as error:
            if chosen.live:
                raise
            return {'differences': [str(error)]}
    if why := incomparable(goal.image, view, goal.metadata.get('camera'), camera, frame_id):
        return {'differences': [why]}
    match = compare_views(goal.image, view)
    return {'differences': list(match.differences().values()), 'measured': match.values()}


def _capture(chosen) -> int:
    name = check_goal_name(chosen.name) if chosen.name else ''
    with open_client(chosen) as stack:
        before = stack.get_parameter('goal', 'goal_name')
        done, message = stack.set_parameter('goal', 'goal_name', name)
        if done:
            try:
                done, message = stack.call('goal/capture')
            finally:
                stack.set_parameter('goal', 'goal_name', before)
    print(message if done else f'refused: {message}')
    return 0 if done else 1


def _import(chosen) -> int:
    from stable_crl_ros.goal_match import is_grey
    store = GoalStore(chosen.directory)
    goal = store.import_picture(chosen.picture, chosen.name, chosen.camera, chosen.size)
    if is_grey(goal.image):
        print(f'{goal.name} has no colours: only a camera without colours can match it',
              file=sys.stderr)
    print(f'saved {goal.name}: {goal.path}')
    return 0


def _delete(chosen) -> int:
    store = GoalStore(chosen.directory)
    path = store.deletable(chosen.name)
    if not (chosen.yes or _confirmed(path)):
        print('nothing was deleted', file=sys.stderr)
        return 1
    print(f'deleted {store.delete(chosen.name)}')
    return 0


def _confirmed(path: Path) -> bool:
    print(f'This deletes {path} and its .json.', file=sys.stderr)
    try:
        return input('Type yes to go on: ').strip().lower() == 'yes'
    except EOFError:
        return False
