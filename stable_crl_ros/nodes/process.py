"""The process around a node: start-up errors, signals, duplicates, orphans and exit codes."""

from collections.abc import Callable
import errno
import hashlib
import os
import signal
import socket
import sys
import threading
import time
import warnings

import rclpy
from rclpy.clock import Clock, ClockType
from rclpy.exceptions import ParameterException
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.node import Node
from stable_crl_ros.environment import PARENT_VARIABLE
from stable_crl_ros.scheduling import go_first

RCLError = rclpy_implementation.RCLError
UnknownROSArgsError = rclpy_implementation.UnknownROSArgsError

# What a node may raise to refuse: ours are all rooted in these. Anything else is a bug.
REFUSALS = (ValueError, RuntimeError, OSError, ParameterException)

ORPHAN_GRACE_S = 10.0
DUPLICATE_WATCH_S = 3.0
QOS_PREFIX = 'qos_overrides.'
PRIORITY = 'priority'


class StartupError(RuntimeError):
    """A node that must not run; the message says why and what to do."""


def steady_clock() -> Clock:
    """Return a monotonic clock: for rates and watchdogs, whatever `use_sim_time` says."""
    return Clock(clock_type=ClockType.STEADY_TIME)


def spin_node(factory: Callable[[], Node | list[Node]], args: list[str] | None = None,
              simulates: bool = False) -> int:
    """
    Run one node, or several in one executor, until Ctrl-C or SIGTERM; the process then ends.

    :param factory: makes the node, or a list of nodes, after `rclpy.init`.
    :param args: command line with `--ros-args`; None for the process's own.
    :param simulates: whether it computes physics and pictures, which must not go first.
    :returns: exit code: 0 after Ctrl-C or SIGTERM, 1 when the node could not start.
    """
    nodes: list[Node] = []
    claims: list[socket.socket] = []
    started = spinning = False
    try:
        rclpy.init(args=args)
        started = True
        executor = _start(factory, nodes, claims)
        if not simulates:
            _go_first(nodes)
        spinning = True
        executor.spin()
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    except Exception as error:
        wanted = isinstance(error, StartupError)
        # Ctrl-C or SIGTERM between two calls makes rcl fail, inside one pybind11, and before
        # the first node rclpy, each in its own way.
        if started and not wanted and not rclpy.ok() and (
                isinstance(error, RuntimeError) or not spinning):
            return 0
        if not isinstance(error, REFUSALS) or (spinning and not wanted):
            raise
        unread = 'not understood: ' if isinstance(error, UnknownROSArgsError) else ''
        print(f'cannot run: {unread}{error}', file=sys.stderr, flush=True)
        return 1
    finally:
        _close(nodes, claims)
    return 0


def _start(factory, nodes, claims) -> SingleThreadedExecutor:
    _end_with_parent()
    # What rclpy says when SIGTERM comes while a node is being made.
    warnings.filterwarnings('ignore', message='Failed to fini', category=RuntimeWarning)
    made = factory()
    nodes.extend(made if isinstance(made, (list, tuple)) else [made])
    executor = SingleThreadedExecutor()
    for node in nodes:
        claims.append(refuse_duplicate(node))
        executor.add_node(node)
    _refuse_unknown_parameters(nodes)
    return executor


def _go_first(nodes: list[Node]) -> None:
    # Only now: what was imported and made before would have held up others for seconds.
    priority = max((node.get_parameter(PRIORITY).value for node in nodes
                    if node.has_parameter(PRIORITY)), default=0)
    if priority and (refusal := go_first(priority)):
        nodes[0].get_logger().info(
            f'no real-time priority ({refusal}): on a busy machine it will be late; allow it in '
            '/etc/security/limits.d (see docs/live.md), or set priority: 0')


def _close(nodes: list[Node], claims: list[socket.socket]) -> None:
    _ignore_interrupts()
    try:
        for node in nodes:
            node.destroy_node()
    finally:
        rclpy.try_shutdown()
        _ignore_interrupts()  # rclpy has put the old handler back
        for claim in claims:
            claim.close()


def _ignore_interrupts() -> None:
    # Ctrl-C in a terminal reaches a launched node twice: from the terminal and the launcher.
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.SIG_IGN)


def _refuse_unknown_parameters(nodes: list[Node]) -> None:
    # rclpy ignores a misspelt parameter without a word, and be it a limit of the arm. Of several
    # nodes in a process each gets what the command line says, for whichever it is meant.
    for node in nodes:
        for name in getattr(node, '_parameter_overrides', {}):
            if not name.startswith(QOS_PREFIX) and not any(n.has_parameter(name) for n in nodes):
                known = sorted(p for p in node._parameters if not p.startswith(QOS_PREFIX))
                raise StartupError(f'{node.get_fully_qualified_name()} has no parameter {name!r}; '
                                   f'it has {", ".join(known)}')


def refuse_duplicate(node: Node) -> socket.socket:
    """
    Make sure that no second node of this full name runs: two policies would drive one arm.

    On this machine an abstract socket decides at once, and it dies with its process. Elsewhere
    in the network the graph is watched for the first seconds; the newcomer gives way.

    :returns: the claim; the name is taken as long as it stays open.
    :raises StartupError: here when the name is taken on this machine, later out of `spin` when
        it is taken on another.
    """
    name, domain = node.get_fully_qualified_name(), node.context.get_domain_id()
    digest = hashlib.sha256(f'{domain}{name}'.encode()).hexdigest()  # the address is short
    claim = socket.socket(socket.AF_UNIX)
    try:
        claim.bind(f'\0stable_crl_ros/{digest}')
    except OSError as error:
        claim.close()
        if error.errno != errno.EADDRINUSE:
            raise
        raise StartupError(_taken(name, domain, 'on this machine')) from error
    deadline = time.monotonic() + DUPLICATE_WATCH_S

    def watch() -> None:
        if time.monotonic() > deadline:
            timer.cancel()
        elif _runs_on_another_machine(node):
            raise StartupError(_taken(name, domain, 'on another machine'))
    timer = node.create_timer(0.1, watch, clock=steady_clock())
    return claim


def _taken(name: str, domain: int, where: str) -> str:
    return (f'{name} already runs {where} in ROS domain {domain}; stop it, or give this one '
            'another name, namespace or ROS_DOMAIN_ID')


def _runs_on_another_machine(node: Node) -> bool:
    # A killed node haunts the graph for many seconds, so names alone would refuse its successor.
    # Bytes 2 and 3 of a Fast DDS identifier name the machine.
    machines = {bytes(info.endpoint_gid[2:4])
                for info in node.get_publishers_info_by_topic('/parameter_events')
                if info.node_name == node.get_name()
                and info.node_namespace == node.get_namespace()}
    return len(machines) > 1


def _end_with_parent() -> None:
    # The launcher may be killed without a chance to stop its nodes.
    parent = os.environ.pop(PARENT_VARIABLE, '')
    if not parent:
        return
    if not parent.isdigit():
        raise StartupError(f'{PARENT_VARIABLE} is {parent!r}; set it to a process id or unset it')

    def watch() -> None:
        while os.getppid() == int(parent):
            time.sleep(0.25)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(ORPHAN_GRACE_S)
        os.kill(os.getpid(), signal.SIGKILL)
    threading.Thread(target=watch, name='parent watch', daemon=True).start()
