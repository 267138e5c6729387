"""The commands of `stable-crl arm`: what a person needs at the bench, beside the real arm."""

import argparse
import sys

from stable_crl_ros.cli_options import add_json, add_verb, answer

UDEV_NOTE = """\
The port is found by itself: /dev/ttyDXL, or the only converter (FTDI 0403:6014) plugged in.
`stable-crl arm probe` prints the udev rule that names it and makes it quick.
While an arm node runs, it holds the port, and these commands are refused: stop the node first.
"""
PORT_HELP = 'serial port of the arm, best by its name in /dev/serial/by-id'


def add_commands(commands: argparse._SubParsersAction) -> None:
    """Add arm."""
    arm = commands.add_parser(
        'arm', help='probe, check, calibrate, move and release the real arm',
        description='The real arm, without ROS.', epilog=UDEV_NOTE,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = arm.add_subparsers(metavar='VERB', required=True)
    _add(verbs, 'probe', 'list the servos that answer; changes nothing', _probe)
    check = _add(verbs, 'check', 'compare every servo with what a WidowX 250s needs', _check,
                 'Exit status 1 says that something differs or reports an error.')
    _add_write(check, 'write the registers that differ; torque must be off')
    calibrate = _add(verbs, 'calibrate', 'check the horns of an arm that lies on its rest, '
                     'torque off', _calibrate, 'Joints need no offset, their encoders are '
                     'absolute. The second motors of shoulder and elbow may need one.')
    _add_write(calibrate, 'set the offsets of the second motors')
    for name, text in (('sleep', 'fold the arm onto its rest, slowly'),
                       ('home', 'move to the start pose, slowly')):
        verb = _add(verbs, name, text, _move, 'The arm holds there. Keep clear of it.')
        verb.add_argument('--speed', type=float, metavar='RAD/S',
                          help="of the fastest joint, 0.05 to 1.5 (default: the file's "
                               'homing_speed)')
        verb.add_argument('--config', metavar='FILE',
                          help="poses and limits, as the arm node's parameters (default: "
                               'config/arm.yaml, which the launch files use)')
        verb.set_defaults(pose=name)
    release = _add(verbs, 'torque-off', 'let go of the arm, which falls unless it lies on its '
                   'rest', _torque_off)
    release.add_argument('--yes', action='store_true', help='do not ask')


def _add(verbs, name: str, text: str, run, more: str = '') -> argparse.ArgumentParser:
    verb = add_verb(verbs, name, text, run, more)
    verb.add_argument('--port', default='', metavar='PATH', help=PORT_HELP)
    verb.add_argument('--baud-rate', type=int, default=1_000_000, metavar='BIT/S',
                      help='of the servos (default: %(default)s)')
    add_json(verb)
    return verb


def _add_write(verb: argparse.ArgumentParser, text: str) -> None:
    verb.add_argument('--write', action='store_true', help=text)


def _report(chosen, finding, fine: str, more: str = '') -> int:
    """Print what was found; exit status 1 where there is a problem."""
    lines = [f'{finding.port} at {finding.baud_rate} bit/s']
    lines += [f'  {number:3} {text}' for number, text in finding.servos.items()]
    lines += [f'  {name}: {value}' for name, value in finding.values.items()]
    lines += [f'problem: {problem}' for problem in finding.problems] or [fine]
    answer(chosen, vars(finding), '\n'.join(lines + ([more] if more else [])))
    return 1 if finding.problems else 0


def _probe(chosen) -> int:
    from stable_crl_ros.robot.dynamixel_bench import probe
    from stable_crl_ros.robot.dynamixel_port import UDEV_HELP
    return _report(chosen, probe(chosen.port, chosen.baud_rate), 'a complete WidowX 250s',
                   f'For /dev/ttyDXL and a quick port, {UDEV_HELP}')


def _check(chosen) -> int:
    from stable_crl_ros.robot.dynamixel_bench import check, opened
    from stable_crl_ros.robot.dynamixel_setup import (
        check_models,
        differences,
        scan,
        write_configuration,
    )
    with opened(chosen.port, chosen.baud_rate) as bus:
        if chosen.write:
            check_models(scan(bus), bus.port)  # what fits this arm would spoil another
            found = differences(bus)
            write_configuration(bus, found)
            print(f'wrote {len(found)} registers', file=sys.stderr)
        return _report(chosen, check(bus), 'configured as a WidowX 250s, no errors')


def _calibrate(chosen) -> int:
    from stable_crl_ros.robot.dynamixel_bench import calibrate, opened
    with opened(chosen.port, chosen.baud_rate) as bus:
        return _report(chosen, calibrate(bus, chosen.write), 'all horns are where they belong')


def _move(chosen) -> int:
    from stable_crl_ros.graph import share
    from stable_crl_ros.robot.arm_file import read_arm_file
    from stable_crl_ros.robot.dynamixel import DynamixelArm
    from stable_crl_ros.robot.dynamixel_bench import go_to
    known = read_arm_file(chosen.config or share('config') / 'arm.yaml')
    if chosen.speed is not None:
        known = known.at_speed(chosen.speed)
    pose = known.sleep if chosen.pose == 'sleep' else known.home
    arm = DynamixelArm(chosen.port, baud_rate=chosen.baud_rate)
    arm.connect()
    try:
        left = go_to(arm, pose, known.speed, known.limits)
    finally:
        arm.close()  # it holds on
    answer(chosen, {'pose': chosen.pose, 'largest_error_rad': round(left, 4)},
           f'at {chosen.pose}, to {left:.3f} rad; the arm holds')
    return 0


def _torque_off(chosen) -> int:
    from stable_crl_ros.robot.dynamixel_bench import let_go, opened
    with opened(chosen.port, chosen.baud_rate) as bus:
        if not (chosen.yes or _confirmed(bus.port)):
            print('nothing was done', file=sys.stderr)
            return 1
        failed = let_go(bus)
        answer(chosen, {'port': bus.port, 'failed': failed},
               '\n'.join(failed) or 'torque is off; the arm can be moved by hand')
    return 1 if failed else 0


def _confirmed(port: str) -> bool:
    print(f'The arm on {port} will FALL unless it lies on its rest (`stable-crl arm sleep`) or '
          'somebody holds it.', file=sys.stderr)
    try:
        return input('Type yes to switch its torque off: ').strip().lower() == 'yes'
    except EOFError:
        return False
