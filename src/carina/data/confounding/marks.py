"""Letters, arrows and other small bright marks in the margins of a film, counted and measured.

What counts as a mark is what ``images/lettering.py`` would mask, by the same measures; here many films are
asked at a time, and how large, how bright and where the marks are. Needs scipy.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from carina.data.confounding.lookaway import GRID, Features, Films
from carina.images.lettering import (
    CANVAS,
    CONTRAST,
    LARGEST,
    LEAST_AREA,
    SMALLEST,
    WINDOW,
    outside_ellipse,
)

_CHUNK = 64


def burnt_in_marks(films: Films) -> Features:
    """(N, S, S) uint8 to (N, 7 + 16): how many marks, their size, contrast and brightness; area by place."""
    found = [_marks(np.asarray(films[start : start + _CHUNK])) for start in range(0, len(films), _CHUNK)]
    return np.concatenate(found) if found else np.zeros((0, 7 + GRID * GRID), np.float32)


def _marks(films: Films) -> Features:
    from scipy import ndimage

    size = films.shape[1]
    window = (1, *(2 * (round(WINDOW * size) // 2) + 1,) * 2)
    opened = ndimage.maximum_filter(ndimage.minimum_filter(films, window, mode="nearest"), window)
    hat = films - opened  # white top-hat: what is brighter than every window around it
    within_film = np.zeros((3, 3, 3), int)
    within_film[1] = 1
    parts, count = ndimage.label((hat >= CONTRAST) & outside_ellipse(size), within_film)
    return _measured(films, hat, parts, count)


def _measured(films: Films, hat: Films, parts: NDArray[np.int32], count: int) -> Features:
    """What the parts that are as small as marks measure, summed up for each film."""
    at = np.flatnonzero(parts)
    part = parts.ravel()[at].astype(np.int64) - 1
    film, row, column = (axis.astype(np.int64) for axis in np.unravel_index(at, parts.shape))
    area = np.bincount(part, minlength=count)
    height, middle_row = _extent(part, row, count)
    width, middle_column = _extent(part, column, count)
    contrast = np.bincount(part, hat.ravel()[at], count) / np.maximum(area, 1)
    value = np.bincount(part, films.ravel()[at], count) / np.maximum(area, 1)
    of = np.zeros(count, np.int64)
    of[part] = film
    scale = films.shape[1] / CANVAS
    low, high = SMALLEST * scale, LARGEST * scale
    mark = (height >= low) & (height <= high) & (width >= low / 2) & (width <= high)
    mark &= area >= LEAST_AREA * scale**2
    number, owner = len(films), of[mark]
    marks = np.bincount(owner, minlength=number)
    mean = [
        np.bincount(owner, measure[mark], number) / np.maximum(marks, 1)
        for measure in (area, height, width, contrast, value)
    ]
    cell = films.shape[1] / GRID
    place = (middle_row[mark] // cell * GRID + middle_column[mark] // cell).astype(np.int64)
    places = np.bincount(owner * GRID**2 + place, area[mark], number * GRID**2).reshape(number, GRID**2)
    total = np.bincount(owner, area[mark], number)
    return np.column_stack([marks, total, *mean, places]).astype(np.float32)


def _extent(
    part: NDArray[np.int64], place: NDArray[np.int64], count: int
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """How many rows (or columns) each part spans, and where its middle is."""
    first, last = np.full(count, np.iinfo(np.int64).max), np.full(count, -1)
    np.minimum.at(first, part, place)
    np.maximum.at(last, part, place)
    return last - first + 1, (first + last) / 2
