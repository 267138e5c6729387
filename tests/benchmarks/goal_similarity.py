#!/usr/bin/env python3
"""Measure how well the comparison of goal and view tells the same camera from another one."""

import argparse
from collections.abc import Iterator
from dataclasses import replace
from itertools import permutations
import math
from pathlib import Path
import time

import cv2
import numpy as np
from stable_crl_ros import SHIPPED_GOALS
from stable_crl_ros.goal_match import compare_views, ViewMatch
from stable_crl_ros.images import read_image
from stable_crl_ros.sim.appearance import Appearance, sample_appearance
from stable_crl_ros.sim.tasks import task_named, TASKS
from stable_crl_ros.sim.world import World

Pair = tuple[np.ndarray, np.ndarray]  # goal, view
ROLLOUTS = ('act_fail', 'act_success', 'crl_success')
# Both are the same sink or kitchen, seen from nearly the same place: neither same nor other.
RELATED = {'toykitchen', 'realkitchen', 'toysink', 'bridge_real'}
MARGIN = 40  # pixels of 320 cut away on every side where the view is shifted
SHIFTS = (0.0, 0.02, 0.04, 0.06)  # of the width
GAINS = (0.7, 0.85, 1.2, 1.4)
ORBITS = (1, 2, 4, 6, 8, 10, 15)  # degrees by which the camera goes around the scene


def frames(folder: Path, step: int = 1) -> list[np.ndarray]:
    """Return every step-th picture of a recording."""
    return [read_image(path) for path in sorted(folder.glob('im_*.jpg'))[::step]]


def real_same(data: Path) -> Iterator[tuple[str, list[Pair]]]:
    """Give pairs of one camera that was not moved, the arm and the objects elsewhere."""
    drawer = data / 'bridge_v2_drawer_eval_video'
    goal, rollouts = read_image(drawer / 'goal.jpg'), [frames(drawer / r, 4) for r in ROLLOUTS]
    yield 'real drawer: goal photograph, 3 rollouts', [
        (goal, view) for rollout in rollouts for view in rollout]
    yield 'real drawer: one rollout, another', [
        (a, b) for first, second in permutations(rollouts, 2)
        for a in first[::4] for b in second[::4]]
    auto = [read_image(data / f'auto_eval_drawer/goal_{verb}_the_drawer.png')
            for verb in ('open', 'close')]
    yield 'real drawer (AutoEval): open, closed', [tuple(auto), tuple(auto[::-1])]
    yield 'real scenes: last frame, earlier ones', [
        (films[-1], view) for films in scenes(data).values() for view in films[:-1:3]]
    yield 'real sink (64 px): last frame, first', [
        (views[9], views[0]) for views in sinks(data)]


def scenes(data: Path) -> dict[str, list[np.ndarray]]:
    """Return the recordings of different scenes by name."""
    folders = [path for name in ('bridge_trajectories_video', 'simpler_bridge_real_video')
               for path in sorted((data / name).iterdir()) if path.is_dir()]
    return {folder.name: frames(folder) for folder in folders}


def sinks(data: Path) -> list[list[np.ndarray]]:
    """Return 18 recordings by 3 cameras, those of one camera one after another."""
    return [[read_image(episode / f'images{camera}/im_{step}.jpg') for step in range(10)]
            for camera in range(3)
            for episode in sorted((data / 'bridge_v1_octo').glob('episode_*'))]


def real_other(data: Path) -> Iterator[tuple[str, list[Pair]]]:
    """Give pairs of different cameras or scenes."""
    films = scenes(data)
    drawer = read_image(data / 'bridge_v2_drawer_eval_video/goal.jpg')
    kin = {pair: all(any(word in name for word in RELATED) for name in pair)
           for pair in permutations(films, 2)}
    yield 'real: two scenes', [
        *((films[a][-1], films[b][-1]) for (a, b), same in kin.items() if not same),
        *((drawer, views[-1]) for views in films.values()),
        *((views[-1], drawer) for views in films.values())]
    yield 'real: two toy kitchens or sinks', [
        (films[a][-1], films[b][-1]) for (a, b), same in kin.items() if same]
    views = sinks(data)
    yield 'real sink: one camera, another', [
        (views[a * 18 + e][9], views[b * 18 + e][9])
        for a, b in permutations(range(3), 2) for e in range(18)]


