"""What the suite compares: which runs there are, on which data, and which table each is in."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
import hashlib
import json

ALGORITHMS = ('stable_crl', 'td', 'crl', 'gcbc', 'gciql', 'hiql')
GOALS = ('open_drawer', 'close_drawer', 'push_block', 'pick_place', 'place_in_drawer',
         'push_then_open')
RECIPES = ('expert', 'mixed', 'stitch', 'play')
# Clean demonstrations teach everybody, so that little of them tells; from suboptimal ones at the
# smallest size nobody learns much, so that more of them tells.
SCALED = {'expert': ('stable_crl', 'gcbc'), 'mixed': ('stable_crl', 'gcbc', 'gciql', 'hiql')}
CLONED_ON = ('expert', 'mixed')
CLONING = (0.05, 0.2, 0.5)  # cloning's share of the actor's loss: the authors' two, and more
GENERALISING = ('stable_crl', 'gcbc')
LONG = 4  # times the transitions and the steps: as much as the shipped checkpoint learned from
APPEARANCES = ('nominal', 'seen', 'unseen')
LAST_CHECKPOINTS = 3  # a run's score is that of its last three, mixed evenly
SAVES = 10  # checkpoints over a run

# The authors draw the actor's goals as the critic's, OGBench evenly over the rest of an episode.
NEAR, EVEN = {'actor_goal': 'geometric'}, {'actor_goal': 'uniform'}
OGBENCH = ('gciql', 'hiql')

# One change each to the profile's Stable Contrastive RL.
ABLATIONS: dict[str, dict] = {
    'no layer norm': {'encoder_norm': False, 'critic_norm': 'none', 'actor_norm': 'none'},
    'no cold initialisation': {'critic_final_init': 0.0, 'actor_final_init': 0.0},
    'crops in cloning': {'augmentation': 'crop'},
    'crops per sample': {'augmentation': 'crop', 'augment_per': 'sample'},
    'crops everywhere': {'augmentation': 'crop', 'augment_critic': True},
    'batch / 4': {'batch_size': 0.25},
    'batch x 2': {'batch_size': 2.0},
    'width / 4': {'critic_hidden': 0.25, 'actor_hidden': 0.25},
    'width x 2': {'critic_hidden': 2.0, 'actor_hidden': 2.0},
    'depth 2': {'critic_hidden': 2, 'actor_hidden': 2},
    'even goals': EVEN,
    **{f'cloning {share}': {'bc_coefficient': share} for share in (*CLONING, 0.95)},
}


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

    def preset(self, algorithm: str) -> str:
        """Name the preset of an algorithm."""
        return self.name if algorithm == 'stable_crl' else f'{self.name}-{algorithm}'


PROFILES = {
    # Cloning the block tasks takes longer than the preset's drawer tasks. From `mixed` the
    # unchanged algorithm solves at this size one task of six: nothing would be left to ablate.
    'laptop': Profile('laptop', transitions=60_000, steps=5000, decay=True, ablated_on='expert',
                      long_on=('expert', 'mixed'),
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


def make_plan(profile: Profile, tables: Sequence[str] = (), recipes: Sequence[str] = RECIPES,
              algorithms: Sequence[str] = ALGORITHMS) -> list[Row]:
    """
    List the lines of all tables.

    :param tables: names of `TABLES`; all when empty.
    :raises PlanError: for an unknown name.
    """
    for kind, names, known in (('table', tables, TABLES), ('recipe', recipes, RECIPES),
                               ('algorithm', algorithms, ALGORITHMS)):
        unknown = [name for name in names if name not in known]
        if unknown:
            raise PlanError(f'unknown {kind} {unknown[0]!r}; choose from {", ".join(known)}')
    rows = []
    for name in tables or TABLES:
        rows += TABLES[name](profile, recipes, algorithms)
    return rows


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


def _runs(profile: Profile, recipe: str, algorithm: str, cases: Sequence[Case],
          overrides: Mapping | None = None, transitions: int | None = None,
          seeds: tuple[int, ...] | None = None) -> tuple[RunSpec, ...]:
    settings, transitions = dict(overrides or {}), transitions or profile.transitions
    in_main = recipe in RECIPES and not settings and transitions == profile.transitions
    aside = seeds is None and not in_main
    seeds = seeds or (profile.side_seeds if aside else profile.seeds)
    if algorithm not in OGBENCH:
        settings = {**NEAR, **settings}
    if profile.precision != 'fp32':
        settings['precision'] = profile.precision
    if profile.decay and profile.steps:
        settings['actor_decay_steps'] = profile.steps
    return tuple(RunSpec(recipe, transitions, profile.preset(algorithm),
                         tuple(sorted(settings.items())), seed, profile.steps, tuple(cases),
                         profile.side_episodes if aside else profile.episodes) for seed in seeds)


def _main(profile: Profile, recipes: Sequence[str], algorithms: Sequence[str]) -> list[Row]:
    cases = [Case(task, sampled=sampled) for task in GOALS for sampled in (False, True)]
    return [Row(f'algorithms on {recipe}', algorithm, _runs(profile, recipe, algorithm, cases))
            for recipe in recipes for algorithm in algorithms]


def _cloning(profile: Profile, recipes: Sequence[str], algorithms: Sequence[str]) -> list[Row]:
    """Compare critics where they steer the actor, between the preset's share and little of it."""
    cases, rows = [Case(task) for task in GOALS], []
    for recipe in [recipe for recipe in CLONED_ON if recipe in recipes]:
        variants = [('gcbc', 'gcbc', {}), ('gcbc', 'gcbc, even goals', EVEN)]
        for algorithm in ('stable_crl', 'td'):
            variants += [(algorithm, f'{algorithm}, as it is', {})]
            variants += [(algorithm, f'{algorithm}, cloning {share}', {'bc_coefficient': share})
                         for share in reversed(CLONING)]
        # TD at the authors' share, where its critic moves actions and does no harm.
        variants += [('stable_crl', 'stable_crl, even goals', EVEN),
                     ('td', f'td, even goals, cloning {CLONING[0]}',
                      {**EVEN, 'bc_coefficient': CLONING[0]})]
        # What cloning gains by its goals is what the others are to be seen beside.
        rows += [Row(f'cloning on {recipe}', label,
                     _runs(profile, recipe, algorithm, cases, changes,
                           seeds=profile.seeds if algorithm == 'gcbc' else None))
                 for algorithm, label, changes in variants if algorithm in algorithms]
    return rows


