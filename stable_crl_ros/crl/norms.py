"""Layer norms: the critic heads' own, and `nn.LayerNorm` without leaving half precision."""

import math

import torch
from torch import nn, Tensor
import torch.nn.functional as F  # noqa: N812 the name every PyTorch user knows

TINY = 1e-30  # keeps a constant row at 0 where its deviation is 0
OFFSET = 1e-6  # added to the deviation, as in the authors' code


class CentredLayerNorm(nn.Module):
    """
    Layer norm of the critic's heads: a learnt centre, no learnt scale, unbiased deviation.

    :param features: size of the last axis.
    """

    def __init__(self, features: int) -> None:
        super().__init__()
        self.centre = nn.Parameter(torch.zeros(features))

    def forward(self, x: Tensor) -> Tensor:
        """Normalise (B, features) over the last axis; computes in float32, keeps the dtype."""
        return _CentredNorm.apply(x, self.centre)


class _CentredNorm(torch.autograd.Function):
    """
    (x - mean) / (std + OFFSET) + centre, with std unbiased.

    By hand because autograd's many small steps over it took a tenth of a whole update.
    """

    @staticmethod
    def forward(ctx, x: Tensor, centre: Tensor) -> Tensor:
        size = x.shape[-1]
        with torch.autocast(x.device.type, enabled=False):
            normed, _, inverse = torch.native_layer_norm(
                x.to(centre.dtype), (size,), None, None, TINY)  # biased deviation
            scale = 1.0 / (math.sqrt(size / (size - 1)) + OFFSET * inverse)
            ctx.save_for_backward(normed, inverse, scale)
            return torch.addcmul(centre, normed, scale).to(x.dtype)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, Tensor]:
        normed, inverse, scale = ctx.saved_tensors
        size, dtype = normed.shape[-1], gradient.dtype
        gradient = gradient.to(normed.dtype)
        along = torch.linalg.vecdot(gradient, normed)[:, None]
        result = torch.addcmul(
            gradient, normed, along * scale * (-math.sqrt(size / (size - 1)) / size))
        result.sub_(gradient.mean(-1, keepdim=True)).mul_(inverse * scale)
        return result.to(dtype), gradient.sum(0)


def layer_norm(x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    """
    Normalise over the trailing axes that `weight` has; keeps the dtype of `x`.

    Autocast goes through float32 copies; the CPU's kernel takes bfloat16 beside float32 weights.
    """
    if x.device.type != 'cpu':
        return F.layer_norm(x, weight.shape, weight, bias, eps).to(x.dtype)
    with torch.autocast('cpu', enabled=False):
        return F.layer_norm(x, weight.shape, weight, bias, eps)
