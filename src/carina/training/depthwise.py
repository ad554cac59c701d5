"""Depthwise convolutions in float32 while the rest of a network computes in bfloat16 on a processor.

oneDNN has matrix kernels for bfloat16, and none of them fits a convolution of one channel with itself: its
backward pass took longer in bfloat16 than in float32 (docs/log.md), and networks built of them gained nothing
from bfloat16. Names and shapes of parameters stay as they were; GPUs are left alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn


@contextmanager
def in_float32(network: nn.Module, device: torch.device) -> Iterator[None]:
    """While inside, the depthwise convolutions of ``network`` on a processor compute in float32."""
    found = [each for each in network.modules() if is_depthwise(each)] if device.type == "cpu" else []
    kinds = [type(each) for each in found]
    for each, kind in zip(found, kinds, strict=True):
        each.__class__ = type(f"Float32{kind.__name__}", (_InFloat32, kind), {})
    try:
        yield
    finally:
        for each, kind in zip(found, kinds, strict=True):
            each.__class__ = kind


def is_depthwise(module: nn.Module) -> bool:
    """Whether it is a convolution in which every channel meets itself alone."""
    return isinstance(module, nn.Conv2d) and module.groups == module.in_channels > 1


class _InFloat32:
    """Mixed into a convolution: the same forward outside autocast, answered in autocast's numbers."""

    def forward(self: Any, seen: torch.Tensor) -> torch.Tensor:
        """(N, C, h, w) → (N, C', h', w')"""
        if not torch.is_autocast_enabled("cpu"):
            return super().forward(seen)
        with torch.autocast("cpu", enabled=False):
            return super().forward(seen.float()).to(torch.get_autocast_dtype("cpu"))
