"""A heat map in numbers: how much of what speaks for a class lies where no lung is.

A network that reads lungs puts its evidence into them. Where it lies at the edge of the film, on a letter
or below the diaphragm, the answer deserves a second look however sure it sounds. The lung fields are not
segmented: what counts as outside is what lies beyond an ellipse in the middle that holds nearly all lungs
of whole, upright films (97 % of phantoms' lungs and more: ``tests/scoring/test_heat.py``), so the number is
a lower bound of what a segmentation would give, and far below it where the heat lies on heart or spine.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

BOUND = 0.5  # an even map has a third outside; above this more of the heat is outside than inside
ELLIPSE = 0.46  # half axes in shares of the sides, as for lettering (``images/lettering.py``)
_FEWEST = 3  # cells on a side: of two by two each is as far outside as the others, whatever the heat
_FINE = 16  # places a cell is divided into on each side, to tell how much of it is outside


def outside(cam: NDArray[np.float32]) -> float | None:
    """The share of the positive contributions of one class's map (h, w) that lies outside the lung fields.

    In [0, 1]; 0 where nothing speaks for the class; None where the map has too few cells to tell.
    """
    if min(cam.shape) < _FEWEST:
        return None
    heat = np.maximum(cam.astype(np.float64), 0)
    total = float(heat.sum())
    return float((heat * _outside(*cam.shape)).sum() / total) if total > 0 else 0.0


@cache
def _outside(height: int, width: int) -> NDArray[np.float64]:
    """(h, w): how much of each cell lies outside the ellipse, from 0 to 1."""
    y = ((np.arange(height * _FINE) + 0.5) / (height * _FINE) - 0.5)[:, np.newaxis]
    x = ((np.arange(width * _FINE) + 0.5) / (width * _FINE) - 0.5)[np.newaxis]
    beyond = (x / ELLIPSE) ** 2 + (y / ELLIPSE) ** 2 >= 1
    return np.asarray(beyond.reshape(height, _FINE, width, _FINE).mean((1, 3)), np.float64)
