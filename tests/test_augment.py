"""Augmentation: same change for all images of a sample, orientation kept, coins as configured."""

import colorsys

from learning_samples import small_config
import numpy as np
import pytest
from stable_crl_ros.crl.augment import augment, jitter, random_crop, resized_crop, shift_colours
from stable_crl_ros.crl.draws import BatchGenerator
import torch


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def random_images(count=16, size=12, seed=0):
    rng = np.random.default_rng(seed)
    return torch.from_numpy(rng.integers(0, 256, (count, size, size + 4, 3), dtype=np.uint8))


def crop_by_hand(image, down, right):
    """Pad by replication, then cut the shifted window."""
    padded = np.pad(image, ((4, 4), (4, 4), (0, 0)), mode='edge')
    return padded[4 + down:4 + down + image.shape[0], 4 + right:4 + right + image.shape[1]]


def find_shift(original, cropped):
    matches = [(down, right) for down in range(-4, 5) for right in range(-4, 5)
               if np.array_equal(crop_by_hand(original, down, right), cropped)]
    assert len(matches) == 1
    return matches[0]


def test_crop_is_a_window_of_the_replicated_image_the_same_for_observation_and_goal():
    observations, goals = random_images(), random_images(seed=1)
    cropped = random_crop([observations, goals], 4, generator())
    shifts = [find_shift(before.numpy(), after.numpy())
              for before, after in zip(observations, cropped[0], strict=True)]
    assert shifts == [find_shift(before.numpy(), after.numpy())
                      for before, after in zip(goals, cropped[1], strict=True)]
    assert len(set(shifts)) > 8  # one draw per sample
    assert {abs(shift) for pair in shifts for shift in pair} <= set(range(5))


def test_crop_reaches_every_shift_evenly():
    # The brightness of a pixel in the middle of a ramp tells the shift.
    ramp = (torch.arange(32)[None, :, None, None] * 8).expand(9000, 32, 4, 3).to(torch.uint8)
    (cropped,) = random_crop([ramp], 4, generator())
    shifts = cropped[:, 16, 0, 0].int() // 8 - 16
    counts = torch.bincount(shifts + 4, minlength=9)
    assert len(counts) == 9
    assert (counts - 1000).abs().max() < 130  # four standard deviations


def test_crop_without_padding_changes_nothing():
    images = random_images()
    assert torch.equal(random_crop([images], 0, generator())[0], images)


@pytest.mark.parametrize('augmentation', ['crop', 'jitter'])
def test_up_stays_up_and_left_stays_left(augmentation):
    image = torch.zeros(1, 24, 24, 3, dtype=torch.uint8)
    image[:, :8, :, 0] = 255  # red above
    image[:, :, :8, 2] = 255  # blue at the left
    config = small_config(augmentation=augmentation, augment_probability=1.0)
    for seed in range(10):
        (changed,) = augment([image], config, generator(seed))
        red, blue = changed[0, :, :, 0].float(), changed[0, :, :, 2].float()
        assert red[2, 20] > red[20, 20] + 60 and abs(red[2, 20] - red[2, 16]) < 60
        assert blue[20, 2] > blue[20, 20] + 60 and abs(blue[20, 2] - blue[16, 2]) < 60


def test_one_coin_per_batch_changes_all_or_none():
    config = small_config(augmentation='crop', augment_probability=0.5, augment_per='batch')
    images = random_images(32)
    draws = generator()
    heads = 0
    for _ in range(400):
        changed = augment([images], config, draws)
        if changed is not None:
            heads += 1
            same = [torch.equal(a, b) for a, b in zip(changed[0], images, strict=True)]
            assert sum(same) <= 4  # one shift in 81 is none
    assert 160 < heads < 240


def test_one_coin_per_sample_changes_some():
    config = small_config(augmentation='crop', augment_probability=0.25, augment_per='sample')
    images = random_images(400)
    goals = random_images(400, seed=1)
    changed = augment([images, goals], config, generator())
    same = [[torch.equal(a, b) for a, b in zip(new, old, strict=True)]
            for new, old in zip(changed, [images, goals], strict=True)]
    assert same[0] == same[1]
    assert 280 < sum(same[0]) < 330


