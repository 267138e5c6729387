"""Batches drawn and gathered on the device that trains, where its memory holds all frames."""

from collections.abc import Mapping
import zlib

import numpy as np
from stable_crl_ros.crl.distributed import ALONE, Ranks
from stable_crl_ros.data.cache import TrainingCache
from stable_crl_ros.data.sampling import BatchSampler, MARKS
import torch
from torch import Tensor

MEMORY_SHARE = 0.5  # of a GPU's free memory that the frames may take


def make_sampler(cache: TrainingCache, batch_size: int, seed: int, discount: float,
                 device: str | torch.device = 'cpu', ranks: Ranks = ALONE,
                 **asked) -> BatchSampler:
    """
    Make the sampler that suits a device: there where the frames fit, else from the memory map.

    :param ranks: all of them draw in one way, or their rows would be of different batches.
    :param asked: `Agent.sampling` of the learner.
    """
    device = torch.device(device)
    if device.type == 'cuda' and not ranks.any(
            not fits(cache, torch.cuda.mem_get_info(device)[0])):
        return DeviceSampler(cache, batch_size, seed, discount, device=device, **asked)
    return BatchSampler(cache, batch_size, seed, discount, **asked)


def fits(cache: TrainingCache, free: int) -> bool:
    """
    Say whether all frames may live on a device.

    :param free: its free memory in bytes.
    """
    return cache.observations.nbytes <= MEMORY_SHARE * free


class DeviceSampler(BatchSampler):
    """
    `BatchSampler` on a device: same batches in distribution, tensors instead of arrays.

    :param cache: its frames are copied to the device once, as uint8.
    :param device: such as 'cuda'.
    """

    def __init__(self, cache: TrainingCache, batch_size: int = 256, seed: int = 0,
                 discount: float = 0.99, *, device: str | torch.device = 'cuda',
                 **asked) -> None:
        super().__init__(cache, batch_size, seed, discount, **asked)
        self.device = torch.device(device)
        self._observations = self._put(cache.observations)
        self._actions = self._put(cache.actions)
        self._frames, self._ends = self._put(cache.frames), self._put(cache.ends)
        # Not the learner's stream, which has the same seed on the same device: what is augmented
        # shall not follow from what was drawn.
        self._generator = torch.Generator(self.device).manual_seed(
            zlib.crc32(f'sampler {seed}'.encode()))

    def _put(self, array: np.ndarray) -> Tensor:
        # A copy also on the CPU: a memory map may be read-only, which torch does not know.
        return torch.tensor(array, device=self.device)

    def _random(self, size: int) -> Tensor:
        return torch.rand(size, generator=self._generator, device=self.device,
                          dtype=torch.float64)

    def _integers(self, high: Tensor | int, size: int) -> Tensor:
        """Draw int64 in [0, high), evenly but for 1 in 2**53 / high."""
        drawn = (self._random(size) * high).long()
        return drawn.clamp_(max=high - 1) if isinstance(high, int) \
            else torch.minimum(drawn, high - 1)

    def sample_indices(self) -> dict[str, Tensor]:
        """Draw a batch as indices; see `BatchSampler.sample_indices`."""
        chosen = self._integers(len(self.cache), self.batch_size)
        t, ends = self._frames[chosen], self._ends[chosen]
        drawn = {'observations': t, 'next_observations': t + 1}
        drawn |= self._draw_goals(t, ends, drawn['next_observations'])
        if 'value_goals' in self.images:
            drawn['value_goals'] = self._draw_value_goals(t, ends)
            drawn['reached'] = drawn['value_goals'] == self._reached(t)
        if 'waypoints' in self.images:
            drawn['waypoints'] = torch.minimum(t + self.waypoint_steps, ends)
            if 'actor_goals' in self.images:
                goals = drawn['actor_goals']
                drawn['near'] = (goals > t) & (goals < drawn['waypoints'])
        wanted = [name for name in (*self.images, *MARKS) if name in drawn]
        return {'transitions': chosen} | {name: drawn[name] for name in wanted}

    def _mix_random(self, goals: Tensor) -> Tensor:
        chosen = self._random(len(goals)) < self.actor_goal_random
        return torch.where(chosen, self._draw('random', goals, goals), goals)

    def _draw(self, kind: str, t: Tensor, ends: Tensor) -> Tensor:
        if kind == 'random':
            return self._frames[self._integers(len(self._frames), len(t))] + 1
        choices = ends - t
        if kind == 'uniform':
            return t + 1 + self._integers(choices, len(t))
        if kind == 'later':
            return torch.minimum(t + 2, ends) + self._integers((choices - 1).clamp(min=1), len(t))
        if kind == 'soon':
            return t + 1 + self._integers(choices.clamp(max=self.actor_goal_horizon), len(t))
        log_discount = float(np.log(self.discount))
        total = -torch.expm1(choices * log_discount)  # as in `sample_future`
        k = (torch.log1p(-self._random(len(t)) * total) / log_discount).long()
        return t + 1 + torch.minimum(k, choices - 1)

    def _reached(self, t: Tensor) -> Tensor:
        return t if self.value_goal.at == 'current' else t + 1

    def _draw_value_goals(self, t: Tensor, ends: Tensor) -> Tensor:
        mixture = self.value_goal
        share = self._random(len(t))
        future = self._draw(mixture.future, t, ends)
        other = self._draw('random', t, ends)
        goals = torch.where(share < mixture.reached + mixture.random, other, future)
        return torch.where(share < mixture.reached, self._reached(t), goals)

    def sample(self) -> dict[str, Tensor]:
        """Draw a batch; see `BatchSampler.sample`."""
        indices = self._own(self.sample_indices())
        groups = {id(indices[name]): indices[name] for name in self.images}
        images = self._observations.index_select(0, torch.cat(list(groups.values())))
        gathered = dict(zip(groups, images.split([len(part) for part in groups.values()]),
                            strict=True))
        batch = {name: gathered[id(indices[name])] for name in self.images}
        batch['actions'] = self._actions[indices['transitions']]
        return batch | {name: indices[name] for name in MARKS if name in indices}

    def state_dict(self) -> dict:
        """Return the state of the random stream as plain values."""
        return {'generator': self._generator.get_state().tolist()}

    def load_state_dict(self, state: Mapping) -> None:
        """Continue where `state_dict` was taken; another kind of device's stream starts anew."""
        try:
            self._generator.set_state(torch.tensor(state['generator'], dtype=torch.uint8))
        except (KeyError, RuntimeError):
            self._generator.manual_seed(zlib.crc32(repr(state).encode()))
