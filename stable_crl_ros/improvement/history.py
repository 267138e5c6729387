"""What a loop was asked to do and what it has done: two files, each replaced as a whole."""

from dataclasses import asdict, dataclass, field
import json
from pathlib import Path

from stable_crl_ros.durable import write_atomic
from stable_crl_ros.improvement.rule import ImproveError, Rule

SETTINGS, HISTORY = 'improve.json', 'history.json'


@dataclass(frozen=True)
class Settings:
    """
    What a loop does; only `rounds` may grow later.

    :param checkpoint: that it begins with; `sha256` is its identity.
    :param datasets: that every fine-tuning sees beside the loop's own episodes.
    :param goals: that undo each other, taken in turn: tasks in simulation, else pictures.
    :param episodes: autonomous ones per round.
    :param reset_every: episodes after which the scene is set anew.
    :param steps: gradient steps of each fine-tuning.
    :param trials: of each of the two checkpoints on each goal, per round.
    :param robot: 'sim', or who moves.
    :raises ImproveError: for numbers that make no sense.
    """

    checkpoint: str
    sha256: str
    datasets: tuple[str, ...]
    goals: tuple[str, ...]
    rounds: int = 3
    episodes: int = 40
    reset_every: int = 10
    steps: int = 500
    trials: int = 50
    seed: int = 0
    robot: str = 'sim'
    rule: Rule = field(default_factory=Rule)
    overrides: dict = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse what cannot work."""
        small = [name for name in ('rounds', 'episodes', 'reset_every', 'steps', 'trials')
                 if getattr(self, name) < 1]
        if small or self.seed < 0:
            raise ImproveError(f'{", ".join(small) or "seed"}: give {0 if not small else 1} or '
                               'more')
        if len(self.goals) < 2 or len(set(self.goals)) < len(self.goals):
            raise ImproveError(f'goals {", ".join(self.goals) or "(none)"}: name at least two '
                               'that undo each other, such as open_drawer close_drawer')


class History:
    """
    The rounds of a loop, in its folder.

    :raises ImproveError: when another loop is there, or its files cannot be read.
    """

    def __init__(self, folder: Path, settings: Settings) -> None:
        self.folder, self.settings = folder, settings
        self.rounds: list[dict] = []
        self.final: dict | None = None
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._check_settings()
            if (folder / HISTORY).exists():
                body = json.loads((folder / HISTORY).read_bytes())
                self.rounds, self.final = body['rounds'], body['final']
        except (OSError, ValueError, KeyError) as error:
            raise ImproveError(f'{folder}: cannot be used ({error}); restore it or name another '
                               'folder') from error

    @property
    def running(self) -> tuple[str, str]:
        """Path and sha256 of the checkpoint adopted last; the first one where none was."""
        for entry in reversed(self.rounds):
            if entry.get('decision', {}).get('adopt'):
                return entry['candidate'], entry['candidate_sha256']
        return self.settings.checkpoint, self.settings.sha256

    def note(self, number: int, **facts: object) -> dict:
        """Keep facts of a round, on disk before this returns; return all of it."""
        if number > len(self.rounds):
            self.rounds.append({'round': number})
        self.rounds[number - 1] |= facts
        self._write()
        return self.rounds[number - 1]

    def finish(self, final: dict) -> None:
        """Keep what the last comparison showed."""
        self.final = final
        self._write()

    def _write(self) -> None:
        write_atomic(self.folder / HISTORY, json.dumps(
            {'settings': _plain(self.settings), 'rounds': self.rounds, 'final': self.final},
            indent=1).encode())

    def _check_settings(self) -> None:
        path, now = self.folder / SETTINGS, _plain(self.settings)
        before = json.loads(path.read_bytes()) if path.exists() else now
        changed = [f'{name}: {before.get(name)} then, {value} now' for name, value in now.items()
                   if name != 'rounds' and before.get(name) != value]
        if changed:
            raise ImproveError(f'{path}: this loop was begun otherwise ({"; ".join(changed)}); '
                               'repeat that, or name another folder')
        if before['rounds'] > now['rounds']:
            raise ImproveError(f'{path}: {before["rounds"]} rounds were asked for; give as many '
                               'or more')
        write_atomic(path, json.dumps(now, indent=1).encode())


def _plain(settings: Settings) -> dict:
    return json.loads(json.dumps(asdict(settings)))
