#!/usr/bin/env python3
"""Write docs/parameters.md from the parameters that the nodes really declare."""

from collections.abc import Callable
from pathlib import Path
import sys

import rclpy
from rclpy.context import Context
from rclpy.node import Node
from rclpy.parameter import Parameter
from stable_crl_ros.goals import SHIPPED_GOALS
from stable_crl_ros.nodes.arm import ArmNode
from stable_crl_ros.nodes.camera import CameraNode
from stable_crl_ros.nodes.episode_logger import EpisodeLoggerNode
from stable_crl_ros.nodes.goal import GoalNode
from stable_crl_ros.nodes.lifecycle_manager import LifecycleManager
from stable_crl_ros.nodes.monitor import MonitorNode
from stable_crl_ros.nodes.policy import PolicyNode
from stable_crl_ros.nodes.sim import make_nodes
from stable_crl_ros.nodes.teleop import TeleopNode

NOT_OURS = ('use_sim_time', 'start_type_description_service', 'qos_overrides')
PATH = Path(__file__).parent / 'parameters.md'


def describe(node: Node) -> str:
    """Return a node's parameters as a Markdown table."""
    rows = [f'## {node.get_name()}', '', '| parameter | default | valid | meaning |',
            '|---|---|---|---|']
    for name in sorted(node._parameters):
        if name.startswith(NOT_OURS):
            continue
        descriptor = node.describe_parameter(name)
        default = node.get_parameter(name).value
        default = list(default) if not isinstance(default, (str, int, float)) else default
        rows.append(f'| `{name}` | `{default!r}` | {valid(descriptor)} | '
                    f'{descriptor.description} |')
    return '\n'.join(rows) + '\n'


def valid(descriptor) -> str:
    """Say which values a parameter takes."""
    said = [descriptor.additional_constraints] if descriptor.additional_constraints else []
    for limits in (*descriptor.floating_point_range, *descriptor.integer_range):
        if limits.from_value > -1e15:
            said.append(f'>= {limits.from_value:g}')
        if limits.to_value < 1e15:
            said.append(f'<= {limits.to_value:g}')
    if descriptor.read_only:
        said.append('fixed at start')
    return ', '.join(said)


def tables() -> str:
    """Make every node once, with its defaults, and describe them all."""
    context = Context()
    rclpy.init(context=context)
    pictures = str(SHIPPED_GOALS)  # stands in for a device, which this machine may lack
    plain: list[Callable] = [
        lambda **k: CameraNode(parameter_overrides=[Parameter('source', value=pictures)], **k),
        GoalNode, PolicyNode, MonitorNode, ArmNode, EpisodeLoggerNode, TeleopNode,
        LifecycleManager]
    parts = ['# Parameters', '', 'Made by `docs/make_parameters.py` from the nodes themselves. '
             'The launchers and `config/NODE.yaml` may set others.', '']
    for make in plain:
        node = make(context=context, namespace='documentation')
        parts.append(describe(node).replace(pictures, '0'))
        node.destroy_node()
    made = make_nodes(context=context, namespace='documentation')
    parts.append(describe(next(node for node in made if node.get_name() == 'sim')))
    for node in made:
        node.destroy_node()
    rclpy.try_shutdown(context=context)
    return '\n'.join(parts)


def main() -> int:
    """Write the file; with --check, only say whether it is up to date."""
    text = tables()
    if sys.argv[1:] == ['--check']:
        return 0 if PATH.read_text() == text else 1
    PATH.write_text(text)
    return 0


if __name__ == '__main__':
    sys.exit(main())
