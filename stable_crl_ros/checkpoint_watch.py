"""Watch the folder of a training run for its newest complete checkpoint."""

from dataclasses import dataclass
from pathlib import Path

from stable_crl_ros.checkpoint_file import CheckpointError
from stable_crl_ros.policy import peek_policy


@dataclass(frozen=True)
class Offer:
    """
    A checkpoint that could act.

    :param step: gradient steps it was trained for.
    """

    path: Path
    sha256: str
    step: int


class FolderWatch:
    """
    Find the newest checkpoint that is whole and has not changed since the last look.

    Checkpoints of this package appear under their name when they are whole; what is copied here
    by other means grows under it, and is left alone until it rests and its header fits its size.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._before: dict[Path, tuple[int, int]] = {}
        self._offers: dict[Path, tuple[tuple[int, int], Offer | None]] = {}

    def look(self) -> Offer | None:
        """
        Look once.

        :returns: the newest by its time on disk; None when there is none.
        :raises OSError: when the folder cannot be read.
        """
        there: dict[Path, tuple[int, int]] = {}
        for path in self.folder.iterdir():
            if path.suffix == '.safetensors' and not path.name.startswith('.'):
                try:
                    status = path.stat()
                except OSError:  # gone meanwhile, or a link that leads nowhere
                    continue
                there[path] = status.st_mtime_ns, status.st_size
        before, self._before = self._before, there
        resting = sorted((path for path in there if before.get(path) == there[path]),
                         key=there.get, reverse=True)
        self._offers = {path: kept for path, kept in self._offers.items() if path in there}
        return next(filter(None, (self._offer(path, there[path]) for path in resting)), None)

    def _offer(self, path: Path, version: tuple[int, int]) -> Offer | None:
        known = self._offers.get(path)
        if known is None or known[0] != version:
            try:
                metadata = peek_policy(path)
                offer = Offer(path, metadata['sha256'], metadata['step'])
            except CheckpointError:
                offer = None
            self._offers[path] = known = version, offer
        return known[1]
