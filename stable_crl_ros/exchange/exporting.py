"""Write a dataset in the layout of another library: all of it under its name, or nothing."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
import fcntl
from importlib import import_module
import os
from pathlib import Path
import shutil

from stable_crl_ros.data.dataset import Dataset
from stable_crl_ros.durable import sync_directory, sync_tree
from stable_crl_ros.exchange.recording import ExchangeError
from stable_crl_ros.exchange.selection import ExportOptions, select, Selection

FORMATS = {'lerobot': 'lerobot', 'diffusion_policy': 'diffusion_policy', 'rlds': 'rlds_writer'}
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Exported:
    """
    What was written.

    :param episodes: numbers of the episodes, in the order they were written; that of one with
        gaps stands for each of its parts.
    :param frames: of all of them; every one is a row.
    :param left_out: episode number -> why it was left out.
    :param notes: what a user of the result should know.
    """

    format: str
    path: str
    episodes: list[int]
    frames: int
    bytes: int
    left_out: dict[int, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def to_dict(self) -> dict:
        """Return plain values."""
        return asdict(self)


def export_dataset(dataset_path: str | Path, out: str | Path, format_name: str,
                   options: ExportOptions | None = None, progress: Progress | None = None,
                   ) -> Exported:
    """
    Export a dataset.

    :param out: the folder to make; refused when it holds something.
    :param format_name: one of `FORMATS`.
    :param progress: called with the episodes done and their total.
    :raises ExchangeError: when the episodes do not fit together or the disk refuses.
    """
    if format_name not in FORMATS:
        raise ExchangeError(f'unknown format {format_name!r}; choose one of {", ".join(FORMATS)}')
    selection = select(Dataset(dataset_path), options or ExportOptions())
    module = import_module(f'stable_crl_ros.exchange.{FORMATS[format_name]}')
    out = Path(out).absolute()
    with staged(out) as folder:
        notes = module.write(folder, selection, out.name, progress or (lambda *_: None))
    size = sum(path.stat().st_size for path in out.rglob('*') if path.is_file())
    return Exported(format_name, str(out), [episode.id for episode in selection.episodes],
                    _count_frames(selection, format_name), size, selection.left_out,
                    [*selection.notes, *notes])


def _count_frames(selection: Selection, format_name: str) -> int:
    every_last = format_name == 'rlds'
    return sum(selection.rows(episode, every_last) for episode in selection.episodes)


@contextmanager
def staged(out: Path) -> Iterator[Path]:
    """
    Give a folder beside `out` that takes its name when the block ends well, else is removed.

    What a killed export left is removed by the next one to the same place.

    :raises ExchangeError: when there is something, another export goes there, or the disk
        refuses.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ExchangeError(f'{out} exists; name a folder that is not there yet')
    folder = out.with_name(f'.exporting-{out.name}')
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir(exist_ok=True)
        lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _empty(folder)
            yield folder
            sync_tree(folder)
            os.rename(folder, out)
            sync_directory(out.parent)
        except BlockingIOError:
            raise
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        finally:
            os.close(lock)
    except BlockingIOError as error:
        raise ExchangeError(f'{out} is being exported by another process') from error
    except OSError as error:
        raise ExchangeError(f'{out}: cannot be written ({error.strerror or error}); free space '
                            f'or name another folder') from error


def _empty(folder: Path) -> None:
    for path in folder.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
