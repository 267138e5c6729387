#!/usr/bin/env python3
"""Record one episode in simulation in which a person takes over from the policy, and verify it.

Starts `stable-crl launch policy robot:=sim record:=true teleop:=keyboard` on a terminal of its
own, lets the policy act, holds a key as a person would, lets go, and ends the episode by its key.
"""

import argparse
import contextlib
from itertools import groupby
import os
from pathlib import Path
import pty
import select
import signal
import sys
import time

import numpy as np
from stable_crl_ros.data.dataset import Dataset
from stable_crl_ros.data.episode import Episode
from stable_crl_ros.data.findings import ERROR
from stable_crl_ros.data.schema import Mode
from stable_crl_ros.data.verify import verify_dataset

START_S, ANSWER_S = 90.0, 20.0  # longest waits
REPEAT_S = 0.03  # between two repeats of a held key
EXPECTED = [Mode.POLICY, Mode.TELEOP, Mode.POLICY]


class Session:
    """
    A program on a terminal.

    :param command: what to start.
    """

    def __init__(self, command: list[str]) -> None:
        self._pid, self._terminal = pty.fork()
        if self._pid == 0:
            os.execv(command[0], command)
        self.seen = ''

    def watch(self, text: str, seconds: float, key: str = '') -> None:
        """
        Read until a text has appeared from now on.

        :param key: held meanwhile.
        :raises RuntimeError: when it does not appear.
        """
        start, end = len(self.seen), time.monotonic() + seconds
        while text not in self.seen[start:]:
            if time.monotonic() > end:
                raise RuntimeError(f'{text!r} did not appear; the end of what did:\n'
                                   f'{self.seen[-2000:]}')
            self.read(REPEAT_S, key)

    def hold(self, seconds: float, key: str = '') -> None:
        """Let time pass, with a key held or with none."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.read(REPEAT_S, key)

    def read(self, seconds: float, key: str = '') -> None:
        """Press a key once, and read for a moment."""
        if key:
            os.write(self._terminal, key.encode())
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            if select.select([self._terminal], [], [], left)[0]:
                self.seen += os.read(self._terminal, 65536).decode(errors='replace')

    def close(self) -> int:
        """Press Ctrl-C and wait for the end; returns the exit status."""
        os.kill(self._pid, signal.SIGINT)
        with contextlib.suppress(OSError):  # the terminal ends with the program
            self.hold(ANSWER_S)
        status = os.waitpid(self._pid, 0)[1]
        os.close(self._terminal)
        return os.waitstatus_to_exitcode(status)


def main() -> int:
    """Record, verify, report; 0 when the episode is as it should be."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--out', type=Path, default=Path('runs/intervention'),
                        help='folder of the dataset (default: %(default)s)')
    parser.add_argument('--robot', choices=('sim', 'emulated'), default='sim')
    parser.add_argument('--seconds', type=float, default=3.0, help='that each turn lasts')
    options = parser.parse_args()
    dataset = options.out / 'episodes'
    session = Session([
        sys.executable, '-m', 'stable_crl_ros.cli', 'launch', 'policy', 'goal:=drawer_open',
        f'robot:={options.robot}', 'record:=true', 'teleop:=keyboard', 'task:=open_drawer',
        'operator:=keyboard', f'dataset_path:={dataset.absolute()}'])
    try:
        act(session, options.seconds)
    finally:
        session.close()
    return report(dataset)


def act(session: Session, seconds: float) -> None:
    """Let the policy act, take over, give back, end the episode."""
    session.watch('the POLICY steers', START_S)
    session.hold(seconds)
    print(f'policy acts; taking over for {seconds:g} s with a held key', flush=True)
    session.watch('YOU steer', ANSWER_S, key='r')
    session.hold(seconds, key='r')
    print('giving the arm back', flush=True)
    session.watch('the POLICY steers', ANSWER_S)
    session.hold(seconds)
    session.read(REPEAT_S, '2')
    session.watch('end success: done', ANSWER_S)


def report(path: Path) -> int:
    """Say what the episode is like; 0 when it is sound and tells of the intervention."""
    dataset = Dataset(path)
    episode = dataset[dataset.ids[-1]]
    modes = [Mode(mode) for mode in episode['mode']]
    turns = [mode for mode, _ in groupby(modes)]
    print(f'{episode.path}: {episode.steps} steps: ' + ', '.join(map(describe, turns)))
    interventions = episode['intervention']
    print(f'intervention steps: {int(interventions.sum())} of {episode.steps}')
    at_hand_over, elsewhere = motion(episode, modes)
    print(f'largest motion of the tool in one step: {at_hand_over:.1f} mm where the arm changes '
          f'hands, {elsewhere:.1f} mm elsewhere')
    found = verify_dataset(path)
    for finding in found:
        print(finding)
    errors = sum(finding.severity == ERROR for finding in found)
    print(f'verify: {errors} errors, {len(found) - errors} warnings')
    marked = bool((interventions == (episode['mode'] == Mode.TELEOP)).all())
    return 0 if turns == EXPECTED and marked and not errors else 1


def describe(mode: Mode) -> str:
    """Name who acted."""
    return 'teleop (interventions)' if mode is Mode.TELEOP else mode.name.lower()


def motion(episode: Episode, modes: list[Mode]) -> tuple[float, float]:
    """Return the largest motion of the tool over a step, mm: at changes of hands, elsewhere."""
    # One pose more than steps: what came after the last.
    moved = 1e3 * np.linalg.norm(np.diff(episode['ee_pose'][:, :3], axis=0), axis=1)
    changes = np.array([False, *(a is not b for a, b in zip(modes, modes[1:], strict=False))])
    return float(moved[changes].max(initial=0.0)), float(moved[~changes].max(initial=0.0))


if __name__ == '__main__':
    sys.exit(main())
