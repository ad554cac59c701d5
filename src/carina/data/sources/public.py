"""What is known of one public set, whether Carina has a reader for it or not."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from carina.data.sources.source import Source
from carina.data.sources.way import Way

UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class PublicSet:
    """``made_of`` names the sets it takes films from; ``reader`` the reader that knows its layout."""

    name: str
    title: str
    licence: str
    citation: str
    terms: str
    ages: tuple[float, float] | None = None
    scanner: str | None = None
    way: Way | None = None
    made_of: tuple[str, ...] = ()
    reader: str | None = None

    @classmethod
    def of(cls, source: Source, made_of: tuple[str, ...]) -> PublicSet:
        """The facts of a set that has a reader."""
        return cls(
            source.name,
            source.title,
            source.licence,
            source.citation,
            source.terms,
            source.ages,
            source.scanner,
            source.way,
            made_of,
            source.name,
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain data; ``way`` becomes how and where."""
        plain = {key: value for key, value in asdict(self).items() if key != "way"}
        how = None if self.way is None else type(self.way).__name__.lower()
        return plain | {"way": how, "where": None if self.way is None else self.way.where}
