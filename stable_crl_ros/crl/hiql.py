"""Hierarchical implicit Q-learning: one value, a policy to waypoints and one to actions."""

from collections.abc import Mapping
from dataclasses import dataclass
import math
from typing import NamedTuple

import numpy as np
from stable_crl_ros.actions import ACTION_DIM
from stable_crl_ros.crl import values
from stable_crl_ros.crl.config import AgentConfig
from stable_crl_ros.crl.metrics import Metrics
from stable_crl_ros.crl.networks import Head, make_encoder
from stable_crl_ros.crl.value_agent import (
    difference,
    make_value_head,
    ValueAgent,
    ValueConfig,
)
import torch
from torch import nn, Tensor
import torch.nn.functional as F  # noqa: N812 the name every PyTorch user knows


@dataclass(frozen=True)
class HIQLConfig(ValueConfig):
    """Settings of hierarchical implicit Q-learning; see `ValueConfig`."""

    expectile: float = 0.7  # (OGB)
    low_alpha: float = 3.0  # inverse temperature of the policy to actions (OGB)
    high_alpha: float = 3.0  # inverse temperature of the policy to waypoints (OGB)
    subgoal_steps: int = 10  # frames to a waypoint (OGB for manipulation; its default is 25)
    representation_size: int = 10  # of phi([s; g]) (OGB)

    def __post_init__(self) -> None:
        """Refuse values that cannot work, naming the valid ones."""
        super().__post_init__()
        self._check_range('low_alpha', 0.0, 1e6)
        self._check_range('high_alpha', 0.0, 1e6)
        self._check_range('subgoal_steps', 1, 1_000_000)
        self._check_range('representation_size', 1, 65536)


class Projected(NamedTuple):
    """An encoded observation, and the first layers' share of it in phi and every V."""

    observed: Tensor
    phi: Tensor
    v: list[Tensor]


class GoalValue(nn.Module):
    """
    V(s, phi([s; g])) upon one encoder that sees every image once.

    phi takes the encoded observation and the goal's normalised `difference` from it. (OGBench
    stacks the images, and its target value takes the online phi; here phi's copy follows slowly
    with the rest.)
    """

    def __init__(self, config: HIQLConfig) -> None:
        super().__init__()
        self.encoder = make_encoder(3, config)
        features, size = self.encoder.features, config.representation_size
        self.phi = make_value_head(2 * features, config, size)
        self.v = nn.ModuleList(make_value_head(features + size, config)
                               for _ in range(config.critics))

    def project(self, observed: Tensor) -> Projected:
        """Compute what depends on the encoded observation alone, for phi and every V."""
        return Projected(observed, self.phi.project(observed),
                         [head.project(observed) for head in self.v])

    def represent(self, projected: Projected, goals: Tensor) -> Tensor:
        """Return phi of encoded goals, of length sqrt(R), shape (B, R)."""
        towards = difference(projected.observed, goals)
        return rescale(self.phi.finish(projected.phi, towards).float())

    def evaluate(self, projected: Projected, representation: Tensor) -> Tensor:
        """Return every V of represented goals, shape (B, E)."""
        return torch.cat([head.finish(part, representation) for head, part
                          in zip(self.v, projected.v, strict=True)], 1).float()

    def forward(self, observed: Tensor, goals: Tensor) -> Tensor:
        """Return every V of encoded images, shape (B, E)."""
        projected = self.project(observed)
        return self.evaluate(projected, self.represent(projected, goals))


def rescale(representations: Tensor) -> Tensor:
    """Give vectors (B, R) the length sqrt(R)."""
    return F.normalize(representations, dim=-1) * math.sqrt(representations.shape[-1])


