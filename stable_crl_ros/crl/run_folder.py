"""The folder of a training run: one run at a time, whole files only, what resuming needs."""

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
import json
import os
from pathlib import Path
import re
import shutil
from typing import TextIO

from stable_crl_ros.checkpoint import CheckpointError, peek_checkpoint, save_checkpoint
from stable_crl_ros.crl.presets import complete_settings
from stable_crl_ros.durable import replace_atomically, write_atomic
from stable_crl_ros.locking import lock_file
import torch

STATE_FILE = 'trainer_state.pt'
LATEST = 'latest.safetensors'
BEST = 'best.safetensors'
METRICS = 'metrics.csv'
EVALUATIONS = 'evaluations.csv'
BEGUN = 'begun.json'  # what a run is described by, until its first state says it
CHECKPOINT = re.compile(r'step_(0[0-9]{5}|[1-9][0-9]{5,})\.safetensors')
# Of what a run is described by, what older versions did not note; nothing is known of it then.
NOTED_SINCE = ('held_out',)
LONGEST_VALUE = 200  # characters in a message


class TrainError(RuntimeError):
    """A training run that cannot start, or must not go on."""


@contextmanager
def open_run(path: Path, described: Mapping, resume: bool,
             writes: bool = True) -> Iterator['RunFolder']:
    """
    Make or find the folder of a run and keep others out of it.

    :param described: what the run trains, and on what.
    :param writes: False for the ranks of a run that leave the folder to the first.
    :raises TrainError: when another process trains in it, when it cannot be made, holds a run
        that is not to be resumed, or none that could be.
    """
    folder = RunFolder(path)
    if not writes:
        yield folder
        return
    if resume and not path.is_dir():  # and none shall be made
        folder.check_resumable()
    with _lock(path):
        if resume:
            folder.check_resumable()
        else:
            folder.begin(described)
        for leftover in path.glob('.*.tmp'):  # of a run that was killed while it saved
            leftover.unlink()
        yield folder


def _lock(path: Path) -> TextIO:
    try:
        path.mkdir(parents=True, exist_ok=True)
        return lock_file(path / '.lock')
    except BlockingIOError as error:
        raise TrainError(f'{path}: another process trains in this folder; '
                         'wait for it or name another folder') from error
    except OSError as error:
        raise TrainError(f'{path}: cannot be written ({error.strerror})') from error


def find_checkpoints(path: Path) -> dict[int, Path]:
    """Return the checkpoints of a run by step, smallest first; files of other names are none."""
    found = ((CHECKPOINT.fullmatch(file.name), file) for file in path.glob('step_*'))
    return dict(sorted((int(match[1]), file) for match, file in found if match))


