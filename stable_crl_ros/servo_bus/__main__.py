"""Serve an emulated WidowX servo bus on a pseudo-terminal until it is killed."""

import argparse
import contextlib
import os
import signal
import sys
import threading

from stable_crl_ros.scheduling import go_first, SERVOS
from stable_crl_ros.servo_bus.arms import arm_servos, ARMS, BusError
from stable_crl_ros.servo_bus.process import EmulatedBus
from stable_crl_ros.servo_bus.shared import RemoteArm


def _pose(text: str) -> dict[str, float]:
    """Read `waist=0.1,elbow=-0.5`."""
    try:
        return {joint.strip(): float(angle) for joint, angle in
                (part.split('=') for part in text.split(',') if part)}
    except ValueError:
        raise argparse.ArgumentTypeError(
            f'{text!r} is not joint=rad,joint=rad') from None


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog='python -m stable_crl_ros.servo_bus',
                                     description=__doc__)
    parser.add_argument('--model', default='wx250s', choices=ARMS, help='which arm')
    parser.add_argument('--pose', type=_pose, default={}, metavar='JOINT=RAD,...',
                        help='where it stands; what is missing is as at rest')
    parser.add_argument('--link', default='', metavar='PATH',
                        help='symbolic link that leads to the port')
    parser.add_argument('--control', default='', metavar='PATH',
                        help='socket for requests: faults, registers')
    parser.add_argument('--shared-arm', default='', metavar='PATH',
                        help='memory through which an arm in another process is turned')
    parser.add_argument('--untimed', action='store_true',
                        help='answer at once, not when the wire would have')
    parser.add_argument('--until-eof', action='store_true',
                        help='end when standard input does, as when its parent is killed')
    parser.add_argument('--seed', type=int, default=0, help='of faults left to chance')
    return parser.parse_args()


def _end_with_input() -> None:
    def watch() -> None:
        os.read(sys.stdin.fileno(), 1)  # a buffered read would hold a lock that exit waits for
        os.kill(os.getpid(), signal.SIGTERM)
    threading.Thread(target=watch, name='parent watch', daemon=True).start()


def _go_first() -> None:
    """Stand for hardware, which answers in time whatever the machine computes; if it may."""
    if go_first(SERVOS):
        with contextlib.suppress(OSError):
            os.nice(-10)


def main() -> int:
    """Print the port and serve."""
    options = _options()
    _go_first()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    if options.until_eof:
        _end_with_input()
    try:
        arm = (RemoteArm(arm_servos(options.model), options.shared_arm)
               if options.shared_arm else None)
        with EmulatedBus(arm, model=options.model, pose=options.pose, link=options.link,
                         control=options.control, timed=not options.untimed,
                         seed=options.seed) as bus:
            print(bus.port, flush=True)
            bus.wait()
    except BusError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        pass
    return 0


if __name__ == '__main__':
    sys.exit(main())
