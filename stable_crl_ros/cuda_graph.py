"""Replay one computation on a GPU as a whole: no launch per layer, one wait at the end."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

WARM_UP = 3  # runs before the capture, in which libraries choose their kernels


class CudaGraph:
    """
    A computation from one image to a few numbers.

    :param compute: maps a uint8 tensor (1, H, W, 3) on the device to a float tensor (N,); what
        else it reads must stay where it is.
    :param shape: of the image.
    :raises RuntimeError: when it cannot be captured; it can be run as it is then.
    """

    def __init__(self, compute: Callable[[Tensor], Tensor], shape: tuple[int, int, int],
                 device: torch.device) -> None:
        self._image = torch.zeros((1, *shape), dtype=torch.uint8, device=device)
        self._from_host = torch.zeros((1, *shape), dtype=torch.uint8).pin_memory()
        self._stream = torch.cuda.Stream(device)
        self._stream.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(self._stream), torch.inference_mode():
            for _ in range(WARM_UP):
                numbers = compute(self._image)
            self._stream.synchronize()
            self._graph = torch.cuda.CUDAGraph()
            # Another policy may act on this GPU meanwhile, in another thread.
            with torch.cuda.graph(self._graph, stream=self._stream,
                                  capture_error_mode='thread_local'):
                self._numbers = compute(self._image)
        self._to_host = torch.zeros(numbers.shape, dtype=numbers.dtype).pin_memory()

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """
        Run it, after all that this thread gave the device before; waits once, for the result.

        :param image: uint8, of the shape that was captured.
        """
        # What the computation reads, such as a new goal, may still be on its way there.
        self._stream.wait_stream(torch.cuda.current_stream(self._stream.device))
        with torch.cuda.stream(self._stream), torch.inference_mode():
            self._from_host.numpy()[0] = image
            self._image.copy_(self._from_host, non_blocking=True)
            self._graph.replay()
            self._to_host.copy_(self._numbers, non_blocking=True)
            self._stream.synchronize()
        return self._to_host.numpy().copy()
