"""The node graph, once: which processes make up each stack, with which arguments."""

import os
from pathlib import Path
import re
import tempfile

from stable_crl_ros.goal_match import other_camera
from stable_crl_ros.goal_sequence import GoalSequence
from stable_crl_ros.goals import DEFAULT_DIRECTORY, GoalError, GoalStore
from stable_crl_ros.graph import (
    Argument,
    BringupError,
    Graph,
    NodeSpec,
    parse_arguments,
    TERMINAL_NEEDED,
    TERMINAL_WELCOME,
)

__all__ = ['Argument', 'BringupError', 'Graph', 'GRAPHS', 'NodeSpec', 'parse_arguments']

DEFAULT_DATASET = '~/stable_crl/episodes'
ROBOTS = ('sim', 'mock', 'emulated', 'dynamixel', 'xs_sdk', 'joint_trajectory')
SAFE_ROBOTS = ('sim', 'mock', 'emulated')  # nothing can be hurt: they may act by themselves
SIMULATED = ('sim', 'emulated')  # one process has the world, and its camera
TELEOPS = ('auto', 'keyboard', 'gamepad', 'spacemouse', 'joy', 'none')
# Those of `sim.tasks`, which takes its time to import.
SIM_TASKS = ('open_drawer', 'close_drawer', 'move_drawer', 'push_block', 'pick_place',
             'place_in_drawer', 'push_then_open')
SIM_CAMERA_RATE = 30.0  # Hz: an image is at most 33 ms old when the policy acts on it
LOG_LEVELS = ('debug', 'info', 'warn', 'error', 'fatal')
BOOLEANS = ('true', 'false')
CAMERA_NAME = re.compile(r'[A-Za-z_][A-Za-z0-9_]*')
NOT_CAMERAS = ('joint_states', 'ee_pose')  # streams of an episode that have these names already

ROBOT = Argument('robot', 'sim', 'who moves: the simulator; a still arm for tests; the simulator '
                 'behind an emulated servo bus; a real bus; or an arm that others drive',
                 choices=ROBOTS)
PORT = Argument('port', '', 'robot:=dynamixel: serial port; empty for /dev/ttyDXL or the only '
                'converter, emulated for a servo bus without hardware')
NAMESPACE = Argument('namespace', 'widowx', 'in front of every node and topic name')
CAMERA_SOURCE = Argument(
    'camera_source', 'auto', 'device number or path, video file, image folder or rtsp:// address; '
    "auto: the simulator's camera with robot:=sim and robot:=emulated, else device 0")
CAMERAS = Argument(
    'cameras', 'over_shoulder', "names in the episode, the policy's first, which camera_source "
    'feeds; every further one as NAME=SOURCE in a namespace of its name: over_shoulder,wrist=2')
AUTOSTART = Argument('autostart', 'auto', 'let the nodes act as soon as all are there; auto: '
                     'where nothing can be hurt, robot:=sim, mock or emulated',
                     choices=('auto', *BOOLEANS))
CONTROL_RATE = Argument('control_rate', '5.0', 'control steps per second (Hz)', kind=float)
LOG_LEVEL = Argument('log_level', 'info', 'least severe log messages that are shown',
                     choices=LOG_LEVELS)
SIM_TASK = Argument('sim_task', 'open_drawer', 'simulated robots: whose start scenes are drawn',
                    choices=SIM_TASKS)
SEED = Argument('seed', '0', 'simulated robots: of the random start scene', kind=int)
GOAL_DIRECTORY = Argument('goal_directory', DEFAULT_DIRECTORY, 'where goals are saved and found')
RECORDING = (
    Argument('dataset_path', DEFAULT_DATASET, 'dataset the episodes are written to'),
    Argument('task', '', 'what is done, written into every episode'),
    Argument('operator', '', 'who does it, written into every episode'),
    Argument('notes', '', 'anything else, written into every episode'),
    Argument('image_codec', '', 'how images are stored: lossless, or jpeg:95 (quality 1..100); '
             "empty for the dataset's own, lossless in a new one"),
    Argument('max_steps', '0', 'control steps after which an episode ends by itself; 0: never',
             kind=int),
    Argument('max_duration', '0.0', 'length after which an episode ends by itself (s); 0: never',
             kind=float),
)


def _robot(values: dict[str, str]) -> list[NodeSpec]:
    arm = {'driver': values['robot'], 'control_rate': float(values['control_rate'])}
    _, *further = _cameras(values)
    others = [_camera(source, name) for name, source in further]
    _check_port(values)
    if values['robot'] in SIMULATED:
        return [*_simulated(values, arm), *others]
    if values['robot'] == 'dynamixel':
        arm['port'] = values['port']
    source = values['camera_source']
    return [NodeSpec('arm', {'arm': arm}), _camera('0' if source == 'auto' else source), *others]


