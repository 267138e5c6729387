"""Random numbers of training: drawn for the whole batch, of which every rank takes its rows."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor


class BatchGenerator(torch.Generator):
    """
    Generator on the device of the training, alike on all ranks of a run.

    `coins` draws what the host must know at once: on the CPU, so that no device is waited for.
    """

    rank, ranks = 0, 1

    def __init__(self, device: str | torch.device = 'cpu') -> None:
        super().__init__()
        self.coins = self if self.device.type == 'cpu' else torch.Generator()

    def seed_all(self, seed: int) -> None:
        """Start both streams anew."""
        self.manual_seed(seed)
        if self.coins is not self:
            self.coins.manual_seed(seed)

    def state_dict(self) -> dict[str, Tensor]:
        """Return the states of both streams."""
        return {'generator': self.get_state(), 'coins': self.coins.get_state()}

    def load_state_dict(self, state: dict[str, Tensor], seed: int) -> None:
        """
        Continue where `state_dict` was taken.

        :param seed: of the streams where the state is of another kind of device.
        """
        try:
            self.coins.set_state(state.get('coins', state['generator']).cpu())
            self.set_state(state['generator'].cpu())
        except RuntimeError:
            self.seed_all(seed)


def coins_of(generator: torch.Generator) -> torch.Generator:
    """Return the generator on the CPU that belongs to another."""
    return getattr(generator, 'coins', generator)


def rand(shape: Sequence[int], generator: torch.Generator, axis: int = 0) -> Tensor:
    """
    Draw this rank's rows of uniform numbers, on the generator's device.

    :param shape: of this rank's rows.
    :param axis: along which samples of a batch lie.
    """
    return _draw(torch.rand, shape, generator, axis)


def randn(shape: Sequence[int], generator: torch.Generator) -> Tensor:
    """Draw this rank's rows of normal numbers; as for `rand`."""
    return _draw(torch.randn, shape, generator, 0)


def randint(low: int, high: int, shape: Sequence[int], generator: torch.Generator,
            axis: int = 0) -> Tensor:
    """Draw this rank's rows of integers in [low, high); as for `rand`."""
    return _draw(lambda size, **kwargs: torch.randint(low, high, size, **kwargs), shape,
                 generator, axis)


def _draw(function: Callable[..., Tensor], shape: Sequence[int], generator: torch.Generator,
          axis: int) -> Tensor:
    rank, ranks = getattr(generator, 'rank', 0), getattr(generator, 'ranks', 1)
    whole = list(shape)
    whole[axis] *= ranks
    drawn = function(whole, generator=generator, device=generator.device)
    return drawn.narrow(axis, rank * shape[axis], shape[axis])
