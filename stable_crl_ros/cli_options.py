"""What the commands of `stable-crl` share: options, progress bars, JSON."""

import argparse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
import json
import sys

BAR_DELAY_S = 0.5  # a refusal comes first
LOG_INTERVAL_S = 60.0  # between the lines of a bar that a file or a pipe gets
# Options and arguments that name files and folders.
PLACES = ('adopt', 'checkpoint', 'checkpoints', 'config', 'dataset', 'datasets', 'directory',
          'folder', 'folders', 'goal', 'goal_directory', 'histograms', 'init_from', 'into',
          'json', 'open_loop', 'out', 'path', 'paths', 'picture', 'policies', 'recording',
          'report', 'source', 'sources', 'validation')


class OptionError(ValueError):
    """An option that makes no sense."""


def refuse_empty_places(chosen: argparse.Namespace) -> None:
    """
    Refuse an empty name of a file or folder, which would mean the folder one is in.

    :raises OptionError: when there is one: most likely a variable that was not set.
    """
    for name in PLACES:
        given = getattr(chosen, name, None)
        if '' in (given if isinstance(given, list) else [given]):
            raise OptionError(f'an empty name of a file or folder was given ({name.upper()}); is '
                              'a variable not set?')


def add_verb(verbs: argparse._SubParsersAction, name: str, text: str, run,
             more: str = '') -> argparse.ArgumentParser:
    """Add one verb; `text` is its line in the list of verbs, `more` follows it in its help."""
    parser = verbs.add_parser(name, help=text, description=f'{text}. {more}'.strip())
    parser.set_defaults(run=run)
    return parser


def add_one_episode(parser: argparse.ArgumentParser) -> None:
    """Let a verb take one episode."""
    parser.add_argument('path', help='folder of a dataset, or of one of its episodes')
    parser.add_argument('episode', nargs='?', default='last',
                        help="number of the episode in the dataset, or 'last' (default: last)")


def add_json(parser: argparse.ArgumentParser) -> None:
    """Let a command answer machines."""
    parser.add_argument('--json', action='store_true',
                        help='print one JSON document instead of text')


def add_dry_run(parser: argparse.ArgumentParser) -> None:
    """Let a command say what it would do."""
    parser.add_argument('--dry-run', action='store_true', help='change nothing, say what would be')


def answer(chosen: argparse.Namespace, document: object, text: str) -> None:
    """Print an answer for machines or for people, as was asked for."""
    print(json.dumps(document, indent=1) if chosen.json else text)


def count_up(total: int, **settings):
    """Return a `tqdm` bar on stderr; where that is no terminal, a line of it every minute."""
    from tqdm import tqdm
    seconds = {} if sys.stderr.isatty() else {'mininterval': LOG_INTERVAL_S,
                                              'maxinterval': LOG_INTERVAL_S}
    return tqdm(total=total, delay=BAR_DELAY_S, **seconds, **settings)


@contextmanager
def progress_bar(unit: str, description: str = '') -> Iterator[Callable[[int, int], None]]:
    """
    Show a bar on stderr where that is a terminal.

    :returns: a function to be called with what is done and the total.
    """
    from tqdm import tqdm
    with tqdm(unit=unit, desc=description or None, delay=BAR_DELAY_S, leave=False,
              disable=None) as bar:
        def show(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)
        yield show
