"""Hierarchical implicit Q-learning: one value, a policy to waypoints and one to actions."""

from collections.abc import Mapping
from dataclasses import dataclass
import math

import numpy as np
from stable_crl_ros.crl import values
from stable_crl_ros.crl.agent import to_floats
from stable_crl_ros.crl.config import AgentConfig
from stable_crl_ros.crl.gciql import make_value_head
from stable_crl_ros.crl.networks import Head, make_encoder
from stable_crl_ros.crl.value_agent import ValueAgent, ValueConfig
import torch
from torch import nn, Tensor
import torch.nn.functional as F  # noqa: N812 the name every PyTorch user knows


@dataclass(frozen=True)
class HIQLConfig(ValueConfig):
    """Settings of hierarchical implicit Q-learning; see `ValueConfig`."""

    expectile: float = 0.7  # (OGB)
    low_alpha: float = 3.0  # inverse temperature of the policy to actions (OGB)
    high_alpha: float = 3.0  # inverse temperature of the policy to waypoints (OGB)
    subgoal_steps: int = 10  # frames to a waypoint (OGB for manipulation; 25 otherwise)
    representation_size: int = 10  # of phi([s; g]) (OGB)

    def __post_init__(self) -> None:
        """Refuse values that cannot work, naming the valid ones."""
        super().__post_init__()
        self._check_range('low_alpha', 0.0, 1e6)
        self._check_range('high_alpha', 0.0, 1e6)
        self._check_range('subgoal_steps', 1, 1_000_000)
        self._check_range('representation_size', 1, 65536)


class GoalValue(nn.Module):
    """V(s, phi([s; g])) upon one encoder that sees every image once."""

    def __init__(self, config: HIQLConfig) -> None:
        super().__init__()
        self.encoder = make_encoder(3, config)
        features, size = self.encoder.features, config.representation_size
        self.phi = make_value_head(2 * features, config, size)
        self.v = nn.ModuleList(make_value_head(features + size, config)
                               for _ in range(config.critics))

    def represent(self, observed: Tensor, goals: Tensor) -> Tensor:
        """Return phi of encoded images, of length sqrt(R), shape (B, R)."""
        return rescale(self.phi.finish(self.phi.project(observed), goals).float())

    def forward(self, observed: Tensor, goals: Tensor) -> Tensor:
        """Return every V of encoded images, shape (B, E)."""
        phi = self.represent(observed, goals)
        return torch.cat([head.finish(head.project(observed), phi) for head in self.v], 1).float()


def rescale(representations: Tensor) -> Tensor:
    """Give vectors (B, R) the length sqrt(R)."""
    return F.normalize(representations, dim=-1) * math.sqrt(representations.shape[-1])


class HierarchicalActor(nn.Module):
    """
    Both policies and the value whose encoder they share.

    All losses train the encoder: upon frozen features of a critic the actions were far worse.
    (OGBench has four encoders, of which the value's representation is shared.)

    :param action_dim: numbers in one action.
    """

    def __init__(self, config: HIQLConfig, action_dim: int) -> None:
        super().__init__()
        self.value = GoalValue(config)
        features = self.value.encoder.features
        self.high = self._make_head(2 * features, config.representation_size, config)
        self.head = self._make_head(features + config.representation_size, action_dim, config)

    @staticmethod
    def _make_head(inputs: int, outputs: int, config: AgentConfig) -> Head:
        return Head(inputs, config.actor_hidden, outputs, activation=config.activation,
                    norm=config.actor_norm, skip_last_norm=False, dropout=config.actor_dropout,
                    gain=config.hidden_gain, final_init=config.actor_final_init)

    def choose_waypoint(self, observed: Tensor, goals: Tensor,
                        generator: torch.Generator | None = None) -> Tensor:
        """Return the mean representation of the next waypoint, not yet rescaled, (B, R)."""
        return self.high.finish(self.high.project(observed), goals, generator).float()

    def approach(self, observed: Tensor, representation: Tensor,
                 generator: torch.Generator | None = None) -> Tensor:
        """Return the mean action towards a represented waypoint, (B, action_dim)."""
        return self.head.finish(self.head.project(observed), representation, generator).float()

    def forward(self, observations: Tensor, goals: Tensor) -> Tensor:
        """
        Return the deployed policy's mean.

        :param observations: pixels (B, 3, H, W); so are the goals.
        """
        observed, wanted = self.value.encoder(torch.cat([observations, goals])).chunk(2)
        return self.approach(observed, rescale(self.choose_waypoint(observed, wanted)))


