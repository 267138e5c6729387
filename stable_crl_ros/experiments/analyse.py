"""`stable-crl analyse`: what the networks of checkpoints know, as figures with their numbers."""

from collections.abc import Callable, Sequence
from contextlib import closing, contextmanager
import json
from pathlib import Path

import numpy as np
from stable_crl_ros import SHIPPED_CHECKPOINT
from stable_crl_ros.durable import write_atomic
from stable_crl_ros.evaluation import trial_seed
from stable_crl_ros.experiments.demonstrations import demonstrate_share, Demonstration
from stable_crl_ros.experiments.episodes import play_share, Played
from stable_crl_ros.experiments.interpolation import interpolate, way_pairs
from stable_crl_ros.experiments.learned import Learned, load_all
from stable_crl_ros.experiments.matching import match
from stable_crl_ros.experiments.negatives import weigh
from stable_crl_ros.experiments.outcomes import separate
from stable_crl_ros.experiments.vae import VAE_SPEC
from stable_crl_ros.images import ImageSpec
from stable_crl_ros.parallel import spread
from stable_crl_ros.sim.tasks import task_named
import torch

FIGURES = ('interpolation', 'matching', 'values', 'negatives')
NEEDS = {'interpolation': 'a contrastive critic', 'matching': 'a policy',
         'values': 'an opinion of how near the goal is', 'negatives': 'a contrastive critic'}
SHARE = 5  # episodes a worker runs before it reports
VAE_STEPS = 1500
Progress = Callable[[str, int, int], None]


class AnalyseError(ValueError):
    """An analysis that cannot be made as asked."""


class Analysis:
    """
    One analysis of some checkpoints on one task, its episodes run once for all figures.

    :param episodes: scripted ones, and ones played by each checkpoint.
    :param seed: of everything random.
    :param workers: processes that simulate.
    :param sampled: play actions drawn from the policies instead of their modes.
    :param dataset: recorded episodes the VAE learns from, such as those the checkpoints learned
        from; as many fresh ones as `episodes` when None.
    :param progress: called with what is being done, what part is done, and of how much.
    """

    def __init__(self, out: Path, learned: list[Learned], task: str, episodes: int, seed: int,
                 workers: int, sampled: bool, dataset: str | None, vae_steps: int,
                 progress: Progress) -> None:
        self.out, self.learned, self.task, self.episodes = out, learned, task, episodes
        self.seed, self.workers, self.sampled = seed, workers, sampled
        self._dataset, self._vae_steps, self._progress = dataset, vae_steps, progress
        self._demonstrations: list[Demonstration] = []
        self._played: dict[str, list[Played]] = {}

    def able(self, figure: str) -> list[Learned]:
        """List the checkpoints that have what a figure needs."""
        return [one for one in self.learned if {
            'interpolation': one.contrastive, 'matching': True, 'values': one.scores_goals,
            'negatives': one.contrastive}[figure]]

    def make(self, figure: str) -> tuple[dict, list[str]]:
        """Make one of `FIGURES`; return its numbers and lines of Markdown."""
        able = self.able(figure)
        if figure == 'interpolation':
            held_out = self.demonstrations()
            if not way_pairs(held_out):
                raise AnalyseError(f'none of {len(held_out)} episodes of {self.task} moves its '
                                   'object far enough to interpolate; ask for more --episodes')
            return interpolate(able, held_out, self._training_frames(), self.out, self.seed,
                               self._vae_steps, self._report('VAE', self._vae_steps))
        if figure == 'negatives':
            return weigh(able, self.demonstrations(), task_named(self.task).objects, self.out,
                         self.seed)
        played = {one.label: self._play(one) for one in able}
        if figure == 'values':
            return separate(played, self.out, self.seed)
        return match(able, self.demonstrations(), played, self.out, self.seed)

    def demonstrations(self) -> list[Demonstration]:
        """Run the scripted expert, or return what it did."""
        if not self._demonstrations:
            specs = {VAE_SPEC, *(one.image_spec for one in self.learned)}
            self._demonstrations = self._demonstrate(range(self.episodes), tuple(specs), True,
                                                     'demonstrations')
        return self._demonstrations

    def _demonstrate(self, indices: range, specs: Sequence[ImageSpec],
                     arm_only: bool, what: str) -> list[Demonstration]:
        calls = [(self.task, self.seed, share, specs, arm_only) for share in shares(indices)]
        return self._spread(demonstrate_share, calls, what, len(indices))

    def _play(self, one: Learned) -> list[Played]:
        if one.label not in self._played:
            seeds = [trial_seed(self.seed, episode) for episode in range(self.episodes)]
            calls = [(one.path, self.task, share, self.sampled) for share in shares(seeds)]
            self._played[one.label] = self._spread(play_share, calls, one.label, self.episodes)
        return self._played[one.label]

    def _training_frames(self) -> np.ndarray:
        """Return what the VAE learns from, uint8 (N, 48, 48, 3)."""
        if self._dataset is None:
            others = range(self.episodes, 2 * self.episodes)
            return np.concatenate([item.images[VAE_SPEC] for item in
                                   self._demonstrate(others, (VAE_SPEC,), False, 'more of them')])
        from stable_crl_ros.data.cache_build import build_cache
        return build_cache(self._dataset, VAE_SPEC).observations

    def _report(self, what: str, total: int) -> Callable[[int], None]:
        return lambda count: self._progress(what, count, total)

    def _spread(self, function: Callable, calls: list[tuple], what: str, total: int) -> list:
        report, results = self._report(what, total), []
        with closing(spread(function, calls, self.workers)) as done:
            for items in done:
                results += items
                report(len(items))
        return results


