"""What a checkpoint knows, in batches: scores, representations and logits of pictures."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from stable_crl_ros import SHIPPED_CHECKPOINT
from stable_crl_ros.actions import ActionScale
from stable_crl_ros.checkpoint import check_fit, CheckpointError, load_checkpoint
from stable_crl_ros.crl.agent import Agent
from stable_crl_ros.crl.config import AgentConfig, ConfigError
from stable_crl_ros.crl.networks import all_logits, ContrastiveCritic, to_pixels
from stable_crl_ros.images import ImageSpec
from stable_crl_ros.policy import load_networks
import torch
from torch import nn, Tensor

CHUNK = 256  # pictures per pass


@dataclass(frozen=True)
class Learned:
    """
    Networks of one checkpoint.

    :param label: how figures and tables name it.
    :param sha256: the checkpoint's identity.
    """

    label: str
    path: str
    sha256: str
    algorithm: str
    agent: type[Agent]
    config: AgentConfig
    networks: dict[str, nn.Module]
    image_spec: ImageSpec
    action_scale: ActionScale

    @property
    def contrastive(self) -> bool:
        """Say whether it has phi(s, a) and psi(g)."""
        return isinstance(self.networks.get('critic'), ContrastiveCritic)

    @property
    def scores_goals(self) -> bool:
        """Say whether it has an opinion of how near a goal is."""
        black = np.zeros((1, *self.image_spec.shape), np.uint8)
        return self.scores(black, black) is not None

    def pixels(self, images: np.ndarray) -> Tensor:
        """Turn uint8 pictures (B, H, W, 3) into the networks' input."""
        return to_pixels(torch.tensor(images), self.config.pixel_range)

    @torch.inference_mode()
    def scores(self, observations: np.ndarray, goals: np.ndarray) -> np.ndarray | None:
        """
        Score each picture against the goal of the same row, for the policy's own action.

        :param observations: uint8 (B, H, W, 3); `goals` too.
        :returns: (B,), higher is nearer; None without a critic.
        """
        parts = []
        for start in range(0, len(observations), CHUNK):
            seen, wanted = (self.pixels(images[start:start + CHUNK])
                            for images in (observations, goals))
            action = self.agent.act(self.networks, seen, wanted)
            score = self.agent.score(self.networks, seen, action,
                                     self.agent.encode_goals(self.networks, wanted))
            if score is None:
                return None
            parts.append(score.numpy())
        return np.concatenate(parts)

    @torch.inference_mode()
    def represent(self, images: np.ndarray) -> np.ndarray:
        """Give psi of pictures (B, H, W, 3) by the first critic: (B, R)."""
        critic = self.networks['critic']
        parts = [critic.represent_goals(critic.encoder(self.pixels(images[i:i + CHUNK])))[0]
                 for i in range(0, len(images), CHUNK)]
        return torch.cat(parts).numpy()

    @torch.inference_mode()
    def all_logits(self, observations: np.ndarray, actions: np.ndarray,
                   goals: np.ndarray) -> np.ndarray:
        """
        Score every picture and its action against every goal.

        :param observations: uint8 (B, H, W, 3); `goals` too.
        :param actions: physical, (B, 7).
        :returns: (B, B, E), E critics.
        """
        critic = self.networks['critic']
        phi = critic.represent_actions(
            critic.project(critic.encoder(self.pixels(observations))),
            torch.from_numpy(self.action_scale.normalise(actions)))
        psi = critic.represent_goals(critic.encoder(self.pixels(goals)))
        return all_logits(phi, psi).numpy()

    @torch.inference_mode()
    def policy_logits(self, observations: np.ndarray, goals: np.ndarray) -> torch.Tensor:
        """Score the policy's own action for the goal of the same row: (B, E), E critics."""
        seen, wanted = self.pixels(observations), self.pixels(goals)
        action = self.agent.act(self.networks, seen, wanted)
        return self.networks['critic'](seen, action, wanted)


def load_learned(path: str) -> Learned:
    """
    Read a checkpoint for analysis, on the CPU.

    :raises CheckpointError: when it is not whole, or fits neither this robot nor itself.
    """
    checkpoint = load_checkpoint(path)
    check_fit(path, checkpoint)
    try:
        agent, config, networks = load_networks(checkpoint)
    except (ConfigError, RuntimeError) as error:
        reason = ' '.join(str(error).split())[:200]
        raise CheckpointError(f'{path}: cannot be analysed ({reason}); train it again') from error
    algorithm = checkpoint.metadata['algorithm']
    return Learned(algorithm, path, checkpoint.sha256, algorithm, agent, config,
                   networks, checkpoint.image_spec, checkpoint.action_scale)


def load_all(names: Sequence[str]) -> list[Learned]:
    """
    Read checkpoints and give each a label of its own.

    :param names: each FILE or LABEL=FILE; without a label the algorithm is one, with the folder
        where several share it.
    :raises CheckpointError: as `load_learned`, and for two that are or are called the same.
    """
    given = [_split(name) for name in names]
    loaded = [load_learned(path) for _, path in given]
    if len({one.sha256 for one in loaded}) < len(loaded):
        raise CheckpointError(f'the same checkpoint is given twice among {list(names)}; name '
                              'each once')
    algorithms = [one.algorithm for one in loaded]
    labels = [label or (name if algorithms.count(name) == 1 else f'{name} {_folder(path)}')
              for (label, path), name in zip(given, algorithms, strict=True)]
    if len(set(labels)) < len(labels):
        raise CheckpointError(f'several checkpoints would be called {labels}; tell them apart as '
                              'LABEL=FILE')
    return [replace(one, label=label) for one, label in zip(loaded, labels, strict=True)]


def _split(name: str) -> tuple[str, str]:
    label, equals, path = name.partition('=')
    return (label, path) if equals and not Path(name).exists() else ('', name)


def _folder(path: str) -> str:
    return 'shipped' if Path(path) == SHIPPED_CHECKPOINT else Path(path).resolve().parent.name
