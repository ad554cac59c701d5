"""Pixels → the (S, S) square that a network sees.

Training and scoring call ``load`` (or ``read`` and ``prepare``) with the same ``Preparation``, which
is saved in the bundle. Knows nothing of networks.

The order: black margins off → a share of each side off → resize → letters masked → one film curve.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from carina.images import jpeg
from carina.images.files import boundary, file_bytes
from carina.images.formats import sniff
from carina.images.gray import upright
from carina.images.lettering import without_letters
from carina.images.limits import MAX_PIXELS
from carina.images.margins import within_margins
from carina.images.preparation import MOST_CROP, PREPARATION_VERSION, Fit, Preparation, Tone
from carina.images.read import jpeg_facts, read_bytes
from carina.images.resize import Box, eight_bits, resize
from carina.images.tone import equalised, locally_equalised
from carina.records import FilmFacts, Pixels

__all__ = ["MOST_CROP", "PREPARATION_VERSION", "Fit", "Preparation", "Tone", "load", "prepare"]


def prepare(pixels: Pixels, preparation: Preparation) -> NDArray[np.uint8]:
    """(H, W) uint8 or uint16 → (S, S) uint8, as ``preparation`` says."""
    height, width = pixels.shape
    return _square(pixels, (0.0, 0.0, float(width), float(height)), preparation)


def load(
    source: str | os.PathLike[str] | bytes, preparation: Preparation, *, name: str | None = None
) -> tuple[NDArray[np.uint8], FilmFacts]:
    """A file → its (S, S) uint8 square and its facts; raises the ``ImageError`` that ``read`` raises.

    Where that leaves at least twice the pixels that are needed on each side, a JPEG is decoded at 1/2, 1/4 or
    1/8, and a DICOM film with a linear window is averaged over blocks of 2 or 4, or, in JPEG 2000, decoded
    at 1/2 or 1/4: the result differs from that of the full film by less than one gray level on average.
    """
    with boundary(source, name) as name:
        data = file_bytes(source, name, MAX_PIXELS)
        format_ = sniff(data)
        if format_ == "dicom":
            from carina.images.dicom import read_reduced

            gray, part, facts = read_reduced(
                data, name, MAX_PIXELS, lambda wide, high: _reduction(wide, high, preparation)
            )
            return _square(gray, part, preparation), facts
        if format_ != "jpeg":
            film = read_bytes(data, name, MAX_PIXELS)
            return prepare(film.pixels, preparation), film.facts
        header, facts = jpeg_facts(data, name, MAX_PIXELS)
        reduce = _reduction(header.width, header.height, preparation)
        pixels = jpeg.decode(data, header, name, reduce=reduce)
        part = _film_part(pixels.shape, (header.width / reduce, header.height / reduce), header.orientation)
        return _square(upright(pixels, header.orientation), part, preparation), facts


def _film_part(decoded: tuple[int, ...], extent: tuple[float, float], orientation: int) -> Box:
    """The part of a reduced and turned array that is film.

    libjpeg rounds a reduced size up: ``extent`` (width, height) of the array is film, and the rest
    lies at the right and lower edges, from where turning may take it to the others.
    """
    (height, width), (across, down) = decoded, extent
    if orientation in (5, 6, 7, 8):
        width, height, across, down = height, width, down, across
    left = width - across if orientation in (2, 3, 6, 7) else 0.0
    top = height - down if orientation in (3, 4, 7, 8) else 0.0
    return left, top, left + across, top + down


def _reduction(width: int, height: int, preparation: Preparation) -> int:
    """The largest of 8, 4, 2 and 1 that leaves two pixels on each side for each one of the square.

    Margins are not known before decoding; where they are to be cut off, half of the film may be margin.
    """
    sides = {"stretch": min, "center_crop": min, "letterbox": max}[preparation.fit](width, height)
    left = sides * (1 - 2 * preparation.crop) * (0.5 if preparation.trim else 1.0)
    return next((reduce for reduce in (8, 4, 2) if left >= 2 * preparation.size * reduce), 1)


def _square(pixels: Pixels, part: Box, preparation: Preparation) -> NDArray[np.uint8]:
    """The square of the film that is in ``part`` of the array."""
    size, part = preparation.size, _shown(pixels, part, preparation)
    if preparation.trim or preparation.crop:
        pixels, part = _alone(pixels, part)
    width, height = part[2] - part[0], part[3] - part[1]
    if preparation.fit != "letterbox":
        return _content(pixels, part, (size, size), preparation)
    longest = max(width, height)
    inner = max(1, round(size * width / longest)), max(1, round(size * height / longest))
    square = np.zeros((size, size), np.uint8)
    column, row = (size - inner[0]) // 2, (size - inner[1]) // 2
    square[row : row + inner[1], column : column + inner[0]] = _content(pixels, part, inner, preparation)
    return square


def _shown(pixels: Pixels, part: Box, preparation: Preparation) -> Box:
    """The part of the film that the square will show."""
    left, top, right, bottom = within_margins(pixels, part) if preparation.trim else part
    width, height = right - left, bottom - top
    across, down = width * preparation.crop, height * preparation.crop
    if preparation.fit == "center_crop":
        side = min(width - 2 * across, height - 2 * down)
        across, down = (width - side) / 2, (height - side) / 2
    return left + across, top + down, right - across, bottom - down


def _alone(pixels: Pixels, part: Box) -> tuple[Pixels, Box]:
    """The array without what lies outside ``part``, which the resize would mix into the edge."""
    left, top = int(part[0]), int(part[1])
    cut = pixels[top : math.ceil(part[3]), left : math.ceil(part[2])]
    return cut, (part[0] - left, part[1] - top, part[2] - left, part[3] - top)


def _content(
    pixels: Pixels, part: Box, shape: tuple[int, int], preparation: Preparation
) -> NDArray[np.uint8]:
    """``part`` of the film at ``shape`` (width, height), with what is to be done to its gray values."""
    small = resize(pixels, *shape, box=part)
    if preparation.mask_letters:
        small = without_letters(small, pixels, part)
    return _TONES[preparation.tone](small)


_TONES: dict[Tone, Callable[[Pixels], NDArray[np.uint8]]] = {
    "plain": eight_bits,
    "equalised": equalised,
    "clahe": locally_equalised,
}
