"""What is left of a film for somebody who may not look at its lungs, as numbers for a classifier.

The films come from a pixel cache of ``PREPARATION``: stretched to a square, so that the shape of a film
stays a fact of its header and does not leak into its picture as black bars. Pure arrays.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from carina.images.lettering import outside_ellipse
from carina.images.prepare import Preparation

PREPARATION = Preparation(size=192, fit="stretch")  # letters of 3 % of the film keep 6 pixels
SIDE = 64  # pixels a side that border and blacked-out films are looked at with
BORDER = 0.12  # of each side
COMPONENTS = 40
GRID = 4  # cells a side, for what is measured by place

Films = NDArray[np.uint8]  # (N, S, S)
Features = NDArray[np.float32]  # (N, F)
_CHUNK = 256


def reduced(films: Films, side: int) -> Features:
    """Block means: (N, S, S) uint8 to (N, side, side) float32; ``side`` divides S."""
    size = films.shape[1]
    if size % side:
        raise ValueError(f"films of {size} pixels cannot be cut into {side} whole blocks")
    block = size // side
    small = np.empty((len(films), side, side), np.float32)
    for start in range(0, len(films), _CHUNK):
        chunk = np.asarray(films[start : start + _CHUNK])
        small[start : start + _CHUNK] = chunk.reshape(-1, side, block, side, block).mean(
            (2, 4), dtype=np.float32
        )
    return small


def border_mask(side: int) -> NDArray[np.bool_]:
    """(side, side): the outer 12 % of every side."""
    width = max(1, round(BORDER * side))
    mask = np.ones((side, side), np.bool_)
    mask[width:-width, width:-width] = False
    return mask


def border_only(small: Features) -> Features:
    """(N, side, side) to the outer 12 %, as principal components."""
    return _principal(small[:, border_mask(small.shape[1])])


def blacked_out(small: Features) -> Features:
    """(N, side, side) to what lies outside the middle ellipse, as principal components."""
    return _principal(small[:, outside_ellipse(small.shape[1])])


def thumbnail(small: Features) -> Features:
    """(N, side, side) to 8 × 8 means, (N, 64)."""
    block = small.shape[1] // 8
    return np.asarray(small.reshape(-1, 8, block, 8, block).mean((2, 4)).reshape(len(small), 64), np.float32)


def grain(films: Films) -> Features:
    """(N, S, S) to how sharp the margins are: logarithms of the ratios of four bands of detail, (N, 3 · K).

    Each band is what a blur of twice the width takes away; its strength is measured in the K cells of a
    4 × 4 grid that lie at the edge, outside the middle ellipse. Ratios do not depend on contrast.
    """
    size = films.shape[1]
    outside = outside_ellipse(size)
    cells = (np.arange(size) * GRID // size)[:, None] * GRID + np.arange(size) * GRID // size
    at_edge = np.setdiff1d(np.unique(cells), [5, 6, 9, 10])
    masks = np.stack([(cells == cell) & outside for cell in at_edge]).reshape(len(at_edge), -1)
    weights = (masks / masks.sum(1, keepdims=True)).astype(np.float32)  # (K, S · S)
    found = []
    for start in range(0, len(films), _CHUNK):
        finer = np.asarray(films[start : start + _CHUNK]).astype(np.float32)
        bands = []
        for reach in (1, 2, 4, 8):
            coarser = _blurred(finer, reach)
            detail = np.abs(finer - coarser).reshape(len(finer), -1)
            bands.append(np.log(detail @ weights.T + 0.1))  # 0.1 gray levels: flat is not minus infinity
            finer = coarser
        found.append(np.concatenate([one - other for one, other in pairwise(bands)], 1))
    return np.concatenate(found) if found else np.zeros((0, 3 * len(at_edge)), np.float32)


def _blurred(films: Features, reach: int) -> Features:
    """Weights 1, 2, 1 along both axes, ``reach`` pixels apart; edges are repeated."""
    for axis in (1, 2):
        pad = [(reach, reach) if each == axis else (0, 0) for each in range(3)]
        wide: NDArray[np.float32] = np.moveaxis(np.pad(films, pad, mode="edge"), axis, 0)
        mixed = (wide[: -2 * reach] + 2 * wide[reach:-reach] + wide[2 * reach :]) / 4
        films = np.moveaxis(mixed.astype(np.float32), 0, axis)
    return films


def _principal(pixels: Features) -> Features:
    """(N, P) to at most ``COMPONENTS`` principal components (N, k), by the eigenvectors of the covariance.

    No label is used, so this may be learnt from all films at once.
    """
    centred = pixels - pixels.mean(0)
    films, values = centred.shape
    wanted = min(COMPONENTS, films - 1, values)
    if wanted < 1:
        return np.zeros((films, 1), np.float32)
    if films >= values:
        _, vectors = np.linalg.eigh(centred.T @ centred)
        return np.asarray(centred @ vectors[:, ::-1][:, :wanted], np.float32)
    lengths, vectors = np.linalg.eigh(centred @ centred.T)
    scale = np.sqrt(np.maximum(lengths[::-1][:wanted], 0))
    return np.asarray(vectors[:, ::-1][:, :wanted] * scale, np.float32)
