"""Convolutions that a processor computes badly in bfloat16, computed another way while a network learns.

Two kinds were found with oneDNN's own clock (docs/log.md):

* **depthwise**: its matrix kernels fit no convolution of one channel with itself, and the backward pass took
  longer in bfloat16 than in float32. They compute in float32, and go on in autocast's numbers.
* **small maps**: the gradient of the weights of a dense convolution over a map of 2 × 2 to 8 × 8 places took
  up to ten times as long as the same sum as one product of matrices (im2col: Chellapilla et al. 2006), over
  2 × 2 to 4 × 4 the other two passes two to four times as long. They are such products here.

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
    """Mixed into a convolution: over small maps it is computed as products of matrices."""

    def forward(self: Any, seen: torch.Tensor) -> torch.Tensor:
        """(N, C, h, w) → (N, C', h', w')"""
        high, wide = _sides(seen, self.kernel_size, self.stride, self.padding)
        small = high * wide <= (_FEW if self.kernel_size == (1, 1) else _SOME)
        learns = torch.is_grad_enabled() and self.weight.requires_grad
        if not (small and learns and torch.is_autocast_enabled("cpu")):
            return super().forward(seen)
        kind = torch.get_autocast_dtype("cpu")
        with torch.autocast("cpu", enabled=False):
            return _Convolution.apply(seen.to(kind), self.weight.to(kind), self.stride, self.padding)


class _Convolution(torch.autograd.Function):
    """A convolution whose passes are products of matrices of what each place sees, (places, kernel × C)."""

    @staticmethod
    def forward(ctx: Any, seen: Any, weight: Any, stride: Any, padding: Any) -> torch.Tensor:
        """(N, C, h, w) and (C', C, kh, kw) → (N, C', h', w')"""
        ctx.save_for_backward(seen, weight)
        ctx.stride, ctx.padding = stride, padding
        sides = _sides(seen, weight.shape[2:], stride, padding)
        if sides[0] * sides[1] > _FEW:
            return conv2d(seen, weight, None, stride, padding)
        matrix = weight.permute(0, 2, 3, 1).flatten(1)  # (C', kh kw C)
        made = _windows(seen, sides, weight.shape[2:], stride, padding) @ matrix.t()
        return made.view(len(seen), *sides, len(weight)).permute(0, 3, 1, 2)

    @staticmethod
    def backward(ctx: Any, slope: Any) -> tuple[Any, ...]:  # type: ignore[override]
        """The gradients of ``seen`` and ``weight``."""
        seen, weight = ctx.saved_tensors
        kernel = weight.shape[2:]
        across = slope.permute(0, 2, 3, 1).flatten(0, 2)  # (N h' w', C')
        product = across.t() @ _windows(seen, slope.shape[2:], kernel, ctx.stride, ctx.padding)
        steep = product.view(len(weight), *kernel, weight.shape[1]).permute(0, 3, 1, 2)
        margin = [side - 1 - padding for side, padding in zip(kernel, ctx.padding, strict=True)]
        if not ctx.needs_input_grad[0]:
            return None, steep, None, None
        if ctx.stride != (1, 1) or seen.shape[2] * seen.shape[3] > _FEW or min(margin) < 0:
            return conv2d_input(seen.shape, weight, slope, ctx.stride, ctx.padding), steep, None, None
        turned = weight.flip(2, 3).permute(2, 3, 0, 1).flatten(0, 2)  # (kh kw C', C)
        back = _windows(slope, seen.shape[2:], kernel, (1, 1), margin) @ turned
        return back.view(len(seen), *seen.shape[2:], -1).permute(0, 3, 1, 2), steep, None, None


def _sides(seen: Any, kernel: Any, stride: Any, padding: Any) -> tuple[int, int]:
    """Height and width of the output."""
    high, wide = (
        (side + 2 * margin - reach) // step + 1
        for side, margin, reach, step in zip(seen.shape[2:], padding, kernel, stride, strict=True)
    )
    return high, wide


def _windows(seen: Any, sides: Any, kernel: Any, stride: Any, padding: Any) -> torch.Tensor:
    """What each place of the output sees, (N h' w', kh kw C)."""
    high, wide = padding
    rows = pad(seen.permute(0, 2, 3, 1), (0, 0, wide, wide, high, high))  # (N, h, w, C)
    film, down, right, channel = rows.stride()
    steps = (film, down * stride[0], right * stride[1], down, right, channel)
    return rows.as_strided((len(rows), *sides, *kernel, rows.shape[3]), steps).flatten(0, 2).flatten(1)
