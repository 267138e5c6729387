"""Goal-conditioned behavioural cloning: the actor of Stable Contrastive RL without a critic."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from stable_crl_ros.crl.agent import Agent
from stable_crl_ros.crl.config import AgentConfig
from stable_crl_ros.crl.losses import gaussian_log_prob
from stable_crl_ros.crl.metrics import Metrics


@dataclass(frozen=True)
class GCBCConfig(AgentConfig):
    """Goal-conditioned behavioural cloning has no settings beyond the actor's."""


class GCBC(Agent):
    """Imitate the action that was followed by the goal; see `Agent` for batches."""

    def update(self, batch: Mapping[str, np.ndarray], detailed: bool = False) -> Metrics:
        """Take one gradient step; `detailed` adds nothing here."""
        images = self.load_images(batch, ('observations', 'actor_goals'))
        actions = self.load(batch['actions'])
        with self.autocast():
            observations, goals = self.pixels(self.augment(images) or images).chunk(2)
            mean = self.actor(observations, goals, self.generator)
        loss = -gaussian_log_prob(mean, self.config.std, actions).mean()
        self.apply('actor', loss)
        self.step += 1
        error = (mean - actions).square().sum(1).mean()
        return self.report({'actor/loss': loss, 'actor/squared_error': error})