def simulated(count: int) -> Iterator[tuple[str, list[Pair]]]:
    """Give shipped goals with views of the simulator, all of random tasks, arms and objects."""
    rng = np.random.default_rng(0)
    goals = [read_image(path) for path in sorted(SHIPPED_GOALS.glob('*.png'))]
    looks = {
        'sim: shipped goals, same camera': Appearance,
        'sim: colours of `unseen`': lambda: replace(
            Appearance(), **{name: getattr(sample_appearance(rng, 'unseen'), name)
                             for name in ('drawer', 'block', 'table')}),
        'sim: `seen` (camera to 10 degrees off)': lambda: sample_appearance(rng, 'seen'),
        'sim: `unseen` (camera 12 to 17 degrees off)': lambda: sample_appearance(rng, 'unseen')}
    with World() as world:
        for name, look in looks.items():
            pairs = []
            for number in range(count):
                world.set_appearance(look())
                world.reset(scene(rng))
                pairs.append((goals[number % len(goals)], world.render()))
            yield name, pairs


def orbits(count: int) -> Iterator[tuple[str, list[Pair]]]:
    """Give shipped goals with views of a camera that still looks at the scene's middle."""
    rng = np.random.default_rng(2)
    goals = [read_image(path) for path in sorted(SHIPPED_GOALS.glob('*.png'))]
    with World() as world:
        for degrees in ORBITS:
            pairs = []
            for number in range(count):
                world.set_appearance(Appearance(camera_yaw=math.radians(degrees)))
                world.reset(scene(rng))
                pairs.append((goals[number % len(goals)], world.render()))
            yield f'sim: camera gone around by {degrees} degrees', pairs


def scene(rng: np.random.Generator):
    """Draw what the simulator may show in the middle of any task."""
    task = task_named(list(TASKS)[rng.integers(len(TASKS))])
    start = task.sample_start(rng)
    state = task.sample_goal(rng, start) if rng.random() < 0.5 else start
    return replace(state, gripper=float(rng.uniform()),
                   joints=tuple(np.array(state.joints) + rng.uniform(-0.25, 0.25, 6)))


def held_out(data: Path) -> str:
    """
    Choose the background's limit on all scenes but one, and try it on that one; for every scene.

    The limit is the middle of those that err least, both kinds of errors counting alike.
    """
    films = scenes(data) | {
        'drawer': [view for name in ROLLOUTS
                   for view in frames(data / 'bridge_v2_drawer_eval_video' / name, 12)]}
    found = [((name,), True, compare_views(views[-1], view).background)
             for name, views in films.items() for view in views[:-1:3]]
    found += [(pair, False, compare_views(films[pair[0]][-1], films[pair[1]][-1]).background)
              for pair in permutations(films, 2)
              if not all(any(word in name for word in RELATED) for name in pair)]
    limits, wrong = [], {True: [], False: []}
    for name in films:
        limits.append(least_wrong([(same, share) for names, same, share in found
                                   if name not in names]))
        for names, same, share in found:
            if names[0] == name:
                wrong[same].append((share < limits[-1]) == same)
    same, other = (f'{sum(errors)} of {len(errors)}' for errors in wrong.values())
    return (f'limits {min(limits):.2f} .. {max(limits):.2f}; wrong on the scene left out: '
            f'{same} pairs of one scene, {other} of two')


def least_wrong(found: list[tuple[bool, float]]) -> float:
    """Return the limit that errs least on shares of pairs of one scene (True) and of two."""
    same, other = (np.array([share for kind, share in found if kind is wanted])
                   for wanted in (True, False))
    limits = np.linspace(0.0, 1.0, 1001)
    errors = (same < limits[:, None]).mean(axis=1) + (other >= limits[:, None]).mean(axis=1)
    return float(limits[errors == errors.min()].mean())


def line(name: str, matches: list[ViewMatch]) -> str:
    """Return a line of the table."""
    def spread(values, low, high, scale=1.0):
        return '/'.join(f'{scale * value:.2f}' for value in np.percentile(values, [low, 50, high]))
    shifts = [100 * math.hypot(*match.shift) / match.width for match in matches]
    lights = [match.brightness for match in matches]
    colours = [ratio for match in matches for ratio in (match.red, match.blue)]
    kinds = [match.differences() for match in matches]
    warned = ' '.join(f'{np.mean([kind in found for found in kinds]):6.1%}'
                      for kind in ('background', 'shift', 'brightness', 'colour'))
    return (f'{name:43} {len(matches):4} {spread([m.background for m in matches], 0, 100)}  '
            f'{np.percentile(shifts, 95):5.2f} {max(shifts):6.2f}  {spread(lights, 2.5, 97.5)}  '
            f'{spread(colours, 2.5, 97.5)}  {warned}')


