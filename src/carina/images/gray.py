"""Colour, palettes, transparency and odd depths become one gray plane.

Pure arithmetic on arrays; knows nothing of files.
"""

from __future__ import annotations

from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from carina.records import Pixels

DEPTHS = (8, 10, 12, 14, 16)  # the depths at which radiographs are digitised


def luminance(colour: NDArray[Any]) -> Pixels:
    """(H, W, 3) RGB, uint8 or uint16 → (H, W) of the same dtype: Rec. ITU-R BT.601 luma.

    Equal channels come out unchanged.
    """
    weights = (19595, 38470, 7471)  # × 65536; they sum to 65536
    total = np.full(colour.shape[:2], 0x8000, np.uint32)
    for channel, weight in enumerate(weights):
        total += colour[..., channel].astype(np.uint32) * np.uint32(weight)
    return cast("Pixels", (total >> 16).astype(colour.dtype))


def over_black(gray: Pixels, alpha: NDArray[np.uint8]) -> Pixels:
    """The gray plane laid over black: where alpha (H, W) is 0 nothing of the film is there."""
    mixed = (gray.astype(np.uint32) * alpha + 127) // 255
    return cast("Pixels", mixed.astype(gray.dtype))


def significant_bits(pixels: Pixels) -> int:
    """The depth, one of 8, 10, 12, 14 and 16, that holds the brightest pixel."""
    brightest = int(pixels.max(initial=0))
    return next(bits for bits in DEPTHS if brightest < 1 << bits)


def full_range(pixels: Pixels, bits: int) -> Pixels:
    """``bits``-deep values in a 16-bit container, spread over the whole of uint16 (uint8 for 8 bits).

    PNG and TIFF have no word for "12 bits in 16", and scanners that write them leave such films
    almost black; the depth is therefore taken from the brightest pixel (``significant_bits``).
    """
    if bits <= 8:
        return pixels.astype(np.uint8)
    if bits == 16:
        return pixels
    top = (1 << bits) - 1
    return ((pixels.astype(np.uint32) * 65535 + top // 2) // top).astype(np.uint16)


def upright(pixels: Pixels, orientation: int) -> Pixels:
    """The pixels turned as EXIF's ``Orientation`` (1 to 8) asks; any other value turns nothing."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return cast("Pixels", np.ascontiguousarray(pixels))
