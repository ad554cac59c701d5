"""Are left and right exchanged in a chest film? A small look at the film and at its mirror image.

Four convolutions and one small layer answer for both; the difference of the two answers is the margin by
which the film looks as a film should, so that a mirrored film gets exactly the opposite. Knows nothing of
letters on a film as such, and cannot tell a mirrored film from a heart on the right (dextrocardia, situs
inversus): in both cases a person must look. The numbers lie in ``sides.npz``; ``benchmarks/sides.py`` makes
and measures them.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np
from numpy.typing import NDArray

SIDE = 64
SURE = 2.0  # a margin below its negative is a mirrored film; so are 0.7 % of true ones
Floats = NDArray[np.float32]


def margin(film: NDArray[np.uint8]) -> float:
    """How much more a film (H, W) uint8, without borders, looks like a film than its mirror image does."""
    x = seen(film)
    one, other = _answers(np.stack([x, x[:, ::-1]]), _numbers())
    return float(one - other)


def mirrored(film: NDArray[np.uint8]) -> float:
    """The chance that left and right are exchanged in a film (H, W) uint8, without borders."""
    return float(1 / (1 + np.exp(np.clip(margin(film), -30, 30))))


def seen(film: NDArray[np.uint8]) -> Floats:
    """(H, W) uint8 → (64, 64): ranks of the gray values, from -1 (darkest) to 1."""
    height, width = film.shape
    across = film.astype(np.float32) @ _weights(width).T
    small = (_weights(height) @ across).astype(np.float32)
    return ranks(np.round(small.ravel(), 1)).reshape(SIDE, SIDE)


def ranks(values: Floats) -> Floats:
    """The mean rank of each of (N,) among them, from -1 to 1."""
    _, place, count = np.unique(values, return_inverse=True, return_counts=True)
    rank = np.cumsum(count) - 0.5 * count
    return (2 * rank[place] / len(values) - 1).astype(np.float32)


@cache
def _weights(side: int) -> Floats:
    """(64, side): a reduction, or enlargement, by a triangle (bilinear with antialiasing)."""
    scale = side / SIDE
    wide = max(scale, 1.0)
    centres = (np.arange(SIDE) + 0.5) * scale
    away = np.abs((np.arange(side) + 0.5 - centres[:, np.newaxis]) / wide)
    window = np.maximum(0, 1 - away)
    weights: Floats = (window / window.sum(axis=1, keepdims=True)).astype(np.float32)
    return weights


def _answers(x: Floats, numbers: Mapping[str, Floats]) -> Floats:
    """The network's answer to each of (N, 64, 64) → (N,)."""
    inner = x[:, np.newaxis]  # (N, C, H, W)
    layer = 0
    while f"k{layer}" in numbers:
        inner = _convolved(inner, numbers[f"k{layer}"], numbers[f"b{layer}"])
        layer += 1
    hidden = np.maximum(inner.reshape(len(x), -1) @ numbers["w1"] + numbers["c1"], 0)
    answers: Floats = hidden @ numbers["w2"]
    return answers


def _convolved(x: Floats, kernel: Floats, bias: Floats) -> Floats:
    """A 3 × 3 convolution with stride 2 and a border of zeros, then ReLU: (N, C, H, W) → (N, K, H/2, W/2)."""
    count, channels, height, width = x.shape
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(2, 3))[:, :, ::2, ::2]
    rows = windows.transpose(0, 2, 3, 1, 4, 5).reshape(-1, channels * 9)
    out = np.maximum(rows @ kernel + bias, 0).reshape(count, height // 2, width // 2, -1)
    return np.ascontiguousarray(out.transpose(0, 3, 1, 2))


@cache
def _numbers() -> Mapping[str, Floats]:
    with files("carina.scoring").joinpath("sides.npz").open("rb") as file:
        stored: Any = np.load(file, allow_pickle=False)
        return {name: stored[name].astype(np.float32) for name in stored.files}
