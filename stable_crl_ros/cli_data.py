"""The command of `stable-crl` that records in the simulator: collect."""

import argparse

from stable_crl_ros.cli_options import count_up

RECIPES = ('expert', 'mixed', 'stitch', 'play', 'varied')  # repeated, to answer --help at once


def add_commands(commands: argparse._SubParsersAction) -> None:
    """Add collect."""
    _add_collect(commands)


def _add_collect(commands) -> None:
    text = 'record scripted episodes in the simulator'
    collect = commands.add_parser('collect', help=text, description=f'{text}: demonstrations of '
                                  'the tasks named, or a recipe, which goes on where it was '
                                  'interrupted.')
    collect.add_argument('dataset', help='dataset to add to; made when it is not there')
    collect.add_argument('episodes', nargs='*', metavar='TASK=COUNT', type=_task_count,
                         help='such as open_drawer=500 close_drawer=500')
    collect.add_argument('--recipe', metavar='NAME', choices=RECIPES,
                         help=f'instead of tasks: one of {", ".join(RECIPES)}')
    collect.add_argument('--transitions', type=int, default=50_000, metavar='N',
                         help='steps of a recipe, rounded up to whole episodes; fewer are the '
                              'beginning of more (default: %(default)s)')
    collect.add_argument('--seed', type=int, default=0, help='of everything random (default: 0)')
    collect.add_argument('--workers', type=int, default=2, metavar='N',
                         help='processes (default: %(default)s)')
    collect.add_argument('--noise', type=float, nargs='+', metavar='S',
                         help='action noise of the tasks named; each episode draws one of these '
                              'strengths, in parts of the largest action (default: 0.1 0.25 0.4)')
    collect.add_argument('--image-size', type=int, default=48, metavar='PIXELS',
                         help="stored height and width; 0 keeps the camera's (default: "
                              '%(default)s)')
    collect.set_defaults(run=lambda chosen: _collect(collect, chosen))


def _task_count(word: str) -> tuple[str, int]:
    task, _, count = word.partition('=')
    if not count.isdigit():
        raise argparse.ArgumentTypeError(f'{word!r} is not of the form TASK=COUNT')
    return task, int(count)


def _collect(parser: argparse.ArgumentParser, chosen) -> None:
    from stable_crl_ros.images import ImageSpec
    if bool(chosen.recipe) == bool(chosen.episodes):
        parser.error('give either TASK=COUNT, once or more, or --recipe NAME')
    if chosen.recipe and chosen.noise:
        parser.error('--noise goes with TASK=COUNT; a recipe has its own')
    size = chosen.image_size
    image_spec = ImageSpec(size, size) if size else None
    (_collect_recipe if chosen.recipe else _collect_tasks)(chosen, image_spec)


def _collect_tasks(chosen, image_spec) -> None:
    from stable_crl_ros.sim.collect import collect, DEFAULT_NOISE
    successes = 0
    with count_up(sum(count for _, count in chosen.episodes), unit='episode') as bar:
        def progress(done: int, succeeded: int) -> None:
            nonlocal successes
            successes += succeeded
            bar.set_postfix(successes=successes, refresh=False)
            bar.update(done)
        collect(chosen.dataset, dict(chosen.episodes), chosen.seed, chosen.workers,
                chosen.noise or DEFAULT_NOISE, image_spec, progress)
        done = bar.n
    print(f'recorded {done} episodes, {successes} successful, in {chosen.dataset}')


def _collect_recipe(chosen, image_spec) -> None:
    from stable_crl_ros.sim.recipes import collect_recipe
    episodes = successes = 0
    with count_up(chosen.transitions, unit='step') as bar:
        def progress(steps: int, recorded: int, succeeded: int) -> None:
            nonlocal episodes, successes
            episodes, successes = episodes + recorded, successes + succeeded
            bar.set_postfix(episodes=episodes, successes=successes, refresh=False)
            bar.update(steps)
        collect_recipe(chosen.dataset, chosen.recipe, chosen.transitions, chosen.seed,
                       chosen.workers, image_spec, progress)
        done = bar.n
    print(f'{chosen.dataset} holds the first {done} transitions of {chosen.recipe} (seed '
          f'{chosen.seed}): {episodes} episodes, {successes} successful')
