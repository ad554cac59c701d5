"""Change a batch of training films a little: blur, turn, scale, stretch, shift, tone, erase.

Works on the device, a whole batch at a time. What happens to a film depends on the seed, the epoch
and the film alone.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from carina.training import dice
from carina.training.films import sent
from carina.training.recipe import Augment


def augment(
    pixels: torch.Tensor, ids: NDArray[np.uint64], limits: Augment, *, seed: int, epoch: int
) -> torch.Tensor:
    """Changed copies of the films. (B, 1, S, S) float32 in [0, 255] → the same. What moves in is black."""
    if limits.is_off:
        return pixels
    drawn = dice.augmentation(seed, epoch, ids, 15)  # (B, 15) in [0, 1)
    sway = drawn * 2 - 1
    if limits.resolution:
        pixels = coarsened(pixels, 1 - limits.resolution * np.maximum(0, sway[:, 13]))
    if limits.rotate or limits.scale or limits.aspect or limits.shift or limits.flip:
        theta = sent(_affine(sway, drawn[:, 6] < 0.5, limits), pixels.device)
        grid = affine_grid(theta, pixels.shape[-1])
        pixels = F.grid_sample(pixels, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    if limits.brightness or limits.contrast:
        gain = 1 + limits.contrast * sway[:, 4]
        lift = 127.5 * (1 - gain) + 255 * limits.brightness * sway[:, 5]
        tone = np.stack([gain, lift]).astype(np.float32)[:, :, None, None, None]
        gain_lift = sent(tone, pixels.device)  # (2, B, 1, 1, 1)
        pixels = (pixels * gain_lift[0] + gain_lift[1]).clamp_(0, 255)
    if limits.gamma:
        exponent = ((1 + limits.gamma) ** sway[:, 7]).astype(np.float32)[:, None, None, None]
        pixels = (pixels / 255).pow_(sent(exponent, pixels.device)).mul_(255)
    if limits.erase:
        pixels = _erased(pixels, drawn[:, 8] < limits.erase, drawn[:, 9:13])
    return pixels


def coarsened(pixels: torch.Tensor, shares: NDArray[np.float64]) -> torch.Tensor:
    """Each film reduced to its share of the size and enlarged again, as if it had come as a small copy.

    ``pixels`` (B, 1, S, S), ``shares`` (B,) in (0, 1]; 1 leaves every bit. Drawn film by film: one share
    for a whole batch would give each batch statistics of its own, and batch norms learn those.
    """
    size = pixels.shape[-1]
    sides = np.maximum(1, np.round(size * shares).astype(np.int64))
    done = pixels.clone()
    for side in np.unique(sides[sides < size]).tolist():
        at = sent(np.flatnonzero(sides == side), pixels.device)
        small = F.interpolate(pixels[at], (side, side), mode="bilinear", align_corners=False, antialias=True)
        done[at] = F.interpolate(small, (size, size), mode="bilinear", align_corners=False)
    return done


def affine_grid(theta: torch.Tensor, size: int) -> torch.Tensor:
    """torch's ``affine_grid`` for squares, corners not aligned: row and column parts are added, not
    multiplied out, which takes a tenth of the time on a processor. (B, 2, 3) → (B, S, S, 2)
    """
    line = (torch.arange(size, device=theta.device, dtype=theta.dtype) * 2 + 1) / size - 1  # (S,)
    across = theta[:, :, 0, None] * line + theta[:, :, 2, None]  # (B, 2, S) of the columns
    down = theta[:, :, 1, None] * line  # (B, 2, S) of the rows
    grid = theta.new_empty(len(theta), size, size, 2)
    for axis in (0, 1):
        torch.add(across[:, axis, None, :], down[:, axis, :, None], out=grid[..., axis])
    return grid


def shown(
    pixels: torch.Tensor,
    ids: NDArray[np.uint64],
    copies: NDArray[np.bool_] | None,
    limits: Augment,
    *,
    seed: int,
    epoch: int,
) -> torch.Tensor:
    """The films as an epoch shows them: ``augment``, and where that is off, copies changed once for good.

    Shapes as in ``augment``; ``copies`` is (B,). May write into ``pixels``.
    """
    if not limits.is_off or copies is None or not copies.any():
        return augment(pixels, ids, limits, seed=seed, epoch=epoch)
    places = sent(np.flatnonzero(copies), pixels.device)
    pixels[places] = augment(pixels[places], ids[copies], Augment(), seed=seed, epoch=0)
    return pixels


def _erased(pixels: torch.Tensor, chosen: NDArray[np.bool_], drawn: NDArray[np.float64]) -> torch.Tensor:
    """Random erasing: a rectangle of some films becomes their mean gray. ``chosen`` (B,), ``drawn`` (B, 4)

    Zhong et al., "Random Erasing Data Augmentation", arXiv 1708.04896: 2 to 20 % of the film, sides
    between 1:3 and 3:1. It is cut off at the film's edge.
    """
    size = pixels.shape[-1]
    area, ratio = 0.02 + 0.18 * drawn[:, 0], 3.0 ** (2 * drawn[:, 1] - 1)
    sides = np.sqrt(np.stack([area * ratio, area / ratio], 1)) * chosen[:, None]  # (B, 2) height, width
    ends = np.stack([drawn[:, 2:] - sides / 2, drawn[:, 2:] + sides / 2]) * size
    first, last = sent(ends.astype(np.float32), pixels.device)  # (B, 2) each
    line = torch.arange(size, device=pixels.device) + 0.5
    inside = (line >= first[..., None]) & (line < last[..., None])  # (B, 2, S)
    box = inside[:, 0, :, None] & inside[:, 1, None, :]
    return torch.where(box[:, None], pixels.mean((2, 3), keepdim=True), pixels)


def _affine(sway: NDArray[np.float64], mirrored: NDArray[np.bool_], limits: Augment) -> NDArray[np.float32]:
    """Where each output place takes its pixel from, in [-1, 1] coordinates. (B, 15) → (B, 2, 3)"""
    angle = np.deg2rad(limits.rotate) * sway[:, 0]
    zoom = 1 / (1 + limits.scale * sway[:, 1])
    mirror = np.where(mirrored & limits.flip, -1.0, 1.0)
    theta = np.empty((len(sway), 2, 3), np.float32)
    theta[:, 0, 0] = mirror * zoom * np.cos(angle)
    theta[:, 0, 1] = -mirror * zoom * np.sin(angle)
    theta[:, 1, 0] = zoom * np.sin(angle)
    theta[:, 1, 1] = zoom * np.cos(angle)
    wider = (1 + limits.aspect) ** (sway[:, 14] / 2)  # and lower by as much
    theta[:, :, :2] *= np.stack([1 / wider, wider], 1)[:, :, None]
    theta[:, :, 2] = 2 * limits.shift * sway[:, 2:4]
    return theta
