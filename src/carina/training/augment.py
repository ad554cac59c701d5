"""Change a batch of training films a little: blur, turn, scale, shift, brighten, harden.

Works on the device, a whole batch at a time. What happens to a film depends on the seed, the epoch
and the film alone.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from carina.training import dice
from carina.training.recipe import Augment


def augment(
    pixels: torch.Tensor, ids: NDArray[np.uint64], limits: Augment, *, seed: int, epoch: int
) -> torch.Tensor:
    """Changed copies of the films. (B, 1, S, S) float32 in [0, 255] → the same. What moves in is black."""
    if limits.is_off:
        return pixels
    drawn = dice.augmentation(seed, epoch, ids, 14)  # (B, 14) in [0, 1)
    sway = drawn * 2 - 1
    if limits.resolution:
        pixels = coarsened(pixels, 1 - limits.resolution * np.maximum(0, sway[:, 13]))
    if limits.rotate or limits.scale or limits.shift or limits.flip:
        theta = torch.from_numpy(_affine(sway, drawn[:, 6] < 0.5, limits)).to(pixels.device)
        grid = F.affine_grid(theta, list(pixels.shape), align_corners=False)
        pixels = F.grid_sample(pixels, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    if limits.brightness or limits.contrast:
        gain = 1 + limits.contrast * sway[:, 4]
        lift = 127.5 * (1 - gain) + 255 * limits.brightness * sway[:, 5]
        tone = np.stack([gain, lift]).astype(np.float32)[:, :, None, None, None]
        gain_lift = torch.from_numpy(tone).to(pixels.device)  # (2, B, 1, 1, 1)
        pixels = (pixels * gain_lift[0] + gain_lift[1]).clamp_(0, 255)
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
        at = torch.from_numpy(np.flatnonzero(sides == side)).to(pixels.device)
        small = F.interpolate(pixels[at], (side, side), mode="bilinear", align_corners=False, antialias=True)
        done[at] = F.interpolate(small, (size, size), mode="bilinear", align_corners=False)
    return done


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
    places = torch.from_numpy(np.flatnonzero(copies)).to(pixels.device)
    pixels[places] = augment(pixels[places], ids[copies], Augment(), seed=seed, epoch=0)
    return pixels


def _affine(sway: NDArray[np.float64], mirrored: NDArray[np.bool_], limits: Augment) -> NDArray[np.float32]:
    """Where each output place takes its pixel from, in [-1, 1] coordinates. (B, 14) → (B, 2, 3)"""
    angle = np.deg2rad(limits.rotate) * sway[:, 0]
    zoom = 1 / (1 + limits.scale * sway[:, 1])
    mirror = np.where(mirrored & limits.flip, -1.0, 1.0)
    theta = np.empty((len(sway), 2, 3), np.float32)
    theta[:, 0, 0] = mirror * zoom * np.cos(angle)
    theta[:, 0, 1] = -mirror * zoom * np.sin(angle)
    theta[:, 1, 0] = zoom * np.sin(angle)
    theta[:, 1, 1] = zoom * np.cos(angle)
    theta[:, :, 2] = 2 * limits.shift * sway[:, 2:4]
    return theta
