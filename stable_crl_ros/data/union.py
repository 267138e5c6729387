"""Several datasets read as one: their episodes in order, each known by dataset and number."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from stable_crl_ros.data.dataset import Dataset, DatasetError
from stable_crl_ros.data.episode import Episode


@dataclass(frozen=True)
class DatasetUnion:
    """
    Datasets read as one, in the order given; nothing is copied.

    Episodes are known by (position of the dataset, number in it): numbers may repeat.

    :param datasets: one or more, no two of them the same.
    """

    datasets: tuple[Dataset, ...]

    def __len__(self) -> int:
        return len(self.index())

    def __getitem__(self, key: tuple[int, int]) -> Episode:
        """
        Open one episode.

        :param key: (position of the dataset, number of the episode).
        :raises DatasetError: when there is none.
        """
        position, number = key
        if not 0 <= position < len(self.datasets):
            raise DatasetError(f'no dataset {position}; there are {len(self.datasets)}: '
                               f'{[str(item.path) for item in self.datasets]}, counted from 0')
        return self.datasets[position][number]

    @property
    def episodes(self) -> Iterator[Episode]:
        """Open every episode, one after the other."""
        return (episode for dataset in self.datasets for episode in dataset.episodes)

    def index(self) -> list[dict]:
        """
        Return one summary per episode, as `Dataset.index` does, with 'dataset' and 'path'.

        :raises DatasetError: when an episode cannot be read.
        """
        return [{**entry, 'dataset': position, 'path': dataset.path / entry['name']}
                for position, dataset in enumerate(self.datasets) for entry in dataset.index()]


def open_datasets(datasets: str | Path | Dataset | Sequence[str | Path | Dataset],
                  ) -> DatasetUnion:
    """
    Open one or more datasets as one.

    :param datasets: directories, or datasets that are open already.
    :raises DatasetError: when none is given, one is none, or one is given twice, be it as a
        copy with the same episodes: its episodes would count double.
    """
    if isinstance(datasets, str | Path | Dataset):
        datasets = [datasets]
    opened = tuple(item if isinstance(item, Dataset) else Dataset(item) for item in datasets)
    if not opened:
        raise DatasetError('no dataset given; name at least one')
    _refuse_repeated(opened)
    return DatasetUnion(opened)


def _refuse_repeated(datasets: Sequence[Dataset]) -> None:
    if len(datasets) < 2:
        return
    first: dict[object, int] = {}
    for position, dataset in enumerate(datasets):
        for key in {dataset.path.resolve(), _content(dataset)} - {()}:
            other = datasets[first.setdefault(key, position)]
            if first[key] != position:
                raise DatasetError(f'{dataset.path} holds the same episodes as {other.path}; '
                                   f'name each dataset once')


def _content(dataset: Dataset) -> tuple:
    """Return what only copies of a dataset share; nothing where it is empty or damaged."""
    if dataset.broken:
        return ()
    return tuple((entry['checksum'], entry['created_ns']) for entry in dataset.index())
