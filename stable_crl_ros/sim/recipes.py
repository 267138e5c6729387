"""Data sets by name: what is recorded for training, from near-expert to aimless."""

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
import zlib

import numpy as np
from stable_crl_ros.data.dataset import Dataset
from stable_crl_ros.data.episode import Episode
from stable_crl_ros.images import ImageSpec
from stable_crl_ros.parallel import spread
from stable_crl_ros.sim import scenes
from stable_crl_ros.sim.appearance import sample_appearance
from stable_crl_ros.sim.behaviours import PlayingActor, WaveringActor
from stable_crl_ros.sim.demonstrators import make_demonstrator
from stable_crl_ros.sim.env import WidowXEnv
from stable_crl_ros.sim.recording import record_episode, Script
from stable_crl_ros.sim.tasks import task_named, TASKS

SHARE = 500  # steps a worker records before it reports, in whole episodes

# Shares of the episodes. Drawer tasks are learned from little, block tasks from much (a picture
# shows the block on a dozen pixels), and the tasks of two stages need most; pick_place also
# teaches the grasp that place_in_drawer begins with.
MIX = {'open_drawer': 0.11, 'close_drawer': 0.07, 'move_drawer': 0.07, 'push_block': 0.20,
       'pick_place': 0.25, 'place_in_drawer': 0.15, 'push_then_open': 0.15}
STITCH_MIX = {'push_aside': 0.18, 'open_with_block_aside': 0.14, 'open_drawer': 0.06,
              'close_drawer': 0.06, 'move_drawer': 0.06, 'push_block': 0.15, 'pick_place': 0.20,
              'place_in_drawer': 0.15}
EXPERT_NOISE = (0.1, 0.25, 0.4)
MIXED_NOISE = (0.4, 0.6, 1.0)
PLAY_NOISE = (0.1, 0.25)
PLAY_STEPS = (400, 600)


class RecipeError(ValueError):
    """A recording that cannot be made as asked."""


@dataclass(frozen=True)
class Recipe:
    """
    One way to make data.

    :param draw: draws an episode; all that is random in it comes from the generator.
    :param description: what the episodes are like.
    """

    name: str
    description: str
    draw: Callable[[np.random.Generator], Script]


def _demonstration(
    rng: np.random.Generator, name: str, sample_start: Callable | None = None,
    sample_goal: Callable | None = None, **attributes,
) -> Script:
    """Draw a noisy demonstration of one task, in its own scenes unless others are given."""
    task = task_named(name)
    start = (sample_start or task.sample_start)(rng)
    goal = (sample_goal or task.sample_goal)(rng, start)
    noise = float(rng.choice(EXPERT_NOISE))
    return Script(name, start, goal, make_demonstrator(task, goal, rng, noise), task.max_steps,
                  int(rng.integers(2**31)), {'noise': noise, **attributes})


def draw_expert(rng: np.random.Generator) -> Script:
    """Draw a noisy demonstration of any task."""
    return _demonstration(rng, str(rng.choice(list(MIX), p=list(MIX.values()))))


def draw_varied(rng: np.random.Generator) -> Script:
    """Draw a demonstration in a scene that looks different every time."""
    script = draw_expert(rng)
    look = sample_appearance(rng, 'seen')
    return replace(script, appearance=look,
                   attributes={**script.attributes, 'appearance': look.to_dict()})


def draw_mixed(rng: np.random.Generator) -> Script:
    """Draw an episode that is begun with a task and mostly does not finish it."""
    script = draw_expert(rng)
    task, goal = TASKS[script.task], script.goal
    keen = float(rng.uniform(0.0, 0.65))
    actor = WaveringActor(lambda noise: make_demonstrator(task, goal, rng, noise), goal, rng,
                          keen, MIXED_NOISE)
    return Script(script.task, script.start, goal, actor, script.steps, script.seed,
                  {'keen': keen})


def draw_stitch(rng: np.random.Generator) -> Script:
    """
    Draw a demonstration of one stage.

    A block in front of the drawer is only pushed aside; a drawer is opened only where the block
    stands aside already, or anywhere on the table.
    """
    name = str(rng.choice(list(STITCH_MIX), p=list(STITCH_MIX.values())))
    if name == 'push_aside':
        return _demonstration(rng, 'push_block', scenes.start_blocked, scenes.goal_aside,
                              stage='push')
    if name == 'open_with_block_aside':
        return _demonstration(rng, 'open_drawer', scenes.start_unblocked, stage='open')
    return _demonstration(rng, name)


def draw_play(rng: np.random.Generator) -> Script:
    """Draw a long sequence in which every goal is drawn from where the last one ended."""
    task = TASKS[str(rng.choice(list(MIX)))]
    start = task.sample_start(rng)
    return Script(task.name, start, None, PlayingActor(rng, PLAY_NOISE),
                  int(rng.integers(*PLAY_STEPS)), int(rng.integers(2**31)))


