"""What learners of goal-conditioned values share: goals, target network, settings."""

from collections.abc import Mapping
import copy
from dataclasses import dataclass
from typing import ClassVar

from stable_crl_ros.actions import ACTION_DIM
from stable_crl_ros.crl.agent import Agent
from stable_crl_ros.crl.config import AgentConfig, ConfigError
from stable_crl_ros.crl.networks import Head
from stable_crl_ros.data.sampling import GoalMixture
import torch
from torch import nn, Tensor
import torch.nn.functional as F  # noqa: N812 the name every PyTorch user knows


@dataclass(frozen=True)
class ValueConfig(AgentConfig):
    """Settings of values learnt from the reward -1 per step until the goal is reached."""

    actor_goal: str = 'uniform'  # future goal of the actor (OGB); 'later' in BD
    value_hidden: tuple[int, ...] = (1024, 1024, 1024, 1024)  # as SC's critic; 3 x 512 in OGB
    value_norm: str = 'affine'  # layer norm in the values' heads (OGB); 'none' in BD
    value_final_init: float = 0.0  # last layers U(-x, x); 0 = as hidden (OGB, BD)
    critics: int = 2  # twin (OGB); 1 in BD
    expectile: float = 0.9  # of the targets that a value is (OGB for GCIQL); 0.7 in BD
    target_update_rate: float = 5e-3  # Polyak, every step (OGB); 0.002 in BD
    # Future goal of the values: 'geometric' up to the episode's end (in OGB, what would lie beyond
    # it is its last frame: of episodes of 60 steps at 0.95 a third, here 6 %) | 'uniform' |
    # 'later' (BD)
    value_goal: str = 'geometric'
    value_goal_reached: float = 0.2  # share of goals that are reached (OGB); 0.09 in BD
    value_goal_random: float = 0.3  # share of goals of any episode (OGB); 0.1 in BD
    reached_at: str = 'current'  # s = g counts as reached (OGB); 'next': s' = g does (BD)

    def __post_init__(self) -> None:
        """Refuse values that cannot work, naming the valid ones."""
        super().__post_init__()
        self._check_range('critics', 1, 16)
        self._check_range('expectile', 0.5, 1.0 - 1e-6)
        self._check_range('target_update_rate', 0.0, 1.0)
        self._check_range('value_final_init', 0.0, float('inf'))
        self._check_range('value_goal_reached', 0.0, 1.0)
        self._check_range('value_goal_random', 0.0, 1.0)
        shares = self.value_goal_reached, self.value_goal_random
        if sum(shares) > 1.0:
            raise ConfigError('value_goal_reached and value_goal_random are shares of all goals, '
                              f'together at most 1; got {shares[0]} and {shares[1]}')

    @property
    def goal_mixture(self) -> GoalMixture:
        """Where the goals of the values come from."""
        return GoalMixture(self.value_goal_reached, self.value_goal_random, self.value_goal,
                           self.reached_at)


class ValueAgent(Agent):
    """
    Learner with a slowly following copy of its values.

    Batches also hold `value_goals`, images like the others, and `reached`, bool, shape (B,).
    """

    STEPS_FROM: ClassVar[tuple[str, ...]] = ('gap',)
    AT_GOAL_FROM: ClassVar[tuple[str, ...]] = ('gap', 'action')

    def __init__(self, config: ValueConfig, action_dim: int = ACTION_DIM, device: str = 'cpu',
                 seed: int = 0) -> None:
        super().__init__(config, action_dim, device, seed)
        self.target = copy.deepcopy(self.values).requires_grad_(False)

    @property
    def values(self) -> nn.Module:
        """The network that the target follows."""
        raise NotImplementedError

    @classmethod
    def sampling(cls, config: ValueConfig) -> dict:
        """Ask for value goals beside the actor's."""
        return super().sampling(config) | {
            'value_goal': config.goal_mixture,
            'images': ('observations', 'next_observations', 'value_goals', 'actor_goals')}

    @torch.no_grad()
    def _update_target(self) -> None:
        torch._foreach_lerp_(list(self.target.parameters()), list(self.values.parameters()),
                             self.config.target_update_rate)

    def reset_targets(self) -> None:
        """Make the target equal the values."""
        self.target.load_state_dict(self.values.state_dict())

    def state_dict(self) -> dict:
        """Return everything that the next update depends on."""
        return super().state_dict() | {'target': self.target.state_dict()}

    def load_state_dict(self, state: Mapping) -> None:
        """Continue exactly where `state_dict` was taken."""
        super().load_state_dict(state)
        self.target.load_state_dict(state['target'])


def make_value_head(inputs: int, config: ValueConfig, outputs: int = 1) -> Head:
    """Make fully connected layers of the values' size and norms."""
    return Head(inputs, config.value_hidden, outputs, activation=config.activation,
                norm=config.value_norm, skip_last_norm=False, dropout=0.0,
                gain=config.hidden_gain, final_init=config.value_final_init)


def difference(observed: Tensor, goals: Tensor) -> Tensor:
    """
    Return how encoded goals differ from encoded observations, at unit scale, shape (B, F).

    Pictures of one scene differ in few pixels: without this, values and representations were
    the same for all goals during hundreds of steps.
    """
    return F.layer_norm(goals - observed, goals.shape[1:])
