"""What a verification finds: where, how bad, and one line for the operator."""

from dataclasses import asdict, dataclass

import numpy as np

ERROR, WARNING = 'error', 'warning'


@dataclass(frozen=True)
class Finding:
    """
    Something wrong, or worth a look, in one episode.

    :param check: one word for machines, such as 'checksum' or 'frozen'.
    :param what: one line.
    :param severity: 'error': not what was recorded, or not to be trained on; 'warning': look.
    :param steps: first and last step it is about, inclusive; None: the episode as a whole.
    :param episode: name of the episode's directory, or of its journal.
    """

    check: str
    what: str
    severity: str = ERROR
    steps: tuple[int, int] | None = None
    episode: str = ''

    def __str__(self) -> str:
        first, last = self.steps or (None, None)
        where = '' if first is None else f', step {first}' if first == last else \
            f', steps {first}-{last}'
        return f'{self.episode}{where}: {self.severity}: {self.what}'

    def to_dict(self) -> dict:
        """Return plain values for JSON."""
        return {**asdict(self), 'steps': None if self.steps is None else list(self.steps)}


def runs(mask: np.ndarray, shortest: int = 1) -> list[tuple[int, int]]:
    """
    Return the stretches of True.

    :param mask: bool, shape (N,).
    :param shortest: leave out stretches of fewer elements.
    :returns: first and last index of each, inclusive.
    """
    edges = np.flatnonzero(np.diff(np.concatenate([[False], np.asarray(mask, bool), [False]])))
    return [(int(start), int(end) - 1) for start, end in zip(edges[::2], edges[1::2], strict=True)
            if end - start >= shortest]
