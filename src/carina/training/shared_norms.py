"""Batch norms whose statistics are those of the whole batch, however many processes share it.

A process that normalises by its own films alone trains another network than one process with all of them
would. torch's SyncBatchNorm does this on GPUs only; here the sums go through ``all_reduce``, forwards and
backwards, with whatever back end there is (gloo, NCCL). Names and shapes of parameters stay as they were.

The mean and the variance of n films shared by several processes: Ioffe and Szegedy, arXiv 1502.03167,
with every sum taken over all of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import distributed, nn

_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


@contextmanager
def shared(network: nn.Module, world: int) -> Iterator[None]:
    """While inside, the batch norms of ``network`` that learn sum over all ``world`` processes."""
    norms = [module for module in network.modules() if isinstance(module, _NORMS)] if world > 1 else []
    kinds = [type(norm) for norm in norms]
    for norm, kind in zip(norms, kinds, strict=True):
        norm.__class__ = type(f"Shared{kind.__name__}", (_Shared, kind), {})
    try:
        yield
    finally:
        for norm, kind in zip(norms, kinds, strict=True):
            norm.__class__ = kind


class _Shared:
    """Mixed into a batch norm: the same forward, with sums over all processes while it trains."""

    def forward(self: Any, films: torch.Tensor) -> torch.Tensor:
        """(N, C, ...) → the same shape; N is this process's part of the batch."""
        if not self.training:
            return super().forward(films)
        seen = _normalised(films, self)
        for name in ("drop", "act"):  # timm's norms bring both along
            part = getattr(self, name, None)
            seen = seen if part is None else part(seen)
        return seen


def _normalised(films: torch.Tensor, norm: Any) -> torch.Tensor:
    exact = films.float()
    axes = [axis for axis in range(films.ndim) if axis != 1]
    shape = [1, -1] + [1] * (films.ndim - 2)
    count = torch.full((1,), films.numel() / films.shape[1], device=films.device)
    sums = _Sum.apply(torch.cat([exact.sum(axes), count]))
    total = sums[-1].detach()
    mean = sums[:-1] / total
    apart = exact - mean.view(shape)
    # In two passes: the difference of two large sums of squares would not be exact.
    variance = _Sum.apply(apart.square().sum(axes)) / total
    _remember(norm, mean.detach(), variance.detach(), float(total))
    seen = apart * torch.rsqrt(variance + norm.eps).view(shape)
    if norm.affine:
        seen = seen * norm.weight.view(shape) + norm.bias.view(shape)
    return seen.to(films.dtype)


@torch.no_grad()
def _remember(norm: Any, mean: torch.Tensor, variance: torch.Tensor, total: float) -> None:
    """Move the running statistics as torch's batch norm does: with the unbiased variance."""
    if not norm.track_running_stats:
        return
    norm.num_batches_tracked += 1
    share = 1 / float(norm.num_batches_tracked) if norm.momentum is None else norm.momentum
    norm.running_mean.lerp_(mean, share)
    norm.running_var.lerp_(variance * total / max(total - 1, 1), share)


class _Sum(torch.autograd.Function):
    """The sum over all processes; so is its gradient, for each one's loss depends on everybody's films."""

    @staticmethod
    def forward(ctx: Any, tensor: torch.Tensor) -> torch.Tensor:
        total = tensor.clone()
        distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
        total = gradient.clone()
        distributed.all_reduce(total)
        return total
