"""The operator of a day of trials: single keys of a terminal, and what is asked of them."""

from collections import deque
from collections.abc import Callable

from stable_crl_ros.data.labels import checked_name
from stable_crl_ros.teleop.terminal import Terminal
from stable_crl_ros.trials.day import Acted, FAILURE, REDO, STOP, SUCCESS, UNKNOWN
from stable_crl_ros.trials.plan import Trial

WAIT_S = 0.05
CLEAR = '\x1b[K'  # what is left of a longer line
BEGIN = ('\n', '\r', ' ')
KEYS = {'s': SUCCESS, 'f': FAILURE, 'r': REDO, 'x': STOP, 'escape': STOP}
HELP = ('while the arm moves: s success, f failure, r does not count (redo), x or Esc stops the '
        'arm and the day')


class Operator:
    """
    Ask a person, who is told the goal and nothing about who acts.

    :param terminal: open, see `Terminal`.
    :param say: shows a line.
    :param name: written into the results.
    :param idle: called while waiting, several times a second; may raise.
    """

    def __init__(self, terminal: Terminal, say: Callable[[str], None] = print, name: str = '',
                 idle: Callable[[], None] = lambda: None) -> None:
        self._terminal, self._say, self._idle = terminal, say, idle
        self._typed: deque[str] = deque()  # and not yet looked at
        self.name = checked_name(name or None)

    def ready(self, trial: Trial, of: int, goal: str) -> str:
        """Have the scene set; what was typed before this is asked begins nothing."""
        self._terminal.read_keys()
        self._typed.clear()
        self._say(f'\ntrial {trial.number} of {of}: goal {goal}. Set the scene, step back; Enter '
                  f'homes the arm and begins, q ends the day here. {HELP}')
        return STOP if self._key((*BEGIN, 'q')) == 'q' else ''

    def watch(self) -> str:
        """Look for a key while the arm moves; unknown ones are ignored."""
        return next((KEYS[key] for key in self._terminal.read_keys() if key in KEYS), '')

    def verdict(self, acted: Acted) -> tuple[str, str]:
        """Have the end judged, and take notes."""
        word, notes = acted.word, ''
        if not word:
            self._say(f'time is up after {acted.seconds:.1f} s; the arm holds. '
                      's success, f failure, r redo')
            word = KEYS[self._key(('s', 'f', 'r'))]
        while True:
            self._say(f'{word}. Enter keeps it; s, f, r change it; n writes a note')
            key = self._key((*BEGIN, 's', 'f', 'r', 'n'))
            if key in BEGIN:
                return word, notes
            if key == 'n':
                notes = self._line('note: ')
            else:
                word = KEYS[key]

    def _key(self, valid: tuple[str, ...]) -> str:
        while (key := self._next()) not in valid:
            pass
        return key

    def _next(self) -> str:
        while not self._typed:
            self._idle()
            self._typed.extend(self._terminal.read_keys(WAIT_S))
        return self._typed.popleft()

    def _line(self, prompt: str) -> str:
        text = ''
        while True:
            print(f'\r{prompt}{text}{CLEAR}', end='', flush=True)
            key = self._next()
            if key in ('\n', '\r'):
                print(flush=True)
                return text.strip()
            if key in ('\x7f', '\b'):
                text = text[:-1]
            elif len(key) == 1 and key.isprintable():
                text += key


class Supervisor(Operator):
    """
    Watch a policy that acts by itself: set the scene now and then, leave out, stop; no verdict.

    :param reset_every: episodes after which the scene is set anew; the others are as Operator's.
    """

    def __init__(self, terminal: Terminal, reset_every: int, **kwargs) -> None:
        super().__init__(terminal, **kwargs)
        self._reset_every, self._since = reset_every, 0
        self.scenes_set = 0

    def ready(self, trial: Trial, of: int, goal: str) -> str:
        """Ask for the scene where its turn has come; else go on by itself."""
        if self._since % self._reset_every == 0:
            self.scenes_set += 1
            if (word := super().ready(trial, of, goal)):
                return word
        self._since += 1
        return ''

    def watch(self) -> str:
        """Leave out or stop; nobody judges."""
        word = super().watch()
        return word if word in (REDO, STOP) else ''

    def verdict(self, acted: Acted) -> tuple[str, str]:
        """Keep it as it is."""
        return UNKNOWN, ''
