"""Split episodes at lost steps, as no other format has a place for them."""

from functools import cached_property

import numpy as np
from stable_crl_ros.data.codecs import Encoded
from stable_crl_ros.data.episode import Episode
from stable_crl_ros.data.schema import STATE_FIELDS

_SEEN = {field.name for field in STATE_FIELDS}  # arrays with a row more than there are actions


class Part:
    """
    What lies between two gaps of an episode, read as an episode of its own.

    Unless it is the last, the action of its last frame was recorded and what that led to was not
    seen; and nobody judged it, as the judgement is of how the episode ended.

    :param first: its first frame.
    :param last: its last frame.
    :param number: its place among the parts, from 1 on.
    :param count: of the parts.
    """

    def __init__(self, episode: Episode, first: int, last: int, number: int, count: int) -> None:
        self._episode, self._first, self._last = episode, first, last
        self._number, self._count = number, count

    @property
    def id(self) -> int:
        """Number of the episode in its dataset."""
        return self._episode.id

    @property
    def steps(self) -> int:
        """Number of transitions; there is one observation more."""
        return self._last - self._first

    @property
    def cameras(self) -> list[str]:
        """Names of the cameras, sorted."""
        return self._episode.cameras

    @cached_property
    def attrs(self) -> dict:
        """Attributes of the episode, as far as they are those of the part."""
        own = {**self._episode.attrs, 'steps': self.steps, 'gaps': [],
               'part': f'{self._number} of {self._count}', 'first_step': self._first}
        if self._number < self._count:
            action = self._episode['action'][self._last].tolist()
            own.update(success=None, unfinished_step={'action': action})
            own = {name: value for name, value in own.items() if not name.startswith('final_')}
        return own

    def __getitem__(self, name: str) -> np.ndarray:
        final = name in _SEEN or self._number < self._count
        return self._episode[name][self._first:self._last + final]

    def image(self, camera: str | None, row: int) -> np.ndarray:
        """Read one image, uint8 RGB (H, W, 3)."""
        return self._episode.image(camera, self._first + row)

    def encoded(self, camera: str | None, row: int) -> Encoded:
        """Read one image as it is stored."""
        return self._episode.encoded(camera, self._first + row)


def parts_of(episode: Episode) -> list[Episode | Part]:
    """Return the parts between gaps that have a transition, or the episode where it has none."""
    gaps = sorted({gap for gap in episode.attrs.get('gaps') or () if 0 < gap <= episode.steps})
    if not gaps:
        return [episode]
    ends = zip([0, *gaps], [*(gap - 1 for gap in gaps), episode.steps], strict=True)
    return [Part(episode, first, last, number, len(gaps) + 1)
            for number, (first, last) in enumerate(ends, 1) if last > first]