class HierarchicalActor(nn.Module):
    """
    Both policies, each upon its own encoder, and the value that represents waypoints.

    Advantages weigh samples up to 100 times: in an encoder shared with the value, as tried, that
    drove all representations together. (OGBench has own encoders too, and one more for phi.)

    :param action_dim: numbers in one action.
    """

    def __init__(self, config: HIQLConfig, action_dim: int) -> None:
        super().__init__()
        self.value, size = GoalValue(config), config.representation_size
        self.high_encoder, self.encoder = make_encoder(6, config), make_encoder(3, config)
        self.high = self._make_head(self.high_encoder.features, size, config)
        self.head = self._make_head(self.encoder.features + size, action_dim, config)

    @staticmethod
    def _make_head(inputs: int, outputs: int, config: AgentConfig) -> Head:
        return Head(inputs, config.actor_hidden, outputs, activation=config.activation,
                    norm=config.actor_norm, skip_last_norm=False, dropout=config.actor_dropout,
                    gain=config.hidden_gain, final_init=config.actor_final_init)

    def choose_waypoint(self, observations: Tensor, goals: Tensor,
                        generator: torch.Generator | None = None) -> Tensor:
        """Return the mean representation of the next waypoint, not yet rescaled, (B, R)."""
        return self.high(self.high_encoder(observations, goals), generator).float()

    def approach(self, observations: Tensor, representation: Tensor,
                 generator: torch.Generator | None = None) -> Tensor:
        """Return the mean action towards a represented waypoint, (B, action_dim)."""
        projected = self.head.project(self.encoder(observations))
        return self.head.finish(projected, representation, generator).float()

    def forward(self, observations: Tensor, goals: Tensor) -> Tensor:
        """
        Return the deployed policy's mean.

        :param observations: pixels (B, 3, H, W); so are the goals.
        """
        return self.approach(observations, rescale(self.choose_waypoint(observations, goals)))


class Features(NamedTuple):
    """What the value's encoder makes of a batch; `projected` comes from `GoalValue.project`."""

    projected: Projected
    following: Tensor
    goals: Tensor
    waypoints: Tensor


