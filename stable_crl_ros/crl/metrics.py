"""Metrics that stay on the device until they are read, and the check that they are finite."""

from collections import deque
from collections.abc import Iterator, Mapping
import math
from typing import NamedTuple

import torch
from torch import Tensor

LAG = 8  # updates that a device may be ahead of the check


class Metrics(Mapping):
    """
    Metrics of one update by name, fetched from the device all at once when first read.

    :param tensors: scalars.
    """

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        self._names = tuple(tensors)
        self.tensor = torch.stack([value.detach().float() for value in tensors.values()])
        self._read: dict[str, float] | None = None

    def read(self) -> dict[str, float]:
        """Return plain numbers; waits for the device the first time."""
        if self._read is None:
            self._read = dict(zip(self._names, self.tensor.tolist(), strict=True))
        return self._read

    def __getitem__(self, name: str) -> float:
        """Return one number."""
        return self.read()[name]

    def __iter__(self) -> Iterator[str]:
        """Give the names, without waiting."""
        return iter(self._names)

    def __len__(self) -> int:
        """Count the names."""
        return len(self._names)

    def __or__(self, other: Mapping[str, float]) -> dict[str, float]:
        """Add other metrics."""
        return {**self, **other}

    def __ror__(self, other: Mapping[str, float]) -> dict[str, float]:
        """Add these to other metrics."""
        return {**other, **self}

    def __repr__(self) -> str:
        """Show the numbers."""
        return repr(self.read())


class Failure(NamedTuple):
    """The first update whose metrics were not finite."""

    step: int
    names: list[str]
    batch: Mapping


class FiniteWatch:
    """
    Look at the metrics of every update, on a GPU some updates late so that it never waits.

    :param lag: updates to be behind; 0 looks at once.
    """

    def __init__(self, lag: int) -> None:
        self._lag = lag
        self._waiting: deque[
            tuple[int, Metrics, Tensor, torch.cuda.Event | None, Mapping]] = deque()

    @classmethod
    def on(cls, device: torch.device) -> 'FiniteWatch':
        """Make the watch that suits a device."""
        return cls(LAG if device.type == 'cuda' else 0)

    def observe(self, step: int, metrics: Metrics, batch: Mapping) -> Failure | None:
        """
        Take the metrics of an update, and its batch in case they turn out not to be finite.

        :returns: the earliest failure among those looked at now.
        """
        flag, arrived = torch.isfinite(metrics.tensor).all(), None
        if flag.is_cuda:  # only a copy into pinned memory lets the host go on
            flag = torch.empty((), dtype=torch.bool, pin_memory=True).copy_(
                flag, non_blocking=True)
            arrived = torch.cuda.Event()
            arrived.record(torch.cuda.current_stream(metrics.tensor.device))
        self._waiting.append((step, metrics, flag, arrived, batch))
        return self._look(self._lag)

    def flush(self) -> Failure | None:
        """Look at all that is left."""
        return self._look(0)

    def _look(self, leave: int) -> Failure | None:
        while len(self._waiting) > leave:
            step, metrics, flag, arrived, batch = self._waiting.popleft()
            if arrived is not None:
                arrived.synchronize()
            if not flag:
                self._waiting.clear()
                return Failure(step, [name for name, value in metrics.items()
                                      if not math.isfinite(value)], batch)
        return None