def shares(items: Sequence) -> list[Sequence]:
    """Part work into what one worker does at a time."""
    return [items[i:i + SHARE] for i in range(0, len(items), SHARE)]


def analyse(out: str | Path, checkpoints: Sequence[str] = (), task: str = 'open_drawer',
            episodes: int = 40, seed: int = 0, figures: Sequence[str] = (), workers: int = 2,
            sampled: bool = False, dataset: str | None = None, vae_steps: int = VAE_STEPS,
            progress: Progress = lambda what, done, total: None) -> str:
    """
    Make figures of what checkpoints know, each a PNG with its numbers as JSON beside it.

    :param out: folder; made when it is not there.
    :param checkpoints: FILE or LABEL=FILE each; the shipped one when empty.
    :param figures: names of `FIGURES`; all that the checkpoints allow when empty.
    :returns: the numbers in short, as Markdown; `out` also holds all of them in analysis.json.
    :raises AnalyseError: for unknown figures, a count below 1, or when no checkpoint has what a
        figure asked for needs.
    """
    task_named(task)
    if episodes < 2 or workers < 1 or seed < 0 or vae_steps < 1:
        raise AnalyseError(f'an analysis needs episodes >= 2, workers >= 1, seed >= 0 and VAE '
                           f'steps >= 1; got {episodes}, {workers}, {seed} and {vae_steps}')
    unknown = [name for name in figures if name not in FIGURES]
    if unknown:
        raise AnalyseError(f'unknown figure {unknown[0]!r}; choose from {", ".join(FIGURES)}')
    with one_thread():
        analysis = Analysis(Path(out), load_all([str(path) for path in checkpoints]
                                          or [str(SHIPPED_CHECKPOINT)]),
                            task, episodes, seed, workers, sampled, dataset, vae_steps, progress)
        return _make_all(analysis, figures)


@contextmanager
def one_thread():
    """Keep torch to one thread: the workers have the other cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _make_all(analysis: Analysis, figures: Sequence[str]) -> str:
    missing = {name: [one.label for one in analysis.learned if one not in analysis.able(name)]
               for name in figures or FIGURES}
    for name in figures:
        if not analysis.able(name):
            raise AnalyseError(f'{name} needs {NEEDS[name]}, which {", ".join(missing[name])} '
                               f'has not; leave it out or add a --checkpoint that has')
    analysis.out.mkdir(parents=True, exist_ok=True)
    numbers: dict = {
        'task': analysis.task, 'episodes': analysis.episodes, 'seed': analysis.seed,
        'actions': 'sampled' if analysis.sampled else 'mode',
        'checkpoints': {one.label: {'path': one.path, 'sha256': one.sha256,
                                    'algorithm': one.algorithm} for one in analysis.learned}}
    lines = [f'# {analysis.task}: {analysis.episodes} episodes, seed {analysis.seed}, '
             f'{numbers["actions"]} actions; 95 % intervals']
    for name, absent in missing.items():
        lines += ['', f'## {name}', '']
        if absent:
            lines += [f'Without {", ".join(absent)}: it needs {NEEDS[name]}.', '']
        if analysis.able(name):
            numbers[name], table = analysis.make(name)
            _write(analysis.out / f'{name}.json', numbers[name])
            lines += table
    _write(analysis.out / 'analysis.json', numbers)
    return '\n'.join(lines)


def _write(path: Path, numbers: dict) -> None:
    write_atomic(path, json.dumps(numbers, indent=1, allow_nan=False).encode())
