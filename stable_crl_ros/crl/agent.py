"""What all algorithms share: actor, optimisers, random numbers, batches and state."""

from collections.abc import Mapping, Sequence
import math
from typing import ClassVar

import numpy as np
from stable_crl_ros.actions import ACTION_DIM
from stable_crl_ros.crl.augment import augment
from stable_crl_ros.crl.config import AgentConfig
from stable_crl_ros.crl.distributed import ALONE, Ranks
from stable_crl_ros.crl.draws import BatchGenerator, randn
from stable_crl_ros.crl.losses import gaussian_log_prob
from stable_crl_ros.crl.metrics import Metrics
from stable_crl_ros.crl.networks import Actor, to_pixels
import torch
from torch import nn, Tensor

SMALLEST_DISTANCE = 1e-3  # of features and normalised actions: below it they are the same


class Agent:
    """
    Learner of one actor; a subclass adds its losses in `update`.

    A batch maps names to arrays, or to tensors on the device: `observations`,
    `next_observations`, `actor_goals` and `critic_goals` are uint8 images (B, H, W, 3);
    `actions` are normalised, float32 (B, action_dim).

    :param config: every setting, an `AgentConfig` of the subclass's kind.
    :param device: such as 'cpu' or 'cuda'.
    :param seed: of the initial weights and of all that training draws.
    """

    # Names of what `assess` can measure, from which steps to go and being at the goal are read;
    # none where nothing learns how near a goal is.
    STEPS_FROM: ClassVar[tuple[str, ...]] = ()
    AT_GOAL_FROM: ClassVar[tuple[str, ...]] = ()

    def __init__(self, config: AgentConfig, action_dim: int = ACTION_DIM, device: str = 'cpu',
                 seed: int = 0) -> None:
        self.config = config
        self.action_dim = action_dim
        self.device = torch.device(device)
        self.step = 0
        self.ranks = ALONE
        self.generator = BatchGenerator(self.device)
        self.generator.seed_all(seed)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.networks = {name: network.to(self.device)
                             for name, network in self.make_networks(config, action_dim).items()}
        self.actor = self.networks['actor']
        self.optimisers = {
            name: torch.optim.Adam(network.parameters(), lr=config.learning_rate, fused=True)
            for name, network in self.networks.items()}

    @classmethod
    def make_networks(cls, config: AgentConfig, action_dim: int) -> dict[str, nn.Module]:
        """Make the networks that a checkpoint holds, by name; one of them is 'actor'."""
        return {'actor': Actor(config, action_dim)}

    @classmethod
    def sampling(cls, config: AgentConfig) -> dict:
        """Return the arguments of `BatchSampler` that make this learner's batches."""
        return {'actor_goal': config.actor_goal,
                'actor_goal_horizon': config.actor_goal_horizon,
                'actor_goal_random': config.actor_goal_random,
                'images': ('observations', 'actor_goals')}

    @classmethod
    def act(cls, networks: Mapping[str, nn.Module], observations: Tensor,
            goals: Tensor) -> Tensor:
        """
        Return the mean of the deployed policy.

        :param networks: from `make_networks`, trained.
        :param observations: pixels (B, 3, H, W); so are the goals.
        :returns: normalised actions, shape (B, action_dim).
        """
        return networks['actor'](observations, goals)

    @classmethod
    def encode_goals(cls, networks: Mapping[str, nn.Module], goals: Tensor) -> Tensor:
        """
        Return what `score` needs of goals, once for as long as they stay.

        :param goals: pixels (B, 3, H, W).
        """
        return goals

    @classmethod
    def score(cls, networks: Mapping[str, nn.Module], observations: Tensor, actions: Tensor,
              encoded: Tensor) -> Tensor | None:
        """
        Say how near each goal is thought to be; higher is nearer.

        :param observations: pixels (B, 3, H, W).
        :param actions: normalised, shape (B, action_dim).
        :param encoded: goals, by `encode_goals`.
        :returns: shape (B,), or None where nothing learns that.
        """
        return None

    @classmethod
    def place_goals(cls, networks: Mapping[str, nn.Module], goals: Tensor) -> dict[str, Tensor]:
        """
        Return what `assess` needs of goals, once for as long as they stay.

        :param goals: pixels (B, 3, H, W).
        """
        encoded, action = cls.encode_goals(networks, goals), cls.act(networks, goals, goals)
        placed = {'encoded': encoded, 'action': action}
        score = cls.score(networks, goals, action, encoded)
        return placed if score is None else placed | {'score': score}

    @classmethod
    def pick_goals(cls, placed: Mapping[str, Tensor], rows: Tensor) -> dict[str, Tensor]:
        """
        Return what `place_goals` gave for some of its goals.

        :param rows: indices of the goals, one may come often; int64, shape (B,).
        """
        return {name: tensor[rows] for name, tensor in placed.items()}

    @classmethod
    def assess(cls, networks: Mapping[str, nn.Module], observations: Tensor, actions: Tensor,
               placed: Mapping[str, Tensor], names: Sequence[str] = (),
               ) -> tuple[Tensor | None, dict[str, Tensor]]:
        """
        Score and measure how near goals are, comparably over goals; larger is nearer.

        'gap' is the score against that of the goal's own picture, 'action' the distance between
        the policy's action and the one it would take there.

        :param observations: pixels (B, 3, H, W).
        :param actions: of the policy, normalised, shape (B, action_dim).
        :param placed: goals, by `place_goals`.
        :param names: of `STEPS_FROM` and `AT_GOAL_FROM`.
        :returns: `score`, and shape (B,) by name.
        """
        score = cls.score(networks, observations, actions, placed['encoded'])
        return score, cls._compare(score, actions, placed, names)

    @staticmethod
    def _compare(score: Tensor | None, actions: Tensor, placed: Mapping[str, Tensor],
                 names: Sequence[str]) -> dict[str, Tensor]:
        found = {}
        if 'gap' in names:
            found['gap'] = score - placed['score']
        if 'action' in names:
            found['action'] = closeness((actions - placed['action']).square().mean(1))
        return found

    def update(self, batch: Mapping[str, np.ndarray], detailed: bool = False) -> Metrics:
        """
        Take one gradient step on every network.

        :param detailed: also compute the metrics that cost extra work.
        :returns: metrics by name.
        """
        raise NotImplementedError

    @torch.no_grad()
    def validate(self, batch: Mapping[str, np.ndarray]) -> dict[str, float]:
        """Measure on held-out data without learning."""
        pixels = self.pixels(self.load_images(batch, ('observations', 'actor_goals')))
        actions = self.load(batch['actions'])
        mean = self.actor(*pixels.chunk(2))
        return {'squared_error': float((mean - actions).square().sum(1).mean()),
                'log_prob': float(gaussian_log_prob(mean, self.config.std, actions).mean())}

    def join(self, ranks: Ranks) -> None:
        """Train as one of several processes, each on its rows of every batch."""
        self.ranks = ranks
        self.generator.rank, self.generator.ranks = ranks.rank, ranks.size

    def load(self, array: np.ndarray | Tensor) -> Tensor:
        """Move an array of a batch to the device; what is there already passes."""
        if isinstance(array, Tensor):
            return array.to(self.device)
        return torch.from_numpy(np.ascontiguousarray(array)).to(self.device)

    def load_images(self, batch: Mapping[str, np.ndarray], names: tuple[str, ...]) -> list[Tensor]:
        """Move the named images of a batch to the device, still uint8."""
        return [self.load(batch[name]) for name in names]

    def augment(self, images: list[Tensor]) -> list[Tensor] | None:
        """Augment images as configured, all alike; None where they stay as they are."""
        return augment(images, self.config, self.generator)

    def pixels(self, images: list[Tensor]) -> Tensor:
        """
        Convert images of equal shape, one after the other, to network input in one go.

        Within `autocast` they come at its precision, which spares every network its own copy.
        """
        kind = self.device.type
        half = torch.is_autocast_enabled(kind)
        return to_pixels(images, self.config.pixel_range,
                         torch.get_autocast_dtype(kind) if half else torch.float32)

    def autocast(self):
        """Return the context in which networks compute at the configured precision."""
        return torch.autocast(self.device.type, torch.bfloat16,
                              enabled=self.config.precision == 'bf16')

    def sample(self, mean: Tensor) -> Tensor:
        """Draw actions from the policy, differentiable with respect to its mean."""
        return mean + self.config.std * randn(mean.shape, self.generator).to(mean.device)

    def apply(self, name: str, loss: Tensor) -> None:
        """Step one network down its loss; no other network receives a gradient."""
        parameters = list(self.networks[name].parameters())
        optimiser = self.optimisers[name]
        optimiser.zero_grad(set_to_none=True)
        loss.backward(inputs=parameters)
        self.ranks.average(p.grad for p in parameters if p.grad is not None)
        decay = self.config.actor_decay_steps if name == 'actor' else 0
        for group in optimiser.param_groups:
            group['lr'] = learning_rate(self.config, self.step,
                                        decay if group.get('decays', True) else 0)
        optimiser.step()

    def report(self, metrics: Mapping[str, Tensor]) -> Metrics:
        """Give metrics of the whole batch, left on the device until they are read."""
        found = Metrics(metrics)
        self.ranks.average([found.tensor])
        return found

    def tensors(self) -> dict[str, Tensor]:
        """Return the weights that a checkpoint holds."""
        return {f'{name}.{key}': value for name, network in self.networks.items()
                for key, value in network.state_dict().items()}

    def start_from(self, tensors: Mapping[str, Tensor]) -> None:
        """
        Take over the weights that `tensors` gave, and nothing else: optimisers stay fresh.

        :raises RuntimeError: when they are of other networks.
        """
        for name, network in self.networks.items():
            network.load_state_dict({key.removeprefix(f'{name}.'): value
                                     for key, value in tensors.items()
                                     if key.startswith(f'{name}.')})
        self.reset_targets()

    def reset_targets(self) -> None:
        """Make slowly following copies, of which there are none here, equal what they follow."""

    def state_dict(self) -> dict:
        """Return everything that the next update depends on, as plain values and tensors."""
        return {
            'networks': {name: n.state_dict() for name, n in self.networks.items()},
            'optimisers': {name: o.state_dict() for name, o in self.optimisers.items()},
            **self.generator.state_dict(),
            'step': self.step,
        }

    def load_state_dict(self, state: Mapping) -> None:
        """Continue exactly where `state_dict` was taken."""
        for name, network in self.networks.items():
            network.load_state_dict(state['networks'][name])
        for name, optimiser in self.optimisers.items():
            optimiser.load_state_dict(state['optimisers'][name])
        self.step = state['step']
        self.generator.load_state_dict(state, self.step)


def closeness(squared_distance: Tensor) -> Tensor:
    """Turn squared distances into what grows without haste as they shrink: minus the log."""
    return -(squared_distance.sqrt() + SMALLEST_DISTANCE).log()


def learning_rate(config: AgentConfig, step: int, decay_steps: int = 0) -> float:
    """
    Give the learning rate: linear warm-up, then constant, or a cosine to 0.

    :param step: gradient steps taken before this one.
    :param decay_steps: when the cosine reaches 0, warm-up included; constant where 0.
    """
    if step < config.warmup_steps:
        return config.learning_rate * step / config.warmup_steps
    if not decay_steps:
        return config.learning_rate
    done = (step - config.warmup_steps) / max(decay_steps - config.warmup_steps, 1)
    return config.learning_rate * 0.5 * (1.0 + math.cos(math.pi * min(done, 1.0)))
