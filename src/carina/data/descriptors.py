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

from carina.images.prepare import resize
from carina.records import Pixels

SIDE = 64  # pixels; descriptors of another side are of another version
_PROBE = 256  # margins are looked for on a film reduced to this side
_FLAT = 6.0  # gray levels of 255 within which a margin's row or column counts as empty
_MOST = 0.3  # at most this share is cut off at each side: a film is not all margin

Descriptors = NDArray[np.uint8]  # (N, SIDE, SIDE)


def describe(pixels: Pixels) -> NDArray[np.uint8]:
    """The descriptor of one film, ``(SIDE, SIDE) uint8``; of an empty film, all zero."""
    height, width = pixels.shape
    probe = resize(pixels, min(width, _PROBE), min(height, _PROBE)).astype(np.float32)
    low, high = np.percentile(probe, (0.5, 99.5))
    if high <= low:
        return np.zeros((SIDE, SIDE), np.uint8)
    probe = np.clip((probe - low) * (255 / (high - low)), 0, 255)
    top, bottom = _content(probe, height)
    left, right = _content(probe.T, width)
    small = resize(pixels[top:bottom, left:right], SIDE, SIDE).astype(np.float32)
    return stretched(small)


def stretched(small: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Gray values spread over 0 to 255, one in a hundred clipped at either end."""
    low, high = np.percentile(small, (1, 99))
    if high <= low:
        return np.zeros(small.shape, np.uint8)
    scaled = (small - low) * (255 / (high - low))
    return np.asarray(np.clip(np.rint(scaled), 0, 255), np.uint8)


def _content(probe: NDArray[np.float32], length: int) -> tuple[int, int]:
    """First and last row with content, in pixels of a film of that length."""
    rows = len(probe)
    most = int(rows * _MOST)
    first = _empty_rows(probe[:most])
    last = _empty_rows(probe[::-1][:most])
    scale = length / rows
    return round(first * scale), max(round((rows - last) * scale), round(first * scale) + 1)


def _empty_rows(rows: NDArray[np.float32]) -> int:
    """How many rows from the first on are of one gray (a letter or two in them are no content)."""
    near = np.abs(rows - np.median(rows[0])) <= _FLAT
    full = near.mean(axis=1) < 0.9
    return int(np.argmax(full)) if full.any() else 0
