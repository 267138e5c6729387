"""The commands of `stable-crl` around the running robot: stacks, services, parameters."""

import argparse
import os

from stable_crl_ros.bringup import GRAPHS, parse_arguments

NODE_HELP = 'such as policy; in the namespace unless it starts with "/"'
TRANSITIONS = ('configure', 'activate', 'deactivate', 'cleanup')


def add_commands(commands: argparse._SubParsersAction) -> None:
    """Add launch, call, param and lifecycle."""
    _add_launch(commands)
    call = add_client(commands, 'call', _call, 'call a service, such as arm/stop')
    call.add_argument('service', help='such as goal/capture or episode_logger/stop')
    call.add_argument('data', nargs='?', choices=('true', 'false'),
                      help='for services that ask yes or no')
    _add_param(commands)
    lifecycle = add_client(commands, 'lifecycle', _lifecycle, 'show or change a managed node')
    lifecycle.add_argument('node', help='arm or policy')
    lifecycle.add_argument('transition', nargs='?', choices=TRANSITIONS,
                           help='leave it out to see the state')


def _add_launch(commands) -> None:
    launch = commands.add_parser(
        'launch', help='start a stack: ' + ', '.join(GRAPHS),
        description='Start a stack and watch over it until Ctrl-C.',
        epilog='\n\n'.join(graph.help() for graph in GRAPHS.values()),
        formatter_class=argparse.RawDescriptionHelpFormatter)
    launch.add_argument('graph', choices=GRAPHS)
    launch.add_argument('arguments', nargs='*', metavar='name:=value')
    launch.add_argument('--show-args', action='store_true', help="list the stack's arguments")
    launch.set_defaults(run=_launch)


def _launch(chosen) -> int:
    graph = GRAPHS[chosen.graph]
    if chosen.show_args:
        print(graph.help())
        return 0
    from stable_crl_ros.launcher import Launcher, run
    values = graph.complete(parse_arguments(graph, chosen.arguments))
    return run(Launcher(graph.specs(values), values['namespace'], log_level=values['log_level']))


def add_client(commands, name: str, run, text: str) -> argparse.ArgumentParser:
    """Add a command that talks to a running stack."""
    parser = commands.add_parser(name, help=text, description=text)
    add_namespace(parser)
    parser.set_defaults(run=run)
    return parser


def add_namespace(parser: argparse.ArgumentParser) -> None:
    """Let a command say which stack it talks to."""
    parser.add_argument('--namespace', default='widowx', metavar='NAME',
                        help='of the stack (default: %(default)s)')


def open_client(chosen):
    """Return the client of the chosen namespace, to be used with `with`."""
    from stable_crl_ros.environment import ros_environment
    os.environ.update(ros_environment())
    from stable_crl_ros.nodes.client import Client
    return Client(chosen.namespace)


def print_answer(done: bool, message: str) -> int:
    """Print what a node answered; returns the exit code."""
    print(f'{"done" if done else "refused"}{": " + message if message else ""}')
    return 0 if done else 1


def _call(chosen) -> int:
    data = None if chosen.data is None else chosen.data == 'true'
    with open_client(chosen) as client:
        return print_answer(*client.call(chosen.service, data))


def _add_param(commands) -> None:
    text = 'show or set parameters of a running node'
    parser = commands.add_parser('param', help=text, description=text)
    verbs = parser.add_subparsers(metavar='VERB', required=True)
    for verb, run, words in (('set', _param_set, ('parameter', 'value')),
                             ('get', _param_get, ('parameter',)), ('list', _param_list, ())):
        sub = add_client(verbs, verb, run, f'{verb} parameters')
        for word in ('node', *words):
            sub.add_argument(word, help=NODE_HELP if word == 'node' else None)


def _param_set(chosen) -> int:
    with open_client(chosen) as client:
        return print_answer(*client.set_parameter(chosen.node, chosen.parameter, chosen.value))


def _param_get(chosen) -> None:
    with open_client(chosen) as client:
        print(client.get_parameter(chosen.node, chosen.parameter))


def _param_list(chosen) -> None:
    with open_client(chosen) as client:
        for name, value in client.parameters(chosen.node).items():
            print(f'{name}: {value}')


def _lifecycle(chosen) -> int:
    with open_client(chosen) as client:
        if chosen.transition is None:
            print(client.state(chosen.node))
            return 0
        from stable_crl_ros.nodes.client import TRANSITIONS as LEADS_TO
        before = client.state(chosen.node)
        if before == LEADS_TO[chosen.transition][1]:
            return print_answer(True, f'{chosen.node} is {before} already')
        done = client.transition(chosen.node, chosen.transition)
        state = client.state(chosen.node)
        return print_answer(done, f'{chosen.node} is {state}' +
                       ('' if done else "; the node's log says why"))
