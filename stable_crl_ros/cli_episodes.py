"""`stable-crl episodes`: the verbs that look at recorded episodes."""

import argparse

from stable_crl_ros import cli_editing, cli_exchange
from stable_crl_ros.cli_options import (
    add_json,
    add_one_episode,
    add_verb,
    answer,
    progress_bar,
)

HELP = 'look at, label, edit and exchange recorded episodes'
DATASET = 'folder of a dataset'


def add_commands(commands: argparse._SubParsersAction) -> None:
    """Add episodes and its verbs."""
    episodes = commands.add_parser('episodes', help=HELP, description=(
        f'{HELP}. `stable-crl episodes VERB --help` explains a verb.'))
    verbs = episodes.add_subparsers(title='verbs', metavar='VERB', required=True)
    _add_list(verbs)
    _add_info(verbs)
    _add_verify(verbs)
    _add_stats(verbs)
    _add_view(verbs)
    _add_replay(verbs)
    cli_editing.add_verbs(verbs)
    cli_exchange.add_verbs(verbs)


def _add_list(verbs) -> None:
    verb = add_verb(verbs, 'list', 'list the episodes of datasets', _list, (
        'Marks say which were discarded, interrupted, recorded too slowly (degraded), or lost '
        'steps.'))
    verb.add_argument('datasets', nargs='+', metavar='DATASET', help=DATASET)
    verb.add_argument('--task', metavar='TEXT', help='only those whose task contains this')
    verb.add_argument('--success', choices=('yes', 'no', 'unknown'), help='only those')
    verb.add_argument('--tag', metavar='WORD', help='only those with this tag')
    verb.add_argument('--hide-discarded', action='store_true', help='leave discarded ones out')
    add_json(verb)


def _list(chosen) -> None:
    from stable_crl_ros.data.listing import Filter, format_list, list_episodes
    wanted = Filter(chosen.task, chosen.success, chosen.tag, chosen.hide_discarded)
    listed = [list_episodes(path, wanted) for path in chosen.datasets]
    several = len(listed) > 1
    text = '\n\n'.join((f'{item["path"]}\n' if several else '') + format_list(item)
                       for item in listed)
    answer(chosen, {'datasets': listed}, text)


def _add_info(verbs) -> None:
    verb = add_verb(verbs, 'info', 'say all that is known of one episode', _info)
    add_one_episode(verb)
    add_json(verb)


def _info(chosen) -> None:
    from stable_crl_ros.data.listing import describe_episode, format_description
    from stable_crl_ros.data.selection import open_one
    known = describe_episode(open_one(chosen.path, chosen.episode))
    answer(chosen, known, format_description(known))


def _add_verify(verbs) -> None:
    verb = add_verb(verbs, 'verify', 'check datasets or single episodes', _verify, (
        'Errors are damage, and what cannot have been recorded so. Warnings deserve a look: a '
        'rate other than the nominal one, lost steps, frozen or black frames, saturated or '
        'constant actions, states that jump more than the arm can move. The exit status is 1 '
        'when there are errors.'))
    verb.add_argument('paths', nargs='+', metavar='PATH',
                      help='folder of a dataset, or of one of its episodes')
    verb.add_argument('--integrity', action='store_true',
                      help='look for damage only: quicker, no warnings')
    verb.add_argument('--strict', action='store_true', help='let warnings count as errors')
    add_json(verb)


def _verify(chosen) -> int:
    from pathlib import Path

    from stable_crl_ros.data.verify import errors, verify_dataset, verify_episode
    reports, count = [], 0
    for path in chosen.paths:
        if Path(path).suffix == '.zarr':
            found = verify_episode(path, chosen.integrity)
        else:
            with progress_bar('episode', 'verifying') as show:
                found = verify_dataset(path, chosen.integrity, show)
        bad = len(found) if chosen.strict else len(errors(found))
        count += bad
        reports.append({'path': path, 'sound': not bad,
                        'findings': [finding.to_dict() for finding in found],
                        'text': [*map(str, found), _verdict(path, found, errors(found))]})
    text = '\n'.join(line for report in reports for line in report.pop('text'))
    answer(chosen, {'sound': not count, 'reports': reports}, text)
    return 1 if count else 0


