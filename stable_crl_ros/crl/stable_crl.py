"""Stable Contrastive RL: offline goal reaching with a contrastive critic and a cloned actor."""

from collections.abc import Mapping, Sequence
import copy
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from stable_crl_ros.actions import ACTION_DIM
from stable_crl_ros.crl import losses
from stable_crl_ros.crl.agent import Agent, closeness
from stable_crl_ros.crl.config import AgentConfig, ConfigError
from stable_crl_ros.crl.health import critic_metrics
from stable_crl_ros.crl.metrics import Metrics
from stable_crl_ros.crl.networks import Actor, all_logits, ContrastiveCritic, paired_logits
import torch
from torch import nn, Tensor

ALL_PAIRS = {'mc': losses.mc_critic_loss, 'nce': losses.nce_critic_loss}


@dataclass(frozen=True)
class StableCRLConfig(AgentConfig):
    """Settings of Stable Contrastive RL; defaults are the authors' for simulation (SC)."""

    # 'td' one negative, bootstrapped (SC, BD) | all negatives: 'mc' weighing as much as the
    # positive (SC's other branch), 'nce' weighing 1 each (GR, OGB)
    critic_loss: str = 'td'
    critics: int = 2  # twin, the smaller logit counts (SC, BD); 1 = single
    critic_hidden: tuple[int, ...] = (1024, 1024, 1024, 1024)  # of phi and psi (SC); 3 x 256 BD
    critic_norm: str = 'centred'  # learnt centre, no scale (SC); 'affine' = nn.LayerNorm (BD)
    critic_skip_last_norm: bool = True  # no norm on the last hidden layer (SC); False in BD
    critic_final_init: float = 1e-12  # cold: last layers U(-x, x); 0 = as hidden (SC, BD)
    representation_size: int = 16  # of phi and psi (SC, BD)
    normalise_representations: bool = False  # cosine with a learnt temperature (SC, BD: off)
    target_update_rate: float = 5e-3  # Polyak, every step (SC); 0.002 in BD
    importance_limit: float = 20.0  # clamp of the bootstrapped term's weight (SC, BD)
    bc_coefficient: float = 0.05  # cloning's share of the actor's loss (SC); 0.2 in BD
    bc_squared_error: float = 0.0  # the same per unit of logit; sets bc_coefficient where > 0
    augment_critic: bool = False  # False: cloning alone sees augmented images (SC); True in BD

    def __post_init__(self) -> None:
        """Refuse values that cannot work, naming the valid ones."""
        super().__post_init__()
        self._check_range('critics', 1, 16)
        self._check_range('representation_size', 1, 65536)
        self._check_range('target_update_rate', 0.0, 1.0)
        self._check_range('bc_coefficient', 0.0, 1.0)
        for name in ('bc_squared_error', 'critic_final_init'):
            self._check_range(name, 0.0, float('inf'))
        if not self.importance_limit > 0.0:  # nor NaN; infinity limits nothing
            raise ConfigError(f'importance_limit must be > 0, got {self.importance_limit}')

    @property
    def cloning_share(self) -> float:
        """Weight of cloning in the actor's loss, 0..1, however it was set."""
        if self.bc_squared_error:
            return losses.bc_coefficient(self.bc_squared_error, self.std)
        return self.bc_coefficient


