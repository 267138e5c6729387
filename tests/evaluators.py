"""Evaluators for the tests of training: light, as another process has to import them."""

from dataclasses import dataclass, field
from pathlib import Path
import time


@dataclass(frozen=True)
class Scripted:
    """
    Give a checkpoint the score planned for its step, and write down that it was asked.

    :param asked: file that gets a line per call, when the checkpoint was there.
    :param success: by step; 0.5 where none is given.
    :param seconds: a call takes.
    """

    asked: Path
    success: dict[int, float] = field(default_factory=dict)
    seconds: float = 0.0

    def __call__(self, checkpoint):
        assert checkpoint.stat().st_size > 0
        with open(self.asked, 'a') as file:
            file.write(f'{checkpoint.stem}\n')
        time.sleep(self.seconds)
        step = int(checkpoint.stem.removeprefix('step_'))
        return {'success': self.success.get(step, 0.5), 'error': 1.0 / step, 'drawer/success': 1}


def broken(checkpoint):
    raise RuntimeError('no simulator here')


def silent(checkpoint):
    return {'reward': 1.0}


def dying(checkpoint):
    import os
    os.kill(os.getpid(), 9)


def strange(checkpoint):
    step = int(checkpoint.stem.removeprefix('step_'))
    return {'success': 0.5, 'step': 'nan', 'error': 'nan' if step == 2 else 1.0}