def _verdict(path: str, found: list, errors: list) -> str:
    if not found:
        return f'{path}: all is well'
    warnings = len(found) - len(errors)
    return f'{path}: {len(errors)} error(s), {warnings} warning(s)'


def _add_view(verbs) -> None:
    verb = add_verb(verbs, 'view', 'show an episode as a picture or a video', _view, (
        'The contact sheet has frames, the goal, and who did what; the video the same as it '
        'went on.'))
    add_one_episode(verb)
    verb.add_argument('--camera', metavar='NAME', help='one of them (default: all)')
    verb.add_argument('--out', metavar='FILE', help='.png, or .mp4 with --video (default: '
                      'DATASET_episode_N.png or .mp4 here)')
    verb.add_argument('--video', action='store_true', help='write an mp4')
    verb.add_argument('--speed', type=float, default=1.0, metavar='FACTOR',
                      help='of the video; 1 as it was recorded (default: 1)')
    verb.add_argument('--height', type=int, default=240, metavar='PIXELS',
                      help="of the video's pictures (default: %(default)s)")
    add_json(verb)


def _view(chosen) -> None:
    from stable_crl_ros.data.selection import open_one
    episode = open_one(chosen.path, chosen.episode)
    dataset = episode.path.absolute().parent.name  # of several, none overwrites another's
    out = chosen.out or f'{dataset}_episode_{episode.id}{".mp4" if chosen.video else ".png"}'
    if chosen.video:
        from stable_crl_ros.data.video import write_video
        with progress_bar('frame', 'drawing') as show:
            write_video(episode, out, chosen.camera, chosen.height, chosen.speed, show)
    else:
        from stable_crl_ros.data.sheet import write_sheet
        write_sheet(episode, out, chosen.camera)
    answer(chosen, {'episode': episode.id, 'file': out}, f'wrote {out}')


def _add_stats(verbs) -> None:
    verb = add_verb(verbs, 'stats', 'say what the numbers of datasets are like', _stats, (
        'Mean, standard deviation and quantiles of every dimension, tasks, successes, who '
        'acted. Several datasets are taken as one.'))
    verb.add_argument('datasets', nargs='+', metavar='DATASET', help=DATASET)
    verb.add_argument('--histograms', metavar='FILE', help='draw them as a .png')
    add_json(verb)


def _stats(chosen) -> None:
    from stable_crl_ros.data.statistics import draw_histograms, format_statistics, measure
    with progress_bar('episode', 'reading') as show:
        statistics = measure(chosen.datasets, show)
    if chosen.histograms:
        draw_histograms(statistics, chosen.histograms)
    told = statistics.to_dict()
    answer(chosen, told, format_statistics(told))


def _add_replay(verbs) -> None:
    verb = add_verb(verbs, 'replay', 'let a running arm do again what an episode holds', _replay, (
        'The stack must be running (`stable-crl launch`), simulated or real, and its policy not '
        'steering. The arm node clips and refuses as ever. The exit status is 1 when the arm did '
        'not apply every step as recorded.'))
    add_one_episode(verb)
    verb.add_argument('--speed', type=float, default=1.0, metavar='FACTOR',
                      help='1 as it was recorded, 0.5 half as fast; not faster (default: 1)')
    verb.add_argument('--move-first', action='store_true',
                      help='bring the arm to where the episode began, on its checked path')
    verb.add_argument('--namespace', default='widowx', metavar='NAME',
                      help='of the running stack (default: %(default)s)')
    add_json(verb)


def _replay(chosen) -> int:
    from stable_crl_ros.data.selection import open_one
    from stable_crl_ros.nodes.replay import replay
    episode = open_one(chosen.path, chosen.episode)
    with progress_bar('step', 'replaying') as show:
        report = replay(episode, chosen.namespace, chosen.speed, chosen.move_first, progress=show)
    answer(chosen, report.to_dict(), str(report))
    return 0 if report.faithful else 1