def _simulated(values: dict[str, str], arm: dict) -> list[NodeSpec]:
    robot, source = values['robot'], values['camera_source']
    if source not in ('auto', 'sim'):
        raise BringupError(f'camera_source:={source} cannot be used with robot:={robot}, which '
                           'brings its own camera; leave it out or use robot:=mock')
    world = {'task': values['sim_task'], 'seed': int(values['seed'])}
    camera = {'framerate': SIM_CAMERA_RATE}
    if robot == 'sim':
        return [NodeSpec('sim', {'sim': world, 'arm': arm, 'camera': camera})]
    link = _bus_link()
    return [NodeSpec('servo_sim', {'sim': world | {'link': link}, 'camera': camera}),
            NodeSpec('arm', {'arm': arm | {'driver': 'dynamixel', 'port': link}})]


def _bus_link() -> str:
    """Where the emulated bus of this launch is found; one of its own for every launch."""
    return str(Path(tempfile.gettempdir()) / f'stable_crl_ros-{os.getuid()}'
               / f'servo_bus-{os.getpid()}')


def _check_port(values: dict[str, str]) -> None:
    if values['port'] and values['robot'] != 'dynamixel':
        raise BringupError(f'port:={values["port"]} is for robot:=dynamixel; robot:='
                           f'{values["robot"]} has no serial port to choose')


def _camera(source: str, name: str = '') -> NodeSpec:
    frame = {'frame_id': f'{name}_optical_frame'} if name else {}
    return NodeSpec('camera', {'camera': {'source': source, **frame}}, name, respawn=True)


def _cameras(values: dict[str, str]) -> list[tuple[str, str]]:
    """Return name and source of every camera; the first has its source elsewhere."""
    first, *further = values['cameras'].split(',')
    pairs = [(first, ''), *(tuple(word.split('=', 1)) for word in further)]
    if not all(len(pair) == 2 and (pair[1] or pair is pairs[0]) for pair in pairs):
        raise BringupError(f'cameras:={values["cameras"]}: where do they look? Write every camera '
                           "after the first as NAME=SOURCE; the first's is camera_source")
    names = [name for name, _ in pairs]
    wrong = [name for name in names if not CAMERA_NAME.fullmatch(name) or name in NOT_CAMERAS]
    if wrong or len(set(names)) < len(names):
        raise BringupError(f'cameras:={values["cameras"]}: give each a name of its own, of '
                           f'letters, digits and "_", none of {", ".join(NOT_CAMERAS)}')
    return pairs


def _lifecycle(values: dict[str, str], managed: list[str]) -> NodeSpec:
    autostart = values['autostart'] == 'true' or (
        values['autostart'] == 'auto' and values['robot'] in SAFE_ROBOTS)
    # The arm finds its bus when it is configured, and the bus comes with a slow process.
    awaited = {'awaited_path': _bus_link()} if values['robot'] == 'emulated' else {}
    return NodeSpec('lifecycle_manager', {'lifecycle_manager': {
        'managed_nodes': managed, 'autostart': autostart, **awaited}}, once=True)


def _teleop(values: dict[str, str]) -> list[NodeSpec]:
    device = values['teleop']
    if device == 'none':
        return []
    needed = device in ('auto', 'keyboard')
    return [NodeSpec('teleop', {'teleop': {
        'device': device, 'control_rate': float(values['control_rate'])}},
        terminal=TERMINAL_NEEDED if needed else TERMINAL_WELCOME)]


def _absolute(name: str, values: dict[str, str]) -> Path:
    try:
        return Path(values[name]).expanduser().absolute()
    except RuntimeError as error:
        raise BringupError(f'{name}:={values[name]}: there is no such user; write the folder '
                           'out') from error


def _logger(values: dict[str, str], record_on_start: bool = False) -> NodeSpec:
    first, *further = (name for name, _ in _cameras(values))
    return NodeSpec('episode_logger', {'episode_logger': {
        **{name: values[name] for name in ('task', 'operator', 'notes', 'image_codec')},
        'dataset_path': str(_absolute('dataset_path', values)),
        'source': 'simulation' if values['robot'] in SIMULATED else 'robot',
        'cameras': [first, *further],
        'image_topics': ['image_raw', *(f'{name}/image_raw' for name in further)],
        'control_rate': float(values['control_rate']),
        'max_steps': int(values['max_steps']), 'max_duration': float(values['max_duration']),
        'record_on_start': record_on_start}}, respawn=True)