class HIQL(ValueAgent):
    """
    Values without actions; see `ValueAgent`.

    Batches also hold `waypoints`, images like the others, and `near`, bool, shape (B,): whether
    the actor's goal comes before the waypoint.
    """

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
        """Ask for value goals and waypoints beside the actor's goals."""
        asked = super().sampling(config)
        return asked | {'images': (*asked['images'], 'waypoints'),
                        'waypoint_steps': config.subgoal_steps}

    @classmethod
    def score(cls, networks: Mapping[str, nn.Module], observations: Tensor, actions: Tensor,
              goals: Tensor) -> Tensor:
        """Return the mean V: minus the discounted number of steps to the goal."""
        value = networks['actor'].value
        observed, wanted = value.encoder(torch.cat([observations, goals])).chunk(2)
        return value(observed, wanted).mean(1)

    def update(self, batch: Mapping[str, np.ndarray], detailed: bool = False) -> dict[str, float]:
        """Step everything down the sum of the three losses; `detailed` adds nothing here."""
        pixels = self._prepare(batch, augmented=True)
        actions, near = self.load(batch['actions']), self.load(batch['near'])
        with self.autocast():
            following = self._encode(pixels['next_observations'])
            names = ('observations', 'value_goals', 'actor_goals', 'waypoints')
            encoded = dict(zip(names, self.values.encoder(
                torch.cat([pixels[name] for name in names])).chunk(4), strict=True))
        observed, waypoints = encoded['observations'], encoded['waypoints']
        value_loss, metrics = self._value_loss(pixels, observed, encoded['value_goals'],
                                               self.load(batch['reached']))
        low_loss = self._low_loss(observed, following, waypoints, actions, metrics)
        high_loss = self._high_loss(observed, encoded['actor_goals'], waypoints, near, metrics)
        self.apply('actor', value_loss + low_loss + high_loss)
        self._update_target()
        self.step += 1
        return to_floats(metrics | {'value/loss': value_loss, 'actor/loss': low_loss,
                                    'high/loss': high_loss})

    def _prepare(self, batch: Mapping[str, np.ndarray], augmented: bool) -> dict[str, Tensor]:
        names = self.sampling(self.config)['images']
        images = self.load_images(batch, names)
        images = (self.augment(images) if augmented else None) or images
        return dict(zip(names, self.pixels(images).chunk(len(names)), strict=True))

    @torch.no_grad()
    def _encode(self, pixels: Tensor) -> Tensor:
        return self.values.encoder(pixels)

    def _value_loss(self, pixels: Mapping[str, Tensor], observed: Tensor, goals: Tensor,
                    reached: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        config, target = self.config, self.target
        with self.autocast():
            v = self.values(observed, goals)
            with torch.no_grad():
                now, following, wanted = target.encoder(torch.cat([pixels[name] for name in (
                    'observations', 'next_observations', 'value_goals')])).chunk(3)
                target_v, next_v = target(now, wanted), target(following, wanted)
        # The target alone says on which side of the expectile a sample lies (OGBench).
        advantage = values.value_target(next_v.amin(1), reached, config.discount) \
            - target_v.mean(1)
        error = values.value_target(next_v, reached, config.discount) - v
        loss = config.critics * values.expectile_loss(error, config.expectile,
                                                      advantage[:, None])
        return loss, {'value/v': v.mean()}

    def _low_loss(self, observed: Tensor, following: Tensor, waypoints: Tensor,
                  actions: Tensor, metrics: dict[str, Tensor]) -> Tensor:
        """Clone actions that come nearer to the waypoint; trains phi too (OGBench, images)."""
        with self.autocast():
            advantage = self._advantage(following, observed, waypoints)
            mean = self.actor.approach(observed, self.values.represent(observed, waypoints),
                                       self.generator)
        squared_error = (mean - actions).square().sum(1)
        metrics |= {'actor/advantage': advantage.mean(),
                    'actor/squared_error': squared_error.mean()}
        return values.cloning_loss(
            squared_error, values.advantage_weights(advantage, self.config.low_alpha))

    def _high_loss(self, observed: Tensor, goals: Tensor, waypoints: Tensor, near: Tensor,
                   metrics: dict[str, Tensor]) -> Tensor:
        """Clone the representation of waypoints that come nearer to the goal."""
        with self.autocast():
            mean = self.actor.choose_waypoint(observed, goals, self.generator)
            with torch.no_grad():
                target = torch.where(near[:, None], goals, waypoints)
                wanted = self.values.represent(observed, target)
            advantage = self._advantage(target, observed, goals)
        squared_error = (mean - wanted).square().sum(1)
        metrics |= {'high/advantage': advantage.mean(),
                    'high/squared_error': squared_error.mean()}
        return values.cloning_loss(
            squared_error, values.advantage_weights(advantage, self.config.high_alpha))

    @torch.no_grad()
    def _advantage(self, later: Tensor, observed: Tensor, goals: Tensor) -> Tensor:
        """Return how much nearer to the goal `later` is, shape (B,)."""
        return self.values(later, goals).mean(1) - self.values(observed, goals).mean(1)

    @torch.no_grad()
    def validate(self, batch: Mapping[str, np.ndarray]) -> dict[str, float]:
        """Measure the deployed actions and the value's loss on held-out data."""
        pixels = self._prepare(batch, augmented=False)
        observed, goals = map(self._encode, (pixels['observations'], pixels['value_goals']))
        loss = self._value_loss(pixels, observed, goals, self.load(batch['reached']))[0]
        return super().validate(batch) | {'value_loss': float(loss)}
