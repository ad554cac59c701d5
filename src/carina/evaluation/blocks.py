"""What a page is built of: paragraphs, tables, charts and galleries of films, in sections.

Pure data; the template knows how each block looks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Paragraph:
    """A paragraph of plain text."""

    text: str
    kind: Literal["paragraph"] = "paragraph"


@dataclass(frozen=True, slots=True)
class Table:
    """A table; the first column heads its row, the columns from ``numeric`` on are set to the right."""

    caption: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numeric: int = 1
    kind: Literal["table"] = "table"

    @classmethod
    def of(
        cls, caption: str, shown: tuple[Sequence[str], Sequence[Sequence[object]]], numeric: int = 1
    ) -> Table:
        """The table that a terminal shows: columns and rows."""
        head, rows = shown
        return cls(caption, tuple(head), tuple(tuple(map(_cell, row)) for row in rows), numeric)


@dataclass(frozen=True, slots=True)
class Chart:
    """A picture across the page; ``alt`` says in words what it shows."""

    uri: str
    alt: str
    caption: str
    kind: Literal["chart"] = "chart"


@dataclass(frozen=True, slots=True)
class Card:
    """One film in a gallery: its pictures side by side and lines of text (label, value)."""

    pictures: tuple[tuple[str, str], ...]  # (data URI, alt)
    lines: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Gallery:
    """Films side by side under a heading."""

    title: str
    cards: tuple[Card, ...]
    kind: Literal["gallery"] = "gallery"


Block = Paragraph | Table | Chart | Gallery


@dataclass(frozen=True, slots=True)
class Section:
    """One part of the page. Without blocks it is left out."""

    anchor: str
    title: str
    blocks: tuple[Block, ...] = ()


def _cell(value: object) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value)
