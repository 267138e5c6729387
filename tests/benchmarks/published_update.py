"""The published update of the trainer, transcribed plainly; only for `training_speed.py`."""

from collections.abc import Mapping
import copy

import numpy as np
import torch
from torch import nn, Tensor
import torch.nn.functional as F  # noqa: N812 the name every PyTorch user knows

SIDE, CHANNELS, HIDDEN, REPRESENTATION = 48, (32, 64, 64), (1024,) * 4, 16
STD, CLONING, DISCOUNT, TAU, LEARNING_RATE, PADDING = 0.15, 0.05, 0.99, 5e-3, 3e-4, 4


class CentredNorm(nn.Module):
    """Layer norm with a learnt centre."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.centre = nn.Parameter(torch.zeros(features))

    def forward(self, x: Tensor) -> Tensor:
        """Normalise the last axis."""
        mean = x.mean(dim=-1, keepdim=True)
        std = x.std(dim=-1, keepdim=True)
        return (x - mean) / (std + 1e-6) + self.centre


class Encoder(nn.Module):
    """Three convolutions with layer norms."""

    def __init__(self, inputs: int, side: int, channels: tuple[int, ...]) -> None:
        super().__init__()
        self.inputs, self.side = inputs, side
        self.convs, self.norms = nn.ModuleList(), nn.ModuleList()
        for outputs, (kernel, stride, padding) in zip(
                channels, ((8, 4, 2), (4, 2, 1), (3, 1, 1)), strict=True):
            self.convs.append(nn.Conv2d(inputs, outputs, kernel, stride, padding))
            side = (side + 2 * padding - kernel) // stride + 1
            self.norms.append(nn.LayerNorm([outputs, side, side]))
            inputs = outputs
        self.features = inputs * side * side

    def forward(self, x: Tensor) -> Tensor:
        """Map flat pixels to flat features."""
        x = x.view(len(x), self.inputs, self.side, self.side)
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = F.relu(norm(conv(x)))
        return x.view(len(x), -1)


class Head(nn.Module):
    """Linear layers with norms."""

    def __init__(self, inputs: int, hidden: tuple[int, ...], outputs: int, norm: type,
                 normalised: int) -> None:
        super().__init__()
        sizes = [inputs, *hidden]
        self.layers = nn.ModuleList(
            nn.Linear(a, b) for a, b in zip(sizes, sizes[1:], strict=False))
        self.norms = nn.ModuleList(norm(size) for size in hidden)
        self.output = nn.Linear(sizes[-1], outputs)
        self.normalised = normalised

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, inputs) to (B, outputs)."""
        for index, (layer, norm) in enumerate(zip(self.layers, self.norms, strict=True)):
            x = layer(x)
            if index < self.normalised:
                x = norm(x)
            x = F.relu(x)
        return self.output(x)


class Critic(nn.Module):
    """Twin contrastive critics upon one encoder."""

    def __init__(self, action_dim: int, side: int, channels: tuple[int, ...],
                 hidden: tuple[int, ...], representation: int) -> None:
        super().__init__()
        self.encoder = Encoder(3, side, channels)
        features, last = self.encoder.features, len(hidden) - 1
        self.phi = nn.ModuleList(
            Head(features + action_dim, hidden, representation, CentredNorm, last)
            for _ in range(2))
        self.psi = nn.ModuleList(
            Head(features, hidden, representation, CentredNorm, last) for _ in range(2))
        self.log_temperature = nn.Parameter(torch.zeros(()))

    def forward(self, observations: Tensor, actions: Tensor, goals: Tensor) -> Tensor:
        """Score every observation and action against every goal, (B, B, 2)."""
        observed, wanted = self.encoder(observations), self.encoder(goals)
        outer = []
        for phi, psi in zip(self.phi, self.psi, strict=True):
            first, second = phi(torch.cat([observed, actions], dim=1)), psi(wanted)
            outer.append(torch.bmm(first.unsqueeze(0), second.permute(1, 0).unsqueeze(0))[0])
        return torch.stack(outer, dim=-1)


