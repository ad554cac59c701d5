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
CLOSE = 128  # pixels of the picture for a second look ...
_ENOUGH = 96  # ... which tells nothing new where the content has fewer
_PROBE = 128  # margins are looked for at this side, so that small and large copies agree on them
_FLAT = 4.0  # gray levels of 255 within which a margin is one gray ...
_EMPTY = 0.95  # ... in this share of a row or column; a letter in it is no content
_MOST = 0.3  # at most this share is cut off at each side: a film is not all margin
_FRAMES = 2  # a black margin may stand in a white frame

Descriptors = NDArray[np.uint8]  # (N, SIDE, SIDE)
Box = tuple[float, float, float, float]  # left, top, right, bottom in pixels


def describe(pixels: Pixels) -> NDArray[np.uint8]:
    """The descriptor of one film, ``(SIDE, SIDE) uint8``; of an empty film, all zero."""
    return _stretched(resize(pixels, SIDE, SIDE, box=_box(pixels)), 1.0)


def describe_closely(pixels: Pixels) -> NDArray[np.uint8] | None:
    """The same at twice the size, ``(CLOSE, CLOSE) uint8``; None of a film that has too few pixels."""
    left, top, right, bottom = box = _box(pixels)
    if min(right - left, bottom - top) < _ENOUGH:
        return None
    return _stretched(resize(pixels, CLOSE, CLOSE, box=box), 1.0)


def _box(pixels: Pixels) -> Box:
    """What is left of the film without its margins."""
    box = (0.0, 0.0, float(pixels.shape[1]), float(pixels.shape[0]))
    for _ in range(_FRAMES):
        box = _content(pixels, box)
    return box


def _stretched(small: Pixels, clipped: float) -> NDArray[np.uint8]:
    """Gray spread over 0 to 255, ``clipped`` per cent cut off at either end; zero where all is one gray."""
    low, high = np.percentile(small, (clipped, 100 - clipped))
    if high <= low:
        return np.zeros(small.shape, np.uint8)
    scaled = (small.astype(np.float32) - low) * (255 / (high - low))
    return np.asarray(np.clip(np.rint(scaled), 0, 255), np.uint8)


def _content(pixels: Pixels, box: Box) -> Box:
    """The box without the margins at its sides that are of one gray each."""
    left, top, right, bottom = box
    probe = _stretched(resize(pixels, _PROBE, _PROBE, box=box), 0.5)
    x, y = (right - left) / _PROBE, (bottom - top) / _PROBE
    columns = probe.T
    return (
        left + _empty_rows(columns) * x,
        top + _empty_rows(probe) * y,
        right - _empty_rows(columns[::-1]) * x,
        bottom - _empty_rows(probe[::-1]) * y,
    )


def _empty_rows(probe: NDArray[np.uint8]) -> int:
    """How many rows from the first on are of one gray, with the row in which they end."""
    rows = probe[: int(len(probe) * _MOST)].astype(np.float32)
    full = (np.abs(rows - np.median(rows[0])) <= _FLAT).mean(axis=1) < _EMPTY
    empty = int(np.argmax(full)) if full.any() else 0
    return empty + 1 if empty else 0
