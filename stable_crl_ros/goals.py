"""Goal images on disk: NAME.png with its NAME.json; saved once, found by name, checked."""

from dataclasses import dataclass, field
import errno
import hashlib
import json
from pathlib import Path
import re

import cv2
import numpy as np
from stable_crl_ros import SHIPPED_GOALS
from stable_crl_ros.durable import sync_directory, write_atomic
from stable_crl_ros.goal_metadata import (
    contradiction,
    describe_image,
    MetadataError,
    read_metadata,
)
from stable_crl_ros.goal_picture import shrunk, size_of, why_empty
from stable_crl_ros.images import decode_image, encode_image, ImageError

DEFAULT_DIRECTORY = '~/stable_crl/goals'
PICTURE_SUFFIXES = ('.png', '.jpg', '.jpeg')
MOST_BYTES = 2 ** 28  # of a picture's file

_NAME = re.compile(r'[A-Za-z0-9][A-Za-z0-9_.-]{0,63}')


class GoalError(ValueError):
    """A goal that is not there, not readable, or must not be written."""


@dataclass(frozen=True)
class Goal:
    """
    One goal image.

    :param name: file name without its ending.
    :param image: uint8 RGB, shape (H, W, 3), shrunk where it is larger than `LONGEST_SIDE`.
    :param path: the picture.
    :param sha256: of the picture's bytes.
    :param metadata: what NAME.json says; empty for a picture that came without one.
    """

    name: str
    image: np.ndarray = field(repr=False)
    path: Path
    sha256: str
    metadata: dict


