"""What a reader of one public set is, and what it may say of a file that it cannot use."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from carina.data.sources.way import Way
from carina.records import SourceImage


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A file or a row that did not become a film, and why; never dropped in silence.

    ``code`` is stable: ``no_film`` (a row names a file that is not there), ``no_row`` (a file that no
    row names), ``no_class`` (a file outside every class folder), ``not_a_radiograph`` (CT among the
    films), ``second_copy`` (the set holds the same file name twice), ``contradiction`` (rows that disagree),
    ``other_set``.
    """

    path: Path
    code: str
    reason: str


@dataclass(frozen=True, slots=True)
class Source:
    """One kind of folder that Carina can read.

    ``recognise`` looks at names and table headers only; ``read`` yields the films in a fixed order.
    A reader sets ``SourceImage.source`` to its own name, or to the name of the set a film really is
    from where one folder joins two sets. ``terms`` says how a person comes by the set, and ``way`` what
    ``carina fetch`` does about it. ``ages`` is the span of ages, in years, that the set's authors state
    for all of its films. ``generic`` readers know a shape, not a set: their patients are unique only
    within the folder.
    """

    name: str
    title: str
    licence: str
    citation: str
    recognise: Callable[[Path], bool]
    read: Callable[[Path], Iterator[SourceImage | LeftOut]]
    terms: str = "yours"
    ages: tuple[float, float] | None = None
    scanner: str | None = None
    way: Way | None = None
    generic: bool = False
