"""The statistics LeRobot keeps of every column, of an episode and of all of them."""

import numpy as np

QUANTILES = {'q01': 0.01, 'q10': 0.1, 'q50': 0.5, 'q90': 0.9, 'q99': 0.99}
Stats = dict[str, list]


class ColumnStats:
    """Of a column of numbers; what was not recorded does not count."""

    def __init__(self) -> None:
        self._parts: list[np.ndarray] = []

    def add(self, values: np.ndarray) -> Stats:
        """
        Count an episode.

        :param values: (N,) or (N, D).
        :returns: its statistics, a list of D numbers each.
        """
        self._parts.append(values.reshape(len(values), -1).astype(np.float64))
        return _statistics(self._parts[-1])

    def total(self) -> Stats:
        """Return the statistics of all episodes."""
        return _statistics(np.concatenate(self._parts))


def _statistics(values: np.ndarray) -> Stats:
    columns = [column[~np.isnan(column)] for column in values.T]
    measures = {'min': np.min, 'max': np.max, 'mean': np.mean, 'std': np.std,
                **{name: lambda column, share=share: np.quantile(column, share)
                   for name, share in QUANTILES.items()}}
    return {**{name: [float(measure(column)) if len(column) else float('nan')
                      for column in columns] for name, measure in measures.items()},
            'count': [len(values)]}


class Histogram:
    """How often each colour has each value: exact statistics of any number of images."""

    def __init__(self) -> None:
        self.counts = np.zeros((3, 256), np.int64)
        self.images = 0

    def add(self, image: np.ndarray) -> None:
        """Count an image, uint8 RGB (H, W, 3)."""
        for colour in range(3):
            self.counts[colour] += np.bincount(image[..., colour].ravel(), minlength=256)
        self.images += 1

    def merge(self, other: 'Histogram') -> None:
        """Count what another counted."""
        self.counts += other.counts
        self.images += other.images

    def statistics(self) -> Stats:
        """Return the statistics in parts of 255, each as (3, 1, 1)."""
        values = np.arange(256) / 255.0
        total = self.counts.sum(axis=1)
        mean = self.counts @ values / total
        reached = np.cumsum(self.counts, axis=1) / total[:, None]
        found = {
            'min': [values[np.argmax(row > 0)] for row in self.counts],
            'max': [values[255 - np.argmax(row[::-1] > 0)] for row in self.counts],
            'mean': mean, 'std': np.sqrt(np.maximum(self.counts @ values**2 / total - mean**2, 0)),
            **{name: [values[np.argmax(row >= share)] for row in reached]
               for name, share in QUANTILES.items()}}
        return {**{name: [[[float(number)]] for number in numbers]
                   for name, numbers in found.items()}, 'count': [self.images]}


def flatten_stats(stats: dict[str, Stats]) -> dict[str, list]:
    """Return the columns of `meta/episodes` that hold an episode's statistics."""
    return {f'stats/{name}/{measure}': values for name, measures in stats.items()
            for measure, values in measures.items()}
