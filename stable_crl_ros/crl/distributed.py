"""Several processes that train one agent: N of them at batch B / N do what one does at batch B."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
import importlib
import os

from stable_crl_ros.crl.config import ConfigError
import torch
from torch import distributed, Tensor


@dataclass(frozen=True)
class Ranks:
    """
    This process among those of a run; alone by default, when all its methods return what they get.

    :param rank: 0 .. size - 1; 0 writes the run's files.
    """

    rank: int = 0
    size: int = 1

    @property
    def first(self) -> bool:
        """Whether this process writes and shows things."""
        return self.rank == 0

    def rows(self, batch_size: int) -> slice:
        """
        Return this rank's part of a batch.

        :raises ConfigError: when the batch does not divide.
        """
        if batch_size % self.size:
            raise ConfigError(f'batch_size {batch_size} does not divide by {self.size} ranks; '
                              f'choose a multiple of {self.size}')
        own = batch_size // self.size
        return slice(self.rank * own, (self.rank + 1) * own)

    def gather(self, part: Tensor, axis: int = 0) -> Tensor:
        """
        Put the parts of all ranks together along an axis, differentiably.

        Backward adds up what all ranks' losses say about a part. Gradients are right after
        `average`, be the loss of the whole batch on every rank or of the rank's own samples.
        """
        return part if self.size == 1 else _Gather.apply(part, axis, self)

    def roll(self, part: Tensor, axis: int = 0) -> Tensor:
        """Give sample i what sample i + 1 of the whole batch has, differentiably."""
        if self.size == 1:
            return part.roll(-1, axis)
        firsts = self.gather(part.narrow(axis, 0, 1), axis)
        following = firsts.narrow(axis, (self.rank + 1) % self.size, 1)
        return torch.cat([part.narrow(axis, 1, part.shape[axis] - 1), following], axis)

    def average(self, tensors: Iterable[Tensor]) -> None:
        """Replace tensors by their mean over all ranks."""
        if self.size == 1:
            return
        tensors = list(tensors)
        flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
        distributed.all_reduce(flat)
        flat /= self.size
        for tensor, mean in zip(tensors, flat.split([t.numel() for t in tensors]), strict=True):
            tensor.copy_(mean.view_as(tensor))

    def any(self, flag: bool) -> bool:
        """Say whether a flag is set on any rank."""
        if self.size == 1:
            return flag
        device = 'cuda' if distributed.get_backend() == 'nccl' else 'cpu'
        found = torch.tensor(float(flag), device=device)
        distributed.all_reduce(found)
        return bool(found > 0)


ALONE = Ranks()


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx, part: Tensor, axis: int, ranks: Ranks) -> Tensor:
        ctx.axis, ctx.ranks, ctx.length = axis, ranks, part.shape[axis]
        part = part.contiguous()
        parts = [torch.empty_like(part) for _ in range(ranks.size)]
        distributed.all_gather(parts, part)
        return torch.cat(parts, axis)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None, None]:
        gradient = gradient.contiguous().clone()
        distributed.all_reduce(gradient)  # what every rank's loss says about this rank's part
        return gradient.narrow(ctx.axis, ctx.ranks.rank * ctx.length, ctx.length), None, None


def own_device(device: str) -> str:
    """Name the GPU that is this process's own where `torchrun` started several."""
    if device == 'cuda' and _started_by_torchrun():
        return f'cuda:{os.environ["LOCAL_RANK"]}'
    return device


def _started_by_torchrun() -> bool:
    return int(os.environ.get('WORLD_SIZE', '1')) > 1


@contextmanager
def ranks_of_torchrun(device: str) -> Iterator[Ranks]:
    """
    Join the run that `torchrun` started, if it did; leave it at the end.

    :param device: as `own_device` returns it.
    :returns: this process's place.
    """
    if not _started_by_torchrun():
        yield Ranks()
        return
    if device.startswith('cuda'):
        torch.cuda.set_device(device)
    # Its functions take the group there is when they are first imported as a default, and an
    # optimiser imports them: the group's threads would outlive the group, and abort the process
    # where one of them lets go of a tensor while the interpreter ends.
    importlib.import_module('torch.distributed.nn.functional')
    distributed.init_process_group('nccl' if device.startswith('cuda') else 'gloo')
    try:
        yield Ranks(distributed.get_rank(), distributed.get_world_size())
    except BaseException:
        # NCCL would wait for the others to leave, and they for this one's part of a sum; this
        # process's end is what torchrun ends them for.
        if distributed.get_backend() != 'nccl':
            distributed.destroy_process_group()
        raise
    distributed.destroy_process_group()
