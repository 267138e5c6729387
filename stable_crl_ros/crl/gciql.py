"""Goal-conditioned implicit Q-learning: twin Q, expectile V, and an actor that follows them."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from stable_crl_ros.crl import values
from stable_crl_ros.crl.metrics import Metrics
from stable_crl_ros.crl.networks import Actor, make_encoder
from stable_crl_ros.crl.value_agent import (
    difference,
    make_value_head,
    ValueAgent,
    ValueConfig,
)
import torch
from torch import nn, Tensor


@dataclass(frozen=True)
class GCIQLConfig(ValueConfig):
    """Settings of goal-conditioned implicit Q-learning; see `ValueConfig`."""

    # 'ddpgbc' climbs Q and clones (OGB) | 'awr' clones, weighted by the advantage (BD)
    policy_loss: str = 'ddpgbc'
    # Of 'ddpgbc': weight of cloning, unit deviation (OGB: 1 for play from images; its default is
    # 0.3). Of 'awr': inverse temperature (1 in BD).
    alpha: float = 1.0
    # 'stacked' images (OGB, BD) | 'difference' of the encoded goal from the observation (ours)
    goal_input: str = 'stacked'

    def __post_init__(self) -> None:
        """Refuse values that cannot work, naming the valid ones."""
        super().__post_init__()
        self._check_range('alpha', 0.0, 1e6)


class GoalCritic(nn.Module):
    """
    Q(s, a, g) and V(s, g) upon one encoder.

    One encoder serves both, as in BridgeData V2's code (OGBench has one each).

    :param action_dim: numbers in one action.
    """

    def __init__(self, config: GCIQLConfig, action_dim: int) -> None:
        super().__init__()
        self.stacked = config.goal_input == 'stacked'
        self.encoder = make_encoder(6 if self.stacked else 3, config)
        features = self.encoder.features * (1 if self.stacked else 2)
        self.q = nn.ModuleList(make_value_head(features + action_dim, config)
                               for _ in range(config.critics))
        self.v = make_value_head(features, config)

    def encode(self, images: Tensor) -> Tensor:
        """Do what can be done to pixels (B, 3, H, W) before `fuse`, once per image."""
        return images if self.stacked else self.encoder(images)

    def fuse(self, observed: Tensor, goals: Tensor) -> Tensor:
        """Return features (B, F) of observations and goals that went through `encode`."""
        if self.stacked:
            return self.encoder(observed, goals)
        return torch.cat([observed, difference(observed, goals)], 1)

    def action_values(self, features: Tensor, actions: Tensor) -> Tensor:
        """Return every critic's Q of features and actions, shape (B, E)."""
        return torch.cat([head.finish(head.project(features), actions)
                          for head in self.q], 1).float()

    def state_values(self, features: Tensor) -> Tensor:
        """Return V of features, shape (B,)."""
        return self.v(features).squeeze(1).float()


