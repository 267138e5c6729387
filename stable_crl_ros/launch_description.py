"""Turn a graph of `bringup` into a launch description; only for machines with ROS 2's launch."""

import os
from pathlib import Path
import sys
import tempfile

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, LogInfo, OpaqueFunction, Shutdown
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node
from stable_crl_ros.bringup import GRAPHS
from stable_crl_ros.environment import (
    PARENT_VARIABLE,
    RESPAWN_DELAY_S,
    ros_environment,
    StackLock,
)
from stable_crl_ros.graph import (
    Graph,
    NodeSpec,
    PACKAGE,
    parse_arguments,
    TERMINAL_NEEDED,
)

# Kept until this launch process ends.
_locks: list[StackLock] = []
_folders: list[tempfile.TemporaryDirectory] = []


def describe(name: str) -> LaunchDescription:
    """
    Describe one graph.

    :param name: key in `bringup.GRAPHS`.
    """
    graph = GRAPHS[name]
    return LaunchDescription([
        *(DeclareLaunchArgument(
            argument.name, default_value=argument.default, description=argument.description,
            choices=list(argument.choices) or None) for argument in graph.arguments),
        OpaqueFunction(function=_start, args=[graph]),
    ])


def _start(context, graph: Graph) -> list:
    _refuse_unknown(graph, sys.argv)
    values = graph.complete({
        argument.name: LaunchConfiguration(argument.name).perform(context)
        for argument in graph.arguments})
    specs, namespace = graph.specs(values), values['namespace']
    _locks.append(StackLock(namespace, dict(os.environ)))
    _folders.append(tempfile.TemporaryDirectory(prefix=f'{PACKAGE}-'))
    return [_terminal_hint(spec, namespace) if spec.terminal == TERMINAL_NEEDED
            else _node(spec, namespace, values['log_level']) for spec in specs]


def _refuse_unknown(graph: Graph, command: list[str]) -> None:
    # `ros2 launch` itself accepts any name:=value. Another launch file's are none of ours.
    if any(Path(word).name == f'{graph.name}.launch.py' for word in command):
        parse_arguments(graph, [word for word in command if ':=' in word])


def _node(spec: NodeSpec, namespace: str, log_level: str) -> Node:
    environment = {name: value for name, value in ros_environment().items()
                   if name not in os.environ and name.endswith('PROFILES_FILE')}
    return Node(
        package=PACKAGE, executable=spec.executable, namespace=spec.namespace_in(namespace),
        parameters=[*spec.config, *spec.write_overrides(Path(_folders[-1].name))],
        ros_arguments=['--log-level', log_level], output='screen',
        emulate_tty=not spec.terminal,  # launch passes lines on, nothing redrawn in place
        additional_env={**environment, PARENT_VARIABLE: str(os.getpid())},
        respawn=spec.respawn, respawn_delay=RESPAWN_DELAY_S,
        on_exit=None if spec.respawn else _end_stack(spec))


def _end_stack(spec: NodeSpec):
    def on_exit(event, context) -> list:
        if context.is_shutdown or (spec.once and event.returncode == 0):
            return []
        return [Shutdown(reason=f'{spec.name} ended with status {event.returncode}')]
    return on_exit


def _terminal_hint(spec: NodeSpec, namespace: str) -> LogInfo:
    # launch gives its processes no keyboard.
    return LogInfo(msg=f'{spec.executable} needs a terminal of its own; run there: '
                       f'{spec.command(namespace)}')
