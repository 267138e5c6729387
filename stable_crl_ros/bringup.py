"""The node graph, once: which processes make up a stack, with which arguments and parameters."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
import math
from pathlib import Path
import re

from stable_crl_ros.goals import DEFAULT_DIRECTORY, GoalError, GoalStore

PACKAGE = 'stable_crl_ros'
DEFAULT_DATASET = '~/stable_crl/episodes'
ROBOTS = ('sim', 'mock', 'dynamixel', 'xs_sdk')
SAFE_ROBOTS = ('sim', 'mock')  # nothing can be hurt: they may start to act by themselves
LOG_LEVELS = ('debug', 'info', 'warn', 'error', 'fatal')
BOOLEANS = ('true', 'false')

_NAMESPACE = re.compile(r'([A-Za-z_][A-Za-z0-9_]*(/[A-Za-z_][A-Za-z0-9_]*)*)?')


class BringupError(ValueError):
    """A stack that must not be started as asked."""


@dataclass(frozen=True)
class Argument:
    """
    One `name:=value` of a launch command.

    :param default: as it would be typed.
    :param description: one line with the unit.
    :param choices: the valid values, empty for any.
    :param kind: what the text must read as: str, int or float.
    """

    name: str
    default: str
    description: str
    choices: tuple[str, ...] = ()
    kind: type = str

    def check(self, text: str) -> str:
        """
        Return the value; one of the choices may be written as True or SIM as well.

        :raises BringupError: listing the choices or naming the kind.
        """
        text = text.lower() if self.choices else text
        if self.choices and text not in self.choices:
            raise BringupError(f'{self.name}:={text} is not valid ({self.description}); '
                               f'choose one of {", ".join(self.choices)}')
        try:
            finite = self.kind is str or math.isfinite(self.kind(text))
        except (ValueError, OverflowError):
            finite = False
        if not finite:
            raise BringupError(f'{self.name}:={text} must be '
                               f'{"a whole number" if self.kind is int else "a finite number"} '
                               f'({self.description})')
        return text


@dataclass(frozen=True)
class NodeSpec:
    """
    One process of a stack.

    :param executable: module in `nodes` and console script.
    :param parameters: node name -> parameter -> value; a process may hold several nodes. Each
        overrides what `config/<node name>.yaml` says.
    :param respawn: start it again when it dies; never the arm or the policy.
    :param once: ends by itself; only another status than 0 ends the stack.
    :param terminal: gets the keyboard and the screen undisturbed.
    """

    executable: str
    parameters: dict[str, dict] = field(default_factory=dict)
    respawn: bool = False
    once: bool = False
    terminal: bool = False

    @property
    def config(self) -> list[Path]:
        """Files with the parameters that are not overridden."""
        files = [share('config') / f'{node}.yaml' for node in self.parameters]
        return [file for file in files if file.is_file()]

    def overrides(self) -> dict:
        """Return the overrides in the shape of a ROS parameter file, for any namespace."""
        return {f'/**/{node}': {'ros__parameters': dict(values)}
                for node, values in self.parameters.items() if values}


@dataclass(frozen=True)
class Graph:
    """
    A stack that can be launched by name.

    :param build: turns complete, checked argument values into processes.
    """

    name: str
    description: str
    arguments: tuple[Argument, ...]
    build: Callable[[dict[str, str]], list[NodeSpec]]

    def specs(self, values: dict[str, str]) -> list[NodeSpec]:
        """
        Turn argument values into processes, in the order to start them.

        :param values: text by argument name; missing ones take their default.
        :raises BringupError: for an unknown name, a value that is not valid, or a goal that does
            not exist.
        """
        known = {argument.name: argument for argument in self.arguments}
        unknown = sorted(set(values) - set(known))
        if unknown:
            raise BringupError(f'{self.name} has no argument {", ".join(unknown)}; '
                               f'it has {", ".join(known)}')
        complete = {name: argument.check(values.get(name, argument.default))
                    for name, argument in known.items()}
        check_namespace(complete['namespace'])
        return self.build(complete)

    def help(self) -> str:
        """List the arguments with their defaults, valid values and meaning."""
        lines = [f'{self.name}: {self.description}', '', 'arguments (name:=value):']
        for argument in self.arguments:
            choices = f' [{"|".join(argument.choices)}]' if argument.choices else ''
            lines += [f'  {argument.name}:={argument.default}{choices}',
                      f'      {argument.description}']
        return '\n'.join(lines)


def share(folder: str) -> Path:
    """
    Find `config` or `launch`: in the source tree, else in `share/` of where this is installed.

    :raises BringupError: when the installation is incomplete.
    """
    for parent in Path(__file__).resolve().parents:
        if (parent / 'package.xml').is_file() and (parent / folder).is_dir():
            return parent / folder
        if (parent / 'share' / PACKAGE / folder).is_dir():
            return parent / 'share' / PACKAGE / folder
    raise BringupError(f'no {folder} folder above {__file__}; install the package again')


def parse_arguments(graph: Graph, words: Iterable[str]) -> dict[str, str]:
    """
    Read `name:=value` words.

    :raises BringupError: for a word of another form, or a name that is unknown or given twice.
    """
    values: dict[str, str] = {}
    known = [argument.name for argument in graph.arguments]
    for word in words:
        name, separator, text = word.partition(':=')
        if not separator:
            raise BringupError(f'{word!r} is not of the form name:=value; '
                               f'{graph.name} takes {", ".join(known)}')
        if name not in known:
            raise BringupError(f'{graph.name} has no argument {name!r}; it has {", ".join(known)}')
        if name in values:
            raise BringupError(f'{name}:= is given twice')
        values[name] = text
    return values


def check_namespace(namespace: str) -> str:
    """
    Return the namespace without leading and trailing slashes.

    :raises BringupError: when ROS would not accept it.
    """
    bare = namespace.strip('/')
    if not _NAMESPACE.fullmatch(bare):
        raise BringupError(f'namespace {namespace!r} is not valid; use letters, digits and "_", '
                           'not starting with a digit, parts separated by "/"')
    return bare


ROBOT = Argument('robot', 'sim', 'who moves: the simulator, a still arm for tests, or a real bus',
                 choices=ROBOTS)
NAMESPACE = Argument('namespace', 'widowx', 'in front of every node and topic name')
CAMERA_SOURCE = Argument(
    'camera_source', 'auto', 'device number or path, video file, image folder or rtsp:// address; '
    "auto: the simulator's camera with robot:=sim, else device 0")
AUTOSTART = Argument('autostart', 'auto', 'let the nodes act as soon as all are there; auto: with '
                     'robot:=sim and robot:=mock only', choices=('auto', *BOOLEANS))
CONTROL_RATE = Argument('control_rate', '5.0', 'control steps per second (Hz)', kind=float)
LOG_LEVEL = Argument('log_level', 'info', 'least severe log messages that are shown',
                     choices=LOG_LEVELS)
SIM_TASK = Argument('sim_task', 'open_drawer', 'robot:=sim: whose start scenes are drawn')
SEED = Argument('seed', '0', 'robot:=sim: of the random start scene', kind=int)
GOAL_DIRECTORY = Argument('goal_directory', DEFAULT_DIRECTORY, 'where goals are saved and found')
RECORDING = (
    Argument('dataset_path', DEFAULT_DATASET, 'dataset the episodes are written to'),
    Argument('task', '', 'what is done, written into every episode'),
    Argument('operator', '', 'who does it, written into every episode'),
    Argument('notes', '', 'anything else, written into every episode'),
)


def _robot(values: dict[str, str]) -> list[NodeSpec]:
    rate = float(values['control_rate'])
    arm = {'driver': values['robot'], 'control_rate': rate}
    source = values['camera_source']
    if values['robot'] == 'sim':
        if source not in ('auto', 'sim'):
            raise BringupError(f'camera_source:={source} cannot be used with robot:=sim, which '
                               'brings its own camera; leave it out or use robot:=mock')
        world = {'task': values['sim_task'], 'seed': int(values['seed'])}
        return [NodeSpec('sim', {'sim': world, 'arm': arm, 'camera': {}})]
    camera = {'source': '0' if source == 'auto' else source}
    return [NodeSpec('arm', {'arm': arm}),
            NodeSpec('camera', {'camera': camera}, respawn=True)]


def _lifecycle(values: dict[str, str], managed: list[str]) -> NodeSpec:
    autostart = values['autostart'] == 'true' or (
        values['autostart'] == 'auto' and values['robot'] in SAFE_ROBOTS)
    return NodeSpec('lifecycle_manager', {'lifecycle_manager': {
        'managed_nodes': managed, 'autostart': autostart}}, once=True)


def _logger(values: dict[str, str], **more) -> NodeSpec:
    told = {name: values[name] for name in ('task', 'operator', 'notes')}
    path = str(Path(values['dataset_path']).expanduser().absolute())
    return NodeSpec('episode_logger', {'episode_logger': {'dataset_path': path, **told, **more}},
                    respawn=True)


def _goal_path(values: dict[str, str]) -> str:
    store = GoalStore(values['goal_directory'])
    if not values['goal']:
        raise BringupError('which goal? Add goal:=NAME.png; there are: '
                           f'{", ".join(store.names()) or "none"}')
    try:
        return str(store.load(values['goal']).path.absolute())
    except GoalError as error:
        raise BringupError(str(error)) from error


def _checkpoint_path(values: dict[str, str]) -> str:
    if not values['checkpoint']:
        return ''
    path = Path(values['checkpoint']).expanduser().absolute()
    if not path.is_file():
        raise BringupError(f'checkpoint {path} is not a file; leave checkpoint:= out for the one '
                           'that ships with the package')
    return str(path)


def _policy_graph(values: dict[str, str]) -> list[NodeSpec]:
    goal = {'active_goal': _goal_path(values), 'goal_directory': values['goal_directory']}
    policy = {'checkpoint_path': _checkpoint_path(values), 'device': values['device'],
              'control_rate': float(values['control_rate'])}
    record = values['record'] == 'true'
    return [
        *_robot(values),
        NodeSpec('goal', {'goal': goal}),
        *([_logger(values, record_on_start=True)] if record else []),
        NodeSpec('policy', {'policy': policy}),
        _lifecycle(values, ['arm', 'policy']),
    ]


def _collect_graph(values: dict[str, str]) -> list[NodeSpec]:
    teleop = NodeSpec('teleop', {'teleop': {'control_rate': float(values['control_rate'])}},
                      terminal=True)
    return [
        *_robot(values),
        NodeSpec('goal', {'goal': {'goal_directory': values['goal_directory']}}),
        _logger(values),
        _lifecycle(values, ['arm']),
        *([teleop] if values['teleop'] == 'keyboard' else []),
    ]


def _hardware_graph(values: dict[str, str]) -> list[NodeSpec]:
    return [*_robot(values), _lifecycle(values, ['arm'])]


GRAPHS = {graph.name: graph for graph in (
    Graph('policy', 'camera, goal, policy and arm: bring about what a goal image shows', (
        Argument('goal', '', 'goal image: a path, or the name of a saved or shipped goal'),
        ROBOT,
        Argument('checkpoint', '', 'trained .safetensors file; empty for the shipped one'),
        Argument('device', 'cpu', 'where the policy computes: cpu, cuda or cuda:N'),
        Argument('record', 'false', 'write an episode from the first step on', choices=BOOLEANS),
        *RECORDING, GOAL_DIRECTORY, CAMERA_SOURCE, CONTROL_RATE, AUTOSTART, NAMESPACE, LOG_LEVEL,
        SIM_TASK, SEED,
    ), _policy_graph),
    Graph('collect', 'camera, arm, teleoperation and recording: make a dataset', (
        ROBOT,
        Argument('teleop', 'keyboard', 'what steers the arm', choices=('keyboard', 'none')),
        *RECORDING, GOAL_DIRECTORY, CAMERA_SOURCE, CONTROL_RATE, AUTOSTART, NAMESPACE, LOG_LEVEL,
        SIM_TASK, SEED,
    ), _collect_graph),
    Graph('hardware', 'arm and camera alone, for checks and for graphs of your own', (
        ROBOT, CAMERA_SOURCE, CONTROL_RATE, AUTOSTART, NAMESPACE, LOG_LEVEL, SIM_TASK, SEED,
    ), _hardware_graph),
)}
