"""Tell a person how training goes: a bar on a terminal, a line now and then elsewhere."""

from collections.abc import Callable, Mapping
import sys
import time
from typing import TextIO

from tqdm import tqdm

LINE_INTERVAL_S = 30.0


class Progress:
    """
    Show step, rate, time left and losses, for as long as there is somebody to show them to.

    :param total: steps in all.
    :param done: steps taken before now, by an earlier part of a resumed run.
    :param name: what is trained.
    :param shown: False keeps silent; warnings come through all the same.
    :param stream: standard error when None.
    """

    def __init__(self, total: int, done: int, name: str, shown: bool = True,
                 stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._total, self._first, self._done, self._name = total, done, done, name
        self._shown = shown
        self._began = time.monotonic()
        self._next_line = self._began
        self._lost = False
        self._bar: tqdm | None = None
        self._attempt(self._open_bar)

    def _open_bar(self) -> None:
        if self._shown and self._stream.isatty():
            self._bar = tqdm(total=self._total, initial=self._first, unit='step', desc=self._name,
                             smoothing=0.05, file=self._stream)

    def _attempt(self, show: Callable, *arguments, **options) -> None:
        """Show something; fall silent for good where that fails: training goes on."""
        if self._lost:
            return
        try:
            show(*arguments, **options)
        except (OSError, ValueError):  # a broken pipe, a terminal that is gone, a closed stream
            self._lost = True
            if self._bar is not None:
                self._bar.disable = True  # it would draw when it is deleted

    def advance(self) -> None:
        """Count one step."""
        self._done += 1
        if self._bar is not None:
            self._attempt(self._bar.update)

    def show(self, metrics: Mapping[str, float]) -> None:
        """Show the losses among the metrics."""
        chosen = {name: f'{value:.3g}' for name, value in metrics.items()
                  if name in ('actor/loss', 'critic/loss', 'validation/squared_error')}
        if self._bar is not None:
            self._attempt(self._bar.set_postfix, chosen)
        elif self._shown and (self._done >= self._total or time.monotonic() >= self._next_line):
            self._next_line = time.monotonic() + LINE_INTERVAL_S
            losses = ''.join(f', {name} {value}' for name, value in chosen.items())
            self.say(f'{self._name}: step {self._done} of {self._total}, '
                     f'{self._describe_rate()}{losses}')

    def _describe_rate(self) -> str:
        seconds = max(time.monotonic() - self._began, 1e-9)
        rate = max(self._done - self._first, 1) / seconds
        left = tqdm.format_interval((self._total - self._done) / rate)
        return f'{rate:.3g} steps/s, {left} left'

    def say(self, text: str, warning: bool = False) -> None:
        """Print a line; above the bar where there is one."""
        if self._shown or warning:
            self._attempt(tqdm.write, f'{"warning: " if warning else ""}{text}',
                          file=self._stream)

    def close(self) -> None:
        """Leave the bar where it is."""
        if self._bar is not None:
            self._attempt(self._bar.close)