def _ablations(profile: Profile, recipes: Sequence[str], _: Sequence[str]) -> list[Row]:
    if profile.ablated_on not in recipes:
        return []
    cases, base = [Case(task) for task in GOALS], profile.preset('stable_crl')
    changed = {label: ('stable_crl', {name: scaled(base, name, value)
                                      for name, value in changes.items()})
               for label, changes in ABLATIONS.items()}
    variants = {'as it is': ('stable_crl', {}), 'critic TD': ('td', {}), **changed}
    return [Row(f'ablations on {profile.ablated_on}', label,
                _runs(profile, profile.ablated_on, algorithm, cases, overrides))
            for label, (algorithm, overrides) in variants.items()]


def scaled(preset: str, name: str, change: object) -> object:
    """
    Turn a change of `ABLATIONS` into a setting's value.

    :param change: a float multiplies sizes; an integer is a number of hidden layers; what is
        neither, or sets no size, is the value itself.
    """
    from stable_crl_ros.crl.presets import make_config
    before = getattr(make_config(preset)[1], name)
    if isinstance(before, tuple):
        return (tuple(int(size * change) for size in before) if isinstance(change, float)
                else before[:change])
    return int(before * change) if name == 'batch_size' else change


def _scaling(profile: Profile, recipes: Sequence[str], algorithms: Sequence[str]) -> list[Row]:
    cases = [Case(task) for task in GOALS]
    return [Row(f'data scaling on {recipe}', f'{algorithm}, {size} transitions',
                _runs(profile, recipe, algorithm, cases, transitions=size))
            for recipe, scales in profile.scales.items() if recipe in recipes
            for algorithm in SCALED[recipe] if algorithm in algorithms
            for size in (int(profile.transitions * scale) for scale in scales)]


def _long(profile: Profile, recipes: Sequence[str], algorithms: Sequence[str]) -> list[Row]:
    """Compare the algorithms where the block tasks can be solved, on the same goals."""
    if profile.steps is None:
        return []
    cases = [Case(task) for task in GOALS]
    long = replace(profile, transitions=LONG * profile.transitions, steps=LONG * profile.steps)
    return [Row(f'at length on {recipe}', algorithm, _runs(long, recipe, algorithm, cases, EVEN))
            for recipe in profile.long_on if recipe in recipes for algorithm in algorithms]


def _generalisation(profile: Profile, _: Sequence[str], algorithms: Sequence[str]) -> list[Row]:
    cases = [Case(task, appearance) for task in GOALS for appearance in APPEARANCES]
    return [Row('generalisation', algorithm, _runs(profile, 'varied', algorithm, cases))
            for algorithm in GENERALISING if algorithm in algorithms]


TABLES = {'algorithms': _main, 'long': _long, 'cloning': _cloning, 'ablations': _ablations,
          'scaling': _scaling, 'generalisation': _generalisation}