RECIPES = {recipe.name: recipe for recipe in (
    Recipe('expert', 'noisy demonstrations of all tasks', draw_expert),
    Recipe('mixed', 'skills begun, aborted and confused, and aimless motion', draw_mixed),
    Recipe('stitch', 'demonstrations of single stages; no episode has both', draw_stitch),
    Recipe('play', 'long sequences of self-chosen goals without resets', draw_play),
    Recipe('varied', 'noisy demonstrations under many appearances', draw_varied),
)}


def make_script(recipe: str, seed: int, index: int) -> Script:
    """
    Draw the episode number `index` of a recipe: the same, however many are recorded.

    :raises RecipeError: for an unknown recipe, or a negative seed.
    """
    if recipe not in RECIPES:
        raise RecipeError(f'no recipe {recipe!r}; choose one of {sorted(RECIPES)}')
    if seed < 0:
        raise RecipeError(f'seed {seed} is negative; give 0 or more')
    rng = np.random.default_rng([zlib.crc32(recipe.encode()), seed, index])
    script = RECIPES[recipe].draw(rng)
    script.attributes.update({'recipe': recipe, 'seed': seed, 'seed_index': index})
    return script


def plan_steps(recipe: str, transitions: int, seed: int = 0) -> list[int]:
    """
    Give the lengths of the first episodes, in steps, that together have so many transitions.

    :raises RecipeError: as `make_script`, or for less than one transition.
    """
    if transitions < 1:
        raise RecipeError(f'{transitions} transitions: give 1 or more')
    steps: list[int] = []
    while sum(steps) < transitions:
        steps.append(make_script(recipe, seed, len(steps)).steps)
    return steps


def collect_recipe(
    path: str | Path, recipe: str, transitions: int, seed: int = 0, workers: int = 2,
    image_spec: ImageSpec | None = ImageSpec(),  # noqa: B008
    progress: Callable[[int, int, int], None] = lambda transitions, episodes, successes: None,
) -> Dataset:
    """
    Record the first episodes of a recipe; those that are there already stay.

    Episode n of the dataset is episode n of the recipe, so a smaller recording is the beginning
    of a larger one, and a recording that was interrupted goes on with the same call.

    :param path: a directory for this recipe and seed alone.
    :param transitions: steps to record, rounded up to whole episodes.
    :param image_spec: images are stored as the learner sees them; None stores full size.
    :param progress: called with the transitions, episodes and successes just recorded; first
        with those that were there.
    :raises RecipeError: for values that make no sense, or a directory that holds something else.
    """
    if workers < 1:
        raise RecipeError(f'{workers} workers: give 1 or more')
    steps = plan_steps(recipe, transitions, seed)
    dataset = Dataset(path, create=True)
    with dataset.lock():  # for the workers, who record under the numbers reserved here
        there = _recorded(dataset, recipe, seed, image_spec)
        _clear_unfinished(dataset)
        done = [number for number in range(len(steps)) if number in there]
        missing = [number for number in range(len(steps)) if number not in there]
        progress(sum(steps[number] for number in done), len(done),
                 sum(there[number] for number in done))
        shares = _shares(missing, steps)
        calls = [(Path(path), recipe, seed, share, image_spec) for share in shares]
        dataset.reserve(missing)
        try:
            with closing(spread(record_share, calls, workers)) as results:
                for share, successes in zip(shares, results, strict=True):
                    progress(sum(steps[number] for number in share), len(share), successes)
        finally:
            dataset.release_ids(missing)
    return dataset


def _shares(numbers: list[int], steps: list[int]) -> list[list[int]]:
    shares, size = [], SHARE
    for number in numbers:
        if size >= SHARE:
            shares.append([])
            size = 0
        shares[-1].append(number)
        size += steps[number]
    return shares


def record_share(path: Path, recipe: str, seed: int, share: list[int],
                 image_spec: ImageSpec | None) -> int:
    """Record some episodes in this process; return how many succeeded."""
    dataset = Dataset(path)
    with closing(WidowXEnv()) as env:
        return sum(bool(record_episode(dataset, env, make_script(recipe, seed, number), number,
                                       image_spec)) for number in share)


def _recorded(dataset: Dataset, recipe: str, seed: int,
              image_spec: ImageSpec | None) -> dict[int, bool]:
    """Return the numbers of the episodes that are there, and whether each succeeded."""
    found = {}
    wanted = {'recipe': recipe, 'seed': seed,
              'image_spec': image_spec and image_spec.to_dict()}
    for number in dataset.ids:
        attributes = Episode(dataset.episode_path(number)).attrs
        made = {name: attributes.get(name) for name in wanted}
        if made != wanted or attributes.get('seed_index') != number:
            raise RecipeError(f'{dataset.path} holds something else: its episode {number} has '
                              f'{made}, wanted is {wanted}; give a directory of its own')
        found[number] = bool(attributes['success'])
    return found


def _clear_unfinished(dataset: Dataset) -> None:
    """Remove what an interrupted recording left: its episodes are recorded anew, and whole."""
    for journal in dataset.unsealed():
        if journal.state == 'recording':
            raise RecipeError(f'{journal.path} is being recorded by another process; let it end')
        journal.path.unlink(missing_ok=True)
