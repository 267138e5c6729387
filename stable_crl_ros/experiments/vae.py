"""A small variational autoencoder: what reconstruction alone makes of the same pictures."""

from collections.abc import Callable

import numpy as np
from stable_crl_ros.images import ImageSpec
import torch
from torch import nn, Tensor
import torch.nn.functional as F  # noqa: N812 the name every PyTorch user knows

VAE_SPEC = ImageSpec(48, 48)
CHANNELS = (32, 64, 64)
BATCH = 64
LEARNING_RATE = 1e-3
# Standard deviation of a pixel (0..1) given its latent: 0.1 keeps the drawer, a few pixels of
# the picture, worth encoding; at 1 the latent says little more than the mean picture.
PIXEL_STD = 0.1


class VAE(nn.Module):
    """
    Three strided convolutions to a Gaussian latent, and back.

    :param latent: numbers of the representation.
    """

    def __init__(self, latent: int) -> None:
        super().__init__()
        self.size = latent
        a, b, c = CHANNELS
        self.encoder = nn.Sequential(
            nn.Conv2d(3, a, 4, 2, 1), nn.ReLU(), nn.Conv2d(a, b, 4, 2, 1), nn.ReLU(),
            nn.Conv2d(b, c, 4, 2, 1), nn.ReLU(), nn.Flatten())
        side = VAE_SPEC.height // 8
        self.latent = nn.Linear(c * side * side, 2 * latent)
        self.decoder = nn.Sequential(
            nn.Linear(latent, c * side * side), nn.ReLU(), nn.Unflatten(1, (c, side, side)),
            nn.ConvTranspose2d(c, b, 4, 2, 1), nn.ReLU(), nn.ConvTranspose2d(b, a, 4, 2, 1),
            nn.ReLU(), nn.ConvTranspose2d(a, 3, 4, 2, 1), nn.Sigmoid())

    def encode(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Map images (B, 3, H, W) in 0..1 to mean and log variance, each (B, latent)."""
        return self.latent(self.encoder(images)).chunk(2, dim=1)

    def loss(self, images: Tensor) -> Tensor:
        """Give the negative evidence bound per image: squared error and divergence."""
        mean, log_variance = self.encode(images)
        latent = mean + torch.exp(log_variance / 2) * torch.randn_like(mean)
        wrong = F.mse_loss(self.decoder(latent), images, reduction='sum') / (2 * PIXEL_STD**2)
        divergence = (mean.square() + log_variance.exp() - log_variance - 1).sum() / 2
        return (wrong + divergence) / len(images)

    @torch.inference_mode()
    def represent(self, images: np.ndarray) -> np.ndarray:
        """Give the latent means of uint8 pictures (B, H, W, 3): (B, latent)."""
        return torch.cat([self.encode(_pixels(images[i:i + 256]))[0]
                          for i in range(0, len(images), 256)]).numpy()

    @torch.inference_mode()
    def reconstruction_error(self, images: np.ndarray) -> float:
        """Give the root mean squared error of pixels, 0..255."""
        errors = []
        for start in range(0, len(images), 256):
            pixels = _pixels(images[start:start + 256])
            errors.append((self.decoder(self.encode(pixels)[0]) - pixels).square())
        return float(255 * torch.cat(errors).mean().sqrt())


def train_vae(images: np.ndarray, latent: int, steps: int, seed: int = 0,
              progress: Callable[[int], None] = lambda steps: None) -> VAE:
    """
    Train on pictures; the same arguments give the same network.

    :param images: uint8 (N, 48, 48, 3).
    :param progress: called with how many steps were just taken.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        vae = VAE(latent)
        optimiser = torch.optim.Adam(vae.parameters(), LEARNING_RATE, fused=True)
        rng = np.random.default_rng(seed)
        for _ in range(steps):
            loss = vae.loss(_pixels(images[rng.integers(0, len(images), BATCH)]))
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
            progress(1)
    return vae.requires_grad_(False)


def _pixels(images: np.ndarray) -> Tensor:
    return torch.tensor(images).permute(0, 3, 1, 2).float() / 255
