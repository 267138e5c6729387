"""`stable-crl episodes`: the verbs that exchange recordings: import, export, goal."""

import argparse
from dataclasses import fields

from stable_crl_ros.cli_options import add_dry_run, add_json, add_verb, answer, progress_bar

# Repeated, to answer --help at once; a test compares them.
IMPORTS = ('bridge-npz', 'bridge-raw', 'bridge-numpy', 'rlds', 'rosbag', 'frames')
EXPORTS = ('lerobot', 'diffusion_policy', 'rlds')
TOPICS = {'joint-states': 'joint_states', 'ee-pose': 'ee_pose', 'applied-action': 'applied_action',
          'twist': 'delta_twist_cmds', 'gripper-topic': 'gripper_cmd'}


def add_verbs(verbs) -> None:
    """Add import, export and goal."""
    _add_import(verbs)
    _add_export(verbs)
    _add_goal(verbs)


def _add_import(verbs) -> None:
    verb = add_verb(verbs, 'import', 'bring recordings of other formats into a dataset', _import, (
        'All are looked at before any is written, one that was imported before is skipped, and '
        'an interrupted import goes on when it is repeated. bridge-npz: folders with an '
        'episode.npz. bridge-raw: BridgeData V2 as recorded (traj_group*/traj* with pickles and '
        'JPEG). bridge-numpy: its out.npy. rlds: TFRecord files. rosbag: rosbag2 (sqlite3, MCAP) '
        'and ROS 1 bags. frames: videos and folders of pictures without actions, for goals and '
        'evaluation; training refuses them.'))
    verb.add_argument('source', help='file or folder')
    verb.add_argument('dataset', help='folder of the dataset; made when it is not there')
    verb.add_argument('--format', choices=('auto', *IMPORTS), default='auto',
                      help='of the source (default: auto)')
    verb.add_argument('--image-codec', metavar='CODEC',
                      help='of a dataset that is made: lossless (default) or jpeg:QUALITY; JPEG '
                           'files come into the latter as they are')
    verb.add_argument('--image-size', type=_image_size, metavar='HEIGHTxWIDTH',
                      help='resize images, pixels; the height first, such as 240x320')
    verb.add_argument('--task', default='', help='(default: the instruction)')
    verb.add_argument('--instruction', default='', help='in place of what the source says')
    verb.add_argument('--operator', default='', help='who recorded it')
    verb.add_argument('--rate', type=float, metavar='HZ',
                      help="of the control (default: the source's, else 5; needed for twists that "
                           'come at another one, and for rlds that is not BridgeData)')
    verb.add_argument('--skip-bad', action='store_true',
                      help='leave bad recordings out; otherwise one of them refuses all')
    _add_bridge_options(verb.add_argument_group('BridgeData'))
    _add_bag_options(verb.add_argument_group('bags'))
    add_dry_run(verb)
    add_json(verb)


def _add_bridge_options(group) -> None:
    group.add_argument('--actions', choices=('recorded', 'relabelled'), default='recorded',
                       help="relabelled: differences of the states around each step, BridgeData's "
                            'choice for training; what was recorded stays as commanded_action '
                            '(default: recorded)')
    group.add_argument('--gripper', choices=('recorded', 'binarised'), default='recorded',
                       help='binarised: values in between become the open (1) or closed (0) one '
                            'they lead to (default: recorded)')
    group.add_argument('--lag', choices=('auto', '0', '1'), default='auto',
                       help='steps the images of bridge-raw come late; auto: 1 for what was '
                            'recorded before 2021-07-23, 0 since (default: auto)')
    group.add_argument('--state', choices=('auto', 'bridge'), default='auto',
                       help="what observation/state of rlds is; bridge: BridgeData's position, "
                            'angles and gripper; auto: that where it is called bridge, else it '
                            'is left out (default: auto)')


def _add_bag_options(group) -> None:
    group.add_argument('--camera', action='append', default=[], type=_camera, metavar='NAME=TOPIC',
                       help='may be repeated (default: every image topic but goals)')
    for option, topic in TOPICS.items():
        group.add_argument(f'--{option}', default=topic, metavar='TOPIC',
                           help='(default: %(default)s, in any namespace)')
    group.add_argument('--bag-actions', choices=('auto', 'applied', 'commanded', 'poses'),
                       default='auto',
                       help='what the arm applied, twists and gripper commands, differences of '
                            'ee_pose, or the first of these there is (default: auto)')
    group.add_argument('--max-image-age', type=float, default=0.5, metavar='S',
                       help='a step with an older image counts as dropped (default: 0.5)')


def _image_size(text: str) -> tuple[int, int]:
    height, _, width = text.lower().partition('x')
    if not (height.isdecimal() and width.isdecimal() and int(height) and int(width)):
        raise argparse.ArgumentTypeError(f'{text!r} is not HEIGHTxWIDTH, such as 240x320')
    return int(height), int(width)


def _camera(text: str) -> tuple[str, str]:
    name, _, topic = text.partition('=')
    if not (name and topic):
        raise argparse.ArgumentTypeError(f'{text!r} is not NAME=TOPIC, such as '
                                         f'front=/camera/image_raw')
    return name, topic


def _import(chosen) -> int:
    from stable_crl_ros.exchange.importing import BAD, examine, import_recordings
    options = _import_options(chosen)
    with _Phases('recording') as progress:
        if chosen.dry_run:
            result = examine(chosen.source, chosen.dataset, options, chosen.format, progress)
        else:
            result = import_recordings(chosen.source, chosen.dataset, options, chosen.format,
                                       image_codec=chosen.image_codec, skip_bad=chosen.skip_bad,
                                       progress=progress)
    answer(chosen, result.to_dict(), _describe_import(result, chosen))
    return int(chosen.dry_run and result.count(BAD) > 0)


