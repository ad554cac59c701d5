"""One film curve for all films: histogram equalisation, of the whole film or tile by tile.

What is bright in a film depends on the tube, the detector and the maker's curve. An equalised film keeps
the order of its gray values and forgets the curve: any increasing one gives the same picture. Pure
arithmetic on whole numbers, so that every machine gives the same bits.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from carina.images.resize import eight_bits
from carina.records import Pixels

TILES = 8  # a side
CLIP = 2.0  # times the height of a flat histogram


def equalised(pixels: Pixels) -> NDArray[np.uint8]:
    """(H, W) uint8 or uint16 → (H, W) uint8: each gray value by the share of pixels that are darker.

    The darkest value becomes 0 and has no weight, so that black around a film decides nothing; a film of
    one value becomes black. (The rule of OpenCV's ``equalizeHist``.)
    """
    counts = np.bincount(pixels.ravel(), minlength=int(np.iinfo(pixels.dtype).max) + 1)
    below = np.cumsum(counts)
    darkest = int(counts[np.flatnonzero(counts)[0]])
    spread = max(1, pixels.size - darkest)
    table = np.clip((2 * 255 * (below - darkest) + spread) // (2 * spread), 0, 255).astype(np.uint8)
    return np.asarray(table[pixels], np.uint8)


def locally_equalised(pixels: Pixels) -> NDArray[np.uint8]:
    """(H, W) → (H, W) uint8: contrast limited adaptive histogram equalisation, 8 × 8 tiles, clipped at 2.

    Zuiderveld 1994, Graphics Gems IV, 474–485. What is clipped is spread evenly once; between the middles
    of the tiles the four tables around a pixel are mixed. Sides below 8 pixels are equalised as a whole.
    """
    film = eight_bits(pixels)
    height, width = film.shape
    if min(height, width) < TILES:
        return equalised(film)
    tables = _tables(film)  # (TILES, TILES, 256) in 1/256 gray levels
    row, next_row, down = _between(height)
    column, next_column, across = _between(width)
    mixed = np.zeros(film.shape, np.int64)
    for rows, weight in ((row, 256 - down), (next_row, down)):
        for columns, share in ((column, 256 - across), (next_column, across)):
            mixed += tables[rows[:, None], columns[None], film] * (weight[:, None] * share[None])
    return np.asarray((mixed + (1 << 23)) >> 24, np.uint8)


def _tables(film: NDArray[np.uint8]) -> NDArray[np.int64]:
    """What each tile makes of each gray value, times 256. (TILES, TILES, 256)"""
    height, width = film.shape
    tile_of = (np.arange(height) * TILES // height)[:, None] * TILES + np.arange(width) * TILES // width
    codes = tile_of * 256 + film
    counts = np.bincount(codes.ravel(), minlength=TILES * TILES * 256).reshape(-1, 256)
    sizes = counts.sum(1, keepdims=True)
    most = np.maximum(1, np.int64(CLIP) * sizes // 256)
    spare = np.maximum(counts - most, 0).sum(1, keepdims=True)
    clipped = np.minimum(counts, most) * 256 + spare  # every value gets 1/256 of what was clipped
    below = np.cumsum(clipped, 1)
    return np.asarray((below * 255 // sizes).reshape(TILES, TILES, 256), np.int64)


def _between(length: int) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.int64]]:
    """For each pixel of a side: the tiles before and after it, and how near it is to the second, of 256."""
    place = (2 * np.arange(length) + 1) * TILES * 128 // length - 128  # in 1/256 tiles from the first middle
    first = np.clip(place // 256, 0, TILES - 1)
    after = np.clip(place // 256 + 1, 0, TILES - 1)
    near = np.where(place < 0, 0, place % 256)
    return first.astype(np.intp), after.astype(np.intp), near.astype(np.int64)