class GCIQL(ValueAgent):
    """Values of the shortest way to a goal, learnt within the data; see `ValueAgent`."""

    @property
    def values(self) -> GoalCritic:
        """The network that the target follows."""
        return self.networks['critic']

    @classmethod
    def make_networks(cls, config: GCIQLConfig, action_dim: int) -> dict[str, nn.Module]:
        """Make actor and critic."""
        return {'actor': Actor(config, action_dim), 'critic': GoalCritic(config, action_dim)}

    @classmethod
    def encode_goals(cls, networks: Mapping[str, nn.Module], goals: Tensor) -> Tensor:
        """Encode goals for the values."""
        return networks['critic'].encode(goals)

    @classmethod
    def score(cls, networks: Mapping[str, nn.Module], observations: Tensor, actions: Tensor,
              encoded: Tensor) -> Tensor:
        """Return the smallest Q: minus the discounted number of steps to the goal."""
        critic = networks['critic']
        fused = critic.fuse(critic.encode(observations), encoded)
        return critic.action_values(fused, actions).amin(1)

    @classmethod
    def sampling(cls, config: GCIQLConfig) -> dict:
        """Ask for value goals; neighbours are encoded together, see `update`."""
        return super().sampling(config) | {'images': (
            'actor_goals', 'next_observations', 'observations', 'value_goals')}

    def update(self, batch: Mapping[str, np.ndarray], detailed: bool = False) -> Metrics:
        """Step the actor, then the values, then their target; `detailed` adds nothing here."""
        images = self.load_images(batch, self.sampling(self.config)['images'])
        actions, critic, size = self.load(batch['actions']), self.values, len(images[0])
        with self.autocast():
            pixels = self.pixels(self.augment(images) or images)
            codes = critic.encode(pixels[2 * size:])
            with torch.no_grad():
                goals, following = critic.encode(pixels[:2 * size]).chunk(2)
                features = critic.fuse(codes[:size], goals)
        metrics = self._update_actor(pixels[2 * size:3 * size], pixels[:size], features, actions)
        loss, details = self._value_loss(pixels[2 * size:], codes, following, actions,
                                         self.load(batch['reached']))
        self.apply('critic', loss)
        self._update_target()
        self.step += 1
        return self.report(metrics | details)

    def _update_actor(self, observations: Tensor, goals: Tensor, features: Tensor,
                      actions: Tensor) -> dict[str, Tensor]:
        with self.autocast():
            mean = self.actor(observations, goals, self.generator)
        squared_error = (mean - actions).square().sum(1)
        if self.config.policy_loss == 'awr':
            loss, details = self._weighted_cloning(squared_error, features, actions)
        else:
            loss, details = self._climbing(squared_error, features, mean)
        self.apply('actor', loss)
        return details | {'actor/loss': loss, 'actor/squared_error': squared_error.mean()}

    def _weighted_cloning(self, squared_error: Tensor, features: Tensor,
                          actions: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        critic = self.values
        with torch.no_grad(), self.autocast():
            advantage = critic.action_values(features, actions).amin(1) \
                - critic.state_values(features)
        weights = values.advantage_weights(advantage, self.config.alpha)
        return values.cloning_loss(squared_error, weights), {'actor/advantage': advantage.mean()}

    def _climbing(self, squared_error: Tensor, features: Tensor,
                  mean: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        with self.autocast():
            q = self.values.action_values(features, self._within_bounds(mean)).amin(1)
        loss = values.climbing_loss(self.ranks.gather(q)) \
            + self.config.alpha * values.cloning_loss(squared_error)
        return loss, {'actor/q': q.mean()}

    def _within_bounds(self, actions: Tensor) -> Tensor:
        # Beyond the data's box Q was never learnt (OGBench); statistics give no such box.
        return actions.clamp(-1.0, 1.0) if self.config.action_scale == 'bounds' else actions

    def _value_loss(self, pixels: Tensor, codes: Tensor, following: Tensor, actions: Tensor,
                    reached: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Take pixels and codes of observations and value goals, codes of next observations."""
        critic, target = self.values, self.target
        observed, goals = codes.chunk(2)
        with self.autocast():
            features = critic.fuse(observed, goals)
            q = critic.action_values(features, actions)
            v = critic.state_values(features)
            with torch.no_grad():
                next_v = critic.state_values(critic.fuse(following, goals))
                target_q = target.action_values(
                    target.fuse(*target.encode(pixels).chunk(2)), actions)
        wanted = values.value_target(next_v, reached, self.config.discount)
        q_loss = (q - wanted[:, None]).square().sum(1).mean()
        v_loss = values.expectile_loss(target_q.amin(1) - v, self.config.expectile)
        return q_loss + v_loss, {'critic/loss': q_loss, 'critic/q': q.mean(),
                                 'value/loss': v_loss, 'value/v': v.mean()}

    @torch.no_grad()
    def validate(self, batch: Mapping[str, np.ndarray]) -> dict[str, float]:
        """Measure actions and both losses of the values on held-out data."""
        names = self.sampling(self.config)['images'][1:]
        pixels, size = self.pixels(self.load_images(batch, names)), len(batch['actions'])
        codes = self.values.encode(pixels)
        details = self._value_loss(pixels[size:], codes[size:], codes[:size],
                                   self.load(batch['actions']), self.load(batch['reached']))[1]
        return super().validate(batch) | Metrics({
            'critic_loss': details['critic/loss'], 'value_loss': details['value/loss']})