class HIQL(ValueAgent):
    """
    Values without actions; see `ValueAgent`.

    Batches also hold `waypoints`, images like the others, and `near`, bool, shape (B,): whether
    the actor's goal comes before the waypoint.
    """

    def __init__(self, config: HIQLConfig, action_dim: int = ACTION_DIM, device: str = 'cpu',
                 seed: int = 0) -> None:
        super().__init__(config, action_dim, device, seed)
        value = list(self.values.parameters())
        known = set(map(id, value))
        policies = [one for one in self.actor.parameters() if id(one) not in known]
        # The policies' rate may fall; the values' stays, as that of every other critic.
        self.optimisers['actor'] = torch.optim.Adam(
            [{'params': policies}, {'params': value, 'decays': False}],
            lr=config.learning_rate, fused=True)

    @property
    def values(self) -> GoalValue:
        """The network that the target follows."""
        return self.actor.value

    @classmethod
    def make_networks(cls, config: HIQLConfig, action_dim: int) -> dict[str, nn.Module]:
        """Make the one network that holds both policies and the value."""
        return {'actor': HierarchicalActor(config, action_dim)}

    @classmethod
    def sampling(cls, config: HIQLConfig) -> dict:
        """Ask for waypoints too; neighbours are encoded together, see `update`."""
        return super().sampling(config) | {
            'images': ('actor_goals', 'next_observations', 'observations', 'value_goals',
                       'waypoints'),
            'waypoint_steps': config.subgoal_steps}

    @classmethod
    def encode_goals(cls, networks: Mapping[str, nn.Module], goals: Tensor) -> Tensor:
        """Encode goals for the values."""
        return networks['actor'].value.encoder(goals)

    @classmethod
    def score(cls, networks: Mapping[str, nn.Module], observations: Tensor, actions: Tensor,
              encoded: Tensor) -> Tensor:
        """Return the mean V: minus the discounted number of steps to the goal."""
        value = networks['actor'].value
        return value(value.encoder(observations), encoded).mean(1)

    def update(self, batch: Mapping[str, np.ndarray], detailed: bool = False) -> Metrics:
        """Step everything down the sum of the three losses; `detailed` adds nothing here."""
        images = self.load_images(batch, self.sampling(self.config)['images'])
        size = len(images[0])
        with self.autocast():
            pixels = self.pixels(self.augment(images) or images)
            # With gradients first: older torch goes on with the bf16 copy of a weight that
            # autocast made first, and through one made without gradients nothing is learned.
            observed, value_goals, waypoints = self.values.encoder(pixels[2 * size:]).chunk(3)
            projected = self.values.project(observed)
            goals, following = self._encode(pixels[:2 * size]).chunk(2)
        value_loss, metrics = self._value_loss(pixels[size:4 * size], projected, value_goals,
                                               self.load(batch['reached']))
        features = Features(projected, following, goals, waypoints)
        actor_loss, details = self._actor_loss(
            pixels[2 * size:3 * size], pixels[:size], features, self.load(batch['actions']),
            self.load(batch['near']))
        self.apply('actor', value_loss + actor_loss)
        self._update_target()
        self.step += 1
        return self.report(metrics | details)

    @torch.no_grad()
    def _encode(self, pixels: Tensor) -> Tensor:
        return self.values.encoder(pixels)

    def _value_loss(self, pixels: Tensor, projected: Projected, goals: Tensor,
                    reached: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Take pixels of next observations, observations and value goals, for the target."""
        config, target = self.config, self.target
        with self.autocast():
            v = self.values.evaluate(projected, self.values.represent(projected, goals))
            with torch.no_grad():
                following, now, wanted = target.encoder(pixels).chunk(3)
                target_v, next_v = target(now, wanted), target(following, wanted)
        # The target alone says on which side of the expectile a sample lies (OGBench).
        advantage = values.value_target(next_v.amin(1), reached, config.discount) \
            - target_v.mean(1)
        error = values.value_target(next_v, reached, config.discount) - v
        loss = config.critics * values.expectile_loss(error, config.expectile,
                                                      advantage[:, None])
        return loss, {'value/loss': loss, 'value/v': v.mean()}

    def _actor_loss(self, observations: Tensor, goals: Tensor, features: Features,
                    actions: Tensor, near: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Clone actions towards waypoints, and waypoints towards goals, that come nearer."""
        value, config, projected = self.values, self.config, features.projected
        with self.autocast():
            to_waypoint = value.represent(projected, features.waypoints)  # trained too (OGBench)
            mean = self.actor.approach(observations, to_waypoint, self.generator)
            chosen = self.actor.choose_waypoint(observations, goals, self.generator)
            with torch.no_grad():
                to_goal = value.represent(projected, features.goals)
                # A goal that comes before the waypoint is the waypoint to itself.
                to_target = torch.where(near[:, None], to_goal, to_waypoint)
                target = torch.where(near[:, None], features.goals, features.waypoints)
                low_advantage = (value(features.following, features.waypoints)
                                 - value.evaluate(projected, to_waypoint)).mean(1)
                high_advantage = (value(target, features.goals)
                                  - value.evaluate(projected, to_goal)).mean(1)
        low_error = (mean - actions).square().sum(1)
        high_error = (chosen - to_target).square().sum(1)
        low = values.cloning_loss(
            low_error, values.advantage_weights(low_advantage, config.low_alpha))
        high = values.cloning_loss(
            high_error, values.advantage_weights(high_advantage, config.high_alpha))
        return low + high, {
            'actor/loss': low, 'actor/squared_error': low_error.mean(),
            'actor/advantage': low_advantage.mean(), 'high/loss': high,
            'high/squared_error': high_error.mean(), 'high/advantage': high_advantage.mean()}

    @torch.no_grad()
    def validate(self, batch: Mapping[str, np.ndarray]) -> dict[str, float]:
        """Measure the deployed actions and the value's loss on held-out data."""
        names = self.sampling(self.config)['images'][1:4]
        pixels = self.pixels(self.load_images(batch, names))
        observed, goals = self._encode(pixels).chunk(3)[1:]
        loss = self._value_loss(pixels, self.values.project(observed), goals,
                                self.load(batch['reached']))[0]
        return super().validate(batch) | {'value_loss': float(loss)}