class RunFolder:
    """
    Checkpoints, the latest and the best of them, and the state to resume from.

    A kill at any moment leaves whole files only: every one is written aside and renamed.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._saved: int | None = None  # step of the state

    def check_resumable(self) -> None:
        """
        Check that there is a run to resume.

        :raises TrainError: when there is none.
        """
        state = self.path / STATE_FILE
        if not state.exists():
            raise TrainError(f'{state}: no such file, so there is nothing to resume; '
                             'train without resume, or name the folder of an earlier run')

    def begin(self, described: Mapping) -> None:
        """
        Note what is trained here; clear what the same run left that was killed before it saved.

        :raises TrainError: when there is a run, or what another one left.
        """
        if (self.path / STATE_FILE).exists():
            raise TrainError(f'{self.path}: holds a training run; resume it or name another '
                             'folder')
        leftovers = self._leftovers()
        if leftovers and self._begun() != json.loads(json.dumps(described)):
            raise TrainError(f'{self.path}: holds {leftovers[0].name} of another run but no '
                             f'{STATE_FILE}, so there is nothing to resume; {self._elsewhere()}')
        for leftover in leftovers:
            leftover.unlink()
        with self.writing(self.path / BEGUN):
            write_atomic(self.path / BEGUN, json.dumps(described).encode())

    def _leftovers(self) -> list[Path]:
        named = [self.path / name for name in (LATEST, BEST, METRICS, EVALUATIONS)]
        return [*find_checkpoints(self.path).values(),
                *(path for path in named if path.exists() and path.stat().st_size)]

    def _begun(self) -> dict | None:
        try:
            return json.loads((self.path / BEGUN).read_bytes())
        except (OSError, ValueError):
            return None

    def _elsewhere(self) -> str:
        latest = self.path / LATEST
        return 'train into another folder' + (
            f', with --init-from {latest} to begin with its weights' if latest.exists() else '')

    @contextmanager
    def writing(self, path: Path) -> Iterator[None]:
        """
        Say what is saved where a file cannot be written.

        :raises TrainError: naming the file.
        """
        try:
            yield
        except CheckpointError as error:
            raise TrainError(f'{error}; {self._after_writing()}') from error
        except (OSError, RuntimeError) as error:
            reason = _find_reason(error)
            if reason is None:
                raise
            raise TrainError(f'{path}: cannot be written ({reason}); {self._after_writing()}') \
                from error

    def _after_writing(self) -> str:
        return 'free space and train again' if self._saved is None else (
            f'free space and resume: step {self._saved} is saved')

    def checkpoint(self, step: int) -> Path:
        """Return where the checkpoint of a step is kept."""
        return self.path / f'step_{step:06d}.safetensors'

    @property
    def steps(self) -> list[int]:
        """Steps of the checkpoints there are, smallest first."""
        return list(find_checkpoints(self.path))

    def save(self, step: int, tensors: Mapping[str, torch.Tensor], metadata: Mapping,
             agent: Mapping, run: Mapping) -> None:
        """
        Write a checkpoint and the state for resuming, each whole or not at all.

        :param agent: `Agent.state_dict()`.
        :param run: plain values.
        :raises TrainError: when they cannot be written; the former state is there.
        """
        path = self.path / STATE_FILE
        # JSON for what is not a tensor: the file then loads without unpickling objects.
        state = {'agent': agent, 'run': json.dumps(run)}

        def write(temporary: Path) -> None:
            with open(temporary, 'wb') as file:  # torch's own do not say why they fail
                torch.save(state, file)
        with self.writing(self.checkpoint(step)):
            save_checkpoint(self.checkpoint(step), tensors, metadata)
        self._point(LATEST, step)
        with self.writing(path):
            replace_atomically(path, write)
        self._saved = step
        (self.path / BEGUN).unlink(missing_ok=True)

    def mark_best(self, step: int) -> None:
        """Make `best.safetensors` the checkpoint of a step."""
        self._point(BEST, step)

    def best(self) -> dict | None:
        """Return the metadata of the best checkpoint; None while there is none to read."""
        try:
            return peek_checkpoint(self.path / BEST)
        except CheckpointError:
            return None

    def interrupted(self, step: int) -> bool | None:
        """
        Say whether a checkpoint was saved only because its run was stopped there.

        Its schedule said so then; a resumed run may have another one.

        :returns: None where there is none to read, or an older version that did not note it.
        """
        try:
            return peek_checkpoint(self.checkpoint(step)).get('interrupted')
        except CheckpointError:
            return None

    def prune(self, keep_last: int, needed: Collection[int] = (),
              unscheduled: Collection[int] = ()) -> None:
        """
        Delete old checkpoints: not the last few, not the best, not those that are needed.

        :param keep_last: at least the last one stays.
        :param needed: steps.
        :param unscheduled: steps at which a run was stopped; they push no other one out.
        """
        best, steps = self.best(), self.steps
        counted = [step for step in steps if step not in unscheduled]
        kept = {*steps[-1:], *counted[-max(keep_last, 1):], *needed,
                *([best['step']] if best else [])}
        for step in steps:
            if step not in kept:
                self.checkpoint(step).unlink()

    def _point(self, name: str, step: int) -> None:
        source, path = self.checkpoint(step), self.path / name
        with self.writing(path):
            replace_atomically(path, lambda temporary: _link(source, temporary))

    def load(self, described: Mapping) -> tuple[dict, dict]:
        """
        Read what `save` was last given.

        :param described: what the resumed run trains, and on what.
        :returns: `agent` and `run` as they were saved.
        :raises TrainError: when the state is unreadable or belongs to another configuration.
        """
        path = self.path / STATE_FILE
        try:
            state = torch.load(path, map_location='cpu', weights_only=True)
            run = json.loads(state['run'])
            before, saved = run['described'], state['agent']['step']
        except OSError as error:
            raise TrainError(f'{path}: cannot be read ({error.strerror})') from error
        except Exception as error:  # torch's own words advise to load it unsafely
            raise TrainError(f'{path}: is cut off or altered, so this run cannot be resumed; '
                             f'{self._elsewhere()}') from error
        if 'config' in before:
            before['config'] = complete_settings(before['algorithm'], before['config'])
        differing = differences(before, {
            name: value for name, value in described.items()
            if name in before or name not in NOTED_SINCE})
        if differing:
            raise TrainError(f'{path}: this run was started with other settings or data '
                             f'({"; ".join(differing)}); repeat those, or use another folder')
        self._saved = saved
        return state['agent'], run


def differences(before: Mapping, now: Mapping) -> list[str]:
    """Name what differs between two nested mappings, with both values."""
    found = []
    for name in sorted(set(before) | set(now)):
        old, new = before.get(name), now.get(name)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            found += differences(old, new)
        elif old != new:
            found.append(f'{name}: {_shorten(old)} then, {_shorten(new)} now')
    return found


def _shorten(value) -> str:
    text = str(value)
    return text if len(text) <= LONGEST_VALUE else f'{text[:LONGEST_VALUE]}...'


def _find_reason(error: BaseException | None) -> str | None:
    """Return the system's words; torch raises another error over its own."""
    while error is not None and not isinstance(error, OSError):
        error = error.__cause__ or error.__context__
    return None if error is None else error.strerror or str(error)


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # a file system without hard links
        shutil.copyfile(source, target)
