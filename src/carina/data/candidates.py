"""Which films may be copies of which: each film's nearest neighbours by a short vector.

The vector is a histogram of gradient directions in 8 × 8 cells (Dalal & Triggs 2005), projected by
linear discriminant analysis so that it changes little when a film is cropped or drawn upon and much
from film to film. The projection is learned, in seconds, from the very films that are compared, with
crops and drawings made of them; no labels are needed. What it finds is only looked at more closely by
``registration``: a vector can propose a copy, never decide one.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor

import numpy as np
from numpy.typing import NDArray

from carina.data.descriptors import SIDE, Descriptors
from carina.data.registration import Array, along, detail, gradient, half, shares, warped

_CELLS, _DIRECTIONS, _HALF = 8, 8, SIDE // 2
_FILMS, _ROUNDS, _DIMENSIONS = 1000, 6, 64  # the projection: films it is learned from, versions of each
_CROP = 0.12  # of the side, at each side
_RIDGE = 0.05  # share of the mean variance added to the variance within a film
_NEIGHBOURS = 8  # looked at for each film; copies of copies find each other through the group
_LIKENESS = 0.45  # cosine below which a neighbour is not looked at; copies have 0.6, small parts less
_GROUP = 32  # neighbours are sought among the best of so many films at a time
_CELLS_AT_ONCE = 1 << 24  # likenesses in memory for each thread (float32)
_ALL_PAIRS = 48  # as many films are few enough to compare each with each
_BLOCK = 512

Projection = Callable[[Array], Array]  # histograms (N, F) → unit vectors (N, D)


def vectors(pictures: Descriptors, projection: Projection, pool: Executor) -> tuple[Array, Array]:
    """The films' vectors and those of their mirror images, (N, D) float32 each, of unit length."""

    def both(start: int) -> tuple[Array, Array]:
        found = histograms(pictures[start : start + _BLOCK])
        return projection(found), projection(found[:, _MIRRORED])

    own, mirrored = zip(*pool.map(both, range(0, len(pictures), _BLOCK)), strict=True)
    return np.concatenate(own), np.concatenate(mirrored)


def all_pairs(count: int) -> bool:
    """Whether so few films are compared each with each."""
    return count <= _ALL_PAIRS