class StableCRL(Agent):
    """
    Critic f(s, a, g) = phi(s, a) . psi(g) and the actor that climbs it; see `Agent` for batches.

    The temporal-difference critic takes the next observations as its goals, the Monte-Carlo
    critic takes `critic_goals` of the batch; goals that are the same array are encoded once.
    """

    # The value itself and psi tell trajectories apart by all that stands about, and so mistake a
    # goal brought about in another way for one far off; docs/progress.md has the comparison.
    STEPS_FROM: ClassVar[tuple[str, ...]] = ('encoder',)
    AT_GOAL_FROM: ClassVar[tuple[str, ...]] = ('encoder', 'action')

    def __init__(self, config: StableCRLConfig, action_dim: int = ACTION_DIM,
                 device: str = 'cpu', seed: int = 0) -> None:
        super().__init__(config, action_dim, device, seed)
        self.critic = self.networks['critic']
        self.target_critic = (copy.deepcopy(self.critic).requires_grad_(False)
                              if config.critic_loss == 'td' else None)

    @classmethod
    def make_networks(cls, config: StableCRLConfig, action_dim: int) -> dict[str, nn.Module]:
        """Make actor and critic."""
        return {'actor': Actor(config, action_dim),
                'critic': ContrastiveCritic(config, action_dim)}

    @classmethod
    def sampling(cls, config: StableCRLConfig) -> dict:
        """Ask for the goals of the chosen critic alone."""
        goals = 'next_observations' if config.critic_loss == 'td' else 'critic_goals'
        return super().sampling(config) | {'images': ('observations', goals, 'actor_goals')}

    @classmethod
    def encode_goals(cls, networks: Mapping[str, nn.Module], goals: Tensor) -> Tensor:
        """Represent goals by psi."""
        critic = networks['critic']
        return critic.represent_goals(critic.encoder(goals))

    @classmethod
    def score(cls, networks: Mapping[str, nn.Module], observations: Tensor, actions: Tensor,
              encoded: Tensor) -> Tensor:
        """Return the smaller critic's logit."""
        return cls._score(networks, networks['critic'].encoder(observations), actions, encoded)

    @staticmethod
    def _score(networks: Mapping[str, nn.Module], features: Tensor, actions: Tensor,
               encoded: Tensor) -> Tensor:
        critic = networks['critic']
        phi = critic.represent_actions(critic.project(features), actions)
        return paired_logits(phi, encoded).amin(1)

    @classmethod
    def place_goals(cls, networks: Mapping[str, nn.Module], goals: Tensor) -> dict[str, Tensor]:
        """Keep the goals as the critic's encoder sees them, too."""
        features = networks['critic'].encoder(goals)
        encoded, action = networks['critic'].represent_goals(features), cls.act(
            networks, goals, goals)
        return {'encoded': encoded, 'action': action, 'features': features,
                'score': cls._score(networks, features, action, encoded)}

    @classmethod
    def pick_goals(cls, placed: Mapping[str, Tensor], rows: Tensor) -> dict[str, Tensor]:
        """Find the goals behind the critics: `encoded` is (E, B, R)."""
        picked = super().pick_goals({**placed, 'encoded': placed['encoded'].transpose(0, 1)}, rows)
        return {**picked, 'encoded': picked['encoded'].transpose(0, 1)}

    @classmethod
    def assess(cls, networks: Mapping[str, nn.Module], observations: Tensor, actions: Tensor,
               placed: Mapping[str, Tensor], names: Sequence[str] = (),
               ) -> tuple[Tensor, dict[str, Tensor]]:
        """
        Encode once for the score and for all measures.

        'encoder' is the distance between the pictures as the critic's encoder sees them, and
        'psi' between their representations as goals.
        """
        critic = networks['critic']
        features = critic.encoder(observations)
        score = cls._score(networks, features, actions, placed['encoded'])
        found = cls._compare(score, actions, placed, names)
        if 'encoder' in names:
            found['encoder'] = closeness((features - placed['features']).square().mean(1))
        if 'psi' in names:
            psi = critic.represent_goals(features) - placed['encoded']
            found['psi'] = closeness(psi.square().mean(2).mean(0))
        return score, found

    def update(self, batch: Mapping[str, np.ndarray], detailed: bool = False) -> Metrics:
        """
        Step the actor, then the critic, then its target, in the authors' order.

        Both losses are of the networks as they are before any step.

        :param detailed: also score all goals of the batch against each other.
        """
        td = self.config.critic_loss == 'td'
        critic_goals = 'next_observations' if td else 'critic_goals'
        shared = batch[critic_goals] is batch['actor_goals']
        names = ('observations', critic_goals) + (() if shared else ('actor_goals',))
        images = self.load_images(batch, names)
        actions = self.load(batch['actions'])
        augmented = self.augment([images[0], images[-1]]) if not self.config.augment_critic \
            else None
        if self.config.augment_critic:
            images = self.augment(images) or images
        size = len(actions)

        # One pass encodes observations and critic goals; the actor reuses what it needs of it.
        with self.autocast():
            pixels = self.pixels(images)
            observations, goals = pixels[:size], pixels[-size:]
            observed, reached = self.critic.encoder(pixels[:2 * size]).chunk(2)
            projected = self.critic.project(observed)
            psi = self.critic.represent_goals(reached)
            actor_psi = psi.detach() if shared else self._represent(goals)
        weights = self._importance_weights(pixels[size:2 * size]) if td else None
        metrics = self._update_actor(observations, goals, augmented, actions, projected,
                                     actor_psi)
        with self.autocast():
            phi = self.critic.represent_actions(projected, actions)
        if td:
            loss = self._td_loss(phi, psi, weights, metrics)
        else:
            phi, psi = self.ranks.gather(phi, 1), self.ranks.gather(psi, 1)
            loss = ALL_PAIRS[self.config.critic_loss](all_logits(phi, psi))
        metrics['critic/loss'] = loss
        self.apply('critic', loss)
        if td:
            self._update_target()
        self.step += 1
        if detailed:
            if td:
                phi, psi = (self.ranks.gather(part.detach(), 1) for part in (phi, psi))
            logits = all_logits(phi, psi)
            for name, value in (losses.contrastive_metrics(logits)
                                | critic_metrics(phi, psi, logits)).items():
                metrics[f'critic/{name}'] = value
        return self.report(metrics)

    @torch.no_grad()
    def _represent(self, goals: Tensor) -> Tensor:
        return self.critic.represent_goals(self.critic.encoder(goals))

    def _update_actor(self, observations: Tensor, goals: Tensor, augmented: list[Tensor] | None,
                      actions: Tensor, projected: list[Tensor],
                      psi: Tensor) -> dict[str, Tensor]:
        config = self.config
        with self.autocast():
            mean = self.actor(observations, goals, self.generator)
            sampled = self.sample(mean)
            phi = self.critic.represent_actions([part.detach() for part in projected], sampled)
            cloned = mean if augmented is None else self.actor(
                *self.pixels(augmented).chunk(2), self.generator)
        q = paired_logits(phi, psi).amin(1)
        log_prob = losses.gaussian_log_prob(cloned, config.std, actions)
        loss = losses.actor_loss(q, log_prob, config.cloning_share)
        self.apply('actor', loss)
        return {'actor/loss': loss, 'actor/q': q.mean(),
                'actor/squared_error': (cloned - actions).square().sum(1).mean()}

    @torch.no_grad()
    def _importance_weights(self, next_observations: Tensor) -> Tensor:
        """Weigh negatives, whose goals are those of sample i + 1, in the batch's order."""
        with self.autocast():
            target = self.target_critic
            next_actions = self.sample(self.actor(
                next_observations, self.ranks.roll(next_observations), self.generator))
            features = target.encoder(next_observations)
            next_phi = target.represent_actions(target.project(features), next_actions)
            next_psi = self.ranks.roll(target.represent_goals(features), 1)
        return losses.importance_weights(paired_logits(next_phi, next_psi),
                                         self.config.importance_limit)

    def _td_loss(self, phi: Tensor, psi: Tensor, weights: Tensor,
                 metrics: dict[str, Tensor]) -> Tensor:
        positive = paired_logits(phi, psi)
        negative = paired_logits(phi, self.ranks.roll(psi, 1))
        metrics.update({'critic/positive': positive.mean(), 'critic/negative': negative.mean(),
                        'critic/importance_weight': weights.mean()})
        return losses.td_critic_loss(positive, negative, weights, self.config.discount)

    @torch.no_grad()
    def _update_target(self) -> None:
        torch._foreach_lerp_(list(self.target_critic.parameters()),
                             list(self.critic.parameters()), self.config.target_update_rate)

    @torch.no_grad()
    def validate(self, batch: Mapping[str, np.ndarray]) -> dict[str, float]:
        """Measure actions and the critic's ranking of goals on held-out data."""
        metrics = super().validate(batch)
        pixels = self.pixels(self.load_images(batch, ('observations', 'actor_goals')))
        critic = self.critic
        observed, goals = critic.encoder(pixels).chunk(2)
        phi = critic.represent_actions(critic.project(observed), self.load(batch['actions']))
        psi = critic.represent_goals(goals)
        return metrics | Metrics(losses.contrastive_metrics(all_logits(phi, psi)))

    def reset_targets(self) -> None:
        """Make the target critic equal the critic."""
        if self.target_critic is not None:
            self.target_critic.load_state_dict(self.critic.state_dict())

    def state_dict(self) -> dict:
        """Return everything that the next update depends on."""
        found = super().state_dict()
        if self.target_critic is not None:
            found['target_critic'] = self.target_critic.state_dict()
        return found

    def load_state_dict(self, state: Mapping) -> None:
        """Continue exactly where `state_dict` was taken."""
        super().load_state_dict(state)
        if self.target_critic is not None:
            self.target_critic.load_state_dict(state['target_critic'])
