"""What the suite compares: the lines of its tables, and the runs behind each line."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from stable_crl_ros.experiments.plan import (
    ALGORITHMS,
    Case,
    GOALS,
    PlanError,
    Profile,
    RECIPES,
    Row,
    RunSpec,
)

# Clean demonstrations teach everybody, so that little of them tells; from suboptimal ones at the
# smallest size nobody learns much, so that more of them tells.
SCALED = {'expert': ('stable_crl', 'gcbc'), 'mixed': ('stable_crl', 'gcbc', 'gciql', 'hiql')}
CLONED_ON = ('expert', 'mixed')
CLONING = (0.05, 0.2, 0.5)  # cloning's share of the actor's loss: the authors' two, and more
GENERALISING = ('stable_crl', 'gcbc')
LONG = 4  # times the transitions and the steps: as much as the shipped checkpoint learned from
APPEARANCES = ('nominal', 'seen', 'unseen')

# The authors draw the actor's goals as the critic's, OGBench evenly over the rest of an episode,
# the laptop's presets evenly over the next steps: the same but for the long episodes of `play`.
NEAR, EVEN, SOON = ({'actor_goal': kind} for kind in ('geometric', 'uniform', 'soon'))
OGBENCH = ('gciql', 'hiql')
# Temperature 0 gives every sample the weight 1: waypoints and their code stay, the values' choice
# among what the data show goes.
UNWEIGHTED = {'low_alpha': 0.0, 'high_alpha': 0.0}
SUBOPTIMAL = ('mixed', 'play')  # where there is a choice to make
# Half of the actor's goals are any episode's: OGBench's setting for data that must be stitched,
# where no goal of an episode's own future needs two of them.
RANDOM = {'actor_goal_random': 0.5}

# One change each to the profile's Stable Contrastive RL.
ABLATIONS: dict[str, dict] = {
    'no layer norm': {'encoder_norm': False, 'critic_norm': 'none', 'actor_norm': 'none'},
    'no cold initialisation': {'critic_final_init': 0.0, 'actor_final_init': 0.0},
    'no augmentation': {'augmentation': 'none'},
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
# What the paper says makes contrastive learning stable: not to be judged by one seed's luck.
PAPERS_CHOICES = ('no layer norm', 'no cold initialisation', 'no augmentation', 'crops in cloning')


def make_plan(profile: Profile, tables: Sequence[str] = (), recipes: Sequence[str] = RECIPES,
              algorithms: Sequence[str] = ALGORITHMS) -> list[Row]:
    """
    List the lines of all tables.

    :param tables: names of `TABLES`; all when empty.
    :raises PlanError: for an unknown name, or an algorithm that the profile has under another.
    """
    for kind, names, known in (('table', tables, TABLES), ('recipe', recipes, RECIPES),
                               ('algorithm', algorithms, ALGORITHMS)):
        unknown = [name for name in names if name not in known]
        if unknown:
            raise PlanError(f'unknown {kind} {unknown[0]!r}; choose from {", ".join(known)}')
    asked = [name for name in profile.algorithms if name in algorithms]
    if profile.critic in algorithms and set(algorithms) != set(ALGORITHMS):
        raise PlanError(f'the {profile.critic} critic of profile {profile.name!r} is stable_crl; '
                        f'choose from {", ".join(profile.algorithms)}')
    rows = [row for name in tables or TABLES for row in TABLES[name](profile, recipes, asked)]
    return _distinct(rows)


def _distinct(rows: Sequence[Row]) -> list[Row]:
    """Leave out of each table what changes nothing of a row above it."""
    from stable_crl_ros.crl.presets import make_config
    kept: dict[tuple, Row] = {}
    for row in rows:
        run = row.runs[0]
        kept.setdefault((row.table, run.transitions,
                         make_config(run.preset, dict(run.overrides))), row)
    return list(kept.values())


def _runs(profile: Profile, recipe: str, algorithm: str, cases: Sequence[Case],
          overrides: Mapping | None = None, transitions: int | None = None,
          seeds: tuple[int, ...] | None = None) -> tuple[RunSpec, ...]:
    settings, transitions = dict(overrides or {}), transitions or profile.transitions
    in_main = recipe in RECIPES and not settings and transitions == profile.transitions
    aside = seeds is None and not in_main
    seeds = seeds or (profile.side_seeds if aside else profile.seeds)
    settings = {**(EVEN if algorithm in OGBENCH else NEAR), **settings}
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
    """Compare ways to draw the actor's goals, and critics and values where they steer it."""
    cases, rows = [Case(task) for task in GOALS], []
    for recipe in recipes:
        variants = [('gcbc', 'gcbc', {}), ('gcbc', 'gcbc, even goals', EVEN)]
        if recipe == 'play':
            variants += [(name, f'{name}, soon goals', SOON) for name in (
                'gcbc', 'stable_crl', *OGBENCH)]
        if recipe == 'stitch':
            # Cloning shows what such goals do where no values choose.
            variants += [('gcbc', 'gcbc, random goals', RANDOM)]
            variants += [(name, f'{name}{label}', changes) for name in (
                'stable_crl', profile.other_critic, *OGBENCH)
                for label, changes in (('', {}), (', random goals', RANDOM))]
        if recipe in CLONED_ON:
            variants += _shares_of_cloning(profile)
        if recipe in SUBOPTIMAL:
            variants += [('hiql', 'hiql', {}), ('hiql', 'hiql, unweighted', UNWEIGHTED)]
        table = f'{"cloning" if recipe in CLONED_ON else "goals"} on {recipe}'
        # What cloning gains by its goals is what the others are to be seen beside; and who
        # stitches shall not be one seed's luck.
        for algorithm, label, changes in variants:
            if algorithm in algorithms:
                seeds = profile.seeds if algorithm == 'gcbc' or changes is RANDOM else None
                rows.append(Row(table, label, _runs(profile, recipe, algorithm, cases, changes,
                                                    seeds=seeds)))
    return rows


def _shares_of_cloning(profile: Profile) -> list[tuple[str, str, dict]]:
    """Give both critics between the preset's share of cloning and little of it."""
    variants = []
    for algorithm in ('stable_crl', profile.other_critic):
        variants += [(algorithm, f'{algorithm}, as it is', {})]
        variants += [(algorithm, f'{algorithm}, cloning {share}', {'bc_coefficient': share})
                     for share in reversed(CLONING)]
    # TD at the authors' share, where its critic moves actions and does no harm.
    td = 'stable_crl' if profile.critic == 'td' else 'td'
    return [*variants, ('stable_crl', 'stable_crl, even goals', EVEN),
            (td, f'{td}, even goals, cloning {CLONING[0]}',
             {**EVEN, 'bc_coefficient': CLONING[0]})]


def _ablations(profile: Profile, recipes: Sequence[str], _: Sequence[str]) -> list[Row]:
    if profile.ablated_on not in recipes:
        return []
    cases, base = [Case(task) for task in GOALS], profile.preset('stable_crl')
    changed = {label: ('stable_crl', {name: scaled(base, name, value)
                                      for name, value in changes.items()})
               for label, changes in ABLATIONS.items()}
    other = profile.other_critic
    variants = {'as it is': ('stable_crl', {}), f'critic {other.upper()}': (other, {}), **changed}
    return [Row(f'ablations on {profile.ablated_on}', label,
                _runs(profile, profile.ablated_on, algorithm, cases, overrides,
                      seeds=profile.seeds if label in PAPERS_CHOICES else None))
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
