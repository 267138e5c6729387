"""The commands of `stable-crl` that compare algorithms and look into what they learned."""

import argparse
from pathlib import Path

from stable_crl_ros import SHIPPED_CHECKPOINT
from stable_crl_ros.cli_options import count_up, progress_bar

FIGURES = ('interpolation', 'matching', 'values', 'negatives')


def add_commands(commands: argparse._SubParsersAction) -> None:
    """Add suite, analyse and progress."""
    _add_suite(commands)
    _add_analyse(commands)
    _add_progress(commands)


def _add_suite(commands) -> None:
    text = 'compare the algorithms: collect, train, score, tables and plots'
    suite = commands.add_parser('suite', help=text, description=(
        f'{text}. Stop it whenever you like: the same command goes on. Runs that share every '
        'setting are trained once, whichever tables they are in.'))
    suite.add_argument('folder', help='of everything the suite makes')
    suite.add_argument('--profile', default='laptop', metavar='NAME',
                       help='laptop (two CPU cores) or sim (the published sizes, on a GPU) '
                            '(default: %(default)s)')
    suite.add_argument('--table', action='append', default=[], metavar='NAME',
                       help='algorithms, long, cloning, ablations, scaling or generalisation; may '
                            'be repeated (default: all)')
    suite.add_argument('--recipe', action='append', default=[], metavar='NAME',
                       help='expert, mixed, stitch or play; may be repeated (default: all)')
    suite.add_argument('--algorithm', action='append', default=[], metavar='NAME',
                       help='stable_crl, td (laptop) or mc (sim), crl, gcbc, gciql or hiql; may '
                            'be repeated (default: all)')
    suite.add_argument('--transitions', type=int, metavar='N',
                       help="of each data set (default: the profile's)")
    suite.add_argument('--steps', type=int, metavar='N',
                       help="gradient steps of each run (default: the preset's)")
    suite.add_argument('--seeds', type=int, nargs='+', metavar='N',
                       help='of training (default: 0 1 2 of the algorithms, of their goals and of '
                            "the paper's own choices, 0 of the others)")
    suite.add_argument('--precision', choices=('fp32', 'bf16'),
                       help="of training (default: the profile's)")
    suite.add_argument('--episodes', type=int, metavar='N',
                       help='trials per run and goal (default: 34 of runs that have three seeds, '
                            '102 of others)')
    suite.add_argument('--workers', type=int, default=2, metavar='N',
                       help='runs at the same time, each on one core (default: %(default)s)')
    suite.add_argument('--hours', type=float, metavar='H', help='begin no run after so many')
    suite.add_argument('--device', default='auto',
                       help='of training: cpu, cuda, or auto (default: auto)')
    suite.add_argument('--adopt', action='append', default=[], metavar='FILE',
                       help="counts of runs made elsewhere, the JSON of another suite's report: "
                            'these are not run again; may be repeated')
    suite.add_argument('--dry-run', action='store_true', help='list the runs and what is missing')
    suite.add_argument('--report-only', action='store_true', help='only make tables and plots')
    suite.add_argument('--report', metavar='FILE',
                       help='Markdown page of the tables (default: FOLDER/results.md)')
    suite.set_defaults(run=_suite)


def _suite(chosen) -> int:
    from dataclasses import replace

    from stable_crl_ros.experiments import comparisons, plan
    from stable_crl_ros.experiments.adoption import adopt_counts
    from stable_crl_ros.experiments.failures import failure_of
    from stable_crl_ros.experiments.suite import missing_cases, run_suite, SuiteSettings
    from stable_crl_ros.experiments.tables import describe, write_report
    seeds = chosen.seeds and tuple(chosen.seeds)
    changes = {'transitions': chosen.transitions, 'steps': chosen.steps, 'seeds': seeds,
               'side_seeds': seeds, 'episodes': chosen.episodes,
               'side_episodes': chosen.episodes, 'precision': chosen.precision}
    profile = replace(plan.profile_named(chosen.profile),
                      **{name: value for name, value in changes.items() if value is not None})
    rows = comparisons.make_plan(profile, chosen.table, chosen.recipe or plan.RECIPES,
                                 chosen.algorithm or plan.ALGORITHMS)
    folder = Path(chosen.folder)
    for report in chosen.adopt:
        print(f'{report}: counts of {adopt_counts(folder, rows, Path(report))} runs taken over')
    if chosen.dry_run:
        _list_runs(folder, rows)
        return 0
    if not chosen.report_only:
        settings = SuiteSettings(folder, workers=chosen.workers, hours=chosen.hours,
                                 device=chosen.device)
        run_suite(rows, settings)
    page = Path(chosen.report or folder / 'results.md')
    write_report(folder, rows, page, describe(profile))
    print(f'tables: {page}')
    return int(any(missing_cases(folder, run) and failure_of(folder, run)
                   for run in plan.in_order(rows)))


def _list_runs(folder: Path, rows) -> None:
    """Say of every run of a plan what it is for, and what of it is missing."""
    from stable_crl_ros.experiments.failures import failure_of
    from stable_crl_ros.experiments.plan import in_order
    from stable_crl_ros.experiments.suite import missing_cases
    tables: dict[str, list[str]] = {}
    for row in rows:
        for run in row.runs:
            tables.setdefault(run.key, []).append(f'{row.table}: {row.label}')
    for run in in_order(rows):
        missing = len(missing_cases(folder, run))
        state = f'{missing} of {len(run.cases)} scores missing' if missing else 'done'
        if missing and failure_of(folder, run):
            state = 'failed'
        print(f'{state}; {"; ".join(tables[run.key])}; {run.key}')