def _import_options(chosen):
    from stable_crl_ros.exchange.options import ImportOptions, Topics
    topics = Topics(dict(chosen.camera), chosen.joint_states, chosen.ee_pose,
                    chosen.applied_action, chosen.twist, chosen.gripper_topic)
    given = {field.name: getattr(chosen, field.name) for field in fields(ImportOptions)
             if hasattr(chosen, field.name)}
    return ImportOptions(**given, topics=topics, ros_actions=chosen.bag_actions)


class _Phases:
    # One bar after the other: for looking at the recordings, and for writing them.
    def __init__(self, unit: str) -> None:
        self._unit, self._phase, self._bar, self._show = unit, '', None, None

    def __enter__(self):
        return self

    def __call__(self, phase: str, done: int, total: int) -> None:
        if phase != self._phase:
            self.__exit__()
            self._phase, self._bar = phase, progress_bar(self._unit, phase)
            self._show = self._bar.__enter__()
        self._show(done, total)

    def __exit__(self, *_) -> None:
        if self._bar is not None:
            self._bar.__exit__(None, None, None)
            self._bar = None


def _describe_import(result, chosen) -> str:
    lines = [_describe_finding(finding) for finding in result.findings
             if chosen.dry_run or finding.state != 'new']
    counts = f'{result.count("known")} known already, {result.count("bad")} bad'
    if chosen.dry_run:
        return '\n'.join([*lines, f'{chosen.source}: {result.format}, {result.count("new")} '
                                  f'recordings would come in; {counts}'])
    return '\n'.join([*lines, f'imported {len(result.episodes)} episodes into {chosen.dataset}; '
                              f'{counts}'])


def _describe_finding(finding) -> str:
    if finding.state != 'new':
        return f'{finding.state}: {finding.name}: {finding.why}' if finding.state == 'known' \
            else f'bad: {finding.why}'
    cameras = ', '.join(f'{name} {width}x{height}'
                        for name, (height, width) in finding.cameras.items())
    return (f'new: {finding.name}: {finding.steps} steps, {cameras}'
            f'{"" if finding.actions else ", no actions"}'
            f'{f", {finding.instruction!r}" if finding.instruction else ""}')


def _add_export(verbs) -> None:
    verb = add_verb(verbs, 'export', 'write a dataset in the layout of another library', _export, (
        'lerobot: LeRobot v3.0, images lossless in its Parquet files. diffusion_policy: Zarr v2 '
        'with data/* and meta/episode_ends. rlds: TFRecord files as TensorFlow Datasets reads '
        'them. An episode is split where steps were lost. Nothing appears under OUT before all of '
        'it is there.'))
    verb.add_argument('dataset', help='folder of the dataset')
    verb.add_argument('out', help='folder to make')
    verb.add_argument('--format', choices=EXPORTS, required=True)
    verb.add_argument('--episodes', type=int, nargs='+', metavar='N',
                      help='their numbers (default: all that have actions)')
    verb.add_argument('--camera', action='append', default=[], metavar='NAME',
                      help='may be repeated (default: all)')
    verb.add_argument('--image-size', type=_image_size, metavar='HEIGHTxWIDTH',
                      help='resize images, pixels; the height first, such as 240x320')
    verb.add_argument('--keep-last', action='store_true',
                      help="lerobot, diffusion_policy: export every episode's last frame too, "
                           'with an action that holds still')
    verb.add_argument('--video', action='store_true',
                      help='lerobot: images as mp4, smaller and not lossless')
    add_json(verb)


def _export(chosen) -> None:
    from stable_crl_ros.exchange.exporting import export_dataset
    from stable_crl_ros.exchange.selection import ExportOptions
    options = ExportOptions(chosen.episodes, chosen.camera, chosen.image_size, chosen.keep_last,
                            chosen.video)
    with progress_bar('episode', 'exporting') as progress:
        done = export_dataset(chosen.dataset, chosen.out, chosen.format, options, progress)
    lines = [f'episode {number} left out: {why}' for number, why in done.left_out.items()]
    text = '\n'.join([*lines, *done.notes, f'wrote {len(done.episodes)} episodes, {done.frames} '
                      f'frames, {done.bytes / 1e6:.1f} MB to {done.path}'])
    answer(chosen, done.to_dict(), text)


def _add_goal(verbs) -> None:
    verb = add_verb(verbs, 'goal', 'save a frame of an episode as a goal photograph', _goal)
    verb.add_argument('dataset', help='folder of the dataset')
    verb.add_argument('episode', type=int, help='its number')
    verb.add_argument('--frame', type=int, default=-1, metavar='N',
                      help='0 is the first, -1 the last (default: -1)')
    verb.add_argument('--camera', metavar='NAME', help='needed when there are several')
    verb.add_argument('--name', default='', help='of the goal (default: the next free one)')
    verb.add_argument('--goal-directory', metavar='FOLDER', help='(default: ~/stable_crl/goals)')
    add_json(verb)


def _goal(chosen) -> None:
    from stable_crl_ros.data.dataset import Dataset
    from stable_crl_ros.exchange.goal_frames import save_goal
    from stable_crl_ros.goals import DEFAULT_DIRECTORY, GoalStore
    store = GoalStore(chosen.goal_directory or DEFAULT_DIRECTORY)
    goal = save_goal(Dataset(chosen.dataset)[chosen.episode], chosen.frame, chosen.camera,
                     chosen.name, store)
    answer(chosen, {'name': goal.name, 'path': str(goal.path), 'sha256': goal.sha256},
           f'saved goal {goal.name}: {goal.path}')
