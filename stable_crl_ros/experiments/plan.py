"""Runs of the suite: what each is, how many and how large a profile makes them, in which order."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
import hashlib
import json

ALGORITHMS = ('stable_crl', 'td', 'mc', 'crl', 'gcbc', 'gciql', 'hiql')
GOALS = ('open_drawer', 'close_drawer', 'push_block', 'pick_place', 'place_in_drawer',
         'push_then_open')
RECIPES = ('expert', 'mixed', 'stitch', 'play')
LAST_CHECKPOINTS = 3  # a run's score is that of its last three, mixed evenly
SAVES = 10  # checkpoints over a run


class PlanError(ValueError):
    """A suite that cannot be run as asked."""


@dataclass(frozen=True)
class Profile:
    """
    The size of a suite.

    :param seeds: of the table of algorithms, and of what else shares its runs.
    :param side_seeds: of all other runs.
    :param transitions: of each data set.
    :param scales: sizes of the table on data scaling, in parts of `transitions`, by recipe.
    :param steps: gradient steps of each run; None takes the preset's.
    :param episodes: trials per run and goal, in scenes drawn with the run's seed: three seeds
        are scored in 102 different scenes of each goal.
    :param side_episodes: the same of runs with side seeds, of which there may be one.
    :param precision: of training; bf16 is faster on a GPU and on the CPUs that compute in it.
    :param decay: let the actor's learning rate fall to 0 over the run, as in the authors' Bridge
        configuration: short runs at a constant rate end in noise.
    :param critic: that of `stable_crl` in the profile's preset; the other is an algorithm of its
        own.
    :param ablated_on: the recipe of the ablations, one that the profile's runs learn from.
    :param long_on: the recipes on which the algorithms are also compared at length; needs `steps`.
    :raises PlanError: for a size that is none.
    """

    name: str
    transitions: int
    steps: int | None
    episodes: int = 34
    side_episodes: int = 102
    seeds: tuple[int, ...] = (0, 1, 2)
    side_seeds: tuple[int, ...] = (0,)
    precision: str = 'fp32'
    decay: bool = False
    critic: str = 'td'
    ablated_on: str = 'mixed'
    long_on: tuple[str, ...] = ()
    scales: Mapping[str, tuple[float, ...]] = field(
        default_factory=lambda: {'expert': (0.125, 0.25, 0.5, 1.0)})

    def __post_init__(self) -> None:
        """Refuse sizes that are none, before hours of work."""
        sizes = {'transitions': self.transitions, 'steps': self.steps,
                 'episodes': min(self.episodes, self.side_episodes)}
        small = [name for name, size in sizes.items() if size is not None and size < 1]
        seeds = (*self.seeds, *self.side_seeds)
        if small or not self.seeds or not self.side_seeds or min(seeds) < 0:
            raise PlanError(f'{", ".join(small) or "seeds"}: give {1 if small else 0} or more')

    @property
    def algorithms(self) -> tuple[str, ...]:
        """What there is to compare."""
        return tuple(name for name in ALGORITHMS if name != self.critic)

    @property
    def other_critic(self) -> str:
        """The critic that `stable_crl` has not."""
        return 'mc' if self.critic == 'td' else 'td'

    def preset(self, algorithm: str) -> str:
        """Name the preset of an algorithm."""
        return self.name if algorithm == 'stable_crl' else f'{self.name}-{algorithm}'


PROFILES = {
    # Cloning the block tasks takes longer than the preset's drawer tasks. From `mixed` the
    # unchanged algorithm solves at this size one task of six: nothing would be left to ablate.
    'laptop': Profile('laptop', transitions=60_000, steps=5000, decay=True, critic='mc',
                      ablated_on='expert', long_on=('expert', 'mixed'),
                      scales={'expert': (0.125, 0.25, 1.0, 4.0), 'mixed': (1.0, 4.0)}),
    'sim': Profile('sim', transitions=1_000_000, steps=None, precision='bf16'),
}


def profile_named(name: str) -> Profile:
    """
    Look a profile up.

    :raises PlanError: listing those there are.
    """
    if name not in PROFILES:
        raise PlanError(f'unknown profile {name!r}; choose one of {", ".join(PROFILES)}')
    return PROFILES[name]


@dataclass(frozen=True)
class RunSpec:
    """
    One training run; runs that differ in nothing are one run, whichever tables they are in.

    :param transitions: the first episodes of the recipe, up to so many.
    :param overrides: settings changed from the preset's, as sorted pairs.
    :param cases: what its policy is scored on.
    :param episodes: trials of each case.
    """

    recipe: str
    transitions: int
    preset: str
    overrides: tuple[tuple[str, object], ...]
    seed: int
    steps: int | None
    cases: tuple['Case', ...] = field(compare=False, default=())
    episodes: int = field(compare=False, default=34)

    @property
    def key(self) -> str:
        """Name its folder."""
        changed = json.dumps([self.overrides, self.steps], default=list)
        mark = hashlib.sha256(changed.encode()).hexdigest()[:6]
        return f'{self.recipe}-{self.transitions}/{self.preset}-{mark}/seed_{self.seed}'


@dataclass(frozen=True, order=True)
class Case:
    """
    One column of trials.

    :param sampled: actions drawn from the policy instead of its mode.
    """

    task: str
    appearance: str = 'nominal'
    sampled: bool = False


@dataclass(frozen=True)
class Row:
    """One line of a table: a label and its runs, one per seed."""

    table: str
    label: str
    runs: tuple[RunSpec, ...]


def in_order(rows: Sequence[Row]) -> list[RunSpec]:
    """
    Order the runs so that a suite cut short has compared as much as possible.

    :returns: every run once, with the cases of all tables it is in; first seeds first.
    """
    cases: dict[RunSpec, set[Case]] = {}
    for run in [run for row in rows for run in row.runs]:
        cases.setdefault(run, set()).update(run.cases)
    runs = [replace(run, cases=tuple(sorted(found))) for run, found in cases.items()]
    return sorted(runs, key=lambda run: run.seed)
