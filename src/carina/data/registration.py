"""Are two small pictures the same exposure? Lay one over the other and compare the fine detail.

Two copies of one film differ by crop and stretch (a scale and a shift on each axis), by gray curve and
by what was drawn in; two films of one chest differ in the course of every rib and vessel. So: local
contrast normalisation takes the gray curve away, Gauss-Newton (Lucas & Kanade 1981; the symmetric
gradient of Malis 2004) finds the four numbers, and the correlation of small tiles says how much of
the detail agrees; the median of the tiles does not mind an arrow or a letter.

Everything works on batches of pairs with plain matrix products: a warp along the axes is
``rows @ picture @ columns.T`` with interpolation matrices.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]

_COARSE = ((1.5, 4.0, 6), (0.7, 2.5, 4))  # at half size: (fine blur, coarse blur, iterations)
_TILE = 8  # pixels
_COVERED = 0.6  # share of a tile that both pictures must show
_EPS = 1e-6


@dataclass(frozen=True, slots=True)
class Alignment:
    """How well each of N pairs can be laid over each other."""

    warp: Array  # (N, 4): x scale, x shift, y scale, y shift; first's coordinates in [-1, 1] to second's
    score: Array  # (N,) median tile correlation, -1 to 1
    overlap: Array  # (N,) share of the first picture that lies inside the second


def gaussian(side: int, sigma: float) -> Array:
    """Blurring matrix (side, side), rows sum to one; edges use what there is."""
    at = np.arange(side, dtype=np.float32)
    weights = np.exp(-0.5 * ((at[:, None] - at[None, :]) / sigma) ** 2)
    return np.asarray(weights / weights.sum(axis=1, keepdims=True), np.float32)


def band(pictures: Array, fine: float, coarse: float) -> Array:
    """Detail between two blurs, with local contrast made even; (N, S, S) float32, about unit variance."""
    side = pictures.shape[-1]
    g, h = gaussian(side, fine), gaussian(side, coarse)
    smooth = g @ pictures @ g.T if fine > 0 else pictures
    detail = smooth - h @ smooth @ h.T
    power = h @ (detail * detail) @ h.T
    floor = 0.01 * power.mean(axis=(1, 2), keepdims=True) + 0.25
    return np.asarray(detail / np.sqrt(power + floor), np.float32)


def interpolation(scale: Array, shift: Array, side: int) -> Array:
    """(N, side, side) linear interpolation matrices for coordinates u → scale·u + shift in [-1, 1]."""
    u = (np.arange(side, dtype=np.float32) + 0.5) * (2 / side) - 1
    at = ((scale[:, None] * u + shift[:, None]) + 1) * (side / 2) - 0.5  # (N, side) in pixels
    return np.maximum(0, 1 - np.abs(at[:, :, None] - np.arange(side, dtype=np.float32)))


def warped(pictures: Array, warp: Array) -> tuple[Array, NDArray[np.bool_]]:
    """The pictures under the warp, and where they have content."""
    side = pictures.shape[-1]
    columns = interpolation(warp[:, 0], warp[:, 1], side)
    rows = interpolation(warp[:, 2], warp[:, 3], side)
    inside = (rows.sum(axis=2)[:, :, None] > 0.99) & (columns.sum(axis=2)[:, None, :] > 0.99)
    return rows @ pictures @ columns.transpose(0, 2, 1), inside


def refine(first: Array, second: Array, warp: Array, iterations: int) -> Array:
    """Gauss-Newton steps on the four numbers of each pair; (N, 4)."""
    side = first.shape[-1]
    u = ((np.arange(side, dtype=np.float32) + 0.5) * (2 / side) - 1)[None, None, :]
    v = u.transpose(0, 2, 1)
    first_y, first_x = np.gradient(first, axis=(1, 2))
    for _ in range(iterations):
        moved, inside = warped(second, warp)
        error = np.where(inside, first - moved, 0)
        moved_y, moved_x = np.gradient(moved, axis=(1, 2))
        gx = np.where(inside, (first_x + moved_x) * (side / 4), 0)
        gy = np.where(inside, (first_y + moved_y) * (side / 4), 0)
        jacobian = np.stack([gx * u, gx, gy * v, gy], axis=1).reshape(len(first), 4, -1)
        normal = jacobian @ jacobian.transpose(0, 2, 1)
        normal += np.eye(4, dtype=np.float32) * (
            0.01 * np.trace(normal, axis1=1, axis2=2)[:, None, None] + _EPS
        )
        step = np.linalg.solve(normal, jacobian @ error.reshape(len(first), -1, 1))[:, :, 0]
        warp = np.asarray(warp + np.clip(step, -0.1, 0.1), np.float32)
        warp[:, [0, 2]] = np.clip(warp[:, [0, 2]], 0.7, 1.43)
        warp[:, [1, 3]] = np.clip(warp[:, [1, 3]], -0.35, 0.35)
    return warp


def align(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> Alignment:
    """Lay N second pictures over N first ones, (N, S, S) uint8 each, coarse to fine, and compare."""
    a, b = first.astype(np.float32), second.astype(np.float32)
    warp = np.tile(np.array([1, 0, 1, 0], np.float32), (len(a), 1))
    half_a, half_b = _half(a), _half(b)
    for fine, coarse, iterations in _COARSE:
        warp = refine(band(half_a, fine, coarse), band(half_b, fine, coarse), warp, iterations)
    detail_a, detail_b = band(a, 0.5, 3.0), band(b, 0.5, 3.0)
    warp = refine(detail_a, detail_b, warp, 3)
    score, overlap = _tile_score(detail_a, detail_b, warp)
    return Alignment(warp, score, overlap)


def _half(pictures: Array) -> Array:
    n, side, _ = pictures.shape
    return np.asarray(pictures.reshape(n, side // 2, 2, side // 2, 2).mean(axis=(2, 4)), np.float32)


def _tile_score(first: Array, second: Array, warp: Array) -> tuple[Array, Array]:
    """Median correlation over the tiles that lie in both pictures (N,), and the overlap (N,)."""
    moved, inside = warped(second, warp)
    a, b = np.where(inside, first, 0), np.where(inside, moved, 0)
    correlation = _tiles(a * b) / np.sqrt(_tiles(a * a) * _tiles(b * b) + _EPS)
    known = _tiles(inside.astype(np.float32)) >= _COVERED * _TILE * _TILE
    known[~known.any(axis=1)] = True
    score = np.nanmedian(np.where(known, correlation, np.nan), axis=1)
    return np.asarray(score, np.float32), inside.mean(axis=(1, 2), dtype=np.float32)


def _tiles(pictures: Array) -> Array:
    """Sums over tiles, (N, tiles)."""
    n, side, _ = pictures.shape
    k = side // _TILE
    return pictures.reshape(n, k, _TILE, k, _TILE).sum(axis=(2, 4)).reshape(n, -1)
