"""Make a checkpoint ready to act beside one that acts."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from stable_crl_ros import SHIPPED_CHECKPOINT
from stable_crl_ros.checking import CHECKER
from stable_crl_ros.checkpoint_file import CheckpointError
from stable_crl_ros.images import ImageSpec
from stable_crl_ros.policy import peek_policy, Policy
from stable_crl_ros.rehearsal import Rehearsal, rehearse

RATE_TOLERANCE = 1e-3  # Hz


@dataclass(frozen=True)
class Wish:
    """
    A checkpoint that shall act, and what it shall be tried on.

    :param path: as the parameter `checkpoint_path` names it.
    :param frames: the last ones that the running policy acted on, uint8 RGB.
    :param actions: what it did, one per frame, shape (7,).
    :param goal: uint8 RGB; None before the first.
    :param running: the policy that acts.
    """

    path: str
    frames: Sequence[np.ndarray] = ()
    actions: Sequence[np.ndarray] = ()
    goal: np.ndarray | None = None
    running: Policy | None = None


@dataclass(frozen=True)
class Loaded:
    """
    A policy that may act.

    :param path: as the parameter `checkpoint_path` names it.
    :param rehearsal: what it did before it was let near the arm.
    """

    path: str
    policy: Policy
    rehearsal: Rehearsal

    @property
    def sha256(self) -> str:
        """The checkpoint's identity."""
        return self.policy.metadata['sha256']


@dataclass(frozen=True)
class Computer:
    """
    Where policies compute, and how often.

    :param device: such as 'cpu' or 'cuda'.
    :param threads: of the CPU.
    :param rate: control steps per second, Hz.
    """

    device: str
    threads: int
    rate: float

    def peek(self, path: str) -> tuple[Path, dict]:
        """
        Look in milliseconds whether a checkpoint may be asked for.

        :param path: as the parameter `checkpoint_path` names it.
        :returns: the file, and its metadata.
        :raises CheckpointError: when it may not.
        """
        file = resolve_checkpoint(path)
        metadata = peek_policy(file)
        self._check_rate(file, metadata)
        return file, metadata

    def _check_rate(self, file: Path, metadata: dict) -> None:
        trained = metadata.get('control_rate')
        if trained is not None and abs(trained - self.rate) > RATE_TOLERANCE:
            raise CheckpointError(
                f'{file}: its actions are steps at {trained:g} Hz; at {self.rate:g} Hz the arm '
                f'would move {self.rate / trained:.2g} times as fast; start with '
                f'control_rate:={trained:.1f}')

    def load(self, path: str) -> Loaded:
        """
        Prepare a policy here and now, where nothing acts yet.

        :raises CheckpointError: when it must not act; `PolicyError` for the device.
        """
        file, _ = self.peek(path)
        policy = Policy.load(file, self.device, self.threads)
        self._check_rate(file, policy.metadata)  # of what was read, should the file have changed
        policy.warm_up()
        return Loaded(path, policy, rehearse(policy, name=file))

    def prepare(self, wish: Wish, pause: Callable[[], None] = lambda: None) -> Loaded:
        """
        Prepare a policy while another acts: in a thread, and what takes long in another process.

        :param pause: called before each piece of work in this process; returns when there is time
            for some 25 ms of it.
        :raises CheckpointError: when it must not act; `PolicyError` for the device.
        """
        pause()
        file, metadata = self.peek(wish.path)
        spec = ImageSpec.from_dict(metadata['image_spec'])
        goal = None if wish.goal is None else spec.resize(wish.goal)
        checked = CHECKER.check(file, [spec.resize(frame) for frame in wish.frames], goal)
        try:
            pause()
            policy = Policy.load(checked.file, self.device, self.threads, name=file,
                                 verified=True, like=wish.running)
        finally:
            checked.close()
        self._check_rate(file, policy.metadata)  # of what was read, should the file have changed
        pause()
        policy.warm_up()
        if wish.goal is not None:
            pause()
            policy.set_goal(wish.goal)
            policy.step(wish.goal)  # this device may compute otherwise than the check did
        return Loaded(wish.path, policy, checked.rehearsal)


def resolve_checkpoint(path: str) -> Path:
    """
    Return the file that the parameter `checkpoint_path` names; '' is the shipped one.

    :raises CheckpointError: for a folder of a user who does not exist.
    """
    try:
        return Path(path).expanduser() if path else SHIPPED_CHECKPOINT
    except RuntimeError as error:
        raise CheckpointError(f'{path}: there is no such user; write the folder out') from error
