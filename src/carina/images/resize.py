"""The one resize of the whole system, and the one way from 16 bits to 8."""

from __future__ import annotations

from typing import cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from carina.records import Pixels

Box = tuple[float, float, float, float]  # left, top, right, bottom in pixels; fractions are honoured


def resize(pixels: Pixels, width: int, height: int, *, box: Box | None = None) -> Pixels:
    """(H, W) → (height, width) of the same dtype, antialiased (a triangle as wide as the reduction).

    ``box`` is the part to take, all of it where left out.
    """
    image = Image.fromarray(np.ascontiguousarray(pixels))
    small = image.resize((width, height), Image.Resampling.BILINEAR, box=box)
    return cast("Pixels", np.array(small, pixels.dtype))


def eight_bits(pixels: Pixels) -> NDArray[np.uint8]:
    """(H, W) uint8 or uint16 over its full range → uint8, rounded."""
    if pixels.dtype == np.uint8:
        return pixels.astype(np.uint8)
    return ((pixels.astype(np.uint32) + 128) // 257).astype(np.uint8)