def bumped(pairs: list[Pair], share: float, rng: np.random.Generator) -> tuple[str, list]:
    """
    Shift the view of every pair by a known amount in a random direction.

    :returns: a line on the errors of what was measured, and the comparisons.
    """
    errors, matches = [], []
    for goal, view in pairs:
        goal, view = (cv2.resize(image, (320, round(320 * view.shape[0] / view.shape[1])),
                                 interpolation=cv2.INTER_AREA) for image in (goal, view))
        height, width = view.shape[0] - 2 * MARGIN, view.shape[1] - 2 * MARGIN
        angle = rng.uniform(0, 2 * math.pi)
        right, down = (round(share * width * way) for way in (math.cos(angle), math.sin(angle)))
        match = compare_views(
            goal[MARGIN:MARGIN + height, MARGIN:MARGIN + width],
            view[MARGIN - down:MARGIN - down + height, MARGIN - right:MARGIN - right + width])
        matches.append(match)
        errors.append(math.hypot(match.shift[0] - right, match.shift[1] - down) / width * 100)
    found = np.mean([bool(match.differences().keys() & {'shift', 'background'})
                     for match in matches])
    return (f'{100 * share:4.0f} % {len(pairs):4}  {np.median(errors):5.2f} '
            f'{np.percentile(errors, 95):5.2f} {max(errors):6.2f} {found:6.1%}'), matches


def relit(pairs: list[Pair], gain: np.ndarray) -> list[ViewMatch]:
    """Compare after multiplying the view's colours; what is above 255 is cut off."""
    return [compare_views(goal, (view * gain).clip(0, 255).astype(np.uint8))
            for goal, view in pairs]


def main() -> int:
    """Measure every set and print a line for each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--data', type=Path, default=Path('../shared/data/widowx_real'))
    parser.add_argument('--count', type=int, default=200, help='simulated views of each kind')
    options = parser.parse_args()
    cv2.setNumThreads(1)
    sets = dict(simulated(options.count))
    if options.data.is_dir():
        sets |= dict(real_same(options.data)) | dict(real_other(options.data))
    else:
        print(f'no real photographs in {options.data}: simulation alone')
    print('background: share found, least/median/most; shift: 95th percentile and most, % of the '
          'width;\nbrightness and colour: ratios, 2.5th/50th/97.5th percentile; then the shares '
          'of pairs warned of\n')
    print(f'{"pairs":43} {"N":>4} {"background":14} {"shift 95, max":13} {"brightness":15} '
          f'{"colour":15} backgr. shift bright. colour')
    start, compared = time.perf_counter(), sum(map(len, sets.values()))
    for name, pairs in sets.items():
        print(line(name, [compare_views(*pair) for pair in pairs]), flush=True)
    print(f'\none comparison: {1e3 * (time.perf_counter() - start) / compared:.1f} ms')
    if options.data.is_dir():
        print(f"\nthe background's limit, chosen without one scene: {held_out(options.data)}")
    unmoved = [pair for name, pairs in sets.items() for pair in pairs[:60]
               if name.startswith(('real drawer: goal', 'real scenes', 'sim: shipped'))]
    print('\nviews shifted by a known amount (% of the width): error median, 95th percentile, '
          'most (%); warned of')
    for share in SHIFTS:
        print(bumped(unmoved, share, np.random.default_rng(1))[0], flush=True)
    print()
    for name, pairs in orbits(options.count // 4):
        print(line(name, [compare_views(*pair) for pair in pairs]), flush=True)
    print('\nviews made brighter or darker, or redder: warned of')
    for gain in GAINS:
        for what, by in (('all', np.full(3, gain)), ('red', np.array([gain, 1.0, 1.0]))):
            kinds = [match.differences() for match in relit(unmoved, by)]
            warned = {kind: f'{np.mean([kind in found for found in kinds]):.1%}'
                      for kind in ('background', 'shift', 'brightness', 'colour')}
            print(f'{what} x {gain:4}: {warned}', flush=True)
    return 0


if __name__ == '__main__':
    raise SystemExit(main())
