"""A film's descriptor: what is kept of each film to find its near copies later.

A descriptor is a small gray picture of the film, ``(SIDE, SIDE) uint8``: margins without content cut
off, stretched to a square, the gray range normalised. It is computed once, while ``compile`` has the
film open, can be stacked with others into one array, and everything that ``duplicates`` asks (do two
films look alike, are they the same exposure) is answered from it alone. It knows nothing of files,
labels or patients.

A perceptual hash would be a hundred times smaller, but 64 bits of low frequencies say "a chest", not
"this chest": at the distance where a copy cropped by 8 % is still found, thousands of different films
are as close (``benchmarks/near_copies.py`` prints the comparison).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from carina.images.resize import resize
from carina.records import Pixels

SIDE = 64  # pixels; descriptors of another side are of another version
_PROBE = 128  # margins are looked for at this side, so that small and large copies agree on them
_FLAT = 4.0  # gray levels of 255 within which a margin is one gray ...
_EMPTY = 0.95  # ... in this share of a row or column; a letter in it is no content
_MOST = 0.3  # at most this share is cut off at each side: a film is not all margin

Descriptors = NDArray[np.uint8]  # (N, SIDE, SIDE)


def describe(pixels: Pixels) -> NDArray[np.uint8]:
    """The descriptor of one film, ``(SIDE, SIDE) uint8``; of an empty film, all zero."""
    height, width = pixels.shape
    probe = _stretched(resize(pixels, _PROBE, _PROBE), 0.5)
    top, bottom = _content(probe, height)
    left, right = _content(probe.T, width)
    return _stretched(resize(pixels, SIDE, SIDE, box=(left, top, right, bottom)), 1.0)


def _stretched(small: Pixels, clipped: float) -> NDArray[np.uint8]:
    """Gray spread over 0 to 255, ``clipped`` per cent cut off at either end; zero where all is one gray."""
    low, high = np.percentile(small, (clipped, 100 - clipped))
    if high <= low:
        return np.zeros(small.shape, np.uint8)
    scaled = (small.astype(np.float32) - low) * (255 / (high - low))
    return np.asarray(np.clip(np.rint(scaled), 0, 255), np.uint8)


def _content(probe: NDArray[np.uint8], length: int) -> tuple[float, float]:
    """Where content begins and ends along the rows, in pixels of a film of that length."""
    rows = len(probe)
    most = int(rows * _MOST)
    first, last = _empty_rows(probe[:most]), _empty_rows(probe[::-1][:most])
    return first * length / rows, (rows - last) * length / rows


def _empty_rows(rows: NDArray[np.uint8]) -> int:
    """How many rows from the first on are of one gray."""
    gray = rows.astype(np.float32)
    full = (np.abs(gray - np.median(gray[0])) <= _FLAT).mean(axis=1) < _EMPTY
    return int(np.argmax(full)) if full.any() else 0
