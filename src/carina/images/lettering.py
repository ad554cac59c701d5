"""Letters, arrows and other small bright marks in the margins of a film: found, and masked.

A mark stands out from what surrounds it and is small: neither rib nor edge of the film. Only the margins
are looked at (outside an ellipse in the middle), so that nothing within the lungs is ever touched. What
is found is not read; catheters and clips at the margins are found as well. Dark marks are not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from carina.images.resize import Box, eight_bits, resize
from carina.records import Pixels

ELLIPSE = 0.46  # half axes of what is left alone, in shares of the sides
CANVAS = 192  # pixels a side that marks are looked for on: letters of 3 % of the film keep 6
CONTRAST = 50  # gray levels above the surroundings
WINDOW = 0.047  # of the film's side: strokes are narrower
SMALLEST, LARGEST, LEAST_AREA = 4, 24, 6  # pixels of the canvas
_HALO = 2  # pixels of the canvas that are masked around a mark: its blurred edge


def outside_ellipse(side: int) -> NDArray[np.bool_]:
    """(side, side): what lies outside the ellipse in the middle."""
    y, x = (np.mgrid[0:side, 0:side] + 0.5) / side - 0.5
    return np.asarray((x / ELLIPSE) ** 2 + (y / ELLIPSE) ** 2 >= 1, np.bool_)


def without_letters(small: Pixels, film: Pixels, part: Box) -> Pixels:
    """``small`` (h, w), which shows ``part`` of ``film``, with marks in its margins painted over.

    They get the value of what surrounds them (a grey opening, wider than a stroke).
    """
    marks = letter_mask(eight_bits(resize(film, CANVAS, CANVAS, box=part)))
    if not marks.any():
        return small
    height, width = small.shape
    covered = resize((255 * marks).astype(np.uint8), width, height) > 32
    reach = _odd((WINDOW + 2 * _HALO / CANVAS) * max(height, width))
    return cast("Pixels", np.where(covered, _opened(small, reach), small).astype(small.dtype))


def letter_mask(film: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """(CANVAS, CANVAS) uint8 → where marks are, with a halo."""
    hat = film - _opened(film, _odd(WINDOW * CANVAS))  # white top-hat: brighter than every window around it
    found = np.zeros(film.shape, np.bool_)
    for rows, columns in _parts((hat >= CONTRAST) & outside_ellipse(CANVAS)):
        height, width = np.ptp(rows) + 1, np.ptp(columns) + 1
        if len(rows) >= LEAST_AREA and SMALLEST <= height <= LARGEST and SMALLEST / 2 <= width <= LARGEST:
            found[rows, columns] = True
    return _slid(found, 2 * _HALO + 1, np.maximum) if found.any() else found


def _parts(mask: NDArray[np.bool_]) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """The rows and columns of each part of the mask, parts joined by sides."""
    left = set(zip(*(axis.tolist() for axis in np.nonzero(mask)), strict=True))
    while left:
        part = [left.pop()]
        for row, column in part:  # grows while it is walked
            for near in ((row - 1, column), (row + 1, column), (row, column - 1), (row, column + 1)):
                if near in left:
                    left.remove(near)
                    part.append(near)
        rows, columns = zip(*part, strict=True)
        yield np.array(rows), np.array(columns)


def _opened(film: NDArray[Any], width: int) -> NDArray[Any]:
    """Grey opening by a square ``width`` (odd) pixels wide: bright things narrower than it are gone."""
    return _slid(_slid(film, width, np.minimum), width, np.maximum)


def _slid(film: NDArray[Any], width: int, take: Callable[..., NDArray[Any]]) -> NDArray[Any]:
    """The least or largest value in the square of ``width`` (odd) around each pixel; edges are repeated."""
    for axis in (0, 1):
        pad = [(width // 2, width // 2) if each == axis else (0, 0) for each in (0, 1)]
        row, reach = np.moveaxis(np.pad(film, pad, mode="edge"), axis, 0), 1
        while reach < width:  # each pass doubles how far a value reaches
            step = min(reach, width - reach)
            row, reach = take(row[:-step], row[step:]), reach + step
        film = np.moveaxis(row, 0, axis)
    return film


def _odd(value: float) -> int:
    return 2 * (round(value) // 2) + 1
