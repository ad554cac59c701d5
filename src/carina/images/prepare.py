"""Pixels → the (S, S) square that a network sees.

Training and scoring call ``load`` (or ``read`` and ``prepare``) with the same ``Preparation``, which
is saved in the bundle. Knows nothing of networks.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from carina.images import jpeg
from carina.images.files import boundary, file_bytes
from carina.images.formats import sniff
from carina.images.gray import upright
from carina.images.limits import MAX_PIXELS
from carina.images.read import jpeg_facts, read_bytes
from carina.images.resize import Box, resize
from carina.records import FilmFacts, Pixels

PREPARATION_VERSION = 1  # raise it whenever the same Preparation yields other pixels
Fit = Literal["stretch", "letterbox", "center_crop"]


@dataclass(frozen=True, slots=True)
class Preparation:
    """How a film becomes a square: ``size`` pixels a side, and what happens to its aspect ratio.

    ``letterbox`` keeps the whole film and adds black, ``center_crop`` keeps the central square,
    ``stretch`` distorts.
    """

    size: int = 224
    fit: Fit = "letterbox"

    def __post_init__(self) -> None:
        if isinstance(self.size, bool) or not isinstance(self.size, int) or not 8 <= self.size <= 4096:
            raise ValueError(f"Preparation: size is {self.size!r}; give a whole number from 8 to 4096")
        if self.fit not in get_args(Fit):
            raise ValueError(f"Preparation: fit is {self.fit!r}; give one of {', '.join(get_args(Fit))}")

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as they stand in a bundle's manifest."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Preparation:
        """The inverse of ``to_dict``; raises ``ValueError`` that names an unknown key or a wrong value."""
        known = [field.name for field in dataclasses.fields(cls)]
        unknown = sorted(set(values).difference(known))
        if unknown:
            raise ValueError(
                f"Preparation: unknown key {unknown[0]!r}; this version knows {', '.join(known)}"
            )
        return cls(**values)

    def fingerprint(self) -> str:
        """16 hex digits that change with every value and with the arithmetic behind it."""
        content = json.dumps({"version": PREPARATION_VERSION, **self.to_dict()}, sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()[:16]


def prepare(pixels: Pixels, preparation: Preparation) -> NDArray[np.uint8]:
    """(H, W) uint8 or uint16 → (S, S) uint8, as ``preparation`` says."""
    height, width = pixels.shape
    return _square(pixels, (0.0, 0.0, float(width), float(height)), preparation)


def load(
    source: str | os.PathLike[str] | bytes, preparation: Preparation, *, name: str | None = None
) -> tuple[NDArray[np.uint8], FilmFacts]:
    """A file → its (S, S) uint8 square and its facts; raises the ``ImageError`` that ``read`` raises.

    A JPEG is decoded at 1/2, 1/4 or 1/8 where that leaves at least twice the pixels that are needed:
    the result differs from that of the full decoding by less than one gray level on average.
    """
    with boundary(source, name) as name:
        data = file_bytes(source, name, MAX_PIXELS)
        if sniff(data) != "jpeg":
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
    """The largest of 8, 4, 2 and 1 that leaves two decoded pixels for each one of the square."""
    sides = {"stretch": min, "center_crop": min, "letterbox": max}[preparation.fit](width, height)
    return next((reduce for reduce in (8, 4, 2) if sides >= 2 * preparation.size * reduce), 1)


def _square(pixels: Pixels, part: Box, preparation: Preparation) -> NDArray[np.uint8]:
    """The square of the film that is in ``part`` of the array."""
    size = preparation.size
    left, top, right, bottom = part
    width, height = right - left, bottom - top
    if preparation.fit == "stretch":
        return _to_eight_bits(resize(pixels, size, size, box=part))
    if preparation.fit == "center_crop":
        side = min(width, height)
        left, top = left + (width - side) / 2, top + (height - side) / 2
        return _to_eight_bits(resize(pixels, size, size, box=(left, top, left + side, top + side)))
    longest = max(width, height)
    inner = max(1, round(size * width / longest)), max(1, round(size * height / longest))
    square = np.zeros((size, size), np.uint8)
    column, row = (size - inner[0]) // 2, (size - inner[1]) // 2
    square[row : row + inner[1], column : column + inner[0]] = _to_eight_bits(
        resize(pixels, *inner, box=part)
    )
    return square


def _to_eight_bits(pixels: Pixels) -> NDArray[np.uint8]:
    if pixels.dtype == np.uint8:
        return pixels.astype(np.uint8)
    return ((pixels.astype(np.uint32) + 128) // 257).astype(np.uint8)