class Policy(nn.Module):
    """Gaussian of fixed deviation; observation and goal are stacked channels."""

    def __init__(self, action_dim: int, side: int, channels: tuple[int, ...],
                 hidden: tuple[int, ...]) -> None:
        super().__init__()
        self.encoder = Encoder(6, side, channels)
        self.head = Head(self.encoder.features, hidden, action_dim, nn.LayerNorm, len(hidden))

    def forward(self, observations: Tensor, goals: Tensor) -> torch.distributions.Distribution:
        """Return the distribution of actions."""
        mean = self.head(self.encoder(torch.cat([observations, goals], dim=1)))
        return torch.distributions.Independent(
            torch.distributions.Normal(mean, torch.full_like(mean, STD)), 1)


class PublishedTrainer:
    """
    Temporal-difference Stable Contrastive RL as published.

    It follows what is known of the authors' PyTorch code: images kept as flat uint8 rows of
    channel, column, row and turned into float32 on the host; every network called anew for every
    term; all B x B scores of both critics although their diagonal is used; critic gradients
    computed in the actor's step and thrown away; crops by grouped convolution; an optimiser of
    one loop per tensor. Left out: what they compute for logs alone, and the split of the cloning
    data by a hash of the action.

    :param action_dim: numbers in one action.
    """

    def __init__(self, action_dim: int = 7, side: int = SIDE,
                 channels: tuple[int, ...] = CHANNELS, hidden: tuple[int, ...] = HIDDEN,
                 representation: int = REPRESENTATION, device: str = 'cpu',
                 learning_rate: float = LEARNING_RATE) -> None:
        self.device, self.side = torch.device(device), side
        self.policy = Policy(action_dim, side, channels, hidden).to(device)
        self.critic = Critic(action_dim, side, channels, hidden, representation).to(device)
        self.target = copy.deepcopy(self.critic)
        self.policy_optimiser, self.critic_optimiser = (
            torch.optim.Adam(network.parameters(), lr=learning_rate, foreach=False, fused=False)
            for network in (self.policy, self.critic))

    def update(self, batch: Mapping[str, Tensor], augmented: bool, shifts: Tensor,
               noise: Tensor, next_noise: Tensor) -> dict[str, float]:
        """
        Step the actor, the critic, the target.

        :param batch: from `PublishedData.sample`.
        :param augmented: whether the coin says to crop.
        :param shifts: columns and rows by which each sample is moved, int (2, B).
        :param noise: of the actor's sample, standard normal (B, action_dim).
        :param next_noise: of the sample at the next observation.
        """
        observations, goals = batch['observations'] / 255.0, batch['goals'] / 255.0
        following, actions = batch['next_observations'] / 255.0, batch['actions']
        if augmented:
            self._crop([following], shifts)  # theirs does, and uses it nowhere
        critic_loss = self._critic_loss(observations, actions, following, next_noise)
        actor_loss = self._actor_loss(observations, goals, actions, augmented, shifts, noise)
        self.policy_optimiser.zero_grad()
        actor_loss.backward()  # the critic's gradients are computed too, and dropped below
        self.policy_optimiser.step()
        self.critic_optimiser.zero_grad()
        critic_loss.backward()
        self.critic_optimiser.step()
        for target, source in zip(self.target.parameters(), self.critic.parameters(),
                                  strict=True):
            target.data.copy_(target.data * (1.0 - TAU) + source.data * TAU)
        return {'actor/loss': actor_loss.item(), 'critic/loss': critic_loss.item()}

    def _actor_loss(self, observations: Tensor, goals: Tensor, actions: Tensor, augmented: bool,
                    shifts: Tensor, noise: Tensor) -> Tensor:
        policy = self.policy(observations, goals)
        scores = self.critic(observations, policy.mean + STD * noise, goals)
        q = torch.diagonal(scores.min(-1).values)
        if augmented:
            observations, goals = self._crop([observations, goals], shifts)
        log_prob = self.policy(observations, goals).log_prob(actions)
        return (CLONING * -log_prob + (1.0 - CLONING) * -q).mean()

    def _critic_loss(self, observations: Tensor, actions: Tensor, following: Tensor,
                     noise: Tensor) -> Tensor:
        size = len(actions)
        rows, others = torch.arange(size), torch.roll(torch.arange(size), -1)
        logits = self.critic(observations, actions, following)
        random_goals = following[others]
        next_actions = self.policy(following, random_goals).mean + STD * noise
        scores = torch.sigmoid(self.target(following, next_actions, random_goals)).min(-1).values
        v = torch.diagonal(scores).detach()
        weights = torch.clamp(v / (1.0 - v), 0.0, 20.0)
        cost = nn.BCEWithLogitsLoss(reduction='none')
        positive, negative = logits[rows, rows], logits[rows, others]  # (B, 2)
        one, zero = torch.ones_like(positive), torch.zeros_like(negative)
        return ((1.0 - DISCOUNT) * cost(positive, one)
                + DISCOUNT * weights[:, None] * cost(negative, one)
                + cost(negative, zero)).mean()

    def _crop(self, images: list[Tensor], shifts: Tensor) -> tuple[Tensor, ...]:
        """Cut shifted windows: one grouped convolution with one-hot kernels."""
        size, side, channels = len(images[0]), self.side, 3 * len(images)
        x = torch.cat(images, dim=1).view(size, channels, side, side)
        x = F.pad(x, (PADDING,) * 4, mode='replicate')
        x = x.view(1, size * channels, *x.shape[2:])
        width = 2 * PADDING + 1
        places = (shifts[0] + PADDING) * width + shifts[1] + PADDING  # (B,), columns first
        kernels = F.one_hot(places, width**2).to(x).view(size, 1, width, width)
        x = F.conv2d(x, kernels.repeat_interleave(channels, dim=0), groups=size * channels)
        return x.view(size, -1).chunk(len(images), dim=1)


