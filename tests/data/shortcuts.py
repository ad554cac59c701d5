"""Worlds of phantoms with one shortcut dialled in, or none: what an audit must find, and must not.

A world is a catalogue in memory and the films a pixel cache would hold. The phantoms are drawn once; a
shortcut is then painted over them, or written into their headers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from carina.data.catalogue import SCHEMA, Catalogue, fingerprint
from carina.data.confounding.lookaway import PREPARATION
from carina.images.phantom import phantom
from carina.images.prepare import prepare

CLASSES = ("Bacterial Pneumonia", "TB", "Normal")
SOURCES = ("north", "south", "west")
PATIENTS = 120
SIZE = PREPARATION.size


@dataclass(frozen=True)
class World:
    """Rows of a catalogue and the films that belong to them, (N, S, S) uint8."""

    rows: tuple[dict[str, Any], ...]
    films: NDArray[np.uint8]

    @property
    def catalogue(self) -> Catalogue:
        table = pa.Table.from_pylist(list(self.rows), schema=SCHEMA)
        classes = tuple(name for name in CLASSES if name in {row["class"] for row in self.rows})
        return Catalogue(Path("world"), {}, table, classes, frozenset({"Normal"}), fingerprint(table))

    def array(self, sha256s: Sequence[str]) -> NDArray[np.uint8]:
        """What ``PixelCache.array`` answers."""
        place = {row["sha256"]: at for at, row in enumerate(self.rows)}
        return self.films[[place[sha256] for sha256 in sha256s]]

    def stating(self, **facts: Callable[[dict[str, Any]], object]) -> World:
        """The same films with other facts in their rows."""
        rows = tuple({**row, **{name: say(row) for name, say in facts.items()}} for row in self.rows)
        return replace(self, rows=rows)

    def painted(self, paint: Callable[[dict[str, Any], NDArray[np.float32]], NDArray[Any]]) -> World:
        """The same rows with films painted over; ``paint`` gets a row and (S, S) float32 in [0, 255]."""
        pairs = zip(self.rows, self.films, strict=True)
        films = [np.clip(paint(row, film.astype(np.float32)), 0, 255).astype(np.uint8) for row, film in pairs]
        return replace(self, films=np.stack(films))

    def some(self, chosen: Callable[[dict[str, Any]], bool]) -> World:
        """Only the films whose row is chosen."""
        at = [place for place, row in enumerate(self.rows) if chosen(row)]
        return World(tuple(self.rows[place] for place in at), self.films[at])


@cache
def clean() -> World:
    """Three classes in equal shares from three sources that look alike; a patient a film."""
    films = [
        prepare(phantom(CLASSES[number % 3], seed=1, patient=number, size=SIZE).pixels, PREPARATION)
        for number in range(PATIENTS)
    ]
    rows = tuple(
        {
            "image_id": f"{number:016x}",
            "path": f"nowhere/{number}.png",
            "class": CLASSES[number % 3],
            "findings": [],
            "source": SOURCES[number // 3 % 3],
            "patient": f"p{number}",
            "group": f"{number:016x}",
            "split": "train",
            "width": 1000,
            "height": 1200,
            "sha256": f"{number:064x}",
            "label": CLASSES[number % 3],
            "bits": 8,
            "format": "png",
            "bytes": 1,
        }
        for number in range(PATIENTS)
    )
    return World(rows, np.stack(films))


def frame(film: NDArray[np.float32], shade: float) -> NDArray[np.float32]:
    """A burnt-in frame of 4 % of the film."""
    width = round(0.04 * SIZE)
    framed = np.full_like(film, shade)
    framed[width:-width, width:-width] = film[width:-width, width:-width]
    return framed


def letters(film: NDArray[np.float32], text: str, corner: str = "left") -> NDArray[np.float32]:
    """Letters of 5 % of the film burnt into an upper corner."""
    stamp = Image.new("L", (SIZE, SIZE))
    at = (8, 8) if corner == "left" else (SIZE - 30, 8)
    ImageDraw.Draw(stamp).text(at, text, font=ImageFont.load_default(size=round(0.06 * SIZE)), fill=250)
    return np.maximum(film, np.asarray(stamp, np.float32))


def gamma(film: NDArray[np.float32], exponent: float) -> NDArray[np.float32]:
    """Another film curve."""
    return np.asarray(255 * (film / 255) ** exponent, np.float32)


def enlarged(film: NDArray[np.float32], share: float) -> NDArray[np.float32]:
    """A film that had come as a smaller copy."""
    side = round(share * SIZE)
    image = Image.fromarray(film.astype(np.uint8))
    for size in (side, SIZE):
        image = image.resize((size, size), Image.Resampling.BILINEAR)
    return np.asarray(image, np.float32)
