"""How the scene looks: what each split draws, and that only looks change."""

import colorsys
import math

import numpy as np
import pytest
from stable_crl_ros import SHIPPED_GOALS
from stable_crl_ros.images import ImageSpec, read_image
from stable_crl_ros.sim.appearance import (
    Appearance,
    AppearanceError,
    RANGES,
    sample_appearance,
)
from stable_crl_ros.sim.env import EnvError, WidowXEnv
from stable_crl_ros.sim.tasks import task_named
from stable_crl_ros.sim.world import World, WorldState

COLOURS = ('drawer', 'block', 'table')


@pytest.fixture(scope='module')
def world():
    with World() as shared:
        yield shared


def looks(split, count=200):
    rng = np.random.default_rng(1)
    return [sample_appearance(rng, split) for _ in range(count)]


def hue(appearance, name):
    return colorsys.rgb_to_hsv(*getattr(appearance, name))[0]


def within(value, intervals, turn=math.inf):
    """Say whether a value, or the same one turn further, lies in an interval."""
    return any(low - 1e-9 <= shifted <= high + 1e-9
               for low, high in intervals for shifted in (value, value + turn))


@pytest.mark.parametrize('split', RANGES)
def test_what_a_split_draws_stays_in_its_ranges_and_fills_them(split):
    ranges, drawn = RANGES[split], looks(split)
    for name in COLOURS:
        assert all(within(hue(look, name), getattr(ranges, f'{name}_hue'), 1.0)
                   for look in drawn)
        assert len({getattr(look, name) for look in drawn}) == len(drawn)
    yaws = [look.camera_yaw for look in drawn]
    assert all(within(yaw, ranges.camera_yaw) for yaw in yaws)
    assert min(yaws) < -0.1 and max(yaws) > 0.1


def test_unseen_looks_are_never_within_what_seen_draws():
    seen = RANGES['seen']
    for look in looks('unseen'):
        assert not within(look.camera_yaw, seen.camera_yaw)
        assert not within(look.camera_pitch, seen.camera_pitch)
        for name in COLOURS:
            assert not within(hue(look, name), getattr(seen, f'{name}_hue'), 1.0)


def test_nominal_is_what_the_shipped_pictures_show_to_the_bit(world):
    task, rng = task_named('open_drawer'), np.random.default_rng(0)
    goal = task.sample_goal(rng, task.sample_start(rng)).with_drawer(0.06)
    shipped = read_image(SHIPPED_GOALS / 'drawer_half_open.png')
    world.reset(goal)
    np.testing.assert_array_equal(world.render(), shipped)
    for look in (looks('unseen', 1)[0], sample_appearance(rng, 'nominal')):
        world.set_appearance(look)
    np.testing.assert_array_equal(world.render(), shipped)


@pytest.mark.parametrize('change', [
    {'camera_yaw': 0.1}, {'camera_pitch': -0.1}, {'camera_shift': (0.0, 0.02, 0.0)},
    {'drawer': (0.1, 0.7, 0.2)}, {'block': (0.9, 0.1, 0.8)}, {'table': (0.4, 0.4, 0.6)}])
def test_every_part_of_an_appearance_shows_and_moves_nothing(world, change):
    state = WorldState(drawer=0.06, block=(0.25, 0.12, 0.015))
    pictures = []
    for look in (Appearance(), Appearance(**change)):
        world.set_appearance(look)
        world.reset(state)
        world.advance(0.2)
        pictures.append(ImageSpec().resize(world.render()).astype(int))
        assert world.snapshot().drawer == pytest.approx(0.06, abs=1e-4)
    world.set_appearance(Appearance())
    assert (np.abs(pictures[0] - pictures[1]).max(axis=2) > 30).sum() >= 8


@pytest.mark.parametrize('split', RANGES)
def test_the_camera_of_every_look_sees_the_block_and_the_drawer(world, split):
    places = [(0.20, 0.10, 0.015), (0.33, 0.165, 0.015), (0.25, 0.0, 0.015)]
    for look in looks(split, 6):
        world.set_appearance(look)
        for place in places:
            pictures = []
            for block in (place, (0.28, 0.45, 0.015)):
                world.reset(WorldState(block=block))
                pictures.append(ImageSpec().resize(world.render()).astype(int))
            assert (np.abs(pictures[0] - pictures[1]).max(axis=2) > 30).sum() >= 4
    world.set_appearance(Appearance())


def test_an_environment_draws_looks_but_the_scenes_of_the_nominal_one():
    plain, varied = WidowXEnv(), WidowXEnv(appearance='seen')
    first, _ = plain.reset(seed=3)
    other, _ = varied.reset(seed=3)
    assert (varied.start, varied.goal) == (plain.start, plain.goal)
    assert varied.appearance != plain.appearance == Appearance()
    assert (other['image'] != first['image']).any()
    assert (other['goal_image'] != first['goal_image']).any()
    again, _ = varied.reset(seed=3, options={'appearance': Appearance()})
    np.testing.assert_array_equal(again['goal_image'], first['goal_image'])
    repeated, _ = varied.reset(seed=3)
    np.testing.assert_array_equal(repeated['image'], other['image'])
    plain.close()
    varied.close()


def test_refuses_what_is_no_look():
    with pytest.raises(AppearanceError, match='unseen'):
        sample_appearance(np.random.default_rng(0), 'odd')
    with pytest.raises(AppearanceError, match='nominal'):
        WidowXEnv(appearance='odd')
    with pytest.raises(AppearanceError, match='finite'):
        Appearance(camera_yaw=math.nan)
    with pytest.raises(AppearanceError, match='block'):
        Appearance(block=(0.1, 1.2, 0.0))
    environment = WidowXEnv(size=(24, 32))
    with pytest.raises(EnvError, match='appearance'):
        environment.reset(options={'look': Appearance()})
    environment.close()