class PublishedData:
    """
    A buffer on the host: flat uint8 rows of observations and next observations.

    :param images: frames of all episodes, uint8 (F, H, W, 3).
    :param frames: index of each transition's frame, (N,).
    :param ends: last frame of each transition's episode, (N,).
    :param actions: normalised, float32 (N, action_dim).
    """

    def __init__(self, images: np.ndarray, frames: np.ndarray, ends: np.ndarray,
                 actions: np.ndarray) -> None:
        rows = images.transpose(0, 3, 2, 1).reshape(len(images), -1)
        self.observations, self.next_observations = rows[frames], rows[frames + 1]
        self.actions, self.frames, self.ends = actions, frames, ends

    def sample(self, size: int, rng: np.random.Generator,
               device: torch.device) -> dict[str, Tensor]:
        """Draw transitions and geometric goals; convert on the host, then move."""
        chosen = rng.integers(0, len(self.frames), size)
        choices = self.ends[chosen] - self.frames[chosen]
        weights = DISCOUNT ** np.arange(choices.max())
        total = np.cumsum(weights)
        ahead = np.searchsorted(total, rng.random(size) * total[choices - 1])
        batch = {'observations': self.observations[chosen], 'actions': self.actions[chosen],
                 'next_observations': self.next_observations[chosen],
                 'goals': self.next_observations[chosen + ahead]}
        return {name: torch.from_numpy(rows.astype(np.float32)).to(device)
                for name, rows in batch.items()}


def copy_weights(source: nn.Module, into: nn.Module) -> None:
    """
    Give a network of this module the weights of one of `stable_crl_ros.crl.networks`.

    Here rows and columns are swapped, so every spatial weight is transposed.
    """
    state = {}
    for name, value in source.state_dict().items():
        if '.convs.' in f'.{name}' and value.ndim == 4:
            value = value.transpose(2, 3)
        elif 'encoder.norms' in name:
            value = value.transpose(1, 2)
        elif name.endswith('layers.0.weight'):
            channels, side = source.encoder.norms[-1].weight.shape[:2]
            features = channels * side * side
            images = value[:, :features].view(-1, channels, side, side).transpose(2, 3)
            value = torch.cat([images.flatten(1), value[:, features:]], 1)
        state[name] = value.contiguous()
    into.load_state_dict(state)