class GoalStore:
    """
    The operator's goal directory, with the goals that ship with the package behind it.

    :param directory: where goals are saved and looked up first; made when the first is saved.
    :param shipped: where they are looked up last.
    :raises GoalError: for a directory of a user who does not exist.
    """

    def __init__(self, directory: str | Path = DEFAULT_DIRECTORY,
                 shipped: str | Path = SHIPPED_GOALS) -> None:
        self.directory = _expand(directory)
        self.shipped = Path(shipped)

    def names(self) -> list[str]:
        """Return every goal that can be loaded by name, sorted."""
        return sorted({path.stem for folder in (self.directory, self.shipped)
                       for path in _pictures(folder)})

    def is_shipped(self, goal: Goal) -> bool:
        """Say whether a goal is one of those that ship with the package."""
        return goal.path.absolute().parent == self.shipped.absolute()

    def problem(self) -> str:
        """Say why goals cannot be looked up in the directory, '' when they can or it is absent."""
        try:
            for _ in self.directory.iterdir():
                break
        except FileNotFoundError:
            return ''
        except OSError as error:
            return f'{self.directory} cannot be listed ({error.strerror})'
        return ''

    def find(self, goal: str | Path) -> Path:
        """
        Look a goal up: as a path, then in the directory, then among the shipped goals.

        :param goal: 'drawer_open', 'drawer_open.png' or a path to any picture.
        :raises GoalError: when it is nowhere; lists what exists.
        """
        path = _expand(goal)
        try:
            if path.is_file():
                return path
        except OSError as error:
            raise GoalError(f'goal {path}: cannot be read ({error.strerror})') from error
        if str(goal) and path.name == str(goal):
            return self.find_saved(path.name)
        raise GoalError(f'goal {str(goal)!r} not found; {self._inventory()}')

    def find_saved(self, name: str) -> Path:
        """
        Look a goal up by its name, in the directory, then among the shipped goals.

        :param name: with or without the picture's ending.
        :raises GoalError: when it is in neither; lists what exists.
        """
        for folder in (self.directory, self.shipped):
            for candidate in _pictures(folder):
                if name in (candidate.name, candidate.stem):
                    return candidate
        raise GoalError(f'goal {name!r} not found; {self._inventory()}')

    def load(self, goal: str | Path) -> Goal:
        """
        Find and read a goal; a large picture is shrunk, its proportions kept.

        :raises GoalError: when it is not found, is no 8 bit RGB picture, shows nothing, or differs
            from what its NAME.json says.
        """
        path = self.find(goal)
        try:
            if path.stat().st_size > MOST_BYTES:
                raise GoalError(f'{path}: larger than {MOST_BYTES >> 20} MiB; no goal picture is')
            data = path.read_bytes()
            image = decode_image(data, str(path), upright=True)
            metadata = read_metadata(path.with_suffix('.json'))
        except OSError as error:
            raise GoalError(f'{path}: cannot be read ({error.strerror})') from error
        except (ImageError, MetadataError) as error:
            raise GoalError(str(error)) from error
        if nothing := why_empty(image):
            raise GoalError(f'{path}: the picture {nothing}; it shows nothing to bring about')
        sha256 = hashlib.sha256(data).hexdigest()
        if wrong := contradiction(metadata, sha256, image.shape):
            raise GoalError(f'{path} is not the picture its {path.stem}.json describes ({wrong}); '
                            f'delete {path.with_suffix(".json")} if the picture was replaced on '
                            'purpose')
        smaller = shrunk(image)
        if smaller is not image:
            metadata = {**metadata, 'shrunk_from': size_of(image)}
        return Goal(path.stem, smaller, path, sha256, metadata)

    def save(self, name: str, image: np.ndarray, metadata: dict) -> Goal:
        """
        Store a goal; never overwrites one. The picture appears whole and with its NAME.json, or
        not at all.

        :param name: letters, digits, '_', '.', '-'; '' for the next free goal_NNNN.
        :param image: uint8 RGB, shape (H, W, 3).
        :param metadata: plain values (camera, stamp_ns, ee_pose); size, light and sha256 are
            added.
        :raises GoalError: for a picture of nothing, a name that is taken or no name, or a folder
            that is not writable.
        """
        name = check_goal_name(name) if name else self._free_name()
        picture = encode_image(image, '.png')
        if nothing := why_empty(image):
            raise GoalError(f'goal {name!r} would show nothing: the picture {nothing}; is the '
                            'lens covered, or the exposure wrong?')
        metadata = {**metadata, **describe_image(image),
                    'sha256': hashlib.sha256(picture).hexdigest()}
        path = self.directory / f'{name}.png'
        try:
            if self.directory.is_file():
                raise NotADirectoryError(errno.ENOTDIR, 'it is a file')
            self.directory.mkdir(parents=True, exist_ok=True)
            if any(found.stem == name for found in _pictures(self.directory)):
                raise FileExistsError
            _write_both(path, picture, json.dumps(metadata, indent=1).encode())
        except FileExistsError as error:
            raise GoalError(f'goal {name!r} exists in {self.directory}; choose another name or '
                            'delete it first') from error
        except OSError as error:
            raise GoalError(f'{self.directory}: cannot save goal {name!r} ({error.strerror}); '
                            'choose another goal_directory') from error
        return Goal(name, image, path, metadata['sha256'], metadata)

    def import_picture(self, picture: str | Path, name: str = '', camera: str = '',
                       size: tuple[int, int] | None = None) -> Goal:
        """
        Save a picture from anywhere as a goal; what its own NAME.json says is kept.

        :param name: '' for that of the file, with '_' for spaces.
        :param camera: name of the camera that took it, '' when that is not known.
        :param size: columns, rows to stretch it to, for a picture that was squashed.
        :raises GoalError: as `load` and `save` do.
        """
        path = _expand(picture)
        try:
            is_file = path.is_file()
        except OSError as error:
            raise GoalError(f'{path}: cannot be read ({error.strerror})') from error
        if not is_file:
            raise GoalError(f'{path}: no such picture')
        try:
            name = check_goal_name(name or path.stem.replace(' ', '_'))
        except GoalError as error:
            raise GoalError(str(error) + ('' if name else '; choose one with --name')) from error
        found = self.load(path)
        image, metadata = found.image, {
            **found.metadata, 'source': str(path.absolute()), 'source_sha256': found.sha256}
        if camera:
            metadata['camera'] = camera
        if size:
            metadata['stretched_from'] = size_of(image)
            image = cv2.resize(image, size, interpolation=cv2.INTER_LINEAR)
        return self.save(name, image, metadata)

    def deletable(self, name: str) -> Path:
        """
        Return where a goal that may be deleted is.

        :raises GoalError: when no goal of that name is saved, or it ships with the package.
        """
        name = check_goal_name(name)
        saved = {path.stem: path for path in _pictures(self.directory)}
        if name in saved and self.directory.resolve() != self.shipped.resolve():
            return saved[name]
        shipped = name in (path.stem for path in _pictures(self.shipped))
        raise GoalError(f'goal {name!r} ships with the package and stays' if shipped else
                        f'no goal {name!r} in {self.directory}; saved there: '
                        f'{", ".join(sorted(saved)) or "none"}')

    def delete(self, name: str) -> Path:
        """
        Delete a saved goal, picture and metadata.

        :returns: where it was.
        :raises GoalError: as `deletable` does, or when the folder is not writable.
        """
        path = self.deletable(name)
        try:
            path.unlink()
            path.with_suffix('.json').unlink(missing_ok=True)
            sync_directory(self.directory)
        except OSError as error:
            raise GoalError(f'{path}: cannot be deleted ({error.strerror})') from error
        return path

    def _free_name(self) -> str:
        taken = [int(name[5:]) for name in self.names() if re.fullmatch(r'goal_\d{4,9}', name)]
        return f'goal_{max(taken, default=0) + 1:04d}'

    def _inventory(self) -> str:
        names = ', '.join(self.names()) or 'none'
        wrong = f'; {problem}' if (problem := self.problem()) else ''
        return f'goals in {self.directory} and {self.shipped}: {names}{wrong}'


def _write_both(path: Path, picture: bytes, metadata: bytes) -> None:
    """Write NAME.json first: without a picture it is no goal, and the next save replaces it."""
    description = path.with_suffix('.json')
    write_atomic(description, metadata)
    try:
        write_atomic(path, picture, new=True)
    except OSError:
        if not path.exists():
            description.unlink(missing_ok=True)
        raise


def check_goal_name(name: str) -> str:
    """
    Return the name without a '.png'.

    :raises GoalError: when it could not be a file name everywhere.
    """
    bare = name[:-4] if name.lower().endswith('.png') else name
    if not _NAME.fullmatch(bare):
        raise GoalError(f'goal name {name!r} is not valid; use up to 64 letters, digits, "_", '
                        '"." and "-", and no folder')
    return bare


def _expand(path: str | Path) -> Path:
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise GoalError(f'{path}: there is no such user; write the folder out') from error


def _pictures(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir()
                      if path.suffix.lower() in PICTURE_SUFFIXES and path.is_file()
                      and not path.name.startswith('.'))
    except OSError:
        return []