def neighbours(own: Array, others: Array, pool: Executor, told: Callable[[int], None]) -> NDArray[np.int64]:
    """Pairs (first < second) of films whose vectors are near, (P, 2), each once.

    ``own`` and ``others`` are vectors of the same films, or of their mirror images. ``told`` is called
    with the number of films done.
    """
    count = len(own)
    padded = np.zeros((-(-count // _GROUP) * _GROUP, own.shape[1]), np.float32)
    padded[:count] = others
    step = max(16, _CELLS_AT_ONCE // len(padded))

    def nearest(start: int) -> tuple[int, NDArray[np.int64]]:
        rows = np.arange(start, min(start + step, count))
        likeness = own[rows] @ padded.T
        likeness[np.arange(len(rows)), rows] = -1
        return int(rows[-1]) + 1, np.stack([np.repeat(rows, _NEIGHBOURS), _nearest(likeness).ravel()], axis=1)

    found = []
    for done, pairs in pool.map(nearest, range(0, count, step)):
        found.append(pairs[pairs[:, 1] >= 0])
        told(done)
    return np.unique(np.sort(np.concatenate(found), axis=1), axis=0)


def _nearest(likeness: Array) -> NDArray[np.int64]:
    """For each row its nearest columns, (rows, ``_NEIGHBOURS``); -1 where they are not near."""
    rows, columns = likeness.shape
    groups = columns // _GROUP  # column c stands in group c % groups
    best = likeness.reshape(rows, _GROUP, groups).max(axis=1)
    keep = min(_NEIGHBOURS, groups)
    top = np.argpartition(best, groups - keep, axis=1)[:, groups - keep :]  # (rows, keep)
    members = (top[:, :, None] + groups * np.arange(_GROUP)).reshape(rows, -1)
    values = np.take_along_axis(likeness, members, axis=1)
    order = np.argpartition(values, values.shape[1] - _NEIGHBOURS, axis=1)[:, -_NEIGHBOURS:]
    nearest = np.take_along_axis(members, order, axis=1)
    nearest[np.take_along_axis(values, order, axis=1) < _LIKENESS] = -1
    return nearest


def learned(pictures: Descriptors) -> Projection:
    """Learn the projection from some of the films (Fisher's discriminant: one class for each film)."""
    draw = np.random.default_rng(0)
    some = pictures[np.sort(draw.choice(len(pictures), min(_FILMS, len(pictures)), replace=False))]
    versions = [histograms(some), *(histograms(_version(some, draw)) for _ in range(_ROUNDS))]
    stack = np.stack(versions)  # (versions, films, F)
    films = stack.mean(axis=0)
    mean = films.mean(axis=0)
    around = (stack - films).reshape(-1, stack.shape[-1])
    within = around.T @ around / len(around)
    within += np.eye(len(within), dtype=np.float32) * (_RIDGE * np.trace(within) / len(within) + 1e-9)
    between = (films - mean).T @ (films - mean) / len(films)
    whiten = np.linalg.inv(np.linalg.cholesky(within.astype(np.float64)))
    _, directions = np.linalg.eigh(whiten @ between @ whiten.T)
    kept = directions[:, ::-1][:, : min(_DIMENSIONS, len(some) - 1)]
    matrix = (whiten.T @ kept).astype(np.float32)

    def projection(found: Array) -> Array:
        return _unit((found - mean) @ matrix)

    return projection


def _version(pictures: Descriptors, draw: np.random.Generator) -> Array:
    """The pictures cropped (or widened) at each side, half of them with two patches drawn in."""
    left, right, top, bottom = draw.uniform(-_CROP, _CROP, (4, len(pictures)))
    warp = np.stack([1 - left - right, left - right, 1 - top - bottom, top - bottom], axis=1)
    changed, _ = warped(pictures.astype(np.float32), warp.astype(np.float32))
    for picture in changed[::2]:
        for _ in range(2):
            height, width = draw.integers(SIDE // 20, SIDE // 5, 2)
            y, x = draw.integers(0, SIDE - height), draw.integers(0, SIDE - width)
            picture[y : y + height, x : x + width] = draw.choice((0, 255, 255))
    return changed


def histograms(pictures: Descriptors | Array) -> Array:
    """Histograms of gradient directions, (N, 512) float32: unit vectors of square roots."""
    count = len(pictures)
    gx, gy = gradient(detail(half(pictures), 0.7, 4.0))
    strength, direction = np.hypot(gx, gy), np.arctan2(gy, gx) * np.float32(_DIRECTIONS / (2 * np.pi))
    cells = []
    for bin_ in range(_DIRECTIONS):
        away = np.abs((direction - bin_ + _DIRECTIONS / 2) % _DIRECTIONS - _DIRECTIONS / 2)
        cells.append(along(strength * np.maximum(0, 1 - away), _POOLING))
    histogram = np.sqrt(np.maximum(0, np.stack(cells, axis=1).reshape(count, -1)))
    return _unit(histogram - histogram.mean(axis=1, keepdims=True))


def _pooling() -> Array:
    """(cells, side): each cell's weights for the pixels of a half-size picture."""
    step = _HALF / _CELLS
    centres = (np.arange(_CELLS) + 0.5) * step - 0.5
    weights = np.exp(-0.5 * ((np.arange(_HALF) - centres[:, None]) / (step / 2)) ** 2)
    return shares(weights)


def _mirroring() -> NDArray[np.int64]:
    """Where each value of a histogram stands in that of the mirror image."""
    places = np.arange(_DIRECTIONS * _CELLS**2).reshape(_DIRECTIONS, _CELLS, _CELLS)
    directions = (_DIRECTIONS // 2 - np.arange(_DIRECTIONS)) % _DIRECTIONS
    return places[directions][:, :, ::-1].ravel()


def _unit(rows: Array) -> Array:
    return np.asarray(rows / (np.linalg.norm(rows, axis=1, keepdims=True) + 1e-9), np.float32)


_POOLING, _MIRRORED = _pooling(), _mirroring()
