"""A film for a person's eyes: all its gray values, and the window in which it is shown first.

Scoring sees a film through the window of its header (:mod:`carina.images.read`); somebody who looks wants
to move that window, and nothing beyond it may be cut off.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from carina.images.files import boundary
from carina.images.formats import sniff
from carina.images.limits import MAX_PIXELS
from carina.images.read import read_bytes
from carina.records import FilmFacts


@dataclass(frozen=True, slots=True)
class Wide:
    """``pixels`` (H, W) uint16, upright, dark = low. ``low`` is shown black at first, ``high`` white."""

    pixels: NDArray[np.uint16]
    low: float
    high: float
    facts: FilmFacts


def read_wide(data: bytes, name: str, max_pixels: int = MAX_PIXELS) -> Wide:
    """Read one film for viewing. Raises subclasses of ``ImageError`` and nothing else."""
    with boundary(data, name) as called:
        if sniff(data) == "dicom":
            from carina.images.dicom import read_wide as read_dicom_wide

            pixels, (low, high), facts = read_dicom_wide(data, called, max_pixels)
            return Wide(np.asarray(pixels, np.uint16), low, high, facts)
        film = read_bytes(data, called, max_pixels)
        deep = film.pixels.astype(np.uint16)
        deep = deep * 257 if film.pixels.dtype == np.uint8 else deep
        return Wide(deep, 0.0, 65535.0, film.facts)
