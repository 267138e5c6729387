"""What a launchable stack is made of: arguments, processes, and where their files lie."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
import json
import math
from pathlib import Path
import re
import shlex

PACKAGE = 'stable_crl_ros'
TERMINAL_NEEDED, TERMINAL_WELCOME = 'needed', 'welcome'

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

    :param executable: module in `nodes`, and its file in `scripts`.
    :param namespace: below the stack's, '' for the stack's own; without slashes around it.
    :param parameters: node name -> parameter -> value; a process may hold several nodes. Each
        overrides what `config/<node name>.yaml` says.
    :param respawn: start it again when it dies; never the arm or the policy.
    :param once: ends by itself; only another status than 0 ends the stack.
    :param terminal: '' for none, else it gets keyboard and screen undisturbed: `TERMINAL_NEEDED`,
        or `TERMINAL_WELCOME` where it can do without.
    """

    executable: str
    parameters: dict[str, dict] = field(default_factory=dict)
    namespace: str = ''
    respawn: bool = False
    once: bool = False
    terminal: str = ''

    @property
    def name(self) -> str:
        """What tells this process from the others of its stack, such as wrist/camera."""
        return f'{self.namespace}/{self.executable}' if self.namespace else self.executable

    def namespace_in(self, stack: str) -> str:
        """Return the full namespace, '/' in front, given that of the stack."""
        return '/' + '/'.join(part for part in (stack, self.namespace) if part)

    @property
    def config(self) -> list[Path]:
        """Files with the parameters that are not overridden."""
        files = [share('config') / f'{node}.yaml' for node in self.parameters]
        return [file for file in files if file.is_file()]

    def overrides(self) -> dict:
        """Return the overrides in the shape of a ROS parameter file, for any namespace."""
        return {f'/**/{node}': {'ros__parameters': dict(values)}
                for node, values in self.parameters.items() if values}

    def write_overrides(self, folder: Path) -> list[Path]:
        """Write the overrides as a ROS parameter file; returns its path, none without any."""
        if not self.overrides():
            return []
        path = folder / f'{self.name.replace("/", ".")}.yaml'
        # JSON is YAML with every text quoted: bare, rcl reads more of them as another type than
        # PyYAML does.
        path.write_text(json.dumps(self.overrides()))
        return [path]

    def command(self, stack: str) -> str:
        """
        Return what to type to start this process, of one node, beside a stack.

        :param stack: its namespace.
        """
        words = ['-r', f'__ns:={self.namespace_in(stack)}']
        for file in self.config:
            words += ['--params-file', str(file)]
        for values in self.parameters.values():
            for name, value in values.items():
                words += ['-p', f'{name}:={json.dumps(value)}']
        return shlex.join(['ros2', 'run', PACKAGE, self.executable, '--ros-args', *words])


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

    def complete(self, values: dict[str, str]) -> dict[str, str]:
        """
        Check argument values and fill in the defaults.

        :param values: text by argument name.
        :raises BringupError: for an unknown name or a value that is not valid.
        """
        known = {argument.name: argument for argument in self.arguments}
        unknown = sorted(set(values) - set(known))
        if unknown:
            raise BringupError(f'{self.name} has no argument {", ".join(unknown)}; '
                               f'it has {", ".join(known)}')
        complete = {name: argument.check(values.get(name, argument.default))
                    for name, argument in known.items()}
        return complete | {'namespace': check_namespace(complete['namespace'])}

    def specs(self, values: dict[str, str]) -> list[NodeSpec]:
        """
        Turn argument values into processes, in the order to start them.

        :raises BringupError: for a wrong argument, or a goal or checkpoint that does not exist.
        """
        return self.build(self.complete(values))

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

    :raises BringupError: for a word of another form, a name given twice, or what `complete`
        refuses.
    """
    values: dict[str, str] = {}
    for word in words:
        name, separator, text = word.partition(':=')
        if not separator:
            raise BringupError(f'{word!r} is not of the form name:=value')
        if name in values:
            raise BringupError(f'{name}:= is given twice')
        values[name] = text
    graph.complete(values)
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