def _add_analyse(commands) -> None:
    text = 'show what the networks of checkpoints know'
    analyse = commands.add_parser('analyse', help=text, description=(
        f'{text}, each figure a PNG with its numbers as JSON beside it. interpolation: nearest '
        'frames between the representations of start and goal, against a VAE and pixels. '
        'matching: does the critic, and the policy, care for the object or for the arm alone. '
        'values: critic value over time, on success and on failure. negatives: which wrong goals '
        "the critic's gradient dwells on."))
    analyse.add_argument('out', metavar='FOLDER', help='of the figures; made when not there')
    analyse.add_argument('--checkpoint', nargs='+', action='extend', default=[], metavar='FILE',
                         help='.safetensors files to compare, or LABEL=FILE (default: the '
                              'shipped one)')
    analyse.add_argument('--task', default='open_drawer', metavar='NAME',
                         help='of all episodes (default: %(default)s)')
    analyse.add_argument('--episodes', type=int, default=40, metavar='N',
                         help='scripted ones, and ones per checkpoint (default: %(default)s)')
    analyse.add_argument('--seed', type=int, default=0, help='of everything random (default: 0)')
    analyse.add_argument('--figures', nargs='+', default=[], choices=FIGURES, metavar='NAME',
                         help=f'of {", ".join(FIGURES)} (default: all that can be made)')
    analyse.add_argument('--sampled', action='store_true',
                         help='play actions drawn from the policies instead of their modes')
    analyse.add_argument('--dataset', metavar='FOLDER',
                         help='recorded episodes the VAE learns from (default: as many fresh '
                              'scripted ones)')
    analyse.add_argument('--vae-steps', type=int, default=1500, metavar='N',
                         help='gradient steps of the VAE (default: %(default)s)')
    analyse.add_argument('--workers', type=int, default=2, metavar='N',
                         help='processes (default: %(default)s)')
    analyse.set_defaults(run=_analyse)


def _analyse(chosen) -> None:
    from stable_crl_ros.experiments.analyse import analyse
    bar = None

    def progress(what: str, done: int, total: int) -> None:
        nonlocal bar
        if bar is None:
            bar = count_up(total, desc=what)
        bar.update(done)
        if bar.n >= total:
            bar.close()
            bar = None
    print(analyse(
        chosen.out, chosen.checkpoint, chosen.task, chosen.episodes, chosen.seed, chosen.figures,
        chosen.workers, chosen.sampled, chosen.dataset, chosen.vae_steps, progress))


def _add_progress(commands) -> None:
    text = "say how far a checkpoint's progress is to be trusted"
    progress = commands.add_parser('progress', help=text, description=(
        f'{text}: steps to go, probability of being at the goal, and `done`, against the '
        "simulator's own measure in closed-loop episodes; or what they make of recorded pictures "
        '(--recording). Writes tables, a figure, and its numbers as JSON.'))
    progress.add_argument('out', metavar='FOLDER', help='of the figure; made when not there')
    progress.add_argument('--checkpoint', default=str(SHIPPED_CHECKPOINT), metavar='FILE',
                          help='a calibrated .safetensors file (default: the shipped one)')
    progress.add_argument('--task', action='append', default=[], metavar='NAME',
                          help='may be repeated (default: all)')
    progress.add_argument('--episodes', type=int, default=40, metavar='N',
                          help='per task (default: %(default)s)')
    progress.add_argument('--seed', type=int, default=0, help='of starts and goals (default: 0)')
    progress.add_argument('--workers', type=int, default=2, metavar='N',
                          help='processes (default: %(default)s)')
    progress.add_argument('--photograph', metavar='NAME',
                          help='show a shipped goal of the drawer, such as drawer_open, instead '
                               "of each episode's own; for the drawer's tasks")
    progress.add_argument('--recording', nargs='+', default=[], metavar='FOLDER',
                          help='of pictures instead of simulated episodes; needs --goal')
    progress.add_argument('--goal', metavar='FILE', help='the photograph for --recording')
    progress.set_defaults(run=_progress)


def _progress(chosen) -> None:
    from stable_crl_ros.experiments.analyse import AnalyseError
    from stable_crl_ros.experiments.progress_report import look_at_recordings, validate
    out = Path(chosen.out)
    if bool(chosen.recording) != bool(chosen.goal):
        raise AnalyseError('recorded pictures need both --recording FOLDER and --goal FILE')
    if chosen.recording:
        print(look_at_recordings(chosen.checkpoint, Path(chosen.goal),
                                 [Path(folder) for folder in chosen.recording], out))
        return
    from stable_crl_ros.sim.tasks import TASKS
    with progress_bar('episode') as show:
        text = validate(chosen.checkpoint, list(dict.fromkeys(chosen.task)) or list(TASKS),
                        chosen.episodes, chosen.seed, chosen.workers, out,
                        photograph=chosen.photograph, progress=show)
    print(text)
