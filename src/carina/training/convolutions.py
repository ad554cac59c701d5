"""Convolutions that a processor computes badly in bfloat16, computed another way while a network learns.

Two kinds were found with oneDNN's own clock (docs/log.md):

* **depthwise**: its matrix kernels fit no convolution of one channel with itself, and the backward pass took
  longer in bfloat16 than in float32. They compute in float32, and go on in autocast's numbers.
* **small maps**: the gradient of the weights of a dense convolution over a map of 2 × 2 to 8 × 8 places took
  up to ten times as long as the same sum as one product of matrices (im2col: Chellapilla et al. 2006). It
  is that product here; the forward pass and the gradient of the input stay oneDNN's.

Names and shapes of parameters stay as they were; GPUs are left alone, and so is float32.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn.functional import conv2d, pad
from torch.nn.grad import conv2d_input

_FEW = 16  # places of a map, up to which the product was faster for every dense convolution
_SOME = 64  # the same, for those that see more than one place at once
_CHANNELS = 128  # with fewer of them the product gains nothing


@contextmanager
def suited(network: nn.Module, device: torch.device) -> Iterator[None]:
    """While inside, the convolutions of ``network`` on a processor compute as is fastest in bfloat16."""
    all_of_them = list(network.modules()) if device.type == "cpu" else []
    changed: list[tuple[Any, type]] = [
        (each, mixed)
        for which, mixed in ((is_depthwise, _InFloat32), (is_dense, _ByMatrix))
        for each in all_of_them
        if which(each)
    ]
    kinds = [type(each) for each, _ in changed]
    try:
        for (each, mixed), kind in zip(changed, kinds, strict=True):
            each.__class__ = type(f"{mixed.__name__.strip('_')}{kind.__name__}", (mixed, kind), {})
        yield
    finally:
        for (each, _), kind in zip(changed, kinds, strict=True):
            each.__class__ = kind


def is_depthwise(module: nn.Module) -> bool:
    """Whether it is a convolution in which every channel meets itself alone."""
    return isinstance(module, nn.Conv2d) and module.groups == module.in_channels > 1


def is_dense(module: nn.Module) -> bool:
    """Whether it is a plain convolution of many channels, all with all, whose gradient can be a product."""
    return (
        type(module) is nn.Conv2d
        and module.groups == 1
        and module.in_channels >= _CHANNELS
        and module.bias is None
        and module.dilation == (1, 1)
        and module.padding_mode == "zeros"
        and not isinstance(module.padding, str)
    )


class _InFloat32:
    """Mixed into a convolution: the same forward outside autocast, answered in autocast's numbers."""

    def forward(self: Any, seen: torch.Tensor) -> torch.Tensor:
        """(N, C, h, w) → (N, C', h', w')"""
        if not torch.is_autocast_enabled("cpu"):
            return super().forward(seen)
        with torch.autocast("cpu", enabled=False):
            return super().forward(seen.float()).to(torch.get_autocast_dtype("cpu"))


class _ByMatrix:
    """Mixed into a convolution: over small maps the gradient of its weights is a product of matrices."""

    def forward(self: Any, seen: torch.Tensor) -> torch.Tensor:
        """(N, C, h, w) → (N, C', h', w')"""
        sides = (
            (side + 2 * margin - kernel) // stride + 1
            for side, margin, kernel, stride in zip(
                seen.shape[2:], self.padding, self.kernel_size, self.stride, strict=True
            )
        )
        places = next(sides) * next(sides)
        small = places <= (_FEW if self.kernel_size == (1, 1) else _SOME)
        learns = torch.is_grad_enabled() and self.weight.requires_grad
        if not (small and learns and torch.is_autocast_enabled("cpu")):
            return super().forward(seen)
        kind = torch.get_autocast_dtype("cpu")
        with torch.autocast("cpu", enabled=False):
            return _Convolution.apply(seen.to(kind), self.weight.to(kind), self.stride, self.padding)


class _Convolution(torch.autograd.Function):
    """A convolution whose gradient of the weights is (C', places) times (places, kernel × C)."""

    @staticmethod
    def forward(ctx: Any, seen: Any, weight: Any, stride: Any, padding: Any) -> torch.Tensor:
        """(N, C, h, w) and (C', C, kh, kw) → (N, C', h', w')"""
        ctx.save_for_backward(seen, weight)
        ctx.stride, ctx.padding = stride, padding
        return conv2d(seen, weight, None, stride, padding)

    @staticmethod
    def backward(ctx: Any, slope: Any) -> tuple[Any, ...]:  # type: ignore[override]
        """The gradients of ``seen`` and ``weight``."""
        seen, weight = ctx.saved_tensors
        back = None
        if ctx.needs_input_grad[0]:
            back = conv2d_input(seen.shape, weight, slope, ctx.stride, ctx.padding)
        across = slope.permute(0, 2, 3, 1).flatten(0, 2)  # (N h' w', C')
        product = across.t() @ _windows(seen, slope.shape[2:], weight.shape[2:], ctx.stride, ctx.padding)
        steep = product.view(len(weight), *weight.shape[2:], weight.shape[1]).permute(0, 3, 1, 2)
        return back, steep, None, None


def _windows(seen: Any, sides: Any, kernel: Any, stride: Any, padding: Any) -> torch.Tensor:
    """What each place of the output sees, (N h' w', kh kw C)."""
    high, wide = padding
    rows = pad(seen.permute(0, 2, 3, 1), (0, 0, wide, wide, high, high))  # (N, h, w, C)
    film, down, right, channel = rows.stride()
    steps = (film, down * stride[0], right * stride[1], down, right, channel)
    return rows.as_strided((len(rows), *sides, *kernel, rows.shape[3]), steps).flatten(0, 2).flatten(1)
