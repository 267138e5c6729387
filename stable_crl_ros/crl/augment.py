"""Image augmentation: random crops, and resized crops with colour jitter, without torchvision."""

from collections.abc import Sequence

from stable_crl_ros.crl.config import AgentConfig
from stable_crl_ros.crl.draws import coins_of, rand, randint
import torch
from torch import Tensor
import torch.nn.functional as F  # noqa: N812 the name every PyTorch user knows

# Ranges of the authors' configuration for BridgeData V2.
JITTER_AREA, JITTER_RATIO = (0.8, 1.0), (0.9, 1.1)
JITTER_BRIGHTNESS, JITTER_HUE = 0.2, 0.1
JITTER_CONTRAST, JITTER_SATURATION = (0.8, 1.2), (0.8, 1.2)


def augment(images: Sequence[Tensor], config: AgentConfig,
            generator: torch.Generator) -> list[Tensor] | None:
    """
    Augment the images of a batch; those of one sample are all changed alike.

    :param images: such as observations and goals, each uint8 (B, H, W, 3).
    :param generator: draws on its device; the coin of a whole batch is drawn on the CPU.
    :returns: images 0..255 of the same shapes, or None where the coin left all as they are.
    """
    if config.augmentation == 'none':
        return None
    whole = config.augment_per == 'batch'
    chosen = torch.rand(1, generator=coins_of(generator)) if whole \
        else rand((len(images[0]),), generator)
    chosen = chosen < config.augment_probability
    if whole and not chosen.any():
        return None  # one sample's coins must not decide what is drawn: other ranks draw, too
    if config.augmentation == 'crop':
        changed = random_crop(images, config.crop_padding, generator)
    else:
        changed = jitter(images, generator)
    # Reading a device's numbers would wait for all that it has still to do.
    if chosen.device.type == 'cpu' and chosen.all():
        return changed
    mask = chosen.to(images[0].device)[:, None, None, None]
    return [torch.where(mask, new, old) for new, old in zip(changed, images, strict=True)]


def random_crop(images: Sequence[Tensor], padding: int,
                generator: torch.Generator) -> list[Tensor]:
    """
    Shift each sample by up to `padding` pixels along both axes, replicating its border.

    :param images: each (B, H, W, 3); one shift per sample, the same in all of them.
    """
    size, height, width = images[0].shape[:3]
    device = images[0].device
    shifts = randint(-padding, padding + 1, (2, size, 1), generator, axis=1).to(device)
    rows = (torch.arange(height, device=device) + shifts[0]).clamp(0, height - 1)  # (B, H)
    columns = (torch.arange(width, device=device) + shifts[1]).clamp(0, width - 1)  # (B, W)
    index = (torch.arange(size, device=device)[:, None, None],
             rows[:, :, None], columns[:, None, :])
    return [batch[index] for batch in images]


def jitter(images: Sequence[Tensor], generator: torch.Generator) -> list[Tensor]:
    """
    Crop and resize each sample, then change brightness, contrast, saturation and hue.

    :param images: each (B, H, W, 3), 0..255; one draw per sample, the same in all of them.
    :returns: float32, 0..255.
    """
    size, device = len(images[0]), images[0].device

    def uniform(low: float, high: float) -> Tensor:
        draw = rand((size,), generator) * (high - low) + low
        return draw.to(device)[:, None, None, None]

    area, ratio = uniform(*JITTER_AREA), uniform(*JITTER_RATIO)
    height = (area / ratio).sqrt().clamp(max=1.0)  # as a fraction of the image
    width = (area * ratio).sqrt().clamp(max=1.0)
    top, left = uniform(0, 1) * (1 - height), uniform(0, 1) * (1 - width)
    brightness = uniform(-JITTER_BRIGHTNESS, JITTER_BRIGHTNESS)
    contrast, saturation = uniform(*JITTER_CONTRAST), uniform(*JITTER_SATURATION)
    hue = uniform(-JITTER_HUE, JITTER_HUE)
    changed = []
    for batch in images:
        x = resized_crop(batch.float() / 255.0, top, left, height, width)
        x = (x + brightness).clamp(0, 1)
        mean = x.mean((1, 2), keepdim=True)  # per image and channel
        x = ((x - mean) * contrast + mean).clamp(0, 1)
        changed.append(shift_colours(x, saturation, hue) * 255.0)
    return changed


def resized_crop(images: Tensor, top: Tensor, left: Tensor, height: Tensor,
                 width: Tensor) -> Tensor:
    """
    Cut a window out of each image and resize it to the full size, bilinearly.

    :param images: shape (B, H, W, 3).
    :param top: of the window, as a fraction of H, shape (B, 1, 1, 1); so are the others.
    """
    centre_x, centre_y = 2 * left + width - 1, 2 * top + height - 1  # in -1..1
    zero = torch.zeros_like(width)
    affine = torch.cat([torch.cat([width, zero, centre_x], 3),
                        torch.cat([zero, height, centre_y], 3)], 2)[:, 0]  # (B, 2, 3)
    grid = F.affine_grid(affine, (len(images), 3, *images.shape[1:3]), align_corners=False)
    resized = F.grid_sample(images.permute(0, 3, 1, 2), grid, mode='bilinear',
                            padding_mode='border', align_corners=False)
    return resized.permute(0, 2, 3, 1)


def shift_colours(images: Tensor, saturation: Tensor, hue: Tensor) -> Tensor:
    """
    Scale the saturation and turn the hue in HSV space.

    :param images: shape (B, H, W, 3), 0..1.
    :param saturation: factor, shape (B, 1, 1, 1).
    :param hue: fraction of the whole circle, shape (B, 1, 1, 1).
    """
    value, strongest = images.max(-1, keepdim=True)
    chroma = value - images.min(-1, keepdim=True).values
    red, green, blue = images.split(1, -1)
    safe = chroma.clamp(min=1e-8)
    sixths = torch.where(strongest == 0, (green - blue) / safe, torch.where(
        strongest == 1, 2 + (blue - red) / safe, 4 + (red - green) / safe))
    chroma = torch.minimum(chroma * saturation, value)
    offsets = torch.arange(5.0, 0.0, -2.0, device=images.device)  # made there: no wait
    k = (offsets + sixths + 6 * hue) % 6
    return value - chroma * torch.minimum(k, 4 - k).clamp(0, 1)
