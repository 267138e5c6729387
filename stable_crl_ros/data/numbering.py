"""Numbers of deleted episodes stay theirs: a list that names one must never mean another."""

from pathlib import Path

from stable_crl_ros.data.description import DatasetError
from stable_crl_ros.durable import write_atomic

NEXT = '.next_episode'


def first_free(path: Path) -> int:
    """
    Return the lowest number that no deleted episode had or came before.

    :param path: of the dataset.
    :raises DatasetError: when the file that keeps it is damaged.
    """
    file = path / NEXT
    try:
        number = int(file.read_text())
        if number < 0:
            raise ValueError(f'{number} is no number of an episode')
        return number
    except FileNotFoundError:
        return 0
    except (OSError, ValueError) as error:
        raise DatasetError(f'{file} is damaged ({error}); write the lowest number into it that no '
                           'episode ever had, or restore it from a copy') from error


def retire(path: Path, episode_id: int) -> None:
    """
    Let no new episode have this number or a lower one.

    :raises DatasetError: as `first_free`.
    :raises OSError: when the disk refuses.
    """
    if episode_id >= first_free(path):
        write_atomic(path / NEXT, f'{episode_id + 1}\n'.encode())
