"""Are two small pictures the same exposure? Lay one over the other and compare the fine detail.

Two copies of one film differ by crop and stretch (a scale and a shift on each axis), by gray curve, by
sharpness and by what was drawn in; two films of one chest differ in the course of every rib and vessel.
So: evened local contrast takes the gray curve away; Gauss-Newton finds the four numbers, coarse to fine
(Lucas & Kanade 1981; with the mean gradient of both pictures, Malis 2004); where one copy is blurred,
the other is blurred to match; and the median correlation of small tiles does not mind an arrow or a
letter. Measured on real films: ``benchmarks/near_copies.py``.

Works on batches of pairs with plain matrix products: a warp along the axes is
``rows @ picture @ columns.T`` with interpolation matrices. Knows nothing of films.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]

SAME = 0.93  # median tile correlation from which two pictures are one exposure
LIKELY, SURE = 0.90, 0.96  # between these a second look, at twice the size, decides ...
SAME_CLOSELY = 0.92  # ... by this; other exposures of one person reach 0.916, copies have 0.923 and more
_START = (0.8, 3.0)  # the detail in which a start is looked for, at a quarter of the size
_COARSE = ((1.2, 4.0, 5), (0.7, 2.5, 2))  # at half size: (fine blur, coarse blur, iterations)
_FIRST_SIGHT = (0.5, 1.3, 0.80)  # at half size: the detail, and the agreement below which a pair is given up
_SECOND_SIGHT = (0.5, 3.0, 0.84)  # the same at full size
_FINE = (0.7, 2.0)  # the detail that is judged, at full size
_HOPELESS = 0.80  # below this, blurring one picture to match the other has never helped
_BLURS = (0.7, 1.0, 1.4)  # pixels
_CLOSER = ((0.5, 3.0, 3), (0.7, 2.0, 3))  # second look, first at half size: blurs and iterations
_CLOSELY = (1.0, 3.0)  # the detail that is judged at the second look
_CLOSE_BLURS = (0.8, 1.2, 1.8)
_NOTHING = 1e-12  # of a blur's weight; what is denormal in float32 costs many processors a hundred cycles
_TILE = 8  # pixels
_COVERED = 0.6  # share of a tile that both pictures must show
_SHOWN = 0.15  # variance of detail in a tile that shows something; 1 is the picture's mean
_ENOUGH = 0.2  # share of all tiles that must be judged
_SCALES, _SHIFTS = (0.65, 1.54), (-0.4, 0.4)  # how far a warp may go
_CROPPED = 0.82  # a start: the second picture's part of this side, at the middle, an edge or a corner


def _starts() -> Array:
    """Warps (K, 4) to start from: the whole, nine parts of the second picture, nine of the first."""
    starts = [(1.0, 0.0, 1.0, 0.0)]
    for scale in (_CROPPED, 1 / _CROPPED):
        room = abs(1 - scale) * 0.75
        starts += [(scale, x * room, scale, y * room) for x in (-1, 0, 1) for y in (-1, 0, 1)]
    return np.array(starts, np.float32)


def agreement(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> Array:
    """How well the detail of N pairs of pictures, (N, S, S) uint8 each, agrees; (N,), at most 1.

    At least ``SAME`` for one exposure. Pairs that differ at first sight get 0.
    """
    score = np.zeros(len(first), np.float32)
    a, b = first.astype(np.float32), second.astype(np.float32)
    half_a, half_b = half(a), half(b)
    warp = _start(detail(half(half_a), *_START), detail(half(half_b), *_START))
    for fine, coarse, iterations in _COARSE:
        band_a, band_b = detail(half_a, fine, coarse), detail(half_b, fine, coarse)
        warp = refined(band_a, band_b, warp, iterations)
    band_a, band_b = detail(half_a, *_FIRST_SIGHT[:2]), detail(half_b, *_FIRST_SIGHT[:2])
    warp = refined(band_a, band_b, warp, 1)
    alike = np.flatnonzero(_tile_agreement(band_a, band_b, warp) >= _FIRST_SIGHT[2])
    a, b, warp = a[alike], b[alike], warp[alike]
    band_a, band_b = detail(a, *_SECOND_SIGHT[:2]), detail(b, *_SECOND_SIGHT[:2])
    warp = refined(band_a, band_b, warp, 2)
    kept = np.flatnonzero(_tile_agreement(band_a, band_b, warp) >= _SECOND_SIGHT[2])
    alike, a, b, warp = alike[kept], a[kept], b[kept], warp[kept]
    fine_score = _matched(a, b, warp, 0.0, 0.0)
    open_ = np.flatnonzero((fine_score >= _HOPELESS) & (fine_score < SAME))
    for blur in _BLURS if len(open_) else ():
        for blurs in ((blur, 0.0), (0.0, blur)):
            again = _matched(a[open_], b[open_], warp[open_], *blurs)
            fine_score[open_] = np.maximum(fine_score[open_], again)
    score[alike] = fine_score
    return score


def close_agreement(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> Array:
    """The same for pictures of twice the size: slower, and surer. Compare with ``SAME_CLOSELY``."""
    a, b = first.astype(np.float32), second.astype(np.float32)
    half_a, half_b = half(a), half(b)
    small_a, small_b = half(half_a), half(half_b)
    warp = _start(detail(half(small_a), *_START), detail(half(small_b), *_START))
    for fine, coarse, iterations in _COARSE:
        warp = refined(detail(small_a, fine, coarse), detail(small_b, fine, coarse), warp, iterations)
    for fine, coarse, iterations in _CLOSER:
        warp = refined(detail(half_a, fine, coarse), detail(half_b, fine, coarse), warp, iterations)
    score = _matched(a, b, warp, 0.0, 0.0, _CLOSELY)
    open_ = np.flatnonzero(score < SURE)
    for blur in _CLOSE_BLURS if len(open_) else ():
        for blurs in ((blur, 0.0), (0.0, blur)):
            again = _matched(a[open_], b[open_], warp[open_], *blurs, _CLOSELY)
            score[open_] = np.maximum(score[open_], again)
    return score


def _start(first: Array, second: Array) -> Array:
    """The best of ``_STARTS`` for each pair (N, 4), by plain correlation where both have content."""
    side = first.shape[-1]
    best, found = np.full(len(first), -2, np.float32), np.empty((len(first), 4), np.float32)
    for start in _STARTS:
        columns, columns_inside = _interpolation(start[None, 0], start[None, 1], side)
        rows, rows_inside = _interpolation(start[None, 2], start[None, 3], side)
        inside = rows_inside[0][:, None] * columns_inside[0]
        moved = along(second, rows[0], columns[0]) * inside
        a = first * inside
        power = (a * a).sum(axis=(1, 2)) * (moved * moved).sum(axis=(1, 2))
        likeness = (a * moved).sum(axis=(1, 2)) / np.sqrt(power + 1e-6)
        better = likeness > best
        best[better], found[better] = likeness[better], start
    return found


def detail(pictures: Array, fine: float, coarse: float) -> Array:
    """What lies between two blurs, its local contrast made even; (N, S, S), variance about one."""
    side = pictures.shape[-1]
    wide = gaussian(side, coarse)
    band = along(pictures, gaussian(side, fine)) - along(pictures, wide)
    power = along(band * band, wide)
    floor = 0.01 * power.mean(axis=(1, 2), keepdims=True) + 0.25  # noise in empty parts stays small
    return np.ascontiguousarray(band / np.sqrt(power + floor), np.float32)


def along(pictures: Array, rows: Array, columns: Array | None = None) -> Array:
    """``rows @ picture @ columns.T`` for each picture: (N, S, S), (R, S), (C, S) → (N, R, C)."""
    count, side, _ = pictures.shape
    columns = rows if columns is None else columns
    turned = (pictures.reshape(-1, side) @ columns.T).reshape(count, side, len(columns)).transpose(0, 2, 1)
    both = np.ascontiguousarray(turned).reshape(-1, side) @ rows.T
    return np.asarray(both.reshape(count, len(columns), len(rows)).transpose(0, 2, 1), np.float32)


@cache
def gaussian(side: int, sigma: float) -> Array:
    """Blurring matrix (side, side), rows sum to one; at the edges it uses what there is."""
    at = np.arange(side, dtype=np.float32)
    weights = np.exp(-0.5 * ((at[:, None] - at[None, :]) / sigma) ** 2)
    return shares(weights)


def shares(weights: NDArray[np.floating[Any]]) -> Array:
    """The weights (N, S) of a blur, each row summing to one; those that are next to nothing are nothing."""
    each = weights / weights.sum(axis=1, keepdims=True)
    return np.where(each < _NOTHING, 0, each).astype(np.float32)


def warped(pictures: Array, warp: Array) -> tuple[Array, Array]:
    """The pictures under the warp (x scale, x shift, y scale, y shift), and 1 where they have content."""
    side = pictures.shape[-1]
    columns, columns_inside = _interpolation(warp[:, 0], warp[:, 1], side)
    rows, rows_inside = _interpolation(warp[:, 2], warp[:, 3], side)
    moved = np.asarray(rows @ (pictures @ columns.transpose(0, 2, 1)), np.float32)
    return moved, rows_inside[:, :, None] * columns_inside[:, None, :]


def refined(first: Array, second: Array, warp: Array, iterations: int) -> Array:
    """The warp (N, 4) that lays ``second`` over ``first``, after some Gauss-Newton steps."""
    side = first.shape[-1]
    u = (np.arange(side, dtype=np.float32) + 0.5) * (2 / side) - 1
    powers = np.stack([u * u, u, np.ones_like(u)], axis=1)  # (side, 3)
    first_x, first_y = gradient(first)
    normal = np.empty((len(first), 4, 4), np.float32)
    for _ in range(iterations):
        moved, inside = warped(second, warp)
        error = (first - moved) * inside
        moved_x, moved_y = gradient(moved)
        inside *= side / 8  # mean of two gradients, each over two pixels, per unit of u
        gx, gy = (first_x + moved_x) * inside, (first_y + moved_y) * inside
        downhill = np.concatenate(
            [(gx * error).sum(axis=1) @ powers[:, 1:], (gy * error).sum(axis=2) @ powers[:, 1:]], axis=1
        )
        xx, yy = (gx * gx).sum(axis=1) @ powers, (gy * gy).sum(axis=2) @ powers
        xy = powers[:, 1:].T @ ((gx * gy).transpose(0, 2, 1) @ powers[:, 1:])
        for at, moments in ((0, xx), (2, yy)):
            normal[:, at, at], normal[:, at + 1, at + 1] = moments[:, 0], moments[:, 2]
            normal[:, at, at + 1] = normal[:, at + 1, at] = moments[:, 1]
        normal[:, :2, 2:], normal[:, 2:, :2] = xy, xy.transpose(0, 2, 1)
        damping = 0.01 * np.trace(normal, axis1=1, axis2=2) + 1e-6
        normal += damping[:, None, None] * np.eye(4, dtype=np.float32)
        step = np.linalg.solve(normal, downhill[:, :, None])[:, :, 0]
        warp = np.asarray(warp + np.clip(step, -0.1, 0.1), np.float32)
        warp[:, [0, 2]] = np.clip(warp[:, [0, 2]], *_SCALES)
        warp[:, [1, 3]] = np.clip(warp[:, [1, 3]], *_SHIFTS)
    return warp


def _interpolation(scale: Array, shift: Array, side: int) -> tuple[Array, Array]:
    """(N, side, side) linear interpolation for u → scale·u + shift in [-1, 1]; (N, side) 1 where inside."""
    u = (np.arange(side, dtype=np.float32) + 0.5) * (2 / side) - 1
    at = ((scale[:, None] * u + shift[:, None]) + 1) * (side / 2) - 0.5  # in pixels
    weights = at[:, :, None] - np.arange(side, dtype=np.float32)
    np.abs(weights, out=weights)
    np.subtract(1, weights, out=weights)
    np.maximum(weights, 0, out=weights)
    return np.asarray(weights, np.float32), ((at >= -0.01) & (at <= side - 0.99)).astype(np.float32)


def gradient(pictures: Array) -> tuple[Array, Array]:
    """Differences over two pixels along x and y; zero at the edges."""
    x, y = np.zeros_like(pictures), np.zeros_like(pictures)
    np.subtract(pictures[:, :, 2:], pictures[:, :, :-2], out=x[:, :, 1:-1])
    np.subtract(pictures[:, 2:], pictures[:, :-2], out=y[:, 1:-1])
    return x, y


def _matched(
    a: Array, b: Array, warp: Array, blur_a: float, blur_b: float, band: tuple[float, float] = _FINE
) -> Array:
    """Agreement of fine detail (N,), after one of the pictures is blurred."""
    side = a.shape[-1]
    if blur_a:
        a = along(a, gaussian(side, blur_a))
    if blur_b:
        b = along(b, gaussian(side, blur_b))
    fine_a, fine_b = detail(a, *band), detail(b, *band)
    return _tile_agreement(fine_a, fine_b, refined(fine_a, fine_b, warp, 2))


def _tile_agreement(first: Array, second: Array, warp: Array) -> Array:
    """Median correlation over the tiles in which both pictures lie and one shows something (N,).

    -1 where these are too few.
    """
    moved, inside = warped(second, warp)
    a, b = first * inside, moved * inside
    aa, bb, ab = _tiles(a * a), _tiles(b * b), _tiles(a * b)
    correlation = ab / np.sqrt(aa * bb + 1e-6)
    area = _tiles(inside)
    correlation[(area < _COVERED * _TILE * _TILE) | (np.maximum(aa, bb) < _SHOWN * area)] = np.inf
    correlation.sort(axis=1)
    known = np.isfinite(correlation).sum(axis=1)
    enough = known >= _ENOUGH * correlation.shape[1]
    pairs, middle = np.arange(len(first)), known * enough
    median = (correlation[pairs, np.maximum(middle - 1, 0) // 2] + correlation[pairs, middle // 2]) / 2
    return np.asarray(np.where(enough, median, -1), np.float32)


def _tiles(pictures: Array) -> Array:
    """Sums over tiles, (N, tiles)."""
    count, side, _ = pictures.shape
    tiles = side // _TILE
    sums = pictures.reshape(count, tiles, _TILE, tiles, _TILE).sum(axis=(2, 4))
    return np.asarray(sums.reshape(count, tiles**2), np.float32)


def half(pictures: NDArray[Any]) -> Array:
    """The pictures at half their size, (N, S / 2, S / 2); four slices are four times as fast as a mean."""
    total = pictures[:, ::2, ::2].astype(np.float32)
    for rows, columns in ((0, 1), (1, 0), (1, 1)):
        total += pictures[:, rows::2, columns::2]
    total *= np.float32(0.25)
    return total


_STARTS = _starts()
