"""The black margins of a film: what collimation, a scanner's lid or a screenshot left around it.

How wide they are depends on who made the file, not on who is ill, and a network reads them gladly.
Looked for on a small copy, so that a film and its reduced copy lose the same share.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from carina.images.resize import Box, eight_bits, resize
from carina.records import Pixels

CANVAS = 256  # pixels of the longer side that margins are looked for on
BLACK = 16  # gray levels of 255: JPEG noise in black stays below, skin does not
DARK_SHARE = 0.9  # of a row or column that is margin; letters may stand in the rest
LEAST_LEFT = 1 / 3  # of a side; where less would be left it is no margin and nothing is cut


def within_margins(pixels: Pixels, part: Box) -> Box:
    """The part of ``part`` (pixels of the array, (H, W)) that black margins leave; never empty."""
    left, top, right, bottom = part
    width, height = right - left, bottom - top
    scale = min(1.0, CANVAS / max(width, height))
    shape = max(1, round(width * scale)), max(1, round(height * scale))
    dark = eight_bits(resize(pixels, *shape, box=part)) <= BLACK  # (h, w)
    above, below = _margins(dark.mean(1))
    before, after = _margins(dark[above : shape[1] - below].mean(0))
    across, down = width / shape[0], height / shape[1]
    return left + before * across, top + above * down, right - after * across, bottom - below * down


def _margins(dark_share: NDArray[np.float64]) -> tuple[int, int]:
    """How many rows at either end are margin, with the one beside it, which is half of it."""
    count = len(dark_share)
    film = np.flatnonzero(dark_share < DARK_SHARE)
    if not len(film):
        return 0, 0
    first, last = int(film[0]), count - 1 - int(film[-1])
    first, last = first + (first > 0), last + (last > 0)
    return (first, last) if count - first - last >= max(1, LEAST_LEFT * count) else (0, 0)