def _goals(values: dict[str, str]) -> dict:
    """Return the goal node's parameters: one goal, or several; every picture is read here."""
    names = [name.strip() for name in values['goals'].strip('[] ').split(',') if name.strip()]
    if names and values['goal']:
        raise BringupError('goal:= is one goal and goals:= are several; give one of them')
    loop, limit = values['goals_loop'] == 'true', float(values['goal_timeout'])
    if limit < 0:
        raise BringupError(f'goal_timeout:={values["goal_timeout"]} must be 0 or more (s)')
    if (loop or limit) and not names:
        raise BringupError(f'{"goals_loop:=true" if loop else "goal_timeout:="} needs several '
                           'goals:=[NAME, NAME]')
    camera = _cameras(values)[0][0]
    try:
        store = GoalStore(values['goal_directory'])
        if not (names or values['goal']):
            raise BringupError('which goal? Add goal:=NAME.png; there are: '
                               f'{", ".join(store.names()) or "none"}')
        goals = [store.load(name) for name in names or [values['goal']]]
        for goal in goals:
            if why := other_camera(goal.metadata.get('camera'), camera):
                raise BringupError(f'goal {goal.name}: {why}')
        paths = [str(goal.path.absolute()) for goal in goals]
        if not names:
            return {'active_goal': paths[0], 'camera': camera}
        GoalSequence(goals, loop)
    except GoalError as error:
        raise BringupError(str(error)) from error
    return {'goals': paths, 'goals_loop': loop, 'goal_timeout': limit,
            'on_timeout': values['on_timeout'], 'camera': camera}


def _checkpoint_path(values: dict[str, str]) -> str:
    if not values['checkpoint']:
        return ''
    path = _absolute('checkpoint', values)
    if not path.is_file():
        raise BringupError(f'checkpoint {path} is not a file; leave checkpoint:= out for the one '
                           'that ships with the package')
    return str(path)


def _policy_graph(values: dict[str, str]) -> list[NodeSpec]:
    goal = {**_goals(values), 'goal_directory': str(_absolute('goal_directory', values))}
    policy = {'checkpoint_path': _checkpoint_path(values), 'device': values['device'],
              'control_rate': float(values['control_rate'])}
    record = values['record'] == 'true'
    return [
        *_robot(values),
        NodeSpec('goal', {'goal': goal}),
        *([_logger(values, record_on_start=True)] if record else []),
        NodeSpec('policy', {'policy': policy}),
        *([NodeSpec('monitor', {'monitor': {'control_rate': float(values['control_rate'])}},
                    respawn=True)] if values['debug_image'] == 'true' else []),
        _lifecycle(values, ['arm', 'policy']),
        *_teleop(values),
    ]


def _collect_graph(values: dict[str, str]) -> list[NodeSpec]:
    return [
        *_robot(values),
        NodeSpec('goal', {'goal': {
            'goal_directory': str(_absolute('goal_directory', values)),
            'camera': _cameras(values)[0][0]}}),
        _logger(values),
        _lifecycle(values, ['arm']),
        *_teleop(values),
    ]


def _hardware_graph(values: dict[str, str]) -> list[NodeSpec]:
    return [*_robot(values), _lifecycle(values, ['arm'])]


GRAPHS = {graph.name: graph for graph in (
    Graph('policy', 'camera, goal, policy and arm: bring about what a goal image shows', (
        Argument('goal', '', 'goal image: a path, or the name of a saved or shipped goal'),
        Argument('goals', '', 'several instead, one after another: [drawer_open, drawer_closed]; '
                 'the next when the policy reports one reached, or on the service goal/next'),
        Argument('goals_loop', 'false', 'begin again after the last of goals', choices=BOOLEANS),
        Argument('goal_timeout', '0', 'time that the policy may act on each of goals (s); 0: '
                 'until it is reached', kind=float),
        Argument('on_timeout', 'next', 'after that time: the next of goals, or stop the arm',
                 choices=('next', 'stop')),
        ROBOT,
        Argument('checkpoint', '', 'trained .safetensors file; empty for the shipped one'),
        Argument('device', 'cpu', 'where the policy computes: cpu, cuda or cuda:N'),
        Argument('record', 'false', 'write an episode from the first step on', choices=BOOLEANS),
        Argument('debug_image', 'false', 'draw camera, goal, progress and actions as '
                 'policy/debug_image, for any image viewer', choices=BOOLEANS),
        Argument('teleop', 'none', 'what takes over from the policy while its deadman is held',
                 choices=TELEOPS),
        PORT, *RECORDING, GOAL_DIRECTORY, CAMERA_SOURCE, CAMERAS, CONTROL_RATE, AUTOSTART,
        NAMESPACE, LOG_LEVEL, SIM_TASK, SEED,
    ), _policy_graph),
    Graph('collect', 'camera, arm, teleoperation and recording: make a dataset', (
        ROBOT,
        Argument('teleop', 'auto', 'what steers the arm; auto: the keyboard, and every gamepad '
                 'and SpaceMouse there is', choices=TELEOPS),
        PORT, *RECORDING, GOAL_DIRECTORY, CAMERA_SOURCE, CAMERAS, CONTROL_RATE, AUTOSTART,
        NAMESPACE, LOG_LEVEL, SIM_TASK, SEED,
    ), _collect_graph),
    Graph('hardware', 'arm and camera alone, for checks and for graphs of your own', (
        ROBOT, PORT, CAMERA_SOURCE, CAMERAS, CONTROL_RATE, AUTOSTART, NAMESPACE, LOG_LEVEL,
        SIM_TASK, SEED,
    ), _hardware_graph),
)}