@pytest.mark.parametrize('augmentation', ['crop', 'jitter'])
def test_coins_of_samples_leave_the_random_streams_of_all_ranks_alike(augmentation):
    config = small_config(augmentation=augmentation, augment_probability=0.3,
                          augment_per='sample')
    streams = [BatchGenerator(), BatchGenerator()]
    for rank, stream in enumerate(streams):
        stream.seed_all(0)
        stream.rank, stream.ranks = rank, 2
    untouched = set()
    for _ in range(30):  # of two samples per rank: in half of the batches none is changed
        images = random_images(2)
        for rank, stream in enumerate(streams):
            (changed,) = augment([images], config, stream)
            if torch.equal(changed.float(), images.float()):
                untouched.add(rank)
        assert torch.equal(streams[0].get_state(), streams[1].get_state())
    assert untouched == {0, 1}


@pytest.mark.parametrize('changes', [{'augmentation': 'none'}, {'augment_probability': 0.0}])
def test_no_augmentation_leaves_the_images(changes):
    config = small_config(**{'augmentation': 'crop', 'augment_probability': 1.0, **changes})
    assert augment([random_images()], config, generator()) is None


def test_jitter_is_the_same_for_all_images_of_a_sample_and_differs_between_samples():
    image = random_images(1).expand(8, -1, -1, -1)
    first, second = jitter([image, image], generator())
    assert torch.equal(first, second)
    assert len({tuple(sample.flatten().tolist()) for sample in first}) == 8


def test_jitter_stays_in_range_and_near_the_image():
    smooth = torch.linspace(60, 190, 32)[None, None, :, None].expand(64, 32, 32, 3)
    (changed,) = jitter([smooth], generator())
    assert changed.min() >= 0 and changed.max() <= 255
    assert (changed - smooth).abs().max() < 0.2 * 255 + 0.25 * 130 + 20
    shifts = changed.mean((1, 2, 3)) - smooth.mean((1, 2, 3))
    assert shifts.min() < -25 and shifts.max() > 25  # brightness goes both ways
    assert shifts.abs().max() < 0.2 * 255 + 20


def test_resized_crop_of_the_whole_changes_nothing():
    images = random_images().float()
    whole = [torch.full((16, 1, 1, 1), value) for value in (0.0, 0.0, 1.0, 1.0)]
    torch.testing.assert_close(resized_crop(images, *whole), images, rtol=1e-4, atol=1e-2)


def test_resized_crop_cuts_the_window_asked_for():
    image = torch.zeros(1, 8, 8, 3)
    image[:, 4:, :4] = 1.0  # the lower left quarter
    quarter = [torch.full((1, 1, 1, 1), value) for value in (0.5, 0.0, 0.5, 0.5)]
    inner = resized_crop(image, *quarter)[:, 2:, :6]  # its upper right border is blended
    assert (inner == 1.0).all()


@pytest.mark.parametrize('saturation, hue', [(1.0, 0.0), (1.2, 0.0), (0.8, 0.1), (1.0, -0.1)])
def test_colours_shift_as_in_hsv(saturation, hue):
    colours = torch.rand(50, 1, 1, 3, generator=generator())
    colours[0] = 0.4  # grey
    colours[1], colours[2] = 0.0, 1.0
    full = torch.full((50, 1, 1, 1), 1.0)
    found = shift_colours(colours, full * saturation, full * hue)
    for before, after in zip(colours[:, 0, 0].tolist(), found[:, 0, 0].tolist(), strict=True):
        h, s, v = colorsys.rgb_to_hsv(*before)
        expected = colorsys.hsv_to_rgb((h + hue) % 1.0, min(s * saturation, 1.0), v)
        assert after == pytest.approx(expected, abs=1e-5)
