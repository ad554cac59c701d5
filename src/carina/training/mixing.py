"""Mixup and CutMix: a film is laid over another, or a box of it is replaced, and the labels are shared.

Mixup: Zhang, Cissé, Dauphin, Lopez-Paz, arXiv 1710.09412. CutMix: Yun et al., arXiv 1905.04899. Each
film draws its own share and its own box, from the seed, the epoch and itself; the film it is mixed with
is the one before it in the epoch's order. With both, half of the films are cut and half are blended.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray

from carina.training import dice
from carina.training.films import sent
from carina.training.recipe import TrainPart

_POINTS = 4096  # of the table that the shares are read from


@dataclass(frozen=True, slots=True)
class Mix:
    """``keep`` (B,) is the share of a film in its own label; ``box`` (B, 4) the rows and columns cut out.

    The box is (top, bottom, left, right) in pixels, empty for a film that is blended.
    """

    keep: NDArray[np.float64]
    box: NDArray[np.int64]


def draw(seed: int, epoch: int, ids: NDArray[np.uint64], train: TrainPart, size: int) -> Mix:
    """How each film of this size is mixed. ids (B,)"""
    drawn = dice.mixing(seed, epoch, ids, 4)  # (B, 4) in [0, 1)
    cut = drawn[:, 0] < 0.5 if train.mixup and train.cutmix else np.full(len(ids), bool(train.cutmix))
    keep = np.empty(len(ids))
    for chosen, alpha in ((cut, train.cutmix), (~cut, train.mixup)):
        keep[chosen] = beta_quantile(drawn[chosen, 1], alpha)
    box = np.zeros((len(ids), 4), np.int64)
    half = np.sqrt(1 - keep[cut]) * size / 2
    for side, place in ((0, 2), (2, 3)):
        middle = drawn[cut, place] * size
        box[cut, side] = np.clip(np.round(middle - half), 0, size)
        box[cut, side + 1] = np.clip(np.round(middle + half), 0, size)
    area = (box[:, 1] - box[:, 0]) * (box[:, 3] - box[:, 2])
    keep[cut] = 1 - area[cut] / size**2  # the box was rounded, and cut off at the edge
    return Mix(keep, box)


def blend(pixels: torch.Tensor, others: torch.Tensor, mix: Mix) -> torch.Tensor:
    """The films with the others mixed in. Both (B, 1, S, S) float32 → the same"""
    cut = mix.box[:, 1] > mix.box[:, 0]
    keep = np.where(cut, 1.0, mix.keep).astype(np.float32)[:, None, None, None]
    mixed = torch.lerp(others, pixels, sent(keep, pixels.device)) if not cut.all() else pixels
    if not cut.any():
        return mixed
    line = torch.arange(pixels.shape[-1], device=pixels.device)
    top, bottom, left, right = sent(mix.box, pixels.device).T.unsqueeze(2)  # (B, 1) each
    rows, columns = (line >= top) & (line < bottom), (line >= left) & (line < right)  # (B, S)
    return torch.where((rows[:, :, None] & columns[:, None, :])[:, None], others, mixed)


def beta_quantile(u: NDArray[np.float64], alpha: float) -> NDArray[np.float64]:
    """The value of Beta(alpha, alpha) below which a share ``u`` lies; to about four digits."""
    if not len(u):
        return np.zeros(0)
    below, power = _half(alpha)
    lower = np.interp(np.minimum(u, 1 - u), below, power) ** (1 / min(alpha, 1))
    return np.where(u > 0.5, 1 - lower, lower)


@lru_cache(maxsize=8)
def _half(alpha: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The lower half of the distribution: shares below, and x^min(alpha, 1), in which it has no pole."""
    bend = min(alpha, 1)
    power = np.linspace(0, 0.5**bend, _POINTS)
    x = power ** (1 / bend)
    density = x ** (alpha - bend) * (1 - x) ** (alpha - 1)
    below = np.concatenate([[0.0], np.cumsum((density[1:] + density[:-1]) / 2)])
    return 0.5 * below / below[-1], power
